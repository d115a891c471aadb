//! A real Alertmanager, as the package of the distribution has it.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Result, ensure};
use serde_json::Value;

use crate::build;
use crate::ports::Ports;
use crate::process::{Launch, Process, is_installed};

/// Where the package puts it.
const PROGRAM: &str = "/usr/bin/prometheus-alertmanager";

/// A running Alertmanager, alone and on loopback. Dropping kills it.
#[derive(Debug)]
pub struct Alertmanager {
    process: Process,
    ports: Ports,
    _folder: tempfile::TempDir,
}

impl Alertmanager {
    /// Starts one with this configuration, or says loudly that there is none on this machine.
    pub async fn start(configuration: &str) -> Result<Option<Self>> {
        if !is_installed(PROGRAM, "prometheus-alertmanager")? {
            return Ok(None);
        }
        let leash = build::ensure_for_existing()?.leash();
        let ports = Ports::lease()?;
        let folder = tempfile::Builder::new().prefix("alertmanager-").tempdir()?;
        let config = folder.path().join("alertmanager.yml");
        std::fs::write(&config, configuration)?;
        let launch = Launch {
            name: "alertmanager",
            program: Path::new(PROGRAM),
            args: vec![
                format!("--config.file={}", config.display()),
                format!("--storage.path={}", folder.path().join("data").display()),
                format!("--web.listen-address=127.0.0.1:{}", ports.port(0)),
                // Empty: it has no peers, and listens for none.
                "--cluster.listen-address=".to_owned(),
            ],
            env: vec![("TZ", OsStr::new("UTC"))],
            log: folder.path().join("alertmanager.log"),
        };
        let alertmanager = Self {
            process: Process::start(leash.as_deref(), launch)?,
            ports,
            _folder: folder,
        };
        alertmanager.ready().await?;
        Ok(Some(alertmanager))
    }

    /// Where it answers, as `host:port`.
    pub fn address(&self) -> String {
        format!("127.0.0.1:{}", self.ports.port(0))
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://{}", self.address())
    }

    /// Gives it alerts, as Prometheus does.
    pub async fn alert(&self, alerts: &Value) -> Result<()> {
        let client = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("{}/api/v2/alerts", self.url());
        let request = client
            .post(url)
            .header("content-type", "application/json")
            .body(alerts.to_string());
        let answer = request.send().await?;
        let status = answer.status();
        ensure!(status.is_success(), "{status}: {}", answer.text().await?);
        Ok(())
    }

    /// Everything that it has written so far.
    pub fn log(&self) -> String {
        self.process.log()
    }

    async fn ready(&self) -> Result<()> {
        self.process
            .answers(&format!("{}/-/ready", self.url()))
            .await
    }
}
