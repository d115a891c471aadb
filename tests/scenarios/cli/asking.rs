//! `create`: what is asked for, and what is refused before anything is sent.

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::User::{Outsider, Requester};
use testkit::shop::deployment;

use super::stage::{WHY, run, run_with, scene};

#[tokio::test]
async fn each_way_to_ask_makes_the_request_that_it_says() -> Result<()> {
    let scene = scene("asking").await?;
    for name in ["shop-api", "shop-web"] {
        scene
            .apply_deployment(deployment(name).version("v1"))
            .await?;
    }
    let api = json!({"name": "shop-api", "to": {"previous": {}}});
    let web = json!({"name": "shop-web", "to": {"previous": {}}});
    let rows: [(&[&str], serde_json::Value); 6] = [
        (&["deployment/shop-api", "--to", "previous"], json!([api])),
        (
            &["shop-api", "deploy/shop-web", "--to", "previous"],
            json!([api, web]),
        ),
        (&["--all", "--to", "previous"], json!([api, web])),
        (
            &["-l", "app=api", "--to", "revision-3"],
            json!([{"selector": {"matchLabels": {"app": "api"}}, "to": {"revision": 3}}]),
        ),
        (
            &["--prefix", "shop-", "--to", "v2.1.5"],
            json!([{"namePrefix": "shop-", "to": {"version": "v2.1.5"}}]),
        ),
        (
            &["shop-api", "--to", "last-known-good"],
            json!([{"name": "shop-api", "to": {"lastKnownGood": {}}}]),
        ),
    ];
    for (typed, expected) in rows {
        for place in ["--dry-run", "--dry-run=server"] {
            let words = [&["create", place, "-o", "json"], typed, &WHY].concat();
            let made = run(&scene, Requester, &words).await?.ended(0)?.json()?;
            ensure!(made["spec"]["targets"] == expected, "{typed:?}: {made}");
            ensure!(made["kind"] == "RollbackRequest", "{made}");
        }
    }
    let words = [
        &[
            "create",
            "shop-api",
            "--to",
            "previous",
            "--dry-run=client",
            "-o",
            "yaml",
            "--urgency",
            "Medium",
        ][..],
        &WHY,
    ]
    .concat();
    run(&scene, Requester, &words)
        .await?
        .ended(0)?
        .prints(&["urgency: Medium", "namespace: "])?;
    // None of these was stored.
    run(&scene, Requester, &["status"])
        .await?
        .ended(0)?
        .complains(&["No request is open"])?;
    Ok(())
}

#[tokio::test]
async fn what_cannot_be_asked_says_what_to_type() -> Result<()> {
    let scene = scene("unasked").await?;
    scene
        .apply_deployment(deployment("api").version("v1"))
        .await?;
    let ask = |words: &[&'static str]| [&["create"], words, &WHY].concat();
    let rows = [
        (ask(&["api"]), 2, "add --to previous"),
        (ask(&[]), 2, "Say what is to be rolled back"),
        (
            ask(&["api", "--to", "prevoius"]),
            2,
            "Type previous, revision-3",
        ),
        (
            ask(&["statefulset/db", "--to", "previous"]),
            2,
            "kubectl rollout undo statefulset/db",
        ),
        (
            ask(&["--to", "backup-of=nobody"]),
            1,
            "\"nobody\" not found",
        ),
        (
            vec!["create", "api", "--to", "previous"],
            2,
            "--category HealthCheck|ErrorRate",
        ),
        (
            ask(&["api", "--to", "previous", "-o", "md"]),
            2,
            "-o md is for kubectl rollback report only",
        ),
        (
            ask(&["api", "--to", "previous", "--urgency", "Immediate"]),
            6,
            "Leave spec.urgency out",
        ),
        (
            vec!["prod", "previous"],
            2,
            "neither a command nor an environment",
        ),
        (vec![], 2, "Say what is to be rolled back"),
        (vec!["diff", "api", "1", "7"], 1, "It has 1"),
        (vec!["history", "nothing"], 1, "kubectl get deployments"),
        (
            vec!["report", "nothing"],
            1,
            "There is no report of nothing",
        ),
        (
            vec!["status", "nothing"],
            1,
            "kubectl rollback status -n NAMESPACE",
        ),
        (
            vec!["status", "nothing", "-w"],
            1,
            "There is no request nothing",
        ),
        (vec!["approve", "nothing"], 1, "There is no request nothing"),
        (
            vec!["status", "--context", "elsewhere"],
            1,
            "kubectl config get-contexts",
        ),
    ];
    for (words, code, said) in rows {
        run(&scene, Requester, &words)
            .await?
            .ended(code)?
            .complains(&[said])?;
    }
    let words = ask(&["api", "--to", "previous"]);
    run(&scene, Outsider, &words)
        .await?
        .ended(6)?
        .complains(&["You may not do that", "Ask your administrator"])?;
    Ok(())
}

#[tokio::test]
async fn an_environment_says_where_and_what() -> Result<()> {
    let scene = scene("environment").await?;
    scene
        .apply_deployment(deployment("api").version("v1"))
        .await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    let text = json!({"environments": {"prod": {"context": "nobody", "namespace": "elsewhere", "workloads": ["deployment/api"]}}});
    std::fs::write(&config, text.to_string())?;
    // What is typed counts more: the tests name context and namespace.
    let words = [&["prod", "v2.1.5", "--dry-run", "-o", "json"][..], &WHY].concat();
    let made = run_with(&scene, &config, Requester, &words)
        .await?
        .ended(0)?
        .json()?;
    ensure!(
        made["spec"]["targets"][0]["to"] == json!({"version": "v2.1.5"}),
        "{made}"
    );
    ensure!(made["metadata"]["namespace"] == scene.ns(), "{made}");
    run_with(&scene, &config, Requester, &["pord", "previous"])
        .await?
        .ended(2)?
        .complains(&["there are prod"])?;
    std::fs::write(&config, "environments: {status: {}}")?;
    run_with(&scene, &config, Requester, &["prod", "previous"])
        .await?
        .ended(2)?
        .complains(&["the environment status is named like the command"])?;
    Ok(())
}
