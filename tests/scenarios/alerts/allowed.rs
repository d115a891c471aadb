//! What the receiver may do, and what it says where it may not.

use std::collections::BTreeSet;
use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use kube::Api;
use kube::api::PostParams;
use serde_json::json;
use testkit::Cluster;
use testkit::scene::PATIENCE;

use super::stage::{Stage, alert, group};

/// A namespace decides by its role bindings whether alerts may ask there, and the sender is told what is missing.
#[tokio::test]
async fn a_namespace_that_does_not_grant_it_is_not_asked_in() -> Result<()> {
    let mut stage = Stage::ungranted("closed").await?;
    stage.scene.two_versions("api").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let send = async || {
        let answer = stage
            .deliver("prometheus", &group(&[stage.alert("HighErrorRate")]))
            .await?;
        answer.is("not-allowed")?;
        let message = answer.body["alerts"][0]["message"].as_str();
        anyhow::Ok(message.unwrap_or_default().to_owned())
    };
    let message = send().await?;
    ensure!(message.contains("rollback-receiver-reader"), "{message}");
    stage.grant("rollback-receiver-reader").await?;
    // The API server takes up bindings a moment later.
    let message = testkit::eventually("it may look", PATIENCE, async || {
        let message = send().await?;
        ensure!(!message.contains("rollback-receiver-reader"), "{message}");
        Ok(message)
    })
    .await?;
    ensure!(message.contains("rollback-trigger"), "{message}");
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    stage.grant("rollback-trigger").await?;
    testkit::eventually("it may ask", PATIENCE, async || {
        let body = group(&[stage.alert("HighErrorRate")]);
        stage.deliver("prometheus", &body).await?.is("asked")
    })
    .await
}

/// A source asks in its own namespaces only, whatever the receiver may.
#[tokio::test]
async fn a_source_asks_in_its_own_namespaces_only() -> Result<()> {
    let mut stage = Stage::new("own").await?;
    let other = Stage::new("others").await?;
    let mut anywhere = stage.basic("anywhere", "alertmanager");
    anywhere["namespaces"] = json!(["*"]);
    let sources = [stage.basic("prometheus", "alertmanager"), anywhere];
    stage.start(&sources).await?;
    let foreign = group(&[alert("HighErrorRate", other.scene.ns(), "api")]);
    stage
        .deliver("prometheus", &foreign)
        .await?
        .is("not-allowed")?;
    ensure!(other.requests().await?.is_empty(), "somebody was asked");
    stage.deliver("anywhere", &foreign).await?.is("asked")?;
    other.only_request().await?;
    ensure!(
        stage.requests().await?.is_empty(),
        "somebody else was asked"
    );
    let nowhere = group(&[alert("HighErrorRate", "no-such-namespace", "api")]);
    stage.deliver("anywhere", &nowhere).await?.is("not-allowed")
}

/// What a `ServiceAccount` may in a namespace, one verb and one resource each.
async fn powers(cluster: &Cluster, kubeconfig: &Path, namespace: &str) -> Result<BTreeSet<String>> {
    let client = testkit::typed::client(cluster.config_from(kubeconfig).await?)?;
    let api: Api<SelfSubjectRulesReview> = Api::all(client);
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(namespace.to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let answer = api.create(&PostParams::default(), &review).await?;
    let rules = answer.status.context("no answer")?.resource_rules;
    let mut powers = BTreeSet::new();
    for rule in rules {
        for resource in rule.resources.unwrap_or_default() {
            powers.extend(rule.verbs.iter().map(|verb| format!("{verb} {resource}")));
        }
    }
    Ok(powers)
}

/// Where everything is granted that it may be granted, it creates requests, and nothing else at all.
#[tokio::test]
async fn it_writes_requests_and_nothing_else() -> Result<()> {
    let stage = Stage::ungranted("powers").await?;
    stage.grant("rollback-receiver-reader").await?;
    stage.grant("rollback-trigger").await?;
    // What everybody may who is known to the API server.
    stage.token("nobody", "rollback-receiver").await?;
    let (cluster, ns) = (stage.scene.cluster, stage.scene.ns());
    let nobody = cluster
        .service_account_kubeconfig(ns, "nobody", None)
        .await?;
    let everybody = powers(cluster, &nobody, ns).await?;
    let expected = BTreeSet::from(
        [
            "create rollbackrequests",
            "trigger rollbackrequests/trigger",
            "create tokenreviews",
            "get deployments",
            "list replicasets",
            "get pods",
            "get revisionledgers",
            "get rollbackrequests",
        ]
        .map(str::to_owned),
    );
    // The API server takes up bindings a moment later.
    testkit::eventually("all of it is granted", PATIENCE, async || {
        let powers = powers(cluster, &stage.kubeconfig, ns).await?;
        let own: BTreeSet<String> = powers.difference(&everybody).cloned().collect();
        ensure!(own == expected, "{own:?}");
        Ok(())
    })
    .await
}
