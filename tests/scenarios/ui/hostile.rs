//! Strings of others are text, wherever they come from.

use anyhow::{Result, ensure};
use serde_json::json;
use testkit::Scene;
use testkit::User::Approver;
use testkit::scene::request;

use super::stage::{Ui, plugin, scene};

/// Runs a script in four ways, where it is taken for HTML.
pub const EVIL: &str = "\"'><script>alert(1)</script><img src=x onerror=alert(2)><svg onload=alert(3)></textarea><a href=javascript:alert(4)>x</a>\u{202e}\u{1b}[2J";

/// A request in which every field that may have such a string has it.
pub async fn evil(scene: &Scene) -> Result<()> {
    scene.two_versions("api").await?;
    let cause = json!({"metadata": {"annotations": {"kubernetes.io/change-cause": EVIL}}});
    scene.patch_deployment("api", cause).await?;
    let mut evil = request("evil", json!([{"name": "api", "to": {"previous": {}}}]));
    let reason = &mut evil["spec"]["reason"];
    reason["summary"] = json!(EVIL);
    reason["impact"] = json!(EVIL);
    reason["rootCause"] = json!(format!(
        "# {EVIL}\n\n| {EVIL} |\n|---|\n\n![x](http://evil.example/x.png)"
    ));
    reason["incidentUrl"] = json!("https://evil.example/?q=1");
    scene.ask_for(evil).await?;
    scene.plan("evil").await?;
    Ok(())
}

fn is_text(page: &str) -> bool {
    let page = page.to_lowercase();
    [
        "<script>",
        "<img",
        "<svg onload",
        "<a href=javascript",
        "href=\"javascript",
        "\u{202e}",
        "\u{1b}",
    ]
    .iter()
    .all(|it| !page.contains(it))
}

#[tokio::test]
async fn nothing_of_a_request_is_obeyed_by_a_browser() -> Result<()> {
    let scene = scene("ui-hostile").await?;
    // What the policy has people tick is a text of others too.
    let items = json!([{"name": "one", "text": EVIL}]);
    scene
        .policy(json!({"approvals": {"checklist": items}}))
        .await?;
    evil(&scene).await?;
    let ui = Ui::start(&scene, Approver).await?;
    let cookie = ui.log_in().await?;
    let typed = "/?q=%22%3E%3Cscript%3Ealert(1)%3C/script%3E";
    let missing = "/requests/%3Cscript%3Ealert(1)%3C%2Fscript%3E";
    for path in [
        "/",
        typed,
        missing,
        "/requests/evil",
        "/requests/evil?part=live",
        "/workloads",
        "/workloads/api",
    ] {
        let answer = ui.page(&cookie, path).await?;
        ensure!(is_text(&answer.body), "{path}: {}", answer.body);
    }
    let page = ui.page(&cookie, "/requests/evil").await?;
    ensure!(
        page.body.contains("&lt;script&gt;alert(1)&lt;/script&gt;"),
        "{}",
        page.body
    );
    let csrf = page.csrf()?;
    let wrong = format!(
        "csrf={csrf}&plan=%3Cscript%3E&confirm=%3Cscript%3E&item=%3Cscript%3E&accepts=%3Cscript%3E"
    );
    let answer = ui.send(&cookie, "/requests/evil/approve", &wrong).await?;
    ensure!(answer.status == 409 && is_text(&answer.body), "{answer:?}");
    let reason = "%3Cimg+src%3Dx+onerror%3Dalert(1)%3E";
    let answer = ui
        .send(
            &cookie,
            "/requests/evil/deny",
            &format!("csrf={csrf}&reason={reason}"),
        )
        .await?;
    ensure!(answer.status == 303, "{answer:?}");
    scene.wait_for_end("evil").await?;
    for path in ["/", "/requests/evil", "/requests/evil/report", "/reviews"] {
        let answer = ui.page(&cookie, path).await?;
        ensure!(
            answer.status == 200 && is_text(&answer.body),
            "{path}: {}",
            answer.body
        );
    }
    let printed = plugin(&scene, Approver)
        .args(["report", "evil", "--format", "html"])
        .output()
        .await?;
    let printed = String::from_utf8(printed.stdout)?;
    ensure!(
        printed.starts_with("<!DOCTYPE html>") && is_text(&printed),
        "{printed}"
    );
    ensure!(printed.contains("&lt;script&gt;alert(1)"), "{printed}");
    Ok(())
}
