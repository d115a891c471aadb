//! What is looked at or set beside a request: policy, doctor, completion.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use testkit::User::{Admin, Approver, Outsider, Requester};

use super::stage::{run, scene};

#[tokio::test]
async fn the_policy_is_shown_and_what_comes_by_itself_is_paused() -> Result<()> {
    let scene = scene("policy").await?;
    run(&scene, Requester, &["policy", "show"])
        .await?
        .ended(0)?
        .prints(&[
            "no RollbackPolicy",
            "Production",
            "ROLLBACK PRODUCTION",
            "incident-documented",
            "nothing asks but people",
        ])?;
    run(&scene, Admin, &["pause"])
        .await?
        .ended(1)?
        .complains(&["no RollbackPolicy"])?;
    scene.policy(json!({"triggers": {"watch": true}})).await?;
    run(&scene, Requester, &["pause"])
        .await?
        .ended(6)?
        .complains(&["You may not do that"])?;
    run(&scene, Admin, &["pause"])
        .await?
        .ended(0)?
        .prints(&["paused"])?;
    run(&scene, Requester, &["policy", "show"])
        .await?
        .ended(0)?
        .prints(&["kubectl rollback resume"])?;
    let shown = run(&scene, Requester, &["policy", "show", "-o", "json"])
        .await?
        .ended(0)?
        .json()?;
    ensure!(shown["spec"]["triggers"]["paused"] == true, "{shown}");
    ensure!(shown["spec"]["triggers"]["watch"] == true, "{shown}");
    let resumed = run(&scene, Admin, &["resume", "-o", "json"])
        .await?
        .ended(0)?
        .json()?;
    ensure!(resumed["spec"]["triggers"]["paused"] == false, "{resumed}");
    Ok(())
}

/// The finding of a check.
fn finding<'a>(findings: &'a Value, check: &str) -> Result<&'a Value> {
    let all = findings.as_array().context("no list")?;
    all.iter()
        .find(|it| it["check"] == check)
        .with_context(|| format!("no {check} in {findings}"))
}

#[tokio::test]
async fn doctor_says_what_is_wrong_and_what_to_type() -> Result<()> {
    let mut scene = scene("doctor").await?;
    // The controllers of the tests take no part in an election, so nobody holds a Lease that is named after this
    // namespace.
    let findings = run(&scene, Admin, &["doctor", "-o", "json"])
        .await?
        .json()?;
    for check in [
        "API server",
        "clock",
        "definitions",
        "guard",
        "namespace",
        "opt-in",
        "you may look",
    ] {
        ensure!(
            finding(&findings, check)?["verdict"] == "Ok",
            "{check}: {findings}"
        );
    }
    scene.controller = None;
    scene.controller = Some(scene.spawn(&[
        "--leader-elect",
        "--identity",
        "doctor",
        "--lease-seconds",
        "3",
    ])?);
    testkit::eventually(
        "doctor finds nothing",
        testkit::scene::PATIENCE,
        async || {
            run(&scene, Admin, &["doctor"]).await?.ended(0)?.prints(&[
                "ok  controller: doctor renewed its Lease",
                "ok  versions: controller and plugin are 0.",
            ])?;
            Ok(())
        },
    )
    .await?;

    let binding = [
        "delete",
        "rolebinding",
        "test-rollback-executor",
        "-n",
        scene.ns(),
    ];
    scene.cluster.kubectl_ok(Admin, &binding, "").await?;
    let said = run(&scene, Admin, &["doctor"]).await?.ended(8)?;
    said.prints(&[
        "no  opt-in",
        "why it matters: the controller changes nothing",
        "kubectl create rolebinding rollback-executor",
    ])?;
    run(&scene, Admin, &["doctor", "-n", "nowhere"])
        .await?
        .ended(8)?
        .prints(&["no  namespace: nowhere is not there"])?;

    who_only_looks(&scene).await?;
    // Half a role: who may no more patch Deployments.
    scene
        .cluster
        .kubectl_ok(
            Admin,
            &["delete", "rolebinding", "test-edit", "-n", scene.ns()],
            "",
        )
        .await?;
    testkit::eventually(
        "doctor sees half a role",
        testkit::scene::PATIENCE,
        async || {
            let said = run(&scene, Approver, &["doctor"]).await?.ended(8)?;
            said.prints(&[
                "anna@broxiva.example lacks patch on deployments",
                "--clusterrole rollback-approver",
            ])?;
            Ok(())
        },
    )
    .await
}

/// Who only looks is told what they may, and what nobody can tell from there.
async fn who_only_looks(scene: &testkit::Scene) -> Result<()> {
    let findings = run(scene, Outsider, &["doctor", "-o", "json"])
        .await?
        .ended(0)?
        .json()?;
    ensure!(
        finding(&findings, "guard")?["verdict"] == "Unknown",
        "{findings}"
    );
    let tried = finding(&findings, "guard in force")?;
    ensure!(tried["verdict"] == "Unknown", "{tried}");
    ensure!(
        tried["seen"] == "it was not tried: you may not ask for rollbacks here",
        "{tried}"
    );
    let asking = &finding(&findings, "you may ask for rollbacks")?["seen"];
    ensure!(asking == "no; the role is rollback-requester", "{findings}");
    let findings = run(scene, Approver, &["doctor", "-o", "json"])
        .await?
        .ended(0)?
        .json()?;
    ensure!(
        finding(&findings, "you may approve and deny")?["seen"] == "yes",
        "{findings}"
    );
    Ok(())
}

/// As `kubectl rollback approve TAB` asks.
#[tokio::test]
async fn kubectl_completes_names_of_the_cluster() -> Result<()> {
    let scene = scene("completion").await?;
    for name in ["shop-api", "shop-web"] {
        scene
            .apply_deployment(testkit::shop::deployment(name).version("v1"))
            .await?;
    }
    scene
        .ask("api-5xx", "shop-api", json!({"previous": {}}))
        .await?;
    let folder = tempfile::tempdir()?;
    let (plugin, completes) = (
        folder.path().join("kubectl-rollback"),
        folder.path().join("kubectl_complete-rollback"),
    );
    std::os::unix::fs::symlink(super::stage::PLUGIN, &plugin)?;
    std::fs::write(
        &completes,
        "#!/bin/sh\nexec kubectl-rollback __complete \"$@\"\n",
    )?;
    std::fs::set_permissions(
        &completes,
        std::os::unix::fs::PermissionsExt::from_mode(0o755),
    )?;
    let rows: [(&[&str], &str); 8] = [
        (&["history", "shop-w"], "shop-web\n"),
        (&["plan", "shop-w"], "shop-web\n"),
        (&["policy", "check", "shop-w"], "shop-web\n"),
        (&["restore", ""], "api-5xx\n"),
        (&["report", ""], "api-5xx\n"),
        (&["quarantine", ""], "lift\n"),
        (&["dia", ""], ""),
        (&["doc"], "doctor\n"),
    ];
    for (words, expected) in rows {
        let place = ["--context", "requester", "-n", scene.ns()];
        let (last, first) = words.split_last().context("no words")?;
        let output = tokio::process::Command::new(scene.cluster.binaries().kubectl())
            .args(["__complete", "rollback"])
            .args(first)
            .args(place)
            .arg(last)
            .env("KUBECONFIG", scene.cluster.kubeconfig())
            .env("PATH", format!("{}:/bin:/usr/bin", folder.path().display()))
            .output()
            .await?;
        let said = String::from_utf8(output.stdout)?;
        ensure!(
            said.contains(expected) && said.ends_with(":4\n"),
            "{words:?}: {said}"
        );
        ensure!(
            !said.contains("shop-api") && !said.contains("__complete"),
            "{said}"
        );
    }
    Ok(())
}

#[tokio::test]
async fn completion_and_man_pages_need_no_cluster() -> Result<()> {
    let folder = tempfile::tempdir()?;
    for shell in ["bash", "zsh", "fish"] {
        let output = tokio::process::Command::new(super::stage::PLUGIN)
            .args(["completion", shell])
            .env("KUBECONFIG", "/nonexistent")
            .output()
            .await?;
        let script = String::from_utf8(output.stdout)?;
        ensure!(
            output.status.success() && script.contains("quarantine"),
            "{script}"
        );
    }
    let man = folder.path().to_str().context("no path")?;
    let output = tokio::process::Command::new(super::stage::PLUGIN)
        .args(["man", man])
        .output()
        .await?;
    ensure!(output.status.success(), "{output:?}");
    ensure!(folder.path().join("kubectl-rollback-approve.1").exists());
    Ok(())
}

/// A history that is too large to be read whole is cut, which is said; what runs is always there.
#[tokio::test]
async fn a_history_that_is_too_large_is_cut_and_that_is_said() -> Result<()> {
    let scene = scene("flooded").await?;
    for version in ["v1", "v2"] {
        let deployment = testkit::shop::deployment("api").version(version);
        let limit = ("/spec/revisionHistoryLimit", json!(1000));
        scene.deploy(deployment.set(limit.0, limit.1)).await?;
    }
    let client = scene.client(Admin).await?;
    testkit::flood::replica_sets(&client, scene.ns(), "api", 24, Some(3)).await?;
    // The Deployment takes them for its own, and gives what runs a new number.
    testkit::eventually("it is cut", testkit::scene::PATIENCE, async || {
        let said = run(&scene, Requester, &["history", "api", "-o", "json"]).await?;
        let said = said.ended(0)?.complains(&[
            "There is too much history to show all of it",
            "older revisions are left out",
        ])?;
        let history = said.json()?;
        let known = history["revisions"].as_array().context("no list")?;
        let unread = history["unread"].as_u64().context("no number")?;
        ensure!(
            unread >= 1 && known.len() as u64 + unread == 26,
            "{history}"
        );
        let live = known.iter().find(|it| it["runs"] == true);
        let image = live.context("nothing runs")?["images"]["app"].as_str();
        ensure!(
            image.is_some_and(|image| image.ends_with("v2")),
            "{history}"
        );
        Ok(())
    })
    .await
}
