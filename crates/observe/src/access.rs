//! Whether those who ask and approve may do by themselves what they have done here.

use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec, SubjectAccessReview,
    SubjectAccessReviewSpec,
};
use kube::api::PostParams;
use kube::{Api, Client};
use rollback_api::Identity;
use rollback_api::status::Approval;
use rollback_api::{GROUP, RollbackRequest};
use rollback_core::approval::consent;
use rollback_core::observed::Access;
use rollback_reads::identity;

use super::{Error, reading};

/// Who we are, as the API server knows us.
///
/// # Errors
/// It does not say.
pub async fn who_am_i(client: &Client) -> Result<Identity, Error> {
    reading("who we are", identity::who_am_i(client).await)
}

/// One question to the authorizer: whether somebody holds one of these permissions.
struct Question<'a> {
    who: &'a Identity,
    any_of: Vec<ResourceAttributes>,
    what: String,
}

/// Whether everybody involved may patch all Deployments of the namespace, so that nobody has to be asked about each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Everywhere {
    /// All of them may.
    Allowed,
    /// Somebody may not; perhaps some Deployments by name.
    NotAll,
    /// It is about one Deployment only.
    NotAsked,
}

/// Asks without naming a Deployment.
pub async fn everywhere(
    client: &Client,
    request: &RollbackRequest,
    namespace: &str,
) -> Result<Everywhere, Error> {
    let status = request.status.as_ref();
    let approvals = status.map(consent::approvals).unwrap_or_default();
    Ok(
        match access(client, request, &approvals, namespace, None).await? {
            Access::Allowed => Everywhere::Allowed,
            Access::Denied { .. } => Everywhere::NotAll,
        },
    )
}

/// Asks for the requester and each of those who approved; about all Deployments without a name.
pub async fn access(
    client: &Client,
    request: &RollbackRequest,
    approvals: &[&Approval],
    namespace: &str,
    deployment: Option<&str>,
) -> Result<Access, Error> {
    let requester = request
        .spec
        .requested_by
        .iter()
        .map(|who| ask_for(who, request, namespace, deployment));
    // Where the policy approved, who asked answers for it.
    let people = approvals.iter().filter(|approval| !approval.automatic);
    let approvers = people.flat_map(|approval| {
        let how = if approval.break_glass.is_some() {
            Verb::BreakGlass
        } else {
            Verb::Approve
        };
        [
            patch(&approval.by, namespace, deployment),
            hold(&approval.by, how, namespace, request),
        ]
    });
    let questions: Vec<Question> = requester.chain(approvers).collect();
    let asked: Vec<_> = questions
        .iter()
        .map(|question| ask(client, question))
        .collect();
    let answers = futures::future::try_join_all(asked).await?;
    let denied = questions.iter().zip(answers).find(|(_, allowed)| !allowed);
    Ok(
        denied.map_or(Access::Allowed, |(question, _)| Access::Denied {
            who: question.who.username.clone(),
            what: question.what.clone(),
        }),
    )
}

/// Whether the namespace lets this controller patch Deployments.
pub async fn opted_in(client: &Client, namespace: &str) -> Result<bool, Error> {
    may(
        client,
        attributes("apps", "deployments", "patch", namespace),
    )
    .await
}

/// Whether the namespace lets this controller keep ledgers.
pub async fn may_keep_ledgers(client: &Client, namespace: &str) -> Result<bool, Error> {
    may(
        client,
        attributes(GROUP, "revisionledgers", "create", namespace),
    )
    .await
}

pub(super) async fn may(client: &Client, attributes: ResourceAttributes) -> Result<bool, Error> {
    let review = SelfSubjectAccessReview {
        spec: SelfSubjectAccessReviewSpec {
            resource_attributes: Some(attributes),
            ..SelfSubjectAccessReviewSpec::default()
        },
        ..SelfSubjectAccessReview::default()
    };
    let api: Api<SelfSubjectAccessReview> = Api::all(client.clone());
    let answer = reading(
        "our own permissions",
        api.create(&PostParams::default(), &review).await,
    )?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// Permissions that stand for themselves: there is no endpoint behind them.
#[derive(Clone, Copy, Debug)]
enum Verb {
    Approve,
    BreakGlass,
    Expedite,
    Trigger,
}

impl Verb {
    fn as_str(self) -> &'static str {
        match self {
            Self::Approve => "approve",
            Self::BreakGlass => "break-glass",
            Self::Expedite => "expedite",
            Self::Trigger => "trigger",
        }
    }

    fn subresource(self) -> &'static str {
        match self {
            Self::Approve => "approval",
            Self::BreakGlass => "break-glass",
            Self::Expedite => "expedite",
            Self::Trigger => "trigger",
        }
    }

    /// For one request, or for all of the namespace.
    fn attributes(self, namespace: &str, request: Option<&RollbackRequest>) -> ResourceAttributes {
        ResourceAttributes {
            name: request.and_then(|request| request.metadata.name.clone()),
            subresource: Some(self.subresource().to_owned()),
            ..attributes(GROUP, "rollbackrequests", self.as_str(), namespace)
        }
    }
}

/// Whether the requester may ask for more urgency than the category has.
pub async fn may_expedite(
    client: &Client,
    request: &RollbackRequest,
    namespace: &str,
) -> Result<bool, Error> {
    let Some(who) = &request.spec.requested_by else {
        return Ok(false);
    };
    let question = Question {
        who,
        any_of: vec![Verb::Expedite.attributes(namespace, None)],
        what: String::new(),
    };
    ask(client, &question).await
}

/// Whether we may ask for more urgency than the category has.
pub async fn may_i_expedite(client: &Client, namespace: &str) -> Result<bool, Error> {
    may(client, Verb::Expedite.attributes(namespace, None)).await
}

fn patching(namespace: &str, deployment: Option<&str>) -> ResourceAttributes {
    ResourceAttributes {
        name: deployment.map(str::to_owned),
        ..attributes("apps", "deployments", "patch", namespace)
    }
}

fn patch<'a>(who: &'a Identity, namespace: &str, deployment: Option<&str>) -> Question<'a> {
    Question {
        who,
        any_of: vec![patching(namespace, deployment)],
        what: deployment.map_or_else(
            || "patch deployments.apps".to_owned(),
            |name| format!("patch deployments.apps/{name}"),
        ),
    }
}

/// Who asks may do it by hand, or may trigger rollbacks, as the receiver of alerts. A request that came by itself needs
/// the latter, for its source; one for an image that never ran here the former.
fn ask_for<'a>(
    who: &'a Identity,
    request: &RollbackRequest,
    namespace: &str,
    deployment: Option<&str>,
) -> Question<'a> {
    let trigger = |source: Option<&str>| ResourceAttributes {
        name: source.map(str::to_owned),
        ..Verb::Trigger.attributes(namespace, None)
    };
    if let Some(asked) = &request.spec.trigger {
        return Question {
            who,
            any_of: vec![trigger(Some(&asked.source))],
            what: format!(
                "trigger rollbackrequests/trigger for source {}",
                asked.source
            ),
        };
    }
    let mut question = patch(who, namespace, deployment);
    if !is_for_new_image(request) {
        question.any_of.push(trigger(None));
    }
    question
}

/// Whether it may end with an image that no revision has: that is another program, and not a way back.
fn is_for_new_image(request: &RollbackRequest) -> bool {
    let images = request.spec.targets.iter().map(|target| &target.to.image);
    images.flatten().any(|image| image.allow_new)
}

fn hold<'a>(
    who: &'a Identity,
    verb: Verb,
    namespace: &str,
    request: &RollbackRequest,
) -> Question<'a> {
    Question {
        who,
        any_of: vec![verb.attributes(namespace, Some(request))],
        what: format!("{} rollbackrequests/{}", verb.as_str(), verb.subresource()),
    }
}

fn attributes(group: &str, resource: &str, verb: &str, namespace: &str) -> ResourceAttributes {
    ResourceAttributes {
        group: Some(group.to_owned()),
        resource: Some(resource.to_owned()),
        verb: Some(verb.to_owned()),
        namespace: Some(namespace.to_owned()),
        ..ResourceAttributes::default()
    }
}

/// An empty name is nobody: asking for it would be asking for somebody else.
async fn ask(client: &Client, question: &Question<'_>) -> Result<bool, Error> {
    if question.who.username.is_empty() {
        return Ok(false);
    }
    for attributes in &question.any_of {
        if review(client, question.who, attributes).await? {
            return Ok(true);
        }
    }
    Ok(false)
}

async fn review(
    client: &Client,
    who: &Identity,
    attributes: &ResourceAttributes,
) -> Result<bool, Error> {
    let review = SubjectAccessReview {
        spec: SubjectAccessReviewSpec {
            user: Some(who.username.clone()),
            uid: who.uid.clone(),
            groups: Some(who.groups.clone()),
            resource_attributes: Some(attributes.clone()),
            ..SubjectAccessReviewSpec::default()
        },
        ..SubjectAccessReview::default()
    };
    let api: Api<SubjectAccessReview> = Api::all(client.clone());
    let answer = reading(
        "the permissions of the people involved",
        api.create(&PostParams::default(), &review).await,
    )?;
    Ok(answer
        .status
        .is_some_and(|status| status.allowed && status.denied != Some(true)))
}
