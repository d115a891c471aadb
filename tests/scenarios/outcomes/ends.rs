//! The ends at which nothing is broken: it worked, there was nothing to do, or somebody said no.

use anyhow::{Context as _, Result, ensure};
use rollback_api::{CANCELLED_BY, DENIED_BY, DENIED_REASON, Reason, RequestState};
use serde_json::json;
use testkit::health::{HEALTH_PORT, HealthServer};
use testkit::scene::{PATIENCE, condition, request};
use testkit::{User, eventually, shop};

use crate::expect::{End, artifacts, columns, events, scene};
use crate::people::{delete_request, wait_until_gone};

#[tokio::test]
async fn rolled_back_when_every_check_passes() -> Result<()> {
    let scene = scene("rolled-back").await?;
    let pods = HealthServer::start().await?;
    scene
        .policy(json!({"verification": {"timeoutSeconds": 60, "http": [
            {"name": "ready", "port": HEALTH_PORT, "path": "/health/ready", "periodSeconds": 1},
            {"name": "live", "port": HEALTH_PORT, "path": "/health/live", "periodSeconds": 1},
        ]}}))
        .await?;
    scene
        .deploy(shop::deployment("api").version("v1").pod_ip(&pods.ip()))
        .await?;
    scene.deploy(shop::deployment("api").version("v2")).await?;
    let to = json!({"previous": {}});
    scene.ask("api-5xx", "api", to).await?;
    let waiting = scene.wait_for("api-5xx", "AwaitingApproval").await?;
    ensure!(
        condition(&waiting, "Ready").is_some_and(|(status, ..)| status == "False")
            && condition(&waiting, "Reconciling").is_none(),
        "kstatus has to see that it is not done, and nothing is being reconciled"
    );
    eventually("it is said how to approve", PATIENCE, async || {
        let (_, _, how) =
            condition(&scene.request("api-5xx").await?, "Ready").context("no Ready")?;
        let parts = [
            "kubectl annotate rbr api-5xx",
            "confirm='ROLLBACK PRODUCTION'",
        ];
        ensure!(parts.iter().all(|part| how.contains(part)), "{how}");
        Ok(())
    })
    .await?;
    scene.approve("api-5xx", User::Approver).await?;
    let end = End::well(Reason::RolledBack).saying(&["2 of 2 checks passed"]);
    end.check(&scene, "api-5xx").await?;

    let ended = scene.request("api-5xx").await?;
    let status = ended.status.clone().unwrap_or_default();
    let progress = status.targets.first().context("no target")?;
    ensure!(progress.backup.is_some() && progress.reverted_at.is_some());
    let checks = progress.verification.as_ref().context("no checks")?;
    ensure!(checks.checks.iter().all(|check| check.passed_at.is_some()));
    ensure!(scene.image("api").await?.ends_with(":v1"));
    ensure!(artifacts(&scene, "backup", &ended).await?.len() == 1);
    let columns = columns(&scene, "api-5xx").await?;
    ensure!(
        columns["ROLLBACK"] == "deployment/api to revision 1 (v1)",
        "{columns:?}"
    );
    ensure!(columns["APPROVED BY"] == User::Approver.as_str());
    let told: Vec<String> = events(&scene, &ended)
        .await?
        .into_iter()
        .filter_map(|event| event.reason)
        .collect();
    for reason in ["Approved", "BackedUp", "Reverted", "RolledOut"] {
        ensure!(
            told.iter().filter(|told| *told == reason).count() == 1,
            "{reason} is not told once: {told:?}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn unverified_without_checks_or_without_replicas() -> Result<()> {
    let scene = scene("unverified").await?;
    for (name, replicas) in [("api", 2), ("asleep", 0)] {
        for version in ["v1", "v2"] {
            let next = shop::deployment(name).version(version).replicas(replicas);
            scene.deploy(next).await?;
        }
        let to = json!({"previous": {}});
        scene.ask(&format!("{name}-5xx"), name, to).await?;
        scene
            .approve(&format!("{name}-5xx"), User::Approver)
            .await?;
    }
    let end = End::well(Reason::Unverified);
    end.saying(&["The policy defines no checks", "look yourself"])
        .check(&scene, "api-5xx")
        .await?;
    end.saying(&["asks for no replicas"])
        .check(&scene, "asleep-5xx")
        .await?;
    ensure!(scene.image("asleep").await?.ends_with(":v1"));
    let asleep = scene.deployment("asleep").await?;
    ensure!(asleep["spec"]["replicas"] == 0, "it was scaled");
    Ok(())
}

#[tokio::test]
async fn nothing_is_done_when_there_is_nothing_to_do() -> Result<()> {
    let scene = scene("no-op").await?;
    scene.two_versions("api").await?;
    let before = scene.deployment("api").await?;

    scene.ask("same", "api", json!({"revision": 2})).await?;
    End::well(Reason::NoOp)
        .without_incident()
        .saying(&["already runs revision 2"])
        .check(&scene, "same")
        .await?;

    let mut dry = request(
        "rehearsal",
        json!([{"name": "api", "to": {"previous": {}}}]),
    );
    dry["spec"]["dryRun"] = json!(true);
    scene.ask_for(dry).await?;
    End::well(Reason::DryRun)
        .without_incident()
        .saying(&["dry run", "status.plan"])
        .check(&scene, "rehearsal")
        .await?;
    let plan = scene.status("rehearsal").await?.plan.context("no plan")?;
    ensure!(plan.targets[0].to.revision == Some(1));
    ensure!(scene.deployment("api").await? == before, "it was touched");

    // Somebody rolls back by hand while the request waits.
    scene.ask("late", "api", json!({"previous": {}})).await?;
    scene.plan("late").await?;
    let undo = ["rollout", "undo", "deployment/api", "-n", scene.ns()];
    scene.cluster.kubectl_ok(User::Admin, &undo, "").await?;
    End::badly(RequestState::Superseded, Reason::NotLive)
        .settled()
        .saying(&[
            "somebody else (field manager kubectl) was faster",
            "Nothing was changed",
        ])
        .check(&scene, "late")
        .await?;
    Ok(())
}

#[tokio::test]
async fn denied_by_an_approver() -> Result<()> {
    let scene = scene("denied").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    let why = "the errors come from the payment provider";
    let no = json!({DENIED_BY: User::Approver.as_str(), DENIED_REASON: why});
    scene.annotate("api-5xx", User::Approver, no).await?;
    let outcome = End::badly(RequestState::Denied, Reason::DeniedByApprover)
        .saying(&[User::Approver.as_str(), why, "Nothing was changed"])
        .check(&scene, "api-5xx")
        .await?;
    ensure!(outcome.by.as_deref() == Some(User::Approver.as_str()));
    ensure!(scene.image("api").await?.ends_with(":v2"));
    Ok(())
}

#[tokio::test]
async fn cancelled_by_annotation_or_by_deletion() -> Result<()> {
    let scene = scene("cancelled").await?;
    scene.two_versions("api").await?;
    for name in ["annotated", "deleted"] {
        scene.ask(name, "api", json!({"previous": {}})).await?;
        scene.plan(name).await?;
    }
    let by = json!({CANCELLED_BY: User::Requester.as_str()});
    scene.annotate("annotated", User::Requester, by).await?;
    End::badly(RequestState::Cancelled, Reason::CancelledByUser)
        .saying(&[User::Requester.as_str(), "Nothing was changed"])
        .check(&scene, "annotated")
        .await?;

    let deleted = scene.request("deleted").await?;
    delete_request(&scene, "deleted", User::Requester).await?;
    wait_until_gone(&scene, "deleted").await?;
    let incidents = artifacts(&scene, "incident", &deleted).await?;
    ensure!(incidents.len() == 1, "{} incidents", incidents.len());
    let pages = incidents[0].data.clone().unwrap_or_default();
    ensure!(
        pages.values().any(|page| page.contains("Cancelled")),
        "{pages:?}"
    );
    ensure!(scene.image("api").await?.ends_with(":v2"));
    Ok(())
}

/// Deleting a request that has begun does not stop half-way: it is finished, reported, and then gone.
#[tokio::test]
async fn a_request_that_is_deleted_too_late_is_finished_first() -> Result<()> {
    let scene = scene("late-delete").await?;
    let slow = shop::deployment("api")
        .version("v1")
        .ready_after(std::time::Duration::from_secs(3));
    crate::people::replaced(&scene, "api", slow).await?;
    let asked = scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", User::Approver).await?;
    scene.wait_for("api-5xx", "RollingOut").await?;
    delete_request(&scene, "api-5xx", User::Requester).await?;
    wait_until_gone(&scene, "api-5xx").await?;
    let incidents = artifacts(&scene, "incident", &asked).await?;
    ensure!(incidents.len() == 1, "{} incidents", incidents.len());
    let pages = incidents[0].data.clone().unwrap_or_default();
    ensure!(
        pages.values().any(|page| page.contains("Succeeded")),
        "{pages:?}"
    );
    ensure!(scene.image("api").await?.ends_with(":v1"));
    crate::expect::ensure_free(&scene, &asked).await
}

#[tokio::test]
async fn expired_when_nobody_approves_in_time() -> Result<()> {
    let scene = scene("expired").await?;
    scene.two_versions("api").await?;
    // By the request itself...
    let soon = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(5);
    let mut own = request("own", json!([{"name": "api", "to": {"previous": {}}}]));
    own["spec"]["notAfter"] = json!(soon);
    scene.ask_for(own).await?;
    scene.plan("own").await?;
    let end = End::badly(RequestState::Expired, Reason::NotApprovedInTime)
        .saying(&["Nobody approved before", "create a new RollbackRequest"]);
    end.check(&scene, "own").await?;
    // ... and by the policy.
    scene
        .policy(json!({"approvals": {"expireAfterSeconds": 5}}))
        .await?;
    scene.ask("policy", "api", json!({"previous": {}})).await?;
    scene.plan("policy").await?;
    end.check(&scene, "policy").await?;

    // Born too late: there is not even a plan.
    let mut dead = request("dead", json!([{"name": "api", "to": {"previous": {}}}]));
    dead["spec"]["notAfter"] = json!("2020-01-01T00:00:00Z");
    scene.ask_for(dead).await?;
    end.without_incident()
        .saying(&[
            "2020-01-01",
            "spec.notAfter",
            "create a new RollbackRequest",
        ])
        .check(&scene, "dead")
        .await?;
    ensure!(scene.image("api").await?.ends_with(":v2"));
    Ok(())
}
