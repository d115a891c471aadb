//! The Prometheus that all tests share, and how they ask it.

use std::num::NonZeroU32;
use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use rollback_core::health::promql::Names;
use rollback_probe::Client;
use rollback_probe::allow::AllowList;
use rollback_probe::networks::{Externals, Networks};
use rollback_probe::prometheus::Unknown;

use crate::past::{BAD, Past};
use crate::real::{Prometheus, missing};
use crate::support::{Server, skipped};
use crate::{presets, queries};

/// How long an answer may take on a busy machine.
pub const LONG: Duration = Duration::from_mins(1);
/// Over how many seconds is counted.
pub const WINDOW: NonZeroU32 = NonZeroU32::new(120).unwrap();

/// A Prometheus with a past.
pub struct World {
    pub prometheus: Prometheus,
    /// When the bad rollout began.
    pub bad: Timestamp,
}

impl World {
    /// The value of a query.
    pub async fn ask(&self, query: &str) -> Result<f64, Unknown> {
        client(&self.prometheus.url)
            .query(&self.prometheus.url, query, LONG)
            .await
    }

    /// What a query for this Deployment is about.
    pub fn names<'a>(&self, namespace: &'a str, deployment: &'a str) -> Names<'a> {
        Names {
            namespace,
            deployment,
            replica_set: "api-5d9c7b",
            baseline_at: Some(self.bad),
            window_seconds: WINDOW,
        }
    }
}

/// May ask this Prometheus, on loopback, and nothing else.
pub fn client(prometheus: &str) -> Client {
    let networks = Networks(vec!["127.0.0.0/8".parse().unwrap()]);
    let allowed = AllowList::parse([prometheus]).unwrap();
    Client::new(networks, Externals::default())
        .unwrap()
        .with_prometheus(allowed)
}

/// The shared Prometheus. Without one, the test says that it tests nothing.
pub fn world(test: &str) -> Option<&'static World> {
    static WORLD: OnceLock<World> = OnceLock::new();
    if let Some(why) = missing() {
        skipped(test, &why);
        return None;
    }
    Some(WORLD.get_or_init(start))
}

fn start() -> World {
    let mut past = Past::new();
    presets::fill(&mut past);
    queries::fill(&mut past);
    let bad = Timestamp::from_second(past.now + i64::from(BAD)).unwrap();
    // Asked only about what has `partial="yes"`, and always broken.
    let storage = Server::fixed("HTTP/1.1 500 Broken\r\ncontent-length: 0\r\n\r\n");
    let config = format!(
        "remote_read: [{{url: 'http://{}/', read_recent: true, required_matchers: {{partial: 'yes'}}}}]\n",
        storage.address
    );
    let prometheus = Prometheus::start(&config, Some(&past.finish()), "/prometheus");
    World { prometheus, bad }
}
