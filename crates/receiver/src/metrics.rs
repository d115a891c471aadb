//! Numbers for Prometheus. Labels are closed vocabularies and the names of sources in the configuration, so that no delivery
//! can make a series.

use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use rollback_process::pages;

use crate::ask::Outcome;
use crate::config::Source;

/// The numbers.
pub struct Metrics {
    registry: Registry,
    alerts: Family<Answered, Counter>,
    refused: Family<Refused, Counter>,
    dropped: Family<Reason, Counter>,
    taken: Family<Sender, Counter>,
    empty: Family<Sender, Counter>,
    left_out: Family<Sender, Counter>,
    connections: Gauge,
    certificate: Counter,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Answered {
    source: String,
    outcome: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Refused {
    source: String,
    reason: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Sender {
    source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Reason {
    reason: &'static str,
}

impl Metrics {
    /// For these sources: each of them has its series from the beginning, so that the first alert is an increase.
    pub fn new(sources: &[Source]) -> Self {
        let mut metrics = Self {
            registry: Registry::with_prefix("rollback_receiver"),
            alerts: Family::default(),
            refused: Family::default(),
            dropped: Family::default(),
            taken: Family::default(),
            empty: Family::default(),
            left_out: Family::default(),
            connections: Gauge::default(),
            certificate: Counter::default(),
        };
        for source in sources {
            for outcome in Outcome::ALL {
                let answered = Answered {
                    source: source.name.clone(),
                    outcome: outcome.as_str(),
                };
                metrics.alerts.get_or_create(&answered).inc_by(0);
            }
            let sender = Sender {
                source: source.name.clone(),
            };
            for family in [&metrics.taken, &metrics.empty, &metrics.left_out] {
                family.get_or_create(&sender).inc_by(0);
            }
        }
        let registry = &mut metrics.registry;
        registry.register(
            "alerts",
            "Alerts that were answered, by source and outcome; asked is a request that was made",
            metrics.alerts.clone(),
        );
        registry.register(
            "refused",
            "Deliveries that were not taken, by source (empty when there is none of that name) and reason",
            metrics.refused.clone(),
        );
        registry.register(
            "dropped",
            "Connections that ended before there was a delivery, by reason",
            metrics.dropped.clone(),
        );
        registry.register(
            "names_taken",
            "Times that another request had the name of the one that was to be made, by source: somebody has to look at it",
            metrics.taken.clone(),
        );
        registry.register(
            "empty_deliveries",
            "Deliveries that held nothing that could be answered, by source; the log says why",
            metrics.empty.clone(),
        );
        registry.register(
            "left_out_alerts",
            "Alerts that senders say they have left out of their deliveries, by source",
            metrics.left_out.clone(),
        );
        registry.register(
            "connections",
            "Connections that are open",
            metrics.connections.clone(),
        );
        registry.register(
            "certificate_errors",
            "Times that a new certificate, key or authority could not be used, and the old one stayed",
            metrics.certificate.clone(),
        );
        metrics
    }

    /// An alert of this source was answered.
    pub fn answered(&self, source: &str, outcome: Outcome) {
        let answered = Answered {
            source: source.to_owned(),
            outcome: outcome.as_str(),
        };
        self.alerts.get_or_create(&answered).inc();
    }

    /// A delivery was not taken. `source` is one of the configuration, or empty.
    pub fn refused(&self, source: &str, reason: &'static str) {
        let refused = Refused {
            source: source.to_owned(),
            reason,
        };
        self.refused.get_or_create(&refused).inc();
    }

    /// Another request had the name of the one that was to be made for this source.
    pub fn name_taken(&self, source: &str) {
        let source = source.to_owned();
        self.taken.get_or_create(&Sender { source }).inc();
    }

    /// A delivery of this source held nothing to answer.
    pub fn empty(&self, source: &str) {
        let source = source.to_owned();
        self.empty.get_or_create(&Sender { source }).inc();
    }

    /// A sender of this source has left out so many alerts.
    pub fn left_out(&self, source: &str, count: u64) {
        let source = source.to_owned();
        self.left_out
            .get_or_create(&Sender { source })
            .inc_by(count);
    }

    /// A connection ended before there was a delivery.
    pub fn dropped(&self, reason: &'static str) {
        self.dropped.get_or_create(&Reason { reason }).inc();
    }

    /// A new certificate could not be used.
    pub fn kept_certificate(&self) {
        self.certificate.inc();
    }

    /// Everything, in the text format of `OpenMetrics`.
    pub fn page(&self, connections: usize) -> String {
        self.connections
            .set(i64::try_from(connections).unwrap_or(i64::MAX));
        pages::text(&self.registry)
    }
}
