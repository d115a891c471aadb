//! Fake pods under the real controllers.

use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use kube::{Client, api::ListParams};
use serde_json::{Value, json};
use testkit::{
    User, eventually,
    health::{Answer, HEALTH_PORT, HealthServer},
    shop::{self, BEHAVIOUR, Behaviour, deployment},
};

const SOON: Duration = Duration::from_secs(10);

async fn pods(client: &Client, namespace: &str, app: &str) -> Result<Vec<Value>> {
    let selector = ListParams::default().labels(&format!("app.kubernetes.io/name={app}"));
    let pods = shop::api(client, namespace, "v1", "Pod")
        .list(&selector)
        .await?;
    Ok(pods.items.into_iter().map(|pod| pod.data).collect())
}

fn is_ready(pod: &Value) -> bool {
    let conditions = pod["status"]["conditions"].as_array();
    conditions
        .into_iter()
        .flatten()
        .any(|condition| condition["type"] == "Ready" && condition["status"] == "True")
}

#[tokio::test]
async fn the_real_deployment_controller_rolls_out_on_fake_nodes() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("rollout").await.unwrap();
    let client = cluster.client(User::Requester).await.unwrap();
    for version in ["v1", "v2"] {
        let start = Instant::now();
        let object = deployment("api")
            .version(version)
            .pod_ip("127.9.8.7")
            .build();
        shop::apply(&client, namespace.name(), &object)
            .await
            .unwrap();
        shop::wait_available(&client, namespace.name(), "api")
            .await
            .unwrap();
        eprintln!("{version} rolled out in {:?}", start.elapsed());
    }
    let sets = shop::api(&client, namespace.name(), "apps/v1", "ReplicaSet");
    let sets = sets.list(&ListParams::default()).await.unwrap();
    assert_eq!(sets.items.len(), 2);
    for pod in pods(&client, namespace.name(), "api").await.unwrap() {
        if pod["metadata"]["deletionTimestamp"].is_null() {
            assert_eq!(pod["status"]["podIP"], "127.9.8.7");
        }
    }
}

#[tokio::test]
async fn pods_behave_as_they_are_told() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("behave").await.unwrap();
    let name = namespace.name();
    let client = cluster.client(User::Requester).await.unwrap();
    let kinds = [
        Behaviour::NeverReady,
        Behaviour::Crash,
        Behaviour::ImagePull,
    ];
    for kind in kinds {
        let object = deployment(kind.as_str())
            .replicas(1)
            .behaviour(kind)
            .progress_deadline(3);
        shop::apply(&client, name, &object.build()).await.unwrap();
    }
    eventually("restarts rise in CrashLoopBackOff", SOON, async || {
        let pods = pods(&client, name, "crash").await?;
        let status = &pods.first().unwrap_or(&Value::Null)["status"]["containerStatuses"][0];
        ensure!(
            status["state"]["waiting"]["reason"] == "CrashLoopBackOff",
            "{status}"
        );
        ensure!(status["restartCount"].as_i64() >= Some(3), "{status}");
        ensure!(
            status["lastState"]["terminated"]["exitCode"] == 1,
            "{status}"
        );
        Ok(())
    })
    .await
    .unwrap();
    let stuck = &pods(&client, name, "image-pull").await.unwrap()[0]["status"];
    assert_eq!(
        stuck["containerStatuses"][0]["state"]["waiting"]["reason"],
        "ImagePullBackOff"
    );
    assert_eq!(stuck["phase"], "Pending");
    // By now the never-ready one had seconds of time to become ready after all.
    let idle = &pods(&client, name, "never-ready").await.unwrap()[0];
    assert_eq!(idle["status"]["phase"], "Running");
    assert!(!is_ready(idle));
    let deployments = shop::api(&client, name, "apps/v1", "Deployment");
    eventually("its rollout is called failed", SOON, async || {
        let status = deployments.get("never-ready").await?.data["status"].take();
        ensure!(
            status.to_string().contains("ProgressDeadlineExceeded"),
            "{status}"
        );
        Ok(())
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn living_pods_fall_ill_and_recover() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("ill").await.unwrap();
    let name = namespace.name();
    let client = cluster.client(User::Requester).await.unwrap();
    let object = deployment("api")
        .ready_after(Duration::from_millis(700))
        .build();
    let start = Instant::now();
    shop::apply(&client, name, &object).await.unwrap();
    shop::wait_available(&client, name, "api").await.unwrap();
    assert!(start.elapsed() > Duration::from_millis(700));
    for (behaviour, ready) in [
        (Behaviour::NeverReady, 0),
        (Behaviour::Ready, 2),
        (Behaviour::Crash, 0),
        (Behaviour::Ready, 2),
    ] {
        let annotations = [(BEHAVIOUR, behaviour.as_str())];
        shop::annotate_pods(&client, name, "api", &annotations)
            .await
            .unwrap();
        eventually(&format!("{ready} pods are ready"), SOON, async || {
            let pods = pods(&client, name, "api").await?;
            let found = pods.iter().filter(|pod| is_ready(pod)).count();
            ensure!(found == ready, "{found} are");
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn jobs_end_well_or_badly() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("jobs").await.unwrap();
    let client = cluster.client(User::Requester).await.unwrap();
    for (behaviour, outcome) in [(Behaviour::Ready, "Complete"), (Behaviour::Fail, "Failed")] {
        let job = json!({
            "apiVersion": "batch/v1", "kind": "Job", "metadata": { "name": behaviour.as_str() },
            "spec": { "backoffLimit": 0, "template": {
                "metadata": { "annotations": { BEHAVIOUR: behaviour.as_str() } },
                "spec": {
                    "restartPolicy": "Never",
                    "containers": [{ "name": "check", "image": "check:v1" }],
                    "tolerations": [shop::fake_node_toleration()],
                },
            } },
        });
        shop::apply(&client, namespace.name(), &job).await.unwrap();
        let jobs = shop::api(&client, namespace.name(), "batch/v1", "Job");
        eventually(outcome, SOON, async || {
            let status = jobs.get(behaviour.as_str()).await?.data["status"].take();
            ensure!(
                status["conditions"].to_string().contains(outcome),
                "{status}"
            );
            Ok(())
        })
        .await
        .unwrap();
    }
}

#[tokio::test]
async fn a_pod_answers_at_its_address() {
    let server = HealthServer::start().await.unwrap();
    let other = HealthServer::start().await.unwrap();
    assert_ne!(server.ip(), other.ip());
    server.answer_at(
        "/health/ready",
        Answer::status(503).with_body("no database"),
    );
    let ask = async |path: &str| {
        let mut socket = tokio::net::TcpStream::connect((server.ip(), HEALTH_PORT)).await?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: pod\r\nconnection: close\r\n\r\n");
        tokio::io::AsyncWriteExt::write_all(&mut socket, request.as_bytes()).await?;
        let mut answer = String::new();
        tokio::io::AsyncReadExt::read_to_string(&mut socket, &mut answer).await?;
        anyhow::Ok(answer)
    };
    assert!(
        ask("/health/live")
            .await
            .unwrap()
            .starts_with("HTTP/1.1 200")
    );
    let ready = ask("/health/ready").await.unwrap();
    assert!(ready.starts_with("HTTP/1.1 503") && ready.ends_with("no database"));
    assert_eq!(server.paths(), ["/health/live", "/health/ready"]);
    assert_eq!(other.count(), 0);
}

#[tokio::test]
async fn a_template_may_hold_a_field_that_is_newer_than_our_types() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("newer").await.unwrap();
    let client = cluster.client(User::Requester).await.unwrap();
    let responders = json!([{ "name": "shop.broxiva.com/drain", "priority": 1000 }]);
    let object = deployment("api")
        .set("/spec/template/spec/evictionResponders", responders.clone())
        .build();
    shop::apply(&client, namespace.name(), &object)
        .await
        .unwrap();
    let deployment = shop::wait_available(&client, namespace.name(), "api")
        .await
        .unwrap();
    let spec = &deployment.data["spec"]["template"]["spec"];
    assert_eq!(spec["evictionResponders"], responders);
}
