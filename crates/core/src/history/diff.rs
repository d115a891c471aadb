//! Everything that differs between two pod templates, as lines for a tired reader.
//!
//! A line never shows what may be a secret: no value of the environment, no header, no argument, no
//! annotation. It says that they differ; the full templates are in the backup, for those who may read it.

mod container;
mod lines;
mod volume;

use rollback_api::RESTARTED_AT;
use serde_json::Value;

use crate::history::template::Template;
use lines::{
    Lines, Side, differ, differing_names, field, keys, leaf, list, name_of, rest, said, shown,
    texts,
};

/// Fields of a pod that are told first, in this order; the others follow by name.
const POD_FIELDS: [&str; 10] = [
    "volumes",
    "serviceAccountName",
    "imagePullSecrets",
    "securityContext",
    "resources",
    "nodeSelector",
    "affinity",
    "tolerations",
    "topologySpreadConstraints",
    "priorityClassName",
];

/// Words of the pod's interface: they hold no data of anybody, so they are shown as they are.
const POD_WORDS: [&str; 7] = [
    "serviceAccount",
    "priorityClassName",
    "runtimeClassName",
    "schedulerName",
    "restartPolicy",
    "dnsPolicy",
    "preemptionPolicy",
];

/// What differs, images first. Empty if and only if the templates are equal.
pub fn changes(from: &Template, to: &Template) -> Vec<String> {
    let mut out = Lines::default();
    let (from, to) = (present(from.as_json()), present(to.as_json()));
    differ("template", from, to, &mut out, |out| {
        template(from, to, out);
    });
    out.into_lines()
}

/// What differs besides the images, which a plan names container by container.
pub fn besides_images(from: &Template, to: &Template) -> Vec<String> {
    let mut images = Lines::default();
    let spec = |template| field(present(Template::as_json(template)), "spec");
    for (key, label) in container::LISTS {
        container::images(
            label,
            field(spec(from), key),
            field(spec(to), key),
            &mut images,
        );
    }
    let images = images.into_lines();
    let mut changes = changes(from, to);
    changes.retain(|line| !images.contains(line));
    changes
}

/// A Deployment without a template has a null one.
fn present(template: &Value) -> Side<'_> {
    (!template.is_null()).then_some(template)
}

fn template(from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    let Some(names) = keys(from, to) else {
        leaf("template", from, to, false, out);
        return;
    };
    let (old, new) = (field(from, "spec"), field(to, "spec"));
    differ("spec", old, new, out, |out| spec(old, new, out));
    let (old, new) = (field(from, "metadata"), field(to, "metadata"));
    differ("metadata", old, new, out, |out| metadata(old, new, out));
    for name in names {
        if !["spec", "metadata"].contains(&name.as_str()) {
            rest("", name, field(from, name), field(to, name), out);
        }
    }
}

fn spec(from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    let Some(names) = keys(from, to) else {
        leaf("spec", from, to, false, out);
        return;
    };
    for (key, label) in container::LISTS {
        container::images(label, field(from, key), field(to, key), out);
    }
    for (key, label) in container::LISTS {
        container::details(label, field(from, key), field(to, key), out);
    }
    let told = |name: &str| {
        POD_FIELDS.contains(&name) || container::LISTS.iter().any(|(key, _)| *key == name)
    };
    let others = names
        .into_iter()
        .map(String::as_str)
        .filter(|name| !told(name));
    for name in POD_FIELDS.into_iter().chain(others) {
        let (old, new) = (field(from, name), field(to, name));
        // The deprecated twin says the same, and is told only when it does not.
        if name == "serviceAccount" && is_twin(from) && is_twin(to) {
            continue;
        }
        differ(&format!("spec.{}", shown(name)), old, new, out, |out| {
            pod_field(name, old, new, out);
        });
    }
}

/// Whether the deprecated name of the service account is the name of the service account.
fn is_twin(spec: Side<'_>) -> bool {
    field(spec, "serviceAccount") == field(spec, "serviceAccountName")
}

fn pod_field(name: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    match name {
        "volumes" => volume::volumes(from, to, out),
        "serviceAccountName" => leaf("service account", from, to, true, out),
        "imagePullSecrets" => list(
            "image pull secret",
            from,
            to,
            name_of,
            out,
            &mut |secret, old, new, out| {
                let what = format!("image pull secret {secret}");
                out.say(&format!("{what} {}", said(old, new)));
            },
        ),
        "securityContext" => differing_names("security context", from, to, out),
        "resources" => container::resources("spec.", from, to, out),
        "nodeSelector" => texts("node selector ", from, to, out),
        "affinity" | "tolerations" | "topologySpreadConstraints" => {
            out.say(&format!("{name} {}", said(from, to)));
        }
        state if POD_WORDS.contains(&state) => leaf(&format!("spec.{state}"), from, to, true, out),
        other => rest("spec.", other, from, to, out),
    }
}

fn metadata(from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    let Some(names) = keys(from, to) else {
        leaf("metadata", from, to, false, out);
        return;
    };
    for name in names {
        let (old, new) = (field(from, name), field(to, name));
        let what = format!("metadata.{}", shown(name));
        differ(&what, old, new, out, |out| match name.as_str() {
            "labels" => texts("label ", old, new, out),
            "annotations" => annotations(old, new, out),
            other => rest("metadata.", other, old, new, out),
        });
    }
}

/// Annotations by name: their values may be whole configurations, with passwords in them.
fn annotations(from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    for name in keys(from, to).into_iter().flatten() {
        let (old, new) = (field(from, name), field(to, name));
        if old == new {
            continue;
        }
        if name == RESTARTED_AT {
            out.say("restarted at differs");
        } else {
            out.say(&format!("annotation {} {}", shown(name), said(old, new)));
        }
    }
}
