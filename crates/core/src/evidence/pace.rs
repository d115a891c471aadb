//! How many rollbacks without a person a namespace has had in the last hour.
//!
//! They are counted from the ledgers, which remember them and which nobody deletes while their Deployment is there, and
//! from the requests that the policy approved, which may not have reached a ledger yet. Each rollback counts once. What
//! cannot be read counts as well: it may be about one.

use std::collections::BTreeSet;

use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::message::text::plain;
use crate::observed::Pace;
use crate::time;

/// For how long a rollback counts, in seconds.
const HOUR: i64 = 3600;

/// What has been counted so far.
#[derive(Clone, Debug)]
pub struct Tally {
    now: Timestamp,
    /// UIDs of the requests.
    recent: BTreeSet<String>,
    unreadable: Vec<String>,
}

/// What a ledger says of a rollback, as far as it is counted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Remembered {
    request_uid: String,
    at: Timestamp,
    #[serde(default)]
    automatic: bool,
}

/// What a request says of the policy's decision, as far as it is counted.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Said {
    #[serde(default)]
    blocked_by: Option<Value>,
    at: Timestamp,
}

impl Tally {
    /// Nothing has been counted.
    pub fn at(now: Timestamp) -> Self {
        Self {
            now,
            recent: BTreeSet::new(),
            unreadable: Vec::new(),
        }
    }

    /// Counts the rollbacks that a ledger remembers (`spec.rollbacks`).
    pub fn ledger(&mut self, name: &str, rollbacks: Option<&Value>) {
        let Some(rollbacks) = rollbacks else { return };
        match Vec::<Remembered>::deserialize(rollbacks) {
            Ok(rollbacks) => {
                for rollback in rollbacks {
                    if rollback.automatic && self.is_recent(rollback.at) {
                        self.recent.insert(rollback.request_uid);
                    }
                }
            }
            Err(_) => self.cannot_be_read("RevisionLedger", name),
        }
    }

    /// Counts a request that the policy approved (`status.automatic`).
    pub fn request(&mut self, name: &str, uid: &str, automatic: Option<&Value>) {
        let Some(automatic) = automatic else { return };
        match Said::deserialize(automatic) {
            Ok(said) => {
                if said.blocked_by.is_none() && self.is_recent(said.at) {
                    self.recent.insert(uid.to_owned());
                }
            }
            Err(_) => self.cannot_be_read("RollbackRequest", name),
        }
    }

    /// What was counted.
    pub fn pace(self, paused: Option<bool>) -> Pace {
        Pace {
            recent: self.recent.len() + self.unreadable.len(),
            unreadable: self.unreadable,
            paused,
        }
    }

    fn is_recent(&self, at: Timestamp) -> bool {
        time::after(at, HOUR) > self.now
    }

    fn cannot_be_read(&mut self, kind: &str, name: &str) {
        self.unreadable.push(format!("{kind} {}", plain(name, 253)));
    }
}
