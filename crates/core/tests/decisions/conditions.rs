//! What kstatus, `kubectl wait` and a person read from the conditions in every state.

use std::collections::BTreeSet;

use crate::world::kstatus::{Kstatus, compute};
use crate::world::{
    Move, Scene, annotate, approve, at, claimed_by, condition_map, digest, policy, set_counts,
    set_progressing, template, workload,
};
use rollback_api::ledger::Rollback;
use rollback_api::status::Outcome;
use rollback_api::{Reason, RequestState, RevisionLedgerSpec, RollbackRequest};
use rollback_core::decide::crowd::Crowd;
use rollback_core::execution::phase::Phase;
use rollback_core::execution::step::Step;
use rollback_core::observed::{Access, Deployment, Fetched, Rejection};
use rollback_core::plan::owner::Owner;
use rollback_core::plan::references::{Presence, Reference, ReferenceKind};
use rollback_core::report::conditions::is_settled;
use serde_json::{Value, json};

/// Every end that a request can come to, by the words of its Ready condition and outcome.
fn ends() -> Vec<(&'static str, Scene)> {
    let checks = json!({"verification": {"timeoutSeconds": 60, "http": [
        {"name": "live", "port": 1, "path": "/", "consecutiveSuccesses": 1}
    ]}});
    let mut all: Vec<(&'static str, Scene)> = Vec::new();
    let mut add = |name, scene: Scene| all.push((name, scene));

    let mut scene = Scene::default().with_policy(checks.clone()).rolled_out();
    scene.probe(200);
    add("Succeeded/RolledBack", scene);
    add("Succeeded/Unverified", Scene::default().rolled_out());
    add("Succeeded/DryRun", Scene::new(&json!({"dryRun": true})));
    let to = |to: Value| json!({"targets": [{"name": "api", "to": to}]});
    add("Succeeded/NoOp", Scene::new(&to(json!({"revision": 2}))));
    let mut scene = Scene::new(&to(json!({"revision": 2})));
    scene.deploy(&crate::world::restarted("v2", "now"));
    add("Succeeded/Equivalent", scene);
    let mut done = Scene::default().rolled_out();
    done.settle();
    let mut scene = Scene::default();
    scene.observed.targets[0].ledger = done.observed.targets[0].ledger.clone();
    add("Succeeded/AlreadyRolledBack", scene);
    let from =
        json!({"targets": [{"name": "api", "from": {"image": "gone:1"}, "to": {"previous": {}}}]});
    add("Superseded/NotLive", Scene::new(&from));
    let mut scene = Scene::default().reverted();
    scene.deploy(&template("v3"));
    add("Superseded/TemplateChanged", scene);
    let mut scene = Scene::default();
    annotate(&mut scene.request, rollback_api::DENIED_BY, "bob");
    add("Denied/DeniedByApprover", scene);
    let mut scene = Scene::default();
    annotate(&mut scene.request, rollback_api::CANCELLED_BY, "bob");
    add("Cancelled/CancelledByUser", scene);
    let mut scene = Scene::default().approved();
    scene.now = at(4000);
    add("Expired/NotApprovedInTime", scene);

    let mut scene = Scene::default();
    scene.observed.targets[0].deployment = Fetched::Absent;
    add("Refused/DeploymentNotFound", scene);
    for (name, pointer, key, value) in [
        (
            "Refused/DeploymentDeleting",
            "metadata",
            "deletionTimestamp",
            json!("now"),
        ),
        ("Refused/Paused", "spec", "paused", json!(true)),
    ] {
        let mut scene = Scene::default();
        scene.edit(|d| d[pointer][key] = value);
        add(name, scene);
    }
    let mut scene = Scene::default();
    scene.edit(|d| d["metadata"]["annotations"]["deprecated.deployment.rollback.to"] = json!("1"));
    add("Refused/LegacyRollback", scene);
    let mut scene = Scene::default();
    scene.observed.targets[0].replica_sets.remove(0);
    add("Refused/NoHistory", scene);
    add(
        "Refused/RevisionNotFound",
        Scene::new(&to(json!({"revision": 99}))),
    );
    let mut scene = Scene::new(&to(json!({"revision": 1})));
    scene.observed.targets[0]
        .replica_sets
        .extend(crate::world::sets([crate::world::replica_set("v0", "1")]));
    add("Refused/Ambiguous", scene);
    let image = to(json!({"image": {"image": "shop:9"}}));
    add("Refused/ImageNotInHistory", Scene::new(&image));
    add(
        "Refused/VersionNotInHistory",
        Scene::new(&to(json!({"version": "v9"}))),
    );
    add(
        "Refused/HotfixForward",
        Scene::new(&json!({"reason": {"category": "Feature", "summary": "s"}})),
    );
    add(
        "Refused/Unsupported",
        Scene::new(&to(json!({"previous": {}, "revision": 1}))),
    );
    add(
        "Refused/NoKnownGood",
        Scene::new(&to(json!({"lastKnownGood": {}}))),
    );
    let backup = to(json!({"backup": "rollback-backup-1"}));
    add("Refused/BackupNotFound", Scene::new(&backup));
    let mut scene = Scene::new(&backup);
    let mut other = crate::world::deployment("v1");
    other["metadata"]["uid"] = json!("d-2");
    scene
        .backups
        .insert("rollback-backup-1".to_owned(), Deployment(other));
    add("Refused/BackupMismatch", scene);
    let mut scene = Scene::default();
    let secret = Reference {
        kind: ReferenceKind::Secret,
        name: "db".to_owned(),
        keys: BTreeSet::new(),
        used_by: BTreeSet::from(["container api env DB_URL".to_owned()]),
    };
    scene.seen().references = vec![(secret, Presence::Missing)];
    add("Refused/ReferenceMissing", scene);
    let mut scene = Scene::default();
    let olm = Owner::Olm {
        name: "shop.v1".to_owned(),
        namespace: None,
    };
    scene.seen().surroundings.owners = vec![(olm, Fetched::Absent)];
    add("Refused/SelfHealingOwner", scene);
    let mut scene = crate::held::kustomized().approved();
    scene.seen().holds_placed = 3;
    add("Refused/HoldNotPlaced", scene);
    let mut scene = Scene::default();
    scene.edit(|d| d["metadata"]["annotations"]["x"] = json!("x".repeat(1_100_000)));
    add("Refused/TooLarge", scene);
    let names: Vec<String> = (0..201).map(|number| format!("web-{number}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    add(
        "Refused/TooMany",
        Scene::prefixed("web-", &names, &json!({})),
    );
    add(
        "Refused/NothingFound",
        Scene::prefixed("web-", &[], &json!({})),
    );
    let mut scene = Scene::many(&["api", "web"], &json!({}));
    scene.of("web").deployment = Fetched::Absent;
    add("Refused/TargetsRefused", scene);
    let mut scene = Scene::default();
    scene.request.metadata.generation = Some(2);
    add("Refused/SpecChanged", scene);
    let mut scene = Scene::default();
    scene.request.spec.requested_by = None;
    add("Refused/RequesterUnknown", scene);
    let mut scene = Scene::default();
    scene.observed.opted_in = Fetched::Found(false);
    add("Refused/NamespaceNotOptedIn", scene);
    add("Refused/SourceNotAllowed", Scene::new(&alert(-60)));
    let sources = json!({"triggers": {"sources": ["alerts"]}});
    // What runs made its last progress ten minutes before.
    let old = Scene::new(&alert(-1000)).with_policy(sources.clone());
    add("Refused/AlertOlderThanVersion", old);
    let mut again = Scene::new(&alert(-60)).with_policy(sources);
    again.observed.targets[0].ledger = Fetched::Found(RevisionLedgerSpec {
        target_ref: workload("api"),
        rollbacks: vec![brought_v2()],
        ..RevisionLedgerSpec::default()
    });
    add("Refused/DidNotHelp", again);
    let mut scene = Scene::default();
    scene.observed.crowd = Some(Crowd {
        most: 2,
        by_people: 2,
        by_themselves: 0,
        by_the_same: 2,
    });
    add("Refused/TooManyOpenRequests", scene);
    let mut scene = Scene::default().approved();
    scene.observed.targets[0].access = Fetched::Found(Access::Denied {
        who: "ann".to_owned(),
        what: "patch".to_owned(),
    });
    add("Refused/Forbidden", scene);
    let mut scene = Scene::default().approved();
    scene.observed.targets[0].replica_sets.remove(0);
    add("Refused/HistoryPruned", scene);
    let mut scene = Scene::default().approved();
    scene.observed.targets[0].replica_sets[0].0["spec"]["template"] = template("v0");
    add("Refused/DigestMismatch", scene);
    let mut scene = Scene::default().reverted();
    scene.observed.targets[0].deployment = Fetched::Absent;
    add("Failed/TargetGone", scene);
    let mut scene = Scene::default().intended();
    let Move::Write(Step::Revert(revert)) = scene.decide() else {
        panic!("it reverts");
    };
    scene.observed.targets[0].rejection = Some(Rejection {
        patch: revert.patch,
        code: 422,
        message: "no".to_owned(),
    });
    add("Failed/PatchRejected", scene);
    let mut scene = Scene::default().reverted();
    scene.now = at(400);
    add("Failed/RolloutTimedOut", scene);
    let mut scene = Scene::default().reverted();
    scene.edit(|d| {
        d["spec"]["progressDeadlineSeconds"] = json!(10);
        d["status"]["observedGeneration"] = d["metadata"]["generation"].clone();
        set_counts(d, 3, 3, 0);
        set_progressing(
            d,
            "False",
            "ProgressDeadlineExceeded",
            "2026-11-23T14:00:30Z",
        );
    });
    scene.now = at(60);
    add("Failed/RolloutFailed", scene);
    let mut scene = Scene::default().with_policy(checks.clone()).rolled_out();
    scene.now = at(400);
    add("Failed/HealthUnknown", scene);
    let mut scene = Scene::default().with_policy(checks).rolled_out();
    scene.probe(500);
    scene.pass();
    scene.now = at(400);
    add("Failed/ChecksFailed", scene);
    let job = json!([{"name": "ask", "podSpec": {"containers": [{"name": "a", "image": "b"}]}}]);
    let hooks = |stage: &str| json!({"hooks": {stage: job}});
    let mut scene = Scene::default()
        .with_policy(hooks("preRollback"))
        .approved();
    scene.settle();
    scene.now = at(1000);
    add("Refused/HookVetoed", scene);
    let mut scene = Scene::default()
        .with_policy(hooks("postRollback"))
        .rolled_out();
    scene.settle();
    scene.now = at(1000);
    add("Failed/HookFailed", scene);
    let mut scene =
        Scene::many(&["api", "web"], &json!({"rollout": {"parallelism": 1}})).reverted();
    scene.now = at(400);
    add("Failed/TargetsFailed", scene);
    let mut scene = Scene::default().intended();
    scene.webhook =
        Some(|d| d["spec"]["template"]["spec"]["containers"][0]["image"] = json!("other:1"));
    add("Failed/TemplateMutated", scene);
    let mut scene = Scene::default().reverted();
    scene.deploy(&template("v2"));
    add("Failed/Overwritten", scene);
    let restore = json!({"rollout": {"onFailure": "Restore"}});
    let mut scene = Scene::new(&restore).reverted();
    scene.backups.clear();
    scene.now = at(400);
    add("Failed/RestoreFailed", scene);
    let mut scene = Scene::new(&restore).reverted();
    scene.now = at(400);
    scene.settle();
    scene.roll_out();
    add("Restored/RestoredFromBackup", scene);
    let mut scene = Scene::default().approved();
    scene.deploy(&template("v0"));
    scene.seen().ledger = Fetched::Found(claimed_by("other", "another uid"));
    add("Superseded/RolledBackByAnother", scene);
    let mut scene = Scene::default();
    scene.request.metadata.deletion_timestamp =
        Some(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time(at(3)));
    add("Cancelled/Deleted", scene);
    all
}

#[test]
fn every_end_is_reached_and_reads_right() {
    for (name, mut scene) in ends() {
        // It may be written first and judged then; the word is the same from the first moment.
        scene.settle();
        assert_eq!(scene.state(), name);
        let status = scene.status();
        let map = condition_map(&status);
        let (state, reason) = name.split_once('/').unwrap();
        let good = state == "Succeeded"
            || ["Superseded/NotLive", "Superseded/RolledBackByAnother"].contains(&name);
        let (truth, end) = if good {
            ("True", "Complete")
        } else {
            ("False", "Failed")
        };
        assert_eq!(map["Ready"], (truth.to_owned(), state.to_owned()), "{name}");
        assert_eq!(map[end], ("True".to_owned(), reason.to_owned()), "{name}");
        assert_eq!(map.contains_key("Complete"), good, "{name}");
        assert_eq!(map.contains_key("Failed"), !good, "{name}");
        assert_eq!(map.contains_key("Stalled"), !good, "{name}");
        assert!(!map.contains_key("Reconciling"), "{name}");
        assert_eq!(map.contains_key("Denied"), state == "Denied", "{name}");
        let expected = match (good, reason) {
            (_, "Deleted") => Kstatus::Terminating,
            (true, _) => Kstatus::Current,
            (false, _) => Kstatus::Failed,
        };
        assert_eq!(compute(&scene.request), expected, "{name}");
        assert_eq!(
            Some(status.observed_generation),
            scene.request.metadata.generation,
            "{name}"
        );
        assert_eq!(
            map.contains_key("Reported"),
            status.incident.is_some(),
            "{name}"
        );
        let wants_report = status.plan.is_some() && name != "Succeeded/DryRun";
        assert_eq!(status.incident.is_some(), wants_report, "{name}");
        assert_eq!(scene.request.metadata.finalizers, None, "{name}");
        for seen in &scene.observed.targets {
            // That of somebody else is theirs.
            let claim = seen.ledger.found().and_then(|ledger| ledger.claim.clone());
            let ours = claim
                .filter(|claim| Some(&claim.request_uid) == scene.request.metadata.uid.as_ref());
            assert_eq!(ours, None, "{name}");
        }
        let written = status
            .targets
            .iter()
            .any(|target| target.reverted_at.is_some());
        let message = status.outcome.unwrap().message;
        assert!(
            !(written && message.contains("Nothing was changed")),
            "{name}: {message}"
        );
        fits(&scene.request);
    }
}

/// A request of an alert that began so many seconds after the request.
fn alert(began: i64) -> Value {
    json!({
        "targets": [{"kind": "Deployment", "name": "api", "from": {"templateDigest": digest("v2")}, "to": {"previous": {}}}],
        "trigger": {"source": "alerts", "alert": "Down", "id": "1", "startedAt": at(began), "pendingSeconds": 0},
    })
}

/// The rollback that brought what runs.
fn brought_v2() -> Rollback {
    Rollback {
        request: "before".to_owned(),
        request_uid: "other".to_owned(),
        spec_digest: String::new(),
        from_digest: digest("v3"),
        to_digest: digest("v2"),
        at: at(-300),
        outcome: RequestState::Succeeded,
        automatic: false,
        verified: false,
    }
}

#[test]
fn every_reason_is_an_end() {
    // That a target was spared is never the end of a request: another target of it failed, or somebody withdrew it.
    let mut reached = vec!["Cancelled/NotBegun".to_owned()];
    reached.extend(ends().iter().map(|(name, _)| (*name).to_owned()));
    let described = include_str!("../../../api/src/conditions.rs");
    let reasons = described.split("pub enum Reason").nth(1).unwrap();
    let reasons = reasons.split('}').next().unwrap();
    let missing: Vec<&str> = reasons
        .lines()
        .map(|line| line.trim().trim_end_matches(','))
        .filter(|line| line.chars().next().is_some_and(char::is_uppercase))
        .filter(|reason| {
            !reached
                .iter()
                .any(|name| name.ends_with(&format!("/{reason}")))
        })
        .collect();
    assert!(missing.is_empty(), "{missing:?}");
}

/// What the API server checks of a condition.
fn fits(request: &RollbackRequest) {
    let status = request.status.clone().unwrap_or_default();
    let mut types: Vec<_> = status.conditions.iter().map(|c| c.type_.clone()).collect();
    types.dedup();
    assert_eq!(types.len(), status.conditions.len());
    assert!(types.len() <= 16);
    for condition in &status.conditions {
        assert!(condition.reason.chars().all(|c| c.is_ascii_alphanumeric()));
        assert!(!condition.reason.is_empty() && condition.reason.len() <= 1024);
        assert!(condition.message.chars().count() <= 32_768);
        assert!(
            condition.type_ == "Approved" || !condition.message.is_empty(),
            "{}",
            condition.type_
        );
        assert_eq!(
            condition.observed_generation, None,
            "the status says it once"
        );
    }
}

#[test]
fn every_state_of_waiting_is_in_progress() {
    let mut planning = Scene::default();
    planning.observed.targets[0].deployment = Fetched::Unknown;
    let mut waiting = Scene::default();
    waiting.until(Phase::AwaitingApproval);
    let mut invalid = waiting.clone();
    approve(&mut invalid.request, "bob");
    annotate(&mut invalid.request, rollback_api::CONFIRM, "?");
    let mut unguarded = waiting.clone();
    unguarded.observed.guard.holes.push("x".to_owned());
    let mut rival = Scene::default().approved();
    rival.observed.targets[0].ledger = Fetched::Found(claimed_by("r", "r-2"));
    rival.observed.targets[0].rival = Fetched::Found(rollback_core::observed::Rival {
        name: "r".to_owned(),
        active: true,
        committed: false,
        unknown: None,
    });
    let mut unasked = Scene::default().intended();
    unasked.observed.targets[0].access = Fetched::Unknown;
    let verifying = Scene::default()
        .with_policy(json!({"verification": {"http": [{"name": "live", "port": 1, "path": "/"}]}}))
        .rolled_out();
    for (state, mut scene) in [
        ("Planning", planning),
        ("AwaitingApproval", waiting),
        ("AwaitingApproval", invalid),
        ("AwaitingApproval", unguarded),
        ("BackingUp", rival),
        ("Reverting", unasked),
        ("RollingOut", Scene::default().reverted()),
        ("Verifying", verifying),
    ] {
        let step = scene.settle();
        assert!(
            matches!(step, Move::Wait { until: Some(_) }),
            "{state}: {step:?}"
        );
        assert_eq!(compute(&scene.request), Kstatus::InProgress, "{state}");
        let map = condition_map(&scene.status());
        assert_eq!(map["Ready"], ("False".to_owned(), state.to_owned()));
        let reconciling =
            (state != "AwaitingApproval").then(|| ("True".to_owned(), state.to_owned()));
        assert_eq!(map.get("Reconciling"), reconciling.as_ref(), "{state}");
        for end in ["Complete", "Failed", "Stalled", "Denied", "Reported"] {
            assert!(!map.contains_key(end), "{state} {end}");
        }
        fits(&scene.request);
    }
}

#[test]
fn a_request_that_nobody_looked_at_is_in_progress() {
    // The definition gives every new object this status; kstatus would call one without a status done.
    let mut request = Scene::default().request;
    request.status = serde_json::from_value(json!({"observedGeneration": -1})).unwrap();
    assert_eq!(compute(&request), Kstatus::InProgress);
}

#[test]
fn a_changed_spec_is_in_progress_until_it_is_looked_at() {
    let mut scene = Scene::default().rolled_out();
    scene.settle();
    scene.request.metadata.generation = Some(2);
    assert_eq!(compute(&scene.request), Kstatus::InProgress);
    scene.settle();
    assert_eq!(compute(&scene.request), Kstatus::Current);
}

#[test]
fn superseded_before_anything_was_written_is_for_git_no_failure() {
    // An old manifest stays in Git while the version moves on; the application must not turn red for it.
    let mut scene = Scene::default();
    scene.until(Phase::AwaitingApproval);
    scene.deploy(&template("v3"));
    scene.settle();
    assert_eq!(scene.outcome().result, RequestState::Superseded);
    assert_eq!(compute(&scene.request), Kstatus::Current);
}

#[test]
fn what_is_settled() {
    let outcome = |state, reason| Outcome {
        effect: rollback_api::status::Effect::Written,
        result: state,
        reason,
        message: String::new(),
        by: None,
        at: at(0),
    };
    for (state, reason, settled) in [
        (RequestState::Succeeded, Reason::RolledBack, true),
        (RequestState::Succeeded, Reason::Unverified, true),
        (RequestState::Superseded, Reason::NotLive, true),
        (RequestState::Superseded, Reason::RolledBackByAnother, true),
        (RequestState::Superseded, Reason::TemplateChanged, false),
        (RequestState::Denied, Reason::DeniedByApprover, false),
        (RequestState::Cancelled, Reason::CancelledByUser, false),
        (RequestState::Expired, Reason::NotApprovedInTime, false),
        (RequestState::Refused, Reason::Paused, false),
        (RequestState::Failed, Reason::ChecksFailed, false),
        (RequestState::Failed, Reason::Overwritten, false),
        (RequestState::Failed, Reason::TargetsFailed, false),
        (RequestState::Restored, Reason::TargetsFailed, false),
        (RequestState::Restored, Reason::RestoredFromBackup, false),
    ] {
        assert_eq!(is_settled(&outcome(state, reason)), settled, "{state:?}");
    }
}

#[test]
fn approved_is_true_or_says_what_is_wrong_or_is_absent() {
    let mut scene = Scene::default().with_policy(json!({"approvals": {"required": 2}}));
    // That it waits, Ready says, with the command that approves.
    scene.pass();
    assert!(!condition_map(&scene.status()).contains_key("Approved"));
    approve(&mut scene.request, "bob");
    scene.settle();
    let map = condition_map(&scene.status());
    assert!(!map.contains_key("Approved"));
    assert_eq!(map["Ready"].1, "AwaitingApproval");
    approve(&mut scene.request, "cat");
    scene.until(Phase::BackingUp);
    let status = scene.status();
    let approved = status
        .conditions
        .iter()
        .find(|c| c.type_ == "Approved")
        .unwrap();
    assert_eq!(
        (approved.status.as_str(), approved.message.as_str()),
        ("True", "bob,cat")
    );
    // Ended without enough approvals, it says nothing; with them, it keeps saying so.
    scene.observed.targets[0].replica_sets.clear();
    scene.settle();
    assert_eq!(condition_map(&scene.status())["Approved"].0, "True");
    let mut denied = Scene::default();
    denied.until(Phase::AwaitingApproval);
    annotate(&mut denied.request, rollback_api::DENIED_BY, "bob");
    denied.settle();
    assert!(!condition_map(&denied.status()).contains_key("Approved"));
}

#[test]
fn transition_times_change_only_with_the_status() {
    let since = |scene: &Scene, kind: &str| {
        let status = scene.status();
        let condition = status
            .conditions
            .iter()
            .find(|c| c.type_ == kind)
            .unwrap()
            .clone();
        condition.last_transition_time.0
    };
    let mut scene = Scene::default();
    scene.pass();
    assert_eq!(since(&scene, "Ready"), at(5));
    scene.now = at(50);
    approve(&mut scene.request, "bob");
    scene.until(Phase::BackingUp);
    assert_eq!(
        (since(&scene, "Ready"), since(&scene, "Approved")),
        (at(5), at(50))
    );
    scene.now = at(60);
    scene.until(Phase::RollingOut);
    scene.roll_out();
    assert_eq!(
        (since(&scene, "Reconciling"), since(&scene, "Approved")),
        (at(50), at(50))
    );
    scene.now = at(70);
    scene.settle();
    assert_eq!(scene.state(), "Succeeded/Unverified");
    assert_eq!(
        (since(&scene, "Ready"), since(&scene, "Complete")),
        (at(70), at(70))
    );
    let ended = scene.status();
    scene.now = at(9999);
    scene.settle();
    assert_eq!(scene.status(), ended);
    // A plan that lost its approvals is not approved from then on.
    let mut scene = Scene::default().approved();
    assert_eq!(condition_map(&scene.status())["Approved"].0, "True");
    scene.now = at(80);
    scene.observed.policy = Fetched::Found(policy(json!({"environment": "staging"})));
    scene.pass();
    assert!(!condition_map(&scene.status()).contains_key("Approved"));
}

#[test]
fn the_columns() {
    let summary = |scene: &Scene| {
        let summary = scene.status().summary.unwrap();
        (summary.target, summary.to, scene.status().approved_by)
    };
    let mut scene = Scene::default();
    scene.observed.targets[0].deployment = Fetched::Unknown;
    scene.pass();
    assert_eq!(
        summary(&scene),
        ("deployment/api".to_owned(), "previous".to_owned(), None)
    );
    let mut scene = Scene::new(&json!({"targets": [{"name": "api", "to": {"revision": 1}}]}));
    scene.observed.targets[0].deployment = Fetched::Unknown;
    scene.pass();
    assert_eq!(summary(&scene).1, "revision 1");
    let scene = Scene::default().approved();
    assert_eq!(
        summary(&scene),
        (
            "deployment/api".to_owned(),
            "revision 1 (v1)".to_owned(),
            Some("bob@broxiva.com".to_owned())
        )
    );
    for (image, tag) in [
        ("api:v1", "v1"),
        ("localhost:5000/shop/api", "api"),
        ("localhost:5000/shop/api:v1", "v1"),
        ("api@sha256:abc", "abc"),
    ] {
        let mut scene = Scene::default();
        scene.observed.targets[0].replica_sets[0].0["spec"]["template"]["spec"]["containers"][0]
            ["image"] = json!(image);
        scene.until(Phase::AwaitingApproval);
        assert_eq!(summary(&scene).1, format!("revision 1 ({tag})"));
    }
    let mut none = Scene::new(&json!({"targets": []}));
    none.settle();
    assert_eq!(summary(&none).0, "?");
    assert_eq!(digest("v1").len(), 71);
}

#[test]
fn long_messages_are_cut() {
    let mut scene =
        Scene::default().with_policy(json!({"approvals": {"confirmPhrase": "x".repeat(9000)}}));
    scene.settle();
    for condition in scene.status().conditions {
        assert!(condition.message.chars().count() <= 4000);
    }
}
