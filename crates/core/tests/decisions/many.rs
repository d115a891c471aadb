//! Several Deployments in one request: which, in which order, and what one of them means for the others.

use crate::world::{Observed, ObservedTarget, made};
use crate::world::{
    Scene, annotate, approve, at, claimed_by, deployment_in, digest_in, guard_policy, policy,
    quiet, request, sets, template_in, world_of,
};
use rollback_api::status::{Effect, Outcome, Plan};
use rollback_api::{CANCELLED_BY, DENIED_BY, Reason, RequestState, RollbackRequest};
use rollback_core::execution::phase::{Phase, TargetPhase, due};
use rollback_core::execution::step::{Next, Step};
use rollback_core::observed::{Access, Fetched, Rejection, Rival};
use rollback_core::plan;
use serde_json::{Value, json};

fn make(fields: &Value, observed: &Observed) -> Result<Plan, Outcome> {
    made(&request(fields), observed, at(5)).map_err(|ending| ending.with(Effect::None))
}

fn names(plan: &Plan) -> Vec<&str> {
    let targets = plan.targets.iter();
    targets
        .map(|target| target.workload.name.as_str())
        .collect()
}

/// Three Deployments, one after the other, with these fields of `rollout`.
fn three(rollout: &Value) -> Scene {
    let mut all = json!({"parallelism": 1});
    for (key, value) in rollout.as_object().unwrap() {
        all[key] = value.clone();
    }
    Scene::many(&["api", "web", "worker"], &json!({"rollout": all}))
}

/// Targets between the intent and the end.
fn under_way(scene: &Scene) -> Vec<String> {
    let status = scene.status();
    status
        .targets
        .iter()
        .filter(|progress| progress.revert.is_some())
        .filter(|progress| TargetPhase::of(&status, progress) != TargetPhase::Ended)
        .map(|progress| progress.name.clone())
        .collect()
}

/// Passes until nothing moves, while the Deployment controller is done at once with these.
fn rolls_out(scene: &mut Scene, names: &[&str]) {
    for _ in 0..20 {
        let before = scene.request.clone();
        scene.settle_all();
        for name in names {
            scene.roll_out_of(name);
        }
        scene.settle_all();
        if before == scene.request {
            return;
        }
    }
}

fn found(entries: &[(usize, &str)]) -> Observed {
    world_of(entries.iter().map(|(asked, name)| ObservedTarget {
        asked: *asked,
        ..quiet(name)
    }))
}

#[test]
fn the_order_is_by_wave_then_by_entry_then_by_name() {
    let to = json!({"previous": {}});
    let fields = json!({"targets": [
        {"name": "web", "to": to, "wave": 1},
        {"namePrefix": "b-", "to": to},
        {"name": "api", "to": to, "wave": 1},
        {"selector": {"matchLabels": {"tier": "db"}}, "to": to, "wave": 2},
    ]});
    let world = found(&[(3, "pg"), (1, "b-2"), (2, "api"), (1, "b-1"), (0, "web")]);
    let plan = make(&fields, &world).unwrap();
    assert_eq!(names(&plan), ["b-1", "b-2", "web", "api", "pg"]);
    let waves: Vec<i32> = plan.targets.iter().map(|target| target.wave).collect();
    assert_eq!(waves, [0, 0, 1, 1, 2]);
    for target in &plan.targets {
        assert_eq!(target.from.digest, digest_in(&target.workload.name, "v2"));
        assert_eq!(target.to.digest, digest_in(&target.workload.name, "v1"));
    }
}

#[test]
fn each_deployment_is_rolled_back_once() {
    let (previous, first) = (json!({"previous": {}}), json!({"revision": 1}));
    // A name is more than a prefix, wherever it stands; of two prefixes the first.
    let fields = json!({"targets": [
        {"namePrefix": "w", "to": previous, "wave": 3},
        {"name": "web", "to": first},
        {"selector": {"matchLabels": {"a": "b"}}, "to": first, "wave": 5},
    ]});
    let world = found(&[
        (0, "web"),
        (0, "worker"),
        (1, "web"),
        (2, "web"),
        (2, "worker"),
    ]);
    let plan = make(&fields, &world).unwrap();
    assert_eq!(names(&plan), ["web", "worker"]);
    let waves: Vec<i32> = plan.targets.iter().map(|target| target.wave).collect();
    assert_eq!(waves, [0, 3]);
    // Named twice is a question.
    let fields = json!({"targets": [
        {"name": "web", "to": previous}, {"name": "api", "to": previous}, {"name": "web", "to": first}
    ]});
    let end = make(&fields, &found(&[(0, "web"), (1, "api"), (2, "web")])).unwrap_err();
    assert_eq!(
        (end.result, end.reason),
        (RequestState::Refused, Reason::Ambiguous)
    );
    assert!(
        end.message
            .starts_with("spec.targets[2].name: web is named twice (also by spec.targets[0])"),
        "{}",
        end.message
    );
}

#[test]
fn two_hundred_fit_and_one_more_does_not() {
    let names: Vec<String> = (0..201).map(|number| format!("web-{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut most = Scene::prefixed("web-", &names[..200], &json!({}));
    most.until(Phase::AwaitingApproval);
    let plan = most.status().plan.unwrap();
    assert_eq!(plan.targets.len(), 200);
    assert!(serde_json::to_vec(&most.request).unwrap().len() < 1_000_000);
    let mut many = Scene::prefixed("web-", &names, &json!({}));
    let outcome = many.ends(RequestState::Refused, Reason::TooMany);
    assert!(
        outcome.message.contains("finds 201 Deployments"),
        "{}",
        outcome.message
    );
    Scene::prefixed("web-", &[], &json!({})).ends(RequestState::Refused, Reason::NothingFound);
}

#[test]
fn what_does_not_fit_is_refused_and_says_how_large_it_is() {
    // Many targets whose every line of the plan is long.
    let names: Vec<String> = (0..200).map(|number| format!("web-{number:03}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scene = Scene::prefixed("web-", &names, &json!({}));
    for name in names {
        let mut wide = template_in(name, "v2");
        wide["spec"]["containers"] = (0..20)
            .map(|number| json!({"name": format!("c{number}"), "image": format!("{}:v2", "i".repeat(200))}))
            .collect();
        scene.deploy_to(name, &wide);
    }
    let outcome = scene.ends(RequestState::Refused, Reason::TooLarge);
    assert!(
        outcome
            .message
            .starts_with("The plan for 200 Deployments takes "),
        "{}",
        outcome.message
    );
    // One whose backup would be too large keeps the others from nothing when it may be left out.
    for (on_failure, expected) in [
        ("Stop", "Refused/TargetsRefused"),
        ("Continue", "AwaitingApproval"),
    ] {
        let mut scene = three(&json!({"onFailure": on_failure}));
        scene.edit_of("web", |d| {
            d["metadata"]["annotations"]["x"] = json!("x".repeat(1_100_000));
        });
        scene.settle_all();
        assert_eq!(scene.state(), expected);
    }
}

#[test]
fn several_have_three_minutes_each_unless_somebody_says_otherwise() {
    let to = json!({"previous": {}});
    let one = json!([{"name": "api", "to": to}]);
    let two = json!([{"name": "api", "to": to}, {"name": "web", "to": to}]);
    let found = json!([{"namePrefix": "a", "to": to}]);
    for (targets, own, expected) in [
        (&one, None, 300),
        (&two, None, 180),
        (&found, None, 180),
        (&one, Some(7), 7),
        (&two, Some(7), 7),
    ] {
        let mut fields = json!({"targets": targets});
        if let Some(seconds) = own {
            fields["rollout"] = json!({"timeoutSeconds": seconds});
        }
        let rules = plan::rules::rules(&request(&fields), None, false);
        assert_eq!(rules.rollout.timeout_seconds, expected, "{fields}");
    }
    // The policy's time is for one.
    let policy = policy(json!({"rollout": {"timeoutSeconds": 500}}));
    let rules = |targets: &Value| {
        let request = request(&json!({"targets": targets}));
        plan::rules::rules(&request, Some(&policy), false)
            .rollout
            .timeout_seconds
    };
    assert_eq!((rules(&one), rules(&two)), (500, 180));
    // From its own revert, not from that of the first.
    let mut scene = three(&json!({})).reverted();
    scene.now = at(170);
    rolls_out(&mut scene, &["api"]);
    assert_eq!(under_way(&scene), ["web"]);
    let deadline = |scene: &Scene, index: usize| {
        let rollout = scene.status().targets[index].rollout.clone();
        rollout.unwrap().deadline
    };
    assert_eq!(deadline(&scene, 0), at(185));
    assert_eq!(deadline(&scene, 1), at(350));
}

#[test]
fn what_cannot_be_rolled_back_refuses_the_request_unless_it_is_to_go_on() {
    type Trouble = fn(&mut ObservedTarget);
    let troubles: [(Trouble, Reason); 5] = [
        (
            |seen| seen.deployment = Fetched::Absent,
            Reason::DeploymentNotFound,
        ),
        (
            |seen| seen.deployment = crate::world::seen(paused()),
            Reason::Paused,
        ),
        (|seen| seen.replica_sets.clear(), Reason::NoHistory),
        (
            |seen| {
                let twin = template_in("web", "v0");
                seen.replica_sets.extend(sets([crate::world::replica_set_in(
                    "web", "v0", "1", &twin,
                )]));
            },
            Reason::Ambiguous,
        ),
        (
            |seen| {
                seen.rehearsal = Fetched::Found(rollback_core::observed::Rehearsal::Refused {
                    code: 403,
                    message: "no".to_owned(),
                });
            },
            Reason::PatchRejected,
        ),
    ];
    for (trouble, reason) in troubles {
        for on_failure in ["Stop", "Restore"] {
            let mut scene = three(&json!({"onFailure": on_failure}));
            trouble(scene.of("web"));
            let outcome = scene.ends(RequestState::Refused, Reason::TargetsRefused);
            assert!(
                outcome.message.starts_with(
                    "Some of the Deployments cannot be rolled back, so none is. web: "
                ),
                "{}",
                outcome.message
            );
            assert_eq!(scene.status().plan, None);
        }
        let mut scene = three(&json!({"onFailure": "Continue"}));
        trouble(scene.of("web"));
        scene.until(Phase::AwaitingApproval);
        let plan = scene.status().plan.unwrap();
        assert_eq!(names(&plan), ["api", "worker"]);
        let skipped = &plan.skipped[0];
        assert_eq!(
            (skipped.name.as_str(), skipped.result, skipped.reason),
            ("web", RequestState::Refused, reason)
        );
    }
}

fn paused() -> Value {
    let mut object = deployment_in("web", &template_in("web", "v2"));
    object["spec"]["paused"] = json!(true);
    object
}

#[test]
fn what_was_merely_found_and_has_no_past_is_left_as_it_is() {
    let trouble = |scene: &mut Scene| scene.of("web").replica_sets.clear();
    let mut found = Scene::prefixed("w", &["web", "worker"], &json!({}));
    trouble(&mut found);
    found.until(Phase::AwaitingApproval);
    let plan = found.status().plan.unwrap();
    assert_eq!(names(&plan), ["worker"]);
    assert_eq!(
        (plan.skipped[0].name.as_str(), plan.skipped[0].reason),
        ("web", Reason::NoHistory)
    );
    // But a paused one is in the way of what was asked for.
    let mut found = Scene::prefixed("w", &["web", "worker"], &json!({}));
    found.of("web").deployment = crate::world::seen(paused());
    found.ends(RequestState::Refused, Reason::TargetsRefused);
    // And when none has a past, there is nothing to do.
    let mut found = Scene::prefixed("w", &["web"], &json!({}));
    trouble(&mut found);
    found.ends(RequestState::Refused, Reason::TargetsRefused);
}

#[test]
fn what_needs_nothing_is_skipped_and_when_all_do_it_is_done() {
    let to = json!({"revision": 2});
    let fields = json!({"targets": [
        {"name": "api", "to": {"previous": {}}},
        {"name": "web", "to": to},
        {"name": "worker", "from": {"image": "gone:1"}, "to": {"previous": {}}},
    ]});
    let mut scene = Scene::new(&fields);
    scene.observed = found(&[(0, "api"), (1, "web"), (2, "worker")]);
    scene.until(Phase::AwaitingApproval);
    let plan = scene.status().plan.unwrap();
    assert_eq!(names(&plan), ["api"]);
    let skipped: Vec<_> = plan
        .skipped
        .iter()
        .map(|one| (one.result, one.reason))
        .collect();
    assert_eq!(
        skipped,
        [
            (RequestState::Succeeded, Reason::NoOp),
            (RequestState::Superseded, Reason::NotLive)
        ]
    );
    let fields = json!({"targets": [
        {"name": "web", "to": to},
        {"name": "worker", "from": {"image": "gone:1"}, "to": {"previous": {}}},
    ]});
    let mut scene = Scene::new(&fields);
    scene.observed = found(&[(0, "web"), (1, "worker")]);
    let outcome = scene.ends(RequestState::Succeeded, Reason::NoOp);
    assert_eq!(
        outcome.message,
        "None of the 2 Deployments is rolled back (NoOp: 1, NotLive: 1). Nothing was changed."
    );
}

#[test]
fn a_refusal_names_ten() {
    let names: Vec<String> = (0..13).map(|number| format!("web-{number:02}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let mut scene = Scene::many(&names, &json!({}));
    for name in &names {
        scene.of(name).deployment = Fetched::Absent;
    }
    let outcome = scene.ends(RequestState::Refused, Reason::TargetsRefused);
    assert!(outcome.message.contains("web-09: spec.targets[9].name"));
    assert!(!outcome.message.contains("web-10"));
    assert!(outcome.message.contains("And 3 more."));
}

#[test]
fn at_most_so_many_at_the_same_time() {
    for (parallelism, first) in [
        (1, vec!["api"]),
        (2, vec!["api", "web"]),
        (3, vec!["api", "web", "worker"]),
        (50, vec!["api", "web", "worker"]),
    ] {
        let mut scene = three(&json!({"parallelism": parallelism})).approved();
        scene.settle_all();
        assert_eq!(under_way(&scene), first, "{parallelism}");
        assert_eq!(scene.phase(), Phase::RollingOut);
    }
    // One that ends makes room for the next.
    let mut scene = three(&json!({"parallelism": 2})).approved();
    rolls_out(&mut scene, &["web"]);
    assert_eq!(under_way(&scene), ["api", "worker"]);
    rolls_out(&mut scene, &["api", "worker"]);
    assert_eq!(scene.state(), "Succeeded/Unverified");
}

#[test]
fn the_writes_of_one_pass_are_of_different_deployments() {
    let mut scene = three(&json!({"parallelism": 3})).approved();
    for expected in ["Claim", "BackUp", "Revert"] {
        let decision = scene.pass_all();
        let names: Vec<&str> = decision
            .steps
            .iter()
            .map(|step| crate::world::Move::Write(step.clone()).name())
            .collect();
        assert_eq!(names, [expected; 3]);
        assert_eq!(decision.next, Next::Again);
    }
}

#[test]
fn a_wave_begins_when_those_before_it_have_ended() {
    let to = json!({"previous": {}});
    let fields = json!({"targets": [
        {"name": "api", "to": to}, {"name": "web", "to": to},
        {"name": "worker", "to": to, "wave": 1}, {"name": "cron", "to": to, "wave": 7},
    ]});
    let mut scene = Scene::new(&fields);
    scene.observed = found(&[(0, "api"), (1, "web"), (2, "worker"), (3, "cron")]);
    let mut scene = scene.approved();
    scene.settle_all();
    assert_eq!(under_way(&scene), ["api", "web"]);
    rolls_out(&mut scene, &["api"]);
    assert_eq!(under_way(&scene), ["web"]);
    rolls_out(&mut scene, &["web"]);
    assert_eq!(under_way(&scene), ["worker"]);
    rolls_out(&mut scene, &["worker"]);
    assert_eq!(under_way(&scene), ["cron"]);
    rolls_out(&mut scene, &["cron"]);
    let outcome = scene.outcome();
    assert_eq!(
        outcome.message,
        "Rolled back, but not everything was verified: see status.targets. 4 Deployments: 4 Unverified."
    );
}

#[test]
fn how_several_end_well() {
    let checks = json!({"verification": {"http": [
        {"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}
    ]}});
    let mut scene = three(&json!({"parallelism": 3}))
        .with_policy(checks)
        .approved();
    rolls_out(&mut scene, &["api", "web", "worker"]);
    assert_eq!(scene.phase(), Phase::Verifying);
    scene.probe(200);
    let outcome = scene.ends(RequestState::Succeeded, Reason::RolledBack);
    assert_eq!(
        outcome.message,
        "Rolled back and verified. 3 Deployments: 3 RolledBack."
    );
    // One of them needed nothing any more: still all is as it should be.
    let mut scene = three(&json!({"parallelism": 3})).approved();
    scene.deploy_to("web", &template_in("web", "v1"));
    scene.deploy_to("worker", &template_in("worker", "v3"));
    rolls_out(&mut scene, &["api"]);
    assert_eq!(
        scene.words(),
        [
            "api Succeeded/Unverified",
            "web Superseded/NotLive",
            "worker Superseded/NotLive"
        ]
    );
    assert_eq!(scene.state(), "Succeeded/Unverified");
    // None of them did.
    let mut scene = three(&json!({"parallelism": 3})).approved();
    for name in ["api", "web", "worker"] {
        scene.deploy_to(name, &template_in(name, "v3"));
    }
    let outcome = scene.ends(RequestState::Superseded, Reason::NotLive);
    assert!(
        outcome
            .message
            .starts_with("There was nothing left to roll back."),
        "{}",
        outcome.message
    );
}

#[test]
fn stop_begins_no_other_and_those_under_way_go_on() {
    let mut scene = three(&json!({"parallelism": 2})).reverted();
    scene.settle_all();
    scene.now = at(185);
    scene.roll_out_of("web");
    scene.settle_all();
    assert_eq!(
        scene.words(),
        [
            "api Failed/RolloutTimedOut",
            "web Succeeded/Unverified",
            "worker Cancelled/NotBegun"
        ]
    );
    let outcome = scene.ends(RequestState::Failed, Reason::TargetsFailed);
    assert!(
        outcome
            .message
            .starts_with("Not every Deployment was rolled back. 3 Deployments: 1 NotBegun, 1 RolloutTimedOut, 1 Unverified. api: "),
        "{}",
        outcome.message
    );
    assert_eq!(
        scene.deployment_of("worker"),
        &deployment_in("worker", &template_in("worker", "v2"))
    );
    let stopped = scene.status().stopped.unwrap();
    assert_eq!(
        (stopped.result, stopped.reason),
        (RequestState::Failed, Reason::TargetsFailed)
    );
}

#[test]
fn stop_is_stored_with_the_failure_and_before_anything_else_begins() {
    let mut scene = three(&json!({})).reverted();
    scene.now = at(185);
    let decision = scene.commit_all();
    assert_eq!(decision.steps, []);
    assert!(decision.status.stopped.is_some());
    assert_eq!(
        scene.words()[1..],
        ["web Cancelled/NotBegun", "worker Cancelled/NotBegun"]
    );
}

#[test]
fn continue_rolls_back_the_others_nevertheless() {
    let mut scene = three(&json!({"onFailure": "Continue"})).reverted();
    scene.now = at(185);
    rolls_out(&mut scene, &["web", "worker"]);
    assert_eq!(
        scene.words(),
        [
            "api Failed/RolloutTimedOut",
            "web Succeeded/Unverified",
            "worker Succeeded/Unverified"
        ]
    );
    assert_eq!(scene.state(), "Failed/TargetsFailed");
    assert_eq!(scene.status().stopped, None);
}

#[test]
fn a_target_that_cannot_be_written_is_a_failure_like_any_other() {
    type Trouble = fn(&mut Scene);
    let troubles: [(Trouble, &str); 5] = [
        (
            |scene| scene.of("api").deployment = Fetched::Absent,
            "api Failed/TargetGone",
        ),
        (
            |scene| {
                scene.of("api").access = Fetched::Found(Access::Denied {
                    who: "ann".to_owned(),
                    what: "patch".to_owned(),
                });
            },
            "api Refused/Forbidden",
        ),
        (
            |scene| scene.edit_of("api", |d| d["spec"]["paused"] = json!(true)),
            "api Refused/Paused",
        ),
        (
            |scene| {
                scene.of("api").replica_sets.remove(0);
            },
            "api Refused/HistoryPruned",
        ),
        (
            |scene| {
                scene.of("api").replica_sets[0].0["spec"]["template"]["spec"]["containers"][0]["image"] =
                    json!("evil");
            },
            "api Refused/DigestMismatch",
        ),
    ];
    for (trouble, state) in troubles {
        let mut stopped = three(&json!({})).approved();
        trouble(&mut stopped);
        stopped.ends(RequestState::Failed, Reason::TargetsFailed);
        assert_eq!(
            stopped.words(),
            [state, "web Cancelled/NotBegun", "worker Cancelled/NotBegun"]
        );
        let mut going = three(&json!({"onFailure": "Continue"})).approved();
        trouble(&mut going);
        rolls_out(&mut going, &["web", "worker"]);
        assert_eq!(
            going.words(),
            [
                state,
                "web Succeeded/Unverified",
                "worker Succeeded/Unverified"
            ]
        );
    }
}

#[test]
fn one_that_is_gone_ends_for_itself_while_the_others_wait_for_people() {
    let mut scene = three(&json!({"onFailure": "Continue"}));
    scene.until(Phase::AwaitingApproval);
    scene.of("web").deployment = Fetched::Absent;
    scene.settle_all();
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    assert_eq!(
        scene.words(),
        ["api Waiting", "web Failed/TargetGone", "worker Waiting"]
    );
    approve(&mut scene.request, "bob@broxiva.com");
    rolls_out(&mut scene, &["api", "worker"]);
    assert_eq!(scene.state(), "Failed/TargetsFailed");
}

#[test]
fn what_cannot_be_read_delays_nobody_but_itself() {
    let mut scene = three(&json!({"parallelism": 3})).approved();
    scene.of("web").access = Fetched::Unknown;
    scene.of("worker").ledger = Fetched::Unknown;
    rolls_out(&mut scene, &["api"]);
    assert_eq!(
        scene.words(),
        ["api Succeeded/Unverified", "web Waiting", "worker Waiting"]
    );
    scene.of("web").access = Fetched::Found(Access::Allowed);
    rolls_out(&mut scene, &["web"]);
    assert_eq!(
        scene.words()[1..],
        ["web Succeeded/Unverified", "worker Waiting"]
    );
    // Nor does one whose Deployment cannot be read.
    let mut scene = three(&json!({"parallelism": 3})).approved();
    scene.of("web").deployment = Fetched::Unknown;
    rolls_out(&mut scene, &["api", "worker"]);
    assert_eq!(
        scene.words(),
        [
            "api Succeeded/Unverified",
            "web Waiting",
            "worker Succeeded/Unverified"
        ]
    );
    // Nor one that waits for another request.
    let mut scene = three(&json!({"parallelism": 3})).approved();
    let mut theirs = claimed_by("other", "r-2");
    theirs.target_ref.uid = "d-web".to_owned();
    scene.of("web").ledger = Fetched::Found(theirs);
    scene.of("web").rival = Fetched::Found(Rival {
        name: "other".to_owned(),
        active: true,
        committed: true,
        unknown: None,
    });
    rolls_out(&mut scene, &["api", "worker"]);
    assert_eq!(
        scene.words(),
        [
            "api Succeeded/Unverified",
            "web Waiting",
            "worker Succeeded/Unverified"
        ]
    );
}

#[test]
fn a_write_that_is_refused_is_the_end_of_that_target_only() {
    let mut scene = three(&json!({"parallelism": 3, "onFailure": "Continue"})).approved();
    let patch = loop {
        let decision = scene.commit_all();
        let refused = decision.steps.iter().find_map(|step| match step {
            Step::Revert(revert) if revert.workload.name == "web" => Some(revert.patch.clone()),
            _ => None,
        });
        for step in &decision.steps {
            if !matches!(step, Step::Revert(revert) if revert.workload.name == "web") {
                scene.act(step);
            }
        }
        if let Some(patch) = refused {
            break patch;
        }
    };
    scene.of("web").rejection = Some(Rejection {
        patch,
        code: 422,
        message: "no".to_owned(),
    });
    rolls_out(&mut scene, &["api", "worker"]);
    assert_eq!(
        scene.words(),
        [
            "api Succeeded/Unverified",
            "web Failed/PatchRejected",
            "worker Succeeded/Unverified"
        ]
    );
}

#[test]
fn withdrawn_in_the_middle_spares_what_has_not_begun() {
    type Say = fn(&mut RollbackRequest);
    let cancel: Say = |request| annotate(request, CANCELLED_BY, "bob");
    let deny: Say = |request| annotate(request, DENIED_BY, "bob");
    let delete: Say = |request| {
        request.metadata.deletion_timestamp =
            Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(6)));
    };
    for (say, state, reason, by) in [
        (
            cancel,
            RequestState::Cancelled,
            Reason::CancelledByUser,
            Some("bob"),
        ),
        (
            deny,
            RequestState::Denied,
            Reason::DeniedByApprover,
            Some("bob"),
        ),
        (delete, RequestState::Cancelled, Reason::Deleted, None),
    ] {
        // Before anything: as for a single one.
        let mut early = three(&json!({})).approved();
        say(&mut early.request);
        let outcome = early.ends(state, reason);
        assert!(outcome.message.contains("Nothing was changed"));
        // In the middle.
        let mut scene = three(&json!({})).reverted();
        say(&mut scene.request);
        scene.settle_all();
        assert_eq!(
            scene.words(),
            [
                "api RollingOut",
                "web Cancelled/NotBegun",
                "worker Cancelled/NotBegun"
            ]
        );
        scene.roll_out_of("api");
        let outcome = scene.ends(state, reason);
        assert_eq!(outcome.by.as_deref(), by);
        assert!(
            !outcome.message.contains("Nothing was changed")
                && !outcome.message.contains("before anything was done")
                && outcome.message.contains("Those that had begun were carried out. 3 Deployments: 2 NotBegun, 1 Unverified."),
            "{}",
            outcome.message
        );
        assert_eq!(
            scene.deployment_of("api")["spec"]["template"],
            template_in("api", "v1")
        );
        // With the intent stored, the write may be on its way: it is made, and nothing else.
        let mut scene = three(&json!({})).intended_many();
        say(&mut scene.request);
        rolls_out(&mut scene, &["api"]);
        assert_eq!(scene.outcome().result, state);
        assert_eq!(scene.words()[0], "api Succeeded/Unverified");
        // When all have begun there is nothing to withdraw.
        let mut scene = three(&json!({"parallelism": 3})).reverted();
        scene.settle_all();
        say(&mut scene.request);
        rolls_out(&mut scene, &["api", "web", "worker"]);
        assert_eq!(scene.state(), "Succeeded/Unverified");
    }
}

#[test]
fn the_time_to_approve_is_not_the_time_to_roll_back() {
    // Approved in time, it goes on after the expiry, as long as the approval is young enough.
    let mut scene = three(&json!({}))
        .with_policy(json!({"approvals": {"validForSeconds": 7200}}))
        .reverted();
    scene.now = at(3700);
    scene.roll_out_of("api");
    rolls_out(&mut scene, &["api", "web", "worker"]);
    assert_eq!(scene.state(), "Succeeded/Unverified");
    // Not so when the approvals of the rest are void and nobody gives them again.
    let mut scene = three(&json!({})).reverted();
    scene.observed.policy = Fetched::Found(policy(json!({"environment": "staging"})));
    scene.settle_all();
    scene.roll_out_of("api");
    scene.settle_all();
    assert_eq!(
        scene.words(),
        ["api Succeeded/Unverified", "web Waiting", "worker Waiting"]
    );
    assert_eq!(scene.phase(), Phase::AwaitingApproval);
    scene.now = at(3600);
    let outcome = scene.ends(RequestState::Expired, Reason::NotApprovedInTime);
    assert!(
        !outcome.message.contains("Nothing was changed"),
        "{}",
        outcome.message
    );
    assert_eq!(
        scene.words()[1..],
        ["web Cancelled/NotBegun", "worker Cancelled/NotBegun"]
    );
}

#[test]
fn another_policy_or_guard_in_the_middle_voids_the_approvals_of_the_rest() {
    type Change = fn(&mut Scene);
    let changes: [(&str, Change); 3] = [
        ("policy", |scene| {
            scene.observed.policy = Fetched::Found(policy(json!({"environment": "staging"})));
        }),
        ("guard", |scene| {
            scene.observed.guard.present[0] = guard_policy("approvals", 2);
        }),
        ("guard away", |scene| {
            scene.observed.guard.holes.push("x".to_owned());
        }),
    ];
    for (what, change) in changes {
        let mut scene = three(&json!({})).reverted();
        let before = scene.status();
        change(&mut scene);
        scene.settle_all();
        let status = scene.status();
        assert!(status.approvals.is_empty(), "{what}");
        assert_eq!(scene.phase(), Phase::AwaitingApproval, "{what}");
        assert_eq!(
            status.plan.as_ref().unwrap().targets,
            before.plan.unwrap().targets,
            "{what}"
        );
        // The one under way goes on to its end.
        scene.roll_out_of("api");
        scene.settle_all();
        assert_eq!(
            scene.words(),
            ["api Succeeded/Unverified", "web Waiting", "worker Waiting"],
            "{what}"
        );
        // Approved again, the rest follows.
        scene.observed.guard.holes.clear();
        scene.settle_all();
        approve(&mut scene.request, "cat@broxiva.com");
        rolls_out(&mut scene, &["web", "worker"]);
        assert_eq!(scene.state(), "Succeeded/Unverified", "{what}");
    }
}

#[test]
fn whose_turn_it_is() {
    let scene = three(&json!({"parallelism": 2})).approved();
    let (status, plan) = (scene.status(), scene.status().plan.unwrap());
    assert_eq!(due(&plan, &status, 2), [0, 1]);
    assert_eq!(due(&plan, &status, 10), [0, 1, 2]);
    // Nonsense is one.
    for parallelism in [1, 0, -1, i32::MIN] {
        assert_eq!(due(&plan, &status, parallelism), [0], "{parallelism}");
    }
    let mut waves = plan.clone();
    waves.targets[0].wave = 5;
    assert_eq!(due(&waves, &status, 10), [1, 2]);
}

#[test]
fn one_column_for_many() {
    let summary = |scene: &Scene| scene.status().summary.unwrap().target;
    let mut scene = three(&json!({"parallelism": 3, "onFailure": "Continue"})).reverted();
    assert_eq!(summary(&scene), "3 Deployments");
    rolls_out(&mut scene, &["api"]);
    assert_eq!(summary(&scene), "3 Deployments (1 done)");
    let ready = scene.status().conditions[0].message.clone();
    assert!(
        ready.starts_with("1 of 3 Deployments have ended (1 Unverified), 2 are under way."),
        "{ready}"
    );
    scene.now = at(190);
    scene.settle_all();
    assert_eq!(summary(&scene), "3 Deployments (1 done, 2 not)");
}

#[test]
fn every_ledger_remembers_its_own_and_is_given_back() {
    let mut scene = three(&json!({"parallelism": 3, "onFailure": "Continue"})).reverted();
    rolls_out(&mut scene, &["api", "web"]);
    scene.now = at(190);
    scene.settle_all();
    for (name, state) in [
        ("api", RequestState::Succeeded),
        ("web", RequestState::Succeeded),
        ("worker", RequestState::Failed),
    ] {
        let ledger = scene.target(name).ledger.found().unwrap();
        assert_eq!(ledger.claim, None);
        assert_eq!(ledger.rollbacks.len(), 1);
        assert_eq!(ledger.rollbacks[0].from_digest, digest_in(name, "v2"));
        assert_eq!(ledger.rollbacks[0].outcome, state, "{name}");
    }
    // The claims of those that cannot be read are not forgotten, and nothing else is done before.
    assert_eq!(scene.request.metadata.finalizers, None);
    let mut scene = three(&json!({"parallelism": 3})).reverted();
    scene.settle_all();
    scene.of("web").ledger = Fetched::Unknown;
    scene.now = at(190);
    let next = scene.settle_all();
    assert_eq!(
        next,
        Next::Wait {
            until: Some(at(191))
        }
    );
    assert!(scene.request.metadata.finalizers.is_some());
}

#[test]
fn made_again_what_was_rolled_back_is_left_and_the_rest_is_done() {
    let mut first = three(&json!({})).reverted();
    first.now = at(185);
    first.settle_all();
    assert_eq!(first.words()[0], "api Failed/RolloutTimedOut");
    // GitOps deletes it and creates it again.
    let mut again = three(&json!({}));
    again.request.metadata.uid = Some("another".to_owned());
    again.of("api").ledger = first.target("api").ledger.clone();
    again.until(Phase::AwaitingApproval);
    let plan = again.status().plan.unwrap();
    assert_eq!(names(&plan), ["web", "worker"]);
    assert_eq!(plan.skipped[0].reason, Reason::AlreadyRolledBack);
}
