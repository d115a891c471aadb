//! A namespace with many requests.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt};
use serde_json::json;
use testkit::Scene;
use testkit::User::Approver;
use testkit::scene::request;

use super::stage::{Ui, without_controller};

/// How many there are.
pub const MANY: usize = 500;

/// That many requests, which no controller looks at.
pub async fn many(name: &str) -> Result<Scene> {
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
async fn five_hundred_requests_are_one_quick_page() -> Result<()> {
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
    Ok(())
}
