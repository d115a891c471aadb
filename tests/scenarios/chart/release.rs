//! A release in the life of a cluster: installed, upgraded, gone again.

use anyhow::{Context, Result, ensure};
use testkit::scene::PATIENCE;
use testkit::{Cluster, Scene, User, eventually};

use crate::helm::{HOME, Helm, chart};

/// The controller.
const PROGRAM: &str = env!("CARGO_BIN_EXE_rollback-controller");

/// Whether the controller's account may write Deployments there.
async fn has_opted_in(cluster: &Cluster, namespace: &str) -> Result<bool> {
    let account = "--as=system:serviceaccount:rollback-system:rollback-controller";
    let question = [
        "auth",
        "can-i",
        "patch",
        "deployments.apps",
        "-n",
        namespace,
        account,
    ];
    Ok(cluster
        .kubectl(User::Admin, &question)
        .await?
        .status
        .success())
}

#[tokio::test]
async fn a_release_is_an_installation() -> Result<()> {
    let Some(helm) = Helm::new().await? else {
        return Ok(());
    };
    let cluster: &'static Cluster = Box::leak(Box::new(Cluster::start().await?));
    let helm = helm.on(cluster);
    for namespace in ["shop", "other"] {
        cluster
            .kubectl_ok(User::Admin, &["create", "namespace", namespace], "")
            .await?;
    }
    let folder = chart().display().to_string();
    let install = [
        "install",
        "rollback-operator",
        &folder,
        "-n",
        HOME,
        "--create-namespace",
    ];
    let chosen = ["--set", "namespaces={shop}"];
    let notes = helm.ok(&[&install[..], &chosen].concat()).await?;
    ensure!(notes.contains("kubectl rollback doctor -n shop"), "{notes}");
    ensure!(has_opted_in(cluster, "shop").await? && !has_opted_in(cluster, "other").await?);

    // The pods cannot run here; the program can, under their account. It is ready once the guard was tried and holds.
    let mut scene = Scene::on(cluster, PROGRAM, "release").await?;
    scene.start_controller().await?;
    let guard_holds = async || {
        let controller = scene.controller.as_ref().context("it is not running")?;
        let client = reqwest::Client::builder().no_proxy().build()?;
        let metrics = format!("{}/metrics", controller.metrics_url());
        let page = client.get(metrics).send().await?.text().await?;
        let holes: Vec<&str> = page
            .lines()
            .filter(|line| line.starts_with("rollback_guard_hole{") && !line.ends_with(" 0"))
            .collect();
        ensure!(
            page.contains("rollback_guard_hole{") && holes.is_empty(),
            "{holes:?}"
        );
        Ok(())
    };
    eventually("the guard of the chart holds", PATIENCE, guard_holds).await?;

    let upgrade = [
        "upgrade",
        "rollback-operator",
        &folder,
        "-n",
        HOME,
        "--set",
        "namespaces={other}",
    ];
    helm.ok(&upgrade).await?;
    ensure!(!has_opted_in(cluster, "shop").await? && has_opted_in(cluster, "other").await?);

    drop(scene);
    helm.ok(&["uninstall", "rollback-operator", "-n", HOME])
        .await?;
    let left = [
        "get",
        "crd,validatingadmissionpolicy,mutatingadmissionpolicy,clusterrole",
        "-o",
        "name",
    ];
    let left = cluster.kubectl_ok(User::Admin, &left, "").await?;
    let ours: Vec<&str> = left
        .lines()
        .filter(|name| name.contains("rollback"))
        .collect();
    ensure!(
        ours.len() == 3
            && ours
                .iter()
                .all(|name| name.contains("customresourcedefinition")),
        "{ours:?}"
    );
    Ok(())
}
