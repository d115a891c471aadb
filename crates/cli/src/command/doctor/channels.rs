//! Whether the Secrets of the notification channels are there, and whether the controller may read them.

use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, ResourceAttributes, SubjectAccessReviewSpec,
};
use k8s_openapi::api::core::v1::Secret;
use kube::api::PostParams;
use rollback_api::policy::{Channel, SecretKey};
use rollback_api::{POLICY_NAME, RollbackPolicy};

use super::{Finding, LEASE, SYSTEM};
use crate::cluster::Cluster;
use crate::output::clean;

const CHECK: &str = "channel";
const WHY: &str = "nobody is told through it";

/// One finding for each channel; none without any.
pub async fn look(cluster: &Cluster) -> Vec<Finding> {
    // That the policy cannot be read is said elsewhere.
    let policy = cluster.api::<RollbackPolicy>().get_opt(POLICY_NAME).await;
    let policy = policy.ok().flatten();
    let channels = policy.and_then(|policy| policy.spec.notifications);
    let mut findings = Vec::new();
    for channel in channels.iter().flat_map(|it| &it.channels) {
        findings.push(of(cluster, channel).await);
    }
    findings
}

async fn of(cluster: &Cluster, channel: &Channel) -> Finding {
    let name = clean(&channel.name);
    for key in channel.secret_keys() {
        if let Some(finding) = lacks(cluster, &name, key).await {
            return finding;
        }
    }
    let test = format!("kubectl rollback notify test {name} tries it");
    Finding::ok(CHECK, format!("{name}: its Secrets are there ({test})"))
}

/// What is wrong with a key, if anything.
async fn lacks(cluster: &Cluster, channel: &str, key: &SecretKey) -> Option<Finding> {
    let (secret, field) = (clean(&key.name), clean(&key.key));
    let namespace = clean(&cluster.namespace);
    let grant = format!(
        "kubectl create role rollback-notify -n {namespace} --verb get --resource secrets --resource-name {secret} && kubectl create rolebinding rollback-notify -n {namespace} --role rollback-notify --serviceaccount {SYSTEM}:{LEASE}"
    );
    if may_read(cluster, &key.name).await == Some(false) {
        let seen = format!("{channel}: the controller may not read the Secret {secret}");
        return Some(Finding::fault(CHECK, seen, WHY, grant));
    }
    let look = format!("kubectl get secret {secret} -n {namespace}");
    match cluster.api::<Secret>().get_opt(&key.name).await {
        Ok(Some(found)) => {
            let has = found.data.is_some_and(|data| data.contains_key(&key.key));
            let seen = || format!("{channel}: the Secret {secret} has no key {field}");
            (!has).then(|| Finding::fault(CHECK, seen(), WHY, look))
        }
        Ok(None) => {
            let seen = format!("{channel}: the Secret {secret} does not exist");
            Some(Finding::fault(CHECK, seen, WHY, look))
        }
        Err(error) => Some(Finding::unknown(CHECK, &error, look)),
    }
}

/// Whether the controller may read a Secret, when I may ask that.
async fn may_read(cluster: &Cluster, name: &str) -> Option<bool> {
    let mut review = LocalSubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(format!("system:serviceaccount:{SYSTEM}:{LEASE}")),
            resource_attributes: Some(ResourceAttributes {
                namespace: Some(cluster.namespace.clone()),
                resource: Some("secrets".to_owned()),
                name: Some(name.to_owned()),
                verb: Some("get".to_owned()),
                ..ResourceAttributes::default()
            }),
            ..SubjectAccessReviewSpec::default()
        },
        ..LocalSubjectAccessReview::default()
    };
    review.metadata.namespace = Some(cluster.namespace.clone());
    let api = cluster.api::<LocalSubjectAccessReview>();
    let answer = api.create(&PostParams::default(), &review).await.ok()?;
    Some(answer.status?.allowed)
}
