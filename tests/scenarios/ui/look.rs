//! What a person does, in a real browser.

use anyhow::{Context as _, Result, ensure};
use serde_json::json;
use testkit::User::{Approver, Requester};
use testkit::prometheus::Prometheus;
use testkit::scene::revision;
use testkit::{Scene, shop};

use super::browser::Browser;
use super::hostile::{EVIL, evil};
use super::server::asked;
use super::stage::{Ui, plugin, scene, without_controller};

fn url(ui: &Ui, path: &str) -> String {
    format!("http://{}{}{path}", ui.host(), ui.base)
}

/// A bad version that is asked to be rolled back to one that comes up slowly, so that there is something to watch.
async fn slow(name: &str) -> Result<Scene> {
    let scene = scene(name).await?;
    let ready_after = std::time::Duration::from_millis(1500);
    for version in ["v1", "v2"] {
        let release = shop::deployment("api").version(version).replicas(2);
        scene.deploy(release.ready_after(ready_after)).await?;
    }
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.plan("api-5xx").await?;
    Ok(scene)
}

#[tokio::test]
async fn a_rollback_is_found_read_approved_and_watched() -> Result<()> {
    let Some(mut browser) = Browser::start().await? else {
        return Ok(());
    };
    let scene = slow("ui-look").await?;
    let ui = Ui::start(&scene, Approver).await?;
    let there = browser.open(&ui.link).await?;
    ensure!(there == url(&ui, "/"), "the token is still in {there}");
    browser.shows("Waits for me (1)").await?;
    browser.look("board").await?;
    browser.click("link", "api-5xx").await?;
    browser.shows("Approve this plan").await?;
    browser.look("request-waits").await?;

    browser.does("mark", json!({})).await?;
    browser.does("tick", json!({})).await?;
    let label = "Type ROLLBACK PRODUCTION to approve";
    browser
        .does(
            "fill",
            json!({"label": label, "value": "rollback production"}),
        )
        .await?;
    browser.does("expect", json!({"errors": 1})).await?;
    browser.click("button", "Approve this plan").await?;
    browser
        .shows("That is not the phrase, so nothing was approved. It is ROLLBACK PRODUCTION")
        .await?;
    browser.look("request-refused").await?;
    ensure!(scene.status("api-5xx").await?.approvals.is_empty());

    // Now without a mouse: what was ticked is ticked still.
    browser
        .does(
            "fill",
            json!({"label": label, "value": "ROLLBACK PRODUCTION"}),
        )
        .await?;
    browser.does("press", json!({"key": "Tab"})).await?;
    let focused = browser.does("focused", json!({})).await?;
    ensure!(
        focused[1] == "Approve this plan" && focused[2] == "solid",
        "{focused}"
    );
    browser.does("press", json!({"key": "Enter"})).await?;
    browser.shows("approved by anna@broxiva.example").await?;
    browser.does("mark", json!({})).await?;
    browser.shows("RollingOut").await?;
    browser.shot("request-runs.png").await?;
    browser.shows("Rolled back").await?;
    browser.shows("The incident report").await?;
    let is_same = browser.does("marked", json!({})).await?;
    ensure!(is_same == true, "the page was loaded anew");
    browser.look("request-ended").await?;

    browser.click("link", "Deployment/api").await?;
    browser.shows("Revision").await?;
    browser.look("history").await?;
    browser.click("button", "Show what differs").await?;
    browser.shows("What differs, from the first").await?;
    browser.look("diff").await?;
    browser.click("link", "Reviews").await?;
    browser.shows("I have held it").await?;
    browser.look("reviews").await?;
    browser.click("link", "api-5xx").await?;
    browser.shows("Rolled back").await?;
    browser.look("report").await?;
    browser.has_no_problems().await
}

#[tokio::test]
async fn a_plan_that_changes_while_somebody_reads_is_not_approved() -> Result<()> {
    let Some(mut browser) = Browser::start().await? else {
        return Ok(());
    };
    let scene = asked("ui-stale").await?;
    let was = scene.plan("api-5xx").await?.digest;
    let ui = Ui::start(&scene, Approver).await?;
    browser.open(&ui.link).await?;
    browser.open(&url(&ui, "/requests/api-5xx")).await?;
    browser.shows("Approve this plan").await?;
    let label = "Type ROLLBACK PRODUCTION to approve";
    browser
        .does(
            "fill",
            json!({"label": label, "value": "ROLLBACK PRODUCTION"}),
        )
        .await?;
    browser.does("tick", json!({})).await?;
    scene
        .policy(json!({"verification": {"soakSeconds": 7}}))
        .await?;
    browser
        .shows("The plan has changed since this page was loaded.")
        .await?;
    browser.shot("request-stale.png").await?;
    browser.does("expect", json!({"errors": 1})).await?;
    browser.click("button", "Approve this plan").await?;
    browser
        .shows("The plan is not the one that was read: it was")
        .await?;
    let ticked = browser.does("ticked", json!({})).await?;
    ensure!(
        ticked == json!(0),
        "{ticked} items of the old plan are ticked"
    );
    let status = scene.status("api-5xx").await?;
    ensure!(status.approvals.is_empty() && status.plan.is_some_and(|plan| plan.digest != was));
    browser.has_no_problems().await?;
    ui.end().await?;
    browser.shows("The connection was lost").await
}

#[tokio::test]
async fn a_request_is_cancelled_in_a_browser() -> Result<()> {
    let Some(mut browser) = Browser::start().await? else {
        return Ok(());
    };
    let scene = asked("ui-cancelled").await?;
    let ui = Ui::start(&scene, Requester).await?;
    browser.open(&ui.link).await?;
    browser.open(&url(&ui, "/requests/api-5xx")).await?;
    browser.shows("Cancel this request").await?;
    // The box is not ticked: the browser does not even send it.
    browser.click("button", "Cancel this request").await?;
    browser.look("request-cancel").await?;
    ensure!(scene.request("api-5xx").await?.outcome().is_none());
    browser.does("tick", json!({})).await?;
    browser.click("button", "Cancel this request").await?;
    scene.wait_for_end("api-5xx").await?;
    browser.shows("Cancelled").await?;
    browser.look("request-cancelled").await?;
    let page = browser.does("text", json!({})).await?;
    let page = page.as_str().unwrap_or_default();
    ensure!(!page.contains("Cancel this request"), "{page}");
    browser.has_no_problems().await
}

/// The number of a check: 0.204 for the `ReplicaSet` of the bad version, 0.004 for any other.
fn number(bad: &str) -> String {
    let of = |name: &str| format!(r#"label_replace(vector(1), "rs", "{name}", "", "")"#);
    let is_bad = format!("count({} and on(rs) {})", of("$replica_set"), of(bad));
    format!("0.004 + 0.2 * ({is_bad} or vector(0))")
}

#[tokio::test]
async fn numbers_before_and_after_are_drawn() -> Result<()> {
    let (Some(mut browser), Some(prometheus)) =
        (Browser::start().await?, Prometheus::start().await?)
    else {
        return Ok(());
    };
    let mut scene = without_controller("ui-numbers").await?;
    let controller = scene.spawn(&["--prometheus-allow", &prometheus.url()])?;
    controller.ready().await?;
    scene.controller = Some(controller);
    scene.two_versions("api").await?;
    let sets = scene.replica_sets("api").await?;
    let bad = sets
        .iter()
        .find(|set| revision(set) == Some(2))
        .context("no v2")?;
    let bad = bad["metadata"]["name"].as_str().unwrap_or_default();
    let check = json!({"name": "error-rate", "periodSeconds": 1, "windowSeconds": 5, "atMost": 0.01, "query": number(bad)});
    let checks = json!({"url": prometheus.url(), "checks": [check]});
    scene
        .policy(json!({"verification": {"timeoutSeconds": 30, "prometheus": checks}}))
        .await?;
    scene.ask("api-5xx", "api", json!({"previous": {}})).await?;
    scene.approve("api-5xx", Approver).await?;
    scene.wait_for_end("api-5xx").await?;
    let ui = Ui::start(&scene, Approver).await?;
    browser.open(&ui.link).await?;
    for (path, name) in [
        ("/requests/api-5xx", "numbers"),
        ("/requests/api-5xx/report", "numbers-report"),
    ] {
        browser.open(&url(&ui, path)).await?;
        browser
            .shows("error-rate, before 0.204 (at most 0.01), after 0.004 (at most 0.01)")
            .await?;
        browser.look(name).await?;
    }
    browser.has_no_problems().await
}

#[tokio::test]
async fn a_report_stands_alone_and_is_printed() -> Result<()> {
    let Some(mut browser) = Browser::start().await? else {
        return Ok(());
    };
    let scene = scene("ui-report").await?;
    evil(&scene).await?;
    scene.approve("evil", Approver).await?;
    scene.wait_for_end("evil").await?;
    let printed = plugin(&scene, Approver)
        .args(["report", "evil", "-o", "html"])
        .output()
        .await?;
    ensure!(printed.status.success(), "{printed:?}");
    let file = browser.picture("evil.html");
    std::fs::write(&file, printed.stdout)?;
    browser.open(&format!("file://{}", file.display())).await?;
    browser.shows("Timeline").await?;
    browser.look("report-alone").await?;
    let print = json!({"scheme": "dark", "media": "print", "width": 800});
    browser.does("look", print).await?;
    browser.shot("report-printed.png").await?;
    let paper = browser.picture("report.pdf");
    browser.does("print", json!({"file": paper})).await?;
    browser.has_no_problems().await
}

#[tokio::test]
async fn nothing_hostile_happens_in_a_browser() -> Result<()> {
    let Some(mut browser) = Browser::start().await? else {
        return Ok(());
    };
    let scene = scene("ui-evil").await?;
    evil(&scene).await?;
    let ui = Ui::start(&scene, Approver).await?;
    browser.open(&ui.link).await?;
    browser.shows("<script>alert(1)</script>").await?;
    browser.look("evil-board").await?;
    for (path, name) in [
        ("/requests/evil", "evil-request"),
        ("/workloads/api", "evil-history"),
    ] {
        browser.open(&url(&ui, path)).await?;
        browser.shows("<script>alert(1)</script>").await?;
        browser.look(name).await?;
    }
    browser.open(&url(&ui, "/requests/evil")).await?;
    let reason = "Why, for whoever asked and for the report";
    browser
        .does("fill", json!({"label": reason, "value": EVIL}))
        .await?;
    browser.click("button", "Deny").await?;
    browser.shows("Denied").await?;
    scene.wait_for_end("evil").await?;
    // A request that has ended is not asked about from time to time: this is pushed.
    browser.shows("The incident report").await?;
    browser.open(&url(&ui, "/requests/evil/report")).await?;
    browser.shows("<script>alert(1)</script>").await?;
    browser.has_no_problems().await
}
