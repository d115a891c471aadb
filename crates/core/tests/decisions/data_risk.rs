//! The gate for the data: what blocks, who is asked, and what an approval has to say.

use crate::world::{
    Scene, annotate, approve, at, deployment_of, replica_set_of, seen, sets, template,
};
use rollback_api::policy::UnknownSchema;
use rollback_api::status::{PlannedTarget, Risk, RiskKind};
use rollback_api::{ACCEPT_DATA_RISK, Reason, RequestState, WorkloadRef};
use rollback_core::approval::{Mailbox, how_to_approve, read};
use rollback_core::execution::phase::Phase;
use rollback_core::history::template::Template;
use rollback_core::plan::data_risk::{SchemaFit, assess, data_risk, questions, verdict};
use serde_json::{Value, json};

fn annotated(version: &str, annotations: &Value) -> Value {
    let mut template = template(version);
    for (key, value) in annotations.as_object().unwrap() {
        template["metadata"]["annotations"][format!("rollback.broxiva.com/{key}")] = value.clone();
    }
    template
}

/// `v2` runs with these annotations, and `v1` with those is what it goes back to.
fn scene(now: &Value, then: &Value, policy: Value) -> Scene {
    let mut scene = Scene::default().with_policy(policy);
    let (v2, v1) = (annotated("v2", now), annotated("v1", then));
    let target = scene.of("api");
    target.deployment = seen(deployment_of(&v2));
    target.replica_sets = sets([
        replica_set_of("api-v2", "2", &v2),
        replica_set_of("api-v1", "1", &v1),
    ]);
    scene
}

fn irreversible(policy: Value) -> Scene {
    scene(
        &json!({"schema-version": "7", "irreversible-migration": "true"}),
        &json!({"schema-version": "6"}),
        policy,
    )
}

#[test]
fn what_is_known_not_to_fit_blocks_and_what_is_not_known_does_where_the_policy_says_so() {
    let template = |annotations: Value| Template::of(&annotated("v1", &annotations));
    let v = |version: &str| json!({"schema-version": version});
    let cases = [
        (v("7"), v("7"), None, None),
        (
            v("7"),
            json!({"schema-version": "6", "compatible-schema-versions": "6,7"}),
            None,
            None,
        ),
        (v("7"), v("6"), Some(true), Some(true)),
        (
            json!({"irreversible-migration": "true"}),
            json!({}),
            Some(true),
            Some(true),
        ),
        (v("7"), json!({}), Some(false), Some(true)),
        (json!({}), v("6"), Some(false), Some(true)),
        (json!({}), json!({}), None, Some(true)),
        (v("\u{202e}7\n"), v("6"), Some(true), Some(true)),
    ];
    for (now, then, allow, block) in cases {
        for (unknown, expected) in [(UnknownSchema::Allow, allow), (UnknownSchema::Block, block)] {
            let risk = assess(&template(now.clone()), &template(then.clone()), unknown);
            assert_eq!(
                risk.as_ref().map(|risk| risk.blocks),
                expected,
                "{now} {then} {unknown:?}"
            );
            assert!(risk.is_none_or(|risk| !risk.message.chars().any(char::is_control)));
        }
    }
    assert_eq!(
        verdict(&template(json!({})), &template(json!({}))),
        SchemaFit::Untold
    );
}

#[test]
fn a_blocked_request_says_why_and_whom_to_ask() {
    let mut scene = irreversible(json!({"dataGate": {"contact": "dba@shop.example"}}));
    scene.until(Phase::AwaitingApproval);
    scene.settle();
    assert_eq!(scene.state(), "Blocked");
    let status = scene.status();
    let message = &status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap()
        .message;
    assert!(
        message.contains("marked irreversible") && message.contains("Ask dba@shop.example"),
        "{message}"
    );
    assert!(message.contains(ACCEPT_DATA_RISK), "{message}");
    let plan = status.plan.unwrap();
    for item in questions() {
        assert!(plan.rules.checklist().contains(&item), "{}", item.name);
    }
    // It stays as it is: the plan is not made anew because of the questions.
    scene.settle();
    assert_eq!(scene.status().plan.unwrap().digest, plan.digest);
}

#[test]
fn an_approval_has_to_accept_the_risk_and_say_why() {
    let mut scene = irreversible(json!({}));
    scene.until(Phase::AwaitingApproval);
    let plan = scene.status().plan.unwrap();
    assert!(how_to_approve(&scene.request, &plan, false).contains(ACCEPT_DATA_RISK));
    approve(&mut scene.request, "bob@broxiva.com");
    for why in ["", "short", "   short   ", &"x".repeat(1001)] {
        annotate(&mut scene.request, ACCEPT_DATA_RISK, why);
        let Mailbox::Invalid(objection) = read(&scene.request, &plan, &[], at(60)) else {
            panic!("{why}");
        };
        assert!(
            objection.contains("does not accept the risk"),
            "{objection}"
        );
    }
    scene.settle();
    assert_eq!(scene.state(), "Blocked");
    let status = scene.status();
    let message = &status
        .conditions
        .iter()
        .find(|c| c.type_ == "Ready")
        .unwrap()
        .message;
    assert!(message.contains("does not accept the risk"), "{message}");
    let told = message.matches("marked irreversible").count();
    assert_eq!(told, 1, "{message}");
    annotate(
        &mut scene.request,
        ACCEPT_DATA_RISK,
        "the new column is empty so far",
    );
    scene.until(Phase::RollingOut);
    let approval = scene.status().approvals[0].clone();
    assert_eq!(
        approval.accepts_data_risk.as_deref(),
        Some("the new column is empty so far")
    );
    scene.roll_out();
    scene.ends(RequestState::Succeeded, Reason::Unverified);
}

#[test]
fn without_a_risk_an_acceptance_says_nothing() {
    let mut scene = scene(&json!({}), &json!({}), json!({}));
    scene.until(Phase::AwaitingApproval);
    approve(&mut scene.request, "bob@broxiva.com");
    annotate(
        &mut scene.request,
        ACCEPT_DATA_RISK,
        "whatever may come of it",
    );
    scene.until(Phase::RollingOut);
    assert_eq!(scene.status().approvals[0].accepts_data_risk, None);
}

#[test]
fn of_many_deployments_five_are_named_and_the_others_counted() {
    let mut scene = irreversible(json!({}));
    scene.until(Phase::AwaitingApproval);
    let rules = scene.status().plan.unwrap().rules;
    let target = |number: usize| PlannedTarget {
        workload: WorkloadRef::deployment(&format!("app-{number}"), ""),
        risks: vec![Risk {
            kind: RiskKind::DataSchema,
            message: "It does not fit.".to_owned(),
            blocks: true,
        }],
        ..PlannedTarget::default()
    };
    for (deployments, more) in [
        (5, ""),
        (6, " One more Deployment is at risk."),
        (7, " 2 more Deployments are at risk."),
    ] {
        let targets: Vec<PlannedTarget> = (1..=deployments).map(target).collect();
        let message = data_risk(&targets, &rules).unwrap().message;
        let expected = format!(
            "app-5: It does not fit.{more} The policy names nobody who knows the data (dataGate.contact)."
        );
        assert!(message.ends_with(&expected), "{message}");
        assert!(!message.contains("app-6"), "{message}");
    }
}

#[test]
fn a_blocked_request_expires_like_any_other() {
    let mut scene = irreversible(json!({}));
    scene.until(Phase::AwaitingApproval);
    scene.now = at(4000);
    scene.ends(RequestState::Expired, Reason::NotApprovedInTime);
}
