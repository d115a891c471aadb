//! Every command that writes, with its answer as data; and the plugin's approval beside one by plain annotations.

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::User::{Admin, Approver, Requester, SecondApprover};
use testkit::scene::PATIENCE;
use testkit::{Scene, User, eventually};

use super::stage::{APPROVAL, WHY, run, run_with, scene};

/// Runs a command with `-o json`, which has to succeed.
async fn data(scene: &Scene, user: User, words: &[&str]) -> Result<Value> {
    let words = [words, &["-o", "json"]].concat();
    run(scene, user, &words).await?.ended(0)?.json()
}

/// What stands in an annotation of an answer.
fn annotation<'a>(answer: &'a Value, name: &str) -> &'a Value {
    &answer["metadata"]["annotations"][format!("rollback.broxiva.com/{name}")]
}

#[tokio::test]
async fn each_word_that_is_said_has_an_answer_as_data() -> Result<()> {
    let scene = scene("data-words").await?;
    scene.policy(json!({"approvals": {"required": 2}})).await?;
    scene.two_versions("api").await?;
    for name in ["denied", "cancelled"] {
        scene.ask(name, "api", json!({"previous": {}})).await?;
        scene.plan(name).await?;
    }
    let approve = [&["approve", "denied"], &APPROVAL[..]].concat();
    let approved = data(&scene, Approver, &approve).await?;
    ensure!(
        annotation(&approved, "approved-by") == Approver.as_str(),
        "{approved}"
    );
    eventually("the approval is counted", PATIENCE, async || {
        let approvals = scene.status("denied").await?.approvals.len();
        ensure!(approvals == 1, "{approvals} are");
        Ok(())
    })
    .await?;
    let withdrawn = data(&scene, Approver, &["withdraw", "denied"]).await?;
    ensure!(
        annotation(&withdrawn, "withdrawn-by") == Approver.as_str(),
        "{withdrawn}"
    );
    let words = ["deny", "denied", "--reason", "v1 is worse"];
    let denied = data(&scene, SecondApprover, &words).await?;
    ensure!(denied["kind"] == "RollbackRequest", "{denied}");
    ensure!(
        annotation(&denied, "denied-by") == SecondApprover.as_str(),
        "{denied}"
    );
    ensure!(
        annotation(&denied, "denied-reason") == "v1 is worse",
        "{denied}"
    );
    let cancelled = data(&scene, Requester, &["cancel", "cancelled"]).await?;
    ensure!(
        annotation(&cancelled, "cancelled-by") == Requester.as_str(),
        "{cancelled}"
    );
    for (name, state) in [("denied", "Denied"), ("cancelled", "Cancelled")] {
        let (_, outcome) = scene.wait_for_end(name).await?;
        ensure!(outcome.result.as_str() == state, "{outcome:?}");
    }
    Ok(())
}

#[tokio::test]
async fn what_is_set_beside_a_request_has_an_answer_as_data() -> Result<()> {
    let scene = scene("data-rest").await?;
    scene.policy(json!({"triggers": {"watch": true}})).await?;
    for (command, paused) in [("pause", true), ("resume", false)] {
        let policy = data(&scene, Admin, &[command]).await?;
        ensure!(policy["spec"]["triggers"]["paused"] == paused, "{policy}");
        ensure!(policy["kind"] == "RollbackPolicy", "{policy}");
    }
    scene.two_versions("api").await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    // Exactly the plan that somebody has read elsewhere.
    let digest = scene.plan("api-5xx").await?.digest;
    let words = [
        &["approve", "api-5xx", "--wait", "--plan", &digest],
        &APPROVAL[..],
    ]
    .concat();
    let ended = data(&scene, Approver, &words).await?;
    ensure!(
        ended["status"]["outcome"]["result"] == "Succeeded",
        "{ended}"
    );
    ensure!(
        ended["status"]["approvals"][0]["planDigest"] == digest.as_str(),
        "{ended}"
    );

    let reviewed = data(&scene, Requester, &["report", "api-5xx", "--reviewed"]).await?;
    ensure!(
        annotation(&reviewed, "reviewed-by") == Requester.as_str(),
        "{reviewed}"
    );
    let lifted = eventually("the bad version is in quarantine", PATIENCE, async || {
        data(&scene, Approver, &["quarantine", "lift", "api"]).await
    })
    .await?;
    ensure!(lifted["kind"] == "RevisionLedger", "{lifted}");
    ensure!(
        annotation(&lifted, "lifted-by") == Approver.as_str(),
        "{lifted}"
    );
    Ok(())
}

#[tokio::test]
async fn an_environment_without_workloads_asks_which() -> Result<()> {
    let scene = scene("no-workloads").await?;
    scene.two_versions("api").await?;
    let folder = tempfile::tempdir()?;
    let config = folder.path().join("config.yaml");
    std::fs::write(&config, "environments: {prod: {}}")?;
    // Nobody is there to be asked.
    let words = [&["prod", "previous"], &WHY[..]].concat();
    run_with(&scene, &config, Requester, &words)
        .await?
        .ended(2)?
        .complains(&["Say what is to be rolled back"])?;
    let plugin = super::terminal::Terminal::plugin(&scene, Requester);
    let config = config.display();
    let words = format!(
        "KUBECTL_ROLLBACK_CONFIG={config} {plugin} prod previous --name api-5xx --category ErrorRate --reason broken"
    );
    let terminal = super::terminal::Terminal::run(scene.cluster.kubeconfig(), &words, false)?;
    let Some(mut terminal) = terminal else {
        return Ok(());
    };
    terminal.shows("Which? Numbers or names").await?;
    terminal.presses("1\n").await?;
    terminal.shows("Ask for the rollback of api").await?;
    terminal.presses("y\n").await?;
    terminal.shows("api-5xx created").await?;
    ensure!(terminal.ends().await? == 0);
    let request = scene.request("api-5xx").await?;
    ensure!(
        request.spec.targets[0].name.as_deref() == Some("api"),
        "{request:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_approval_by_the_plugin_is_the_same_as_one_by_annotations() -> Result<()> {
    let (typed, plain) = tokio::try_join!(scene("by-plugin"), scene("by-hand"))?;
    tokio::try_join!(typed.two_versions("api"), plain.two_versions("api"))?;
    for scene in [&typed, &plain] {
        scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
        scene.plan("api-5xx").await?;
    }
    let words = [&["approve", "api-5xx"], &APPROVAL[..]].concat();
    run(&typed, Approver, &words).await?.ended(0)?;
    plain.approve("api-5xx", Approver).await?;
    let mut statuses = Vec::new();
    for scene in [&typed, &plain] {
        let (request, _) = scene.wait_for_end("api-5xx").await?;
        let annotations = request.metadata.annotations.unwrap_or_default();
        let mut both = json!({"status": request.status, "annotations": annotations});
        same_for_all(&mut both, scene.ns());
        statuses.push(both);
    }
    let approval = &statuses[0]["status"]["approvals"][0];
    ensure!(
        approval["by"]["username"] == Approver.as_str(),
        "{approval}"
    );
    assert_eq!(statuses[0], statuses[1]);
    Ok(())
}

/// Takes out of a status what differs between any two requests: times, digests, UIDs and names made of them.
fn same_for_all(value: &mut Value, namespace: &str) {
    match value {
        Value::Object(fields) => {
            for (key, field) in fields {
                if key == "configMap" {
                    *field = json!("NAME");
                }
                same_for_all(field, namespace);
            }
        }
        Value::Array(items) => {
            for item in items {
                same_for_all(item, namespace);
            }
        }
        Value::String(text) => {
            let words: Vec<String> = text
                .split(' ')
                .map(|word| unnamed(word, namespace))
                .collect();
            *text = words.join(" ");
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn unnamed(word: &str, namespace: &str) -> String {
    let bare = word.trim_end_matches(['.', ',', ';']);
    if let Some((name, identity)) = bare.split_once('@')
        && !name.is_empty()
    {
        return format!("{name}@{}", unnamed(identity, namespace));
    }
    let is_uid = bare.len() == 36 && bare.matches('-').count() == 4;
    if bare.parse::<Timestamp>().is_ok() {
        return "TIME".to_owned();
    }
    if bare.starts_with("sha256:") {
        return "DIGEST".to_owned();
    }
    if is_uid {
        return "UID".to_owned();
    }
    // A report and a backup have the time and a part of the UID in their names.
    if bare.starts_with("rollback-20") {
        return "NAME".to_owned();
    }
    word.replace(namespace, "NAMESPACE")
}
