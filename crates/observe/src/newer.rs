//! Requests as they are served, and whether this controller knows everything that their statuses hold.

use kube::core::ObjectMeta;
use kube::{Client, Resource, ResourceExt};
use rollback_api::unknown::{self, Unknown};
use rollback_api::{RevisionLedger, RollbackRequest};
use rollback_reads::bounded::{Bounded, Untyped};
use rollback_reads::list::{self, Parts, What};
use serde::Deserialize;
use serde_json::{Map, Value};

use super::{Error, LEDGERS, raw, reading};

/// A request, as it is served.
pub enum Served {
    /// Everything in it is known.
    Known(Box<RollbackRequest>),
    /// A newer controller has written its status.
    Newer(Box<Newer>),
}

/// A request whose status this controller does not understand.
pub struct Newer {
    /// The request without its status.
    pub request: RollbackRequest,
    /// The status as it is served.
    pub status: Value,
    /// The first thing in it that is not known.
    pub unknown: Unknown,
}

/// Looks at the status before anything is read of it.
pub fn served(mut served: Bounded<RollbackRequest>) -> Result<Served, Untyped> {
    let fields = served.fields.as_mut();
    let status = fields.and_then(|fields| fields.remove("status"));
    let Some(status) = status else {
        return Ok(Served::Known(Box::new(served.typed()?)));
    };
    if let Some(unknown) = unknown::in_status(&status) {
        return Ok(Served::Newer(Box::new(Newer {
            request: served.typed()?,
            status,
            unknown,
        })));
    }
    if let Some(fields) = &mut served.fields {
        fields.insert("status".to_owned(), status);
    }
    Ok(Served::Known(Box::new(served.typed()?)))
}

/// A ledger with all of its fields, known or not.
#[derive(Deserialize)]
pub struct RawLedger {
    /// Its metadata.
    pub metadata: ObjectMeta,
    /// Its other fields.
    #[serde(flatten)]
    pub fields: Map<String, Value>,
}

/// The ledgers of a namespace in which the request with this UID holds the claim.
pub async fn claimed(client: &Client, namespace: &str, uid: &str) -> Result<Vec<RawLedger>, Error> {
    let mut claimed = Vec::new();
    let mut ledgers = Parts::new(|ledger: RawLedger| {
        let holder = ledger
            .fields
            .get("spec")
            .map(|spec| &spec["claim"]["requestUid"]);
        if holder.is_some_and(|holder| holder == uid) {
            claimed.push(ledger);
        }
    });
    let url = RevisionLedger::url_path(&(), Some(namespace));
    let pages = kube::api::ListParams::default().limit(LEDGERS);
    let end = list::pages(client, &url, What::Whole, pages, &mut ledgers).await;
    reading("the RevisionLedgers", end.and_then(raw::whole))?;
    Ok(claimed)
}

impl Newer {
    /// Whether it is to go, and only we hold it back.
    pub fn is_going(&self) -> bool {
        self.request.metadata.deletion_timestamp.is_some() && self.request.holds_finalizer()
    }

    /// Its namespace.
    pub fn namespace(&self) -> String {
        self.request.namespace().unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn request(status: &Value) -> Bounded<RollbackRequest> {
        let request = json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest",
            "metadata": {"name": "api-5xx", "namespace": "shop"}, "status": status,
            "spec": {"targets": [{"name": "api", "to": {"previous": {}}}],
                "reason": {"category": "ErrorRate", "summary": "5xx"}},
        });
        serde_json::from_value(request).unwrap()
    }

    #[test]
    fn what_is_known_is_read_and_what_is_not_is_only_looked_at() {
        let known = json!({"observedGeneration": 1});
        let Ok(Served::Known(request_)) = served(request(&known)) else {
            panic!("it is known");
        };
        assert_eq!(
            request_.status.map(|status| status.observed_generation),
            Some(1)
        );
        // The second one could not even be read: there has to be a plan in a plan.
        for status in [
            json!({"observedGeneration": 1, "fromTheFuture": 1}),
            json!({"plan": {"fromTheFuture": 1}}),
        ] {
            let Ok(Served::Newer(newer)) = served(request(&status)) else {
                panic!("it is newer: {status}");
            };
            assert_eq!(newer.status, status);
            assert_eq!(newer.request.status, None);
            assert!(
                newer.unknown.path.ends_with("fromTheFuture"),
                "{}",
                newer.unknown
            );
        }
    }
}
