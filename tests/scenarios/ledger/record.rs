//! What is recorded, and when.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use kube::api::{Patch, PatchParams};
use rollback_api::ledger::Verdict;
use rollback_api::{Reason, RequestState, RevisionLedgerSpec};
use rollback_core::history::ledger::kept_template;
use serde_json::{Value, json};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::stage::{
    APP, PROGRAM, back_to, bad, digest, entry_of, good, ledger, ledgers, objects, scene, stays,
    version, wait_for_entry, writes,
};

#[tokio::test]
async fn evidence_is_recorded_though_nobody_asks_for_anything() -> Result<()> {
    let scene = scene("unasked", 2).await?;
    let v1 = scene.deploy(version("v1")).await?;
    let early = wait_for_entry(&scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
    assert_eq!(early.verdict, Verdict::Unknown);
    good(&scene, version("v1")).await?;
    let v2 = good(&scene, version("v2")).await?;

    let ledger = ledger(&scene).await?;
    let [first, second] = ledger.spec.templates.as_slice() else {
        anyhow::bail!("{:?}", ledger.spec.templates);
    };
    assert_eq!(
        (&first.digest, &second.digest),
        (&digest(&v1), &digest(&v2))
    );
    for (entry, revision, tag) in [(first, 1, "v1"), (second, 2, "v2")] {
        assert_eq!(entry.verdict, Verdict::Good);
        assert_eq!((entry.revision, &entry.judged_by), (Some(revision), &None));
        assert!(entry.soaked_seconds >= 2, "{entry:?}");
        assert!(entry.first_available.is_some() && entry.judged_at.is_some());
        ensure!(kept_template(entry).is_some(), "not kept");
        ensure!(entry.images[0].image.ends_with(&format!(":{tag}")));
    }
    assert!(first.available_since.is_none() && second.available_since.is_some());
    let owner = &ledger.metadata.owner_references.unwrap_or_default()[0];
    assert_eq!(json!(owner.uid), v1["metadata"]["uid"]);
    assert_eq!(
        (owner.kind.as_str(), owner.name.as_str()),
        ("Deployment", APP)
    );
    // One for what comes up, one for what is up, one for what is good; at most.
    if let Some(writes) = writes(&scene, "revisionledgers")? {
        let done = writes.iter().filter(|write| write.succeeded()).count();
        ensure!((4..=6).contains(&done), "{done} writes: {writes:?}");
    }
    Ok(())
}

/// Time during which a replica was not available does not count.
#[tokio::test]
async fn a_version_that_falters_begins_anew() -> Result<()> {
    let scene = scene("falters", 3600).await?;
    let v1 = scene.deploy(version("v1")).await?;
    let first = wait_for_entry(&scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
    let admin = scene.client(User::Admin).await?;
    let behave = async |how: &str| {
        shop::annotate_pods(&admin, scene.ns(), APP, &[(shop::BEHAVIOUR, how)]).await
    };
    behave("never-ready").await?;
    wait_for_entry(&scene, &v1, "it does not", |e| e.available_since.is_none()).await?;
    behave("ready").await?;
    let again = wait_for_entry(&scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
    assert_eq!(again.first_available, first.first_available);
    ensure!(again.available_since > first.available_since, "{again:?}");
    Ok(())
}

/// It was away: what it did not see counts only when the Deployment itself proves it.
#[tokio::test]
async fn what_happened_while_the_controller_was_away() -> Result<()> {
    let mut steady = Scene::without_controller(PROGRAM, "away-steady").await?;
    let mut changed = Scene::without_controller(PROGRAM, "away-changed").await?;
    let mut templates = Vec::new();
    for scene in [&mut steady, &mut changed] {
        scene
            .policy(json!({"ledger": {"soakSeconds": 3600}}))
            .await?;
        let v1 = scene.deploy(version("v1")).await?;
        // The Deployment knows whole seconds only.
        stays(Duration::from_millis(1100), async || Ok(())).await?;
        scene.start_controller().await?;
        wait_for_entry(scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
        templates.push(v1);
    }
    for scene in [&mut steady, &mut changed] {
        let controller = scene.controller.take().context("no controller")?;
        controller.kill();
        ensure!(controller.exited()?.is_some(), "it still runs");
    }
    // Longer than it has to be available.
    stays(Duration::from_secs(4), async || Ok(())).await?;
    let v2 = changed.deploy(version("v2")).await?;
    for scene in [&mut steady, &mut changed] {
        scene.policy(json!({"ledger": {"soakSeconds": 3}})).await?;
        scene.start_controller().await?;
    }

    wait_for_entry(&steady, &templates[0], "it is good", |entry| {
        entry.verdict == Verdict::Good && entry.soaked_seconds >= 4
    })
    .await?;
    wait_for_entry(&changed, &v2, "it runs", |e| e.available_since.is_some()).await?;
    let entry = entry_of(&changed, &templates[1]).await?;
    assert_eq!(
        (entry.verdict, entry.soaked_seconds, entry.available_since),
        (Verdict::Unknown, 0, None)
    );
    Ok(())
}

/// Two requests want the Deployment while it changes all the time: what the recorder has to say waits until they are
/// done.
#[tokio::test]
async fn claims_survive_the_recorder() -> Result<()> {
    let scene = scene("claims", 1).await?;
    let slow = |tag: &str| version(tag).ready_after(Duration::from_secs(3));
    good(&scene, slow("v1")).await?;
    good(&scene, slow("v2")).await?;
    for name in ["first", "second"] {
        scene.ask(name, APP, json!({"previous": {}})).await?;
    }
    let noise = noise(&scene).await?;
    for name in ["first", "second"] {
        scene.approve(name, User::Approver).await?;
    }
    let mut reasons = Vec::new();
    for name in ["first", "second"] {
        let (_, outcome) = scene.wait_for_end(name).await?;
        reasons.push((outcome.result, outcome.reason));
    }
    noise.abort();
    // Whoever comes second finds it done.
    reasons.sort_by_key(|(_, reason)| reason.known());
    let second = (RequestState::Superseded, Reason::RolledBackByAnother);
    assert_eq!(
        reasons,
        [second, (RequestState::Succeeded, Reason::Unverified)]
    );

    let now = scene.deployment(APP).await?;
    wait_for_entry(&scene, &now, "it runs", |e| e.available_since.is_some()).await?;
    let spec = ledger(&scene).await?.spec;
    assert_eq!((spec.rollbacks.len(), &spec.claim), (1, &None));
    ensure_nothing_recorded_while_claimed(&scene)
}

/// Annotates the Deployment many times a second until it is stopped.
async fn noise(scene: &Scene) -> Result<tokio::task::JoinHandle<()>> {
    let api = objects(scene, "apps/v1", "Deployment").await?;
    Ok(tokio::spawn(async move {
        let mut beat = tokio::time::interval(Duration::from_millis(100));
        for count in 0_u64.. {
            beat.tick().await;
            let noise = json!({"metadata": {"annotations": {"noise": count.to_string()}}});
            // One that is refused is no noise; the next one is.
            let _ = api
                .patch(APP, &PatchParams::default(), &Patch::Merge(&noise))
                .await;
        }
    }))
}

/// No write leaves a claim as it was: each of them gives or takes one, while there is one.
fn ensure_nothing_recorded_while_claimed(scene: &Scene) -> Result<()> {
    let Some(writes) = writes(scene, "revisionledgers")? else {
        return Ok(());
    };
    let mut claim = None;
    let mut claims = 0;
    for write in writes.iter().filter(|write| write.succeeded()) {
        let object = write.request_object.clone().context("no body")?;
        let spec: RevisionLedgerSpec = serde_json::from_value(object["spec"].clone())?;
        ensure!(
            claim.is_none() || claim != spec.claim,
            "recorded under {claim:?}"
        );
        claims += usize::from(spec.claim.is_some());
        claim = spec.claim;
    }
    ensure!(claims >= 1 && claim.is_none(), "{claims} claims, {claim:?}");
    Ok(())
}

/// The one that is rolled back is in quarantine, and its time is counted all the same.
#[tokio::test]
async fn after_a_rollback_both_versions_are_known_for_what_they_are() -> Result<()> {
    let scene = scene("both", 1).await?;
    let v1 = good(&scene, version("v1")).await?;
    let v2 = good(&scene, version("v2")).await?;
    assert_eq!(
        back_to(&scene, "api-5xx", json!({"previous": {}})).await?,
        "v1"
    );
    let live = wait_for_entry(&scene, &v1, "it runs", |e| e.available_since.is_some()).await?;
    assert_eq!((live.verdict, live.revision), (Verdict::Good, Some(3)));
    let gone = entry_of(&scene, &v2).await?;
    assert_eq!(gone.verdict, Verdict::Bad);
    assert_eq!(gone.judged_by.as_deref(), Some("api-5xx"));
    assert!(gone.available_since.is_none() && gone.soaked_seconds >= 1);
    assert!(gone.bad_until > gone.judged_at);
    let last = ledger(&scene).await?.spec.templates.pop();
    assert_eq!(last.map(|entry| entry.digest), Some(digest(&v1)));
    // It stays there, also when somebody deploys it again and it runs well.
    let again = scene.deploy(version("v2")).await?;
    let entry = wait_for_entry(&scene, &again, "it runs", |entry| {
        entry.available_since.is_some() && entry.last_live > gone.last_live
    })
    .await?;
    assert_eq!(entry.verdict, Verdict::Bad);
    Ok(())
}

/// One that does not come up leaves a trace, and takes nobody's place.
#[tokio::test]
async fn what_never_became_available_is_not_kept() -> Result<()> {
    let scene = scene("trace", 0).await?;
    good(&scene, version("v1")).await?;
    let v2 = bad(&scene, version("v2").behaviour(shop::Behaviour::Crash)).await?;
    let entry = entry_of(&scene, &v2).await?;
    assert_eq!(entry.verdict, Verdict::Unknown);
    assert_eq!((entry.template, entry.first_available), (None, None));
    Ok(())
}

/// Somebody who may do anything deletes it: it is the guard that they would have to take away first.
#[tokio::test]
async fn the_ledger_of_a_deployment_that_is_there_is_there() -> Result<()> {
    let scene = scene("stays", 0).await?;
    good(&scene, version("v1")).await?;
    let api = ledgers(&scene).await?;
    let all = api.list(&kube::api::ListParams::default()).await?.items;
    let [ledger] = all.as_slice() else {
        anyhow::bail!("{} ledgers", all.len());
    };
    let name = format!("deployment-{APP}");
    ensure!(
        ledger.metadata.name.as_ref() == Some(&name),
        "{:?}",
        ledger.metadata
    );
    let of = &ledger.spec.target_ref;
    ensure!(of.to_string() == format!("Deployment/{APP}"), "{of:?}");
    let refusal = api.delete(&name, &kube::api::DeleteParams::default()).await;
    let refusal = refusal.err().context("it was deleted")?.to_string();
    ensure!(
        refusal.contains("It goes when its Deployment goes"),
        "{refusal}"
    );
    crate::stage::delete_deployment(&scene).await?;
    eventually("its ledger is gone", PATIENCE, async || {
        ensure!(api.get_opt(&name).await?.is_none(), "it is still there");
        Ok(())
    })
    .await
}

/// Fields that no type knows are kept.
#[tokio::test]
async fn a_template_is_kept_as_it_is_served() -> Result<()> {
    let scene = scene("served", 0).await?;
    let v1 = good(&scene, version("v1").env("QUOTE", "\"\\ü\n")).await?;
    let entry = entry_of(&scene, &v1).await?;
    let kept: Value = serde_json::from_str(&entry.template.context("not kept")?)?;
    let mut served = v1["spec"]["template"].clone();
    if let Some(metadata) = served["metadata"].as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
    assert_eq!(kept, served);
    Ok(())
}
