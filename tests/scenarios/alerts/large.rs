//! One tenant fills a namespace with what an alert makes the receiver read. It must not take the memory of everybody.

use anyhow::{Result, ensure};
use futures::{StreamExt, TryStreamExt, stream};
use serde_json::json;
use testkit::memory::Limit;
use testkit::{User, flood};

use crate::stage::{Answered, Stage, alert, group, password, post};

/// The limit of the receiver in deploy/40-receiver.yaml.
const LIMIT: u64 = 128 << 20;
/// How many `ReplicaSets` of 1.15 MB the selector finds.
const SETS: usize = 60;
/// How many deliveries ask about them, and how many come at the same time.
const DELIVERIES: usize = 40;
const AT_ONCE: usize = 10;

/// Sends as a sender does: what is answered with 503, because the API server has too much to do, is sent again.
async fn send(url: &str, body: String) -> Result<Answered> {
    const TRIES: usize = 5;
    for _ in 1..TRIES {
        let answer = post(url, &[("authorization", &password())], body.clone()).await?;
        if answer.status != 503 {
            return Ok(answer);
        }
    }
    post(url, &[("authorization", &password())], body).await
}

#[tokio::test]
async fn a_tenant_with_large_replica_sets_takes_no_memory_of_others() -> Result<()> {
    let good = Stage::new("large-good").await?;
    let mut bad = Stage::new("large-bad").await?;
    let client = bad.scene.client(User::Admin).await?;
    flood::replica_sets(&client, bad.scene.ns(), "api", SETS, None).await?;

    let mut source = bad.basic("prometheus", "alertmanager");
    source["namespaces"] = json!([bad.scene.ns(), good.scene.ns()]);
    source["perMinute"] = json!(600);
    bad.start(&[source]).await?;
    let limit = Limit::put(bad.receiver()?.pid(), LIMIT)?;

    let url = bad.receiver()?.url("prometheus");
    let deliver = async |number: usize| {
        let mut about = alert("HighErrorRate", bad.scene.ns(), "api");
        about["fingerprint"] = json!(format!("{number:016x}"));
        let body = group(&[about]).to_string();
        send(&url, body).await
    };
    let hostile = stream::iter(0..DELIVERIES)
        .map(deliver)
        .buffer_unordered(AT_ONCE)
        .try_collect::<Vec<_>>();
    let theirs = async {
        let body = group(&[good.alert("HighErrorRate")]).to_string();
        send(&url, body).await
    };
    let (hostile, theirs) = futures::try_join!(hostile, theirs)?;
    limit.check("the receiver")?;
    theirs.is("asked")?;
    good.only_request().await?;
    // What is live is known by its name, whatever else the selector finds.
    for answer in &hostile {
        ensure!(
            ["asked", "already-asked"].contains(&answer.outcome()),
            "{answer:?}"
        );
    }
    bad.only_request().await?;
    Ok(())
}
