//! Whether the old version is up. Numbers in names are those of the cases in `rollback-semantics.md`.

use crate::world::{
    Move, Scene, at, deployment, planned_target, replica_set, seen, set_counts, set_progressing,
    sets, template,
};
use rollback_api::Reason;
use rollback_api::RequestState;
use rollback_api::status::{
    Cause, CauseKind, Intent, Progressing, RolloutStatus, Rules, TargetStatus,
};
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::health::rollout::{Counts, Rollout, cause, judge, running, wake};
use rollback_core::observed::view::{Brought, Live, Signs};
use rollback_core::observed::{Deployment, Fetched, ReplicaSet};
use serde_json::{Value, json};

const BEFORE: &str = "2026-11-23T13:58:00Z";
const AFTER: &str = "2026-11-23T14:11:00Z";

/// The revert was seen at 0, the deadline is at 300, and this was said before.
fn progress(before: Option<(&str, &str)>) -> TargetStatus {
    TargetStatus {
        name: "api".to_owned(),
        revert: Some(Intent {
            intended_at: at(-1),
            generation: 3,
            taken_over: false,
            progressing: before.map(|(reason, updated)| Progressing {
                reason: reason.to_owned(),
                last_update_time: updated.to_owned(),
            }),
        }),
        reverted_at: Some(at(0)),
        rollout: Some(RolloutStatus {
            deadline: at(300),
            desired_at_revert: Some(3),
            most_available: None,
            progressed_at: None,
            desired: 3,
            updated: 0,
            available: 0,
            cause: None,
            completed_at: None,
        }),
        ..TargetStatus::default()
    }
}

/// The Deployment with the old template, complete unless changed.
fn restored(edit: impl FnOnce(&mut Value)) -> Value {
    let mut object = deployment("v1");
    edit(&mut object);
    object
}

fn owned() -> Vec<ReplicaSet> {
    sets([replica_set("v1", "3"), replica_set("v2", "2")])
}

fn judged_with(
    object: Value,
    owned: &[ReplicaSet],
    progress: &TargetStatus,
    seconds: i64,
) -> Rollout {
    judged_by(Some(Deployment(object)), owned, progress, seconds)
}

/// As the engine does: what keeps the pods from coming up is looked at first, and then how far the rollout is.
fn judged_by(
    deployment: Option<Deployment>,
    owned: &[ReplicaSet],
    progress: &TargetStatus,
    seconds: i64,
) -> Rollout {
    let (target, now) = (planned_target(), at(seconds));
    let live = Live {
        name: target.workload.name.clone(),
        deployment,
    };
    let brought = Brought {
        running: running(&target, &live, owned).cloned(),
        live,
    };
    let mut progress = progress.clone();
    if let Some(cause) = cause(&brought, &Signs::default(), &progress, now) {
        progress.rollout.as_mut().unwrap().cause = cause;
    }
    judge(&brought, &target, &progress, &rules(json!({})), now)
}

fn rules(policy: Value) -> Rules {
    rollback_core::plan::rules::rules(
        &crate::world::request(&json!({})),
        Some(&crate::world::policy(policy)),
        false,
    )
}

fn judged(object: Value, seconds: i64) -> Rollout {
    judged_with(object, &owned(), &progress(None), seconds)
}

fn state(rollout: &Rollout) -> &'static str {
    match rollout {
        Rollout::Gone(_) => "gone",
        Rollout::Superseded(_) => "superseded",
        Rollout::InProgress(..) => "in progress",
        Rollout::Complete(_) => "complete",
        Rollout::Empty(_) => "empty",
        Rollout::Failed(_, reason, _) => reason.known().unwrap_or("newer"),
    }
}

#[test]
fn case_46_a_failure_that_stood_there_before_is_not_ours() {
    let stale = Some(("ProgressDeadlineExceeded", BEFORE));
    let object = restored(|d| {
        set_counts(d, 1, 0, 0);
        set_progressing(d, "False", "ProgressDeadlineExceeded", BEFORE);
    });
    let verdict = judged_with(object, &owned(), &progress(stale), 299);
    assert_eq!(state(&verdict), "in progress");
    // A new one, at the end of a whole progress deadline of the old version, is.
    let object = restored(|d| {
        d["spec"]["progressDeadlineSeconds"] = json!(60);
        set_counts(d, 1, 0, 0);
        set_progressing(d, "False", "ProgressDeadlineExceeded", AFTER);
    });
    let verdict = judged_with(object, &owned(), &progress(stale), 120);
    let Rollout::Failed(_, Reason::RolloutFailed, message) = &verdict else {
        panic!("{verdict:?}");
    };
    assert!(message.contains("gave up"), "{message}");
}

#[test]
fn case_46_an_old_rollout_that_times_out_after_the_revert_is_not_ours_either() {
    // Nothing moved for almost the whole deadline under the bad version; the revert does not reset
    // that clock, so the Deployment controller may give up a moment later.
    let object = restored(|d| {
        set_counts(d, 3, 0, 0);
        set_progressing(
            d,
            "False",
            "ProgressDeadlineExceeded",
            "2026-11-23T14:00:02Z",
        );
    });
    let before = Some(("ReplicaSetUpdated", "2026-11-23T13:50:02Z"));
    let verdict = judged_with(object.clone(), &owned(), &progress(before), 10);
    assert_eq!(state(&verdict), "in progress");
    // Nor is it known who was meant when the condition was not saved before.
    let verdict = judged_with(object, &owned(), &progress(None), 10);
    assert_eq!(state(&verdict), "in progress");
}

#[test]
fn case_46_a_failure_between_the_intent_and_the_revert_is_not_ours() {
    let mut scene = Scene::default().intended();
    // The pass dies before the write; the bad version times out; another pass writes.
    scene.edit(|d| {
        set_counts(d, 3, 1, 0);
        set_progressing(
            d,
            "False",
            "ProgressDeadlineExceeded",
            "2026-11-23T14:01:00Z",
        );
    });
    scene.now = at(120);
    assert!(matches!(scene.pass(), Move::Write(Step::Revert(_))));
    // The Deployment controller is quick: it has seen the write before we look again.
    scene.edit(|d| {
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        set_counts(d, 3, 0, 0);
    });
    scene.until(Phase::RollingOut);
    scene.now = at(125);
    scene.settle();
    assert_eq!(scene.state(), "RollingOut");
    scene.roll_out();
    scene.settle();
    assert_eq!(scene.outcome().result, RequestState::Succeeded);
}

#[test]
fn case_46_ends_well_for_one_replica() {
    let mut scene = Scene::default().with_policy(json!({"environment": "production"}));
    scene.edit(|d| {
        d["spec"]["replicas"] = json!(1);
        set_counts(d, 1, 1, 0);
        set_progressing(d, "False", "ProgressDeadlineExceeded", BEFORE);
    });
    let mut scene = scene.reverted();
    scene.edit(|d| d["status"]["observedGeneration"] = d["metadata"]["generation"].clone());
    scene.settle();
    assert_eq!(scene.state(), "RollingOut");
    scene.roll_out();
    scene.settle();
    assert_eq!(scene.outcome().result, RequestState::Succeeded);
}

#[test]
fn case_47_66_our_own_deadline_holds_whatever_the_deployment_says() {
    for deadline in [json!(600), json!(2_147_483_647), Value::Null] {
        let object = || {
            restored(|d| {
                d["spec"]["progressDeadlineSeconds"] = deadline.clone();
                set_counts(d, 0, 0, 0);
            })
        };
        let mut failing = replica_set("v1", "3");
        failing["status"]["conditions"] = json!([{
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate",
            "message": "pods \"api-x\" is forbidden: exceeded quota: pods",
        }]);
        let owned = sets([failing, replica_set("v2", "2")]);
        let progress = progress(Some(("NewReplicaSetAvailable", BEFORE)));
        assert_eq!(
            state(&judged_with(object(), &owned, &progress, 299)),
            "in progress"
        );
        let verdict = judged_with(object(), &owned, &progress, 300);
        let Rollout::Failed(counts, Reason::RolloutTimedOut, message) = verdict else {
            panic!("{verdict:?}");
        };
        assert_eq!(
            (counts.desired, counts.updated, counts.available),
            (3, 0, 0)
        );
        assert!(message.contains("exceeded quota"), "{message}");
        assert!(message.contains("2026-11-23 14:05:00 UTC"), "{message}");
    }
}

#[test]
fn case_48_complete_is_every_count() {
    let complete = judged(restored(|_| {}), 10);
    let counts = Counts {
        desired: 3,
        updated: 3,
        available: 3,
    };
    assert_eq!(complete, Rollout::Complete(counts));
    for (replicas, updated, available) in [
        (4, 3, 3),
        (3, 2, 3),
        (3, 3, 2),
        (3, 3, 0),
        (4, 4, 4),
        (2, 2, 2),
        (0, 0, 0),
        (3, 0, 3),
    ] {
        let object = restored(|d| set_counts(d, replicas, updated, available));
        assert_eq!(
            state(&judged(object, 10)),
            "in progress",
            "{replicas} {updated} {available}"
        );
    }
}

#[test]
fn case_48_complete_needs_a_replica_set_with_the_template() {
    let mut other_owner = replica_set("v1", "3");
    other_owner["metadata"]["ownerReferences"][0]["uid"] = json!("d-2");
    let mut dying = replica_set("v1", "3");
    dying["metadata"]["deletionTimestamp"] = json!(AFTER);
    for owned in [
        sets([]),
        sets([replica_set("v2", "2")]),
        sets([other_owner]),
        sets([dying]),
    ] {
        let verdict = judged_with(restored(|_| {}), &owned, &progress(None), 10);
        assert_eq!(state(&verdict), "in progress");
    }
    // It may be another object than the one that was planned, as after a webhook or a collision.
    let made_again = sets([crate::world::replica_set_of("other", "9", &template("v1"))]);
    let verdict = judged_with(restored(|_| {}), &made_again, &progress(None), 10);
    assert_eq!(state(&verdict), "complete");
}

#[test]
fn what_the_deployment_controller_has_not_seen_does_not_count() {
    let object = restored(|d| d["metadata"]["generation"] = json!(5));
    let Rollout::InProgress(_, message) = judged(object.clone(), 10) else {
        panic!("the status is of the time before");
    };
    assert!(message.contains("not taken up"), "{message}");
    assert_eq!(state(&judged(object, 300)), "RolloutTimedOut");
    let never = restored(|d| d["status"] = json!({}));
    assert_eq!(state(&judged(never, 10)), "in progress");
    let ahead = restored(|d| d["status"]["observedGeneration"] = json!(9));
    assert_eq!(state(&judged(ahead, 10)), "complete");
}

#[test]
fn a_failure_that_the_deployment_controller_has_not_seen_the_revert_for_does_not_count() {
    let object = restored(|d| {
        d["spec"]["progressDeadlineSeconds"] = json!(1);
        d["metadata"]["generation"] = json!(5);
        set_counts(d, 1, 0, 0);
        set_progressing(d, "False", "ProgressDeadlineExceeded", AFTER);
    });
    assert_eq!(state(&judged(object, 100)), "in progress");
}

#[test]
fn case_49_replicas_that_still_terminate_are_tolerated() {
    for terminating in [json!(0), json!(2), Value::Null] {
        let object = restored(|d| d["status"]["terminatingReplicas"] = terminating.clone());
        assert_eq!(state(&judged(object, 10)), "complete");
    }
}

#[test]
fn case_50_no_replicas_prove_nothing() {
    let empty = restored(|d| {
        d["spec"]["replicas"] = json!(0);
        set_counts(d, 0, 0, 0);
    });
    assert_eq!(state(&judged(empty, 10)), "empty");
    let draining = restored(|d| {
        d["spec"]["replicas"] = json!(0);
        set_counts(d, 2, 0, 0);
    });
    assert_eq!(state(&judged(draining.clone(), 10)), "in progress");
    assert_eq!(state(&judged(draining, 300)), "RolloutTimedOut");
    let not_seen = restored(|d| {
        d["spec"]["replicas"] = json!(0);
        d["metadata"]["generation"] = json!(5);
        set_counts(d, 0, 0, 0);
    });
    assert_eq!(state(&judged(not_seen, 10)), "in progress");
    let mut scene = Scene::default().reverted();
    scene.edit(|d| d["spec"]["replicas"] = json!(0));
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
}

#[test]
fn case_51_ready_is_not_available() {
    let object = restored(|d| {
        d["spec"]["minReadySeconds"] = json!(30);
        set_counts(d, 3, 3, 2);
        d["status"]["readyReplicas"] = json!(3);
    });
    assert_eq!(state(&judged(object, 10)), "in progress");
}

#[test]
fn case_52_another_template_supersedes_and_another_size_does_not() {
    let edited = restored(|d| d["spec"]["template"] = template("v3"));
    assert_eq!(state(&judged(edited, 10)), "superseded");
    let reverted_again = restored(|d| d["spec"]["template"] = template("v2"));
    assert_eq!(state(&judged(reverted_again, 10)), "superseded");
    let restarted = restored(|d| d["spec"]["template"] = crate::world::restarted("v1", AFTER));
    assert_eq!(state(&judged(restarted, 10)), "superseded");
    let scaled = restored(|d| {
        d["metadata"]["generation"] = json!(9);
        d["status"]["observedGeneration"] = json!(9);
        d["spec"]["replicas"] = json!(5);
        set_counts(d, 5, 5, 5);
    });
    assert_eq!(state(&judged(scaled, 10)), "complete");
    let scaling = restored(|d| {
        d["spec"]["replicas"] = json!(5);
        set_counts(d, 3, 3, 3);
    });
    assert_eq!(state(&judged(scaling, 10)), "in progress");
}

#[test]
fn case_53_another_deployment_with_the_name_is_not_it() {
    let again = restored(|d| d["metadata"]["uid"] = json!("d-2"));
    assert_eq!(state(&judged(again.clone(), 10)), "gone");
    let deleting = restored(|d| d["metadata"]["deletionTimestamp"] = json!(AFTER));
    assert_eq!(state(&judged(deleting.clone(), 10)), "gone");
    let nothing = judged_by(None, &[], &progress(None), 10);
    assert_eq!(state(&nothing), "gone");
    // One that cannot be read is not judged, however late it is.
    let mut unread = Scene::default().reverted();
    unread.seen().deployment = Fetched::Unknown;
    unread.now = at(9999);
    unread.waits(1);
    assert_eq!(unread.phase(), Phase::RollingOut);
    for (verdict, how) in [
        (again, "was deleted and made again"),
        (deleting, "is being deleted"),
    ] {
        let Rollout::Gone(message) = judged(verdict, 10) else {
            panic!("it is gone");
        };
        assert!(
            message.contains(&format!("Deployment api {how}")),
            "{message}"
        );
    }
}

#[test]
fn case_55_pods_of_the_bad_version_are_not_blamed_on_the_old() {
    let mut bad = replica_set("v2", "2");
    bad["status"]["conditions"] = json!([{
        "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota of v2",
    }]);
    let mut over = replica_set("v1", "3");
    over["status"]["conditions"] = json!([{
        "type": "ReplicaFailure", "status": "False", "reason": "FailedCreate", "message": "quota of v1",
    }]);
    let object = restored(|d| {
        set_counts(d, 3, 1, 1);
        d["status"]["conditions"].as_array_mut().unwrap().push(json!({
            "type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "quota of v2",
        }));
    });
    let verdict = judged_with(object, &sets([bad, over]), &progress(None), 10);
    let Rollout::InProgress(_, message) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(!message.contains("quota"), "{message}");
    assert!(message.contains("1 of 3"), "{message}");
}

#[test]
fn case_67_the_revision_annotation_of_the_deployment_says_nothing() {
    for revision in ["2", "1", "abc"] {
        let object = restored(|d| {
            d["metadata"]["annotations"]["deployment.kubernetes.io/revision"] = json!(revision);
        });
        assert_eq!(state(&judged(object, 10)), "complete");
    }
}

#[test]
fn paused_after_the_revert_runs_into_our_deadline() {
    let object = restored(|d| {
        d["spec"]["paused"] = json!(true);
        set_counts(d, 3, 0, 0);
        set_progressing(d, "Unknown", "DeploymentPaused", AFTER);
    });
    assert_eq!(state(&judged(object.clone(), 10)), "in progress");
    assert_eq!(state(&judged(object, 300)), "RolloutTimedOut");
}

#[test]
fn hostile_words_of_a_status_are_cleaned() {
    let mut failing = replica_set("v1", "3");
    failing["status"]["conditions"] = json!([{
        "type": "ReplicaFailure", "status": "True", "message": format!("a\n\u{1b}b{}", "x".repeat(100_000)),
    }]);
    let object = restored(|d| set_counts(d, 0, 0, 0));
    let verdict = judged_with(object, &sets([failing]), &progress(None), 10);
    let Rollout::InProgress(_, message) = verdict else {
        panic!("{verdict:?}");
    };
    assert!(
        message.len() < 1000 && !message.chars().any(char::is_control),
        "{message}"
    );
}

#[test]
fn it_looks_again_when_the_time_is_over_and_when_a_failure_begins_to_count() {
    let object =
        |seconds: Value| seen(restored(|d| d["spec"]["progressDeadlineSeconds"] = seconds));
    let (progress, rules) = (progress(None), rules(json!({})));
    for (seconds, now, expected) in [
        (json!(60), 10, 60),
        (json!(60), 59, 60),
        (json!(60), 60, 300),
        (json!(600), 10, 300),
        (json!(2_147_483_647), 10, 300),
        (Value::Null, 10, 300),
    ] {
        let until = wake(object(seconds.clone()).found(), &progress, &rules, at(now));
        assert_eq!(until, Some(at(expected)), "{seconds} {now}");
    }
    assert_eq!(wake(None, &progress, &rules, at(10)), Some(at(300)));
    assert_eq!(wake(None, &TargetStatus::default(), &rules, at(10)), None);
}

#[test]
fn a_failure_counts_from_the_end_of_the_time_that_the_old_version_had() {
    let object = restored(|d| {
        d["spec"]["progressDeadlineSeconds"] = json!(60);
        set_counts(d, 3, 3, 0);
        set_progressing(d, "False", "ProgressDeadlineExceeded", AFTER);
    });
    assert_eq!(state(&judged(object.clone(), 59)), "in progress");
    assert_eq!(state(&judged(object.clone(), 60)), "RolloutFailed");
    // Said before already, in the very same words, it is still of before.
    let before = progress(Some(("ProgressDeadlineExceeded", AFTER)));
    let verdict = judged_with(object.clone(), &owned(), &before, 299);
    assert_eq!(state(&verdict), "in progress");
    // Another reason at the same time is another thing.
    let before = progress(Some(("ReplicaSetUpdated", AFTER)));
    let verdict = judged_with(object, &owned(), &before, 60);
    assert_eq!(state(&verdict), "RolloutFailed");
    let going_on = restored(|d| {
        d["spec"]["progressDeadlineSeconds"] = json!(60);
        set_counts(d, 3, 3, 0);
        set_progressing(d, "True", "ReplicaSetUpdated", AFTER);
    });
    assert_eq!(state(&judged(going_on, 299)), "in progress");
}

/// Five replicas one after the other, each within its time: the whole takes longer than the time of one, and goes on.
#[test]
fn e1_it_goes_on_while_it_moves() {
    let up = |available: i64| {
        let mut set = replica_set("v1", "3");
        set["status"]["availableReplicas"] = json!(available);
        let object = restored(|d| {
            d["spec"]["replicas"] = json!(5);
            set_counts(d, 5, available, 5);
        });
        (object, sets([set, replica_set("v2", "2")]))
    };
    let mut progress = progress(None);
    let mut look = |available: i64, seconds: i64| {
        let (object, owned) = up(available);
        let (target, now) = (planned_target(), at(seconds));
        let live = Live {
            name: target.workload.name.clone(),
            deployment: Some(Deployment(object)),
        };
        let brought = Brought {
            running: running(&target, &live, &owned).cloned(),
            live,
        };
        rollback_core::health::rollout::note_progress(&brought, &mut progress, now);
        let rules = rules(json!({"rollout": {"timeoutSeconds": 300}}));
        let verdict = judge(&brought, &target, &progress, &rules, now);
        let again = wake(Some(&Deployment(up(available).0)), &progress, &rules, now);
        (state(&verdict), again)
    };
    assert_eq!(look(0, 10).0, "in progress");
    assert_eq!(look(1, 100).0, "in progress");
    assert_eq!(look(2, 250), ("in progress", Some(at(550))));
    assert_eq!(look(2, 301).0, "in progress");
    assert_eq!(look(3, 540).0, "in progress");
    // One that goes and comes again is no progress.
    assert_eq!(look(2, 600).0, "in progress");
    assert_eq!(look(3, 830).0, "in progress");
    assert_eq!(look(3, 840).0, "RolloutTimedOut");
}

/// Nothing of it comes up: then the deadline is what it was.
#[test]
fn e1_what_does_not_move_ends_at_the_deadline() {
    let object = restored(|d| set_counts(d, 5, 0, 5));
    assert_eq!(state(&judged(object.clone(), 299)), "in progress");
    assert_eq!(state(&judged(object, 300)), "RolloutTimedOut");
}

/// All that was there is back, none of the bad version is left, and an autoscaler asks for more by now.
#[test]
fn e3_an_autoscaler_that_asks_for_more_makes_no_failure() {
    let scaled_by = |desired: i64, replicas: i64, updated: i64, available: i64, kind| {
        let mut set = replica_set("v1", "3");
        set["status"]["availableReplicas"] = json!(available);
        let object = restored(|d| {
            d["spec"]["replicas"] = json!(desired);
            set_counts(d, replicas, updated, available);
        });
        let mut progress = progress(None);
        let rollout = progress.rollout.as_mut().unwrap();
        rollout.desired_at_revert = Some(4);
        rollout.cause = Option::map(kind, |kind| Cause {
            kind,
            message: "it is so".to_owned(),
            pod: None,
            last_words: None,
            since: at(399),
        });
        let (target, owned) = (planned_target(), sets([set, replica_set("v2", "2")]));
        let live = Live {
            name: target.workload.name.clone(),
            deployment: Some(Deployment(object)),
        };
        let brought = Brought {
            running: running(&target, &live, &owned).cloned(),
            live,
        };
        state(&judge(
            &brought,
            &target,
            &progress,
            &rules(json!({})),
            at(400),
        ))
    };
    let scaled = |desired, replicas, updated, available| {
        scaled_by(desired, replicas, updated, available, None)
    };
    // What may be wrong with the version may befall the others too.
    for (kind, expected) in [
        (CauseKind::Unschedulable, "complete"),
        (CauseKind::AwaitingNode, "complete"),
        (CauseKind::Sandbox, "complete"),
        (CauseKind::Unready, "complete"),
        (CauseKind::CrashLoop, "RolloutTimedOut"),
        (CauseKind::ImagePull, "RolloutTimedOut"),
        (CauseKind::Config, "RolloutTimedOut"),
        (CauseKind::Volume, "RolloutTimedOut"),
        (CauseKind::Refused, "RolloutTimedOut"),
    ] {
        assert_eq!(scaled_by(7, 7, 7, 4, Some(kind)), expected, "{kind:?}");
    }
    assert_eq!(scaled(7, 7, 7, 4), "complete");
    assert_eq!(scaled(7, 7, 7, 5), "complete");
    // Not all of it is back, some of the bad version is left, or nobody asked for more.
    assert_eq!(scaled(7, 7, 7, 3), "RolloutTimedOut");
    assert_eq!(scaled(7, 7, 6, 4), "RolloutTimedOut");
    assert_eq!(scaled(4, 4, 4, 3), "RolloutTimedOut");
}
