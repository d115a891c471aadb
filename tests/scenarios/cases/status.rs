//! When a rollback has succeeded, and when it has not yet.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use rollback_api::{REVISION, Reason, RequestState};
use serde_json::{Value, json};
use testkit::conformance::record;
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::scene::{PATIENCE, ready, revision};
use testkit::{Scene, User, eventually, shop};

use crate::admission::{Change, change, leave_alone};
use crate::kubectl::{SUCCESS, both, status, twin, undo};
use crate::situation::{hold_pods, pods_of, start_rolling_out, wait_for_revision};
use crate::stage::{
    APP, REQUEST, ensure_ended, number, progress, ready_since, replica_set, scene, template,
};

/// Replicas, updated and available, as the Deployment says.
fn counts(deployment: &Value) -> [i64; 3] {
    ["replicas", "updatedReplicas", "availableReplicas"]
        .map(|field| number(deployment, &format!("/status/{field}")))
}

#[tokio::test]
async fn case_48_success_takes_every_replica() -> Result<()> {
    let (scene, twin) = (scene("case-48").await?, twin("case-48").await?);
    both(&scene, &twin, async |scene| {
        let slow = shop::deployment(APP).ready_after(Duration::from_secs(2));
        scene.deploy(slow.version("v1")).await?;
        scene.deploy(shop::deployment(APP).version("v2")).await
    })
    .await?;
    start_rolling_out(&scene).await?;
    // Each look reads the request first and the Deployment after it: once the former says that the
    // rollout is complete, the latter must show it.
    let mut looks = Vec::new();
    eventually("the request has ended", PATIENCE, async || {
        let status = scene.status(REQUEST).await?;
        let deployment = scene.deployment(APP).await?;
        let rollout = status.targets.first().and_then(|t| t.rollout.clone());
        let complete = rollout.is_some_and(|rollout| rollout.completed_at.is_some());
        looks.push((complete, counts(&deployment)));
        ensure!(status.outcome.is_some(), "it is still under way");
        Ok(())
    })
    .await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    for (complete, counts) in &looks {
        assert!(!complete || *counts == [2, 2, 2], "{looks:?}");
    }
    let halfway = |(complete, [replicas, updated, available]): &(bool, [i64; 3])| {
        !complete && (*updated < 2 || *available < 2 || *replicas > 2)
    };
    assert!(looks.iter().filter(|look| halfway(look)).count() > 3);

    let old = replica_set(&scene, "v1").await?;
    assert_eq!(template(&scene.deployment(APP).await?), template(&old));
    let rollout = progress(&request)?.rollout.context("no rollout")?;
    let completed = rollout.completed_at.context("not complete")?;
    let ready = ready_since(&scene.client(User::Admin).await?, &old).await?;
    assert_eq!(ready.len(), 2);
    assert!(ready.iter().all(|since| *since <= completed));
    assert_eq!(
        (rollout.desired, rollout.updated, rollout.available),
        (2, 2, 2)
    );

    undo(&twin, &[]).await?.ensure_to("v1")?;
    let waited = status(&twin, PATIENCE, &[]).await?;
    waited.ensure_ok(SUCCESS)?;
    waited.ensure_ok("Waiting for deployment")?;
    assert_eq!(counts(&twin.deployment(APP).await?), [2, 2, 2]);
    let same = "success when every replica is of the old version and available";
    record(48, &format!("`rollout status`: {same}"), same)
}

#[tokio::test]
async fn case_50_without_replicas_nothing_is_verified() -> Result<()> {
    let (scene, twin) = (scene("case-50").await?, twin("case-50").await?);
    let pods = HealthServer::start().await?;
    let check = json!({"name": "live", "port": HEALTH_PORT, "path": "/health/live"});
    scene
        .policy(json!({"verification": {"http": [check]}}))
        .await?;
    both(&scene, &twin, async |scene| {
        for version in ["v1", "v2"] {
            let deployment = shop::deployment(APP).pod_ip(&pods.ip());
            scene.deploy(deployment.version(version)).await?;
        }
        let none = json!({"spec": {"replicas": 0}});
        scene.patch_deployment(APP, none).await?;
        scene
            .wait_for_deployment(APP, |deployment| {
                number(deployment, "/status/observedGeneration")
                    == number(deployment, "/metadata/generation")
                    && number(deployment, "/status/replicas") == 0
            })
            .await
    })
    .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert!(
        outcome.message.contains("no replicas"),
        "{}",
        outcome.message
    );
    assert!(progress(&request)?.verification.is_none());
    assert_eq!(pods.paths(), Vec::<String>::new());
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/spec/replicas"), 0);
    assert!(scene.image(APP).await?.ends_with(":v1"));

    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    assert_eq!(counts(&twin.deployment(APP).await?), [0, 0, 0]);
    let kubectl = format!("`rollout status`: `{SUCCESS}`, with no pod to show for it");
    let ours = "`Succeeded` with reason `Unverified`; no check is asked";
    record(50, &kubectl, ours)
}

#[tokio::test]
async fn case_51_ready_is_not_yet_available() -> Result<()> {
    const SECONDS: i64 = 3;
    let (scene, twin) = (scene("case-51").await?, twin("case-51").await?);
    both(&scene, &twin, async |scene| {
        for version in ["v1", "v2"] {
            let deployment = shop::deployment(APP)
                .set("/spec/minReadySeconds", json!(SECONDS))
                .set("/spec/strategy", json!({"type": "Recreate"}));
            scene.deploy(deployment.version(version)).await?;
        }
        Ok(())
    })
    .await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let completed = progress(&request)?
        .rollout
        .and_then(|rollout| rollout.completed_at)
        .context("not complete")?;
    let old = replica_set(&scene, "v1").await?;
    let ready = ready_since(&scene.client(User::Admin).await?, &old).await?;
    assert_eq!(ready.len(), 2);
    let ensure_waited = |until: Timestamp, ready: &[Timestamp]| {
        let waited = ready.iter().map(|since| until.duration_since(*since));
        let early = waited.min().filter(|waited| waited.as_secs() < SECONDS);
        ensure!(
            early.is_none(),
            "complete {early:?} after a pod became ready"
        );
        Ok(())
    };
    ensure_waited(completed, &ready)?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    let completed = Timestamp::now();
    let old = replica_set(&twin, "v1").await?;
    let ready = ready_since(&twin.client(User::Admin).await?, &old).await?;
    assert_eq!(ready.len(), 2);
    ensure_waited(completed, &ready)?;
    let same = "no success before that";
    record(51, &format!("`rollout status`: {same}"), same)
}

/// How many pods of a version are there, and how many of them are ending.
async fn ending(scene: &Scene, tag: &str) -> Result<(usize, usize)> {
    let pods = pods_of(scene, tag).await?;
    let is_ending = |pod: &&Pod| pod.metadata.deletion_timestamp.is_some();
    Ok((pods.len(), pods.iter().filter(is_ending).count()))
}

/// From now on the pods of the bad version do not go away when they end.
async fn held(scene: &Scene) -> Result<()> {
    scene.two_versions(APP).await?;
    hold_pods(scene, json!(["testkit.broxiva.com/hold"])).await
}

/// The pods of the bad version end, but do not go away.
#[tokio::test]
async fn case_49_pods_that_do_not_go_away_are_not_waited_for() -> Result<()> {
    let (scene, twin) = (scene("case-49").await?, twin("case-49").await?);
    both(&scene, &twin, held).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/status/terminatingReplicas"), 2, "{after}");
    assert_eq!(ending(&scene, "v2").await?, (2, 2));

    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    assert_eq!(ending(&twin, "v2").await?, (2, 2));
    both(&scene, &twin, async |scene| {
        hold_pods(scene, Value::Null).await
    })
    .await?;
    let kubectl = format!("`rollout status`: `{SUCCESS}` while pods of the bad version still end");
    let ours = "success while pods of the bad version still end; with `waitForTermination` \
                not before they are gone, unless the server does not count them";
    record(49, &kubectl, ours)
}

#[tokio::test]
async fn case_49_pods_that_do_not_go_away_are_waited_for_if_the_policy_says_so() -> Result<()> {
    let scene = scene("case-49-wait").await?;
    scene.policy(wait_for_termination()).await?;
    held(&scene).await?;
    start_rolling_out(&scene).await?;
    let waits = eventually("only the old pods are waited for", PATIENCE, async || {
        let request = scene.request(REQUEST).await?;
        let (reason, message) = ready(&request);
        let says = "2 pods of the bad version are still on their way out";
        ensure!(reason == "RollingOut", "it is {reason}: {message}");
        ensure!(message.contains(says), "it says {message:?}");
        Ok(request)
    })
    .await?;
    let rollout = progress(&waits)?.rollout.context("no rollout")?;
    assert_eq!((rollout.updated, rollout.available), (2, 2));
    assert_eq!(rollout.completed_at, None);
    assert_eq!(counts(&scene.deployment(APP).await?), [2, 2, 2]);
    assert_eq!(ending(&scene, "v2").await?, (2, 2));

    hold_pods(&scene, Value::Null).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert!(
        progress(&request)?
            .rollout
            .is_some_and(|r| r.completed_at.is_some())
    );
    assert_eq!(ending(&scene, "v2").await?, (0, 0));
    let after = scene.deployment(APP).await?;
    assert_eq!(number(&after, "/status/terminatingReplicas"), 0);
    Ok(())
}

fn wait_for_termination() -> Value {
    json!({"rollout": {"waitForTermination": true}})
}

/// As a server does that does not have the field yet, or has it switched off. What nobody counts is not waited for.
#[tokio::test]
async fn case_49_a_server_that_does_not_count_ending_pods_is_understood() -> Result<()> {
    const FIELD: &str = "/status/terminatingReplicas";
    if testkit::is_older("a MutatingAdmissionPolicy that stands in the way") {
        return Ok(());
    }
    let scene = scene("case-49-nil").await?;
    scene.policy(wait_for_termination()).await?;
    scene.deploy(shop::deployment(APP).version("v1")).await?;
    let without = Change {
        resource: "deployments/status",
        when: "has(object.status.terminatingReplicas)",
        mutation: json!({
            "patchType": "JSONPatch",
            "jsonPatch": {"expression": format!("[JSONPatch{{op: 'remove', path: '{FIELD}'}}]")},
        }),
    };
    let probe = json!({"status": {"terminatingReplicas": 7}});
    change(&scene, &without, &probe, |answer| {
        answer.pointer(FIELD).is_none()
    })
    .await?;
    scene.deploy(shop::deployment(APP).version("v2")).await?;
    hold_pods(&scene, json!(["testkit.broxiva.com/hold"])).await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    assert_eq!(ending(&scene, "v2").await?, (2, 2));
    let after = scene.deployment(APP).await?;
    assert_eq!(after.pointer(FIELD), None);
    assert_eq!(counts(&after), [2, 2, 2]);
    hold_pods(&scene, Value::Null).await?;
    leave_alone(&scene).await
}

/// The Deployment controller copies the number of the `ReplicaSet` to the Deployment a moment after
/// it has used it. Here that moment does not end.
#[tokio::test]
async fn case_67_the_number_on_the_deployment_says_nothing() -> Result<()> {
    if testkit::is_older("a MutatingAdmissionPolicy that stands in the way") {
        return Ok(());
    }
    let (scene, twin) = (scene("case-67").await?, twin("case-67").await?);
    both(&scene, &twin, async |scene| {
        scene.two_versions(APP).await?;
        keep_number(scene).await
    })
    .await?;
    let (_, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    ensure_number_lags(&scene).await?;

    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    wait_for_revision(&twin, "v1", 3).await?;
    ensure_number_lags(&twin).await?;
    let named = status(&twin, PATIENCE, &["--revision=3"]).await?;
    named.ensure_error("desired revision (3) is different from the running revision (2)")?;
    both(&scene, &twin, async |scene| leave_alone(scene).await).await?;
    let kubectl = format!(
        "`rollout status` is not misled; `rollout status --revision=3` is: {}",
        named.complaint()
    );
    record(67, &kubectl, "no verdict from it: `Succeeded`")
}

/// From now on the revision annotation of the Deployment stays as it is.
async fn keep_number(scene: &Scene) -> Result<()> {
    let path = REVISION.replace('/', "~1");
    let keep = format!(
        "[JSONPatch{{op: 'replace', path: '/metadata/annotations/{path}', \
         value: oldObject.metadata.annotations['{REVISION}']}}]"
    );
    let keep = Change {
        resource: "deployments/status",
        when: "has(oldObject.metadata.annotations) && has(object.metadata.annotations) \
               && 'deployment.kubernetes.io/revision' in oldObject.metadata.annotations \
               && 'deployment.kubernetes.io/revision' in object.metadata.annotations",
        mutation: json!({"patchType": "JSONPatch", "jsonPatch": {"expression": keep}}),
    };
    let probe = json!({"metadata": {"annotations": {REVISION: "77"}}});
    change(scene, &keep, &probe, |answer| revision(answer) == Some(2)).await
}

/// The Deployment says revision 2 still, and that the controller has seen its newest generation; its
/// version 1 is revision 3.
async fn ensure_number_lags(scene: &Scene) -> Result<()> {
    let deployment = scene.deployment(APP).await?;
    let old = replica_set(scene, "v1").await?;
    ensure!(
        template(&deployment) == template(&old),
        "it is {deployment}"
    );
    ensure!(
        number(&deployment, "/status/observedGeneration")
            == number(&deployment, "/metadata/generation")
    );
    let numbers = (revision(&deployment), revision(&old));
    ensure!(numbers == (Some(2), Some(3)), "they are {numbers:?}");
    Ok(())
}
