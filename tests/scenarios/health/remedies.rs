//! What the controller does by itself about a rollout that does not go on, where the policy allows it.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use rollback_api::RequestState;
use serde_json::{Value, json};
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::shop::deployment;
use testkit::{Scene, User, eventually};

use crate::stage::{scene, target};

fn policy() -> Value {
    json!({"remedies": {"forceDeleteAfterSeconds": 1},
        "rollout": {"timeoutSeconds": 60, "waitForTermination": true}})
}

async fn pods(scene: &Scene) -> Result<Api<Pod>> {
    Ok(Api::namespaced(
        scene.client(User::Admin).await?,
        scene.ns(),
    ))
}

/// Pods of the bad version hang: the node that should end them is away. Fake nodes never are, so the pods are bound to
/// one that does not exist.
async fn hanging(name: &str, granted: bool) -> Result<(Scene, Vec<String>)> {
    let scene = scene(name).await?;
    if granted {
        scene.grant("rollback-force-delete").await?;
    }
    scene.policy(policy()).await?;
    scene.deploy(deployment("api").version("v1")).await?;
    let bad = deployment("api")
        .version("v2")
        .set("/spec/template/spec/nodeName", json!("a-node-that-is-away"))
        .set(
            "/spec/template/spec/terminationGracePeriodSeconds",
            json!(2),
        );
    scene.apply_deployment(bad).await?;
    let api = pods(&scene).await?;
    let bad = eventually("pods of the bad version are there", PATIENCE, async || {
        let all = api.list(&ListParams::default()).await?;
        let node = |pod: &Pod| pod.spec.as_ref().and_then(|it| it.node_name.clone());
        let away = all
            .items
            .into_iter()
            .filter(|pod| node(pod).as_deref() == Some("a-node-that-is-away"));
        let names: Vec<String> = away.map(|pod| pod.name_any()).collect();
        ensure!(!names.is_empty());
        Ok(names)
    })
    .await?;
    // A pod that never ran would be gone at once.
    for name in &bad {
        let status = json!({"status": {"phase": "Running", "containerStatuses": [{"name": "app", "image": "a", "imageID": "",
            "ready": false, "restartCount": 0, "state": {"running": {}}}]}});
        api.patch_status(name, &PatchParams::default(), &Patch::Merge(status))
            .await?;
    }
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    Ok((scene, bad))
}

fn deletions(scene: &Scene) -> Result<Vec<(String, u16)>> {
    let audit = scene.cluster.audit().context("no audit log")?;
    let events = audit.events(scene.ns())?.into_iter();
    let ours = events.filter(|event| event.user == CONTROLLER && event.verb == "delete");
    Ok(ours.map(|event| (event.name, event.code)).collect())
}

#[tokio::test]
async fn a_pod_that_hangs_is_deleted_by_force() -> Result<()> {
    let (scene, bad) = hanging("force-delete", true).await?;
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    let api = pods(&scene).await?;
    for name in &bad {
        ensure!(api.get_opt(name).await?.is_none(), "{name} is still there");
    }
    let deletions = deletions(&scene)?;
    ensure!(!deletions.is_empty());
    for (name, code) in deletions {
        ensure!(bad.contains(&name), "{name} was not one that hung");
        ensure!((200..300).contains(&code), "{name}: {code}");
    }
    let warnings = target(&scene, "api-5xx").await?.warnings;
    let said = warnings.iter().any(|it| it.contains("is deleted by force"));
    ensure!(said, "{warnings:?}");
    Ok(())
}

#[tokio::test]
async fn without_the_role_it_says_so_and_goes_on() -> Result<()> {
    let (scene, bad) = hanging("no-force", false).await?;
    eventually("it says what is missing", PATIENCE, async || {
        let warnings = target(&scene, "api-5xx").await?.warnings;
        let said = warnings
            .iter()
            .any(|it| it.contains("rollback-force-delete"));
        ensure!(said, "{warnings:?}");
        Ok(())
    })
    .await?;
    let refused = deletions(&scene)?;
    ensure!(refused.len() == 1 && refused[0].1 == 403, "{refused:?}");
    // A person does it.
    let api = pods(&scene).await?;
    for name in &bad {
        let now = DeleteParams {
            grace_period_seconds: Some(0),
            ..DeleteParams::default()
        };
        if api.get_opt(name).await?.is_some() {
            api.delete(name, &now).await?;
        }
    }
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    Ok(())
}
