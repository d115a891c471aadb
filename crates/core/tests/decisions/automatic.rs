//! What the policy says to a request that came by itself: every brake, in its order, and what a person can still do.

use crate::world::{Scene, approve, at, digest, replica_set, seen, sets, template, workload};
use jiff::Timestamp;
use rollback_api::ledger::{Claim, Rollback};
use rollback_api::status::BlockedBy;
use rollback_api::{AUTOMATIC, Reason, RequestState, RevisionLedgerSpec};
use rollback_core::evidence::trigger::{live_since, request_name};
use rollback_core::execution::phase::Phase;
use rollback_core::observed::{Deployment, Fetched, Pace};
use serde_json::{Value, json};

/// A request of an alert about what runs, in a namespace that leaves `HealthCheck` to the policy.
fn alert(more: &Value) -> Scene {
    let mut triggers = json!({"sources": ["alerts"], "approve": true});
    for (key, value) in more.as_object().unwrap() {
        triggers[key] = value.clone();
    }
    let mut scene = Scene::new(&json!({
        "targets": [{"kind": "Deployment", "name": "api", "from": {"templateDigest": digest("v2")}, "to": {"previous": {}}}],
        "reason": {"category": "HealthCheck", "summary": "it is down"},
        "trigger": {"source": "alerts", "alert": "Down", "id": "1", "startedAt": at(-60), "pendingSeconds": 0, "evidence": ["up == 0; token=abcdefabcdef123456"]},
    }))
    .with_policy(json!({"triggers": triggers}));
    let mut live = crate::world::deployment("v2");
    live["metadata"]["annotations"][AUTOMATIC] = json!("enabled");
    scene.seen().deployment = seen(live);
    scene.seen().replica_sets = history(at(-600));
    scene.observed.pace = pace(0, Some(false));
    scene
}

fn pace(recent: usize, paused: Option<bool>) -> Fetched<Pace> {
    Fetched::Found(Pace {
        recent,
        paused,
        ..Pace::default()
    })
}

/// `v1`, and `v2` made then.
fn history(made: Timestamp) -> Vec<rollback_core::observed::ReplicaSet> {
    let mut newer = replica_set("v2", "2");
    newer["metadata"]["creationTimestamp"] = json!(made.to_string());
    sets([replica_set("v1", "1"), newer])
}

/// A ledger that remembers one rollback.
fn remembers(from: &str, to: &str, when: Timestamp) -> Fetched<RevisionLedgerSpec> {
    Fetched::Found(RevisionLedgerSpec {
        target_ref: workload("api"),
        rollbacks: vec![Rollback {
            request: "before".to_owned(),
            request_uid: "other".to_owned(),
            spec_digest: String::new(),
            from_digest: digest(from),
            to_digest: digest(to),
            at: when,
            outcome: RequestState::Succeeded,
            automatic: true,
            verified: false,
        }],
        ..RevisionLedgerSpec::default()
    })
}

/// The brake, once the policy has spoken; `None` when it approved.
fn said(mut scene: Scene) -> Option<BlockedBy> {
    scene.settle_all();
    let status = scene.status();
    let said = status.auto_approval.expect("it has spoken");
    assert_eq!(said.plan_digest, status.plan.unwrap().digest);
    assert!(
        said.evidence[0].starts_with("up == 0"),
        "{:?}",
        said.evidence
    );
    assert!(!said.evidence[0].contains("abcdef"), "{:?}", said.evidence);
    assert_eq!(said.blocked_by.is_none(), status.approvals.len() == 1);
    if said.blocked_by.is_none() {
        assert!(scene.phase() > Phase::AwaitingApproval);
    } else {
        assert_eq!(scene.phase(), Phase::AwaitingApproval);
        assert!(scene.message("Ready").starts_with(&said.message));
    }
    said.blocked_by
}

#[test]
fn what_nothing_holds_back_is_approved_by_the_policy() {
    assert_eq!(said(alert(&json!({}))), None);
}

#[test]
fn each_brake_holds_back() {
    assert_eq!(
        said(alert(&json!({"approve": false}))),
        Some(BlockedBy::NotAllowed)
    );
    assert_eq!(
        said(alert(&json!({"paused": true}))),
        Some(BlockedBy::Paused)
    );
    assert_eq!(
        said(alert(&json!({"mostPerHour": 0}))),
        Some(BlockedBy::HourlyLimit)
    );
    assert_eq!(
        said(alert(&json!({"blameSeconds": 300}))),
        Some(BlockedBy::TooLate)
    );

    let mut scene = alert(&json!({}));
    scene.request.spec.reason.category = rollback_api::request::Category::ErrorRate;
    assert_eq!(said(scene), Some(BlockedBy::Category));

    for (paused, blocked_by) in [(Some(true), BlockedBy::Paused), (None, BlockedBy::Unknown)] {
        let mut scene = alert(&json!({}));
        scene.observed.pace = pace(0, paused);
        assert_eq!(said(scene), Some(blocked_by));
    }
    for (recent, blocked_by) in [(2, None), (3, Some(BlockedBy::HourlyLimit))] {
        let mut scene = alert(&json!({}));
        scene.observed.pace = pace(recent, Some(false));
        assert_eq!(said(scene), blocked_by);
    }
    for value in [json!("true"), json!(""), Value::Null] {
        let mut scene = alert(&json!({}));
        let mut live = crate::world::deployment("v2");
        live["metadata"]["annotations"][AUTOMATIC] = value;
        scene.seen().deployment = seen(live);
        assert_eq!(said(scene), Some(BlockedBy::NotOptedIn));
    }
}

#[test]
fn what_was_rolled_back_before_holds_back() {
    let mut scene = alert(&json!({}));
    scene.seen().ledger = remembers("v2", "v1", at(-86_400));
    assert_eq!(said(scene), Some(BlockedBy::PreviouslyRolledBack));

    let mut scene = alert(&json!({}));
    scene.seen().ledger = remembers("v0", "v1", at(-1000));
    assert_eq!(said(scene), Some(BlockedBy::CoolDown));

    let mut scene = alert(&json!({}));
    scene.seen().ledger = remembers("v0", "v1", at(-1900));
    assert_eq!(said(scene), None);

    // Long after the rollback that brought it, when nobody is called any more.
    let mut scene = alert(&json!({"escalateSeconds": 60, "coolDownSeconds": 0}));
    scene.seen().ledger = remembers("v0", "v2", at(-500));
    assert_eq!(said(scene), Some(BlockedBy::TargetIsRollback));
}

/// People may approve what the policy has not, two of them because a machine asked, and nothing that the policy said is said again.
#[test]
fn two_people_let_go_what_was_held_back() {
    let mut scene = alert(&json!({"approve": false}));
    scene.settle_all();
    let first = scene.status().auto_approval;
    scene.now = at(60);
    scene.settle_all();
    assert_eq!(scene.status().auto_approval, first);
    approve(&mut scene.request, "bob@broxiva.com");
    scene.settle_all();
    assert_eq!(scene.status().approvals.len(), 1);
    assert_eq!(
        scene.phase(),
        Phase::AwaitingApproval,
        "one may have raised the alert"
    );
    approve(&mut scene.request, "carol@broxiva.com");
    scene.until(Phase::Reverting);
    assert_eq!(scene.status().auto_approval, first);
}

/// Another policy makes another plan: the policy speaks again, and an approval by the old one is void.
#[test]
fn another_policy_speaks_again() {
    let mut scene = alert(&json!({"approve": false}));
    scene.settle_all();
    let open = alert(&json!({}));
    scene.observed.policy = open.observed.policy;
    scene.settle_all();
    assert!(scene.phase() > Phase::AwaitingApproval);
    assert_eq!(scene.status().auto_approval.unwrap().blocked_by, None);
}

/// While something is not read, nothing is said.
#[test]
fn what_is_not_known_is_waited_for() {
    let mut scene = alert(&json!({}));
    scene.observed.pace = Fetched::Unknown;
    scene.settle_all();
    assert_eq!(scene.status().auto_approval, None);
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
}

/// An approval by the policy counts for nothing while the guard has a hole.
#[test]
fn a_hole_in_the_guard_stops_the_policy_too() {
    let mut scene = alert(&json!({}));
    scene.observed.guard.holes = vec!["rollback-guard-create is missing".to_owned()];
    scene.settle_all();
    assert_eq!(scene.status().auto_approval, None);
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
}

#[test]
fn some_end_before_there_is_a_plan() {
    let ends = |mut scene: Scene, state: RequestState, reason: Reason| {
        scene.settle_all();
        let outcome = scene.status().outcome.expect("it has ended");
        assert_eq!(
            (outcome.result, outcome.reason),
            (state, reason),
            "{}",
            outcome.message
        );
    };
    ends(
        alert(&json!({"sources": ["others"]})),
        RequestState::Refused,
        Reason::SourceNotAllowed,
    );
    let mut unruled = alert(&json!({}));
    unruled.observed.policy = Fetched::Absent;
    ends(unruled, RequestState::Refused, Reason::SourceNotAllowed);
    let mut own = alert(&json!({}));
    own.request.spec.trigger.as_mut().unwrap().source = "controller".to_owned();
    ends(own, RequestState::Refused, Reason::SourceNotAllowed);

    let mut young = alert(&json!({}));
    young.seen().replica_sets = history(at(-30));
    ends(young, RequestState::Refused, Reason::AlertOlderThanVersion);
    let mut again = alert(&json!({}));
    again.seen().ledger = remembers("v0", "v2", at(-500));
    ends(again, RequestState::Refused, Reason::DidNotHelp);
    let mut gone = alert(&json!({}));
    let live = crate::world::deployment_of(&template("v3"));
    gone.seen().deployment = seen(live);
    ends(gone, RequestState::Superseded, Reason::NotLive);
}

/// A request of a person is none of the policy's business, whatever category it claims.
#[test]
fn a_person_is_not_approved_by_the_policy() {
    let mut scene = alert(&json!({}));
    scene.request.spec.trigger = None;
    scene.settle_all();
    assert_eq!(scene.status().auto_approval, None);
    assert!(scene.status().approvals.is_empty());
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
}

/// The name stays while the version is live, and is another one for another version, revision or category.
#[test]
fn one_version_has_one_name() {
    use rollback_api::request::Category;
    let name =
        |deployment: &Value, category| request_name(&Deployment(deployment.clone()), category);
    let live = crate::world::deployment("v2");
    let first = name(&live, Category::HealthCheck);
    assert!(
        first.starts_with("auto-api-") && first.len() == "auto-api-".len() + 12,
        "{first}"
    );
    let mut scaled = live.clone();
    scaled["spec"]["replicas"] = json!(9);
    scaled["metadata"]["generation"] = json!(77);
    assert_eq!(name(&scaled, Category::HealthCheck), first);
    let mut again = live.clone();
    again["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("4");
    let others = [
        name(&live, Category::ErrorRate),
        name(&crate::world::deployment("v3"), Category::HealthCheck),
        name(&again, Category::HealthCheck),
    ];
    assert!(!others.contains(&first), "{others:?}");
    let long = json!({"metadata": {"name": "a.".repeat(120), "uid": "u"}});
    let long = name(&long, Category::HealthCheck);
    assert!(long.len() <= 253 && !long.contains(".-"), "{long}");
}

/// What was gone back to is as young as that, however old its `ReplicaSet` is.
#[test]
fn a_version_is_as_old_as_its_rollout() {
    let live = Deployment(crate::world::deployment("v2"));
    assert_eq!(live_since(&live, &history(at(-600)), None), Some(at(-600)));
    assert_eq!(
        live_since(&live, &sets([replica_set("v1", "1")]), None),
        None
    );
    let mut newer = replica_set("v2", "4");
    newer["metadata"]["creationTimestamp"] = json!(at(-90_000).to_string());
    newer["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] = json!("2");
    let gone_back = sets([newer]);
    // The last progress of the Deployment: 13:50.
    assert_eq!(live_since(&live, &gone_back, None), Some(at(-600)));
    let mut ledger = RevisionLedgerSpec {
        target_ref: workload("api"),
        claim: None::<Claim>,
        ..RevisionLedgerSpec::default()
    };
    ledger.templates.push(rollback_api::ledger::Evidence {
        digest: digest("v2"),
        live_since: Some(at(-700)),
        ..Default::default()
    });
    assert_eq!(live_since(&live, &gone_back, Some(&ledger)), Some(at(-700)));
}

/// Where nobody says how long a rule waits, an alert soon after a release may be about the one before: the fix is not rolled
/// back without a person.
#[test]
fn a5_what_may_have_begun_before_waits_for_a_person() {
    let fired = |pending: Value, live_since: i64| {
        let mut scene = alert(&json!({}));
        let trigger = scene.request.spec.trigger.as_mut().unwrap();
        trigger.pending_seconds = serde_json::from_value(pending).unwrap();
        scene.seen().replica_sets = history(at(live_since));
        scene
    };
    // It fires four minutes after the fix.
    assert_eq!(said(fired(json!(null), -300)), Some(BlockedBy::Unknown));
    assert_eq!(said(fired(json!(0), -300)), None);
    assert_eq!(said(fired(json!(120), -300)), None);
    // Long after it, it is about it.
    assert_eq!(said(fired(json!(null), -1000)), None);
    // What the rule waited for lies before the fix.
    let mut before = fired(json!(600), -300);
    before.settle_all();
    let outcome = before.status().outcome.expect("it has ended");
    assert_eq!(
        outcome.reason,
        Reason::AlertOlderThanVersion,
        "{}",
        outcome.message
    );
}

/// `v1` and `v2` good, `v3` bad; a person goes back to `v2`, and the alert fires anew while it warms up.
#[test]
fn g1_what_a_person_undid_by_hand_is_for_people() {
    let undone = |to: Value, back: Timestamp| {
        let mut scene = alert(&json!({}));
        scene.request.spec.targets[0].to = serde_json::from_value(to).unwrap();
        let mut live = crate::world::deployment("v2");
        live["metadata"]["annotations"][AUTOMATIC] = json!("enabled");
        live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("4");
        live["status"]["conditions"] = json!([
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": back.to_string()},
            {"type": "Available", "status": "True", "lastTransitionTime": at(-9000).to_string()},
        ]);
        scene.seen().deployment = seen(live);
        let mut second = replica_set("v2", "4");
        second["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] = json!("2");
        scene.seen().replica_sets = sets([replica_set("v1", "1"), second, replica_set("v3", "3")]);
        scene
    };
    for to in [json!({"previous": {}}), json!({"lastKnownGood": {}})] {
        let mut scene = undone(to, at(-120));
        scene.settle_all();
        let outcome = scene.status().outcome.expect("it has ended");
        assert_eq!(outcome.reason, Reason::DidNotHelp, "{}", outcome.message);
        assert!(outcome.message.contains("by hand"), "{}", outcome.message);
    }
    // Long after: what was undone is not chosen, and a person decides.
    let mut late = undone(json!({"previous": {}}), at(-4000));
    late.settle_all();
    let status = late.status();
    let plan = status.plan.expect("there is a plan");
    assert_eq!(plan.targets[0].to.digest, digest("v1"));
    assert!(status.auto_approval.unwrap().blocked_by.is_some());
    // A person who asks may go there.
    let mut person = undone(json!({"previous": {}}), at(-4000));
    person.request.spec.trigger = None;
    person.settle_all();
    assert_eq!(
        person.status().plan.unwrap().targets[0].to.digest,
        digest("v3")
    );
}

/// A person undid the version, and whatever deploys brought it again: nobody went back to it, and what was gone back to
/// is the way back.
#[test]
fn g1_what_came_again_after_a_person_undid_it_goes_back_to_what_they_chose() {
    for to in [json!({"previous": {}}), json!({"lastKnownGood": {}})] {
        let mut scene = alert(&json!({}));
        scene.request.spec.targets[0].to = serde_json::from_value(to.clone()).unwrap();
        let mut live = crate::world::deployment("v2");
        live["metadata"]["annotations"][AUTOMATIC] = json!("enabled");
        live["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!("5");
        live["status"]["conditions"] = json!([
            {"type": "Progressing", "status": "True", "reason": "ReplicaSetUpdated", "lastUpdateTime": at(-120).to_string()},
            {"type": "Available", "status": "True", "lastTransitionTime": at(-9000).to_string()},
        ]);
        scene.seen().deployment = seen(live);
        let of = |version: &str, number: &str, before: &str| {
            let mut set = replica_set(version, number);
            set["metadata"]["annotations"]["deployment.kubernetes.io/revision-history"] =
                json!(before);
            set
        };
        scene.seen().replica_sets = sets([
            replica_set("v0", "1"),
            of("v1", "4", "2"),
            of("v2", "5", "3"),
        ]);
        scene.settle_all();
        let status = scene.status();
        match status.plan {
            Some(plan) => assert_eq!(plan.targets[0].to.digest, digest("v1"), "{to}"),
            // Nothing is known to be good.
            None => assert_eq!(status.outcome.unwrap().reason, Reason::NoKnownGood, "{to}"),
        }
        if to.get("previous").is_some() {
            assert!(scene.status().plan.is_some(), "{to}");
        }
    }
}

/// One pod of fifty is ill: that is not the version. The same share counts as in the watch.
#[test]
fn a8_one_pod_of_many_waits_for_a_person() {
    let one = |desired: i64, replicas: i64, updated: i64, available: i64, pod: Option<&str>| {
        let mut scene = alert(&json!({}));
        scene.request.spec.trigger.as_mut().unwrap().pod = pod.map(str::to_owned);
        let mut live = crate::world::deployment("v2");
        live["metadata"]["annotations"][AUTOMATIC] = json!("enabled");
        live["spec"]["replicas"] = json!(desired);
        crate::world::set_counts(&mut live, replicas, updated, available);
        scene.seen().deployment = seen(live);
        said(scene)
    };
    let pod = Some("api-7d9c8b6f5-x2k4q");
    assert_eq!(one(50, 50, 50, 49, pod), Some(BlockedBy::FewPods));
    assert_eq!(one(50, 50, 50, 26, pod), Some(BlockedBy::FewPods));
    assert_eq!(one(50, 50, 50, 25, pod), None);
    assert_eq!(one(50, 50, 50, 24, pod), None);
    // The rollout has only begun: the one new pod is ill.
    assert_eq!(one(4, 5, 1, 4, pod), None);
    // The ill ones may be old: nobody can tell.
    assert_eq!(one(4, 5, 2, 4, pod), Some(BlockedBy::FewPods));
    assert_eq!(one(4, 5, 3, 4, pod), Some(BlockedBy::FewPods));
    assert_eq!(one(6, 7, 4, 2, pod), None);
    // One of one.
    assert_eq!(one(1, 1, 1, 0, pod), None);
    // What is about no pod in particular, for example of the error rate.
    assert_eq!(one(50, 50, 50, 49, None), None);
}

/// Whether pods are ready says nothing of errors and of slowness.
#[test]
fn a8_a_pod_that_answers_with_errors_may_be_ready() {
    use rollback_api::request::Category;
    for (category, expected) in [
        (Category::ErrorRate, None),
        (Category::Latency, None),
        (Category::HealthCheck, Some(BlockedBy::FewPods)),
    ] {
        let mut scene = alert(&json!({})).with_policy(json!({
            "triggers": {"sources": ["alerts"], "approve": true},
            "decisionMatrix": [
                {"category": "ErrorRate", "approval": "Automatic"},
                {"category": "Latency", "approval": "Automatic"},
            ],
        }));
        scene.request.spec.reason.category = category;
        scene.request.spec.trigger.as_mut().unwrap().pod = Some("api-7d9c8b6f5-x2k4q".to_owned());
        let mut live = crate::world::deployment("v2");
        live["metadata"]["annotations"][AUTOMATIC] = json!("enabled");
        live["spec"]["replicas"] = json!(3);
        crate::world::set_counts(&mut live, 3, 3, 3);
        scene.seen().deployment = seen(live);
        assert_eq!(said(scene), expected, "{category:?}");
    }
    // The only one of its version, whatever it complains of.
    let mut scene = alert(&json!({}));
    scene.request.spec.trigger.as_mut().unwrap().pod = Some("api-7d9c8b6f5-x2k4q".to_owned());
    let mut live = crate::world::deployment("v2");
    live["metadata"]["annotations"][AUTOMATIC] = json!("enabled");
    live["spec"]["replicas"] = json!(1);
    crate::world::set_counts(&mut live, 1, 1, 1);
    scene.seen().deployment = seen(live);
    assert_eq!(said(scene), None);
}
