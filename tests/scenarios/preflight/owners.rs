//! Tools that own a Deployment and may bring the bad version back.

use anyhow::{Context as _, Result, ensure};
use kube::api::DeleteParams;
use rollback_api::Reason;
use rollback_api::status::RiskKind;
use serde_json::{Value, json};
use testkit::{Scene, User, shop};

use crate::stage::{
    APP, REQUEST, ensure_nothing_written, ensure_reverts, goes_on, kubectl, plan_of, previous,
    refused, risk, says_all, scene,
};
use crate::tools::{APPLICATION, HELM_RELEASE, KUSTOMIZATION, Owning};

/// Deploys both versions with these marks on the Deployment itself.
async fn marked(
    scene: &Scene,
    labels: &[(&str, &str)],
    annotations: &[(&str, &str)],
) -> Result<()> {
    for tag in ["v1", "v2"] {
        let mut version = shop::deployment(APP).version(tag);
        for (key, value) in labels {
            version = version.label(key, value);
        }
        for (key, value) in annotations {
            version = version.annotation(key, value);
        }
        scene.deploy(version).await?;
    }
    Ok(())
}

/// The first request is refused with this command at its end; nothing is written.
async fn refused_with(scene: &Scene, says: &[&str], command: &str) -> Result<()> {
    scene.ask("refused", APP, previous()).await?;
    let message = refused(scene, "refused", Reason::SelfHealingOwner, says).await?;
    ensure!(
        message.ends_with(command),
        "{command:?} is not at the end of: {message}"
    );
    ensure_nothing_written(scene)
}

/// The next request goes on, with the risk that says this, and is carried out.
async fn allowed_with(scene: &Scene, says: &[&str]) -> Result<()> {
    let target = plan_of(scene, REQUEST, previous()).await?;
    says_all(&risk(&target, RiskKind::Owner)?, says)?;
    goes_on(scene, REQUEST).await?;
    ensure!(scene.image(APP).await?.ends_with(":v1"));
    ensure_reverts(scene, 1)
}

/// Marks of a Flux Kustomization that applied the Deployment, and the object itself.
async fn kustomized(scene: &Scene) -> Result<Owning> {
    let namespace = scene.ns().to_owned();
    let listed = format!("{namespace}_{APP}_apps_Deployment");
    let owning = json!({
        "spec": {"interval": "10m", "path": "./shop", "prune": true},
        "status": {"inventory": {"entries": [{"id": listed, "v": "v1"}]}},
    });
    let owning = KUSTOMIZATION.create(scene, "shop", owning).await?;
    let labels = [
        ("kustomize.toolkit.fluxcd.io/name", "shop"),
        ("kustomize.toolkit.fluxcd.io/namespace", &*namespace),
    ];
    marked(scene, &labels, &[]).await?;
    Ok(owning)
}

#[tokio::test]
async fn a_kustomization_is_put_on_hold_by_the_command_that_is_said() -> Result<()> {
    let scene = scene("flux-hold").await?;
    kustomized(&scene).await?;
    let command = format!(
        "kubectl annotate deployment {APP} -n {} kustomize.toolkit.fluxcd.io/reconcile=disabled",
        scene.ns()
    );
    let says = [
        &*format!("Flux Kustomization {}/shop", scene.ns()),
        "every 10m",
    ];
    refused_with(&scene, &says, &command).await?;
    // The very words, without the name of the program.
    let words: Vec<&str> = command.split(' ').skip(1).collect();
    kubectl(&scene, &words).await?;
    allowed_with(
        &scene,
        &["leaves the Deployment alone", "reconcile: disabled"],
    )
    .await
}

#[tokio::test]
async fn a_kustomization_that_is_suspended_is_a_risk() -> Result<()> {
    let scene = scene("flux-suspended").await?;
    kustomized(&scene).await?.suspend().await?;
    allowed_with(&scene, &["shop is suspended", "when it is resumed"]).await
}

#[tokio::test]
async fn a_policy_may_warn_only() -> Result<()> {
    let scene = scene("flux-warn").await?;
    scene
        .policy(json!({"gitOps": {"onSelfHealing": "Warn"}}))
        .await?;
    kustomized(&scene).await?;
    let hold = "Put it on hold with: kubectl annotate deployment";
    allowed_with(&scene, &["every 10m", "brings the bad version back", hold]).await
}

#[tokio::test]
async fn a_kustomization_that_is_gone_or_lists_others_owns_nothing() -> Result<()> {
    let scene = scene("flux-other").await?;
    let owning = kustomized(&scene).await?;
    let others = json!([{"id": format!("{}_other_apps_Deployment", scene.ns()), "v": "v1"}]);
    owning
        .patch(json!({"status": {"inventory": {"entries": others}}}))
        .await?;
    let target = plan_of(&scene, "others", previous()).await?;
    says_all(&risk(&target, RiskKind::Owner)?, &["does not list it"])?;
    owning.api.delete("shop", &DeleteParams::default()).await?;
    allowed_with(&scene, &["not in this cluster any more"]).await
}

#[tokio::test]
async fn a_helm_release_that_corrects_drift_is_suspended_first() -> Result<()> {
    let scene = scene("flux-helm").await?;
    let namespace = scene.ns().to_owned();
    let spec = json!({"spec": {"interval": "5m", "driftDetection": {"mode": "enabled"}}});
    let owning = HELM_RELEASE.create(&scene, "shop", spec).await?;
    let labels = [
        ("helm.toolkit.fluxcd.io/name", "shop"),
        ("helm.toolkit.fluxcd.io/namespace", &*namespace),
        ("app.kubernetes.io/managed-by", "Helm"),
    ];
    let annotations = [
        ("meta.helm.sh/release-name", "shop"),
        ("meta.helm.sh/release-namespace", &*namespace),
    ];
    marked(&scene, &labels, &annotations).await?;
    let command = format!("flux suspend helmrelease shop -n {namespace}");
    let says = [
        &*format!("Flux HelmRelease {namespace}/shop"),
        "corrects drift",
    ];
    refused_with(&scene, &says, &command).await?;

    // Without drift detection it does nothing until the next upgrade.
    owning
        .patch(json!({"spec": {"driftDetection": null}}))
        .await?;
    let target = plan_of(&scene, "no-drift", previous()).await?;
    says_all(
        &risk(&target, RiskKind::Owner)?,
        &["does not correct drift", "next upgrade"],
    )?;
    owning
        .patch(json!({"spec": {"driftDetection": {"mode": "enabled"}}}))
        .await?;
    owning.suspend().await?;
    allowed_with(&scene, &["shop is suspended"]).await
}

/// Deploys with the tracking id that Argo CD sets on what it applies.
async fn tracked(scene: &Scene, application: &str) -> Result<()> {
    let tracking = format!("{application}:apps/Deployment:{}/{APP}", scene.ns());
    marked(scene, &[], &[("argocd.argoproj.io/tracking-id", &tracking)]).await
}

fn healing() -> Value {
    json!({"spec": {"syncPolicy": {"automated": {"prune": true, "selfHeal": true}}}})
}

#[tokio::test]
async fn an_application_that_heals_itself_is_stopped_by_the_command_that_is_said() -> Result<()> {
    let scene = scene("argo-hold").await?;
    let namespace = scene.ns().to_owned();
    APPLICATION.create(&scene, "shop", healing()).await?;
    tracked(&scene, &format!("{namespace}_shop")).await?;
    let patch = r#"{"spec":{"syncPolicy":{"automated":null}}}"#;
    let by_kubectl =
        format!("kubectl patch applications.argoproj.io shop -n {namespace} --type merge -p");
    let command =
        format!("argocd app set {namespace}/shop --sync-policy none (or: {by_kubectl} '{patch}')");
    let says = [
        &*format!("Argo CD application {namespace}/shop"),
        "heals itself",
    ];
    refused_with(&scene, &says, &command).await?;
    let mut words: Vec<&str> = by_kubectl.split(' ').skip(1).collect();
    words.push(patch);
    kubectl(&scene, &words).await?;
    allowed_with(&scene, &["is not synced automatically", "next sync"]).await
}

#[tokio::test]
async fn an_application_that_is_switched_off_or_does_not_heal_is_a_risk() -> Result<()> {
    let scene = scene("argo-off").await?;
    let owning = APPLICATION.create(&scene, "shop", healing()).await?;
    tracked(&scene, &format!("{}_shop", scene.ns())).await?;
    let no_heal = json!({"spec": {"syncPolicy": {"automated": {"selfHeal": false}}}});
    owning.patch(no_heal).await?;
    let target = plan_of(&scene, "no-heal", previous()).await?;
    says_all(
        &risk(&target, RiskKind::Owner)?,
        &["does not heal itself", "next commit"],
    )?;
    owning.patch(healing()).await?;
    let off = json!({"spec": {"syncPolicy": {"automated": {"enabled": false}}}});
    owning.patch(off).await?;
    allowed_with(&scene, &["automatic sync", "switched off"]).await
}

/// An Application may be in another cluster, so that it is not here says nothing.
#[tokio::test]
async fn an_application_that_cannot_be_read_is_not_trusted() -> Result<()> {
    let scene = scene("argo-away").await?;
    APPLICATION.install(&scene).await?;
    tracked(&scene, "far-away").await?;
    scene.ask("refused", APP, previous()).await?;
    let says = [
        "Argo CD application far-away",
        "is not known",
        "argocd app resources far-away",
    ];
    refused(&scene, "refused", Reason::SelfHealingOwner, &says).await?;
    scene
        .policy(json!({"gitOps": {"onSelfHealing": "Warn"}}))
        .await?;
    allowed_with(&scene, &["whether it heals itself is not known"]).await
}

/// The annotation of a copy names the object that it was copied from.
#[tokio::test]
async fn a_copy_belongs_to_nobody() -> Result<()> {
    let scene = scene("argo-copy").await?;
    let elsewhere = format!("shop:apps/Deployment:elsewhere/{APP}");
    marked(
        &scene,
        &[],
        &[("argocd.argoproj.io/tracking-id", &elsewhere)],
    )
    .await?;
    let target = plan_of(&scene, REQUEST, previous()).await?;
    ensure!(target.risks.is_empty(), "{:?}", target.risks);
    Ok(())
}

#[tokio::test]
async fn plain_helm_is_a_risk() -> Result<()> {
    let scene = scene("plain-helm").await?;
    let namespace = scene.ns().to_owned();
    let annotations = [
        ("meta.helm.sh/release-name", "shop"),
        ("meta.helm.sh/release-namespace", &*namespace),
    ];
    marked(
        &scene,
        &[("app.kubernetes.io/managed-by", "Helm")],
        &annotations,
    )
    .await?;
    let who = format!("Helm release {namespace}/shop");
    allowed_with(&scene, &[&who, "the next helm upgrade"]).await
}

/// Case 42.
#[tokio::test]
async fn case_42_kubectl_apply_is_a_risk() -> Result<()> {
    let scene = scene("case-42").await?;
    for tag in ["v1", "v2"] {
        let version = shop::deployment(APP).version(tag).build().to_string();
        let apply = ["apply", "-n", scene.ns(), "-f", "-"];
        scene
            .cluster
            .kubectl_ok(User::Admin, &apply, &version)
            .await?;
        shop::wait_available(&scene.client(User::Admin).await?, scene.ns(), APP).await?;
    }
    allowed_with(
        &scene,
        &["made with kubectl apply", "brings the bad version back"],
    )
    .await
}

/// An operator that owns the Deployment may or may not write it back: nobody can tell.
#[tokio::test]
async fn an_operator_is_not_trusted() -> Result<()> {
    let scene = scene("operator").await?;
    let map = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner"}});
    let owner = crate::stage::create(&scene, &map).await?;
    let reference = json!([{
        "apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "controller": true,
        "uid": owner.metadata.uid.context("no uid")?,
    }]);
    for tag in ["v1", "v2"] {
        let version = shop::deployment(APP).version(tag);
        scene
            .deploy(version.set("/metadata/ownerReferences", reference.clone()))
            .await?;
    }
    refused_with(
        &scene,
        &["ConfigMap owner controls", "Pause the operator"],
        ".",
    )
    .await
}
