//! A real Prometheus scrapes a small server that this test drives: every threshold crossed and not crossed, and all the
//! ways in which a number is no number.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "what is wrong in a test ends it"
)]

use std::fmt::Write as _;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::num::NonZeroU32;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rollback_api::policy::Metric;
use rollback_api::status::Finding;
use rollback_core::health::promql::{self, Names};
use rollback_probe::Client;
use rollback_probe::allow::AllowList;
use rollback_probe::networks::{Externals, Networks};
use rollback_probe::prometheus::Unknown;

const SERVER: &str = "/usr/bin/prometheus";
/// When the bad rollout begins, in seconds from the start of the server that is scraped.
const BAD: f64 = 16.0;
/// Over how many seconds is counted: the baseline is six times as long.
const WINDOW: u32 = 2;
const LIMIT: Duration = Duration::from_secs(10);
const PATIENCE: Duration = Duration::from_mins(2);
/// A name that would be obeyed if it were not quoted.
const HOSTILE: &str = r#"we"ird\"} or vector(9) #"#;

/// Requests in a second of one Deployment, by code: before the bad rollout, and since.
const REQUESTS: [(&str, &str, &str, f64, f64); 11] = [
    ("shop", "healthy", "200", 100.0, 100.0),
    ("shop", "healthy", "500", 0.5, 0.5),
    ("shop", "failing", "200", 100.0, 100.0),
    ("shop", "failing", "503", 5.0, 5.0),
    ("shop", "flawless", "200", 100.0, 100.0),
    ("shop", "idle", "200", 0.0, 0.0),
    ("shop", "kept", "200", 100.0, 80.0),
    ("shop", "halved", "200", 100.0, 40.0),
    // What happens elsewhere is nobody's business here.
    ("shop2", "healthy", "500", 900.0, 900.0),
    ("shop", HOSTILE, "200", 100.0, 100.0),
    ("shop", HOSTILE, "500", 50.0, 50.0),
];

/// How many requests in a second took at most so many milliseconds.
const BUCKETS: [(&str, [f64; 4]); 3] = [
    ("quick", [99.5, 100.0, 100.0, 100.0]),
    ("slow", [90.0, 95.0, 100.0, 100.0]),
    // More than one of a hundred is beyond the last bound: nobody knows how far.
    ("beyond", [90.0, 95.0, 97.0, 100.0]),
];

/// Restarts in a second of one pod.
const RESTARTS: [(&str, f64); 3] = [
    ("steady-5d9c7b-abcde", 0.02),
    ("crashing-5d9c7b-abcde", 0.1),
    // A pod of another ReplicaSet whose name begins alike.
    ("steady-5d9c7b-x-abcde", 9.0),
];

fn escaped(text: &str) -> String {
    text.replace('\\', "\\\\").replace('"', "\\\"")
}

/// What the server says after so many seconds.
fn metrics(elapsed: f64) -> String {
    let mut text = String::new();
    let grown =
        |before: f64, since: f64| before * elapsed.min(BAD) + since * (elapsed - BAD).max(0.0);
    for (namespace, deployment, code, before, since) in REQUESTS {
        let deployment = escaped(deployment);
        let value = 1000.0 + grown(before, since);
        writeln!(text, "istio_requests_total{{reporter=\"destination\",destination_workload_namespace=\"{namespace}\",destination_workload=\"{deployment}\",response_code=\"{code}\"}} {value}").unwrap();
    }
    for (deployment, rates) in BUCKETS {
        for (le, rate) in ["100", "2000", "5000", "+Inf"].iter().zip(rates) {
            let value = 1000.0 + rate * elapsed;
            writeln!(text, "istio_request_duration_milliseconds_bucket{{reporter=\"destination\",destination_workload_namespace=\"shop\",destination_workload=\"{deployment}\",le=\"{le}\"}} {value}").unwrap();
        }
    }
    for (pod, rate) in RESTARTS {
        let value = 10.0 + rate * elapsed;
        writeln!(text, "kube_pod_container_status_restarts_total{{namespace=\"shop\",pod=\"{pod}\",container=\"app\"}} {value}").unwrap();
    }
    text
}

/// Answers every connection with what `answer` makes, once it has read a request.
fn serve(answer: impl Fn() -> Vec<u8> + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            drop(stream.set_read_timeout(Some(Duration::from_secs(5))));
            if read_request(&mut stream).is_some() {
                drop(stream.write_all(&answer()));
            }
        }
    });
    address
}

fn read_request(stream: &mut TcpStream) -> Option<()> {
    let mut all = Vec::new();
    let mut some = [0; 4096];
    loop {
        let count = stream.read(&mut some).ok().filter(|count| *count > 0)?;
        all.extend_from_slice(&some[..count]);
        if all.windows(4).any(|end| end == b"\r\n\r\n") {
            return Some(());
        }
    }
}

fn http(kind: &str, body: &str, length: usize) -> Vec<u8> {
    format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ncontent-length: {length}\r\nconnection: close\r\n\r\n{body}").into_bytes()
}

/// A running Prometheus. Dropping kills it.
struct Prometheus {
    child: Child,
    url: String,
    _folder: tempfile::TempDir,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn start(scraped: SocketAddr) -> Prometheus {
    let folder = tempfile::Builder::new()
        .prefix("prometheus-")
        .tempdir()
        .unwrap();
    let config = folder.path().join("prometheus.yml");
    std::fs::write(
        &config,
        format!("global: {{scrape_interval: 500ms, scrape_timeout: 400ms}}\nscrape_configs: [{{job_name: shop, static_configs: [{{targets: ['{scraped}']}}]}}]\n"),
    )
    .unwrap();
    let log_path = folder.path().join("log");
    let log = std::fs::File::create(&log_path).unwrap();
    let child = Command::new(SERVER)
        .arg(format!("--config.file={}", config.display()))
        .arg(format!(
            "--storage.tsdb.path={}",
            folder.path().join("data").display()
        ))
        .arg("--web.listen-address=127.0.0.1:0")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .unwrap();
    let mut prometheus = Prometheus {
        child,
        url: String::new(),
        _folder: folder,
    };
    let end = Instant::now() + PATIENCE;
    // The kernel chose the port, and the log names it.
    prometheus.url = loop {
        let text = std::fs::read_to_string(&log_path).unwrap_or_default();
        let lines = text.lines();
        let address = lines
            .filter_map(|line| line.split_once("msg=\"Listening on\" address="))
            .map(|(_, address)| format!("http://{}", address.trim()))
            .next_back();
        match address {
            Some(address) if text.contains("ready to receive web requests") => break address,
            Some(_) | None => assert!(
                Instant::now() < end,
                "Prometheus does not get ready:\n{text}"
            ),
        }
        thread::sleep(Duration::from_millis(20));
    };
    prometheus
}

fn client(prometheus: &str) -> Client {
    Client::new(
        Networks(vec!["127.0.0.0/8".parse().unwrap()]),
        Externals(Vec::new()),
    )
    .unwrap()
    .with_prometheus(AllowList::parse([prometheus]).unwrap())
}

/// Whether it may run here; says loudly when it may not.
fn is_there() -> bool {
    let there = Path::new(SERVER).exists();
    let missing = format!("{SERVER} is missing; install the package prometheus");
    assert!(
        there || std::env::var_os("ROLLBACK_TEST_REAL").is_none_or(|real| real != "1"),
        "{missing}"
    );
    if !there {
        eprintln!("SKIPPED: {missing}");
    }
    there
}

/// A Prometheus that has scraped for long enough.
struct Shop {
    client: Client,
    prometheus: Prometheus,
    baseline: Timestamp,
}

impl Shop {
    async fn open() -> Self {
        // The time of the story begins when somebody first looks.
        let first = Arc::new(OnceLock::new());
        let seen = first.clone();
        let scraped = serve(move || {
            let (since, _) = seen.get_or_init(|| (Instant::now(), Timestamp::now()));
            let text = metrics(since.elapsed().as_secs_f64());
            http("text/plain; version=0.0.4", &text, text.len())
        });
        let prometheus = start(scraped);
        let scraped_by = Instant::now() + PATIENCE;
        let (started, began) = loop {
            if let Some(first) = first.get() {
                break *first;
            }
            assert!(Instant::now() < scraped_by, "nothing is scraped");
            tokio::time::sleep(Duration::from_millis(50)).await;
        };
        let shop = Self {
            client: client(&prometheus.url),
            prometheus,
            baseline: began.checked_add(Duration::from_secs_f64(BAD)).unwrap(),
        };
        // Until it has a baseline, and what came after it.
        let end = Instant::now() + PATIENCE;
        let enough = Duration::from_secs_f64(BAD) + Duration::from_secs(2 * u64::from(WINDOW));
        loop {
            let known = shop.preset(Metric::Throughput, "kept").await;
            if known.is_ok() && started.elapsed() > enough {
                return shop;
            }
            assert!(Instant::now() < end, "it never has a baseline: {known:?}");
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    fn names<'a>(&self, deployment: &'a str, replica_set: &'a str) -> Names<'a> {
        Names {
            namespace: "shop",
            deployment,
            replica_set,
            baseline_at: Some(self.baseline),
            window_seconds: NonZeroU32::new(WINDOW).unwrap(),
        }
    }

    async fn ask(&self, query: &str) -> Result<f64, Unknown> {
        self.client.query(&self.prometheus.url, query, LIMIT).await
    }

    async fn preset(&self, preset: Metric, deployment: &str) -> Result<f64, Unknown> {
        let replica_set = format!("{deployment}-5d9c7b");
        let query = promql::query(preset, &self.names(deployment, &replica_set)).unwrap();
        self.ask(&query).await
    }

    /// What the number of a preset means, which lies between these two.
    async fn finds(&self, preset: Metric, deployment: &str, between: [f64; 2], finding: Finding) {
        let number = self.preset(preset, deployment).await.unwrap();
        let [least, most] = between;
        assert!(
            least <= number && number <= most,
            "{preset:?} of {deployment}: {number}"
        );
        let found = promql::judge(number, promql::bound(preset));
        assert_eq!(found, finding, "{preset:?} of {deployment}: {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_threshold_is_crossed_and_not_crossed() {
    if !is_there() {
        return;
    }
    let shop = Shop::open().await;
    let (pass, fail) = (Finding::Pass, Finding::Fail);
    shop.finds(Metric::ErrorRate, "healthy", [0.003, 0.008], pass)
        .await;
    shop.finds(Metric::ErrorRate, "failing", [0.03, 0.06], fail)
        .await;
    // Without a single 5xx there is no such series, and the part of them is none.
    shop.finds(Metric::ErrorRate, "flawless", [0.0, 0.0], pass)
        .await;
    shop.finds(Metric::ErrorRate, HOSTILE, [0.3, 0.36], fail)
        .await;
    shop.finds(Metric::Latency, "quick", [1.0, 100.0], pass)
        .await;
    shop.finds(Metric::Latency, "slow", [2001.0, 5000.0], fail)
        .await;
    shop.finds(Metric::Restarts, "steady", [0.5, 2.5], pass)
        .await;
    shop.finds(Metric::Restarts, "crashing", [4.0, 9.0], fail)
        .await;
    shop.finds(Metric::Throughput, "kept", [0.7, 0.9], pass)
        .await;
    shop.finds(Metric::Throughput, "halved", [0.3, 0.48], fail)
        .await;

    // What is no number is neither.
    let nothing = shop.preset(Metric::ErrorRate, "absent").await;
    assert_eq!(nothing, Err(Unknown::Empty));
    let idle = shop.preset(Metric::ErrorRate, "idle").await;
    assert_eq!(idle, Err(Unknown::NotANumber("NaN")));
    let beyond = shop.preset(Metric::Latency, "beyond").await;
    assert_eq!(beyond, Err(Unknown::Empty));
    let mut names = shop.names("kept", "kept-5d9c7b");
    names.baseline_at = None;
    assert!(promql::query(Metric::Throughput, &names).is_err());
    names.baseline_at = Some(shop.baseline - Duration::from_hours(1));
    let young = promql::query(Metric::Throughput, &names).unwrap();
    assert_eq!(shop.ask(&young).await, Err(Unknown::Empty));

    // Queries of one's own.
    let own = |query: &str| promql::expand(query, &shop.names(HOSTILE, "x-1")).unwrap();
    let of_one =
        "destination_workload_namespace=\"$namespace\",destination_workload=\"$deployment\"";
    let sum = own(&format!(
        "sum(rate(istio_requests_total{{{of_one}}}[$window]))"
    ));
    let number = shop.ask(&sum).await.unwrap();
    assert!((120.0..=180.0).contains(&number), "{number}");
    let each = own(&format!("rate(istio_requests_total{{{of_one}}}[$window])"));
    assert_eq!(shop.ask(&each).await, Err(Unknown::Several(2)));
    assert_eq!(shop.ask("vector(0.25)").await, Ok(0.25));
    assert_eq!(shop.ask("3").await, Ok(3.0));
    assert_eq!(
        shop.ask("vector(1) / 0").await,
        Err(Unknown::NotANumber("+Inf"))
    );
    assert_eq!(
        shop.ask("vector(-1) / 0").await,
        Err(Unknown::NotANumber("-Inf"))
    );
    assert_eq!(
        shop.ask("\"words\"").await,
        Err(Unknown::NotAScalarOrVector)
    );
    assert_eq!(shop.ask("up[5s]").await, Err(Unknown::NotAScalarOrVector));
    let bad = shop.ask("sum(").await;
    assert!(matches!(bad, Err(Unknown::Status(400, Some(_)))), "{bad:?}");
    let twice = shop
        .ask("istio_requests_total + on () istio_requests_total")
        .await;
    assert!(
        matches!(twice, Err(Unknown::Status(422, Some(_)))),
        "{twice:?}"
    );

    // Nobody is there any more.
    let url = shop.prometheus.url.clone();
    drop(shop.prometheus);
    let gone = shop.client.query(&url, "vector(1)", LIMIT).await;
    assert!(matches!(gone, Err(Unknown::Unreachable(_))), "{gone:?}");
}

/// What no Prometheus of this version says when it is asked to.
#[tokio::test(flavor = "multi_thread")]
async fn an_answer_that_is_not_whole_is_no_answer() {
    let now = Timestamp::now().as_second();
    let sample = format!(
        "{{\"status\":\"success\",\"warnings\":[\"a store did not answer\"],\"data\":{{\"resultType\":\"vector\",\"result\":[{{\"metric\":{{}},\"value\":[{now},\"0\"]}}]}}}}"
    );
    let infos = sample.replace("warnings", "infos");
    let huge = format!("{infos}{}", " ".repeat(1024 * 1024));
    let cut = sample[..sample.len() / 2].to_owned();
    let cases = [
        (sample.clone(), sample.len(), Err(Unknown::Partial)),
        (infos.clone(), infos.len(), Ok(0.0)),
        (cut.clone(), cut.len(), Err(Unknown::Garbled)),
        (cut.clone(), sample.len(), Err(Unknown::Garbled)),
        (huge.clone(), huge.len(), Err(Unknown::Garbled)),
    ];
    for (body, length, expected) in cases {
        let shown: String = body.chars().take(80).collect();
        let address = serve(move || http("application/json", &body, length));
        let url = format!("http://{address}");
        let answer = client(&url).query(&url, "up", LIMIT).await;
        assert_eq!(answer, expected, "{shown}");
    }
    // A server that takes the question and never answers.
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let late = client(&url)
        .query(&url, "up", Duration::from_millis(300))
        .await;
    assert_eq!(late, Err(Unknown::TimedOut));
}
