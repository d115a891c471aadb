//! Numbers for Prometheus. Labels are closed vocabularies, so that no request can make a series.

use std::sync::OnceLock;
use std::time::Duration;

use jiff::Timestamp;
use kube::runtime::reflector::Store;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};
use rollback_api::RollbackRequest;
use rollback_api::status::{DeliveryResult, Outcome};
use rollback_core::report::review;
use rollback_process::pages;

use crate::guard::Stamp;

/// The numbers.
pub struct Metrics {
    registry: Registry,
    reconciles: Histogram,
    errors: Family<Stage, Counter>,
    outcomes: Family<End, Counter>,
    recovery: Histogram,
    break_glass_approvals: Counter,
    auto_approvals: Family<Decision, Counter>,
    names_taken: Counter,
    versions_returned: Counter,
    notifications: Family<Notified, Counter>,
    leader: Gauge,
    guard_holes: Family<Policy, Gauge>,
    guard_stamp_missing: Gauge,
    guard_tested: Gauge,
    reminders: Family<Place, Gauge>,
    requests: OnceLock<Store<RollbackRequest>>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Place {
    namespace: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Policy {
    kind: &'static str,
    name: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Stage {
    stage: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Decision {
    decision: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Notified {
    channel: &'static str,
    result: &'static str,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct End {
    result: &'static str,
    reason: &'static str,
}

impl Default for Metrics {
    fn default() -> Self {
        let reconciles = Histogram::new([
            0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
        ]);
        let recovery = Histogram::new([
            1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0, 600.0, 1800.0, 3600.0,
        ]);
        let mut metrics = Self {
            registry: Registry::with_prefix("rollback"),
            reconciles,
            errors: Family::default(),
            outcomes: Family::default(),
            recovery,
            break_glass_approvals: Counter::default(),
            auto_approvals: Family::default(),
            names_taken: Counter::default(),
            versions_returned: Counter::default(),
            notifications: Family::default(),
            leader: Gauge::default(),
            guard_holes: Family::default(),
            guard_stamp_missing: Gauge::default(),
            guard_tested: Gauge::default(),
            reminders: Family::default(),
            requests: OnceLock::new(),
        };
        let registry = &mut metrics.registry;
        registry.register_with_unit(
            "reconcile_duration",
            "Time of one reconcile of a request",
            Unit::Seconds,
            metrics.reconciles.clone(),
        );
        registry.register(
            "reconcile_errors",
            "Reconciles that failed and are requeued, by stage",
            metrics.errors.clone(),
        );
        registry.register(
            "outcomes",
            "Requests that ended, by end state and reason",
            metrics.outcomes.clone(),
        );
        registry.register_with_unit(
            "recovery",
            "Time from the plan to a rollback that succeeded",
            Unit::Seconds,
            metrics.recovery.clone(),
        );
        registry.register(
            "break_glass_approvals",
            "Approvals that one person gave alone, past the rules",
            metrics.break_glass_approvals.clone(),
        );
        registry.register(
            "auto_approvals",
            "What the policy said to requests that came by themselves: approved, or what held it back",
            metrics.auto_approvals.clone(),
        );
        registry.register(
            "names_taken",
            "Times that another request had the name under which the controller's own watch was to ask: somebody has to look at it",
            metrics.names_taken.clone(),
        );
        registry.register(
            "quarantined_versions_returned",
            "Times that somebody brought back a version that was rolled back and is in quarantine",
            metrics.versions_returned.clone(),
        );
        registry.register(
            "notifications",
            "Messages to channels of policies, by kind of channel and what became of them; Later is tried again",
            metrics.notifications.clone(),
        );
        registry.register(
            "leader",
            "1 while this controller leads, 0 while it stands by",
            metrics.leader.clone(),
        );
        registry.register(
            "guard_hole",
            "1 while an admission policy or binding is missing, altered or without effect: no approval counts",
            metrics.guard_holes.clone(),
        );
        registry.register(
            "guard_stamp_missing",
            "1 while people write themselves who they are although the API server could: deploy/21-guard-stamp.yaml",
            metrics.guard_stamp_missing.clone(),
        );
        registry.register_with_unit(
            "guard_tested_timestamp",
            "When the admission policies were last tried with forged attempts",
            Unit::Seconds,
            metrics.guard_tested.clone(),
        );
        registry.register(
            "report_reminder",
            "Incidents whose review is overdue",
            metrics.reminders.clone(),
        );
        metrics
    }
}

impl Metrics {
    /// One reconcile took this long.
    pub fn reconciled(&self, took: Duration) {
        self.reconciles.observe(took.as_secs_f64());
    }

    /// A reconcile failed in this stage.
    pub fn failed(&self, stage: &'static str) {
        self.errors.get_or_create(&Stage { stage }).inc();
    }

    /// A request ended; `seconds` is the time since its plan when it was carried out.
    pub fn ended(&self, outcome: &Outcome, seconds: Option<f64>) {
        let end = End {
            result: outcome.result.known().unwrap_or("Unknown"),
            reason: outcome.reason.known().unwrap_or("Unknown"),
        };
        self.outcomes.get_or_create(&end).inc();
        if let Some(seconds) = seconds {
            self.recovery.observe(seconds);
        }
    }

    /// Somebody approved alone.
    pub fn approved_alone(&self) {
        self.break_glass_approvals.inc();
    }

    /// The policy has decided about a request that came by itself.
    pub fn decided(&self, decision: &'static str) {
        self.auto_approvals
            .get_or_create(&Decision { decision })
            .inc();
    }

    /// Another request had the name under which the controller's own watch was to ask.
    pub fn name_taken(&self) {
        self.names_taken.inc();
    }

    /// Somebody brought back a version in quarantine.
    pub fn version_returned(&self) {
        self.versions_returned.inc();
    }

    /// A message went to a channel of this kind; without a result it is tried again.
    pub fn notified(&self, channel: &'static str, result: Option<DeliveryResult>) {
        let result = result.and_then(DeliveryResult::known).unwrap_or("Later");
        self.notifications
            .get_or_create(&Notified { channel, result })
            .inc();
    }

    /// Whether this controller leads.
    pub fn leads(&self, leads: bool) {
        self.leader.set(leads.into());
    }

    /// Of each object of the guard, by kind and name, whether there is something wrong with it.
    pub fn guard<'a>(&self, objects: impl Iterator<Item = (&'static str, &'a str, bool)>) {
        for (kind, name, is_hole) in objects {
            let name = name.to_owned();
            let policy = Policy { kind, name };
            self.guard_holes.get_or_create(&policy).set(is_hole.into());
        }
    }

    /// Who writes who asks and who approves.
    pub fn guard_stamp(&self, stamp: &Stamp) {
        let missing = match stamp {
            Stamp::InForce | Stamp::NotServed => false,
            Stamp::Missing(_) | Stamp::Disobeyed => true,
        };
        self.guard_stamp_missing.set(missing.into());
    }

    /// Forged attempts were made, and answered, at this time.
    pub fn guard_tested(&self, at: Timestamp) {
        self.guard_tested.set(at.as_second());
    }

    /// Where the requests are kept whose overdue reviews are counted.
    pub fn count_reviews(&self, requests: Store<RollbackRequest>) {
        // There is one such place, so the first is the right one.
        let _ = self.requests.set(requests);
    }

    /// Counted when somebody asks, so that what was reviewed or deleted meanwhile is gone from it. A standby tells
    /// nothing.
    fn refresh_reminders(&self) {
        self.reminders.clear();
        let Some(requests) = self.requests.get().filter(|_| self.leader.get() > 0) else {
            return;
        };
        let now = Timestamp::now();
        for request in requests.state() {
            let namespace = request.metadata.namespace.clone().unwrap_or_default();
            let overdue = review::is_overdue(&request, now);
            let place = self.reminders.get_or_create(&Place { namespace });
            place.inc_by(overdue.into());
        }
    }

    /// Everything, in the text format of `OpenMetrics`.
    pub fn page(&self) -> String {
        self.refresh_reminders();
        pages::text(&self.registry)
    }
}
