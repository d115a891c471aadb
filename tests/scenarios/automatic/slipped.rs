//! Requests that came while the guard did not refuse them: the plan does, and what is left the controller right before the
//! write.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use kube::api::PostParams;
use rollback_api::{Reason, RequestState, RollbackRequest};
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Cluster, Scene, User, eventually};

use crate::stage::{
    PROGRAM, alert, create, ends, next_second, prepare, receiver, runs, send, version,
};

const POLICY: &str = "rollback-guard-create";
const EVIL: &str = "evil.example/miner:1";

/// The binding of the policy, as it is shipped.
const BINDING: &str = r#"{
    "apiVersion": "admissionregistration.k8s.io/v1", "kind": "ValidatingAdmissionPolicyBinding",
    "metadata": {"name": "rollback-guard-create", "labels": {"rollback.broxiva.com/guard": "true"}},
    "spec": {"policyName": "rollback-guard-create", "validationActions": ["Deny"]}
}"#;

/// What the receiver would never write, by name.
async fn hostile(scene: &Scene) -> Result<Vec<RollbackRequest>> {
    let now = Timestamp::now();
    let mut all = Vec::new();
    let evil = json!({"image": {"image": EVIL, "allowNew": true}});
    for (name, field, value) in [
        ("new-image", "/spec/targets/0/to", evil),
        ("revision", "/spec/targets/0/to", json!({"revision": 1})),
        (
            "backup",
            "/spec/targets/0/to",
            json!({"backup": "rollback-backup-0123456789abcdef"}),
        ),
        ("checks", "/spec/verification", json!({"soakSeconds": 0})),
        ("rollout", "/spec/rollout", json!({"onFailure": "Restore"})),
    ] {
        let mut request =
            serde_json::to_value(alert(scene, name, "api", "HealthCheck", now).await?)?;
        if let Some(place) = request.pointer_mut(field) {
            *place = value;
        } else {
            request["spec"][field.trim_start_matches("/spec/")] = value;
        }
        all.push(serde_json::from_value(request)?);
    }
    Ok(all)
}

/// In a cluster of its own: the guard is there for everybody.
#[tokio::test]
async fn what_slipped_past_the_guard_ends_and_writes_nothing() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut scene = Scene::on(cluster, PROGRAM, "slipped").await?;
    prepare(&scene, json!({"approve": true})).await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    next_second().await;
    let requests = hostile(&scene).await?;
    let by_a_person = person(&scene).await?;

    // Admission refuses them while it is there.
    let api = receiver(&scene).await?;
    eventually("the receiver may ask", PATIENCE, async || {
        let twin = alert(&scene, "twin", "api", "HealthCheck", Timestamp::now()).await?;
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        api.create(&dry, &twin).await?;
        Ok(())
    })
    .await?;
    for request in requests.iter().chain([&by_a_person]) {
        let refused = api.create(&PostParams::default(), request).await;
        let told = refused.map_or_else(|error| error.to_string(), |_| String::new());
        ensure!(told.contains(POLICY), "{:?}: {told}", request.metadata.name);
    }

    let binding = ["delete", "validatingadmissionpolicybinding", POLICY];
    cluster.kubectl_ok(User::Admin, &binding, "").await?;
    for request in &requests {
        let what = format!("{:?} passes", request.metadata.name);
        eventually(&what, PATIENCE, async || {
            api.create(&PostParams::default(), request).await?;
            Ok(())
        })
        .await?;
    }
    create(&scene, &by_a_person).await?;
    let back = ["create", "-f", "-"];
    cluster.kubectl_ok(User::Admin, &back, BINDING).await?;
    eventually("the guard is back", PATIENCE, async || {
        let dry = PostParams {
            dry_run: true,
            ..PostParams::default()
        };
        let mut again = by_a_person.clone();
        again.metadata.name = Some("again".to_owned());
        ensure!(api.create(&dry, &again).await.is_err());
        Ok(())
    })
    .await?;

    scene.start_controller().await?;
    for request in &requests {
        let name = request.metadata.name.as_deref().unwrap_or_default();
        let (_, outcome) = ends(&scene, name, RequestState::Refused, Reason::Forbidden).await?;
        ensure!(
            outcome.message.contains("what comes by itself goes back"),
            "{name}: {outcome:?}"
        );
    }
    // Who may only trigger asks for a new image: whoever approves it, it is not written.
    scene.approve("by-a-person", User::Approver).await?;
    // Where one is enough it has ended by then.
    scene
        .approve("by-a-person", User::SecondApprover)
        .await
        .ok();
    let (_, outcome) = ends(
        &scene,
        "by-a-person",
        RequestState::Refused,
        Reason::Forbidden,
    )
    .await?;
    ensure!(outcome.message.contains("patch"), "{outcome:?}");
    ensure!(runs(&scene, "api", "v2").await?);

    // The twin, which goes back and nothing else.
    next_second().await;
    send(&scene, "down", "api", "HealthCheck").await?;
    ends(&scene, "down", RequestState::Succeeded, Reason::Unverified).await?;
    ensure!(runs(&scene, "api", "v1").await?);
    Ok(())
}

/// Asked for with the verb `trigger`, and not as if it came by itself.
async fn person(scene: &Scene) -> Result<RollbackRequest> {
    let mut request = serde_json::to_value(
        alert(scene, "by-a-person", "api", "HealthCheck", Timestamp::now()).await?,
    )?;
    request["spec"]["trigger"] = Value::Null;
    request["spec"]["targets"][0]["to"] = json!({"image": {"image": EVIL, "allowNew": true}});
    Ok(serde_json::from_value(request)?)
}
