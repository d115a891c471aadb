//! What everybody can read of a namespace after a rollback, to be looked through for what must not be there.

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::api::events::v1::Event;
use kube::api::ListParams;
use kube::{Api, ResourceExt};
use rollback_api::{ARTIFACT_LABEL, RevisionLedger};
use serde_json::Value;
use testkit::{Scene, User};

/// What everybody can read of a namespace, by where it stands.
pub async fn everything(scene: &Scene, requests: &[&str]) -> Result<Vec<(String, String)>> {
    let mut texts = Vec::new();
    for name in requests {
        let mut status = serde_json::to_value(scene.status(name).await?)?;
        // The checks of the policy are part of the plan as they are; their queries stand there, and nowhere else.
        if let Some(verification) = status
            .pointer_mut("/plan/rules/verification")
            .and_then(Value::as_object_mut)
        {
            verification.remove("http");
        }
        texts.push((format!("the status of {name}"), status.to_string()));
        let incidents = scene.artifacts("incident", name).await?;
        ensure!(
            incidents.len() == 1,
            "{name} has {} incidents",
            incidents.len()
        );
        let data = incidents[0].data.clone().unwrap_or_default();
        for kind in [".md", ".json"] {
            ensure!(data.keys().any(|key| key.ends_with(kind)), "no {kind}");
        }
    }
    let client = scene.client(User::Admin).await?;
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), scene.ns());
    let maps = maps.list(&ListParams::default()).await?.items;
    let is_backup = |map: &&ConfigMap| {
        let kind = map.labels().get(ARTIFACT_LABEL).map(String::as_str);
        kind != Some("backup")
    };
    let maps: Vec<&ConfigMap> = maps.iter().filter(is_backup).collect();
    ensure!(maps.len() >= requests.len(), "no ConfigMaps but backups");
    texts.push(("a ConfigMap".to_owned(), serde_json::to_string(&maps)?));
    texts.push(("a ledger".to_owned(), ledgers(scene).await?));
    let events: Api<Event> = Api::namespaced(client, scene.ns());
    let events = events.list(&ListParams::default()).await?.items;
    let ours = events.iter().filter(|event| {
        event
            .reporting_controller
            .as_deref()
            .is_some_and(|by| by.starts_with(rollback_api::GROUP))
    });
    ensure!(ours.count() > 5, "too few Events were told");
    texts.push(("an Event".to_owned(), serde_json::to_string(&events)?));
    let controller = scene.controller.as_ref().context("no controller")?;
    texts.push(("the log".to_owned(), controller.log()));
    let url = format!("{}/metrics", controller.metrics_url());
    let client = reqwest::Client::builder().no_proxy().build()?;
    let metrics = client.get(url).send().await?.error_for_status()?;
    texts.push(("the metrics".to_owned(), metrics.text().await?));
    Ok(texts)
}

/// The ledgers, without the templates that they keep whole, as backups do.
async fn ledgers(scene: &Scene) -> Result<String> {
    let api: Api<RevisionLedger> = Api::namespaced(scene.client(User::Admin).await?, scene.ns());
    let mut ledgers = api.list(&ListParams::default()).await?.items;
    ensure!(!ledgers.is_empty(), "there is no ledger");
    for known in ledgers.iter_mut().flat_map(|it| &mut it.spec.templates) {
        known.template = None;
    }
    Ok(serde_json::to_string(&ledgers)?)
}
