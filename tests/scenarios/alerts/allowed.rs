//! What the receiver may do, and what it says where it may not.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result, ensure};
use k8s_openapi::api::authorization::v1::{SelfSubjectRulesReview, SelfSubjectRulesReviewSpec};
use kube::api::PostParams;
use kube::{Api, Client};
use serde_json::json;

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
    let message = testkit::eventually("it may look", testkit::scene::PATIENCE, async || {
        let message = send().await?;
        ensure!(!message.contains("rollback-receiver-reader"), "{message}");
        Ok(message)
    })
    .await?;
    ensure!(message.contains("rollback-trigger"), "{message}");
    ensure!(stage.requests().await?.is_empty(), "somebody was asked");
    stage.grant("rollback-trigger").await?;
    testkit::eventually("it may ask", testkit::scene::PATIENCE, async || {
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

/// Where everything is granted that it may be granted, it creates requests, and nothing else at all.
#[tokio::test]
async fn it_writes_requests_and_nothing_else() -> Result<()> {
    let stage = Stage::ungranted("powers").await?;
    stage.grant("rollback-receiver-reader").await?;
    stage.grant("rollback-trigger").await?;
    let config = stage.scene.cluster.config_from(&stage.kubeconfig).await?;
    let client = Client::try_from(config)?;
    let api: Api<SelfSubjectRulesReview> = Api::all(client);
    let review = SelfSubjectRulesReview {
        spec: SelfSubjectRulesReviewSpec {
            namespace: Some(stage.scene.ns().to_owned()),
        },
        ..SelfSubjectRulesReview::default()
    };
    let rules = testkit::eventually(
        "all of it is granted",
        testkit::scene::PATIENCE,
        async || {
            let answer = api.create(&PostParams::default(), &review).await?;
            let rules = answer.status.context("no answer")?.resource_rules;
            let trigger = |rule: &k8s_openapi::api::authorization::v1::ResourceRule| {
                rule.verbs.iter().any(|verb| verb == "trigger")
            };
            ensure!(rules.iter().any(trigger), "not yet");
            Ok(rules)
        },
    )
    .await?;
    let mut writes = BTreeSet::new();
    let mut reads = BTreeSet::new();
    for rule in rules {
        for resource in rule.resources.unwrap_or_default() {
            for verb in &rule.verbs {
                let is_read = ["get", "list", "watch"].contains(&verb.as_str());
                let power = format!("{verb} {resource}");
                if is_read { &mut reads } else { &mut writes }.insert(power);
            }
        }
    }
    // The reviews of oneself are what everybody may who is known.
    let expected = BTreeSet::from(
        [
            "create rollbackrequests",
            "trigger rollbackrequests/trigger",
            "create tokenreviews",
            "create selfsubjectaccessreviews",
            "create selfsubjectreviews",
            "create selfsubjectrulesreviews",
        ]
        .map(str::to_owned),
    );
    ensure!(writes == expected, "{writes:?}");
    let expected = BTreeSet::from(
        [
            "get deployments",
            "list replicasets",
            "get pods",
            "get revisionledgers",
        ]
        .map(str::to_owned),
    );
    ensure!(reads == expected, "{reads:?}");
    Ok(())
}
