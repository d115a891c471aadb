//! What the ledger of a Deployment remembers of versions that the history does not tell about.

use anyhow::{Context, Result, ensure};
use kube::Api;
use rollback_api::ledger::{Evidence, Verdict};
use rollback_api::status::{RiskKind, Source};
use rollback_api::{Reason, RequestState, RevisionLedger, WorkloadKind};
use rollback_core::history::ledger;
use serde_json::json;
use testkit::conformance::record;
use testkit::scene::PATIENCE;
use testkit::shop::{BEHAVIOUR, Behaviour, IMAGE_ID};
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{both, twin, undo};
use crate::situation::{deploy_all, deploy_stuck, wait_until_available};
use crate::stage::{
    APP, REQUEST, ensure_answers, ensure_ended, planned, progress, roll_back_to, scene,
};

/// Versions count as good as soon as each of their replicas is available.
async fn trust_at_once(scene: &Scene) -> Result<()> {
    scene.policy(json!({"ledger": {"soakSeconds": 0}})).await
}

/// Waits until the ledger knows that the version with this number is good.
async fn known_good(scene: &Scene, number: i64) -> Result<Evidence> {
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let name = ledger::name(WorkloadKind::Deployment, APP);
    eventually(
        &format!("{number} is known to be good"),
        PATIENCE,
        async || {
            let ledger = api.get(&name).await?;
            let entries = ledger.spec.templates;
            let entry = entries.iter().find(|entry| entry.revision == Some(number));
            let entry = entry.with_context(|| format!("it knows {entries:?}"))?;
            ensure!(entry.verdict == Verdict::Good, "it is {entry:?}");
            Ok(entry.clone())
        },
    )
    .await
}

#[tokio::test]
async fn case_20_last_known_good_was_seen_to_be_good() -> Result<()> {
    let (scene, twin) = (scene("case-20").await?, twin("case-20").await?);
    trust_at_once(&scene).await?;
    both(&scene, &twin, async |scene| {
        deploy_all(scene, &["v1"]).await
    })
    .await?;
    known_good(&scene, 1).await?;
    both(&scene, &twin, async |scene| {
        for version in ["v2", "v3"] {
            deploy_stuck(scene, shop::deployment(APP).version(version)).await?;
        }
        Ok(())
    })
    .await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"lastKnownGood": {}})).await?;
    assert_eq!(tag, "v1");
    ensure_answers(&scene, &[200])?;

    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v2")?;
    let kubectl = format!("{}, which never became available", undo.outcome());
    let ours = "`lastKnownGood`: back to v1, which was seen to be available";
    record(20, &kubectl, ours)
}

/// A version that leaves no history behind.
fn forgetful(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP)
        .version(version)
        .set("/spec/revisionHistoryLimit", json!(0))
}

/// The next version is rolled out, and nothing is left of those before.
async fn deploy_and_forget(scene: &Scene, version: &str) -> Result<()> {
    scene.deploy(forgetful(version)).await?;
    eventually("the history is pruned", PATIENCE, async || {
        let sets = scene.replica_sets(APP).await?;
        ensure!(sets.len() == 1, "{} ReplicaSets", sets.len());
        Ok(())
    })
    .await
}

/// While the bad version has not come up, the one before it is kept; after that nothing is, unless the ledger keeps it.
#[tokio::test]
async fn case_21_without_history_there_is_a_way_back_from_a_failed_rollout_only() -> Result<()> {
    let (scene, twin) = (scene("case-21").await?, twin("case-21").await?);
    scene.policy(json!({"ledger": {"record": false}})).await?;
    both(&scene, &twin, async |scene| {
        scene.deploy(forgetful("v1")).await?;
        deploy_stuck(scene, forgetful("v2")).await
    })
    .await?;
    let (tag, _) = roll_back_to(&scene, REQUEST, json!({"previous": {}})).await?;
    assert_eq!(tag, "v1");
    let failing = undo(&twin, &[]).await?;
    failing.ensure_to("v1")?;
    wait_until_available(&twin).await?;

    both(&scene, &twin, async |scene| {
        deploy_and_forget(scene, "v3").await
    })
    .await?;
    scene.ask("too-late", APP, json!({"previous": {}})).await?;
    let (_, outcome) = scene.wait_for_end("too-late").await?;
    ensure_ended(&outcome, RequestState::Refused, Reason::HistoryPruned)?;
    let limit = "spec.revisionHistoryLimit of the Deployment is 0";
    assert!(outcome.message.contains(limit), "{}", outcome.message);
    ensure_answers(&scene, &[200])?;

    let succeeded = undo(&twin, &[]).await?;
    succeeded.ensure_error("no rollout history found")?;
    let kubectl = format!(
        "during: {}; after: {}",
        failing.outcome(),
        succeeded.outcome()
    );
    let ours = "during: back to v1; after: back to the version before when the ledger knows it as good; without a ledger \
                `Refused` with reason `HistoryPruned`, naming the limit";
    record(21, &kubectl, ours)
}

#[tokio::test]
async fn case_21_what_the_ledger_keeps_is_a_way_back() -> Result<()> {
    let scene = scene("case-21-ledger").await?;
    trust_at_once(&scene).await?;
    scene.deploy(forgetful("v1")).await?;
    let kept = known_good(&scene, 1).await?;
    deploy_and_forget(&scene, "v2").await?;
    let (request, outcome) = scene
        .roll_back(REQUEST, APP, json!({"previous": {}}))
        .await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let target = planned(&request)?;
    assert_eq!(target.source, Source::Ledger);
    assert_eq!(target.to.digest, kept.digest);
    assert!(scene.image(APP).await?.ends_with(":v1"));
    ensure_answers(&scene, &[200])
}

/// What the registry gives for the one tag, at first and later.
const MEANT: [&str; 2] = [
    "registry.broxiva.example/broxiva-api@sha256:5b4f2a0e2e4e6f8d4f1c3a7d9b8e6c5a4d3f2e1c0b9a8d7e6f5c4b3a29180706",
    "registry.broxiva.example/broxiva-api@sha256:c1d2e3f405162738495a6b7c8d9eafb0c1d2e3f405162738495a6b7c8d9eafb0",
];

/// The pods of version 1 start, with what its tag means now, until `done`.
async fn start_with(
    scene: &Scene,
    image_id: &str,
    what: &str,
    done: impl AsyncFn() -> Result<()>,
) -> Result<()> {
    let client = scene.client(User::Admin).await?;
    let well = [(IMAGE_ID, image_id), (BEHAVIOUR, Behaviour::Ready.as_str())];
    eventually(what, PATIENCE, async || {
        shop::annotate_pods(&client, scene.ns(), APP, &well).await?;
        done().await
    })
    .await
}

#[tokio::test]
async fn case_24_a_tag_that_was_moved_is_noticed() -> Result<()> {
    let version = |mode| shop::deployment(APP).version("latest").env("MODE", mode);
    let (scene, twin) = (scene("case-24").await?, twin("case-24").await?);
    trust_at_once(&scene).await?;
    // They wait to be told what their tag means.
    deploy_stuck(&scene, version("old")).await?;
    start_with(&scene, MEANT[0], "the version runs", async || {
        wait_until_available(&scene).await
    })
    .await?;
    let known = known_good(&scene, 1).await?;
    let ids: Vec<Option<&str>> = known
        .images
        .iter()
        .map(|image| image.image_id.as_deref())
        .collect();
    assert_eq!(ids, [Some(MEANT[0])]);
    scene.deploy(version("new")).await?;

    scene.ask(REQUEST, APP, json!({"previous": {}})).await?;
    scene.approve(REQUEST, User::Approver).await?;
    start_with(&scene, MEANT[1], "the request has ended", async || {
        ensure!(scene.status(REQUEST).await?.outcome.is_some(), "not yet");
        Ok(())
    })
    .await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Succeeded, Reason::Unverified)?;
    let risks = planned(&request)?.risks;
    assert!(
        risks.iter().any(|risk| risk.kind == RiskKind::MutableTag),
        "{risks:?}"
    );
    let warnings = progress(&request)?.warnings;
    let [warning] = warnings.as_slice() else {
        anyhow::bail!("not one warning: {warnings:?}");
    };
    let says = "Container app: registry.broxiva.example/broxiva-api:latest is another image now";
    assert!(warning.starts_with(says), "{warning}");

    for mode in ["old", "new"] {
        twin.deploy(version(mode)).await?;
    }
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("latest")?;
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(undo.after.pointer(image), undo.before.pointer(image));
    undo.ran.ensure_ok("rolled back")?;
    assert_eq!(undo.ran.stderr, "");
    let ours = "the plan names the risk `MutableTag`; afterwards a warning that the same tag is another image now";
    record(
        24,
        "the same tag again, without a word about what it means now",
        ours,
    )
}
