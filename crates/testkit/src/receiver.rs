//! The receiver of alerts as a process of its own, to be sent to, asked and killed.

use std::ffi::OsStr;
use std::path::Path;
use std::process::ExitStatus;
use std::time::Duration;
use std::{env, fs, thread};

use anyhow::{Context as _, Result};

use crate::build;
use crate::poll::eventually;
use crate::ports::Ports;
use crate::process::{Launch, Process};

/// A running receiver. Dropping kills it; when a test fails meanwhile, the end of its log is printed.
#[derive(Debug)]
pub struct ReceiverProcess {
    process: Process,
    ports: Ports,
    scheme: &'static str,
    _folder: tempfile::TempDir,
}

impl ReceiverProcess {
    /// Starts the program `bin` with this configuration (YAML) and the identity of `kubeconfig`. Without `--tls-cert`
    /// among the arguments it takes deliveries by plain HTTP.
    pub fn spawn(
        bin: &Path,
        kubeconfig: &Path,
        configuration: &str,
        extra_args: &[&str],
    ) -> Result<Self> {
        let leash = build::ensure_for_existing()?.leash();
        let ports = Ports::lease()?;
        let folder = tempfile::Builder::new()
            .prefix("rollback-receiver-")
            .tempdir()?;
        let config = folder.path().join("receiver.yaml");
        fs::write(&config, configuration)?;
        let mut args = vec![
            "--config".to_owned(),
            config.display().to_string(),
            "--address".to_owned(),
            format!("127.0.0.1:{}", ports.port(0)),
            "--metrics-address".to_owned(),
            format!("127.0.0.1:{}", ports.port(1)),
        ];
        let has_tls = extra_args.contains(&"--tls-cert");
        if !has_tls {
            args.push("--insecure-http".to_owned());
        }
        args.extend(extra_args.iter().map(ToString::to_string));
        let filter = env::var_os("RUST_LOG").unwrap_or_else(|| "info".into());
        let launch = Launch {
            name: "rollback-receiver",
            program: bin,
            args,
            env: vec![
                ("KUBECONFIG", kubeconfig.as_os_str()),
                ("RUST_LOG", OsStr::new(&filter)),
            ],
            log: folder.path().join("receiver.log"),
        };
        Ok(Self {
            process: Process::start(leash.as_deref(), launch)?,
            ports,
            scheme: if has_tls { "https" } else { "http" },
            _folder: folder,
        })
    }

    /// Where this source delivers. By name, because a certificate is for a name.
    pub fn url(&self, source: &str) -> String {
        format!(
            "{}://localhost:{}/v1/alerts/{source}",
            self.scheme,
            self.ports.port(0)
        )
    }

    /// The port at which deliveries are taken, on loopback.
    pub fn port(&self) -> u16 {
        self.ports.port(0)
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// Where it answers `/metrics`, `/healthz` and `/readyz`.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.port(1))
    }

    /// Waits until `/readyz` answers 200. Fails at once when the receiver has ended.
    pub async fn ready(&self) -> Result<()> {
        self.process
            .answers(&format!("{}/readyz", self.metrics_url()))
            .await
    }

    /// Waits until it has ended by itself, for what it cannot start with.
    pub async fn ended(&self) -> Result<ExitStatus> {
        eventually(
            "the receiver has ended",
            Duration::from_secs(10),
            async || self.process.exited()?.context("it still runs"),
        )
        .await
    }

    /// The most memory that it has had at once, in KiB.
    pub fn peak_memory(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.process.pid()))?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmHWM in /proc")?.trim().parse()?)
    }

    /// Asks it to end (SIGTERM) and waits until it has.
    pub fn terminate(&self) -> Result<ExitStatus> {
        self.process.terminate(Duration::from_secs(20))
    }

    /// Everything that it has written so far, to either output.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for ReceiverProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the end of the receiver's log:\n{}",
                self.process.log_tail(60)
            );
        }
    }
}
