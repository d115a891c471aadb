//! After the write: webhooks that alter it, pods that do not come up, a while of watching, and the ownership of fields.

use crate::world::{DEPLOYMENT, Move, Scene, at, digest, replica_set_of, seen, sets, template};
use rollback_api::status::RiskKind;
use rollback_api::{FIELD_MANAGER, Reason, RequestState};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::{Revert, Step};
use rollback_core::history::template::Template;
use rollback_core::observed::{Deployment, Fetched, Rehearsal};
use serde_json::{Value, json};

/// A webhook that puts a sidecar into every template.
fn sidecar(object: &mut Value) {
    let containers = object["spec"]["template"]["spec"]["containers"]
        .as_array_mut()
        .unwrap();
    if containers.len() == 1 {
        containers.push(json!({"name": "mesh", "image": "mesh:1"}));
    }
}

fn with_sidecar(version: &str) -> Value {
    let mut object = json!({"spec": {"template": template(version)}});
    sidecar(&mut object);
    object["spec"]["template"].clone()
}

fn soaking() -> Scene {
    Scene::default().with_policy(json!({"verification": {"soakSeconds": 90, "http": [
        {"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}
    ]}}))
}

/// Rolled out and checked at 5, and watched until 95.
fn watched() -> Scene {
    let mut scene = soaking().rolled_out();
    scene.probe(200);
    scene.pass();
    assert_eq!(scene.state(), "Verifying");
    scene
}

#[test]
fn it_is_watched_for_as_long_as_the_policy_says() {
    let mut scene = watched();
    scene.waits(90);
    let ready = scene.status().conditions[0].message.clone();
    assert_eq!(
        ready,
        "Every replica is available and the checks passed; it is watched until 2026-11-23 14:01:35 UTC."
    );
    // Checks that fail afterwards are not asked any more.
    scene.now = at(94);
    scene.probe(500);
    scene.settle();
    assert_eq!(scene.state(), "Verifying");
    scene.now = at(95);
    scene.ends(RequestState::Succeeded, Reason::RolledBack);
    // Without checks it is watched too, and is no better known for it.
    let policy = json!({"verification": {"soakSeconds": 90}});
    let mut scene = Scene::default().with_policy(policy).rolled_out();
    scene.settle();
    scene.waits(90);
    scene.now = at(95);
    scene.ends(RequestState::Succeeded, Reason::Unverified);
}

#[test]
fn case_60_reverted_while_it_is_watched_names_who_did_it() {
    let entry = |manager: &str, time: &str| {
        json!({"manager": manager, "operation": "Update", "time": time,
               "fieldsV1": {"f:spec": {"f:template": {}}}})
    };
    let ours = entry(FIELD_MANAGER, "2026-11-23T14:05:00Z");
    for (managers, who) in [
        (Value::Null, "Somebody brought"),
        (json!([ours]), "Somebody brought"),
        (
            json!([ours, entry("argocd-controller", "2026-11-23T14:00:00Z")]),
            "Field manager argocd-controller brought",
        ),
        (
            json!([
                entry("helm", "2026-11-23T14:00:02Z"),
                entry("kubectl", "2026-11-23T14:00:01Z")
            ]),
            "Field manager helm brought",
        ),
        (
            json!([entry(
                &format!("evil\n{}", "x".repeat(500)),
                "2026-11-23T14:00:02Z"
            )]),
            "Field manager evil xxx",
        ),
    ] {
        let mut scene = watched();
        scene.deploy(&template("v2"));
        scene.edit(|d| d["metadata"]["managedFields"] = managers);
        let outcome = scene.ends(RequestState::Failed, Reason::Overwritten);
        assert!(
            outcome.message.starts_with(who) && outcome.message.len() < 500,
            "{}",
            outcome.message
        );
        assert_eq!(scene.deployment()["spec"]["template"], template("v2"));
    }
    // Another version is another thing, and so is no Deployment at all.
    let mut other = watched();
    other.deploy(&template("v3"));
    other.ends(RequestState::Superseded, Reason::TemplateChanged);
    let mut gone = watched();
    gone.seen().deployment = Fetched::Absent;
    gone.ends(RequestState::Failed, Reason::TargetGone);
    // After that time nobody watches.
    let mut late = watched();
    late.now = at(95);
    late.settle();
    late.deploy(&template("v2"));
    late.ends(RequestState::Succeeded, Reason::RolledBack);
}

#[test]
fn case_39_what_a_webhook_is_known_to_make_of_it_is_accepted() {
    let mut scene = Scene {
        webhook: Some(sidecar),
        ..Scene::default()
    };
    scene.until(Phase::AwaitingApproval);
    let target = scene.status().plan.unwrap().targets[0].clone();
    let stored = Template::of(&with_sidecar("v1")).digest();
    assert_eq!(target.to.digest, digest("v1"));
    assert_eq!(target.stored_digest.as_deref(), Some(stored.as_str()));
    assert_eq!(target.restored_digest(), stored);
    assert!(
        target
            .risks
            .iter()
            .any(|risk| risk.kind == RiskKind::Webhook)
    );
    // What is written is what was approved; what is stored is what was predicted.
    let mut scene = scene.reverted();
    assert_eq!(scene.deployment()["spec"]["template"], with_sidecar("v1"));
    let fresh = replica_set_of("n1", "3", &with_sidecar("v1"));
    scene.seen().replica_sets.extend(sets([fresh]));
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
    // The prediction is part of what is approved.
    let plain = Scene::default().approved().status().plan.unwrap();
    let mut other = Scene {
        webhook: Some(sidecar),
        ..Scene::default()
    };
    other.until(Phase::AwaitingApproval);
    assert_ne!(other.status().plan.unwrap().digest, plain.digest);
}

#[test]
fn case_39_what_a_webhook_makes_of_it_unforeseen_is_a_failure() {
    let mut scene = Scene::default().intended();
    scene.webhook = Some(sidecar);
    let mut crashed = scene.clone();
    let outcome = scene.ends(RequestState::Failed, Reason::TemplateMutated);
    assert!(
        outcome
            .message
            .contains("neither the bad version nor the one that was approved"),
        "{}",
        outcome.message
    );
    assert_eq!(scene.status().targets[0].reverted_at, Some(at(5)));
    let ledger = scene.target("api").ledger.found().unwrap();
    assert_eq!(ledger.rollbacks[0].outcome, RequestState::Failed);
    // One write later it is the write of somebody else that is seen, whatever the change-cause says.
    let taken = crashed.decide();
    crashed.take(&taken);
    crashed.webhook = None;
    crashed.deploy(&template("v3"));
    crashed.ends(RequestState::Superseded, Reason::TemplateChanged);
    // And without our change-cause it is not ours either.
    let mut foreign = Scene::default().intended();
    foreign.deploy(&template("v3"));
    foreign.ends(RequestState::Superseded, Reason::TemplateChanged);
    // Nor with it: anybody can write that.
    let mut forged = Scene::default().intended();
    forged.deploy(&template("v3"));
    forged.edit(|d| {
        d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(crate::world::CAUSE);
    });
    forged.ends(RequestState::Superseded, Reason::TemplateChanged);
    // A prediction that does not come true is no better.
    let predicted = Scene {
        webhook: Some(sidecar),
        ..Scene::default()
    };
    let mut predicted = predicted.intended();
    predicted.webhook = Some(|object| {
        object["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1");
    });
    predicted.ends(RequestState::Failed, Reason::TemplateMutated);
}

#[test]
fn what_the_dry_run_says_is_in_the_plan() {
    let rehearsed = |rehearsal: Fetched<Rehearsal>| {
        let mut scene = Scene::default();
        scene.seen().rehearsal = rehearsal;
        scene.settle();
        scene
    };
    let kinds = |scene: &Scene| -> Vec<RiskKind> {
        let plan = scene.status().plan.unwrap();
        plan.targets[0].risks.iter().map(|risk| risk.kind).collect()
    };
    let mut same = crate::world::deployment("v1");
    same["metadata"]["generation"] = json!(5);
    let scene = rehearsed(Fetched::Found(Rehearsal::Stored(Deployment(same))));
    assert!(kinds(&scene).is_empty());
    let scene = rehearsed(Fetched::Found(Rehearsal::Unsaid(
        "a webhook takes none".to_owned(),
    )));
    assert_eq!(kinds(&scene), [RiskKind::DryRun]);
    let mut scene = rehearsed(Fetched::Found(Rehearsal::Refused {
        code: 403,
        message: "an image of this registry is not allowed.".to_owned(),
    }));
    let outcome = scene.ends(RequestState::Refused, Reason::PatchRejected);
    assert!(
        outcome
            .message
            .contains("(HTTP 403): an image of this registry is not allowed. Nothing was changed."),
        "{}",
        outcome.message
    );
    // A webhook that turns it back would make a rollback that does nothing.
    let back = crate::world::deployment("v2");
    let mut scene = rehearsed(Fetched::Found(Rehearsal::Stored(Deployment(back))));
    let outcome = scene.ends(RequestState::Refused, Reason::PatchRejected);
    assert!(
        outcome.message.contains("back into the one that runs"),
        "{}",
        outcome.message
    );
}

fn crashing(name: &str) -> Value {
    json!({
        "metadata": {"name": name, "ownerReferences": [{"controller": true, "uid": "rs-v1"}]},
        "status": {"phase": "Running", "containerStatuses": [{
            "name": "api", "restartCount": 3,
            "state": {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s restarting failed container"}},
            "lastState": {"terminated": {"reason": "Error", "exitCode": 1}},
        }]},
    })
}

#[test]
fn trouble_that_does_not_go_away_is_a_failure_after_the_grace() {
    let mut scene = Scene::default().reverted();
    scene.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        crate::world::set_counts(d, 4, 3, 1);
    });
    scene.seen().pods = vec![crashing("api-1"), crashing("api-2")];
    scene.now = at(20);
    // It is seen at 20, and looked at again when the grace is over, a minute later.
    assert_eq!(
        scene.pass(),
        Move::Wait {
            until: Some(at(80))
        }
    );
    let cause = |scene: &Scene| scene.status().targets[0].rollout.clone().unwrap().cause;
    assert_eq!(cause(&scene).unwrap().since, at(20));
    scene.now = at(79);
    scene.settle();
    assert_eq!(scene.state(), "RollingOut");
    // It went away and came again: the time counts anew.
    let mut relapsed = scene.clone();
    relapsed.seen().pods.clear();
    relapsed.pass();
    assert_eq!(cause(&relapsed), None);
    relapsed.seen().pods = vec![crashing("api-1")];
    relapsed.now = at(100);
    relapsed.settle();
    assert_eq!(cause(&relapsed).unwrap().since, at(100));
    assert_eq!(relapsed.state(), "RollingOut");
    // It did not.
    scene.now = at(80);
    let outcome = scene.ends(RequestState::Failed, Reason::RolloutFailed);
    for part in [
        "CrashLoop (pod api-1)",
        "since 2026-11-23 14:00:20 UTC, longer than the 60 seconds",
        "1 are available",
    ] {
        assert!(outcome.message.contains(part), "{}", outcome.message);
    }
    // Pods of the bad version are not looked at.
    let mut other = Scene::default().reverted();
    let mut pod = crashing("api-9");
    pod["metadata"]["ownerReferences"][0]["uid"] = json!("rs-v2");
    other.seen().pods = vec![pod];
    other.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        crate::world::set_counts(d, 4, 3, 1);
    });
    other.now = at(100);
    other.settle();
    assert_eq!(cause(&other), None);
    // A grace of its own, and the deadline of the rollout holds whatever the grace.
    let policy = json!({"rollout": {"graceSeconds": 1000}});
    let mut patient = Scene::default().with_policy(policy).reverted();
    patient.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        crate::world::set_counts(d, 4, 3, 1);
    });
    patient.seen().pods = vec![crashing("api-1")];
    patient.now = at(300);
    patient.settle();
    assert_eq!(patient.state(), "RollingOut");
    patient.now = at(305);
    let outcome = patient.ends(RequestState::Failed, Reason::RolloutTimedOut);
    assert!(outcome.message.contains("CrashLoop"), "{}", outcome.message);
}

#[test]
fn case_49_pods_of_the_bad_version_are_waited_for_where_that_is_asked() {
    for (wait, terminating, complete) in [
        (false, json!(2), true),
        (true, json!(2), false),
        (true, json!(0), true),
        // A server that does not say.
        (true, Value::Null, true),
    ] {
        let policy = json!({"rollout": {"waitForTermination": wait}});
        let mut scene = Scene::default().with_policy(policy).reverted();
        scene.roll_out();
        scene.edit(|d| d["status"]["terminatingReplicas"] = terminating.clone());
        scene.settle();
        let ended = scene.status().outcome.is_some();
        assert_eq!(ended, complete, "{wait} {terminating}");
        if !ended {
            let ready = scene.status().conditions[0].message.clone();
            assert!(
                ready.contains("2 pods of the bad version are still on their way out"),
                "{ready}"
            );
        }
    }
}

#[test]
fn case_24_a_tag_that_was_moved_is_told() {
    let mut scene = Scene::default();
    let mut known = crate::world::evidence(&template("v1"), rollback_api::ledger::Verdict::Good);
    known.images = serde_json::from_value(json!([
        {"container": "api", "image": "registry.broxiva.com/shop/api:v1", "imageId": "sha256:aa"},
        {"container": "never-seen", "image": "x", "imageId": null},
    ]))
    .unwrap();
    scene.seen().ledger = Fetched::Found(crate::world::ledger_of([known]));
    let mut scene = scene.reverted();
    scene.roll_out();
    for (id, warnings) in [("sha256:aa", 0), ("sha256:bb", 1)] {
        let mut scene = scene.clone();
        scene.seen().pods = vec![json!({
            "metadata": {"name": "api-1", "ownerReferences": [{"controller": true, "uid": "rs-v1"}]},
            "status": {"containerStatuses": [{"name": "api", "imageID": id}]},
        })];
        scene.settle();
        let told = scene.status().targets[0].warnings.clone();
        assert_eq!(told.len(), warnings, "{told:?}");
        if let Some(told) = told.first() {
            assert!(told.contains("its tag was moved"), "{told}");
        }
    }
}

fn managed(others: &[&str]) -> Value {
    let entry = |manager: &str| json!({"manager": manager, "operation": "Update", "fieldsV1": {"f:spec": {"f:template": {}}}});
    others.iter().map(|manager| entry(manager)).collect()
}

/// Ended well, with these entries of `managedFields`, and asked for what is owed.
fn ended(release: bool, managers: &[&str]) -> Scene {
    let policy = json!({"rollout": {"releaseOwnership": release}});
    let mut scene = Scene::default().with_policy(policy).rolled_out();
    scene.edit(|d| d["metadata"]["managedFields"] = managed(managers));
    while scene.status().incident.is_none() {
        let taken = scene.commit();
        if !matches!(taken, Move::Write(Step::Disown(_) | Step::Release { .. })) {
            scene.take(&taken);
        }
    }
    scene
}

#[test]
fn case_43_after_a_success_only_our_entry_is_given_up() {
    let mut scene = ended(true, &["helm", FIELD_MANAGER, "kube-controller-manager"]);
    let Move::Write(Step::Disown(Revert { workload, patch })) = scene.commit() else {
        panic!("{:?}", scene.decide());
    };
    assert_eq!(workload.to_string(), "Deployment/api");
    assert_eq!(
        patch,
        json!([
            {"op": "test", "path": "/metadata/resourceVersion", "value": "100"},
            {"op": "test", "path": "/metadata/managedFields/1/manager", "value": FIELD_MANAGER},
            {"op": "remove", "path": "/metadata/managedFields/1"},
        ])
    );
    let before = scene.deployment().clone();
    let taken = scene.commit();
    scene.take(&taken);
    let mut expected = before;
    expected["metadata"]["managedFields"] = managed(&["helm", "kube-controller-manager"]);
    assert_eq!(scene.deployment(), &expected);
    // Then the claim and the finalizer; and nothing is given up twice.
    assert_eq!(scene.pass().name(), "Release");
    assert_eq!(scene.pass().name(), "DropFinalizer");
}

#[test]
fn what_is_not_ours_or_not_wanted_is_not_given_up() {
    for (release, managers) in [
        (false, &["helm", FIELD_MANAGER][..]),
        (true, &["helm"][..]),
        // Without any entry the API server would make one up.
        (true, &[FIELD_MANAGER][..]),
        (true, &[][..]),
    ] {
        let scene = ended(release, managers);
        assert_eq!(scene.decide().name(), "Release", "{managers:?}");
    }
    // Of a Deployment that was made again, or cannot be read, nothing.
    let mut again = ended(true, &["helm", FIELD_MANAGER]);
    let mut other = again.deployment().clone();
    other["metadata"]["uid"] = json!("d-2");
    again.seen().deployment = seen(other);
    assert_eq!(again.decide().name(), "Release");
    let mut unread = ended(true, &["helm", FIELD_MANAGER]);
    unread.seen().deployment = Fetched::Unknown;
    assert_eq!(unread.decide().name(), "Release");
    // Nor after a failure: who owns the fields helps to find out.
    let policy = json!({"rollout": {"releaseOwnership": true}});
    let mut failed = Scene::default().with_policy(policy).reverted();
    failed.edit(|d| d["metadata"]["managedFields"] = managed(&["helm", FIELD_MANAGER]));
    failed.now = at(400);
    failed.ends(RequestState::Failed, Reason::RolloutTimedOut);
    assert_eq!(
        failed.deployment()["metadata"]["managedFields"],
        managed(&["helm", FIELD_MANAGER])
    );
    assert_eq!(failed.deployment()["metadata"]["uid"], json!(DEPLOYMENT));
}
