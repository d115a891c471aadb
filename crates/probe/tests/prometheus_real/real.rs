//! The Prometheus of the distribution's package on a free loopback port. It ends with this process, however that ends.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const SERVER: &str = "/usr/bin/prometheus";
const TOOL: &str = "/usr/bin/promtool";
/// How long it may take to start on a busy machine.
const START: Duration = Duration::from_mins(1);
/// Waits for the end of its input, which is the end of whoever started it.
const LEASH: &str = r#""$@" > "$FOLDER/log" 2>&1 &
read -r _
kill -9 $!
wait
rm -rf "$FOLDER""#;

/// A running Prometheus. Dropping kills it and removes its data.
pub struct Prometheus {
    /// Where it answers, with the path it is served below.
    pub url: String,
    leash: Child,
}

/// What is missing on this machine, if anything.
pub fn missing() -> Option<String> {
    let program = [SERVER, TOOL]
        .into_iter()
        .find(|path| !Path::new(path).exists())?;
    Some(format!(
        "{program} is missing; install the package prometheus"
    ))
}

impl Prometheus {
    /// `config` is its configuration, `past` in the `OpenMetrics` format what it knows already, `path` where it is served.
    pub fn start(config: &str, past: Option<&str>, path: &str) -> Self {
        let folder = tempfile::Builder::new()
            .prefix("prometheus-")
            .tempdir()
            .unwrap();
        let data = folder.path().join("data");
        let config_file = folder.path().join("prometheus.yml");
        fs::write(&config_file, config).unwrap();
        if let Some(past) = past {
            import(&folder.path().join("past"), past, &data);
        }
        // From here on the leash removes the folder.
        let folder = folder.keep();
        let leash = Command::new("/bin/sh")
            .args(["-c", LEASH, "leash", SERVER])
            .arg(format!("--config.file={}", config_file.display()))
            .arg(format!("--storage.tsdb.path={}", data.display()))
            .arg("--web.listen-address=127.0.0.1:0")
            .arg(format!("--web.route-prefix={path}"))
            .env("FOLDER", &folder)
            // Ctrl-C would end the leash before its work is done.
            .process_group(0)
            .stdin(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut prometheus = Self {
            url: String::new(),
            leash,
        };
        prometheus.url = format!("http://{}{path}", listening(&folder.join("log")));
        prometheus
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.leash.stdin.take());
        let _ = self.leash.wait();
    }
}

/// Writes the past into blocks of its database.
fn import(file: &Path, past: &str, data: &Path) {
    fs::write(file, past).unwrap();
    let output = Command::new(TOOL)
        .args(["tsdb", "create-blocks-from", "openmetrics"])
        .args([file, data])
        .output()
        .unwrap();
    assert!(output.status.success(), "{output:?}");
}

/// Its address, once it is ready: the kernel chose the port, and the log names it.
fn listening(log: &Path) -> String {
    let end = Instant::now() + START;
    loop {
        let text = fs::read_to_string(log).unwrap_or_default();
        let address = text
            .lines()
            .filter_map(|line| line.split_once("msg=\"Listening on\" address="))
            .map(|(_, address)| address.trim().to_owned())
            .next_back();
        if let Some(address) = address
            && text.contains("Server is ready to receive web requests")
        {
            return address;
        }
        assert!(
            Instant::now() < end,
            "Prometheus does not get ready:\n{text}"
        );
        std::thread::sleep(Duration::from_millis(20));
    }
}
