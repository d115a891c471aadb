//! What is secret arrives nowhere: not what stands in texts, and not the addresses themselves.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use testkit::{User, scene};

use crate::services::Fault;
use crate::stage::{SIGNING_KEY, Stage, bot, hook, key};

const PLANTED: [&str; 4] = [
    "Tr0ub4dorAnd3",
    "ghp_0123456789abcdefghijABCDEFGHIJ012345",
    "hunter2hunter2",
    "AKIAIOSFODNN7EXAMPLE",
];

#[tokio::test]
async fn nothing_secret_arrives_and_no_address_is_written_anywhere() -> Result<()> {
    let stage = Stage::new("planted").await?;
    stage
        .policy(json!({"channels": [
            bot(), hook("hook"), {"name": "old-slack", "slack": {"webhook": key("slack-url")}},
            {"name": "teams", "teams": {"webhook": key("teams")}},
            {"name": "pager", "pagerDuty": {"routingKey": key("pagerduty")}},
        ]}))
        .await?;
    stage.two_versions().await?;
    let controller = stage.start(&[]).await?;
    // What fails is where addresses are told.
    let whole = format!(
        "no such hook: {}",
        stage.services.url("/services/T0/B0/secret-of-the-hook")
    );
    stage.services.break_down(
        "/services/T0/B0/secret-of-the-hook",
        Fault {
            status: 400,
            retry_after: None,
            body: whole,
        },
    );
    stage.services.fail("/hook", Fault::status(500));
    let mut request = scene::request("api-5xx", json!([{"name": "api", "to": {"previous": {}}}]));
    request["spec"]["reason"]["summary"] = json!(format!(
        "password={} with {} at https://user:{}@db.example, {} <!channel> *x*",
        PLANTED[0], PLANTED[1], PLANTED[2], PLANTED[3]
    ));
    stage.scene.ask_for(request).await?;
    stage.scene.approve("api-5xx", User::Approver).await?;
    stage.scene.wait_for_end("api-5xx").await?;
    stage
        .settled("api-5xx")
        .await
        .with_context(|| controller.log())?;
    let arrived = stage.services.all();
    ensure!(arrived.len() >= 12, "{}", arrived.len());
    for one in &arrived {
        for secret in PLANTED {
            ensure!(
                !one.body.contains(secret),
                "{secret} at {}: {}",
                one.path,
                one.body
            );
        }
        // But for the routing key, which the service wants in the body.
        for secret in ["xoxb-of-the-test", SIGNING_KEY, "secret-of-the-hook"] {
            ensure!(!one.body.contains(secret), "{secret} at {}", one.path);
        }
    }
    let status = serde_json::to_string(&stage.scene.status("api-5xx").await?)?;
    let events: Api<Event> =
        Api::namespaced(stage.scene.client(User::Admin).await?, stage.scene.ns());
    let events = serde_json::to_string(&events.list(&ListParams::default()).await?.items)?;
    for secret in [
        "xoxb-of-the-test",
        SIGNING_KEY,
        "secret-of-the-hook",
        "R0123456789",
    ] {
        for (place, text) in [
            ("status", &status),
            ("Events", &events),
            ("log", &controller.log()),
        ] {
            ensure!(!text.contains(secret), "{secret} in the {place}");
        }
    }
    ensure!(events.contains("NotificationFailed"), "{events}");
    Ok(())
}
