//! What I may do here, as the API server's authorizer says.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::Api;
use kube::api::PostParams;
use rollback_api::GROUP;

use super::Finding;
use crate::cluster::Cluster;
use crate::error::Error;
use crate::output::clean;

/// A right: verb, group, resource, subresource.
pub type Right = (&'static str, &'static str, &'static str, &'static str);

/// What somebody wants to do, what it takes, and which role has it.
struct Task {
    what: &'static str,
    takes: &'static [Right],
    role: &'static str,
}

const PATCH_DEPLOYMENTS: Right = ("patch", "apps", "deployments", "");

/// What the commands do.
const TASKS: [Task; 4] = [
    Task {
        what: "you may ask for rollbacks",
        takes: &[("create", GROUP, "rollbackrequests", ""), PATCH_DEPLOYMENTS],
        role: "rollback-requester",
    },
    Task {
        what: "you may approve and deny",
        takes: &[
            ("patch", GROUP, "rollbackrequests", ""),
            ("approve", GROUP, "rollbackrequests", "approval"),
            PATCH_DEPLOYMENTS,
        ],
        role: "rollback-approver",
    },
    Task {
        what: "you may lift a quarantine",
        takes: &[
            ("patch", GROUP, "revisionledgers", ""),
            ("approve", GROUP, "rollbackrequests", "approval"),
        ],
        role: "rollback-approver",
    },
    Task {
        what: "you may pause what comes by itself",
        takes: &[("patch", GROUP, "rollbackpolicies", "")],
        role: "rollback-policy-admin",
    },
];

/// To look is what every command needs. The rest is not everybody's business: a task that I may not do at all is no
/// fault, one that I have only a part of the rights for is.
pub async fn look(cluster: &Cluster) -> Result<Vec<Finding>, Error> {
    let me = clean(&cluster.who().await?);
    let mut findings = vec![reading(cluster, &me).await?];
    for task in &TASKS {
        findings.push(one(cluster, &me, task).await?);
    }
    Ok(findings)
}

async fn reading(cluster: &Cluster, me: &str) -> Result<Finding, Error> {
    const WHAT: &str = "you may look";
    let rights: [Right; 2] = [
        ("list", GROUP, "rollbackrequests", ""),
        ("watch", GROUP, "rollbackrequests", ""),
    ];
    let lacks = lacking(cluster, &rights).await?;
    if lacks.is_empty() {
        return Ok(Finding::ok(WHAT, format!("yes, {me}")));
    }
    let why = "every command reads the requests of the namespace";
    Ok(Finding::fault(
        WHAT,
        format!("no: {me} lacks {}", lacks.join(", ")),
        why,
        bind(cluster, me, "rollback-viewer"),
    ))
}

async fn one(cluster: &Cluster, me: &str, task: &Task) -> Result<Finding, Error> {
    let lacks = lacking(cluster, task.takes).await?;
    if lacks.is_empty() {
        return Ok(Finding::ok(task.what, "yes"));
    }
    if lacks.first().map(String::as_str) == task.takes.first().map(|it| text(*it)).as_deref() {
        return Ok(Finding::ok(
            task.what,
            format!("no; the role is {}", task.role),
        ));
    }
    let why = "part of what it takes is granted, so the command begins and is refused";
    Ok(Finding::fault(
        task.what,
        format!("no: {me} lacks {}", lacks.join(", ")),
        why,
        bind(cluster, me, task.role),
    ))
}

/// What an administrator types; `edit` has the right to patch Deployments.
fn bind(cluster: &Cluster, me: &str, role: &str) -> String {
    format!(
        "(your administrator) kubectl create rolebinding NAME -n {} --clusterrole {role} --user {}; the right to patch Deployments is in edit",
        clean(&cluster.namespace),
        rollback_core::message::shell::word(me)
    )
}

/// Those of these rights that I do not have here, in words.
pub async fn lacking(cluster: &Cluster, rights: &[Right]) -> Result<Vec<String>, Error> {
    let mut lacks = Vec::new();
    for right in rights {
        if !may(cluster, *right, None).await? {
            lacks.push(text(*right));
        }
    }
    Ok(lacks)
}

/// A right in words.
pub fn text((verb, _, resource, subresource): Right) -> String {
    match subresource {
        "" => format!("{verb} on {resource}"),
        _ => format!("{verb} on {resource}/{subresource}"),
    }
}

/// Whether I have this right here, for all objects or for the one of this name.
pub async fn may(
    cluster: &Cluster,
    (verb, group, resource, subresource): Right,
    name: Option<&str>,
) -> Result<bool, Error> {
    let attributes = ResourceAttributes {
        namespace: Some(cluster.namespace.clone()),
        verb: Some(verb.to_owned()),
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        subresource: Some(subresource.to_owned()),
        name: name.map(str::to_owned),
        ..ResourceAttributes::default()
    };
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(cluster.client.clone());
    let answer = api.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}
