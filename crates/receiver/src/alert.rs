//! An alert as every source is read: what fires, since when, and about what.

use std::collections::BTreeMap;

use jiff::Timestamp;

/// What a delivery of a source holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Delivery {
    /// These alerts.
    Alerts(Vec<Alert>),
    /// These alerts, and so many more that the sender has left out.
    Truncated(Vec<Alert>, u64),
    /// The source asks for its subscription to be confirmed, by a request to this address, which has been checked
    /// against the hosts of the source.
    Confirm {
        /// Topic of the subscription.
        topic: String,
        /// The address.
        url: String,
    },
    /// Nothing about an alert, and nothing is wrong: why, in a few words.
    Nothing(String),
}

/// One alert. Every text comes from the sender and may be anything; none is longer than [`Alert::LONGEST`] characters.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// Whether it fires.
    pub state: State,
    /// What its sender knows it by: the same each time that this firing is sent.
    pub id: String,
    /// What it is called.
    pub name: String,
    /// What is wrong, in one line.
    pub summary: String,
    /// How bad its sender says it is, in the sender's word.
    pub severity: Option<String>,
    /// When it began to fire, as far as its sender says.
    pub started_at: Option<Timestamp>,
    /// How many seconds the trouble had lasted by then, where that is known: the `for` of a rule.
    pub pending_seconds: Option<u32>,
    /// Whether its sender says that it fired before, and the time is that of this delivery.
    pub is_repeat: bool,
    /// Its labels, tags, dimensions or custom fields, by which it is mapped to a Deployment.
    pub labels: BTreeMap<String, String>,
    /// Pages about it, `https` or `http`.
    pub links: Vec<String>,
}

impl Alert {
    /// Longest text of an alert, in characters; what is longer is cut.
    pub const LONGEST: usize = 1000;
    /// Most labels of an alert; of more, the first by name stay.
    pub const LABELS: usize = 100;
}

/// Whether an alert fires.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// It does.
    Firing,
    /// It does not any more.
    Resolved,
    /// Neither: no data, a reminder, a warning. Why it is not answered, in a few words.
    Ignored(String),
}
