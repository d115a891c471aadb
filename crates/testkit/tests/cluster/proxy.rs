//! The proxy that breaks things.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use anyhow::ensure;
use futures::TryStreamExt;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::json;
use testkit::{
    Namespace, User, eventually,
    proxy::{Fault, Point, Proxy},
};

/// A proxy, a namespace, and `ConfigMap`s in it: through the proxy, and past it.
struct Stage {
    proxy: Proxy,
    namespace: Namespace,
    through: Api<ConfigMap>,
    past: Api<ConfigMap>,
}

async fn stage(prefix: &str) -> Stage {
    let cluster = super::bare().await;
    let namespace = cluster.namespace(prefix).await.unwrap();
    let name = namespace.name();
    let proxy = Proxy::start(&cluster.server().unwrap(), &cluster.ca().unwrap())
        .await
        .unwrap();
    let account = format!("--serviceaccount={name}:default");
    let bind = [
        "create",
        "rolebinding",
        "all",
        "--clusterrole=admin",
        &account,
        "-n",
        name,
    ];
    cluster.kubectl_ok(User::Admin, &bind, "").await.unwrap();
    let url = proxy.url();
    let file = cluster
        .service_account_kubeconfig(name, "default", Some(&url))
        .await
        .unwrap();
    let mut config = cluster.config_from(&file).await.unwrap();
    config.default_retry = false;
    let through = Api::namespaced(Client::try_from(config).unwrap(), name);
    let past = Api::namespaced(cluster.client(User::Admin).await.unwrap(), name);
    let _seen: ConfigMap = eventually("the binding works", Duration::from_secs(5), async || {
        Ok(Api::get(&through, "kube-root-ca.crt").await?)
    })
    .await
    .unwrap();
    Stage {
        proxy,
        namespace,
        through,
        past,
    }
}

fn config_map(name: &str) -> ConfigMap {
    serde_json::from_value(json!({ "metadata": { "name": name } })).unwrap()
}

impl Stage {
    async fn create(&self, name: &str) -> kube::Result<ConfigMap> {
        self.through
            .create(&PostParams::default(), &config_map(name))
            .await
    }

    async fn exists(&self, name: &str) -> bool {
        self.past.get_opt(name).await.unwrap().is_some()
    }
}

#[tokio::test]
async fn it_passes_everything_on_also_watches() {
    let stage = stage("pass").await;
    let from_now = stage.past.list(&ListParams::default()).await.unwrap();
    let version = from_now.metadata.resource_version.unwrap();
    let events = stage
        .through
        .watch(&WatchParams::default(), &version)
        .await
        .unwrap();
    let mut events = Box::pin(events);
    stage.create("one").await.unwrap();
    let event = tokio::time::timeout(Duration::from_secs(2), events.try_next()).await;
    assert!(matches!(event, Ok(Ok(Some(WatchEvent::Added(_))))));
    stage
        .through
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    let missing = stage.through.get("one").await.unwrap_err();
    assert!(matches!(missing, kube::Error::Api(status) if status.is_not_found()));

    let methods: Vec<_> = stage
        .proxy
        .mutations()
        .iter()
        .map(|m| m.method.to_string())
        .collect();
    assert_eq!(methods, ["POST", "DELETE"]);
    let path = format!("/api/v1/namespaces/{}/configmaps/one", stage.namespace);
    assert_eq!(stage.proxy.mutations()[1].path, path);
}

#[tokio::test]
async fn it_breaks_the_connection_at_the_chosen_point() {
    let stage = stage("break").await;
    let killed = Arc::new(AtomicUsize::new(0));
    let kill = || {
        let killed = Arc::clone(&killed);
        move || {
            killed.fetch_add(1, Ordering::SeqCst);
        }
    };
    stage
        .proxy
        .arm(Fault::new(2, Point::BeforeForward).run(kill()));
    stage.create("one").await.unwrap();
    stage.create("two").await.unwrap_err();
    assert!(!stage.exists("two").await);

    stage
        .proxy
        .arm(Fault::new(1, Point::AfterCommit).run(kill()));
    stage.create("three").await.unwrap_err();
    assert!(stage.exists("three").await);

    stage
        .proxy
        .arm(Fault::new(1, Point::AfterAnswer).run(kill()));
    stage.create("four").await.unwrap();
    eventually("the action has run", Duration::from_secs(2), async || {
        ensure!(killed.load(Ordering::SeqCst) == 3);
        Ok(())
    })
    .await
    .unwrap();
    stage.create("five").await.unwrap();
    assert_eq!(stage.proxy.fired(), 3);
    assert_eq!(stage.proxy.mutations().len(), 5);
}

#[tokio::test]
async fn an_answer_can_wait_for_something() {
    let stage = stage("before-answer").await;
    let past = stage.past.clone();
    let look = move || async move {
        // It is done, and the client does not know it yet.
        past.delete("one", &DeleteParams::default()).await.unwrap();
    };
    stage
        .proxy
        .arm(Fault::new(1, Point::BeforeAnswer).run_async(look));
    stage.create("one").await.unwrap();
    assert!(!stage.exists("one").await);
}

#[tokio::test]
async fn somebody_else_can_be_faster() {
    let stage = stage("aside").await;
    let past = stage.past.clone();
    let faster = move || async move {
        past.create(&PostParams::default(), &config_map("two"))
            .await
            .unwrap();
    };
    let second_creation = Fault::new(2, Point::Aside)
        .only(|mutation| mutation.path.ends_with("/configmaps"))
        .run_async(faster);
    stage.proxy.arm(second_creation);
    stage.create("one").await.unwrap();
    stage
        .through
        .delete("one", &DeleteParams::default())
        .await
        .unwrap();
    let refused = stage.create("two").await.unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.is_already_exists()));
}
