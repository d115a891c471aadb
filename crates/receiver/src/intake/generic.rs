//! The format of this project, for whatever has no other:
//!
//! ```json
//! {
//!   "id": "…",
//!   "source": "synthetic-checks",
//!   "status": "firing",
//!   "severity": "critical",
//!   "namespace": "shop",
//!   "deployment": "api",
//!   "reason": "The checkout fails from three regions.",
//!   "startsAt": "2026-01-02T03:04:05Z",
//!   "badRevision": 7,
//!   "links": ["https://…"]
//! }
//! ```
//!
//! `severity`, `badRevision` and `links` may be left out. `status` is `firing` or `resolved`. The alert is known by source
//! and id. `source`, `namespace`, `deployment` and `badRevision` (as `bad_revision`) are the labels.

use serde::Deserialize;

use super::labels::Labels;
use super::text::{self, Few, Key, NumberOrText, Raw, Text, When};
use super::{
    After, Description, Format, Hmac, MOST_LINKS, Proof, Signed, Unreadable, alerts, first, json,
};
use crate::alert::{Alert, Delivery, State};
use crate::signature;

pub(super) const FORMAT: Description = Description {
    remedy: "see the generic format in docs/alerts.md",
    read,
    proof: Proof::Hmac(Hmac {
        header: "X-Signature",
        can_be_renamed: false,
        signed: Signed::TimeAndBody {
            header: "X-Timestamp",
            fits: signature::generic,
        },
    }),
    content_types: &[],
    comes_again: After::TooManyRequests,
};

fn read(body: &[u8]) -> Result<Delivery, Unreadable> {
    let body: Body = json(Format::Generic, body)?;
    Ok(alerts(vec![body.read()]))
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", expecting = "an object")]
struct Body {
    id: Key,
    source: Key,
    status: Status,
    severity: Option<Text>,
    namespace: Key,
    deployment: Key,
    reason: Text,
    starts_at: When,
    bad_revision: Option<NumberOrText>,
    links: Option<Few<Raw, MOST_LINKS>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum Status {
    Firing,
    Resolved,
}

impl Body {
    fn read(self) -> Alert {
        let mut labels = Labels::default();
        labels.add("source", &self.source.0);
        labels.add("namespace", &self.namespace.0);
        labels.add("deployment", &self.deployment.0);
        labels.add("bad_revision", &self.bad_revision.unwrap_or_default().0);
        let reason = first([Some(self.reason)]).unwrap_or_else(|| self.id.0.clone());
        Alert {
            state: match self.status {
                Status::Firing => State::Firing,
                Status::Resolved => State::Resolved,
            },
            id: text::identity(&[&self.source.0, &self.id.0]),
            name: reason.clone(),
            summary: reason,
            severity: first([self.severity]),
            started_at: Some(self.starts_at.0),
            pending_seconds: Some(0),
            is_repeat: false,
            labels: labels.done(),
            links: text::links(self.links.unwrap_or_default().items),
        }
    }
}
