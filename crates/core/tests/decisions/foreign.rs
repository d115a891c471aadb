//! What others do to a Deployment between the plan and the end stands, and is never overwritten.

use crate::world::{CAUSE, Scene, deployment, replica_set, seen, sets, template};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::observed::{Access, Deployment, Fetched};
use serde_json::{Value, json};

#[test]
fn somebody_else_was_faster() {
    for mut scene in [Scene::default(), Scene::default().approved()] {
        scene.until(scene.phase().max(Phase::AwaitingApproval));
        scene.deploy(&template("v1"));
        let outcome = scene.ends(RequestState::Superseded, Reason::NotLive);
        assert!(outcome.message.contains("somebody else was faster"));
        assert_eq!(scene.status().targets[0].reverted_at, None);
        assert!(
            scene.observed.targets[0]
                .ledger
                .found()
                .is_none_or(|ledger| ledger.rollbacks.is_empty())
        );
    }
    // With our change-cause on it, it may have been a late write of ours or somebody who copied that, when the intent was
    // taken back meanwhile: nothing follows from it.
    let mut scene = Scene::default().intended();
    scene.observed.guard.holes = vec!["a policy is gone".to_owned()];
    scene.pass();
    assert_eq!(scene.status().targets[0].revert, None);
    scene.deploy(&template("v1"));
    scene.edit(|d| d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(CAUSE));
    let outcome = scene.ends(RequestState::Superseded, Reason::NotLive);
    assert!(
        outcome.message.contains("became void"),
        "{}",
        outcome.message
    );
    // A request without a UID wrote nothing.
    let mut scene = Scene::default().approved();
    scene.request.metadata.uid = None;
    assert!(
        !Deployment(json!({"metadata": {"annotations": {"kubernetes.io/change-cause": "x"}}}))
            .was_reverted_by("")
    );
}

#[test]
fn another_version_supersedes_at_every_point_before_the_write() {
    let mut awaiting = Scene::default();
    awaiting.until(Phase::AwaitingApproval);
    for (mut scene, reason) in [
        (awaiting, Reason::NotLive),
        (Scene::default().approved(), Reason::NotLive),
        (Scene::default().intended(), Reason::TemplateChanged),
    ] {
        scene.deploy(&template("v3"));
        scene.ends(RequestState::Superseded, reason);
        let intended = scene.status().targets[0].revert.is_some();
        let remembered = scene.observed.targets[0]
            .ledger
            .found()
            .map_or(0, |ledger| ledger.rollbacks.len());
        // After the intent the write may have been made and overwritten: better once too often.
        assert_eq!(remembered, usize::from(intended));
        assert_eq!(scene.deployment()["spec"]["template"], template("v3"));
        assert!(
            scene.observed.targets[0]
                .ledger
                .found()
                .is_none_or(|ledger| ledger.claim.is_none())
        );
    }
}

#[test]
fn a_write_that_somebody_changed_again_is_not_repeated() {
    let written = {
        let mut scene = Scene::default().intended();
        let step = scene.decide();
        scene.take(&step);
        scene
    };
    // The bad version is back before we have looked, as with a GitOps tool; its own annotations are not.
    let mut kept = written.clone();
    kept.deploy(&template("v2"));
    // Or with all its annotations, but the Deployment controller has copied ours to the ReplicaSet.
    let mut copied = written.clone();
    copied.deploy(&template("v2"));
    copied
        .edit(|d| d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!("deploy v2"));
    copied.observed.targets[0].replica_sets[0].0["metadata"]["annotations"]["kubernetes.io/change-cause"] =
        json!(CAUSE);
    // Or another version.
    let mut other = written;
    other.deploy(&template("v3"));
    for (mut scene, state, reason) in [
        (kept, RequestState::Failed, Reason::Overwritten),
        (copied, RequestState::Failed, Reason::Overwritten),
        (other, RequestState::Superseded, Reason::TemplateChanged),
    ] {
        let before = scene.deployment().clone();
        let outcome = scene.ends(state, reason);
        assert!(
            outcome.message.contains("after it was rolled back"),
            "{}",
            outcome.message
        );
        assert_eq!(scene.deployment(), &before);
        let rollbacks = &scene.observed.targets[0].ledger.found().unwrap().rollbacks;
        assert_eq!(
            rollbacks.len(),
            1,
            "it is remembered, so that the request made again does nothing"
        );
        assert_eq!(rollbacks[0].outcome, state);
    }
    // What a `ReplicaSet` of somebody else says is nothing.
    let mut scene = Scene::default().intended();
    let mut foreign = replica_set("v0", "7");
    foreign["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(CAUSE);
    foreign["metadata"]["ownerReferences"][0]["uid"] = json!("d-2");
    scene.observed.targets[0]
        .replica_sets
        .extend(sets([foreign]));
    assert_eq!(scene.decide().name(), "Revert");
}

/// Two changes of others between the write and the next look can wash away every trace of it.
#[test]
fn a_write_without_a_trace_is_not_repeated() {
    let mut scene = Scene::default().intended();
    let step = scene.decide();
    scene.take(&step);
    for version in ["v1", "v2"] {
        scene.deploy(&template(version));
        let cause = json!(format!("deploy {version}"));
        scene.edit(|d| d["metadata"]["annotations"]["kubernetes.io/change-cause"] = cause);
    }
    assert_ne!(scene.decide().name(), "Revert");
    let outcome = scene.ends(RequestState::Superseded, Reason::TemplateChanged);
    assert!(
        outcome.message.contains("nobody can tell"),
        "{}",
        outcome.message
    );
}

#[test]
fn case_17_53_another_deployment_of_this_name_is_gone() {
    let mut awaiting = Scene::default();
    awaiting.until(Phase::AwaitingApproval);
    for mut scene in [
        awaiting,
        Scene::default().approved(),
        Scene::default().intended(),
    ] {
        let intended = scene.phase() == Phase::Reverting;
        for again in [Fetched::Absent, {
            let mut object = deployment("v2");
            object["metadata"]["uid"] = json!("d-2");
            seen(object)
        }] {
            let mut scene = scene.clone();
            scene.observed.targets[0].deployment = again;
            let outcome = scene.ends(RequestState::Failed, Reason::TargetGone);
            assert_eq!(
                outcome.message.contains("Nothing was changed"),
                !intended,
                "{}",
                outcome.message
            );
        }
        scene.observed.targets[0].deployment = Fetched::Unknown;
        scene.waits(1);
    }
}

#[test]
fn case_36_38_64_a_deployment_that_must_not_be_touched_any_more() {
    for scene in [Scene::default().approved(), Scene::default().intended()] {
        for (reason, edit) in [
            (
                Reason::Paused,
                (|d| d["spec"]["paused"] = json!(true)) as fn(&mut Value),
            ),
            (Reason::DeploymentDeleting, |d| {
                d["metadata"]["deletionTimestamp"] = json!("now");
            }),
            (Reason::LegacyRollback, |d| {
                d["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = json!("0");
            }),
        ] {
            let mut scene = scene.clone();
            scene.edit(edit);
            scene.ends(RequestState::Refused, reason);
            assert_eq!(scene.deployment()["spec"]["template"], template("v2"));
        }
    }
    // While people think it may be paused: they may still resume it.
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    scene.edit(|d| d["spec"]["paused"] = json!(true));
    scene.settle();
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
}

#[test]
fn who_may_not_do_it_may_not_have_it_done() {
    for mut scene in [Scene::default().approved(), Scene::default().intended()] {
        scene.observed.targets[0].access = Fetched::Found(Access::Denied {
            who: "eve\u{1b}".to_owned(),
            what: "patch deployments.apps/api".to_owned(),
        });
        let outcome = scene.ends(RequestState::Refused, Reason::Forbidden);
        assert!(
            outcome
                .message
                .starts_with("eve  may not patch deployments.apps/api, so"),
            "{}",
            outcome.message
        );
    }
}

#[test]
fn case_21_65_the_revision_that_was_approved_must_still_be_it() {
    let claimed = {
        let mut scene = Scene::default().approved();
        scene.pass();
        scene
    };
    for scene in [claimed, Scene::default().intended()] {
        let mut pruned = scene.clone();
        pruned.observed.targets[0].replica_sets.remove(0);
        let outcome = pruned.ends(RequestState::Refused, Reason::HistoryPruned);
        assert!(outcome.message.contains("revisionHistoryLimit"));
        // One with the same name, number and template, but made again, is not it.
        let mut again = scene.clone();
        again.observed.targets[0].replica_sets[0].0["metadata"]["uid"] = json!("rs-again");
        again.ends(RequestState::Refused, Reason::HistoryPruned);
        let mut dying = scene.clone();
        dying.observed.targets[0].replica_sets[0].0["metadata"]["deletionTimestamp"] = json!("now");
        dying.ends(RequestState::Refused, Reason::HistoryPruned);
        let mut edited = scene.clone();
        edited.observed.targets[0].replica_sets[0].0["spec"]["template"]["spec"]["containers"][0]
            ["image"] = json!("evil");
        let outcome = edited.ends(RequestState::Refused, Reason::DigestMismatch);
        assert!(outcome.message.contains("api-v1"));
        // Renumbered, it is still it.
        let mut renumbered = scene;
        renumbered.observed.targets[0].replica_sets[0].0["metadata"]["annotations"] =
            json!({"deployment.kubernetes.io/revision": "17"});
        renumbered.until(Phase::RollingOut);
    }
}

#[test]
fn case_60_changed_again_while_it_is_checked() {
    let checks = json!({"verification": {"http": [{"name": "live", "port": 1, "path": "/"}]}});
    let scene = Scene::default().with_policy(checks).rolled_out();
    let mut superseded = scene.clone();
    superseded.deploy(&template("v3"));
    superseded.ends(RequestState::Superseded, Reason::TemplateChanged);
    // The bad version again: who did it will probably do it again.
    let mut back = scene.clone();
    back.deploy(&template("v2"));
    back.clone().ends(RequestState::Failed, Reason::Overwritten);
    back.edit(|d| {
        let entry = |manager: &str, time: &str, fields: Value| {
            json!({"manager": manager, "operation": "Apply", "time": time, "fieldsV1": fields})
        };
        let template = json!({"f:spec": {"f:template": {}}});
        let mut status = entry("kube-controller-manager", "2026-11-23T14:09:00Z", template.clone());
        status["subresource"] = json!("status");
        d["metadata"]["managedFields"] = json!([
            entry("rollback-controller", "2026-11-23T14:08:00Z", template.clone()),
            entry("helm", "2026-11-23T14:01:00Z", template.clone()),
            entry("argocd-controller", "2026-11-23T14:02:00Z", template),
            entry("kubectl-scale", "2026-11-23T14:03:00Z", json!({"f:spec": {"f:replicas": {}}})),
            status,
        ]);
    });
    let outcome = back.ends(RequestState::Failed, Reason::Overwritten);
    assert!(
        outcome.message.starts_with(
            "Field manager argocd-controller brought the bad version of Deployment api back"
        ),
        "{}",
        outcome.message
    );
    let mut gone = scene.clone();
    gone.observed.targets[0].deployment = Fetched::Absent;
    gone.ends(RequestState::Failed, Reason::TargetGone);
    // Pods that come and go are the business of the checks. A Deployment that cannot be read is no ground for an end, and
    // nothing is counted that was not read beside it.
    let blurred = {
        let mut object = scene.deployment().clone();
        crate::world::set_counts(&mut object, 3, 3, 1);
        seen(object)
    };
    for (blur, rounds) in [(Fetched::Unknown, 0), (blurred, 1)] {
        let mut scene = scene.clone();
        scene.observed.targets[0].deployment = blur;
        scene.probe(200);
        scene.pass();
        assert_eq!(scene.phase(), Phase::Verifying);
        assert_eq!(
            scene.status().targets[0]
                .verification
                .clone()
                .unwrap()
                .checks[0]
                .rounds,
            rounds
        );
    }
}
