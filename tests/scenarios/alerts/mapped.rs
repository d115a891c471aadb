//! From the labels of an alert to a Deployment and its version.

use anyhow::{Context as _, Result, ensure};
use rollback_api::request::Category;
use serde_json::{Value, json};
use testkit::glossary;
use testkit::shop;

use super::stage::{PROGRAM, Stage, alert, answered, group, over};

/// An alert about a pod is about the Deployment that it belongs to, and about the version that it runs.
#[tokio::test]
async fn a_pod_leads_to_its_deployment_and_says_which_version_is_bad() -> Result<()> {
    let mut stage = Stage::new("pods").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let ns = stage.scene.ns().to_owned();
    let sets = stage.scene.replica_sets("api").await?;
    let named = |version: &str| {
        let of = |set: &&Value| {
            let label = set.pointer("/spec/template/metadata/labels/app.kubernetes.io~1version");
            label == Some(&json!(version))
        };
        let set = sets.iter().find(of)?;
        set.pointer("/metadata/name")?.as_str().map(str::to_owned)
    };
    let about = |pod: String| {
        let mut alert = alert("KubePodCrashLooping", &ns, "unused");
        let labels = alert["labels"].as_object_mut();
        if let Some(labels) = labels {
            labels.remove("deployment");
            // The labels of the exporter are not what the alert is about.
            labels.insert("exported_namespace".into(), json!(ns));
            labels.insert("namespace".into(), json!("monitoring"));
            labels.insert("exported_pod".into(), json!(pod));
            labels.insert("pod".into(), json!("kube-state-metrics-5d4f8-x2x4z"));
        }
        group(&[alert])
    };
    // Neither pod needs to be there any more: what crashes comes and goes.
    let old = named("v1").context("no v1")?;
    stage
        .deliver("prometheus", &about(format!("{old}-abcde")))
        .await?
        .is("stale")?;
    let strange = stage
        .deliver("prometheus", &about("batch-abcde".to_owned()))
        .await?;
    strange.is("not-mapped")?;
    let live = named("v2").context("no v2")?;
    stage
        .deliver("prometheus", &about(format!("{live}-abcde")))
        .await?
        .is("asked")?;
    let real = stage.scene.cluster;
    let pods = [
        "get",
        "pods",
        "-n",
        &ns,
        "-o",
        "jsonpath={.items[0].metadata.name}",
    ];
    let pod = real.kubectl_ok(testkit::User::Admin, &pods, "").await?;
    stage
        .deliver("prometheus", &about(pod))
        .await?
        .is("already-asked")?;
    let request = stage.only_request().await?;
    ensure!(
        request.spec.reason.category == Category::HealthCheck,
        "{:?}",
        request.spec
    );
    Ok(())
}

/// Whoever labels an alert with our own labels is heard before all others; what was not filled in is no name.
#[tokio::test]
async fn labels_of_ours_go_before_all_others() -> Result<()> {
    let mut stage = Stage::new("labels").await?;
    stage
        .scene
        .deploy(shop::deployment("web").version("v1"))
        .await?;
    stage
        .scene
        .deploy(shop::deployment("web").version("v2"))
        .await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let mut alert = stage.alert("HighErrorRate");
    alert["labels"]["rollback_deployment"] = json!("{{ $labels.deployment }}");
    stage
        .deliver("prometheus", &group(&[alert.clone()]))
        .await?
        .is("not-mapped")?;
    alert["labels"]["rollback_deployment"] = json!("web");
    alert["labels"]["rollback_bad_image"] = json!("registry.broxiva.example/web:v1");
    stage
        .deliver("prometheus", &group(&[alert.clone()]))
        .await?
        .is("stale")?;
    alert["labels"]["rollback_bad_image"] = json!("registry.broxiva.example/web:v2");
    stage
        .deliver("prometheus", &group(&[alert]))
        .await?
        .is("asked")?;
    let request = stage.only_request().await?;
    ensure!(
        request.spec.targets[0].name.as_deref() == Some("web"),
        "{:?}",
        request.spec
    );
    Ok(())
}

/// One delivery with alerts of every kind: each is answered by itself.
#[tokio::test]
async fn each_alert_of_a_delivery_is_answered_by_itself() -> Result<()> {
    let mut stage = Stage::new("mixed").await?;
    let source = stage.basic("prometheus", "alertmanager");
    stage.start(&[source]).await?;
    let ns = stage.scene.ns().to_owned();
    let mut elsewhere = stage.alert("Elsewhere");
    elsewhere["labels"]["namespace"] = json!("kube-system");
    let alerts = [
        over(stage.alert("Over")),
        alert("Missing", &ns, "nothing"),
        elsewhere,
        stage.alert("HighErrorRate"),
        stage.alert("High5xx"),
        stage.alert("ApiIsSlow"),
    ];
    let answer = stage.deliver("prometheus", &group(&alerts)).await?;
    let outcomes: Vec<&str> = answer.body["alerts"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|answer| answer["outcome"].as_str())
        .collect();
    let expected = [
        "resolved",
        "not-mapped",
        "not-allowed",
        "asked",
        "already-asked",
        "asked",
    ];
    ensure!(answer.status == 202 && outcomes == expected, "{answer:?}");
    ensure!(
        stage.requests().await?.len() == 2,
        "not one for each category"
    );

    let client = reqwest::Client::builder().no_proxy().build()?;
    let metrics = format!("{}/metrics", stage.receiver()?.metrics_url());
    let page = answered(client.get(metrics).send().await?).await?;
    let page = page.body.as_str().context("no page")?.to_owned();
    let asked = r#"rollback_receiver_alerts_total{source="prometheus",outcome="asked"} 2"#;
    ensure!(page.contains(asked), "{page}");
    // Neither here nor in what it says of itself is a word that is gone.
    glossary::check(glossary::names_of_metrics(&page).into_iter())?;
    let help = std::process::Command::new(PROGRAM).arg("--help").output()?;
    glossary::check(glossary::names_of_help(&String::from_utf8(help.stdout)?).into_iter())?;
    Ok(())
}
