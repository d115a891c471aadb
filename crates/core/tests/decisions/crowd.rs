//! How many requests of a namespace may be open, and whose.

use crate::world::{Scene, at, request};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use rollback_api::request::Trigger;
use rollback_api::status::{Effect, Outcome};
use rollback_api::{Reason, RequestState, RollbackRequest, RollbackRequestStatus};
use rollback_core::decide::crowd::{Crowd, no_place};
use serde_json::json;

/// An open request of a person, or one that came by itself.
fn open(name: &str, second: i64, by_itself: bool) -> RollbackRequest {
    let mut request = request(&json!({}));
    request.metadata.name = Some(name.to_owned());
    if let Some(by) = &mut request.spec.requested_by {
        by.username = format!("who-asks-for-{name}");
    }
    request.metadata.creation_timestamp = Some(Time(at(second)));
    request.spec.trigger = by_itself.then(|| Trigger {
        source: "alertmanager".to_owned(),
        alert: "HighErrorRate".to_owned(),
        id: name.to_owned(),
        started_at: at(second),
        pending_seconds: Some(0),
        pod: None,
        evidence: Vec::new(),
    });
    request
}

fn refusal(own: &RollbackRequest, all: &[RollbackRequest], most: usize) -> Option<Outcome> {
    let ending = no_place(own, Crowd::before(own, all.iter(), most), at(1000))?;
    Some(ending.with(Effect::None))
}

#[test]
fn who_came_first_keeps_the_place() {
    let all: Vec<RollbackRequest> = (0..6)
        .map(|number| open(&format!("r{number}"), i64::from(number), false))
        .collect();
    let refused: Vec<bool> = all
        .iter()
        .map(|own| refusal(own, &all, 4).is_some())
        .collect();
    assert_eq!(refused, [false, false, false, true, true, true]);
    // Of the same second, the name tells.
    let same = [open("b", 1, false), open("a", 1, false)];
    assert!(refusal(&same[0], &same, 1).is_some());
    assert!(refusal(&same[1], &same, 1).is_none());
}

#[test]
fn what_came_by_itself_keeps_no_person_out() {
    let mut all: Vec<RollbackRequest> = (0..50)
        .map(|number| open(&format!("auto-{number:02}"), number, true))
        .collect();
    let accepted = all
        .iter()
        .filter(|own| refusal(own, &all, 4).is_none())
        .count();
    assert_eq!(accepted, 2, "they have half of the places");
    let person = open("person", 100, false);
    all.push(person.clone());
    assert_eq!(refusal(&person, &all, 4), None);
    // Places that people have are not for alerts.
    let people: Vec<RollbackRequest> = (0..4)
        .map(|number| open(&format!("r{number}"), number, false))
        .collect();
    assert!(refusal(&open("auto", 9, true), &people, 4).is_some());
    assert!(refusal(&open("auto", 9, true), &people[..3], 4).is_none());
}

/// Who asks for many keeps neither others nor alerts from asking.
#[test]
fn nobody_takes_all_places() {
    let by = |mut request: RollbackRequest, who: &str| {
        request.spec.requested_by.as_mut().unwrap().username = who.to_owned();
        request
    };
    let many: Vec<RollbackRequest> = (0..100)
        .map(|number| by(open(&format!("m{number:03}"), number, false), "mallory"))
        .collect();
    let accepted: Vec<RollbackRequest> = many
        .iter()
        .filter(|own| refusal(own, &many, 100).is_none())
        .cloned()
        .collect();
    assert_eq!(accepted.len(), 50);
    let mut all = accepted;
    let rita = by(open("rita", 200, false), "rita");
    assert_eq!(refusal(&rita, &all, 100), None);
    // With a friend they take what people may have; alerts have places all the same.
    all.extend((0..25).map(|number| by(open(&format!("f{number}"), 150, false), "friend")));
    assert!(refusal(&rita, &all, 100).is_some());
    assert_eq!(refusal(&open("auto", 200, true), &all, 100), None);
}

#[test]
fn only_what_is_open_in_the_same_namespace_counts() {
    let own = open("own", 9, false);
    let mut elsewhere = open("elsewhere", 1, false);
    elsewhere.metadata.namespace = Some("other".to_owned());
    let mut ended = open("ended", 1, false);
    ended.status = Some(RollbackRequestStatus {
        outcome: Some(Outcome {
            effect: Effect::None,
            result: RequestState::Refused,
            reason: Reason::NoHistory,
            message: String::new(),
            by: None,
            at: at(2),
        }),
        ..RollbackRequestStatus::default()
    });
    let all = [elsewhere, ended, own.clone()];
    assert_eq!(refusal(&own, &all, 1), None);
}

#[test]
fn the_refusal_says_the_limit_and_what_to_do() {
    let mut scene = Scene::new(&json!({}));
    scene.observed.crowd = Some(Crowd {
        most: 100,
        by_people: 99,
        by_themselves: 7,
        by_the_same: 3,
    });
    let status = scene.decided();
    let outcome = status.outcome.unwrap();
    assert_eq!(
        (outcome.result, outcome.reason),
        (RequestState::Refused, Reason::TooManyOpenRequests)
    );
    for part in [
        "106 requests",
        "7 came by themselves",
        "3 are of the same requester",
        "at most 75 of those that people asked for",
        "kubectl get rbr",
    ] {
        assert!(
            outcome.message.contains(part),
            "{part}: {}",
            outcome.message
        );
    }
    assert!(status.plan.is_none());
}
