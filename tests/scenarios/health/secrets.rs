//! Sixty secrets in every place where people leave them, a rollback that fails and one that succeeds: none of them is
//! in a status, a plan, a report, a ledger, an Event, the metrics or the controller's log.
//!
//! Backups keep the Deployment as it was, by design, and are not looked through. There is no kubelet: how the pods of
//! Jobs end, and what their containers say last, is written in its place. Logs are planted on the real node.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, Patch, PatchParams};
use kube::{Api, ResourceExt};
use rollback_api::{Reason, RequestState, RollbackPolicy};
use serde_json::{Value, json};
use testkit::health::{Answer, HEALTH_PORT, HealthServer};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually, shop};

use crate::everywhere::everything;
use crate::stage::{ends, scene, target};

/// In the two versions, in the checks of the policy, and in what their pods answer.
const OF_VERSIONS: usize = 50;
/// Containers of the Job; each has a secret in its environment and one in its termination message.
const CONTAINERS: usize = 5;
/// All of them.
const ALL: usize = OF_VERSIONS + 2 * CONTAINERS;

/// Words that no rule would take for a secret: that they are not shown is not the merit of the redaction.
fn secret(number: usize) -> String {
    format!("planted{number:02}tulip")
}

/// One version of the shop, with these secrets in its template and on the Deployment.
fn version(
    version: &str,
    pods: &HealthServer,
    secrets: &mut impl Iterator<Item = String>,
) -> shop::DeploymentBuilder {
    let mut take = || secrets.next().unwrap_or_default();
    let mut built = shop::deployment("api").version(version).pod_ip(&pods.ip());
    for name in [
        "DB_PASSWORD",
        "DATABASE_URL",
        "PLAIN",
        "FLAGS",
        "NOTE",
        "TOKEN",
        "EXTRA",
        "MORE",
    ] {
        built = built.env(name, &take());
    }
    for key in ["example.com/key", "example.com/note"] {
        built = built
            .template_annotation(key, &take())
            .annotation(key, &take());
    }
    built
        .set(
            "/spec/template/spec/containers/0/args",
            json!(["--token", take(), take()]),
        )
        .set(
            "/spec/template/spec/containers/0/command",
            json!(["/run", take()]),
        )
        .set(
            "/spec/template/spec/containers/0/lifecycle",
            json!({"preStop": {"httpGet": {"port": 8080, "path": format!("/stop?key={}", take()),
                "httpHeaders": [{"name": "Authorization", "value": take()}]}}}),
        )
}

/// A Job before the write, whose containers have these secrets in their environment. It never ends by itself.
fn dump(secrets: &mut impl Iterator<Item = String>) -> Value {
    let containers: Vec<Value> = (0..CONTAINERS)
        .map(|number| {
            json!({"name": format!("part-{number}"), "image": "job-hang:1",
                "env": [{"name": "SETTING", "value": secrets.next().unwrap_or_default()}]})
        })
        .collect();
    json!({"name": "dump", "timeoutSeconds": 60, "logTailLines": 5, "onFailure": "Warn",
        "podSpec": {"containers": containers, "nodeSelector": {"testkit.broxiva.com/node": "fake"},
            "tolerations": [shop::fake_node_toleration()]}})
}

/// Ends the Job of a request in the place of a kubelet: its containers fail and say these words. Gives the Job and its
/// pod as they are then.
async fn fail_job(scene: &Scene, request: &str, words: &[String]) -> Result<String> {
    let uid = scene.request(request).await?.uid().context("no UID")?;
    let labelled =
        ListParams::default().labels(&format!("{}={uid}", rollback_api::REQUEST_UID_LABEL));
    let client = scene.client(User::Admin).await?;
    let pods: Api<Pod> = Api::namespaced(client.clone(), scene.ns());
    let pod = eventually("the pod of the Job runs", PATIENCE, async || {
        let found = pods.list(&labelled).await?.items;
        let runs = |pod: &Pod| {
            let phase = pod.status.as_ref().and_then(|it| it.phase.as_deref());
            phase == Some("Running")
        };
        found.into_iter().find(runs).context("it does not yet")
    })
    .await?;
    let statuses: Vec<Value> = words
        .iter()
        .enumerate()
        .map(|(number, state)| {
            json!({"name": format!("part-{number}"), "image": "job-hang:1", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": 3, "reason": "Error", "message": state}}})
        })
        .collect();
    let status = json!({"status": {"phase": "Failed", "containerStatuses": statuses}});
    let ended = pods
        .patch_status(
            &pod.name_any(),
            &PatchParams::default(),
            &Patch::Merge(status),
        )
        .await?;
    let jobs: Api<Job> = Api::namespaced(client, scene.ns());
    let jobs = jobs.list(&labelled).await?.items;
    Ok(serde_json::to_string(&(ended, jobs))?)
}

/// The controller has seen how the Job of this request ended, by its exit code.
async fn ensure_job_seen(scene: &Scene, request: &str) -> Result<()> {
    let jobs = target(scene, request).await?.jobs;
    let end = jobs.first().and_then(|job| job.end.as_ref());
    let end = end.context("no Job has ended")?;
    ensure!(!end.succeeded && end.exit_code == Some(3), "{end:?}");
    Ok(())
}

/// What can be read where the secrets were planted: old versions, the policy, and what pods answer.
async fn planted(scene: &Scene, pods: &[&HealthServer]) -> Result<String> {
    let mut texts = serde_json::to_string(&scene.replica_sets("api").await?)?;
    texts += &scene.deployment("api").await?.to_string();
    let policies: Api<RollbackPolicy> =
        Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    texts += &serde_json::to_string(&policies.get("default").await?)?;
    let client = reqwest::Client::builder()
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .build()?;
    for pods in pods {
        for path in ["/", "/a", "/b", "/c"] {
            let url = format!("http://{}:{HEALTH_PORT}{path}", pods.ip());
            let answer = client.get(url).send().await?;
            let headers = format!("{:?}", answer.headers());
            texts.push_str(&headers);
            texts += &answer.text().await?;
        }
    }
    Ok(texts)
}

#[tokio::test]
async fn fifty_planted_secrets_are_nowhere() -> Result<()> {
    let scene = scene("planted").await?;
    crate::jobs::grant(&scene).await?;
    let mut secrets = (0..ALL).map(secret);
    let (old, new) = (HealthServer::start().await?, HealthServer::start().await?);
    scene.deploy(version("v1", &old, &mut secrets)).await?;
    scene.deploy(version("v2", &new, &mut secrets)).await?;

    let job = dump(&mut secrets);
    let words: Vec<String> = secrets.by_ref().take(CONTAINERS).collect();
    let mut take = || secrets.next().unwrap_or_default();
    let paths = ["/a", "/b", "/c", "/d"];
    let checks: Vec<Value> = paths
        .iter()
        .map(|path| {
            json!({"name": format!("check-{}", &path[1..]), "port": HEALTH_PORT, "path": format!("{path}?q={}", take()),
                "periodSeconds": 1, "timeoutSeconds": 1, "consecutiveSuccesses": 1, "bodyContains": "fine"})
        })
        .collect();
    scene
        .policy(json!({"hooks": {"preRollback": [job]},
            "verification": {"timeoutSeconds": 4, "http": checks}}))
        .await?;
    // Bodies and headers of answers that are not well, of both versions.
    for pods in [&old, &new] {
        pods.answer(Answer::status(500).with_body(&format!("password={}", take())));
        for path in ["/a", "/b"] {
            pods.answer_at(
                path,
                Answer::redirect(&format!("http://elsewhere/?token={}", take())).with_body(&take()),
            );
        }
        pods.answer_at("/c", Answer::healthy().with_body(&take()));
    }
    let left = secrets.count();
    ensure!(left == 0, "{left} secrets were not planted");

    scene.ask("failing", "api", json!({"previous": {}})).await?;
    scene.approve("failing", User::Approver).await?;
    let mut there = planted(&scene, &[&old, &new]).await?;
    there += &fail_job(&scene, "failing", &words).await?;
    let (_, end) = scene.wait_for_end("failing").await?;
    ensure!(
        end.result == RequestState::Failed,
        "it ended otherwise: {end:?}"
    );
    ensure_job_seen(&scene, "failing").await?;

    for pods in [&old, &new] {
        for path in ["", "/a", "/b", "/c", "/d"] {
            let well = Answer::healthy().with_body("fine");
            if path.is_empty() {
                pods.answer(well);
            } else {
                pods.answer_at(path, well);
            }
        }
    }
    // Another bad version with the same secrets, and back from it.
    let mut again = (0..ALL).map(secret);
    scene.deploy(version("v3", &new, &mut again)).await?;
    scene
        .ask("succeeding", "api", json!({"revision": 3}))
        .await?;
    scene.approve("succeeding", User::Approver).await?;
    fail_job(&scene, "succeeding", &words).await?;
    ends(
        &scene,
        "succeeding",
        RequestState::Succeeded,
        Reason::RolledBack,
    )
    .await?;
    ensure_job_seen(&scene, "succeeding").await?;

    let everything = everything(&scene, &["failing", "succeeding"]).await?;
    let mut count = 0;
    for secret in (0..ALL).map(secret) {
        ensure!(there.contains(&secret), "{secret} was not planted");
        for (place, text) in &everything {
            ensure!(!text.contains(&secret), "{secret} is in {place}: {text}");
        }
        count += 1;
    }
    ensure!(count >= 50, "only {count} secrets");
    // A backup keeps the Deployment as it was.
    let backups = serde_json::to_string(&scene.artifacts("backup", "failing").await?)?;
    ensure!(
        backups.contains(&secret(0)) || backups.contains(&secret(20)),
        "the backup holds no secret"
    );
    Ok(())
}
