//! What is ours: nothing that was not begun upon approvals that sufficed at that moment, whatever stands on an object;
//! and what was begun is carried out as the plan says that was approved, and not as another one says.

use crate::world::{
    Move, REQUEST, REQUESTER, Scene, annotate, approve, at, deployment, digest, replica_set, seen,
    sets, template, template_in,
};
use rollback_api::{CANCELLED_BY, DENIED_BY, Reason, RequestState, RollbackRequest, WITHDRAWN_BY};
use rollback_core::approval::consent;
use rollback_core::decide::decide;
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::{Next, Step};
use rollback_core::observed::{Fetched, Rejection};
use serde_json::{Value, json};

/// Everything that somebody may write who knows the UID of the request.
fn forgeries() -> Vec<Option<String>> {
    vec![
        None,
        Some(format!("anything {REQUEST}")),
        Some(crate::world::CAUSE.to_owned()),
        Some(format!(
            "fallback: rollback to what api-v0 keeps by RollbackRequest api-5xx ({REQUEST})"
        )),
        Some(format!(
            "restore of backup rollback-backup-0 by RollbackRequest api-5xx ({REQUEST})"
        )),
    ]
}

/// Somebody writes a template and a change-cause to this Deployment.
fn hand(scene: &mut Scene, name: &str, template: &Value, cause: Option<&str>) {
    scene.deploy_to(name, template);
    scene.edit_of(name, |d| {
        if let Some(cause) = cause {
            d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(cause);
        }
        d["metadata"]["managedFields"] = json!([{
            "manager": "kubectl-edit", "operation": "Update", "time": "2026-11-23T14:02:00Z",
            "fieldsV1": {"f:spec": {"f:template": {}}},
        }]);
    });
}

/// Passes to the end; nothing but records, release and the finalizer may be asked for, of this Deployment or of any.
fn only_records(scene: &mut Scene, deployment: Option<&str>) {
    for _ in 0..60 {
        let decision = scene.pass_all();
        for step in &decision.steps {
            let touched = match step {
                Step::Claim { .. }
                | Step::BackUp(_)
                | Step::Publish(_)
                | Step::Release { .. }
                | Step::AddFinalizer
                | Step::EmptyMailbox
                | Step::DropFinalizer => None,
                Step::Revert(write) | Step::Disown(write) => Some(write.workload.name.clone()),
                Step::RunJob { workload, .. } | Step::ForceDelete { workload, .. } => {
                    Some(workload.name.clone())
                }
                Step::Scale(scale) => Some(scale.workload.name.clone()),
                Step::PlaceHold(place) => Some(place.workload.name.clone()),
            };
            if let Some(touched) = touched {
                assert!(
                    deployment.is_some_and(|deployment| deployment != touched),
                    "{step:?}"
                );
            }
        }
        if decision.next == Next::Done {
            return;
        }
    }
}

fn remembered(scene: &Scene, name: &str) -> usize {
    let ledger = scene.target(name).ledger.found();
    ledger.map_or(0, |ledger| ledger.rollbacks.len())
}

/// A policy in which everything may be done that a policy can allow, also two approvals.
fn powerful() -> Value {
    let job = |name: &str| {
        json!({
            "name": name, "timeoutSeconds": 60,
            "podSpec": {"containers": [{"name": "main", "command": ["check"]}]},
            "imageOf": {"version": "Newer", "container": "api"},
        })
    };
    json!({
        "approvals": {"required": 2, "validForSeconds": 300},
        "hooks": {"preRollback": [job("drain")], "postRollback": [job("tell")]},
        "verification": {
            "onFailure": "TryOlder", "jobs": [job("smoke")],
            "http": [{"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}],
        },
        "remedies": {"forceDeleteAfterSeconds": 60},
    })
}

#[test]
fn nobody_has_approved_and_an_annotation_says_that_we_wrote_it() {
    type State = fn(&mut Scene);
    let nobody: State = |_| {};
    let one_of_two: State = |scene| {
        approve(&mut scene.request, "bob@broxiva.com");
        scene.settle();
    };
    let withdrawn: State = |scene| {
        approve(&mut scene.request, "bob@broxiva.com");
        scene.settle();
        annotate(&mut scene.request, WITHDRAWN_BY, "bob@broxiva.com");
    };
    let expired: State = |scene| {
        approve(&mut scene.request, "bob@broxiva.com");
        scene.settle();
        scene.now = at(400);
    };
    let policies = [json!({}), powerful()];
    for (policy, (what, state), forgery) in policies.iter().flat_map(|policy| {
        [
            ("nobody", nobody),
            ("one of two", one_of_two),
            ("withdrawn", withdrawn),
            ("expired", expired),
        ]
        .into_iter()
        .flat_map(move |state| {
            forgeries()
                .into_iter()
                .map(move |forgery| (policy, state, forgery))
        })
    }) {
        if what != "nobody" && policy.get("approvals").is_none() {
            continue;
        }
        let mut scene = Scene::default().with_policy(policy.clone());
        scene.until(Phase::AwaitingApproval);
        state(&mut scene);
        hand(&mut scene, "api", &template("v1"), forgery.as_deref());
        // The Deployment controller copies it.
        if let Some(forgery) = &forgery {
            scene.seen().replica_sets[0].0["metadata"]["annotations"]["kubernetes.io/change-cause"] =
                json!(forgery);
        }
        only_records(&mut scene, None);
        let outcome = scene.ends(RequestState::Superseded, Reason::NotLive);
        assert!(
            outcome
                .message
                .contains("somebody else (field manager kubectl-edit) was faster"),
            "{what}: {}",
            outcome.message
        );
        let signed = forgery.is_some();
        assert_eq!(
            outcome.message.contains("did not write it"),
            signed,
            "{what}: {}",
            outcome.message
        );
        let progress = scene.status().targets[0].clone();
        assert_eq!(
            (progress.begun, progress.reverted_at, progress.rollout),
            (None, None, None),
            "{what}"
        );
        assert_eq!(remembered(&scene, "api"), 0, "{what}");
    }
}

/// Another template than the planned one, as it stands when a webhook altered ours or when ours was undone.
#[test]
fn another_template_with_our_name_is_somebody_elses() {
    for (version, forgery) in ["v3", "v0"]
        .into_iter()
        .flat_map(|version| forgeries().into_iter().map(move |it| (version, it)))
    {
        for mut scene in [Scene::default(), Scene::default().approved()] {
            scene.until(scene.phase().max(Phase::AwaitingApproval));
            hand(&mut scene, "api", &template(version), forgery.as_deref());
            only_records(&mut scene, None);
            scene.ends(RequestState::Superseded, Reason::NotLive);
            assert_eq!(remembered(&scene, "api"), 0);
        }
    }
    // The bad one, as if ours had been undone: the request waits for people as before.
    for forgery in forgeries() {
        let mut scene = Scene::default();
        scene.until(Phase::AwaitingApproval);
        hand(&mut scene, "api", &template("v2"), forgery.as_deref());
        scene.seen().replica_sets[0].0["metadata"]["annotations"]["kubernetes.io/change-cause"] =
            json!(crate::world::CAUSE);
        scene.settle();
        assert_eq!(scene.phase(), Phase::AwaitingApproval, "{forgery:?}");
        // Approved, it is rolled back.
        approve(&mut scene.request, "bob@broxiva.com");
        scene.until(Phase::RollingOut);
        assert_eq!(scene.deployment()["spec"]["template"], template("v1"));
    }
}

/// The intent is stored, and nothing was written since: no annotation can say otherwise.
#[test]
fn what_has_its_generation_was_not_written() {
    let mut scene = Scene::default().intended();
    for set in &mut scene.seen().replica_sets {
        set.0["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(crate::world::CAUSE);
    }
    scene.edit(|d| {
        d["metadata"]["annotations"]["kubernetes.io/change-cause"] = json!(crate::world::CAUSE);
    });
    assert_eq!(scene.decide().name(), "Revert");
}

fn two() -> Scene {
    Scene::many(&["api", "web"], &json!({"rollout": {"parallelism": 1}}))
        .with_policy(json!({"approvals": {"validForSeconds": 60}}))
        .reverted()
}

type Say = fn(&mut Scene);

/// The first of two is rolled back; then its approval ends, and the second is not begun.
#[test]
fn every_deployment_is_begun_upon_approvals_that_suffice_then() {
    let withdrawn: Say = |scene| {
        annotate(&mut scene.request, WITHDRAWN_BY, "bob@broxiva.com");
    };
    let too_old: Say = |scene| scene.now = at(70);
    let frozen: Say = |_| {};
    let guard: Say = |scene| scene.observed.guard.holes = vec!["a policy is gone".to_owned()];
    for (what, say, state) in [
        ("withdrawn", withdrawn, "AwaitingApproval"),
        ("too old", too_old, "AwaitingApproval"),
        ("guard", guard, "AwaitingApproval"),
        ("frozen", frozen, "Frozen"),
    ] {
        let mut scene = if what == "frozen" {
            // The requests of these tests are made at 14:00.
            let window = json!({"name": "soon", "schedule": "1 14 * * *", "durationMinutes": 10});
            Scene::many(&["api", "web"], &json!({"rollout": {"parallelism": 1}}))
                .with_policy(json!({"freezeWindows": [window]}))
                .reverted()
        } else {
            two()
        };
        scene.settle_all();
        if what == "frozen" {
            scene.now = at(70);
        }
        say(&mut scene);
        scene.roll_out_of("api");
        for _ in 0..10 {
            let decision = scene.pass_all();
            for step in &decision.steps {
                assert!(!format!("{step:?}").contains("\"web\""), "{what}: {step:?}");
            }
        }
        assert_eq!(
            scene.words(),
            ["api Succeeded/Unverified", "web Waiting"],
            "{what}"
        );
        assert_eq!(scene.state(), state, "{what}");
        // Who approved what was begun is still known.
        let status = scene.status();
        let begun = status.targets[0].begun.clone().unwrap();
        assert_eq!(begun.approved_by, ["bob@broxiva.com"], "{what}");
        let names: Vec<&str> = consent::approvals(&status)
            .iter()
            .map(|approval| approval.by.username.as_str())
            .collect();
        assert_eq!(names, ["bob@broxiva.com"], "{what}");
        assert_eq!(
            status.approved_by.as_deref(),
            Some("bob@broxiva.com"),
            "{what}"
        );
        let plan = status.plan.unwrap();
        scene.now = plan.not_after;
        scene.settle_all();
        if what == "frozen" {
            // It was approved in time, and the window is over.
            let words = scene.words();
            assert_eq!(
                words,
                ["api Succeeded/Unverified", "web RollingOut"],
                "{what}"
            );
            continue;
        }
        // Nobody approves again: it ends, and says which was not begun.
        assert_eq!(
            scene.words(),
            ["api Succeeded/Unverified", "web Cancelled/NotBegun"],
            "{what}"
        );
        assert_eq!(scene.state(), "Expired/NotApprovedInTime", "{what}");
        let report = rollback_core::report::incident(&scene.request, &scene.status()).unwrap();
        let page: String = report.data.values().cloned().collect();
        assert!(
            page.contains("Approved by bob@broxiva.com"),
            "{what}: {page}"
        );
    }
}

/// Approved again, the second is begun upon the new approval, and the first one keeps its own.
#[test]
fn a_new_approval_is_for_what_has_not_begun() {
    let mut scene = two();
    scene.now = at(70);
    scene.settle_all();
    assert_eq!(scene.words(), ["api RollingOut", "web Waiting"]);
    let first = scene.status().targets[0].begun.clone().unwrap();
    approve(&mut scene.request, "cat@broxiva.com");
    scene.settle_all();
    // One at a time.
    assert_eq!(scene.words(), ["api RollingOut", "web Waiting"]);
    scene.roll_out_of("api");
    scene.settle_all();
    assert_eq!(
        scene.words(),
        ["api Succeeded/Unverified", "web RollingOut"]
    );
    let status = scene.status();
    assert_eq!(status.targets[0].begun.as_ref(), Some(&first));
    let second = status.targets[1].begun.clone().unwrap();
    assert_eq!(second.approved_by, ["cat@broxiva.com"]);
    assert_ne!(second.plan_digest, first.plan_digest);
    scene.roll_out_of("web");
    scene.settle_all();
    assert_eq!(scene.state(), "Succeeded/Unverified");
    let by = scene.status().approved_by.unwrap();
    assert_eq!(by, "bob@broxiva.com,cat@broxiva.com");
}

/// What was begun is finished, whoever takes back an approval meanwhile: its write, too.
#[test]
fn what_was_begun_is_finished() {
    let scene = Scene::many(&["api", "web"], &json!({"rollout": {"parallelism": 1}}));
    let withdrawn: Say = |scene| annotate(&mut scene.request, WITHDRAWN_BY, "bob@broxiva.com");
    let denied: Say = |scene| annotate(&mut scene.request, DENIED_BY, "dan@broxiva.com");
    let cancelled: Say = |scene| annotate(&mut scene.request, CANCELLED_BY, REQUESTER);
    let too_old: Say = |scene| scene.now = at(3700);
    for (what, say) in [
        ("withdrawn", withdrawn),
        ("denied", denied),
        ("cancelled", cancelled),
        ("too old", too_old),
    ] {
        let mut scene = scene.clone().intended_many();
        say(&mut scene);
        scene.settle_all();
        let web = if what == "withdrawn" {
            "web Waiting"
        } else {
            "web Cancelled/NotBegun"
        };
        assert_eq!(scene.words(), ["api RollingOut", web], "{what}");
        assert_eq!(
            scene.deployment_of("api")["spec"]["template"],
            template_in("api", "v1"),
            "{what}"
        );
        assert_eq!(
            scene.deployment_of("web")["spec"]["template"],
            template_in("web", "v2"),
            "{what}"
        );
    }
}

/// The second of two, when the first was begun: an annotation makes it ours as little.
#[test]
fn the_second_of_two_is_not_ours_because_the_first_is() {
    for forgery in forgeries() {
        let mut scene = two();
        annotate(&mut scene.request, WITHDRAWN_BY, "bob@broxiva.com");
        scene.settle_all();
        hand(
            &mut scene,
            "web",
            &template_in("web", "v1"),
            forgery.as_deref(),
        );
        scene.roll_out_of("api");
        only_records(&mut scene, Some("web"));
        assert_eq!(
            scene.words(),
            ["api Succeeded/Unverified", "web Superseded/NotLive"]
        );
        assert_eq!(
            (remembered(&scene, "api"), remembered(&scene, "web")),
            (1, 0)
        );
    }
}

/// The policy changes while one of two is under way: that one is carried out by the rules that were approved.
#[test]
fn a_new_policy_is_for_what_has_not_begun() {
    let job = json!({
        "name": "tell", "timeoutSeconds": 60,
        "podSpec": {"containers": [{"name": "main", "command": ["check"]}]},
        "imageOf": {"version": "Newer", "container": "api"},
    });
    let checks = |more: &Value| {
        let mut all = json!({"verification": {
            "http": [{"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}],
        }});
        for (key, value) in more.as_object().unwrap() {
            all["verification"][key] = value.clone();
        }
        all
    };
    let mut policy = checks(&json!({"onFailure": "Restore", "jobs": [job.clone()]}));
    policy["hooks"] = json!({"postRollback": [job]});
    policy["remedies"] = json!({"forceDeleteAfterSeconds": 1});
    policy["capacity"] = json!({"scaleDown": [{"name": "reports"}]});
    let mut scene = Scene::many(&["api", "web"], &json!({"rollout": {"parallelism": 1}}))
        .with_policy(checks(&json!({})))
        .reverted();
    let approved = scene.status().plan.unwrap();
    scene.observed.policy = Fetched::Found(crate::world::policy(policy));
    scene.settle_all();
    let status = scene.status();
    assert_ne!(status.plan.as_ref().unwrap().digest, approved.digest);
    assert_eq!(
        consent::rules(&status, &status.targets[0]),
        Some(&approved.rules)
    );
    scene.roll_out_of("api");
    scene.settle_all();
    scene.probe(500);
    for _ in 0..10 {
        let decision = scene.pass_all();
        for step in &decision.steps {
            let harmless = matches!(step, Step::Publish(_) | Step::Release { .. });
            assert!(harmless, "{step:?}");
        }
    }
    scene.now = at(400);
    scene.settle_all();
    // What was approved says nothing of bringing anything back.
    assert_eq!(scene.words()[0], "api Failed/ChecksFailed");
    assert_eq!(
        scene.deployment_of("api")["spec"]["template"],
        template_in("api", "v1")
    );
    assert_eq!(scene.words()[1], "web Cancelled/NotBegun");
}

/// Approvals became void after the intent and before anything was written: what is written then is nobody's of us, also
/// where the Deployment was begun once, and nothing follows from it.
#[test]
fn what_is_written_by_hand_once_approvals_are_void_is_theirs() {
    let check = json!({"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1});
    let rules = |required: i32, on_failure: &str| json!({"approvals": {"required": required}, "verification": {"onFailure": on_failure, "http": [check]}});
    for (on_failure, forgery) in
        ["TryOlder", "Restore", "Escalate"]
            .into_iter()
            .flat_map(|on_failure| {
                forgeries()
                    .into_iter()
                    .map(move |forgery| (on_failure, forgery))
            })
    {
        let mut scene = Scene::default()
            .with_policy(rules(1, on_failure))
            .intended()
            .with_policy(rules(3, "Escalate"));
        scene.pass();
        let progress = &scene.status().targets[0];
        assert!(progress.begun.is_some() && progress.revert.is_none());
        assert!(scene.status().approvals.is_empty());
        hand(&mut scene, "api", &template("v1"), forgery.as_deref());
        scene.roll_out();
        scene.probe(500);
        let mut undone = scene.clone();
        only_records(&mut scene, None);
        scene.ends(RequestState::Superseded, Reason::NotLive);
        // Not either when it is replaced before anybody looks.
        hand(&mut undone, "api", &template("v3"), None);
        only_records(&mut undone, None);
        undone.ends(RequestState::Superseded, Reason::NotLive);
    }
}

/// Who changes the Deployment in a loop makes each write of ours fail, and must not hold the rollback so past everything
/// that would keep it from being begun.
#[test]
fn a_write_that_is_known_to_be_refused_has_begun_nothing() {
    let freeze = json!({"freezeWindows": [{"name": "soon", "schedule": "3 14 * * *", "durationMinutes": 10}]});
    let mut raced = Scene::default().with_policy(freeze).intended();
    raced.seen().rejection = Some(Rejection {
        patch: raced.revert().patch,
        code: 422,
        message: "the test did not hold".to_owned(),
    });
    raced.edit(|d| d["metadata"]["generation"] = json!(5));
    // Nothing is in the way: it is written again, and the reader gets to know why it takes so long.
    let again = raced.clone().commit();
    assert!(matches!(again, Move::Write(Step::Revert(_))), "{again:?}");
    let mut twin = raced.clone();
    twin.commit();
    assert!(
        twin.message("Ready")
            .contains("changed the Deployment at the same time")
    );

    let mut denied = raced.clone();
    annotate(&mut denied.request, DENIED_BY, "bob@broxiva.com");
    only_records(&mut denied, None);
    denied.ends(RequestState::Denied, Reason::DeniedByApprover);
    let mut cancelled = raced.clone();
    annotate(&mut cancelled.request, CANCELLED_BY, REQUESTER);
    only_records(&mut cancelled, None);
    cancelled.ends(RequestState::Cancelled, Reason::CancelledByUser);
    let mut withdrawn = raced.clone();
    annotate(&mut withdrawn.request, WITHDRAWN_BY, "bob@broxiva.com");
    withdrawn.settle();
    assert_eq!(withdrawn.phase(), Phase::AwaitingApproval);
    let mut frozen = raced.clone();
    frozen.now = at(200);
    frozen.settle();
    assert_eq!(frozen.state(), "Frozen");
    let mut old = raced.clone();
    old.now = at(3700);
    only_records(&mut old, None);
    old.ends(RequestState::Expired, Reason::NotApprovedInTime);

    // Who does not know that it was refused has begun.
    let mut heir = raced;
    heir.seen().intended = None;
    annotate(&mut heir.request, DENIED_BY, "bob@broxiva.com");
    assert!(matches!(heir.commit(), Move::Write(Step::Revert(_))));
}

/// Its fallback is ours when its own intent was stored, and not before.
#[test]
fn a_fallback_that_somebody_else_writes_is_theirs() {
    for forgery in forgeries() {
        let policy = json!({"verification": {"onFailure": "TryOlder", "http": [
            {"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}
        ]}});
        let mut scene = Scene::default().with_policy(policy);
        let seen_target = scene.of("api");
        seen_target.deployment = seen(deployment("v3"));
        seen_target.replica_sets = sets([
            replica_set("v3", "3"),
            replica_set("v2", "2"),
            replica_set("v1", "1"),
        ]);
        let mut scene = scene.rolled_out();
        scene.probe(500);
        scene.pass();
        scene.now = at(400);
        while scene.status().targets[0].fallback.is_none() {
            scene.pass();
        }
        let mut twin = scene.clone();
        assert_eq!(
            scene.status().targets[0].fallback.as_ref().unwrap().intent,
            None
        );
        hand(&mut scene, "api", &template("v1"), forgery.as_deref());
        scene.roll_out();
        only_records(&mut scene, None);
        let second = scene.status().targets[0].fallback.clone().unwrap();
        assert_eq!((second.intent, second.reverted_at), (None, None));
        scene.ends(RequestState::Superseded, Reason::TemplateChanged);
        // With its intent it is.
        twin.settle();
        let second = twin.status().targets[0].fallback.clone().unwrap();
        assert!(second.intent.is_some() && second.reverted_at.is_some());
        let runs = twin.target("api").deployment.found().unwrap().template();
        assert_eq!(runs.digest(), digest("v1"));
    }
}

/// The way back, which nobody has intended yet.
#[test]
fn a_way_back_that_somebody_else_takes_is_theirs() {
    for forgery in forgeries() {
        let mut scene =
            Scene::new(&json!({"rollout": {"onFailure": "Restore", "timeoutSeconds": 60}}))
                .reverted();
        scene.now = at(400);
        while scene.status().stopped.is_none() {
            scene.commit();
        }
        assert_eq!(scene.status().targets[0].restore, None);
        hand(&mut scene, "api", &template("v2"), forgery.as_deref());
        scene.roll_out();
        only_records(&mut scene, None);
        assert_eq!(scene.words(), ["api Superseded/TemplateChanged"]);
        assert!(scene.outcome().message.contains("kubectl-edit"));
    }
}

/// The gate at the exit asks by itself, whatever led there.
#[test]
fn no_step_goes_out_that_is_not_covered() {
    let scene = Scene::default().intended();
    let status = scene.status();
    let revert = Step::Revert(scene.revert());
    assert!(consent::covers(&status, &revert));
    let mut forged = status.clone();
    forged.targets[0].begun = None;
    forged.approvals.clear();
    assert!(!consent::covers(&forged, &revert));
    // A status that says so nevertheless asks for nothing, and ends.
    let mut request: RollbackRequest = scene.request.clone();
    request.status = Some(forged);
    let decision = decide(
        &request,
        &scene.observed.view(&request, scene.now),
        scene.now,
    );
    assert!(decision.steps.is_empty(), "{:?}", decision.steps);
}
