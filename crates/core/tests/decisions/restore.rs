//! The way back: `onFailure: Restore` brings back what each Deployment had, once, and never over what others did.

use crate::world::{
    DEPLOYMENT, Move, REQUEST, Scene, at, deployment, deployment_in, digest, patch, seen, template,
    template_in,
};
use rollback_api::{Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::{Revert, Step};
use rollback_core::observed::{Deployment, Fetched, Rejection};
use serde_json::{Value, json};

/// A single Deployment that did not come back; the next pass takes the way back.
fn failed() -> Scene {
    let mut scene = Scene::new(&json!({"rollout": {"onFailure": "Restore"}})).reverted();
    scene.roll_on();
    scene.now = at(400);
    scene.commit();
    assert_eq!(scene.phase(), Phase::Restoring);
    assert_eq!(scene.state(), "Restoring");
    scene
}

/// The same with the intent to write stored, and nothing written.
fn intended() -> Scene {
    let mut scene = failed();
    assert_eq!(scene.commit().name(), "Revert");
    scene
}

fn three(rollout: &Value) -> Scene {
    let mut all = json!({"parallelism": 1, "onFailure": "Restore"});
    for (key, value) in rollout.as_object().unwrap() {
        all[key] = value.clone();
    }
    Scene::many(&["api", "web", "worker"], &json!({"rollout": all}))
}

trait RollOn {
    fn roll_on(&mut self);
}

impl RollOn for Scene {
    /// The Deployment controller has seen the template, and its pods do not come up.
    fn roll_on(&mut self) {
        self.edit(|d| {
            d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
            crate::world::set_counts(d, 3, 3, 0);
        });
    }
}

#[test]
fn the_way_back_step_by_step() {
    let mut scene = failed();
    assert_eq!(scene.words(), ["api Restoring"]);
    let failure = scene.status().targets[0].outcome.clone().unwrap();
    assert_eq!(failure.reason, Reason::RolloutTimedOut);
    let backup = scene.status().targets[0].backup.clone().unwrap().config_map;
    let Revert { workload, patch } = scene.revert();
    assert_eq!(workload.to_string(), "Deployment/api");
    let cause = format!("restore of backup {backup} by RollbackRequest api-5xx ({REQUEST})");
    assert_eq!(
        patch,
        json!([
            {"op": "test", "path": "/metadata/uid", "value": DEPLOYMENT},
            {"op": "test", "path": "/metadata/generation", "value": 5},
            {"op": "replace", "path": "/spec/template", "value": template("v2")},
            {"op": "add", "path": "/metadata/annotations/kubernetes.io~1change-cause", "value": cause},
        ])
    );
    let taken = scene.commit();
    let intent = scene.status().targets[0]
        .restore
        .clone()
        .unwrap()
        .intent
        .unwrap();
    assert_eq!((intent.generation, intent.intended_at), (5, at(400)));
    scene.take(&taken);
    // It is back when the Deployment controller has seen it, and not waited for any longer: it is the bad one.
    assert_eq!(
        scene.pass(),
        Move::Wait {
            until: Some(at(460))
        }
    );
    let restore = scene.status().targets[0].restore.clone().unwrap();
    assert_eq!(
        (restore.restored_at, restore.outcome),
        (Some(at(400)), None)
    );
    scene.roll_on();
    let outcome = scene.ends(RequestState::Restored, Reason::RestoredFromBackup);
    assert!(
        outcome.message.starts_with(&failure.message)
            && outcome.message.contains("production needs help"),
        "{}",
        outcome.message
    );
    let stopped = scene.status().stopped.unwrap();
    assert_eq!(
        (stopped.result, stopped.reason),
        (RequestState::Restored, Reason::TargetsFailed)
    );
    assert_eq!(scene.deployment()["spec"]["template"], template("v2"));
    // The report says what happened in which order.
    let report = rollback_core::report::incident(&scene.request, &scene.status()).unwrap();
    let page: String = report.data.values().cloned().collect();
    assert!(page.contains("api has again what it had before the rollback"));
}

#[test]
fn every_end_of_the_way_back() {
    type Trouble = fn(&mut Scene);
    let gone: Trouble = |scene| scene.seen().deployment = Fetched::Absent;
    let again: Trouble = |scene| {
        let mut object = deployment("v1");
        object["metadata"]["uid"] = json!("d-2");
        scene.seen().deployment = seen(object);
    };
    let no_backup: Trouble = |scene| scene.backups.clear();
    let forged: Trouble = |scene| {
        for kept in scene.backups.values_mut() {
            *kept = Deployment(deployment("v0"));
        }
    };
    let another: Trouble = |scene| scene.deploy(&template("v3"));
    let restart: Trouble = |scene| scene.deploy(&crate::world::restarted("v1", "now"));
    let faster: Trouble = |scene| {
        scene.deploy(&template("v2"));
        scene.roll_on();
    };
    for (what, trouble, end) in [
        ("gone", gone, "api Failed/RestoreFailed"),
        ("made again", again, "api Failed/RestoreFailed"),
        ("no backup", no_backup, "api Failed/RestoreFailed"),
        ("a forged backup", forged, "api Failed/RestoreFailed"),
        ("another version", another, "api Superseded/TemplateChanged"),
        ("a restart", restart, "api Superseded/TemplateChanged"),
        (
            "somebody was faster",
            faster,
            "api Superseded/TemplateChanged",
        ),
    ] {
        for mut scene in [failed(), intended()] {
            // With an intent, nobody can tell whether it was our write.
            let is_intended = scene.status().targets[0].restore.is_some();
            let end = if what == "somebody was faster" && is_intended {
                "api Restored/RestoredFromBackup"
            } else {
                end
            };
            trouble(&mut scene);
            let before = scene.target("api").deployment.clone();
            scene.settle();
            assert_eq!(scene.words(), [end], "{what}");
            assert_eq!(scene.target("api").deployment, before, "{what}");
            let outcome = scene.outcome();
            assert!(
                !outcome.message.contains("Nothing was changed"),
                "{what}: {}",
                outcome.message
            );
            assert_eq!(
                scene.target("api").ledger.found().unwrap().rollbacks.len(),
                1,
                "{what}"
            );
        }
    }
}

#[test]
fn what_cannot_be_read_is_waited_for() {
    let mut scene = failed();
    scene.seen().deployment = Fetched::Unknown;
    scene.waits(1);
}

#[test]
fn the_api_server_may_refuse_the_way_back() {
    let scene = failed();
    let mut refused = scene.clone();
    refused.seen().rejection = Some(Rejection {
        patch: scene.revert().patch,
        code: 403,
        message: "a policy says no.".to_owned(),
    });
    let outcome = refused.ends(RequestState::Failed, Reason::RestoreFailed);
    assert!(
        outcome.message.contains("(HTTP 403): a policy says no."),
        "{}",
        outcome.message
    );
    // A refusal of the revert is none of the way back.
    let mut other = scene.clone();
    other.seen().rejection = Some(Rejection {
        patch: json!([{"op": "test", "path": "/metadata/generation", "value": 4}]),
        code: 422,
        message: "no".to_owned(),
    });
    assert_eq!(other.decide().name(), "Revert");
}

#[test]
fn another_size_is_no_other_version_on_the_way_back_either() {
    let scene = intended();
    let sent = scene.revert().patch;
    // One write since the intent is not ours, or it would show.
    let mut one = scene.clone();
    one.edit(|d| d["metadata"]["generation"] = json!(6));
    assert_eq!(one.revert().patch[1]["value"], json!(6));
    // Two may be ours and one that took it back, unless ours is known to be refused.
    let mut two = scene.clone();
    two.edit(|d| d["metadata"]["generation"] = json!(7));
    let mut known = two.clone();
    let outcome = two.ends(RequestState::Superseded, Reason::TemplateChanged);
    assert!(
        outcome.message.contains("nobody can tell"),
        "{}",
        outcome.message
    );
    known.seen().rejection = Some(Rejection {
        patch: sent,
        code: 422,
        message: "the test did not hold".to_owned(),
    });
    let mut second = known.clone();
    assert_eq!(known.revert().patch[1]["value"], json!(7));
    // An attempt before the one that was refused came through.
    second.seen().accepted = Some(6);
    second.ends(RequestState::Superseded, Reason::TemplateChanged);
}

#[test]
fn what_was_brought_back_and_replaced_again_is_left() {
    // Our write of v2 was made; before we look, somebody deploys v1 again, as Git does that leaves annotations alone.
    let mut scene = intended();
    let taken = scene.decide();
    scene.take(&taken);
    let mut quiet = scene.clone();
    quiet.deploy(&template("v1"));
    // Or with a name for it, but the Deployment controller has copied ours to the ReplicaSet of v2.
    let mut named = scene;
    let cause = named.deployment()["metadata"]["annotations"]["kubernetes.io/change-cause"].clone();
    named.deploy(&template("v1"));
    named.edit(|d| {
        d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!("deploy v1");
    });
    named.seen().replica_sets[1].0["metadata"]["annotations"]["kubernetes.io/change-cause"] = cause;
    for mut scene in [quiet, named] {
        let before = scene.deployment().clone();
        scene.ends(RequestState::Superseded, Reason::TemplateChanged);
        assert_eq!(scene.deployment(), &before);
    }
}

#[test]
fn a_webhook_that_alters_the_way_back_is_not_fought() {
    let mut scene = failed();
    scene.webhook =
        Some(|d| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1"));
    let outcome = scene.ends(RequestState::Failed, Reason::RestoreFailed);
    assert!(
        outcome.message.contains("altered it on its way"),
        "{}",
        outcome.message
    );
    assert_eq!(scene.deployment()["metadata"]["generation"], json!(6));
}

#[test]
fn what_a_webhook_made_of_the_old_version_is_taken_back() {
    let mut scene = Scene::new(&json!({"rollout": {"onFailure": "Restore"}})).intended();
    scene.webhook = Some(|d| {
        if d["spec"]["template"] == template("v1") {
            d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1");
        }
    });
    let mutated = {
        let mut scene = scene.clone();
        scene.pass();
        scene.pass();
        assert_eq!(scene.phase(), Phase::Restoring);
        scene
    };
    let mut well = mutated.clone();
    well.settle();
    well.roll_on();
    well.ends(RequestState::Restored, Reason::RestoredFromBackup);
    assert_eq!(well.deployment()["spec"]["template"], template("v2"));
    // Unless somebody wrote since: then what runs may be theirs, whatever the change-cause says.
    let mut theirs = mutated;
    theirs.deploy(&template("v3"));
    theirs.ends(RequestState::Superseded, Reason::TemplateChanged);
    assert_eq!(theirs.deployment()["spec"]["template"], template("v3"));
}

#[test]
fn all_that_were_written_get_back_what_they_had_the_last_one_first() {
    let mut scene = three(&json!({})).reverted();
    for name in ["api", "web"] {
        scene.roll_out_of(name);
        scene.settle_all();
    }
    assert_eq!(
        scene.words(),
        [
            "api Succeeded/Unverified",
            "web Succeeded/Unverified",
            "worker RollingOut"
        ]
    );
    scene.now = at(300);
    let mut order = Vec::new();
    for _ in 0..40 {
        let decision = scene.pass_all();
        for step in &decision.steps {
            if let Step::Revert(revert) = step {
                order.push(revert.workload.name.clone());
            }
        }
        for name in ["api", "web", "worker"] {
            scene.edit_of(name, |d| {
                d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
            });
        }
    }
    assert_eq!(order, ["worker", "web", "api"]);
    assert_eq!(
        scene.words(),
        [
            "api Restored/RestoredFromBackup",
            "web Restored/RestoredFromBackup",
            "worker Restored/RestoredFromBackup"
        ]
    );
    let outcome = scene.ends(RequestState::Restored, Reason::TargetsFailed);
    assert!(
        outcome
            .message
            .starts_with("A Deployment did not come back, so every one that was rolled back has again what it had before. 3 Deployments: 3 RestoredFromBackup. worker: "),
        "{}",
        outcome.message
    );
    for name in ["api", "web", "worker"] {
        assert_eq!(
            scene.deployment_of(name)["spec"],
            deployment_in(name, &template_in(name, "v2"))["spec"]
        );
    }
}

#[test]
fn what_others_did_meanwhile_is_theirs_and_what_did_not_begin_is_spared() {
    let mut scene = three(&json!({"parallelism": 2})).reverted();
    scene.settle_all();
    // Somebody deploys another version of web; api does not come back.
    scene.deploy_to("web", &template_in("web", "v3"));
    scene.settle_all();
    scene.now = at(400);
    scene.settle_all();
    for name in ["api", "web", "worker"] {
        scene.edit_of(name, |d| {
            d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        });
    }
    let outcome = scene.ends(RequestState::Failed, Reason::RestoreFailed);
    assert_eq!(
        scene.words(),
        [
            "api Restored/RestoredFromBackup",
            "web Superseded/TemplateChanged",
            "worker Cancelled/NotBegun"
        ]
    );
    assert!(
        outcome
            .message
            .contains("not every one that was rolled back has again what it had before"),
        "{}",
        outcome.message
    );
    assert_eq!(
        scene.deployment_of("web")["spec"]["template"],
        template_in("web", "v3")
    );
    assert_eq!(
        scene.deployment_of("worker"),
        &deployment_in("worker", &template_in("worker", "v2"))
    );
}

#[test]
fn a_failure_before_anything_was_written_brings_nothing_back() {
    let mut scene = three(&json!({})).approved();
    scene.edit_of("api", |d| d["spec"]["paused"] = json!(true));
    scene.settle_all();
    assert_eq!(
        scene.words(),
        [
            "api Refused/Paused",
            "web Cancelled/NotBegun",
            "worker Cancelled/NotBegun"
        ]
    );
    let outcome = scene.ends(RequestState::Failed, Reason::TargetsFailed);
    assert!(
        outcome
            .message
            .starts_with("Not every Deployment was rolled back."),
        "{}",
        outcome.message
    );
}

#[test]
fn the_intent_of_a_pass_that_died_is_carried_out_and_taken_back() {
    // The intent of web is stored and not written when api fails.
    let mut scene = three(&json!({"parallelism": 2})).approved();
    loop {
        let decision = scene.commit_all();
        let writes = matches!(decision.steps.as_slice(), [Step::Revert(_), ..]);
        let taken = if writes { 1 } else { decision.steps.len() };
        for step in &decision.steps[..taken] {
            scene.act(step);
        }
        if writes {
            break;
        }
    }
    scene.of("api").deployment = Fetched::Absent;
    scene.settle_all();
    for _ in 0..3 {
        scene.edit_of("web", |d| {
            d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        });
        scene.settle_all();
    }
    assert_eq!(
        scene.words(),
        [
            "api Failed/TargetGone",
            "web Restored/RestoredFromBackup",
            "worker Cancelled/NotBegun"
        ]
    );
    assert_eq!(
        scene.deployment_of("web")["spec"]["template"],
        template_in("web", "v2")
    );
}

#[test]
fn the_patch_of_the_way_back_changes_the_template_and_the_change_cause_only() {
    let mut scene = failed();
    scene.edit(|d| {
        d["spec"]["replicas"] = json!(7);
        d["metadata"]["annotations"]["example.com/new"] = json!("kept");
    });
    let before = scene.deployment().clone();
    let mut after = before.clone();
    patch::apply(&mut after, &scene.revert().patch).unwrap();
    let mut expected = before;
    expected["spec"]["template"] = template("v2");
    expected["metadata"]["annotations"]["kubernetes.io/change-cause"] =
        after["metadata"]["annotations"]["kubernetes.io/change-cause"].clone();
    assert_eq!(after, expected);
    assert_eq!(Deployment(after).template().digest(), digest("v2"));
}

#[test]
fn what_was_never_written_is_not_missing_from_the_way_back() {
    // web is gone before its turn; the one that was written gets back what it had, and that is all there is to do.
    let mut scene = three(&json!({})).reverted();
    scene.of("web").deployment = Fetched::Absent;
    for _ in 0..3 {
        scene.edit_of("api", |d| {
            d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        });
        scene.settle_all();
    }
    assert_eq!(
        scene.words(),
        [
            "api Restored/RestoredFromBackup",
            "web Failed/TargetGone",
            "worker Cancelled/NotBegun"
        ]
    );
    scene.ends(RequestState::Restored, Reason::TargetsFailed);
}

#[test]
fn a_way_back_is_told_as_under_way() {
    let mut scene = three(&json!({"parallelism": 3})).reverted();
    scene.settle_all();
    scene.now = at(400);
    scene.commit_all();
    let ready = scene.status().conditions[0].message.clone();
    assert!(
        ready.starts_with("0 of 3 Deployments have ended, 3 are under way."),
        "{ready}"
    );
}
