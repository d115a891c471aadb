//! A real Alertmanager delivers, by TLS and with the token of a `ServiceAccount`.

use std::time::Duration;

use anyhow::{Result, ensure};
use jiff::Timestamp;
use serde_json::{Value, json};
use testkit::alertmanager::Alertmanager;

use super::stage::Stage;
use super::tls::{self, Authority};

#[tokio::test]
async fn a_real_alertmanager_delivers() -> Result<()> {
    let mut stage = Stage::new("real").await?;
    let ns = stage.scene.ns().to_owned();
    let username = format!("system:serviceaccount:{ns}:alertmanager");
    let bearer = json!({"bearer": {"usernames": [username]}});
    let source = stage.source("prometheus", "alertmanager", bearer);
    let authority = Authority::new("cluster")?;
    tls::start(&mut stage, &authority, &[source]).await?;
    std::fs::write(stage.file("ca.pem"), authority.pem())?;
    let token = stage.token("alertmanager", "rollback-receiver").await?;
    std::fs::write(stage.file("token"), token)?;
    // As in docs/alerts.md, but sooner.
    let configuration = json!({
        "route": {
            "receiver": "rollback", "group_by": ["namespace", "deployment"],
            "group_wait": "1s", "group_interval": "1s", "repeat_interval": "3s",
        },
        "receivers": [{"name": "rollback", "webhook_configs": [{
            "url": stage.receiver()?.url("prometheus"),
            "send_resolved": true,
            "http_config": {
                "authorization": {"type": "Bearer", "credentials_file": stage.file("token")},
                "tls_config": {"ca_file": stage.file("ca.pem")},
            },
        }]}],
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
    let log = |outcome: &str| -> Result<()> {
        let log = stage.receiver()?.log();
        let wanted = json!(outcome);
        let told = log
            .lines()
            .filter_map(|line| serde_json::from_str::<Value>(line).ok())
            .any(|line| line.pointer("/fields/outcome") == Some(&wanted));
        ensure!(
            told,
            "no {outcome} in {log}\nAlertmanager says {}",
            alertmanager.log()
        );
        Ok(())
    };
    testkit::eventually("it has asked", patience, async || log("asked")).await?;
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
    testkit::eventually("it has sent again", patience, async || log("already-asked")).await?;
    let ended = json!([{
        "labels": labels, "startsAt": now.to_string(), "endsAt": Timestamp::now().to_string(),
    }]);
    alertmanager.alert(&ended).await?;
    testkit::eventually("it is over", patience, async || log("resolved")).await?;
    stage.only_request().await?;
    Ok(())
}
