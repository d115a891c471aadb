//! A Prometheus of its own that scrapes a Deployment while it turns bad, recovers, and falls silent.

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rollback_api::policy::Metric;
use rollback_api::status::Finding;
use rollback_core::health::promql::{Names, bound, judge, query};
use rollback_probe::prometheus::Unknown;

use crate::real::{Prometheus, missing};
use crate::support::{Server, ok, skipped};
use crate::world::{LONG, client};

/// What is served when nothing is.
const DOWN: u64 = u64::MAX;
const NAMES: Names<'_> = Names {
    namespace: "shop",
    deployment: "api",
    replica_set: "api-5d9c7b",
    baseline_at: None,
    window_seconds: NonZeroU32::new(5).unwrap(),
};

/// At each scrape there are a thousand requests more, and as many of them failed as `failing` says.
fn app(failing: Arc<AtomicU64>) -> Server {
    let counted = Mutex::new((0, 0));
    Server::new(move |stream, _| {
        use std::io::Write;
        let failing = failing.load(SeqCst);
        let answer = if failing == DOWN {
            b"HTTP/1.1 503 Down\r\ncontent-length: 0\r\n\r\n".to_vec()
        } else {
            let mut counted = counted.lock().unwrap();
            counted.0 += 1000 - failing;
            counted.1 += failing;
            ok(metrics(*counted))
        };
        let _ = stream.write_all(&answer);
    })
}

fn metrics((fine, failed): (u64, u64)) -> String {
    let labels = "reporter=\"destination\",destination_workload_namespace=\"shop\",destination_workload=\"api\"";
    format!(
        "# TYPE istio_requests_total counter\n\
         istio_requests_total{{{labels},response_code=\"200\"}} {fine}\n\
         istio_requests_total{{{labels},response_code=\"503\"}} {failed}\n"
    )
}

async fn error_rate(prometheus: &Prometheus) -> Result<Finding, Unknown> {
    let query = query(Metric::ErrorRate, &NAMES).unwrap();
    let value = client(&prometheus.url)
        .query(&prometheus.url, &query, LONG)
        .await?;
    Ok(judge(value, bound(Metric::ErrorRate)))
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_scraped_now_is_what_is_judged() {
    if let Some(why) = missing() {
        return skipped("what_is_scraped_now_is_what_is_judged", &why);
    }
    let failing = Arc::new(AtomicU64::new(DOWN));
    let app = app(failing.clone());
    let config = format!(
        "global: {{scrape_interval: 1s}}\nscrape_configs: [{{job_name: app, static_configs: [{{targets: ['{}']}}]}}]\n",
        app.address
    );
    let prometheus = Prometheus::start(&config, None, "");
    for (now, expected) in [
        (DOWN, Err(Unknown::Empty)),
        (9, Ok(Finding::Pass)),
        (11, Ok(Finding::Fail)),
        (0, Ok(Finding::Pass)),
        (DOWN, Err(Unknown::Empty)),
    ] {
        failing.store(now, SeqCst);
        let end = Instant::now() + LONG;
        loop {
            let found = error_rate(&prometheus).await;
            if found == expected {
                break;
            }
            assert!(Instant::now() < end, "{now}: {found:?}, never {expected:?}");
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}
