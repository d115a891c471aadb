//! Who may do what, and what the API server remembers of it.

use serde_json::{Value, json};
use testkit::{
    User,
    shop::{self, deployment},
};

#[tokio::test]
async fn everybody_is_known_by_name_uid_and_groups() {
    let cluster = super::bare().await;
    for user in User::ALL {
        let args = ["auth", "whoami", "-o", "json"];
        let answer = cluster.kubectl_ok(user, &args, "").await.unwrap();
        let answer: Value = serde_json::from_str(&answer).unwrap();
        let info = &answer["status"]["userInfo"];
        assert_eq!(info["username"], user.as_str());
        assert_eq!(info["uid"], user.uid());
        for group in user.groups() {
            assert!(info["groups"].as_array().unwrap().contains(&json!(group)));
        }
    }
}

#[tokio::test]
async fn the_audit_log_says_who_did_what() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("people").await.unwrap();
    let name = namespace.name();
    let rita = cluster.client(User::Requester).await.unwrap();
    let olga = cluster.client(User::Outsider).await.unwrap();
    let object = deployment("api").replicas(0).build();
    shop::apply(&rita, name, &object).await.unwrap();
    shop::apply(&olga, name, &object).await.unwrap_err();
    let kubectl = ["-n", name, "annotate", "deployment", "api", "a=b"];
    cluster
        .kubectl_ok(User::Approver, &kubectl, "")
        .await
        .unwrap();

    let audit = cluster.audit().unwrap();
    let patches = audit.deployment_patches(name, "api").unwrap();
    let users: Vec<&str> = patches.iter().map(|event| &*event.user).collect();
    assert_eq!(users, [User::Requester.as_str(), User::Approver.as_str()]);
    assert!(patches[1].user_agent.starts_with("kubectl"));
    let body = patches[1].request_object.as_ref().unwrap();
    assert_eq!(body["metadata"]["annotations"]["a"], "b");

    let refused = audit.events(name).unwrap();
    let refused = refused
        .iter()
        .find(|event| event.user == User::Outsider.as_str());
    assert_eq!(refused.unwrap().code, 403);
}

#[tokio::test]
async fn a_service_account_gets_a_kubeconfig_and_its_reads_are_counted() {
    let cluster = super::bare().await;
    let namespace = cluster.namespace("account").await.unwrap();
    let name = namespace.name();
    let kubeconfig = cluster
        .service_account_kubeconfig(name, "default", None)
        .await
        .unwrap();
    let config = cluster.config_from(&kubeconfig).await.unwrap();
    let client = kube::Client::try_from(config).unwrap();
    let pods = shop::api(&client, name, "v1", "Pod");
    let refused = pods
        .list(&kube::api::ListParams::default())
        .await
        .unwrap_err();
    assert!(matches!(refused, kube::Error::Api(status) if status.is_forbidden()));

    let account = format!("system:serviceaccount:{name}:default");
    let events = cluster.audit().unwrap().events_of_user(&account).unwrap();
    let reads: Vec<_> = events
        .iter()
        .map(|event| (&*event.verb, event.code))
        .collect();
    assert_eq!(reads, [("list", 403)]);
}
