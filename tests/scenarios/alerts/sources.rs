//! Each source, from the bytes that it sends to the request.

use anyhow::{Context as _, Result, ensure};
use jiff::Timestamp;
use rollback_api::request::Category;
use serde_json::{Value, json};

use super::stage::{SECRET, Stage, code, group, over, post};

/// What the request of an alert looks like: it names what is bad, and who says so.
#[tokio::test]
async fn an_alert_of_alertmanager_becomes_a_request() -> Result<()> {
    let mut stage = Stage::new("alertmanager").await?;
    let ns = stage.scene.ns().to_owned();
    let username = format!("system:serviceaccount:{ns}:alertmanager");
    let bearer = json!({"bearer": {"usernames": [username]}});
    let mut source = stage.source("prometheus", "alertmanager", bearer);
    source["category"] = json!({"rules": [{"alert": "HighErrorRate", "category": "ErrorRate"}]});
    stage.start(&[source]).await?;
    let token = stage.token("alertmanager", "rollback-receiver").await?;
    let url = stage.receiver()?.url("prometheus");
    let header = format!("Bearer {token}");
    let send =
        async |body: &Value| post(&url, &[("authorization", &header)], body.to_string()).await;

    let firing = stage.alert("HighErrorRate");
    let answer = send(&group(std::slice::from_ref(&firing))).await?;
    answer.is("asked")?;
    let request = stage.only_request().await?;
    ensure!(
        request.metadata.name == Some(answer.request()?),
        "{answer:?}"
    );
    let spec = &request.spec;
    ensure!(spec.reason.category == Category::ErrorRate, "{spec:?}");
    ensure!(spec.reason.summary.contains("5xx"), "{spec:?}");
    ensure!(
        spec.targets.len() == 1 && spec.targets[0].to.previous.is_some(),
        "{spec:?}"
    );
    let from = spec.targets[0].from.clone().context("no from")?;
    ensure!(from.template_digest.is_some(), "{from:?}");
    let trigger = spec.trigger.clone().context("no trigger")?;
    ensure!(
        trigger.source == "prometheus" && trigger.alert == "HighErrorRate",
        "{trigger:?}"
    );
    let by = spec.requested_by.clone().context("not stamped")?;
    ensure!(
        by.username == "system:serviceaccount:rollback-system:rollback-receiver",
        "{by:?}"
    );

    send(&group(&[over(firing)])).await?.is("resolved")?;
    ensure!(stage.requests().await?.len() == 1, "a resolved alert asked");
    let log = stage.receiver()?.log();
    ensure!(!log.contains(&token), "the token is in the log");
    Ok(())
}

#[tokio::test]
async fn a_contact_point_of_grafana_signs_body_and_time() -> Result<()> {
    let mut stage = Stage::new("grafana").await?;
    let source = stage.signed("grafana", "grafana");
    stage.start(&[source]).await?;
    let mut body = group(&[stage.alert("ApiIsSlow")]);
    body["version"] = json!("1");
    let body = body.to_string();
    let url = stage.receiver()?.url("grafana");
    let send = async |time: &str, signature: &str| {
        let headers = [
            ("x-grafana-alerting-signature", signature),
            ("x-grafana-alerting-timestamp", time),
        ];
        post(&url, &headers, body.clone()).await
    };
    let now = Timestamp::now().as_second();
    let old = (now - 600).to_string();
    let signature = code(&[old.as_bytes(), b":", body.as_bytes()])?;
    ensure!(
        send(&old, &signature).await?.status == 401,
        "an old delivery counts"
    );
    let now = now.to_string();
    ensure!(
        send(&now, &signature).await?.status == 401,
        "another time counts"
    );
    // Without a time a delivery could be sent again for ever.
    let untimed = [("x-grafana-alerting-signature", &*code(&[body.as_bytes()])?)];
    ensure!(
        post(&url, &untimed, body.clone()).await?.status == 401,
        "no time counts"
    );
    let signature = code(&[now.as_bytes(), b":", body.as_bytes()])?;
    send(&now, &signature).await?.is("asked")?;
    let request = stage.only_request().await?;
    ensure!(
        request.spec.reason.category == Category::Latency,
        "{:?}",
        request.spec
    );
    Ok(())
}

fn incident(event: &str, service: &str) -> Value {
    json!({"event": {
        "id": "01CEXAMPLE", "event_type": event, "resource_type": "incident",
        "occurred_at": Timestamp::now().to_string(),
        "data": {
            "id": "PGR0VU2", "type": "incident", "html_url": "https://acme.pagerduty.com/incidents/PGR0VU2",
            "number": 2, "status": "triggered", "incident_key": "d3640fbd41094207a1c11e58e46b1662",
            "created_at": Timestamp::now().to_string(), "title": "Checkout fails",
            "service": {"id": service, "summary": "Shop API"}, "urgency": "high",
        },
    }})
}

/// A 4xx switches the subscription off, so what is not for us is accepted.
#[tokio::test]
async fn an_incident_of_pagerduty_is_mapped_by_its_service() -> Result<()> {
    let mut stage = Stage::new("pagerduty").await?;
    let mut source = stage.signed("pagerduty", "pager-duty");
    source["mapping"] = json!([{
        "labels": {"pagerduty_service": "PF9KMXH"}, "namespace": stage.scene.ns(), "deployment": "api",
    }]);
    source["category"] = json!({"default": "BusinessLogic"});
    stage.start(&[source]).await?;
    let url = stage.receiver()?.url("pagerduty");
    let send = async |body: Value| {
        let body = body.to_string();
        let signature = format!("v1={},v1={}", "0".repeat(64), code(&[body.as_bytes()])?);
        post(&url, &[("x-pagerduty-signature", &signature)], body).await
    };
    send(incident("incident.triggered", "POTHER1"))
        .await?
        .is("not-mapped")?;
    let other = send(incident("incident.annotated", "PF9KMXH")).await?;
    ensure!(other.status == 202, "{other:?}");
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    send(incident("incident.triggered", "PF9KMXH"))
        .await?
        .is("asked")?;
    let request = stage.only_request().await?;
    let reason = &request.spec.reason;
    ensure!(reason.category == Category::BusinessLogic, "{reason:?}");
    let page = reason.incident_url.as_deref();
    ensure!(
        page == Some("https://acme.pagerduty.com/incidents/PGR0VU2"),
        "{reason:?}"
    );
    Ok(())
}

#[tokio::test]
async fn an_issue_alert_of_sentry_is_signed_and_mapped_by_its_project() -> Result<()> {
    let mut stage = Stage::new("sentry").await?;
    let mut source = stage.signed("sentry", "sentry");
    source["mapping"] = json!([{
        "labels": {"service": "api"}, "namespace": stage.scene.ns(), "deployment": "api",
    }]);
    stage.start(&[source]).await?;
    let body = json!({"action": "triggered", "data": {
        "triggered_rule": "Many new errors",
        "event": {
            "event_id": "e4874d664c3540c1a32eab185f12c5ab", "issue_id": "1117540176", "level": "error",
            "title": "TypeError", "datetime": Timestamp::now().to_string(), "tags": [["service", "api"]],
            "web_url": "https://sentry.example/issues/1",
        },
    }})
    .to_string();
    let url = stage.receiver()?.url("sentry");
    let signature = code(&[body.as_bytes()])?;
    post(&url, &[("sentry-hook-signature", &signature)], body)
        .await?
        .is("asked")
}

#[tokio::test]
async fn an_event_of_flux_is_mapped_by_the_metadata_of_its_alert() -> Result<()> {
    let mut stage = Stage::new("flux").await?;
    let source = stage.signed("flux", "flux");
    stage.start(&[source]).await?;
    let body = json!({
        "involvedObject": {
            "kind": "Kustomization", "namespace": "flux-system", "name": "shop",
            "uid": "7c1a9b1e-4d4a-4a6c-9d0d-1a2b3c4d5e6f", "apiVersion": "kustomize.toolkit.fluxcd.io/v1",
        },
        "severity": "error", "timestamp": Timestamp::now().to_string(),
        "message": "health check failed after 2m0s", "reason": "HealthCheckFailed",
        "metadata": {"rollback_namespace": stage.scene.ns(), "rollback_deployment": "api"},
        "reportingController": "kustomize-controller",
    })
    .to_string();
    let url = stage.receiver()?.url("flux");
    let signature = format!("sha256={}", code(&[body.as_bytes()])?);
    post(&url, &[("x-signature", &signature)], body)
        .await?
        .is("asked")?;
    let request = stage.only_request().await?;
    ensure!(
        request.spec.reason.category == Category::HealthCheck,
        "{:?}",
        request.spec
    );
    Ok(())
}

#[tokio::test]
async fn a_monitor_of_datadog_comes_with_a_password() -> Result<()> {
    let mut stage = Stage::new("datadog").await?;
    let source = stage.basic("datadog", "datadog");
    stage.start(&[source]).await?;
    let ns = stage.scene.ns();
    let body = json!({
        "id": "1", "alert_id": "42", "cycle": "4711", "transition": "Triggered", "priority": "normal",
        "scope": format!("kube_namespace:{ns},kube_deployment:api"), "tags": "team:shop",
        "date": Timestamp::now().as_millisecond().to_string(), "title": "5xx on api", "link": "https://datadog.example/1",
    });
    stage.deliver("datadog", &body).await?.is("asked")?;
    ensure!(
        !stage.receiver()?.log().contains(SECRET),
        "the secret is in the log"
    );
    Ok(())
}

/// The generic format says what is bad itself.
#[tokio::test]
async fn the_generic_format_may_say_which_revision_is_bad() -> Result<()> {
    let mut stage = Stage::new("generic").await?;
    let source = stage.signed("checks", "generic");
    stage.start(&[source]).await?;
    let url = stage.receiver()?.url("checks");
    let send = async |id: &str, bad: Value| {
        let body = json!({
            "id": id, "source": "synthetic", "status": "firing", "severity": "critical",
            "namespace": stage.scene.ns(), "deployment": "api", "reason": "the checkout fails from three regions",
            "startsAt": Timestamp::now().to_string(), "badRevision": bad, "links": ["https://checks.example/1"],
        })
        .to_string();
        let time = Timestamp::now().as_second().to_string();
        let signature = format!(
            "sha256={}",
            code(&[time.as_bytes(), b".", body.as_bytes()])?
        );
        post(
            &url,
            &[("x-signature", &signature), ("x-timestamp", &time)],
            body,
        )
        .await
    };
    send("1", json!("1")).await?.is("stale")?;
    send("2", json!("v1")).await?.is("stale")?;
    send("3", json!("2")).await?.is("asked")?;
    send("4", json!("v2")).await?.is("already-asked")?;
    ensure!(stage.requests().await?.len() == 1, "more than one request");
    Ok(())
}
