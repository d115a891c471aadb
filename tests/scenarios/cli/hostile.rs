//! Strings of others never reach the terminal as they are.

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::User::{Approver, Requester};
use testkit::scene::request;

use super::stage::{APPROVAL, run, scene};

/// Clears the screen, sets the title, turns text around, and begins a line of its own.
const EVIL: &str = "\u{1b}[2J\u{1b}]0;pwned\u{7}\u{202e}5xx\r\nerror: all is well\u{9b}31m";

fn is_harmless(text: &str) -> bool {
    let is_bad = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    !text.chars().any(is_bad)
        && !text
            .lines()
            .any(|line| line.starts_with("error: all is well"))
}

#[tokio::test]
async fn nothing_of_a_request_is_obeyed_by_a_terminal() -> Result<()> {
    let scene = scene("hostile").await?;
    scene.two_versions("api").await?;
    let mut evil = request("api-5xx", json!([{"name": "api", "to": {"previous": {}}}]));
    evil["spec"]["reason"]["summary"] = json!(EVIL);
    evil["spec"]["reason"]["impact"] = json!(EVIL);
    scene.ask_for(evil).await?;
    scene.plan("api-5xx").await?;
    let cause = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": EVIL}}});
    scene.patch_deployment("api", cause).await?;

    let approve = [&["approve", "api-5xx", "--wait"], &APPROVAL[..]].concat();
    let refused = ["deny", "api-5xx", "--reason", EVIL];
    let rows: [&[&str]; 9] = [
        &["status"],
        &["status", "-o", "wide"],
        &["status", "api-5xx"],
        &["history", "api", "-o", "wide"],
        &refused,
        &["create", EVIL, "--to", EVIL],
        &[EVIL],
        &approve,
        &["report", "api-5xx"],
    ];
    for words in rows {
        let user = if words.first() == Some(&"deny") {
            Requester
        } else {
            Approver
        };
        let said = run(&scene, user, words).await?;
        ensure!(
            is_harmless(&said.out) && is_harmless(&said.err),
            "{words:?}: {said:?}"
        );
    }
    let said = run(&scene, Approver, &["status", "api-5xx", "-o", "yaml"])
        .await?
        .ended(0)?;
    ensure!(is_harmless(&said.out), "{}", said.out);
    let said = run(&scene, Approver, &["status", "api-5xx", "-o", "json"])
        .await?
        .ended(0)?;
    ensure!(is_harmless(&said.out), "{}", said.out);
    ensure!(said.json()?["spec"]["reason"]["summary"] == EVIL);
    Ok(())
}
