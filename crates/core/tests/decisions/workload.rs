//! `StatefulSet/api` and `Deployment/api` are two.

use crate::world::{Scene, planned_target};
use rollback_api::open_enum::NewerValue;
use rollback_api::request::Urgency;
use rollback_api::status::{JobRule, JobStage, PlannedTarget};
use rollback_api::{WorkloadKind, WorkloadRef};
use rollback_core::execution::artifact::backup_name;
use rollback_core::execution::job;
use rollback_core::history::ledger;

/// No other kind is known yet.
fn stateful_set() -> WorkloadKind {
    WorkloadKind::Newer(NewerValue::new("StatefulSet").unwrap())
}

/// Two workloads that differ in nothing but their kind.
fn two(name: &str) -> [WorkloadRef; 2] {
    [WorkloadKind::Deployment, stateful_set()].map(|kind| WorkloadRef {
        kind,
        name: name.to_owned(),
        uid: "uid".to_owned(),
    })
}

fn rule() -> JobRule {
    serde_json::from_value(serde_json::json!({
        "stage": JobStage::Smoke, "name": "smoke", "podDigest": "sha256:1", "timeoutSeconds": 60,
        "onFailure": "Veto",
    }))
    .unwrap()
}

#[test]
fn nothing_of_two_kinds_has_the_same_name() {
    let scene = Scene::default();
    let targets = two("api").map(|workload| PlannedTarget {
        workload,
        ..planned_target()
    });
    let [ours, theirs] = targets.map(|target| {
        let WorkloadRef { kind, name, .. } = &target.workload;
        let claimed = ledger::claimed(None, &scene.request, Urgency::High, &target, None);
        [
            ledger::name(*kind, name),
            ledger::name_of(&claimed.target_ref) + " has the claim",
            backup_name(&scene.request, *kind, name),
            job::name(&scene.request, &target, &rule()),
        ]
    });
    assert_eq!(
        [ours[0].as_str(), theirs[0].as_str()],
        ["deployment-api", "statefulset-api"]
    );
    for (ours, theirs) in ours.iter().zip(&theirs) {
        assert_ne!(ours, theirs);
    }
}

/// Whether the API server takes a name: parts of at most 253 bytes, each with a letter or digit at both ends.
fn is_subdomain(name: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let is_part = |part: &str| is_end(part.as_bytes().first()) && is_end(part.as_bytes().last());
    name.len() <= 253 && name.split('.').all(is_part)
}

#[test]
fn the_name_of_a_ledger_is_valid_and_its_own_however_long_that_of_its_workload_is() {
    let of = |name: &str| ledger::name(WorkloadKind::Deployment, name);
    assert_eq!(of("api.v1"), "deployment-api.v1");
    let fits = "a".repeat(241);
    assert_eq!(of(&fits), format!("deployment-{fits}"));
    let long: Vec<String> = [
        "a".repeat(242),
        "a".repeat(253),
        "a".repeat(252) + "b",
        // The cut is at a dot, and at a dash.
        "a".repeat(208) + "." + &"b".repeat(44),
        "a".repeat(208) + "-" + &"b".repeat(44),
        "a".repeat(207) + ".b" + &"c".repeat(44),
        "a.".repeat(126) + "a",
    ]
    .iter()
    .map(|name| of(name))
    .collect();
    for (index, name) in long.iter().enumerate() {
        assert!(is_subdomain(name) && name.len() == 253, "{name}");
        assert!(!long[..index].contains(name), "{name}");
        // No workload is called so that its ledger would be that one.
        let whole = name.strip_prefix("deployment-").unwrap();
        assert_ne!(of(whole), *name);
    }
    let [ours, theirs] = two(&"a".repeat(250)).map(|workload| ledger::name_of(&workload));
    assert_ne!(ours, theirs);
}
