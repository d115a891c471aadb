//! A real Alertmanager delivers, by TLS and with the token of a `ServiceAccount`.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use serde_json::json;
use testkit::alertmanager::Alertmanager;

use super::stage::Stage;
use super::tls;

#[tokio::test]
async fn a_real_alertmanager_delivers() -> Result<()> {
    let mut stage = Stage::new("real").await?;
    let ns = stage.scene.ns().to_owned();
    let webhooks = tls::start_for_alertmanager(&mut stage).await?;
    // As in docs/alerts.md, but sooner.
    let configuration = json!({
        "route": {
            "receiver": "rollback", "group_by": ["namespace", "deployment"],
            "group_wait": "1s", "group_interval": "1s", "repeat_interval": "3s",
        },
        "receivers": [{"name": "rollback", "webhook_configs": webhooks}],
    });
    let Some(alertmanager) = Alertmanager::start(&configuration.to_string()).await? else {
        return Ok(());
    };
    let now = Timestamp::now();
    let labels = json!({"alertname": "HighErrorRate", "namespace": ns, "deployment": "api"});
    let firing = json!([{
        "labels": labels, "annotations": {"summary": "5xx above 1 %"}, "startsAt": now.to_string(),
    }]);
    alertmanager.alert(&firing).await?;
    let patience = Duration::from_secs(30);
    let told = |outcome: &'static str| {
        let log = || format!("Alertmanager says {}", alertmanager.log());
        stage.has_told(outcome).with_context(log)
    };
    testkit::eventually("it has asked", patience, async || told("asked")).await?;
    let request = stage.only_request().await?;
    ensure!(
        request
            .spec
            .trigger
            .clone()
            .is_some_and(|it| it.alert == "HighErrorRate"),
        "{:?}",
        request.spec
    );
    testkit::eventually("it has sent again", patience, async || {
        told("already-asked")
    })
    .await?;
    let ended = json!([{
        "labels": labels, "startsAt": now.to_string(), "endsAt": Timestamp::now().to_string(),
    }]);
    alertmanager.alert(&ended).await?;
    testkit::eventually("it is over", patience, async || told("resolved")).await?;
    stage.only_request().await?;
    Ok(())
}
