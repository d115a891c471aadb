//! What the admission policy costs that looks at versions in quarantine: writes of a Deployment in a namespace where ledgers
//! are looked at, beside the same writes in one without.

use std::time::Instant;

use anyhow::Result;
use jiff::{SignedDuration, Timestamp};
use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use rollback_api::ledger::{Quarantined, QuarantinedImage, RevisionLedgerSpec};
use rollback_api::open_enum::OrNewer;
use rollback_api::policy::Enforce;
use rollback_api::{QUARANTINE_LABEL, RevisionLedger, WorkloadRef};
use serde_json::json;
use testkit::{Cluster, Scene, User, shop};

use super::percentile;

/// How many ledgers with a quarantine the namespace has.
const LEDGERS: usize = 20;
/// How many versions are in quarantine in each.
const VERSIONS: usize = 5;

/// Changes the image of a Deployment so many times in each namespace, by turns.
pub async fn measure(cluster: &'static Cluster, writes: usize) -> Result<()> {
    // No controller runs, so nothing else writes.
    let with = Scene::on(cluster, "none", "quarantine").await?;
    let without = Scene::on(cluster, "none", "free").await?;
    for number in 0..LEDGERS {
        ledger(&with, &format!("app-{number}")).await?;
    }
    for scene in [&with, &without] {
        let parked = shop::deployment("app-0").replicas(0);
        scene.apply_deployment(parked).await?;
    }
    let mut took: [Vec<f64>; 2] = Default::default();
    for number in 0..writes {
        for (scene, times) in [&with, &without].into_iter().zip(&mut took) {
            times.push(write(scene, number).await?);
        }
    }
    println!(
        "{writes} new images of a Deployment, by turns; {LEDGERS} ledgers with {VERSIONS} versions in quarantine each, and none:"
    );
    for (name, times) in ["with ledgers", "without"].into_iter().zip(&took) {
        println!(
            "  {name:<14} median {:>6.2} ms, 99th percentile {:>6.2} ms",
            percentile(times, 50),
            percentile(times, 99)
        );
    }
    println!(
        "  ratio of the medians {:.2}",
        percentile(&took[0], 50) / percentile(&took[1], 50)
    );
    Ok(())
}

/// Milliseconds that one write takes.
async fn write(scene: &Scene, number: usize) -> Result<f64> {
    let client = scene.client(User::Admin).await?;
    let api = shop::api(&client, scene.ns(), "apps/v1", "Deployment");
    let image = format!("registry.broxiva.example/app-0:fix-{number}");
    let containers = json!([{"name": "app", "image": image}]);
    let patch = json!({"spec": {"template": {"spec": {"containers": containers}}}});
    let started = Instant::now();
    api.patch("app-0", &PatchParams::default(), &Patch::Strategic(&patch))
        .await?;
    Ok(started.elapsed().as_secs_f64() * 1000.0)
}

async fn ledger(scene: &Scene, name: &str) -> Result<()> {
    let target = WorkloadRef::deployment(name, "none");
    let until = Timestamp::now().saturating_add(SignedDuration::from_hours(1))?;
    let entry = |number: usize| Quarantined {
        digest: format!("sha256:{number:064}"),
        request: format!("request-{number}"),
        requested_by: None,
        why: "a measurement".to_owned(),
        until,
        enforce: OrNewer::Known(Enforce::Deny),
        images: vec![QuarantinedImage {
            container: "app".to_owned(),
            names: vec![format!("registry.broxiva.example/{name}:v{number}")],
        }],
        pod_spec: None,
    };
    let spec = RevisionLedgerSpec {
        quarantine: (0..VERSIONS).map(entry).collect(),
        target_ref: target.clone(),
        ..RevisionLedgerSpec::default()
    };
    let name = rollback_core::history::ledger::name_of(&target);
    let mut ledger = RevisionLedger::new(&name, spec);
    let labels = ledger.metadata.labels.get_or_insert_default();
    labels.insert(QUARANTINE_LABEL.to_owned(), "deny".to_owned());
    // The guard lets nobody else write one.
    let mut config = scene.cluster.config(User::Admin).await?;
    config.auth_info.impersonate = Some(testkit::scene::CONTROLLER.to_owned());
    let client = kube::Client::try_from(config)?;
    let api: Api<RevisionLedger> = Api::namespaced(client, scene.ns());
    api.create(&PostParams::default(), &ledger).await?;
    Ok(())
}
