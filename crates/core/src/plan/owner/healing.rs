//! Whether the owner of a Deployment undoes a rollback by itself.

use std::collections::BTreeMap;

use rollback_api::hold::{MAX_HOLDS, PlannedHold};
use rollback_api::policy::SelfHealing;
use rollback_api::status::{Risk, RiskKind};
use serde_json::Value;

use super::writers::Returns;
use super::{
    FLUX_HELM, FLUX_KUSTOMIZE, LAST_APPLIED, Owner, annotation, argo_name, is_managed_by, label,
    pause_command, text,
};
use crate::hold;
use crate::hold::plan::HoldRead;
use crate::message::shell;
use crate::message::text::plain;
use crate::observed::fetched::Fetched;
use crate::observed::workload::Deployment;

/// Longest message about owners, in characters.
const LONGEST: usize = 2000;

/// Whether an owner undoes a rollback by itself, with the reason as a sentence.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Healing {
    /// The rollback holds until somebody does something.
    No(String),
    /// The bad version comes back by itself.
    Yes(String),
    /// Not known.
    Unknown(String),
}

impl Healing {
    /// The reason.
    pub fn sentence(&self) -> &str {
        match self {
            Self::No(sentence) | Self::Yes(sentence) | Self::Unknown(sentence) => sentence,
        }
    }

    /// Whether the rollback may be undone without anybody doing anything. Unknown is no no.
    pub fn may_undo(&self) -> bool {
        match self {
            Self::No(_) => false,
            Self::Yes(_) | Self::Unknown(_) => true,
        }
    }
}

/// Whether the owner undoes a rollback of this Deployment; `object` is what [`super::lookup`] names.
pub fn healing(owner: &Owner, deployment: &Deployment, object: &Fetched<Value>) -> Healing {
    let who = owner.told();
    match owner {
        Owner::ArgoCd { .. } => argo(&who, deployment, object),
        Owner::FluxKustomization { .. } => kustomization(&who, deployment, object),
        Owner::FluxHelmRelease { .. } => helm_release(&who, deployment, object),
        Owner::Helm { .. } => {
            let next = if is_managed_by(&deployment.0, &["helm"], Some("Apply")) {
                "the next helm upgrade meets a conflict on what the rollback wrote, and with --force-conflicts"
            } else {
                "the next helm upgrade"
            };
            Healing::No(format!(
                "{who} owns the Deployment: {next} brings the bad version back unless the chart or its values name another."
            ))
        }
        Owner::Kubectl => {
            let next = if annotation(&deployment.0, LAST_APPLIED).is_empty() {
                "the next one meets a conflict on what the rollback wrote, and with --force-conflicts"
            } else {
                "the next one"
            };
            Healing::No(format!(
                "The Deployment was made with kubectl apply: {next} brings the bad version back unless the manifest names another."
            ))
        }
        Owner::Olm { .. } => Healing::Yes(format!(
            "{who} owns the Deployment and writes it back as soon as it differs."
        )),
        Owner::Known { writer, .. } => {
            let (returns, when) = writer.returns();
            let sentence = format!("{who} applies the Deployment: {when}.");
            match returns {
                Returns::Yes => Healing::Yes(sentence),
                Returns::No => Healing::No(sentence),
                Returns::Depends => Healing::Unknown(sentence),
            }
        }
        Owner::Operator { .. } => Healing::Unknown(format!(
            "{who} controls the Deployment; whether its operator writes it back is not known."
        )),
    }
}

/// Whether a label or an annotation has a value, as Flux compares them.
fn is_marked(object: &Value, key: &str, value: &str) -> bool {
    label(object, key).eq_ignore_ascii_case(value)
        || annotation(object, key).eq_ignore_ascii_case(value)
}

fn is_true(object: &Value, pointer: &str) -> bool {
    object.pointer(pointer).and_then(Value::as_bool) == Some(true)
}

/// Whether an object of Flux lists the Deployment among what it applied; nothing where it has no list.
fn lists(object: &Value, deployment: &Deployment) -> Option<bool> {
    let entries = object.pointer("/status/inventory/entries")?.as_array()?;
    let namespace = text(&deployment.0, "/metadata/namespace");
    let id = format!("{namespace}_{}_apps_Deployment", deployment.name());
    Some(entries.iter().any(|entry| text(entry, "/id") == id))
}

/// The object of Flux behind the marks, or what is to be said without it.
fn flux<'a>(
    who: &str,
    deployment: &Deployment,
    object: &'a Fetched<Value>,
) -> Result<&'a Value, Healing> {
    let object = match object {
        Fetched::Found(object) => object,
        Fetched::Absent => {
            return Err(Healing::No(format!(
                "The Deployment has the marks of {who}, which is not in this cluster any more."
            )));
        }
        Fetched::Unknown => {
            return Err(Healing::Unknown(format!(
                "{who} owns the Deployment and could not be read; whether it writes the Deployment back is not known."
            )));
        }
    };
    if lists(object, deployment) == Some(false) {
        return Err(Healing::No(format!(
            "The Deployment has the marks of {who}, which does not list it among what it applied."
        )));
    }
    if is_true(object, "/spec/suspend") {
        return Err(Healing::No(format!(
            "{who} is suspended; when it is resumed, it brings the bad version back unless Git names another."
        )));
    }
    Ok(object)
}

fn kustomization(who: &str, deployment: &Deployment, object: &Fetched<Value>) -> Healing {
    for (key, value) in [("reconcile", "disabled"), ("ssa", "Ignore")] {
        let key = format!("{FLUX_KUSTOMIZE}/{key}");
        if is_marked(&deployment.0, &key, value) {
            return Healing::No(format!(
                "{who} leaves the Deployment alone as long as it has {key}: {value}."
            ));
        }
    }
    let object = match flux(who, deployment, object) {
        Ok(object) => object,
        Err(answer) => return answer,
    };
    let interval = match text(object, "/spec/interval") {
        "" => "interval".to_owned(),
        interval => plain(interval, 20),
    };
    Healing::Yes(format!(
        "{who} applies what is in Git every {interval} and brings the bad version back."
    ))
}

fn helm_release(who: &str, deployment: &Deployment, object: &Fetched<Value>) -> Healing {
    let object = match flux(who, deployment, object) {
        Ok(object) => object,
        Err(answer) => return answer,
    };
    let next =
        "its next upgrade brings the bad version back unless the chart or its values name another";
    let ignored = format!("{FLUX_HELM}/driftDetection");
    if is_marked(&deployment.0, &ignored, "disabled") {
        return Healing::No(format!(
            "{who} does not correct the Deployment as long as it has {ignored}: disabled; {next}."
        ));
    }
    match object.pointer("/spec/driftDetection/mode") {
        Some(Value::String(mode)) if mode == "enabled" => Healing::Yes(format!(
            "{who} corrects drift and brings the bad version back at its next interval."
        )),
        Some(Value::String(mode)) if mode == "disabled" || mode == "warn" || mode.is_empty() => {
            Healing::No(format!("{who} does not correct drift; {next}."))
        }
        None | Some(Value::Null) => Healing::No(format!("{who} does not correct drift; {next}.")),
        Some(_) => Healing::Unknown(format!(
            "{who} has a mode of drift detection that is not known here; it may bring the bad version back."
        )),
    }
}

fn argo(who: &str, deployment: &Deployment, object: &Fetched<Value>) -> Healing {
    let object = match object {
        Fetched::Found(object) => object,
        // Applications may be anywhere, in another cluster as well, so absence proves nothing.
        Fetched::Absent | Fetched::Unknown => {
            return Healing::Unknown(format!(
                "{who} owns the Deployment and could not be read; whether it heals itself is not known."
            ));
        }
    };
    if tracks(object, deployment) == Some(false) {
        return Healing::Unknown(format!(
            "The Deployment has the marks of {who}, which does not list it; whether another one heals it is not known."
        ));
    }
    if annotation(object, "argocd.argoproj.io/skip-reconcile") == "true" {
        return Healing::No(format!("{who} is not reconciled (skip-reconcile)."));
    }
    let later = "the next sync brings the bad version back unless Git names another";
    let automated = match object.pointer("/spec/syncPolicy/automated") {
        None | Some(Value::Null) => {
            return Healing::No(format!("{who} is not synced automatically; {later}."));
        }
        Some(automated) => automated,
    };
    match (automated.get("enabled"), automated.get("selfHeal")) {
        (Some(Value::Bool(false)), _) => Healing::No(format!(
            "The automatic sync of {who} is switched off; {later}."
        )),
        (_, Some(Value::Bool(true))) => Healing::Yes(format!(
            "{who} heals itself and brings the bad version back within seconds."
        )),
        (_, None | Some(Value::Null | Value::Bool(false))) => Healing::No(format!(
            "{who} does not heal itself, but syncs the next commit, even an unrelated one, and with it the bad version unless Git names another."
        )),
        (_, Some(_)) => Healing::Unknown(format!(
            "Whether {who} heals itself cannot be read from its sync policy."
        )),
    }
}

/// Whether an Application lists the Deployment among its resources; nothing where it has no list.
fn tracks(application: &Value, deployment: &Deployment) -> Option<bool> {
    let resources = application.pointer("/status/resources")?.as_array()?;
    let namespace = text(&deployment.0, "/metadata/namespace");
    Some(resources.iter().any(|resource| {
        text(resource, "/group") == "apps"
            && text(resource, "/kind") == "Deployment"
            && text(resource, "/namespace") == namespace
            && text(resource, "/name") == deployment.name()
    }))
}

/// What the owners of a Deployment mean for a plan.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Assessed {
    /// A risk for each owner.
    pub risks: Vec<Risk>,
    /// How those are held that would undo the rollback.
    pub holds: Vec<PlannedHold>,
    /// The refusal (what it is about, and what to do), if an owner undoes the rollback, or may, and neither is held nor
    /// only warned of.
    pub refusal: Option<(String, String)>,
}

/// What the owners mean for the plan; `read` is what was read to know whether each can be held.
pub fn assess(
    deployment: &Deployment,
    owners_seen: &[(Owner, Fetched<Value>)],
    read: &BTreeMap<Owner, HoldRead>,
    on: SelfHealing,
) -> Assessed {
    let mut risks = Vec::new();
    let mut holds = Vec::new();
    let mut undoing = Vec::new();
    let mut commands = Vec::new();
    for (owner, object) in owners_seen {
        let healing = healing(owner, deployment, object);
        let mut message = healing.sentence().to_owned();
        message.push_str(promoted(owner, object));
        if healing.may_undo() && on == SelfHealing::Hold {
            let read = read.get(owner).cloned().unwrap_or_default();
            match hold::plan::planned(owner, deployment, object, &read) {
                Ok(hold) if holds.len() < MAX_HOLDS => {
                    let message = format!("{message} {}", hold::plan::told(&hold));
                    holds.push(hold);
                    risks.push(Risk {
                        kind: RiskKind::Owner,
                        message: plain(&message, LONGEST),
                        blocks: false,
                    });
                    continue;
                }
                Ok(_) => {}
                Err(why) => message = format!("{message} {why}"),
            }
        }
        if healing.may_undo() {
            let command = pause_command(owner, deployment)
                .filter(|_| may_be_printed(owner, deployment, object));
            if command.is_none() {
                message = format!("{message} {}", advice(owner));
            }
            undoing.push(message.clone());
            // A command comes last, so that nothing is pasted with it.
            if let Some(command) = command {
                message = format!("{message} Put it on hold with: {command}");
                commands.push(command);
            }
        }
        risks.push(Risk {
            kind: RiskKind::Owner,
            message: plain(&message, LONGEST),
            blocks: false,
        });
    }
    let refusal = (on != SelfHealing::Warn && !undoing.is_empty()).then(|| {
        let how = match commands.as_slice() {
            [] => ".".to_owned(),
            commands => format!(": {}", commands.join(" ; ")),
        };
        let what = format!(
            "A rollback of Deployment {} may not hold. {}",
            plain(deployment.name(), 253),
            plain(&undoing.join(" "), 1000),
        );
        let next = format!("Put the owner on hold, then create a new request{how}");
        (what, plain(&next, LONGEST))
    });
    Assessed {
        risks,
        holds,
        refusal,
    }
}

/// What a promotion of Kargo does, which syncs by itself.
fn promoted(owner: &Owner, object: &Fetched<Value>) -> &'static str {
    let is_promoted =
        |object: &Value| !annotation(object, "kargo.akuity.io/authorized-stage").is_empty();
    match (owner, object.found()) {
        (Owner::ArgoCd { .. }, Some(object)) if is_promoted(object) => {
            " A promotion of Kargo syncs it, whether its automatic sync is on or off, and may bring the bad version back."
        }
        (_, _) => "",
    }
}

/// Whether an owner is known to apply the Deployment, and not only named by marks that anybody can set.
pub fn is_listed(owner: &Owner, deployment: &Deployment, object: &Fetched<Value>) -> bool {
    let Some(found) = object.found() else {
        return false;
    };
    let own = text(&deployment.0, "/metadata/namespace");
    match owner {
        Owner::ArgoCd { .. } => tracks(found, deployment) == Some(true),
        // One without a list, from before there were lists, holds only what is in its own namespace.
        Owner::FluxHelmRelease { namespace, .. } => {
            lists(found, deployment).unwrap_or(namespace == own)
        }
        // What is written is the Deployment itself.
        Owner::FluxKustomization { .. } => true,
        Owner::Helm { .. }
        | Owner::Kubectl
        | Owner::Olm { .. }
        | Owner::Known { .. }
        | Owner::Operator { .. } => false,
    }
}

/// Whether a command that stops this owner may be pasted by whoever reads it. The marks are labels and annotations, which
/// anybody can set who may write the Deployment: they must not choose whose owner in another namespace is switched off.
/// What is proof is the list that the owner keeps itself.
fn may_be_printed(owner: &Owner, deployment: &Deployment, object: &Fetched<Value>) -> bool {
    let own = text(&deployment.0, "/metadata/namespace");
    let listed = |lists: fn(&Value, &Deployment) -> Option<bool>| {
        object.found().and_then(|object| lists(object, deployment)) == Some(true)
    };
    match owner {
        Owner::ArgoCd { namespace, .. } => namespace.as_deref() == Some(own) || listed(tracks),
        Owner::FluxHelmRelease { namespace, .. } => namespace == own || listed(lists),
        // Their commands are about the Deployment itself.
        Owner::FluxKustomization { .. }
        | Owner::Helm { .. }
        | Owner::Kubectl
        | Owner::Olm { .. }
        | Owner::Known { .. }
        | Owner::Operator { .. } => true,
    }
}

/// How to keep an owner from undoing the rollback when no command does, or none that may be printed: then with one that
/// only looks.
fn advice(owner: &Owner) -> String {
    let look = |command: String| {
        format!(
            "Its marks can be set by anybody who may write the Deployment, so see first whether it lists the Deployment ({command}), and have it put on hold only then."
        )
    };
    match owner {
        Owner::ArgoCd {
            application,
            namespace,
        } => look(format!(
            "argocd app resources {}",
            argo_name(application, namespace.as_deref())
        )),
        Owner::FluxHelmRelease { namespace, name } => look(format!(
            "kubectl get helmrelease {} -n {} -o yaml",
            shell::name(name, "HELMRELEASE"),
            shell::name(namespace, "NAMESPACE")
        )),
        Owner::Olm { .. } => {
            "No command pauses it; change the version in its Subscription instead.".to_owned()
        }
        Owner::Operator { .. } => {
            "Pause the operator, or change the version in the object that it reads.".to_owned()
        }
        Owner::Known { writer, .. } => writer.advice().to_owned(),
        Owner::FluxKustomization { .. } | Owner::Helm { .. } | Owner::Kubectl => {
            "Keep it from running.".to_owned()
        }
    }
}
