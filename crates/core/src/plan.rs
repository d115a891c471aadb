//! The plan: resolved once, from live reads, into identities.

use jiff::Timestamp;
use rollback_api::request::{Category, From, Target};
use rollback_api::status::{GuardPolicy, Outcome, Plan, PlannedTarget, Rules};
use rollback_api::{Reason, RollbackPolicySpec, RollbackRequest, Word};
use serde_json::json;

use crate::history::{Choice, History};
use crate::observed::{Deployment, Observed, Seen};
use crate::template::{self, Template};
use crate::text::plain;
use crate::{ledger, time};

/// Annotation with which the Deployment's own controller is told to roll back.
const LEGACY_ROLLBACK: &str = "deprecated.deployment.rollback.to";

/// Most notes about a target that a status takes.
const MAX_NOTES: usize = 16;
/// Most image changes of a target that a status takes.
const MAX_IMAGES: usize = 50;

/// An end of the request, decided at `at`.
pub fn end(word: Word, reason: Reason, message: impl Into<String>, at: Timestamp) -> Outcome {
    Outcome {
        word,
        reason,
        message: message.into(),
        by: None,
        at,
    }
}

/// The rules in force. Without a policy those of production.
pub fn rules(policy: Option<&RollbackPolicySpec>) -> Rules {
    let policy = policy.cloned().unwrap_or_default();
    Rules {
        environment: policy.environment,
        confirm_phrase: policy
            .approvals
            .confirm_phrase
            .unwrap_or_else(|| policy.environment.confirm_phrase().to_owned()),
        approvals_required: policy.approvals.required,
        four_eyes: policy.environment.four_eyes(),
        rollout_timeout_seconds: policy.rollout.timeout_seconds,
        verification_timeout_seconds: policy.verification.timeout_seconds,
        http: policy.verification.http,
    }
}

/// The digest that an approval binds to: who asks (the request's UID), under which rules and guard,
/// and exactly which template of which Deployment becomes which other one. Not the generation, so
/// that an autoscaler may work while a person thinks.
pub fn digest(
    request_uid: &str,
    rules: &Rules,
    guard: &[GuardPolicy],
    targets: &[PlannedTarget],
) -> String {
    let targets: Vec<_> = targets
        .iter()
        .map(|target| {
            json!({
                "uid": target.uid,
                "from": target.from_digest,
                "replicaSet": target.replica_set_uid,
                "to": target.to_digest,
            })
        })
        .collect();
    template::digest(&json!({
        "request": request_uid,
        "rules": rules,
        "guard": guard,
        "targets": targets,
    }))
}

/// The name of the Deployment that the request is about, as long as there is exactly one.
pub fn target_name(request: &RollbackRequest) -> Option<&str> {
    let [target] = request.spec.targets.as_slice() else {
        return None;
    };
    target.name.as_deref()
}

/// Makes the plan, or says how the request ends instead.
///
/// # Errors
/// The end of the request: it cannot or must not be done, or there is nothing to do.
pub fn make(
    request: &RollbackRequest,
    observed: &Observed,
    now: Timestamp,
) -> Result<Plan, Outcome> {
    let target = supported_target(request, now)?;
    let deployment = usable_deployment(request, observed, now)?;
    not_done_before(request, observed, deployment, now)?;
    let current = deployment.template();
    bad_is_live(target.from.as_ref(), &current, now)?;
    let planned = resolve(target, deployment, &current, observed, now)?;
    let not_after = expiry(request, observed, now);
    if not_after <= now {
        return Err(end(
            Word::Expired,
            Reason::NotApprovedInTime,
            format!(
                "The time to approve ended at {}, before there was a plan: see spec.notAfter of the request and approvals.expireAfterSeconds of the policy. \
                 Nothing was changed. If the rollback is still wanted, create a new RollbackRequest with another name and more time.",
                time::stamp(not_after)
            ),
            now,
        ));
    }
    let rules = rules(observed.policy.found());
    let targets = vec![planned];
    Ok(Plan {
        digest: digest(uid(request), &rules, &observed.guard.present, &targets),
        planned_at: now,
        not_after,
        rules,
        guard: observed.guard.present.clone(),
        targets,
    })
}

/// The same plan under the rules, guard and request that are there now, when they differ from those
/// it was made under. What to do is never resolved again.
pub fn renewed(
    plan: &Plan,
    request: &RollbackRequest,
    observed: &Observed,
    now: Timestamp,
) -> Option<Plan> {
    let rules = rules(observed.policy.found());
    let digest = digest(uid(request), &rules, &observed.guard.present, &plan.targets);
    (digest != plan.digest).then(|| Plan {
        digest,
        planned_at: now,
        not_after: expiry(request, observed, now),
        rules,
        guard: observed.guard.present.clone(),
        targets: plan.targets.clone(),
    })
}

/// The end of a request that nobody approved in time.
pub fn expired(not_after: Timestamp, now: Timestamp) -> Outcome {
    end(
        Word::Expired,
        Reason::NotApprovedInTime,
        format!(
            "Nobody approved before {}. Nothing was changed. If the rollback is still wanted, create a new RollbackRequest with another name.",
            time::stamp(not_after)
        ),
        now,
    )
}

fn uid(request: &RollbackRequest) -> &str {
    request.metadata.uid.as_deref().unwrap_or_default()
}

/// The earlier of the request's own limit and the policy's.
fn expiry(request: &RollbackRequest, observed: &Observed, now: Timestamp) -> Timestamp {
    let created = request
        .metadata
        .creation_timestamp
        .as_ref()
        .map_or(now, |created| created.0);
    let seconds = observed
        .policy
        .found()
        .cloned()
        .unwrap_or_default()
        .approvals
        .expire_after_seconds;
    let by_policy = time::after(created, i64::from(seconds));
    request
        .spec
        .not_after
        .map_or(by_policy, |own| own.min(by_policy))
}

fn refused(reason: Reason, message: impl Into<String>, now: Timestamp) -> Outcome {
    end(Word::Refused, reason, message, now)
}

fn supported_target(request: &RollbackRequest, now: Timestamp) -> Result<&Target, Outcome> {
    let unsupported = |message: &str| Err(refused(Reason::Unsupported, message, now));
    let [target] = request.spec.targets.as_slice() else {
        return unsupported(
            "spec.targets: this version rolls back one Deployment per request. Create one RollbackRequest for each.",
        );
    };
    if target.kind != "Deployment" {
        return unsupported(
            "spec.targets[0].kind: only a Deployment can be rolled back. For a StatefulSet or DaemonSet use kubectl rollout undo.",
        );
    }
    if target.name.is_none() {
        return unsupported(
            "spec.targets[0]: this version finds a Deployment by its name only. Set name, and create one RollbackRequest for each Deployment.",
        );
    }
    if request.spec.reason.category == Category::Feature {
        return Err(refused(
            Reason::HotfixForward,
            "spec.reason.category: the decision matrix fixes a broken non-critical feature forward and does not roll back for it. \
             If customers are affected, create a new request with the category that says how.",
            now,
        ));
    }
    Ok(target)
}

fn usable_deployment<'a>(
    request: &RollbackRequest,
    observed: &'a Observed,
    now: Timestamp,
) -> Result<&'a Deployment, Outcome> {
    let name = plain(target_name(request).unwrap_or_default(), 253);
    if observed.opted_in == Seen::Found(false) {
        return Err(refused(
            Reason::NamespaceNotOptedIn,
            "This namespace does not let the rollback controller change Deployments. \
             An administrator opts it in by a RoleBinding of the ClusterRole rollback-executor to the controller's ServiceAccount.",
            now,
        ));
    }
    let Some(deployment) = observed.deployment.found() else {
        return Err(refused(
            Reason::DeploymentNotFound,
            format!(
                "spec.targets[0].name: there is no Deployment {name} in this namespace. Check the name and the namespace with kubectl get deployments."
            ),
            now,
        ));
    };
    blocked(deployment, now).map_or(Ok(deployment), Err)
}

/// Why this Deployment must not be touched now.
pub fn blocked(deployment: &Deployment, now: Timestamp) -> Option<Outcome> {
    let name = deployment.name();
    if deployment.is_deleting() {
        return Some(refused(
            Reason::DeploymentDeleting,
            format!("Deployment {name} is being deleted. There is nothing to roll back."),
            now,
        ));
    }
    if deployment.is_paused() {
        return Some(refused(
            Reason::Paused,
            format!(
                "Deployment {name} is paused, so a rollback would not roll out. Resume it with kubectl rollout resume deployment/{name}, then create a new request."
            ),
            now,
        ));
    }
    deployment.annotation(LEGACY_ROLLBACK).map(|_| {
        refused(
            Reason::LegacyRollback,
            format!(
                "Deployment {name} carries the annotation {LEGACY_ROLLBACK}: its own controller is about to roll it back. Wait until the annotation is gone or remove it, then create a new request."
            ),
            now,
        )
    })
}

fn not_done_before(
    request: &RollbackRequest,
    observed: &Observed,
    deployment: &Deployment,
    now: Timestamp,
) -> Result<(), Outcome> {
    let Some(done) = ledger::already_done(observed.ledger.found(), deployment.uid(), request)
    else {
        return Ok(());
    };
    Err(end(
        Word::Succeeded,
        Reason::AlreadyRolledBack,
        format!(
            "A request with this name and content rolled back {} on {} and ended as {}; creating it again does nothing. \
             To roll back once more, create a request with another name.",
            deployment.name(),
            time::stamp(done.at),
            done.outcome.as_str(),
        ),
        now,
    ))
}

fn bad_is_live(from: Option<&From>, current: &Template, now: Timestamp) -> Result<(), Outcome> {
    let (what, live) = match from {
        None => return Ok(()),
        Some(From {
            template_digest: Some(digest),
            ..
        }) => (format!("template {digest}"), *digest == current.digest()),
        Some(From {
            image: Some(image), ..
        }) => (
            format!("image {}", plain(image, 200)),
            current.images().values().any(|live| live == image),
        ),
        Some(From {
            template_digest: None,
            image: None,
        }) => {
            return Err(refused(
                Reason::Unsupported,
                "spec.targets[0].from: say what is bad by templateDigest or by image, or leave from out.",
                now,
            ));
        }
    };
    if live {
        return Ok(());
    }
    Err(end(
        Word::Superseded,
        Reason::NotLive,
        format!(
            "The bad version ({what}) does not run any more, so there is nothing to roll back. Nothing was changed."
        ),
        now,
    ))
}

fn resolve(
    target: &Target,
    deployment: &Deployment,
    current: &Template,
    observed: &Observed,
    now: Timestamp,
) -> Result<PlannedTarget, Outcome> {
    let history = History::of(deployment.uid(), &observed.replica_sets);
    let bad = ledger::bad_templates(observed.ledger.found(), deployment.uid());
    let name = deployment.name();
    match history.choose(&target.to, current, &bad) {
        Choice::Revision {
            revision,
            mut notes,
        } => {
            let mut images = template::image_changes(current, &revision.template);
            let (unsaid, hidden) = (
                notes.len().saturating_sub(MAX_NOTES - 2),
                images.len().saturating_sub(MAX_IMAGES),
            );
            images.truncate(MAX_IMAGES);
            if unsaid > 0 {
                notes.truncate(MAX_NOTES - 2);
                notes.push(format!("{unsaid} more revisions were skipped"));
            }
            if hidden > 0 {
                notes.push(format!("{hidden} more containers change their image"));
            }
            Ok(PlannedTarget {
                name: name.to_owned(),
                uid: deployment.uid().to_owned(),
                from_digest: current.digest(),
                from_revision: history.holding(current).and_then(|running| running.number),
                to_revision: revision.number.unwrap_or_default(),
                to_digest: revision.template.digest(),
                replica_set: revision.replica_set.clone(),
                replica_set_uid: revision.uid.clone(),
                images,
                notes,
            })
        }
        Choice::Current(which) => Err(end(
            Word::Succeeded,
            Reason::NoOp,
            format!("Deployment {name} already runs {which}. Nothing was changed."),
            now,
        )),
        Choice::Equivalent(which) => Err(end(
            Word::Succeeded,
            Reason::Equivalent,
            format!(
                "Deployment {name} already runs {which}; the two differ only by a kubectl rollout restart. Nothing was changed."
            ),
            now,
        )),
        Choice::None(reason, message) => Err(refused(reason, message, now)),
    }
}
