//! The report of a request that was deleted while only a newer controller could have said how it ended.
//!
//! Writing to a String cannot fail, so the results are dropped.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use jiff::Timestamp;
use rollback_api::RollbackRequest;
use rollback_api::unknown::Unknown;
use serde_json::{Value, json};

use super::{LINE_LIMIT, TEXT_LIMIT};
use crate::execution::artifact::{self, Artifact, ArtifactKind};
use crate::message::redact::redact;
use crate::message::text::{code, markdown, plain};

/// Its end is unknown, and is said to be. Of `status` nothing is repeated but what people have read in it before.
pub fn unread(
    request: &RollbackRequest,
    status: &Value,
    unknown: &Unknown,
    deleted_at: Timestamp,
) -> Artifact {
    let stem = artifact::incident_stem(deleted_at);
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let last = last_message(status);
    let data = json!({
        "request": {
            "namespace": request.metadata.namespace, "name": name, "uid": request.metadata.uid,
        },
        "end": "Unknown",
        "notKnownHere": unknown.to_string(),
        "deletedAt": deleted_at,
        "requestedBy": request.spec.requested_by,
        "category": request.spec.reason.category,
        "summary": plain(&request.spec.reason.summary, LINE_LIMIT),
        "target": status["summary"]["target"],
        "to": status["summary"]["to"],
        "lastMessage": last,
    });
    Artifact {
        kind: ArtifactKind::Incident,
        name: artifact::incident_name(request, deleted_at),
        workload: None,
        data: BTreeMap::from([
            (format!("{stem}.md"), page(request, status, unknown, &last)),
            (format!("{stem}.json"), format!("{data:#}")),
        ]),
    }
}

/// What was said of it last, as far as it can be told.
fn last_message(status: &Value) -> String {
    let conditions = status["conditions"].as_array();
    let mut conditions = conditions.into_iter().flatten();
    let ready = conditions.find(|condition| condition["type"] == "Ready");
    let message = ready.and_then(|ready| ready["message"].as_str());
    plain(&redact(message.unwrap_or_default()), TEXT_LIMIT)
}

fn page(request: &RollbackRequest, status: &Value, unknown: &Unknown, last: &str) -> String {
    let text = |field: &str| status["summary"][field].as_str().unwrap_or("unknown");
    let name = request.metadata.name.as_deref().unwrap_or_default();
    let asked = request.spec.requested_by.as_ref();
    let asked = asked.map_or("unknown", |who| who.username.as_str());
    let mut page = String::new();
    let _ = writeln!(
        page,
        "# Rollback of {}: the end is unknown\n",
        markdown(text("target"), LINE_LIMIT)
    );
    let _ = writeln!(
        page,
        "Request {} was deleted. A newer version of the controller had written its status, and the one that let it go does \
         not know {}. Whether the Deployment was rolled back, and whether it is well, it cannot say: nothing was changed \
         since. Its claims are given back; replicas that were taken to free capacity are not.\n",
        code(name, 253),
        code(&unknown.to_string(), LINE_LIMIT)
    );
    let _ = writeln!(page, "| | |\n|---|---|");
    let _ = writeln!(page, "| Back to | {} |", markdown(text("to"), LINE_LIMIT));
    let _ = writeln!(page, "| Asked for by | {} |", markdown(asked, LINE_LIMIT));
    let why = &request.spec.reason.summary;
    let _ = writeln!(page, "| Because | {} |", markdown(why, LINE_LIMIT));
    let _ = writeln!(page, "| Said last | {} |\n", markdown(last, TEXT_LIMIT));
    let _ = writeln!(page, "## What to do\n");
    let _ = writeln!(
        page,
        "- Look at the Deployment now: which version it runs, and whether it is well."
    );
    let _ = writeln!(
        page,
        "- Run one version of the controller, the newer one (Upgrading in docs/operating.md)."
    );
    page
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_says_that_the_end_is_unknown() {
        let request: RollbackRequest = serde_json::from_value(json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackRequest",
            "metadata": {"name": "api-5xx", "namespace": "shop", "uid": "u-1"},
            "spec": {"targets": [{"name": "api", "to": {"previous": {}}}],
                "reason": {"category": "ErrorRate", "summary": "5xx | above 1 %"}},
        }))
        .unwrap();
        let status = json!({
            "summary": {"target": "api", "to": "revision 3"},
            "conditions": [{"type": "Ready", "message": "It is rehearsed with password=hunter22."}],
            "plan": {"rules": {"http": [{"path": "/?token=hunter33"}]}},
        });
        let unknown = Unknown {
            path: "status.outcome.result".to_owned(),
            word: Some("Rehearsed".to_owned()),
        };
        let at: Timestamp = "2026-11-23T15:00:00Z".parse().unwrap();
        let report = unread(&request, &status, &unknown, at);
        assert!(
            report.name.starts_with("rollback-20261123-150000-"),
            "{}",
            report.name
        );
        let page = &report.data["rollback-20261123-150000.md"];
        for said in [
            "# Rollback of api: the end is unknown",
            "`status.outcome.result: Rehearsed`",
            "| Back to | revision 3 |",
        ] {
            assert!(page.contains(said), "no {said:?} in {page}");
        }
        let json = &report.data["rollback-20261123-150000.json"];
        assert!(json.contains("\"end\": \"Unknown\""), "{json}");
        for secret in ["hunter22", "hunter33"] {
            assert!(
                !page.contains(secret) && !json.contains(secret),
                "{page} {json}"
            );
        }
    }
}
