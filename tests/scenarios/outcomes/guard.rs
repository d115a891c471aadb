//! An approval is worth something only while the admission policies that guard it are there.

use anyhow::{Context as _, Result, ensure};
use rollback_api::Reason;
use serde_json::json;
use testkit::scene::{PATIENCE, PRODUCTION, condition};
use testkit::{Cluster, Scene, User, eventually};

use crate::expect::{End, PROGRAM};

const POLICY: &str = "rollback-guard-approval";

/// In a cluster of its own: the policies are there for everybody.
#[tokio::test]
async fn without_a_guard_no_approval_counts() -> Result<()> {
    let cluster = Cluster::start().await?;
    cluster.install().await?;
    let cluster: &'static Cluster = Box::leak(Box::new(cluster));
    let mut scene = Scene::on(cluster, PROGRAM, "guard").await?;
    scene.start_controller().await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    let first = scene.plan("api-5xx").await?;

    let admin = User::Admin;
    let kind = "validatingadmissionpolicy";
    let saved = ["get", kind, POLICY, "-o", "json"];
    let saved = cluster.kubectl_ok(admin, &saved, "").await?;
    cluster
        .kubectl_ok(admin, &["delete", kind, POLICY], "")
        .await?;

    // The approval is the best there could be; with the policy gone anybody could have typed it.
    // The API server forgets it a moment later, the controller perhaps earlier.
    eventually("the approval is written", PATIENCE, async || {
        scene
            .approve_plan("api-5xx", User::Approver, PRODUCTION, &first.digest)
            .await
    })
    .await?;
    let (second, said) = eventually("the hole is seen", PATIENCE, async || {
        let request = scene.request("api-5xx").await?;
        let (status, reason, message) = condition(&request, "Approved").context("not yet")?;
        ensure!(
            status == "False" && reason == "GuardMissing",
            "{status} {reason}"
        );
        let plan = request.status.and_then(|status| status.plan);
        Ok((plan.context("no plan")?, message))
    })
    .await?;
    for part in ["No approval counts", POLICY, "kubectl apply -f deploy/"] {
        ensure!(said.contains(part), "{part:?} is not in {said}");
    }
    ensure!(second.digest != first.digest, "the digest is the old one");
    // Nor with the new digest.
    scene
        .approve_plan("api-5xx", User::Approver, PRODUCTION, &second.digest)
        .await?;

    // Put back. It is another object now, so what was typed meanwhile is for another plan.
    let mut policy: serde_json::Value = serde_json::from_str(&saved)?;
    policy["metadata"] = json!({"name": POLICY, "labels": policy["metadata"]["labels"]});
    cluster
        .kubectl_ok(admin, &["create", "-f", "-"], &policy.to_string())
        .await?;
    let third = eventually("the plan is renewed", PATIENCE, async || {
        // Nobody announces a policy to the controller; any change of the request does.
        let looked = json!({"looked-at": format!("{:?}", std::time::Instant::now())});
        scene.annotate("api-5xx", admin, looked).await?;
        let request = scene.request("api-5xx").await?;
        let (_, reason, message) = condition(&request, "Approved").context("no condition")?;
        ensure!(reason == "ApprovalInvalid", "{reason}: {message}");
        ensure!(message.contains("is for another plan"), "{message}");
        let status = request.status.unwrap_or_default();
        ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
        status.plan.context("no plan")
    })
    .await?;
    ensure!(third.digest != first.digest && third.digest != second.digest);
    ensure!(scene.image("api").await?.ends_with(":v2"));

    scene
        .approve_plan("api-5xx", User::Approver, PRODUCTION, &third.digest)
        .await?;
    End::well(Reason::Unverified)
        .check(&scene, "api-5xx")
        .await?;
    Ok(())
}
