//! Policies: what the API server fills in, and what it does not take.

use anyhow::{Context as _, Result, ensure};
use kube::Api;
use kube::api::PostParams;
use rollback_api::RollbackPolicy;
use serde_json::{Value, json};
use testkit::User;

use crate::expect::scene;

/// What is wrong, a spec, and what its refusal has to name.
type Case = (&'static str, Value, &'static [&'static str]);

fn approvals(value: &Value) -> Value {
    json!({"approvals": value})
}

fn bad_approvals() -> Vec<Case> {
    let item =
        |name: &str, text: &str| approvals(&json!({"checklist": [{"name": name, "text": text}]}));
    vec![
        (
            "an environment that there is not",
            json!({"environment": "prod"}),
            &["spec.environment"],
        ),
        (
            "nobody approves",
            approvals(&json!({"required": 0})),
            &["spec.approvals.required"],
        ),
        (
            "too many approve",
            approvals(&json!({"required": 6})),
            &["spec.approvals.required"],
        ),
        (
            "one urgency twice",
            approvals(&json!({"byUrgency": [
                {"urgency": "High", "required": 1}, {"urgency": "High", "required": 2},
            ]})),
            &["spec.approvals.byUrgency[1]", "Duplicate"],
        ),
        (
            "an urgency that there is not",
            approvals(&json!({"byUrgency": [{"urgency": "ASAP", "required": 1}]})),
            &["spec.approvals.byUrgency[0].urgency"],
        ),
        (
            "a phrase of blanks",
            approvals(&json!({"confirmPhrase": "  "})),
            &[
                "spec.approvals.confirmPhrase",
                "for example ROLLBACK PRODUCTION",
            ],
        ),
        (
            "a phrase of two lines",
            approvals(&json!({"confirmPhrase": "ROLL\nBACK"})),
            &["spec.approvals.confirmPhrase", "in one line"],
        ),
        (
            "an approval that is never valid",
            approvals(&json!({"validForSeconds": 0})),
            &["spec.approvals.validForSeconds"],
        ),
        (
            "an item that nobody can type",
            item("Tell, everybody", "Everybody is told"),
            &["spec.approvals.checklist[0].name", "approvers type it"],
        ),
        (
            "an item that says nothing",
            item("told", " "),
            &[
                "spec.approvals.checklist[0].text",
                "say what has to be done",
            ],
        ),
        (
            "an item twice",
            approvals(
                &json!({"checklist": [{"name": "told", "text": "a"}, {"name": "told", "text": "b"}]}),
            ),
            &["spec.approvals.checklist[1]", "Duplicate"],
        ),
    ]
}

fn bad_rest() -> Vec<Case> {
    let window = |field: &str, value: Value| {
        let mut window = json!({"name": "night", "schedule": "0 22 * * *", "durationMinutes": 60});
        window[field] = value;
        json!({"freezeWindows": [window]})
    };
    let twice = |field: &str, entry: Value| {
        let mut spec = json!({});
        spec[field] = json!([entry, entry]);
        spec
    };
    vec![
        (
            "a category twice",
            twice(
                "decisionMatrix",
                json!({"category": "Latency", "urgency": "Low"}),
            ),
            &["spec.decisionMatrix[1]", "Duplicate"],
        ),
        (
            "an approval that does not exist yet",
            json!({"decisionMatrix": [{"category": "Latency", "approval": "Majority"}]}),
            &["spec.decisionMatrix[0].approval"],
        ),
        (
            "a window twice",
            twice(
                "freezeWindows",
                json!({"name": "night", "schedule": "0 22 * * *", "durationMinutes": 60}),
            ),
            &["spec.freezeWindows[1]", "Duplicate"],
        ),
        (
            "a schedule of three fields",
            window("schedule", json!("0 22 *")),
            &["spec.freezeWindows[0].schedule", "five fields"],
        ),
        (
            "a zone that is no name",
            window("timeZone", json!("+02:00")),
            &["spec.freezeWindows[0].timeZone", "Europe/Berlin"],
        ),
        (
            "a window of no time",
            window("durationMinutes", json!(0)),
            &["spec.freezeWindows[0].durationMinutes"],
        ),
        (
            "a typo",
            approvals(&json!({"requird": 2})),
            &["spec.approvals.requird"],
        ),
    ]
}

#[tokio::test]
async fn a_policy_that_makes_no_sense_is_refused_by_field() -> Result<()> {
    let scene = scene("bad-policy").await?;
    for (what, spec, parts) in bad_approvals().into_iter().chain(bad_rest()) {
        let policy = json!({
            "apiVersion": "rollback.broxiva.com/v1alpha1", "kind": "RollbackPolicy",
            "metadata": {"name": "default", "namespace": scene.ns()}, "spec": spec,
        });
        let create = ["create", "--validate=strict", "-f", "-"];
        let output = scene
            .cluster
            .kubectl_with_input(User::Admin, &create, &policy.to_string())
            .await?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(!output.status.success(), "{what} was taken");
        for part in parts {
            ensure!(said.contains(part), "{what}: {part:?} is not in {said}");
        }
    }
    Ok(())
}

/// An empty policy says what holds without one, so that it can be read.
#[tokio::test]
async fn the_defaults_of_a_policy_are_those_of_production() -> Result<()> {
    let scene = scene("default-policy").await?;
    let api: Api<RollbackPolicy> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let empty = serde_json::from_value(json!({"metadata": {"name": "default"}, "spec": {}}))?;
    let created = api.create(&PostParams::default(), &empty).await?;
    let spec = serde_json::to_value(&created.spec)?;
    ensure!(spec["environment"] == "production", "{spec}");
    let approvals = spec["approvals"].as_object().context("no approvals")?;
    for (field, value) in [
        ("required", json!(1)),
        ("expireAfterSeconds", json!(3600)),
        ("validForSeconds", json!(3600)),
        ("breakGlass", json!(false)),
    ] {
        ensure!(approvals[field] == value, "{field}: {spec}");
    }
    // Read as it is stored, and not as this program would fill it in.
    let stored = scene
        .cluster
        .kubectl_ok(
            User::Admin,
            &["get", "rbp", "default", "-n", scene.ns(), "-o", "json"],
            "",
        )
        .await?;
    let stored: Value = serde_json::from_str(&stored)?;
    ensure!(
        stored["spec"]["approvals"]["validForSeconds"] == 3600,
        "{stored}"
    );
    ensure!(stored["spec"]["environment"] == "production", "{stored}");
    Ok(())
}
