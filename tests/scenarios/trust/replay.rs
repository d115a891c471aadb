//! An approval is worth something once, for the one request that it was given to: manifests that were saved with
//! it, backups, Git and old digests bring nothing back.

use anyhow::{Context as _, Result, ensure};
use futures::{StreamExt, TryStreamExt};
use kube::api::{Patch, PatchParams, PostParams};
use rollback_api::{Reason, RequestState};
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, TICKED};
use testkit::{Scene, User, eventually};

use crate::stage::{
    approval, at_rest, counted, create, delete, ends, ensure_writes, forbidden, scene, settle,
    two_versions,
};

const NAME: &str = "api-5xx";
/// Everybody who may create requests, one way or another.
const CREATORS: [User; 3] = [User::Admin, User::Requester, User::Gitops];

/// The request as a backup tool keeps it while an approval of this user stands in it: everything but what the API
/// server numbers anew.
async fn saved(scene: &Scene, name: &str, by: User) -> Result<Value> {
    let mut request = serde_json::to_value(scene.request(name).await?)?;
    let metadata = request["metadata"].as_object_mut().context("no metadata")?;
    for numbered in ["uid", "resourceVersion", "generation", "creationTimestamp"] {
        metadata.remove(numbered);
    }
    metadata.remove("managedFields");
    request["apiVersion"] = json!("rollback.broxiva.com/v1alpha1");
    request["kind"] = json!("RollbackRequest");
    let digest = digest_of(&request).context("the backup has no status")?;
    // The controller puts an approval away that it has counted; a backup need not be as new as that.
    request["metadata"]["annotations"] = approval(by.as_str(), &digest);
    Ok(request)
}

fn named(manifest: &Value, name: &str) -> Value {
    let mut copy = manifest.clone();
    copy["metadata"]["name"] = json!(name);
    copy
}

/// Without the mailbox; the status stays.
fn stripped(manifest: &Value) -> Value {
    let mut copy = manifest.clone();
    copy["metadata"]["annotations"] = json!({});
    // Where the API server only compares, whoever makes it again asks for it: who asked first is refused.
    if testkit::typed::is_on()
        && let Some(spec) = copy["spec"].as_object_mut()
    {
        spec.remove("requestedBy");
    }
    copy
}

fn digest_of(manifest: &Value) -> Result<String> {
    let digest = manifest["status"]["plan"]["digest"].as_str();
    Ok(digest.context("no digest")?.to_owned())
}

/// `kubectl create` of a manifest, by somebody.
async fn kubectl_create(scene: &Scene, user: User, manifest: &Value) -> Result<(bool, String)> {
    let create = ["create", "-n", scene.ns(), "-f", "-"];
    let input = manifest.to_string();
    let answer = scene
        .cluster
        .kubectl_with_input(user, &create, &input)
        .await?;
    let said = String::from_utf8_lossy(&answer.stderr).into_owned();
    Ok((answer.status.success(), said))
}

/// Born with an approval it is refused, whoever brings it and whatever it is called.
async fn not_born_approved(scene: &Scene, manifest: &Value) -> Result<()> {
    for user in CREATORS {
        for name in [NAME, "another"] {
            let (created, said) = kubectl_create(scene, user, &named(manifest, name)).await?;
            ensure!(!created, "{user:?} created {name} with its approval");
            ensure!(said.contains("carries no approval"), "{said}");
        }
    }
    Ok(())
}

/// The status cannot be brought back beside it either, by nobody.
async fn no_status_from_elsewhere(scene: &Scene, name: &str, manifest: &Value) -> Result<()> {
    const SAYS: &str = "written only by the rollback controller";
    for user in CREATORS {
        let api = scene.requests(user).await?;
        let status = json!({"status": manifest["status"]});
        let merged = api
            .patch_status(name, &PatchParams::default(), &Patch::Merge(&status))
            .await;
        let says = if user == User::Admin { SAYS } else { "" };
        forbidden(merged.map_err(Into::into), says)?;
        // The controller may have written between the read and the write.
        let what = format!("{user:?} is refused and not only too late");
        eventually(&what, PATIENCE, async || {
            let mut whole = serde_json::to_value(api.get(name).await?)?;
            whole["status"] = manifest["status"].clone();
            let whole = serde_json::from_value(whole)?;
            let parameters = PostParams::default();
            let replaced = api.replace_status(name, &parameters, &whole).await;
            forbidden(replaced.map_err(Into::into), says)
        })
        .await?;
        let replace = [
            "replace",
            "--subresource=status",
            "-n",
            scene.ns(),
            "-f",
            "-",
        ];
        let input = named(manifest, name).to_string();
        eventually(&what, PATIENCE, async || {
            let cluster = scene.cluster;
            let answer = cluster.kubectl_with_input(user, &replace, &input).await?;
            let said = String::from_utf8_lossy(&answer.stderr);
            ensure!(!answer.status.success(), "{user:?} restored the status");
            ensure!(said.contains("orbidden") && said.contains(says), "{said}");
            Ok(())
        })
        .await?;
    }
    let status = scene.status(name).await?;
    let digest = status.plan.map(|plan| plan.digest);
    ensure!(digest != Some(digest_of(manifest)?), "the old plan is back");
    ensure!(status.approvals.is_empty(), "{:?}", status.approvals);
    Ok(())
}

#[tokio::test]
async fn an_approved_request_that_comes_again_is_not_approved() -> Result<()> {
    let scene = scene("replay").await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.approve(NAME, User::Approver).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)?;
    let manifest = saved(&scene, NAME, User::Approver).await?;
    let old = digest_of(&manifest)?;
    scene.deploy(at_rest("api", "v2")).await?;

    // Applied over what is still there, it is refused, or changes nothing.
    for user in CREATORS {
        let apply = ["apply", "-n", scene.ns(), "-f", "-"];
        let input = manifest.to_string();
        scene
            .cluster
            .kubectl_with_input(user, &apply, &input)
            .await?;
    }
    settle(&scene, "applied").await?;
    ensure_writes(&scene, 1)?;
    delete(&scene, NAME, User::Requester).await?;
    not_born_approved(&scene, &manifest).await?;

    // Without its annotations it is a new request: the same wish is known to be done, another name is a new wish.
    for (user, name) in [(User::Gitops, NAME), (User::Admin, "another")] {
        let (created, said) =
            kubectl_create(&scene, user, &stripped(&named(&manifest, name))).await?;
        ensure!(created, "{said}");
    }
    ends(
        &scene,
        NAME,
        RequestState::Succeeded,
        Reason::AlreadyRolledBack,
    )
    .await?;
    let plan = scene.plan("another").await?;
    ensure!(
        plan.digest != old,
        "another request has the digest of the first"
    );
    no_status_from_elsewhere(&scene, "another", &manifest).await?;
    let (anna, omar) = (User::Approver, User::SecondApprover);
    for user in [anna, omar] {
        let pasted = approval(user.as_str(), &old);
        let pasted = scene.annotate("another", user, pasted).await;
        forbidden(pasted, "not the digest of the present plan")?;
    }
    settle(&scene, "later").await?;
    counted(&scene, "another", &[]).await?;
    ensure_writes(&scene, 1)?;

    scene.approve("another", User::Approver).await?;
    ends(
        &scene,
        "another",
        RequestState::Succeeded,
        Reason::Unverified,
    )
    .await?;
    ensure_writes(&scene, 2)
}

#[tokio::test]
async fn restored_from_a_backup_it_needs_everybody_again() -> Result<()> {
    let scene = scene("restored").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    let (anna, omar) = (User::Approver, User::SecondApprover);
    scene.approve(NAME, anna).await?;
    counted(&scene, NAME, &[anna.as_str()]).await?;
    let manifest = saved(&scene, NAME, User::Approver).await?;
    let old = digest_of(&manifest)?;

    // The tool that applies what is in Git may not bring an approval, not even one that was given.
    for (annotation, value) in [
        (rollback_api::APPROVED_BY, omar.as_str()),
        (rollback_api::CHECKLIST, TICKED),
    ] {
        let mut forged = manifest.clone();
        forged["metadata"]["annotations"] = approval(omar.as_str(), &old);
        forged["metadata"]["annotations"][annotation] = json!(value);
        let apply = ["apply", "-n", scene.ns(), "-f", "-"];
        let answer = scene
            .cluster
            .kubectl_with_input(User::Gitops, &apply, &forged.to_string())
            .await?;
        ensure!(!answer.status.success(), "Git approved");
    }

    delete(&scene, NAME, User::Requester).await?;
    not_born_approved(&scene, &manifest).await?;
    let (created, said) = kubectl_create(&scene, User::Admin, &stripped(&manifest)).await?;
    ensure!(created, "{said}");
    let new = scene.plan(NAME).await?.digest;
    ensure!(new != old, "made again, it has the same digest");
    no_status_from_elsewhere(&scene, NAME, &manifest).await?;
    counted(&scene, NAME, &[]).await?;

    // The digest that everybody has read is not the digest of this request.
    for user in [anna, omar] {
        let typed = scene.annotate(NAME, user, approval(user.as_str(), &old));
        forbidden(typed.await, "not the digest of the present plan")?;
    }
    scene.approve(NAME, omar).await?;
    counted(&scene, NAME, &[omar.as_str()]).await?;
    settle(&scene, "later").await?;
    ensure_writes(&scene, 0)?;

    scene.approve(NAME, anna).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    ensure_writes(&scene, 1)
}

/// As a machine would try it: the approved manifest under a thousand names, by all who may create requests.
#[tokio::test]
async fn a_thousand_replays_are_refused() -> Result<()> {
    let count = testkit::size(1_000, 100);
    let scene = scene("thousand").await?;
    two_versions(&scene, "api").await?;
    scene.ask(NAME, "api", json!({"previous": {}})).await?;
    scene.approve(NAME, User::Approver).await?;
    ends(&scene, NAME, RequestState::Succeeded, Reason::Unverified).await?;
    let manifest = saved(&scene, NAME, User::Approver).await?;
    let mut people = Vec::new();
    for user in CREATORS {
        people.push(scene.requests(user).await?);
    }
    let tries = (0..count).map(|number| {
        let api = &people[number % people.len()];
        let manifest = named(&manifest, &format!("replay-{number}"));
        async move { forbidden(create(api, &manifest).await, "carries no approval") }
    });
    let tries: Vec<_> = tries.map(Box::pin).collect();
    futures::stream::iter(tries)
        .buffer_unordered(16)
        .try_collect::<Vec<()>>()
        .await?;
    ensure_writes(&scene, 1)
}
