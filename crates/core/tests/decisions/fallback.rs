//! What is done when the version to go back to is not well either: what the policy says, once, and never about what
//! nobody could tell.

use crate::world::{
    Move, Scene, approve, at, deployment, digest, evidence, ledger_of, replica_set, seen, sets,
    template,
};
use rollback_api::ledger::Verdict;
use rollback_api::status::{Effect, FallbackWhen, Source};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::{Revert, Step};
use rollback_core::observed::{Access, Fetched, Rejection};
use serde_json::{Value, json};

/// A policy with one check and this in its verification.
fn checked(more: &Value) -> Value {
    let mut verification = json!({"http": [
        {"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}
    ]});
    for (key, value) in more.as_object().unwrap() {
        verification[key] = value.clone();
    }
    json!({"verification": verification})
}

/// `v3` runs and is bad; `v2` and `v1` are in the history.
fn three_versions(policy: &Value) -> Scene {
    let mut scene = Scene::default().with_policy(policy.clone());
    let seen_target = scene.of("api");
    seen_target.deployment = seen(deployment("v3"));
    seen_target.replica_sets = sets([
        replica_set("v3", "3"),
        replica_set("v2", "2"),
        replica_set("v1", "1"),
    ]);
    scene
}

fn try_older() -> Scene {
    three_versions(&checked(&json!({"onFailure": "TryOlder"})))
}

/// The first try is up, and its check says no.
fn unwell(mut scene: Scene) -> Scene {
    scene = scene.rolled_out();
    scene.probe(500);
    scene.pass();
    scene.now = at(400);
    scene
}

fn live(scene: &Scene) -> String {
    let deployment = scene.target("api").deployment.found().unwrap();
    deployment.template().digest()
}

fn verdicts(scene: &Scene) -> Vec<(String, Verdict)> {
    let ledger = scene.target("api").ledger.found().unwrap();
    let templates = ledger.templates.iter();
    templates
        .map(|entry| (entry.digest.clone(), entry.verdict))
        .collect()
}

#[test]
fn an_older_version_is_in_the_plan_and_its_digest_only_when_the_policy_asks() {
    let mut scene = try_older();
    scene.until(Phase::AwaitingApproval);
    let plan = scene.status().plan.unwrap();
    let [older] = plan.targets[0].fallbacks.as_slice() else {
        panic!("{:?}", plan.targets[0].fallbacks);
    };
    assert_eq!(older.when, FallbackWhen::Unwell);
    assert_eq!(
        (older.to.revision, &older.to.digest),
        (Some(1), &digest("v1"))
    );
    let mut other = three_versions(&checked(&json!({})));
    other.until(Phase::AwaitingApproval);
    assert!(other.status().plan.unwrap().targets[0].fallbacks.is_empty());
    // Whoever approved one fallback has not approved another.
    let mut changed = plan.clone();
    changed.targets[0].fallbacks.clear();
    let digest_of = |plan: &rollback_api::status::Plan| {
        rollback_core::plan::digest("u", 0, &plan.rules, &plan.guard, None, &plan.targets)
    };
    assert_ne!(digest_of(&plan), digest_of(&changed));
}

#[test]
fn an_older_version_that_is_bad_or_the_same_is_not_tried() {
    let mut scene = try_older();
    let mut bad = evidence(&template("v1"), Verdict::Bad);
    bad.bad_until = Some(at(100_000));
    scene.of("api").ledger = Fetched::Found(ledger_of([bad]));
    scene.until(Phase::AwaitingApproval);
    assert!(scene.status().plan.unwrap().targets[0].fallbacks.is_empty());
}

#[test]
fn the_older_version_is_tried_and_does() {
    let mut scene = unwell(try_older());
    let decision = scene.pass_all();
    assert!(decision.steps.is_empty(), "the intent comes first");
    assert_eq!(scene.state(), "RollingOut");
    scene.settle();
    assert_eq!(live(&scene), digest("v1"));
    scene.roll_out();
    scene.settle();
    assert_eq!(scene.state(), "Verifying");
    scene.probe(200);
    let outcome = scene.ends(RequestState::Succeeded, Reason::RolledBack);
    assert!(outcome.message.contains("not well either"), "{outcome:?}");
    assert_eq!(
        verdicts(&scene),
        [
            (digest("v3"), Verdict::Bad),
            (digest("v1"), Verdict::Good),
            (digest("v2"), Verdict::Bad),
        ]
    );
    let ledger = scene.target("api").ledger.found().unwrap();
    assert_eq!(ledger.rollbacks.last().unwrap().to_digest, digest("v1"));
}

#[test]
fn it_is_tried_once() {
    let mut scene = unwell(try_older());
    scene.settle();
    scene.roll_out();
    scene.settle();
    scene.probe(500);
    scene.pass();
    scene.now = at(2000);
    scene.ends(RequestState::Failed, Reason::ChecksFailed);
    assert_eq!(live(&scene), digest("v1"), "it stays where it is");
    assert_eq!(
        verdicts(&scene),
        [
            (digest("v3"), Verdict::Bad),
            (digest("v2"), Verdict::Bad),
            (digest("v1"), Verdict::Bad),
        ]
    );
}

#[test]
fn a_crash_after_any_pass_changes_nothing() {
    // Each decision is made twice from what is stored: the second makes the same write or none.
    let mut scene = unwell(try_older());
    let mut reverts = 0;
    for _ in 0..12 {
        let lost = scene.clone().commit();
        let taken = scene.commit();
        assert_eq!(lost, taken);
        if let Move::Write(Step::Revert(_)) = &taken {
            reverts += 1;
            // The pass died after the intent and before the write: the next one makes it.
            let again = scene.commit();
            assert_eq!(again.name(), "Revert");
        }
        scene.take(&taken);
    }
    assert_eq!(reverts, 1);
    assert_eq!(live(&scene), digest("v1"));
}

#[test]
fn what_nobody_could_tell_is_escalated_and_nothing_is_tried() {
    for on_failure in ["TryOlder", "Restore", "Escalate"] {
        let mut scene = three_versions(&checked(&json!({"onFailure": on_failure}))).rolled_out();
        scene.now = at(400);
        scene.ends(RequestState::Failed, Reason::HealthUnknown);
        assert_eq!(live(&scene), digest("v2"), "{on_failure}");
    }
}

#[test]
fn restore_brings_back_what_was_there() {
    let mut scene = unwell(three_versions(&checked(&json!({"onFailure": "Restore"}))));
    scene.settle();
    scene.roll_out();
    let outcome = scene.ends(RequestState::Restored, Reason::RestoredFromBackup);
    assert!(outcome.message.contains("not well either"), "{outcome:?}");
    assert_eq!(live(&scene), digest("v3"));
    // The version that failed its checks is not the good one either.
    assert_eq!(verdicts(&scene), [(digest("v2"), Verdict::Bad)]);
}

#[test]
fn escalate_leaves_it_as_it_is() {
    let mut scene = unwell(three_versions(&checked(&json!({}))));
    scene.ends(RequestState::Failed, Reason::ChecksFailed);
    assert_eq!(live(&scene), digest("v2"));
}

#[test]
fn somebody_who_deploys_meanwhile_is_not_overwritten() {
    let mut scene = unwell(try_older());
    scene.pass();
    scene.deploy(&template("v4"));
    scene.ends(RequestState::Superseded, Reason::TemplateChanged);
    assert_eq!(live(&scene), digest("v4"));
    let mut scene = unwell(try_older());
    scene.pass();
    scene.deploy(&template("v3"));
    scene.ends(RequestState::Failed, Reason::Overwritten);
}

#[test]
fn who_may_not_any_more_and_what_is_gone_end_it_where_it_is() {
    let denied = Access::Denied {
        who: "bob".to_owned(),
        what: "patch deployments.apps/api".to_owned(),
    };
    let mut scene = unwell(try_older());
    scene.pass();
    scene.of("api").access = Fetched::Found(denied);
    let outcome = scene.ends(RequestState::Failed, Reason::ChecksFailed);
    assert!(outcome.message.contains("bob may not patch"), "{outcome:?}");
    // The history lost it.
    let mut scene = unwell(try_older());
    scene.pass();
    scene.of("api").replica_sets = sets([replica_set("v2", "4")]);
    let outcome = scene.ends(RequestState::Failed, Reason::ChecksFailed);
    assert!(outcome.message.contains("kept nowhere"), "{outcome:?}");
    assert_eq!(live(&scene), digest("v2"));
}

#[test]
fn a_refusal_of_the_second_write_is_final() {
    let mut scene = unwell(try_older());
    scene.pass();
    let Move::Write(Step::Revert(Revert { patch, .. })) = scene.commit() else {
        panic!("no write");
    };
    scene.of("api").rejection = Some(Rejection {
        patch,
        code: 403,
        message: "quota".to_owned(),
    });
    let outcome = scene.ends(RequestState::Failed, Reason::ChecksFailed);
    assert!(outcome.message.contains("HTTP 403"), "{outcome:?}");
    // The first write was made, and what it wrote runs.
    assert_eq!(outcome.effect, Effect::Written, "{outcome:?}");
}

#[test]
fn an_image_that_is_known_to_be_good_takes_the_place_of_one_that_cannot_be_pulled() {
    let policy = json!({"remedies": {"fallbackImages": [
        {"targetRef": {"kind": "Deployment", "name": "api"}, "container": "api", "image": "shop/api:known-good"},
        {"targetRef": {"name": "other"}, "container": "api", "image": "shop/api:other"},
    ]}});
    let mut scene = three_versions(&policy);
    scene.until(Phase::AwaitingApproval);
    let plan = scene.status().plan.unwrap();
    let [image] = plan.targets[0].fallbacks.as_slice() else {
        panic!("{:?}", plan.targets[0].fallbacks);
    };
    assert_eq!(
        (image.when, image.source),
        (FallbackWhen::ImagePull, Source::NewImage)
    );
    approve(&mut scene.request, "bob@broxiva.com");
    scene.until(Phase::RollingOut);
    // Trouble of another kind does not call for it.
    let mut crashing = scene.clone();
    crashing.now = at(4000);
    crashing.ends(RequestState::Failed, Reason::RolloutTimedOut);
    let set = scene.target("api").replica_sets[1].clone();
    scene.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        crate::world::set_counts(d, 3, 1, 2);
    });
    scene.of("api").pods = vec![json!({
        "metadata": {"name": "api-1", "ownerReferences": [{"controller": true, "uid": set.uid()}]},
        "status": {"phase": "Pending", "containerStatuses": [{"name": "api", "image": "shop/api:v2",
            "state": {"waiting": {"reason": "ErrImagePull", "message": "not found"}}}]},
    })];
    scene.pass();
    scene.now = at(1000);
    scene.settle();
    let deployment = scene.deployment().clone();
    assert_eq!(
        deployment
            .pointer("/spec/template/spec/containers/0/image")
            .unwrap(),
        "shop/api:known-good"
    );
    scene.of("api").pods.clear();
    scene.roll_out();
    let sets_now = {
        let mut known = replica_set("v2", "5");
        known["metadata"]["name"] = json!("api-known");
        known["metadata"]["uid"] = json!("uid of api-known");
        known["spec"]["template"] = deployment["spec"]["template"].clone();
        sets([known])
    };
    scene.of("api").replica_sets = sets_now;
    let outcome = scene.ends(RequestState::Succeeded, Reason::Unverified);
    assert!(outcome.message.contains("cannot be pulled"), "{outcome:?}");
}
