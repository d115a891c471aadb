//! A real Prometheus, as the package of the distribution has it.

use std::ffi::OsStr;
use std::path::Path;
use std::time::Duration;

use anyhow::{Result, bail, ensure};

use crate::build;
use crate::poll::eventually;
use crate::ports::Ports;
use crate::process::{Launch, Process};

/// Where the package puts it.
const PROGRAM: &str = "/usr/bin/prometheus";
/// Set where everything that a test needs has to be there.
const REAL: &str = "ROLLBACK_TEST_REAL";

/// A running Prometheus that scrapes nothing but itself. Dropping kills it.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    ports: Ports,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one, or says loudly that there is none on this machine.
    pub async fn start() -> Result<Option<Self>> {
        if !Path::new(PROGRAM).exists() {
            if std::env::var_os(REAL).is_some() {
                bail!("{PROGRAM} is missing; install the package prometheus");
            }
            eprintln!("SKIPPED: {PROGRAM} is missing; install the package prometheus");
            return Ok(None);
        }
        let leash = build::ensure_for_existing()?.leash();
        let ports = Ports::lease()?;
        let folder = tempfile::Builder::new().prefix("prometheus-").tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let address = format!("127.0.0.1:{}", ports.port(0));
        std::fs::write(
            &config,
            format!(
                "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: self, static_configs: [{{targets: ['{address}']}}]}}]\n"
            ),
        )?;
        let launch = Launch {
            name: "prometheus",
            program: Path::new(PROGRAM),
            args: vec![
                format!("--config.file={}", config.display()),
                format!(
                    "--storage.tsdb.path={}",
                    folder.path().join("data").display()
                ),
                format!("--web.listen-address={address}"),
            ],
            env: vec![("TZ", OsStr::new("UTC"))],
            log: folder.path().join("prometheus.log"),
        };
        let prometheus = Self {
            process: Process::start(leash.as_deref(), launch)?,
            ports,
            _folder: folder,
        };
        prometheus.ready().await?;
        Ok(Some(prometheus))
    }

    /// Where it answers.
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.ports.port(0))
    }

    /// Kills it, as a power cut would.
    pub fn kill(&self) {
        self.process.killer().kill();
    }

    async fn ready(&self) -> Result<()> {
        crate::install_crypto_provider();
        let client = reqwest::Client::builder().no_proxy().build()?;
        let url = format!("{}/-/ready", self.url());
        let result = eventually("Prometheus is ready", Duration::from_secs(30), async || {
            if self.process.check().is_err() {
                return Ok(self.process.check());
            }
            let status = client.get(&url).send().await?.status();
            ensure!(status == http::StatusCode::OK, "{url} answers {status}");
            Ok(Ok(()))
        });
        result.await?
    }
}
