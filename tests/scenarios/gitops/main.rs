//! Requests that live in Git: applied over and over, pruned, restored, changed, and looked at by
//! tools that do not know what they are.
//!
//! The tools are played by what they do to the API server. Whatever they do, a rollback happens once,
//! a re-apply is never refused, and a change is refused in the one way that they do not answer by
//! deleting and creating again.

mod git;
mod kstatus;
mod states;

use anyhow::{Context as _, Result, bail, ensure};
use futures::future::try_join_all;
use kube::ResourceExt;
use rollback_api::{
    APPROVED_BY, APPROVER_GROUPS, APPROVER_UID, CONFIRM, PLAN, Reason, RequestState,
};
use serde_json::json;
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::PRODUCTION;
use testkit::{Scene, User, shop};

use git::{DEPLOYMENT, PROGRAM, REQUEST, Tool};
use kstatus::{Health, Status};

#[tokio::test]
async fn applied_again_at_every_moment_it_rolls_back_once() -> Result<()> {
    let runs = Tool::ALL.map(|tool| Box::pin(applied_all_along(tool)));
    try_join_all(runs).await?;
    Ok(())
}

async fn applied_all_along(tool: Tool) -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, tool.name()).await?;
    let checks = HealthServer::start().await?;
    checks.answer(Answer::status(503));
    let check =
        json!({"name": "ready", "port": HEALTH_PORT, "path": "/health/ready", "periodSeconds": 1});
    scene
        .policy(json!({"verification": {"http": [check]}}))
        .await?;
    git::slow_and_good(&scene, &checks.ip()).await?;

    // Nobody has looked at it yet.
    tool.apply(&scene).await?;
    let uid = scene.request(REQUEST).await?.uid().context("no UID")?;
    let judged = git::judged(&scene, REQUEST).await?;
    ensure!(
        judged == (Status::InProgress, Health::Progressing),
        "{judged:?}"
    );
    tool.apply(&scene).await?;
    scene.start_controller().await?;

    let plan = scene.plan(REQUEST).await?;
    let judged = git::judged(&scene, REQUEST).await?;
    ensure!(
        judged == (Status::InProgress, Health::Suspended),
        "{judged:?}"
    );
    tool.apply(&scene).await?;
    // Every commit brings another label.
    let mut other = tool.manifest(&scene);
    other["metadata"]["labels"]["example.com/commit"] = json!("4f2a9c1");
    tool.apply_object(&scene, &other).await?;
    tool.apply(&scene).await?;
    ensure!(
        scene.status(REQUEST).await?.plan.as_ref() == Some(&plan),
        "another plan"
    );

    // Straight after the approval, which is not in Git.
    scene.approve(REQUEST, User::Approver).await?;
    tool.apply(&scene).await?;
    scene.wait_for(REQUEST, "RollingOut").await?;
    for _ in 0..3 {
        tool.apply(&scene).await?;
    }
    let judged = git::judged(&scene, REQUEST).await?;
    ensure!(
        judged == (Status::InProgress, Health::Progressing),
        "{judged:?}"
    );
    let (state, _) = testkit::scene::ready(&scene.request(REQUEST).await?);
    ensure!(state == "RollingOut", "too late: it is {state}");
    git::until_over(&scene).await?;

    scene.wait_for(REQUEST, "Verifying").await?;
    tool.apply(&scene).await?;
    let judged = git::judged(&scene, REQUEST).await?;
    ensure!(
        judged == (Status::InProgress, Health::Progressing),
        "{judged:?}"
    );
    checks.answer(Answer::healthy());
    let request = git::ends(&scene, RequestState::Succeeded, Reason::RolledBack).await?;
    let approvals = request.status.unwrap_or_default().approvals;
    ensure!(approvals.len() == 1, "{approvals:?}");

    let before = git::seen(&scene, REQUEST).await?;
    tool.apply(&scene).await?;
    tool.apply_object(&scene, &other).await?;
    let after = git::seen(&scene, REQUEST).await?;
    ensure!(before["status"] == after["status"], "the status changed");
    let judged = git::judged(&scene, REQUEST).await?;
    ensure!(judged == (Status::Current, Health::Healthy), "{judged:?}");

    git::unharmed(&scene, &uid).await?;
    once(&scene).await
}

/// One revert, one backup, one incident, one entry in the ledger.
async fn once(scene: &Scene) -> Result<()> {
    ensure!(git::reverts(scene)? == 1, "not one revert");
    ensure!(
        scene.image(DEPLOYMENT).await?.ends_with(":v1"),
        "not rolled back"
    );
    git::incident(scene).await?;
    let backups = scene.artifacts("backup", REQUEST).await?.len();
    ensure!(backups == 1, "{backups} backups");
    ensure!(
        git::ledger(scene).await? == (false, 1),
        "claimed, or not one entry"
    );
    Ok(())
}

#[tokio::test]
async fn an_approval_that_nobody_has_read_yet_survives_an_apply() -> Result<()> {
    let runs = Tool::ALL.map(|tool| Box::pin(approved_and_applied(tool)));
    try_join_all(runs).await?;
    Ok(())
}

async fn approved_and_applied(tool: Tool) -> Result<()> {
    let mut scene = Scene::new(PROGRAM, "unread").await?;
    git::two_versions(&scene).await?;
    tool.apply(&scene).await?;
    let uid = scene.request(REQUEST).await?.uid().context("no UID")?;
    scene.plan(REQUEST).await?;
    let controller = scene.controller.take().context("no controller")?;
    controller.kill();
    scene.approve(REQUEST, User::Approver).await?;
    let approved = scene.request(REQUEST).await?.metadata.annotations;
    let mailbox = approved.context("no approval")?;
    tool.apply(&scene).await?;
    let request = scene.request(REQUEST).await?;
    for key in [APPROVED_BY, CONFIRM, PLAN, APPROVER_UID, APPROVER_GROUPS] {
        ensure!(mailbox.contains_key(key), "{key} was never there");
        ensure!(
            request.annotations().get(key) == mailbox.get(key),
            "{key} is lost"
        );
    }
    ensure!(git::reverts(&scene)? == 0, "reverted without a controller?");
    scene.start_controller().await?;
    git::ends(&scene, RequestState::Succeeded, Reason::Unverified).await?;
    git::unharmed(&scene, &uid).await?;
    once(&scene).await
}

#[tokio::test]
async fn pruned_and_restored_after_the_end_it_does_nothing() -> Result<()> {
    let runs = Tool::ALL.map(|tool| Box::pin(pruned_and_restored(tool)));
    try_join_all(runs).await?;
    Ok(())
}

async fn pruned_and_restored(tool: Tool) -> Result<()> {
    let scene = Scene::new(PROGRAM, "restore").await?;
    git::two_versions(&scene).await?;
    tool.apply(&scene).await?;
    let digest = scene.plan(REQUEST).await?.digest;
    scene.approve(REQUEST, User::Approver).await?;
    git::ends(&scene, RequestState::Succeeded, Reason::Unverified).await?;
    once(&scene).await?;

    // The bad version again, a newer one, and the good one: none of them is touched.
    for version in [None, Some("v2"), Some("v3"), Some("v1")] {
        git::prune(&scene).await?;
        git::gone(&scene).await?;
        if let Some(version) = version {
            let version = shop::deployment(DEPLOYMENT).version(version);
            scene.deploy(version).await?;
        }
        let deployed = scene.deployment(DEPLOYMENT).await?;
        tool.apply(&scene).await?;
        // Somebody approves it once more, as they remember it.
        let again = scene
            .approve_plan(REQUEST, User::Approver, PRODUCTION, &digest)
            .await;
        ensure!(again.is_err(), "a plan was approved that is not there");
        let request = git::ends(&scene, RequestState::Succeeded, Reason::AlreadyRolledBack).await?;
        ensure!(
            request.status.unwrap_or_default().plan.is_none(),
            "there is a plan"
        );
        let judged = git::judged(&scene, REQUEST).await?;
        ensure!(judged == (Status::Current, Health::Healthy), "{judged:?}");
        let now = scene.deployment(DEPLOYMENT).await?;
        ensure!(
            now.pointer("/metadata/generation") == deployed.pointer("/metadata/generation"),
            "the Deployment was touched"
        );
        ensure!(git::reverts(&scene)? == 1, "not one revert");
        git::incident(&scene).await?;
    }
    Ok(())
}

#[tokio::test]
async fn restored_when_the_bad_version_is_gone_it_does_nothing() -> Result<()> {
    let scene = Scene::new(PROGRAM, "rebuilt").await?;
    // A cluster that was built again: no ledger remembers anything, and a good version runs.
    for version in ["v1", "v2", "v3"] {
        let version = shop::deployment(DEPLOYMENT).version(version);
        scene.deploy(version).await?;
    }
    let mut manifest = Tool::Flux.manifest(&scene);
    manifest["spec"]["targets"][0]["from"] = json!({"image": "registry.broxiva.example/api:v2"});
    Tool::Flux.apply_object(&scene, &manifest).await?;
    git::ends(&scene, RequestState::Superseded, Reason::NotLive).await?;
    let judged = git::judged(&scene, REQUEST).await?;
    assert_eq!(judged, (Status::Current, Health::Healthy));
    assert!(scene.image(DEPLOYMENT).await?.ends_with(":v3"));
    assert_eq!(git::reverts(&scene)?, 0);

    // The same request is still in Git when the bad version comes back: asked for once.
    scene
        .deploy(shop::deployment(DEPLOYMENT).version("v2"))
        .await?;
    Tool::Flux.apply_object(&scene, &manifest).await?;
    git::ends(&scene, RequestState::Superseded, Reason::NotLive).await?;
    assert_eq!(git::reverts(&scene)?, 0);
    Ok(())
}

#[tokio::test]
async fn pruned_before_the_approval_it_is_cancelled_and_goes() -> Result<()> {
    let scene = Scene::new(PROGRAM, "cancel").await?;
    git::two_versions(&scene).await?;
    Tool::Flux.apply(&scene).await?;
    let first = scene.plan(REQUEST).await?;
    git::prune(&scene).await?;
    git::gone(&scene).await?;
    let incident = git::incident(&scene).await?;
    assert_eq!(incident["outcome"]["result"], "Cancelled");
    assert_eq!(incident["outcome"]["reason"], "Deleted");
    assert_eq!(git::ledger(&scene).await?, (false, 0));

    // Nothing was done, so the same request may be asked for again. It is another one, with another
    // plan, and the approval of the first is not worth anything.
    Tool::Flux.apply(&scene).await?;
    let second = scene.plan(REQUEST).await?;
    assert_ne!(first.digest, second.digest);
    let old = scene
        .approve_plan(REQUEST, User::Approver, PRODUCTION, &first.digest)
        .await;
    assert!(old.is_err());
    scene.approve(REQUEST, User::Approver).await?;
    git::ends(&scene, RequestState::Succeeded, Reason::Unverified).await?;
    assert_eq!(git::reverts(&scene)?, 1);
    Ok(())
}

#[tokio::test]
async fn pruned_while_it_rolls_out_it_is_finished_and_reported_first() -> Result<()> {
    let scene = Scene::new(PROGRAM, "prune").await?;
    git::slow_and_good(&scene, "10.0.0.1").await?;
    Tool::Flux.apply(&scene).await?;
    scene.approve(REQUEST, User::Approver).await?;
    scene.wait_for(REQUEST, "RollingOut").await?;
    git::prune(&scene).await?;
    let judged = git::judged(&scene, REQUEST).await?;
    assert_eq!(judged.0, Status::Terminating);
    // Git had it back before it was gone.
    Tool::Flux.apply(&scene).await?;
    let outcome = scene.status(REQUEST).await?.outcome;
    assert_eq!(outcome, None, "it does not stop half way");
    git::until_over(&scene).await?;
    git::gone(&scene).await?;

    let incident = git::incident(&scene).await?;
    assert_eq!(incident["outcome"]["result"], "Succeeded", "{incident}");
    assert_eq!(incident["outcome"]["reason"], "Unverified");
    shop::wait_available(&scene.client(User::Admin).await?, scene.ns(), DEPLOYMENT).await?;
    once(&scene).await?;

    Tool::Flux.apply(&scene).await?;
    git::ends(&scene, RequestState::Succeeded, Reason::AlreadyRolledBack).await?;
    once(&scene).await
}

#[tokio::test]
async fn a_change_in_git_is_forbidden_and_harms_nothing() -> Result<()> {
    let runs = Tool::ALL.map(|tool| Box::pin(changed(tool)));
    try_join_all(runs).await?;
    Ok(())
}

async fn changed(tool: Tool) -> Result<()> {
    let scene = Scene::new(PROGRAM, "changed").await?;
    git::two_versions(&scene).await?;
    tool.apply(&scene).await?;
    let uid = scene.request(REQUEST).await?.uid().context("no UID")?;
    scene.plan(REQUEST).await?;
    let mut other = tool.manifest(&scene);
    other["spec"]["targets"][0]["to"] = json!({"revision": 1});
    let mut reworded = tool.manifest(&scene);
    reworded["spec"]["reason"]["summary"] = json!("5xx above 2 %");
    for change in [&other, &reworded] {
        forbidden(tool.apply_object(&scene, change).await)?;
    }
    git::unharmed(&scene, &uid).await?;

    // What was asked for is still what is done.
    tool.apply(&scene).await?;
    scene.approve(REQUEST, User::Approver).await?;
    git::ends(&scene, RequestState::Succeeded, Reason::Unverified).await?;
    for change in [&other, &reworded] {
        forbidden(tool.apply_object(&scene, change).await)?;
    }
    git::unharmed(&scene, &uid).await?;
    once(&scene).await
}

/// Refused with 403 Forbidden, and not with 422 Invalid or a conflict, upon which Flux deletes.
fn forbidden(result: Result<()>) -> Result<()> {
    let Err(error) = result else {
        bail!("the spec was changed")
    };
    let text = format!("{error:#}");
    ensure!(
        text.contains("The spec of a RollbackRequest cannot change"),
        "{text}"
    );
    match error.downcast_ref::<kube::Error>() {
        Some(kube::Error::Api(status)) => {
            ensure!(
                (status.code, status.reason.as_str()) == (403, "Forbidden"),
                "{status:?}"
            );
        }
        // kubectl says it in words.
        Some(_) | None => ensure!(
            text.contains("(Forbidden)") || text.contains(" is forbidden"),
            "{text}"
        ),
    }
    Ok(())
}
