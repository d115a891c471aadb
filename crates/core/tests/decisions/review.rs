//! The review of an incident: due once, told once, and settled by a name.

use crate::world::{REQUEST, Scene, annotate};
use jiff::SignedDuration;
use rollback_api::{REVIEWED_BY, RollbackRequest};
use rollback_core::report::review::{due, is_overdue, reminder};
use serde_json::json;

/// A request that ended with an incident, and its end.
fn ended() -> (RollbackRequest, jiff::Timestamp) {
    let mut planned = Scene::default();
    planned.until(rollback_core::execution::phase::Phase::AwaitingApproval);
    annotate(&mut planned.request, rollback_api::DENIED_BY, "bob");
    planned.settle();
    let status = planned.status();
    assert!(status.incident.is_some());
    (planned.request, status.outcome.unwrap().at)
}

#[test]
fn it_is_due_at_its_time_and_not_before() {
    let (request, end) = ended();
    let at = due(&request).unwrap();
    let within = request
        .status
        .as_ref()
        .unwrap()
        .plan
        .as_ref()
        .unwrap()
        .rules
        .review_within_seconds;
    assert_eq!(
        at,
        end + SignedDuration::from_secs(if within > 0 { within.into() } else { 48 * 3600 })
    );
    let moment = SignedDuration::from_millis(1);
    assert!(!is_overdue(&request, at - moment));
    assert_eq!(reminder(&request, at - moment), None);
    assert!(is_overdue(&request, at));
}

#[test]
fn the_reminder_is_one_event_and_says_what_to_type() {
    let (request, _) = ended();
    let at = due(&request).unwrap();
    let first = reminder(&request, at).unwrap();
    let later = reminder(&request, at + SignedDuration::from_hours(100)).unwrap();
    assert_eq!(
        first.event_name("api-5xx", REQUEST),
        later.event_name("api-5xx", REQUEST)
    );
    assert!(first.warning && first.note.len() <= 1024);
    let incident = request.status.as_ref().unwrap().incident.as_ref().unwrap();
    for part in [
        incident.config_map.as_str(),
        "kubectl annotate rbr api-5xx -n shop rollback.broxiva.com/reviewed-by='YOUR-USER-NAME'",
    ] {
        assert!(first.note.contains(part), "{}", first.note);
    }
}

#[test]
fn nothing_is_due_once_reviewed_or_without_an_incident() {
    let (request, _) = ended();
    let mut reviewed = request.clone();
    annotate(&mut reviewed, REVIEWED_BY, "dora@broxiva.com");
    assert_eq!(due(&reviewed), None);
    annotate(&mut reviewed, REVIEWED_BY, " ");
    assert!(due(&reviewed).is_some(), "nobody is no reviewer");
    let mut without = request.clone();
    without.status.as_mut().unwrap().incident = None;
    assert_eq!(due(&without), None);
    let mut open = request;
    open.status.as_mut().unwrap().outcome = None;
    assert_eq!(due(&open), None);
    let mut dry = Scene::new(&json!({"dryRun": true}));
    dry.settle();
    assert_eq!(due(&dry.request), None);
}
