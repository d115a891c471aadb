//! A real Prometheus, as the package of the distribution has it.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::Result;
use serde_json::{Value, json};

use crate::build;
use crate::ports::Ports;
use crate::process::{Launch, Process, is_installed};

/// Where the package puts it.
const PROGRAM: &str = "/usr/bin/prometheus";

/// The tool for rules that comes with it, or none; says loudly when it is not there.
pub fn promtool() -> Result<Option<&'static Path>> {
    const PROMTOOL: &str = "/usr/bin/promtool";
    Ok(is_installed(PROMTOOL, "prometheus")?.then_some(Path::new(PROMTOOL)))
}

/// What a Prometheus is to do besides scraping itself.
#[derive(Clone, Debug, Default)]
pub struct Setup {
    /// What else it scrapes, as `host:port`, each second.
    pub scraped: Vec<String>,
    /// A file of rules, when it is not empty.
    pub rules: String,
    /// Where alerts go, as `host:port`.
    pub alertmanagers: Vec<String>,
}

/// A running Prometheus. Dropping kills it.
#[derive(Debug)]
pub struct Prometheus {
    process: Process,
    ports: Ports,
    _folder: tempfile::TempDir,
}

impl Prometheus {
    /// Starts one that scrapes nothing but itself, or says loudly that there is none on this machine.
    pub async fn start() -> Result<Option<Self>> {
        Self::start_with(&Setup::default()).await
    }

    /// The same, with more to do.
    pub async fn start_with(setup: &Setup) -> Result<Option<Self>> {
        if !is_installed(PROGRAM, "prometheus")? {
            return Ok(None);
        }
        let leash = build::ensure_for_existing()?.leash();
        let ports = Ports::lease()?;
        let folder = tempfile::Builder::new().prefix("prometheus-").tempdir()?;
        let config = folder.path().join("prometheus.yml");
        let address = format!("127.0.0.1:{}", ports.port(0));
        let rules = folder.path().join("rules.yml");
        std::fs::write(&rules, &setup.rules)?;
        std::fs::write(&config, configuration(setup, &address, &rules).to_string())?;
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
        self.process
            .answers(&format!("{}/-/ready", self.url()))
            .await
    }
}

/// JSON is YAML.
fn configuration(setup: &Setup, own: &str, rules: &Path) -> Value {
    let mut scraped = vec![own.to_owned()];
    scraped.extend(setup.scraped.iter().cloned());
    let mut configuration = json!({
        "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
        "scrape_configs": [{"job_name": "self", "static_configs": [{"targets": scraped}]}],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": setup.alertmanagers}]}]},
    });
    // Labels of the shop's own take precedence over those of the scrape.
    configuration["scrape_configs"][0]["honor_labels"] = json!(true);
    if !setup.rules.is_empty() {
        configuration["rule_files"] = json!([rules]);
    }
    configuration
}
