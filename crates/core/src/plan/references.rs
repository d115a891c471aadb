//! What a pod template needs besides itself: objects that may have been deleted since it last ran.

use std::collections::{BTreeMap, BTreeSet};

use rollback_api::status::{Risk, RiskKind};
use serde_json::Value;

use crate::history::template::Template;
use crate::message::text::plain;

/// The `ClusterRole` that lets the controller see whether a Secret is there.
pub const PREFLIGHT_ROLE: &str = "rollback-preflight-secrets";

/// Longest sentence of [`missing`] and [`unknown`], in characters.
const LONGEST: usize = 2000;
/// Room for the list in such a sentence; the rest says what to do.
const LONGEST_LIST: usize = 1500;
/// How the pull secrets of a pod are told.
const PULL_SECRETS: &str = "imagePullSecrets";

/// Kinds that a pod template refers to by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum ReferenceKind {
    /// A `ConfigMap`.
    ConfigMap,
    /// A Secret.
    Secret,
    /// A `PersistentVolumeClaim`.
    PersistentVolumeClaim,
    /// A `ServiceAccount`.
    ServiceAccount,
    /// A `PriorityClass`; the only kind here that has no namespace.
    PriorityClass,
}

impl ReferenceKind {
    /// The kind as Kubernetes calls it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConfigMap => "ConfigMap",
            Self::Secret => "Secret",
            Self::PersistentVolumeClaim => "PersistentVolumeClaim",
            Self::ServiceAccount => "ServiceAccount",
            Self::PriorityClass => "PriorityClass",
        }
    }
}

/// One object without which pods of the template do not start.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Reference {
    /// Its kind.
    pub kind: ReferenceKind,
    /// Its name, as the template has it: see [`Reference::can_exist`].
    pub name: String,
    /// Keys that have to be in it.
    pub keys: BTreeSet<String>,
    /// What needs it, for example `container api env DB_URL`.
    pub used_by: BTreeSet<String>,
}

impl Reference {
    /// Whether an object may have this name at all. The API server does not check all names inside a
    /// template; one that no object can have is never put into the path of a read.
    pub fn can_exist(&self) -> bool {
        is_subdomain(&self.name)
    }

    /// Whether the kubelet goes on without it: nodes that have the image, or may pull it by
    /// themselves, start the pod nevertheless.
    fn is_only_pull_secret(&self) -> bool {
        !self.used_by.is_empty() && self.used_by.iter().all(|user| user == PULL_SECRETS)
    }

    /// `Secret db (container api env DB_URL)`
    fn told(&self, keys: &[String]) -> String {
        let keys = match keys {
            [] => String::new(),
            keys => format!("key {} of ", listed(keys.iter().map(String::as_str), 5)),
        };
        format!(
            "{keys}{} {} ({})",
            self.kind.as_str(),
            plain(&self.name, 63),
            listed(self.used_by.iter().map(String::as_str), 3)
        )
    }
}

/// What was found in the place of a reference.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Presence {
    /// It is there, with all keys.
    Present,
    /// It is not there.
    Missing,
    /// It is there, without these keys.
    MissingKeys(Vec<String>),
    /// It could not be looked at, and why.
    Unknown(String),
}

/// Whether text is the name of an object: a DNS-1123 subdomain.
pub fn is_subdomain(name: &str) -> bool {
    let is_label = |label: &str| {
        !label.is_empty()
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label
                .bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
    };
    name.len() <= 253 && name.split('.').all(is_label)
}

/// Everything that pods of the template cannot start without, sorted by kind and name.
pub fn references(template: &Template) -> Vec<Reference> {
    let mut found = Found::default();
    let Some(spec) = template.as_json().get("spec") else {
        return Vec::new();
    };
    for (list, label) in [
        ("containers", "container"),
        ("initContainers", "init container"),
        ("ephemeralContainers", "ephemeral container"),
    ] {
        for container in items(spec, list) {
            let user = format!("{label} {}", plain(text(container, "name"), 63));
            of_container(container, &user, &mut found);
        }
    }
    for volume in items(spec, "volumes") {
        let user = format!("volume {}", plain(text(volume, "name"), 63));
        of_volume(volume, &user, &mut found);
    }
    of_pod(spec, &mut found);
    found.into_references()
}

/// References by kind and name: keys, and users.
#[derive(Default)]
struct Found(BTreeMap<(ReferenceKind, String), (BTreeSet<String>, BTreeSet<String>)>);

impl Found {
    fn add(&mut self, kind: ReferenceKind, name: &str, user: &str) {
        self.add_keys(kind, name, user, []);
    }

    fn add_keys<'a>(
        &mut self,
        kind: ReferenceKind,
        name: &str,
        user: &str,
        keys: impl IntoIterator<Item = &'a str>,
    ) {
        // Without a name there is nothing that could be missing.
        if name.is_empty() {
            return;
        }
        let (all_keys, users) = self.0.entry((kind, name.to_owned())).or_default();
        let keys = keys.into_iter().filter(|key| !key.is_empty());
        all_keys.extend(keys.map(str::to_owned));
        users.insert(user.to_owned());
    }

    fn into_references(self) -> Vec<Reference> {
        self.0
            .into_iter()
            .map(|((kind, name), (keys, used_by))| Reference {
                kind,
                name,
                keys,
                used_by,
            })
            .collect()
    }
}

fn text<'a>(value: &'a Value, field: &str) -> &'a str {
    value.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn items<'a>(value: &'a Value, field: &str) -> impl Iterator<Item = &'a Value> {
    value
        .get(field)
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
}

/// Pods start without what is optional.
fn is_optional(source: &Value) -> bool {
    source.get("optional").and_then(Value::as_bool) == Some(true)
}

fn of_container(container: &Value, user: &str, found: &mut Found) {
    for variable in items(container, "env") {
        let user = format!("{user} env {}", plain(text(variable, "name"), 100));
        for (field, kind) in [
            ("configMapKeyRef", ReferenceKind::ConfigMap),
            ("secretKeyRef", ReferenceKind::Secret),
        ] {
            let source = variable.get("valueFrom").and_then(|from| from.get(field));
            if let Some(source) = source.filter(|source| !is_optional(source)) {
                found.add_keys(kind, text(source, "name"), &user, [text(source, "key")]);
            }
        }
    }
    for entry in items(container, "envFrom") {
        for (field, kind) in [
            ("configMapRef", ReferenceKind::ConfigMap),
            ("secretRef", ReferenceKind::Secret),
        ] {
            if let Some(source) = entry.get(field).filter(|source| !is_optional(source)) {
                found.add(kind, text(source, "name"), &format!("{user} envFrom"));
            }
        }
    }
}

fn of_volume(volume: &Value, user: &str, found: &mut Found) {
    let kinds = volume.as_object().into_iter().flatten();
    for (kind, source) in kinds {
        match kind.as_str() {
            "configMap" => mounted(ReferenceKind::ConfigMap, source, "name", user, found),
            "secret" => mounted(ReferenceKind::Secret, source, "secretName", user, found),
            "projected" => {
                for part in items(source, "sources") {
                    if let Some(part) = part.get("configMap") {
                        mounted(ReferenceKind::ConfigMap, part, "name", user, found);
                    }
                    if let Some(part) = part.get("secret") {
                        mounted(ReferenceKind::Secret, part, "name", user, found);
                    }
                }
            }
            "persistentVolumeClaim" => {
                let name = text(source, "claimName");
                found.add(ReferenceKind::PersistentVolumeClaim, name, user);
            }
            "azureFile" => found.add(ReferenceKind::Secret, text(source, "secretName"), user),
            // cephfs, cinder, flexVolume, iscsi, rbd, scaleIO, storageos and csi name their Secret in
            // one of these two fields, and so will the next kind.
            _ => {
                for field in ["secretRef", "nodePublishSecretRef"] {
                    if let Some(secret) = source.get(field) {
                        found.add(ReferenceKind::Secret, text(secret, "name"), user);
                    }
                }
            }
        }
    }
}

/// A ConfigMap or a Secret as files; only the listed keys, if there is a list.
fn mounted(kind: ReferenceKind, source: &Value, name: &str, user: &str, found: &mut Found) {
    if !is_optional(source) {
        let keys = items(source, "items").map(|item| text(item, "key"));
        found.add_keys(kind, text(source, name), user, keys);
    }
}

fn of_pod(spec: &Value, found: &mut Found) {
    let account = match text(spec, "serviceAccountName") {
        "" => text(spec, "serviceAccount"),
        name => name,
    };
    // Each namespace has the default one, made anew when it is deleted.
    if account != "default" {
        found.add(
            ReferenceKind::ServiceAccount,
            account,
            "the identity of the pods",
        );
    }
    let class = text(spec, "priorityClassName");
    found.add(
        ReferenceKind::PriorityClass,
        class,
        "the priority of the pods",
    );
    for secret in items(spec, PULL_SECRETS) {
        found.add(ReferenceKind::Secret, text(secret, "name"), PULL_SECRETS);
    }
}

/// One sentence about what is missing, if anything is that pods do not start without.
pub fn missing(seen: &[(Reference, Presence)]) -> Option<String> {
    let gone: Vec<String> = seen
        .iter()
        .filter_map(|(reference, presence)| match presence {
            Presence::Missing if reference.is_only_pull_secret() => None,
            Presence::Missing => Some(reference.told(&[])),
            Presence::MissingKeys(keys) => Some(reference.told(keys)),
            Presence::Present | Presence::Unknown(_) => None,
        })
        .collect();
    (!gone.is_empty()).then(|| {
        let sentence = format!(
            "The old version needs what is not there any more: {}. \
             Create it again, or choose another version in a new request.",
            enumerated(&gone)
        );
        plain(&sentence, LONGEST)
    })
}

/// What could not be looked at, and missing pull secrets, which not every node needs.
pub fn unknown(seen: &[(Reference, Presence)]) -> Option<Risk> {
    let mut unseen = Vec::new();
    let mut pull_secrets = Vec::new();
    let mut secrets = false;
    for (reference, presence) in seen {
        match presence {
            Presence::Unknown(why) => {
                secrets |= reference.kind == ReferenceKind::Secret;
                unseen.push(format!("{}: {}", reference.told(&[]), plain(why, 200)));
            }
            Presence::Missing if reference.is_only_pull_secret() => {
                pull_secrets.push(plain(&reference.name, 63));
            }
            Presence::Present | Presence::Missing | Presence::MissingKeys(_) => {}
        }
    }
    let mut sentences = Vec::new();
    if !unseen.is_empty() {
        sentences.push(format!(
            "Whether the old version finds all it needs is not known. Not looked at: {}.",
            enumerated(&unseen)
        ));
    }
    if secrets {
        sentences.push(format!(
            "The ClusterRole {PREFLIGHT_ROLE}, bound in this namespace, lets the controller look at Secrets."
        ));
    }
    if !pull_secrets.is_empty() {
        sentences.push(format!(
            "Missing pull secrets: {}; nodes that do not have the image cannot pull it with them.",
            listed(pull_secrets.iter().map(String::as_str), 5)
        ));
    }
    (!sentences.is_empty()).then(|| Risk {
        kind: RiskKind::References,
        message: plain(&sentences.join(" "), LONGEST),
        blocks: false,
    })
}

/// The first few, and how many more there are.
fn listed<'a>(names: impl Iterator<Item = &'a str>, most: usize) -> String {
    let names: Vec<&str> = names.collect();
    let mut told: Vec<String> = names.iter().take(most).map(|n| plain(n, 130)).collect();
    if names.len() > most {
        told.push(format!("{} more", names.len() - most));
    }
    told.join(", ")
}

/// As many as there is room for, and how many more there are.
fn enumerated(all: &[String]) -> String {
    let mut told = String::new();
    for (index, one) in all.iter().enumerate() {
        if told.chars().count() + one.chars().count() > LONGEST_LIST && index > 0 {
            return format!("{told}; and {} more", all.len() - index);
        }
        if index > 0 {
            told.push_str("; ");
        }
        told.push_str(one);
    }
    plain(&told, LONGEST_LIST)
}
