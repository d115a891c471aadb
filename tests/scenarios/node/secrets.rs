//! What nobody should say, said by real containers: in the log of a smoke test, in that of a container that crashes,
//! and in their termination messages; every kind of secret that is known by its looks or by its name.

use anyhow::{Context, Result, ensure};
use k8s_openapi::api::core::v1::Pod;
use kube::api::{ListParams, LogParams};
use kube::{Api, ResourceExt};
use rollback_api::{Reason, RequestState};
use serde_json::json;
use testkit::node::app::version;
use testkit::scene::{CONTROLLER, PATIENCE};
use testkit::{Scene, User, eventually, shop};

use crate::everywhere::everything;
use crate::stage::{REQUEST, audit, deploy_unwell, ensure_ended, roll_back, scene, target};

/// How many kinds of secrets a container says in its log.
const KINDS: usize = 14;

/// Letters of `alphabet` in no order, the same for the same seed.
fn random(seed: u64, length: usize, alphabet: &[u8]) -> String {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        usize::try_from(state >> 33).unwrap_or_default()
    };
    (0..length)
        .map(|_| char::from(alphabet[next() % alphabet.len()]))
        .collect()
}

/// Secrets of every kind and the lines that they are said in.
fn lines(seed: u64) -> Vec<(String, String)> {
    const UPPER: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
    const MIXED: &[u8] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789";
    let mut number = seed * 100;
    let mut one = |length: usize, alphabet: &[u8]| {
        number += 1;
        random(number, length, alphabet)
    };
    let mut said = Vec::new();
    let mut say = |secret: String, before: &str, after: &str| {
        said.push((secret.clone(), format!("{before}{secret}{after}")));
    };
    say(one(9, b"tulip"), "connecting with password=", " to db:5432");
    say(one(32, MIXED), "> Authorization: Bearer ", "");
    say(
        format!("{}.{}", one(40, MIXED), one(43, MIXED)),
        "the session is eyJhbGciOiJIUzI1NiJ9.",
        " for shop",
    );
    say(one(16, UPPER), "found AKIA", " in the profile");
    say(one(40, MIXED), "aws_secret_access_key = ", "");
    say(
        one(10, MIXED),
        "GET https://shop:",
        "@stock.example/health failed",
    );
    say(
        one(64, MIXED),
        "-----BEGIN PRIVATE KEY-----\n",
        "\n-----END PRIVATE KEY-----",
    );
    say(
        one(12, MIXED),
        "Server=db;User Id=sa;Password=",
        ";Encrypt=true",
    );
    say(
        one(12, MIXED),
        "{\"level\":\"info\",\"token\":\"",
        "\",\"user\":\"shop\"}",
    );
    say(one(64, b"0123456789abcdef"), "the key is ", "");
    say(
        format!("{}-{}", one(12, b"123456789"), one(24, MIXED)),
        "told the channel as xoxb-",
        "",
    );
    say(one(20, MIXED), "< Set-Cookie: session=", "; HttpOnly");
    say(one(36, MIXED), "cloning as ghp_", "");
    say(one(24, MIXED), "> Authorization: Basic ", "==");
    said
}

/// A Secret of the namespace, from which containers get what they say. It is not in their environment as they are
/// written, so only its looks can give it away.
async fn put_words(scene: &Scene, lines: &[(String, String)], last: &str) -> Result<()> {
    let lines: Vec<&str> = lines.iter().map(|(_, line)| line.as_str()).collect();
    let words = json!({
        "apiVersion": "v1", "kind": "Secret", "metadata": {"name": "words"},
        "stringData": {"LINES": lines.join("\n"), "LAST_WORDS": format!("giving up, password={last}")},
    });
    shop::apply(&scene.client(User::Admin).await?, scene.ns(), &words).await?;
    Ok(())
}

/// What a pod with this label said: its log, that of the run before it, and its termination messages.
async fn said(scene: &Scene, label: &str, secrets: &[String]) -> Result<()> {
    let pods: Api<Pod> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    eventually("the secrets are said", PATIENCE, async || {
        let labelled = ListParams::default().labels(label);
        let pod = pods.list(&labelled).await?.items.into_iter().next();
        let pod = pod.context("there is no pod")?;
        let mut said = serde_json::to_string(&pod.status)?;
        for previous in [false, true] {
            let parameters = LogParams {
                previous,
                ..LogParams::default()
            };
            said += &pods
                .logs(&pod.name_any(), &parameters)
                .await
                .unwrap_or_default();
        }
        let missing = secrets.iter().find(|secret| !said.contains(*secret));
        ensure!(missing.is_none(), "{missing:?} was not said: {said}");
        Ok(())
    })
    .await
}

/// Every status that the controller wrote, by the API server's audit log.
fn statuses(scene: &Scene) -> Result<Vec<String>> {
    let events = audit(scene)?.into_iter();
    let ours = events
        .filter(|event| event.user == CONTROLLER && event.resource == "rollbackrequests")
        .filter_map(|event| Some(event.request_object?.to_string()));
    Ok(ours.collect())
}

/// None of them is anywhere.
async fn ensure_nowhere(scene: &Scene, secrets: &[String], least: usize) -> Result<()> {
    ensure!(secrets.len() >= least, "only {} secrets", secrets.len());
    let mut everything = everything(scene, &[REQUEST]).await?;
    let statuses = statuses(scene)?.into_iter();
    everything.extend(statuses.map(|status| ("a status on the way".to_owned(), status)));
    for secret in secrets {
        ensure!(secret.len() >= 9, "{secret} is a word of every text");
        for (place, text) in &everything {
            // A part of one is as bad.
            let half = &secret[..secret.len().min(12)];
            ensure!(!text.contains(half), "{secret} is in {place}: {text}");
        }
    }
    Ok(())
}

#[tokio::test]
async fn the_log_of_a_smoke_test_full_of_secrets() -> Result<()> {
    let Some(scene) = scene("job-secrets").await? else {
        return Ok(());
    };
    scene.grant("rollback-run-jobs").await?;
    let lines = lines(1);
    let mut secrets: Vec<String> = lines.iter().map(|(secret, _)| secret.clone()).collect();
    secrets.push("sunflower-by-the-sea".to_owned());
    put_words(&scene, &lines, &secrets[KINDS]).await?;
    // These are known, and hidden whatever they look like.
    let known: Vec<String> = ["one", "two", "three", "four", "five"]
        .iter()
        .map(|number| format!("tulip number {number}"))
        .collect();
    let mut env: Vec<serde_json::Value> = known
        .iter()
        .enumerate()
        .map(|(number, value)| json!({"name": format!("NOTE_{number}"), "value": value}))
        .collect();
    let printed = "NOTE_0 NOTE_1 NOTE_2 NOTE_3 NOTE_4";
    env.push(json!({"name": "PRINT_ENV", "value": printed}));
    env.push(json!({"name": "EXIT_CODE", "value": "3"}));
    secrets.extend(known);
    let smoke = json!({
        "name": "smoke", "timeoutSeconds": 60, "logTailLines": 50,
        "imageOf": {"version": "Older", "container": "app"},
        "podSpec": {"containers": [{"name": "main", "args": ["run"], "env": env,
            "envFrom": [{"secretRef": {"name": "words"}}]}]},
    });
    scene
        .policy(json!({"verification": {"jobs": [smoke]}}))
        .await?;
    scene.deploy(version("v1")).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::ChecksFailed)?;
    let jobs = target(&request)?.jobs;
    let end = jobs.first().and_then(|job| job.end.as_ref());
    let end = end.context("no Job has ended")?;
    ensure!(end.exit_code == Some(3), "{end:?}");
    // The log was read, and what is no secret is there.
    let log = end.log.join("\n");
    let hidden = log.matches("[hidden]").count();
    ensure!(
        hidden >= KINDS && log.contains("told the channel as"),
        "{hidden} hidden in {log}"
    );
    said(&scene, "batch.kubernetes.io/job-name", &secrets).await?;
    ensure_nowhere(&scene, &secrets, 20).await
}

#[tokio::test]
async fn the_log_of_a_crash_full_of_secrets() -> Result<()> {
    let Some(scene) = scene("crash-secrets").await? else {
        return Ok(());
    };
    scene.grant("rollback-read-logs").await?;
    scene
        .policy(json!({"rollout": {"graceSeconds": 14, "logTailLines": 20}}))
        .await?;
    let lines = lines(2);
    let mut secrets: Vec<String> = lines.iter().map(|(secret, _)| secret.clone()).collect();
    secrets.push("marigold-on-the-hill".to_owned());
    put_words(&scene, &lines, &secrets[KINDS]).await?;
    let container = "/spec/template/spec/containers/0";
    let old = version("v1")
        .set(&format!("{container}/args"), json!(["run"]))
        .set(
            &format!("{container}/envFrom"),
            json!([{"secretRef": {"name": "words"}}]),
        )
        .env("EXIT_CODE", "3");
    deploy_unwell(&scene, old).await?;
    scene.deploy(version("v2")).await?;
    roll_back(&scene).await?;
    let (request, outcome) = scene.wait_for_end(REQUEST).await?;
    ensure_ended(&outcome, RequestState::Failed, Reason::RolloutFailed)?;
    let rollout = target(&request)?.rollout.context("no rollout")?;
    ensure!(rollout.cause.is_some(), "{rollout:?}");
    // The end of the log, as long as a status may quote it. A kubelet that has cleared the container away by then gives
    // a sentence of its own in place of the log, so the log need not be in the last status.
    let quoted = statuses(&scene)?;
    let has_log =
        |status: &&String| status.contains("cloning as") && status.matches("[hidden]").count() >= 5;
    ensure!(quoted.iter().any(|status| has_log(&status)), "{quoted:?}");
    said(&scene, "app.kubernetes.io/version=v1", &secrets).await?;
    ensure_nowhere(&scene, &secrets, KINDS).await
}
