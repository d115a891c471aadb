//! The controller as a process of its own, to be watched, asked and killed.

use std::{
    env,
    ffi::OsStr,
    path::Path,
    process::ExitStatus,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};

use anyhow::Result;

pub use crate::process::Killer;
use crate::{
    build,
    ports::Ports,
    process::{Launch, Process},
};

/// A running controller. Dropping kills it; when a test fails meanwhile, the end of its log is printed.
#[derive(Debug)]
pub struct ControllerProcess {
    process: Process,
    ports: Ports,
    _log_folder: tempfile::TempDir,
}

impl ControllerProcess {
    /// Starts the program `bin` for all requests that the identity of `kubeconfig` may see.
    /// `namespace` is the one that it looks after; all when it is empty. Its checks may reach the fake pods on loopback,
    /// unless `extra_args` name other `--probe-networks`. It does not take part in an election, unless
    /// they say so: whoever is started again after a crash would have to wait for its own lease.
    pub fn spawn(
        bin: &Path,
        kubeconfig: &Path,
        namespace: &str,
        extra_args: &[&str],
    ) -> Result<Self> {
        static NUMBER: AtomicUsize = AtomicUsize::new(0);
        let leash = build::ensure_for_existing()?.leash();
        let ports = Ports::lease()?;
        let folder = tempfile::Builder::new()
            .prefix("rollback-controller-")
            .tempdir()?;
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let mut args = Vec::new();
        if !namespace.is_empty() {
            args.extend(["--namespace".to_owned(), namespace.to_owned()]);
        }
        args.extend([
            "--metrics-address".to_owned(),
            format!("127.0.0.1:{}", ports.port(0)),
        ]);
        if !extra_args.contains(&"--probe-networks") {
            args.extend(["--probe-networks", "127.0.0.0/8"].map(str::to_owned));
        }
        let elects = ["--leader-elect", "--identity"];
        let is_flag = |argument: &&str| elects.iter().any(|flag| argument.starts_with(flag));
        if !extra_args.iter().any(is_flag) {
            args.push("--leader-elect=false".to_owned());
        }
        args.extend(extra_args.iter().map(ToString::to_string));
        let filter = env::var_os("RUST_LOG").unwrap_or_else(|| "info".into());
        let launch = Launch {
            name: "rollback-controller",
            program: bin,
            args,
            env: vec![
                ("KUBECONFIG", kubeconfig.as_os_str()),
                ("RUST_LOG", OsStr::new(&filter)),
            ],
            log: folder.path().join(format!("controller-{number}.log")),
        };
        Ok(Self {
            process: Process::start(leash.as_deref(), launch)?,
            ports,
            _log_folder: folder,
        })
    }

    /// Where the controller answers `/metrics`, `/healthz` and `/readyz`.
    pub fn metrics_url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.port(0))
    }

    /// Waits until `/readyz` answers 200. Fails at once when the controller has ended.
    pub async fn ready(&self) -> Result<()> {
        self.process
            .answers(&format!("{}/readyz", self.metrics_url()))
            .await
    }

    /// The process id.
    pub fn pid(&self) -> u32 {
        self.process.pid()
    }

    /// How the process ended, once it has.
    pub fn exited(&self) -> Result<Option<ExitStatus>> {
        self.process.exited()
    }

    /// Kills the controller as a power cut would (SIGKILL), and waits until it is gone.
    pub fn kill(&self) {
        self.process.killer().kill();
    }

    /// Freezes the controller (SIGSTOP) until [`ControllerProcess::continue_process`].
    pub fn stop_process(&self) -> Result<()> {
        self.process.killer().stop_process()
    }

    /// Lets a frozen controller go on (SIGCONT).
    pub fn continue_process(&self) -> Result<()> {
        self.process.killer().continue_process()
    }

    /// A handle that kills and sends signals from a callback.
    pub fn killer(&self) -> Killer {
        self.process.killer()
    }

    /// Asks the controller to end (SIGTERM) and waits until it has.
    pub fn terminate(&self) -> Result<ExitStatus> {
        self.process.terminate(Duration::from_secs(20))
    }

    /// Everything that it has written so far, to either output.
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for ControllerProcess {
    fn drop(&mut self) {
        if thread::panicking() {
            eprintln!(
                "the end of the controller's log:\n{}",
                self.process.log_tail(60)
            );
        }
    }
}
