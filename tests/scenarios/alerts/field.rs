//! What was seen in real clusters, by HTTP: the rows of docs/field-cases.md that take more than a parser.

use anyhow::{Result, ensure};
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::stage::{Stage, alert, group};

/// An alert with these labels and no others, which fires since then.
fn labelled(labels: Value, started_at: Timestamp) -> Value {
    let mut it = alert("Down", "unused", "unused");
    it["labels"] = labels;
    it["startsAt"] = json!(started_at.to_string());
    group(&[it])
}

#[tokio::test]
async fn a1_a_name_that_leads_nowhere_lets_the_next_rule_speak() -> Result<()> {
    let mut stage = Stage::new("field-labels").await?;
    let ns = stage.scene.ns().to_owned();
    let mut source = stage.basic("prometheus", "alertmanager");
    source["namespaces"] = json!(["*"]);
    source["mapping"] =
        json!([{"labels": {"ingress": "api"}, "namespace": ns, "deployment": "api"}]);
    stage.start(&[source]).await?;
    let now = Timestamp::now();
    // There is no Deployment of the first name.
    let labels = json!({"alertname": "A", "k8s_namespace_name": ns, "k8s_deployment_name": "gone", "namespace": ns, "deployment": "api"});
    stage
        .deliver("prometheus", &labelled(labels, now))
        .await?
        .is("asked")?;
    // What the administrator wrote down goes before the labels of whoever scraped.
    let labels = json!({"alertname": "B", "ingress": "api", "namespace": "ingress-nginx", "pod": "ingress-nginx-controller-7d9c8b6f5-x2k4q"});
    stage
        .deliver("prometheus", &labelled(labels, now))
        .await?
        .is("already-asked")?;
    let labels = json!({"alertname": "C", "namespace": "ingress-nginx", "pod": "ingress-nginx-controller-7d9c8b6f5-x2k4q"});
    stage
        .deliver("prometheus", &labelled(labels, now))
        .await?
        .is("not-mapped")?;
    Ok(())
}

/// What a rule has waited for is taken off; what is not known goes with the request, for people.
#[tokio::test]
async fn a5_what_a_rule_waits_for_is_taken_off() -> Result<()> {
    let mut stage = Stage::new("field-pending").await?;
    let ns = stage.scene.ns().to_owned();
    let mut source = stage.basic("prometheus", "alertmanager");
    let mut set = source.clone();
    set["name"] = json!("slow");
    set["forSeconds"] = json!(600);
    if let Some(source) = source.as_object_mut() {
        source.remove("forSeconds");
    }
    stage.start(&[source, set]).await?;
    let labels = |pending: Option<&str>| {
        let mut labels = json!({"alertname": "Down", "namespace": ns, "deployment": "api"});
        if let Some(pending) = pending {
            labels["for"] = json!(pending);
        }
        labelled(labels, Timestamp::now())
    };
    stage
        .deliver("prometheus", &labels(Some("10m")))
        .await?
        .is("stale")?;
    stage.deliver("slow", &labels(None)).await?.is("stale")?;
    stage
        .deliver("prometheus", &labels(None))
        .await?
        .is("asked")?;
    let request = stage.only_request().await?;
    let pending = request.spec.trigger.map(|trigger| trigger.pending_seconds);
    ensure!(pending == Some(None), "{pending:?}");
    Ok(())
}

#[tokio::test]
async fn a6_a_cycle_that_is_triggered_again_began_when_it_began_first() -> Result<()> {
    let mut stage = Stage::new("field-cycle").await?;
    let source = stage.basic("datadog", "datadog");
    stage.start(&[source]).await?;
    let body = |cycle: &str, transition: &str, at: Timestamp| {
        json!({
            "id": "1", "alert_id": "7", "cycle": cycle, "transition": transition, "priority": "normal",
            "scope": format!("kube_namespace:{},kube_deployment:api", stage.scene.ns()), "tags": "",
            "date": at.as_millisecond().to_string(), "title": "Down", "link": "",
        })
    };
    let now = Timestamp::now();
    let before = now - SignedDuration::from_hours(1);
    stage
        .deliver("datadog", &body("77", "Triggered", before))
        .await?
        .is("stale")?;
    stage
        .deliver("datadog", &body("77", "Re-Triggered", now))
        .await?
        .is("stale")?;
    // Of one that is not known, nobody can tell.
    stage
        .deliver("datadog", &body("78", "Re-Triggered", now))
        .await?
        .is("stale")?;
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    stage
        .deliver("datadog", &body("77", "Recovered", now))
        .await?
        .is("resolved")?;
    stage
        .deliver("datadog", &body("77", "Triggered", now))
        .await?
        .is("asked")?;
    Ok(())
}

/// A storm is answered, whoever is in it; what the sender has left out is told.
#[tokio::test]
async fn a11_a_storm_is_read_and_what_is_left_out_leaves_a_trace() -> Result<()> {
    let mut stage = Stage::new("field-storm").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let long = "x".repeat(900);
    let mut all: Vec<Value> = (0..240)
        .map(|number| {
            let mut one = alert("Elsewhere", "another", "web");
            one["labels"]["number"] = json!(number.to_string());
            one["annotations"]["summary"] = json!(long);
            one["fingerprint"] = json!(format!("f{number}"));
            one
        })
        .collect();
    all.push(stage.alert("Down"));
    let mut body = group(&all);
    body["truncatedAlerts"] = json!(190);
    ensure!(body.to_string().len() > 240_000, "no storm");
    let answer = stage.deliver("prometheus", &body).await?;
    ensure!(answer.status == 202, "{answer:?}");
    ensure!(
        answer.body["alerts"][240]["outcome"] == "asked",
        "{:?}",
        answer.body["alerts"][240]
    );
    let message = answer.body["message"].as_str().unwrap_or_default();
    ensure!(message.contains("190 more alerts"), "{message}");
    let url = format!("{}/metrics", stage.receiver()?.metrics_url());
    let page = reqwest::get(url).await?.text().await?;
    let line = "rollback_receiver_left_out_alerts_total{source=\"prometheus\"} 190";
    ensure!(page.contains(line), "{page}");
    Ok(())
}
