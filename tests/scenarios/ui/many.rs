//! A namespace with many requests.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use testkit::Scene;
use testkit::User::Approver;
use testkit::scene::request;

use super::browser::Browser;
use super::stage::{Ui, without_controller};

/// How many there are.
const MANY: usize = 500;

/// That many requests, which no controller looks at.
async fn many(name: &str) -> Result<Scene> {
    let scene = without_controller(name).await?;
    let names = (0..MANY).map(|number| format!("many-{number:03}"));
    let ask = |name: String| {
        let scene = &scene;
        async move {
            let targets = json!([{"name": "api", "to": {"previous": {}}}]);
            scene.ask_for(request(&name, targets)).await
        }
    };
    futures::stream::iter(names)
        .map(ask)
        .buffer_unordered(16)
        .try_collect::<Vec<_>>()
        .await?;
    Ok(scene)
}

#[tokio::test]
async fn five_hundred_requests_stay_usable() -> Result<()> {
    let scene = many("ui-many").await?;
    let ui = Ui::start(&scene, Approver).await?;
    let cookie = ui.log_in().await?;
    let began = Instant::now();
    let page = ui.page(&cookie, "/").await?;
    let took = began.elapsed();
    eprintln!("{MANY} requests: {took:?}, {} bytes", page.body.len());
    ensure!(
        page.body.matches("/requests/many-").count() == MANY,
        "{}",
        page.body.len()
    );
    ensure!(page.body.contains("Running: 500."), "{}", page.body);
    ensure!(took < Duration::from_secs(5), "it took {took:?}");
    let found = ui.page(&cookie, "/?q=MANY-49").await?;
    ensure!(
        found.body.matches("/requests/many-").count() == 10,
        "{}",
        found.body
    );
    let Some(mut browser) = Browser::start().await? else {
        return Ok(());
    };
    let ui = Ui::start(&scene, Approver).await?;
    browser.open(&ui.link).await?;
    browser.shows(&format!("Runs ({MANY})")).await?;
    browser.shot("many.png").await?;
    let wanted = json!({"label": "Only those with this text", "value": "many-123"});
    browser.does("fill", wanted).await?;
    browser.does("press", json!({"key": "Enter"})).await?;
    browser.shows("Runs (1)").await?;
    browser.look("many-found").await?;
    let text = browser.does("text", json!({})).await?;
    let text = text.as_str().unwrap_or_default();
    ensure!(
        text.contains("many-123") && !text.contains("many-124"),
        "{text}"
    );
    browser.has_no_problems().await
}
