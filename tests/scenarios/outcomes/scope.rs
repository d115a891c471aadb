//! A controller leaves nothing where it does not look; and what it has left can be taken away when it does not come back.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::Namespace;
use k8s_openapi::api::rbac::v1::RoleBinding;
use kube::api::{DeleteParams, ListParams};
use kube::{Api, ResourceExt};
use rollback_api::RequestState;
use serde_json::{Value, json};
use testkit::scene::{PATIENCE, request};
use testkit::{Scene, User, eventually};

use crate::expect::{PROGRAM, scene};
use crate::people::{delete_request, grant, wait_until_gone, wait_until_may};

#[tokio::test]
async fn a_namespace_that_nobody_looks_after_goes() -> Result<()> {
    // With --namespace, as every controller of these tests.
    let attended = scene("attended").await?;
    let alone = Scene::without_controller(PROGRAM, "alone").await?;
    for scene in [&attended, &alone] {
        scene.two_versions("api").await?;
        scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    }
    attended.plan("api-5xx").await?;
    ensure!(attended.request("api-5xx").await?.holds_finalizer());
    let left = alone.request("api-5xx").await?;
    ensure!(left.metadata.finalizers.is_none(), "{:?}", left.metadata);
    // It is told of nothing that it would have to undo, so it goes when somebody deletes it, and so does all of it.
    ensure!(left.status.unwrap_or_default().plan.is_none());
    let namespaces: Api<Namespace> = Api::all(alone.client(User::Admin).await?);
    namespaces
        .delete(alone.ns(), &DeleteParams::default())
        .await?;
    eventually("the namespace is gone", PATIENCE, async || {
        let left = namespaces.get_opt(alone.ns()).await?;
        ensure!(left.is_none(), "{:?}", left.and_then(|it| it.status));
        Ok(())
    })
    .await?;
    // What is looked after goes as ever: reported first.
    delete_request(&attended, "api-5xx", User::Requester).await?;
    wait_until_gone(&attended, "api-5xx").await?;
    let reports = attended.artifacts("incident", "api-5xx").await?;
    ensure!(reports.len() == 1, "{} reports", reports.len());
    Ok(())
}

/// The binding that lets the controller work goes before the requests do, with the namespace or by itself. Nothing that is
/// owed can be done then, so it keeps nobody.
#[tokio::test]
async fn what_is_out_of_reach_is_let_go() -> Result<()> {
    let (going, left) = (scene("going").await?, scene("opted-out").await?);
    for scene in [&going, &left] {
        scene.two_versions("api").await?;
        scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
        scene.plan("api-5xx").await?;
    }
    let namespaces: Api<Namespace> = Api::all(going.client(User::Admin).await?);
    namespaces
        .delete(going.ns(), &DeleteParams::default())
        .await?;
    let bindings: Api<RoleBinding> = Api::namespaced(left.client(User::Admin).await?, left.ns());
    for binding in bindings.list(&ListParams::default()).await? {
        let mut subjects = binding.subjects.iter().flatten();
        if subjects.any(|subject| subject.name == "rollback-controller") {
            bindings
                .delete(&binding.name_any(), &DeleteParams::default())
                .await?;
        }
    }
    let admin = left.requests(User::Admin).await?;
    admin.delete("api-5xx", &DeleteParams::default()).await?;
    wait_until_gone(&left, "api-5xx").await?;
    eventually("the namespace is gone", 2 * PATIENCE, async || {
        let there = namespaces.get_opt(going.ns()).await?;
        ensure!(there.is_none(), "{:?}", there.and_then(|it| it.status));
        Ok(())
    })
    .await
}

/// Deleted before anybody looked at it, a request simply goes; the next one of its name is another one.
#[tokio::test]
async fn deleted_before_it_was_seen_it_leaves_nothing() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "unseen").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    delete_request(&scene, "api-5xx", User::Requester).await?;
    wait_until_gone(&scene, "api-5xx").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.start_controller().await?;
    scene.approve("api-5xx", User::Approver).await?;
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    let reports = scene.artifacts("incident", "api-5xx").await?;
    ensure!(reports.len() == 1, "{} reports", reports.len());
    Ok(())
}

/// What a tool does that writes the whole object as it stands in Git.
#[tokio::test]
async fn replaced_from_git_it_stays_held() -> Result<()> {
    let mut scene = Scene::without_controller(PROGRAM, "replaced").await?;
    scene.two_versions("api").await?;
    let manifest = request("api-5xx", json!([{"name": "api", "to": {"previous": {}}}]));
    scene.ask_for(manifest.clone()).await?;
    // Nobody has seen it yet, so there is nothing to lose.
    replace(&scene, User::Gitops, &manifest).await?;
    scene.start_controller().await?;
    scene.plan("api-5xx").await?;
    let mut labelled = manifest.clone();
    labelled["metadata"]["labels"] = json!({"example.com/commit": "4f2a9c1"});
    for user in [User::Gitops, User::Admin] {
        let refused = replace(&scene, user, &labelled).await;
        let refused = format!("{:#}", refused.err().context("it was replaced")?);
        ensure!(
            refused.contains("Keep rollback.broxiva.com/incident") && refused.contains("Forbidden"),
            "{refused}"
        );
    }
    let request = scene.request("api-5xx").await?;
    ensure!(request.holds_finalizer(), "{:?}", request.metadata);
    scene.approve("api-5xx", User::Approver).await?;
    let (_, outcome) = scene.wait_for_end("api-5xx").await?;
    ensure!(outcome.result == RequestState::Succeeded, "{outcome:?}");
    // It is over and held by nobody.
    replace(&scene, User::Gitops, &labelled).await
}

async fn replace(scene: &Scene, user: User, manifest: &Value) -> Result<()> {
    let replace = ["replace", "-n", scene.ns(), "-f", "-"];
    let manifest = manifest.to_string();
    scene.cluster.kubectl_ok(user, &replace, &manifest).await?;
    Ok(())
}

/// The command of docs/operating.md, by who may and by who may not.
#[tokio::test]
async fn released_by_hand_it_goes_when_no_controller_comes() -> Result<()> {
    let mut scene = scene("released").await?;
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    grant(&scene, "rollback-releaser", &[User::Outsider]).await?;
    let verb = "release rollbackrequests/finalizer.rollback.broxiva.com";
    wait_until_may(&scene, User::Outsider.as_str(), verb, true).await?;
    scene.controller.take().context("no controller")?.kill();

    // As long as nobody deletes it there is nothing to take away.
    let early = release(&scene, User::Outsider).await;
    ensure!(early.is_err(), "it was released too early");
    delete_request(&scene, "api-5xx", User::Requester).await?;
    let refused = release(&scene, User::Requester).await;
    let refused = format!("{:#}", refused.err().context("anybody may")?);
    ensure!(refused.contains("rollback-releaser"), "{refused}");
    ensure!(scene.request("api-5xx").await?.holds_finalizer());
    release(&scene, User::Outsider).await?;
    wait_until_gone(&scene, "api-5xx").await
}

async fn release(scene: &Scene, user: User) -> Result<()> {
    let file = testkit::workspace().join("docs/operating.md");
    let page = std::fs::read_to_string(file)?;
    let command = "patch rbr NAME -n NAMESPACE --type=merge -p ";
    let line = page.lines().find(|line| line.contains(command));
    let (_, patch) = line
        .and_then(|line| line.split_once(command))
        .context("docs/operating.md says it otherwise")?;
    let patch = patch.trim_matches('\'');
    let release = [
        "patch",
        "rbr",
        "api-5xx",
        "-n",
        scene.ns(),
        "--type=merge",
        "-p",
        patch,
    ];
    scene.cluster.kubectl_ok(user, &release, "").await?;
    Ok(())
}
