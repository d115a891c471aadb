//! This project on the cluster.

use std::time::Instant;

use serde_json::json;
use testkit::{Cluster, User, shop};

#[tokio::test]
async fn requests_are_stamped_once_it_is_installed() {
    let start = Instant::now();
    let cluster = Cluster::shared().await.unwrap();
    eprintln!("started and installed in {:?}", start.elapsed());
    // Installing again changes nothing.
    cluster.install().await.unwrap();
    let namespace = cluster.namespace("installed").await.unwrap();
    let client = cluster.client(User::Gitops).await.unwrap();
    let request = json!({
        "apiVersion": "rollback.broxiva.com/v1alpha1",
        "kind": "RollbackRequest",
        "metadata": { "name": "one" },
        "spec": {
            "targets": [{ "name": "api", "to": { "previous": {} } }],
            "reason": { "category": "ErrorRate", "summary": "5xx above 1 %" },
        },
    });
    let object = shop::apply(&client, namespace.name(), &request)
        .await
        .unwrap();
    let stamp = &object.data["spec"]["requestedBy"];
    assert_eq!(stamp["username"], User::Gitops.as_str());
}
