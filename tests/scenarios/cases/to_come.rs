//! Cases of which only kubectl's half is tested: the controller cannot do its half yet.

use std::time::Duration;

use anyhow::{Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams};
use serde_json::json;
use testkit::conformance::record_kubectl;
use testkit::scene::PATIENCE;
use testkit::shop::Behaviour;
use testkit::{Scene, User, eventually, shop};

use crate::kubectl::{Ran, SUCCESS, kubectl, kubectl_with_input, status, twin, undo, watch};
use crate::situation::{deploy_all, deploy_stuck, patch, wait_until_available};
use crate::stage::{APP, number, text};

/// How long kubectl may wait for what does not come.
const A_WHILE: Duration = Duration::from_secs(2);

fn version(version: &str) -> shop::DeploymentBuilder {
    shop::deployment(APP).version(version)
}

/// Somebody applies a version with kubectl, and it is rolled out.
async fn apply(twin: &Scene, options: &[&str], version: shop::DeploymentBuilder) -> Result<Ran> {
    let arguments = [&["apply", "-f", "-"], options].concat();
    let ran = kubectl_with_input(twin, &arguments, &version.build().to_string()).await?;
    wait_until_available(twin).await?;
    Ok(ran)
}

/// `kubectl rollout undo` to a version that does not come up, and `kubectl rollout status`, which
/// must not say any of these words about it.
async fn ensure_waits_silently(twin: &Scene, reasons: &[&str]) -> Result<()> {
    undo(twin, &[]).await?.ensure_to("v1")?;
    let waited = status(twin, A_WHILE, &[]).await?;
    waited.ensure_error("timed out waiting")?;
    let said = waited.said();
    for reason in reasons {
        ensure!(!said.contains(reason), "{said}");
    }
    Ok(())
}

/// All that `kubectl rollout status` has to say about pods that do not come up.
const WAITS_SILENTLY: &str = "`rollout status` waits and does not say why";

async fn pods(twin: &Scene, tag: &str) -> Result<(Api<Pod>, Vec<Pod>)> {
    let api: Api<Pod> = Api::namespaced(twin.client(User::Admin).await?, twin.ns());
    let labelled = ListParams::default().labels(&format!("app.kubernetes.io/version={tag}"));
    let pods = api.list(&labelled).await?.items;
    Ok((api, pods))
}

#[tokio::test]
async fn case_20_kubectl_takes_what_never_was_available() -> Result<()> {
    let twin = twin("case-20").await?;
    deploy_all(&twin, &["v1"]).await?;
    deploy_stuck(&twin, version("v2")).await?;
    deploy_stuck(&twin, version("v3")).await?;
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v2")?;
    let kubectl = format!("{}, which never became available", undo.outcome());
    record_kubectl(20, &kubectl)
}

#[tokio::test]
async fn case_24_kubectl_does_not_know_what_a_tag_meant() -> Result<()> {
    let twin = twin("case-24").await?;
    for mode in ["old", "new"] {
        twin.deploy(version("latest").env("MODE", mode)).await?;
    }
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("latest")?;
    let image = "/spec/template/spec/containers/0/image";
    assert_eq!(undo.after.pointer(image), undo.before.pointer(image));
    undo.ran.ensure_ok("rolled back")?;
    assert_eq!(undo.ran.stderr, "");
    record_kubectl(
        24,
        "the same tag again, without a word about what it means now",
    )
}

#[tokio::test]
async fn case_42_kubectl_apply_after_an_undo_mixes_versions() -> Result<()> {
    const CLIENT_SIDE: &[&str] = &["--server-side=false"];
    let twin = twin("case-42").await?;
    let v1 = || version("v1").env("OLD", "1");
    for version in [v1(), version("v2").env("NEW", "1")] {
        apply(&twin, CLIENT_SIDE, version).await?.ensure_ok("")?;
    }
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let warning = undo.ran.stderr.trim();
    ensure!(warning.contains("last-applied-configuration"), "{warning}");
    wait_until_available(&twin).await?;

    let next = version("v3").env("NEW", "1");
    apply(&twin, CLIENT_SIDE, next)
        .await?
        .ensure_ok("configured")?;
    let after = twin.deployment(APP).await?;
    let env = after.pointer("/spec/template/spec/containers/0/env");
    // It was removed by v2 already, and is not in v3: kubectl compares with v2 and leaves it alone.
    let expected = json!([{"name": "NEW", "value": "1"}, {"name": "OLD", "value": "1"}]);
    ensure!(env == Some(&expected), "it is {env:?}");
    let kubectl = format!(
        "{} with a warning on stderr about `last-applied-configuration`; the next \
         `kubectl apply`, of v3, keeps an env of v1 that v3 does not have",
        undo.outcome()
    );
    record_kubectl(42, &kubectl)
}

#[tokio::test]
async fn case_43_kubectl_leaves_a_conflict_for_the_owner() -> Result<()> {
    const OWNER: &[&str] = &["--server-side", "--field-manager=helm"];
    let twin = twin("case-43").await?;
    for tag in ["v1", "v2"] {
        apply(&twin, OWNER, version(tag))
            .await?
            .ensure_ok("serverside-applied")?;
    }
    undo(&twin, &[]).await?.ensure_to("v1")?;
    wait_until_available(&twin).await?;
    let next = apply(&twin, OWNER, version("v3")).await?;
    next.ensure_error("conflict")?;
    next.ensure_error("\"kubectl\"")?;
    assert!(twin.image(APP).await?.ends_with(":v1"));
    record_kubectl(
        43,
        "the owner's next release fails: a conflict with `kubectl`",
    )
}

#[tokio::test]
async fn case_45_kubectl_does_not_look_for_what_the_old_version_needs() -> Result<()> {
    let twin = twin("case-45").await?;
    let client = twin.client(User::Admin).await?;
    let config = json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "settings"},
    });
    shop::apply(&client, twin.ns(), &config).await?;
    let needs = json!([{"configMapRef": {"name": "settings"}}]);
    let v1 = version("v1").set("/spec/template/spec/containers/0/envFrom", needs);
    twin.deploy(v1).await?;
    deploy_all(&twin, &["v2"]).await?;
    shop::api(&client, twin.ns(), "v1", "ConfigMap")
        .delete("settings", &DeleteParams::default())
        .await?;
    let undo = undo(&twin, &[]).await?;
    undo.ensure_to("v1")?;
    let said = undo.ran.said();
    ensure!(!said.contains("settings"), "{said}");
    let kubectl = format!(
        "{}, without a word about the missing ConfigMap",
        undo.outcome()
    );
    record_kubectl(45, &kubectl)
}

/// The nodes of the tests know no init containers that crash, so the test says it for them.
#[tokio::test]
async fn case_54_kubectl_says_nothing_of_an_init_container_that_crashes() -> Result<()> {
    let twin = twin("case-54").await?;
    let init = json!([{"name": "migrate", "image": "registry.broxiva.example/migrate:v1"}]);
    let v1 = version("v1").set("/spec/template/spec/initContainers", init);
    deploy_stuck(&twin, v1).await?;
    twin.deploy(version("v2").set("/spec/template/spec/initContainers", json!([])))
        .await?;
    undo(&twin, &[]).await?.ensure_to("v1")?;
    let crash = json!({"status": {"initContainerStatuses": [{
        "name": "migrate", "image": "registry.broxiva.example/migrate:v1", "imageID": "",
        "ready": false, "restartCount": 5,
        "state": {"waiting": {"reason": "CrashLoopBackOff"}},
    }]}});
    eventually("a pod of v1 crashes", PATIENCE, async || {
        let (api, pods) = pods(&twin, "v1").await?;
        ensure!(!pods.is_empty(), "there is none");
        for pod in pods {
            let name = pod.metadata.name.unwrap_or_default();
            api.patch_status(&name, &PatchParams::default(), &Patch::Merge(&crash))
                .await?;
        }
        Ok(())
    })
    .await?;
    let waited = status(&twin, A_WHILE, &[]).await?;
    waited.ensure_error("timed out waiting")?;
    let said = waited.said();
    ensure!(!said.contains("CrashLoopBackOff"), "{said}");
    let (_, pods) = pods(&twin, "v1").await?;
    let crashing = serde_json::to_value(pods)?.to_string();
    ensure!(crashing.contains("CrashLoopBackOff"), "{crashing}");
    record_kubectl(54, WAITS_SILENTLY)
}

#[tokio::test]
async fn case_56_kubectl_says_nothing_of_an_image_that_cannot_be_pulled() -> Result<()> {
    let twin = twin("case-56").await?;
    let v1 = version("v1").behaviour(Behaviour::ImagePull);
    twin.apply_deployment(v1).await?;
    deploy_all(&twin, &["v2"]).await?;
    ensure_waits_silently(&twin, &["ImagePull", "ErrImage"]).await?;
    let (_, pods) = pods(&twin, "v1").await?;
    let pulling = serde_json::to_value(pods)?.to_string();
    ensure!(pulling.contains("ImagePullBackOff"), "{pulling}");
    record_kubectl(56, WAITS_SILENTLY)
}

#[tokio::test]
async fn case_57_kubectl_says_nothing_of_a_volume_that_cannot_be_mounted() -> Result<()> {
    let twin = twin("case-57").await?;
    let missing = json!([{"name": "tls", "secret": {"secretName": "nowhere"}}]);
    let v1 = version("v1").set("/spec/template/spec/volumes", missing);
    deploy_stuck(&twin, v1).await?;
    twin.deploy(version("v2").set("/spec/template/spec/volumes", json!([])))
        .await?;
    ensure_waits_silently(&twin, &["nowhere", "tls", "FailedMount"]).await?;
    record_kubectl(57, WAITS_SILENTLY)
}

#[tokio::test]
async fn case_58_kubectl_waits_for_a_node() -> Result<()> {
    let twin = twin("case-58").await?;
    let picky = json!({"testkit.broxiva.com/node": "fake", "testkit.broxiva.com/for": twin.ns()});
    let v1 = version("v1").set("/spec/template/spec/nodeSelector", picky);
    twin.apply_deployment(v1).await?;
    let anywhere = json!({"testkit.broxiva.com/node": "fake"});
    twin.deploy(version("v2").set("/spec/template/spec/nodeSelector", anywhere))
        .await?;
    undo(&twin, &[]).await?.ensure_to("v1")?;
    let watching = watch(&twin, &[]).await?;
    eventually("a pod finds no node", PATIENCE, async || {
        let (_, pods) = pods(&twin, "v1").await?;
        let found = serde_json::to_value(pods)?.to_string();
        ensure!(found.contains("Unschedulable"), "{found}");
        Ok(())
    })
    .await?;
    let label = |value: &str| ["label", "node", "fake-1", value, "--overwrite"].map(str::to_owned);
    let here = label(&format!("testkit.broxiva.com/for={}", twin.ns()));
    let here: Vec<&str> = here.iter().map(String::as_str).collect();
    kubectl(&twin, &here).await?.ensure_ok("labeled")?;
    let ended = watching.end().await?;
    let away = label("testkit.broxiva.com/for-");
    let away: Vec<&str> = away.iter().map(String::as_str).collect();
    kubectl(&twin, &away).await?.ensure_ok("labeled")?;
    ended.ensure_ok(SUCCESS)?;
    ensure!(!ended.said().contains("Unschedulable"));
    let kubectl = format!("`rollout status` waits, does not say why, and then `{SUCCESS}`");
    record_kubectl(58, &kubectl)
}

#[tokio::test]
async fn case_60_kubectl_does_not_look_any_more_after_success() -> Result<()> {
    let twin = twin("case-60").await?;
    deploy_all(&twin, &["v1", "v2"]).await?;
    undo(&twin, &[]).await?.ensure_to("v1")?;
    status(&twin, PATIENCE, &[]).await?.ensure_ok(SUCCESS)?;
    deploy_all(&twin, &["v2"]).await?;
    let status = status(&twin, PATIENCE, &[]).await?;
    status.ensure_ok(SUCCESS)?;
    assert!(twin.image(APP).await?.ends_with(":v2"));
    let kubectl =
        format!("`rollout status`: `{SUCCESS}`, and the same again once the bad version is back");
    record_kubectl(60, &kubectl)
}

#[tokio::test]
async fn case_62_kubectl_rolls_back_each_on_its_own() -> Result<()> {
    const OTHER: &str = "broxiva-web";
    let twin = twin("case-62").await?;
    deploy_all(&twin, &["v1", "v2"]).await?;
    twin.two_versions(OTHER).await?;
    let pause = json!({"spec": {"paused": true}});
    patch(&twin, "apps/v1", "Deployment", APP, &pause).await?;
    let before = twin.deployment(APP).await?;
    let both = [APP, OTHER].map(|name| format!("deployment/{name}"));
    let ran = kubectl(&twin, &["rollout", "undo", &both[0], &both[1]]).await?;
    ran.ensure_error("you cannot rollback a paused deployment")?;
    let after = twin.deployment(APP).await?;
    let generation = |deployment| number(deployment, "/metadata/generation");
    assert_eq!(generation(&after), generation(&before));
    assert!(text(&after, "/spec/template/spec/containers/0/image").ends_with(":v2"));
    assert!(twin.image(OTHER).await?.ends_with(":v1"));
    record_kubectl(62, "the one that can is rolled back, the other one is not")
}
