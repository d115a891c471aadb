//! What differs between the containers of two pod templates.

use serde_json::Value;

use super::lines::{
    Lines, Side, arrow, differ, differing_names, field, keyed, keys, leaf, list, name_of, rest,
    said, shown, text, texts,
};
use crate::message::text::plain;

/// The lists of containers of a pod, and what one of them is called.
pub(super) const LISTS: [(&str, &str); 3] = [
    ("containers", "container"),
    ("initContainers", "init container"),
    ("ephemeralContainers", "ephemeral container"),
];

/// Fields that are told first, in this order; the others follow by name.
const FIELDS: [&str; 13] = [
    "env",
    "envFrom",
    "resources",
    "livenessProbe",
    "readinessProbe",
    "startupProbe",
    "lifecycle",
    "ports",
    "command",
    "args",
    "volumeMounts",
    "volumeDevices",
    "securityContext",
];

/// Words of the container's interface: they hold no data of anybody.
const WORDS: [&str; 3] = [
    "imagePullPolicy",
    "restartPolicy",
    "terminationMessagePolicy",
];

/// The containers that come, go, or have another image.
pub(super) fn images(label: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    for (name, (old, new)) in keyed(from, to, name_of).into_iter().flatten() {
        let what = what(label, &name);
        match (old.as_slice(), new.as_slice()) {
            ([], [only]) => out.say(&format!("{what} added{}", with_image(only))),
            ([only], []) => out.say(&format!("{what} removed{}", with_image(only))),
            ([old], [new]) => image(&what, old.get("image"), new.get("image"), out),
            // Told as a whole with the details.
            _ => {}
        }
    }
}

fn what(label: &str, name: &str) -> String {
    format!("{label} {}", plain(name, 63))
}

fn with_image(container: &Value) -> String {
    match text(container, "image") {
        "" => String::new(),
        image => format!(" (image {})", tail(image, 100)),
    }
}

fn image(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    let what = format!("{what}: image");
    match (from.and_then(Value::as_str), to.and_then(Value::as_str)) {
        (Some(old), Some(new)) if old != new => {
            let each = (194_usize.saturating_sub(what.chars().count())) / 2;
            arrow(&what, &tail(old, each), &tail(new, each), out);
        }
        _ => leaf(&what, from, to, true, out),
    }
}

/// The end of a long image name: the tag and the digest are what a reader looks for.
fn tail(image: &str, limit: usize) -> String {
    let length = image.chars().count();
    if length <= limit {
        return image.to_owned();
    }
    let skipped = length.saturating_sub(limit.saturating_sub(1));
    format!("…{}", image.chars().skip(skipped).collect::<String>())
}

/// Everything else that differs between containers of the same name.
pub(super) fn details(label: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    if from == to {
        return;
    }
    let Some(groups) = keyed(from, to, name_of) else {
        out.say(&format!("{label}s {}", said(from, to)));
        return;
    };
    if from.is_some() && to.is_some() && groups.values().all(|(old, new)| old == new) {
        out.say(&format!("{label}s: the order changed"));
    }
    for (name, (old, new)) in groups {
        let what = what(label, &name);
        match (old.as_slice(), new.as_slice()) {
            ([], [_]) | ([_], []) => {}
            ([old], [new]) => container(&what, old, new, out),
            (old, new) if old == new => {}
            _ => out.say(&format!("{what} changed")),
        }
    }
}

fn container(what: &str, from: &Value, to: &Value, out: &mut Lines) {
    let (from, to) = (Some(from), Some(to));
    let Some(names) = keys(from, to) else {
        leaf(what, from, to, false, out);
        return;
    };
    let others = names
        .into_iter()
        .map(String::as_str)
        .filter(|name| *name != "image" && !FIELDS.contains(name));
    let prefix = format!("{what}: ");
    for name in FIELDS.into_iter().chain(others) {
        let (old, new) = (field(from, name), field(to, name));
        let place = format!("{prefix}{}", shown(name));
        differ(&place, old, new, out, |out| {
            container_field(&prefix, name, old, new, out);
        });
    }
}

fn container_field(prefix: &str, name: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    match name {
        "env" => env(&format!("{prefix}env"), from, to, out),
        "envFrom" => env_from(&format!("{prefix}envFrom"), from, to, out),
        "resources" => resources(prefix, from, to, out),
        "livenessProbe" | "readinessProbe" | "startupProbe" => {
            probe(&format!("{prefix}{name}"), from, to, out);
        }
        "lifecycle" => handler(prefix, name, from, to, out),
        "ports" => ports(&format!("{prefix}port"), from, to, out),
        "command" | "args" => out.say(&format!("{prefix}{name} changed")),
        "volumeMounts" => mounts(&format!("{prefix}volume mount"), from, to, out),
        "securityContext" => {
            differing_names(&format!("{prefix}security context"), from, to, out);
        }
        state if WORDS.contains(&state) => leaf(&format!("{prefix}{state}"), from, to, true, out),
        other => rest(prefix, other, from, to, out),
    }
}

/// Names of variables and of what they are read from; never a value.
fn env(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    list(what, from, to, name_of, out, &mut |name, old, new, out| {
        let (before, after) = (old.map(source), new.map(source));
        let source = match (before, after) {
            (Some(before), Some(after)) if before != after => format!(": {before} -> {after}"),
            (Some(_), Some(_)) | (None, None) => String::new(),
            (Some(one), None) | (None, Some(one)) if one == LITERAL => {
                // That a value is a value need not be said.
                String::new()
            }
            (Some(one), None) | (None, Some(one)) => format!(" ({one})"),
        };
        out.say(&format!("{what} {name} {}{source}", said(old, new)));
    });
}

const LITERAL: &str = "a value";

/// What a variable is read from.
fn source(variable: &Value) -> String {
    let Some(from) = variable.get("valueFrom") else {
        return LITERAL.to_owned();
    };
    for (field, kind) in [("configMapKeyRef", "ConfigMap"), ("secretKeyRef", "Secret")] {
        if let Some(key) = from.get(field) {
            return format!(
                "{kind} {} key {}",
                plain(text(key, "name"), 63),
                plain(text(key, "key"), 40)
            );
        }
    }
    if from.get("fieldRef").is_some() || from.get("resourceFieldRef").is_some() {
        return "a field of the pod".to_owned();
    }
    "another source".to_owned()
}

fn env_from(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    list(what, from, to, origin, out, &mut |name, old, new, out| {
        out.say(&format!("{what} {name} {}", said(old, new)));
    });
}

fn origin(entry: &Value) -> String {
    for (field, kind) in [("configMapRef", "ConfigMap"), ("secretRef", "Secret")] {
        if let Some(reference) = entry.get(field) {
            return format!("{kind} {}", text(reference, "name"));
        }
    }
    "of another kind".to_owned()
}

/// Requests and limits with their values.
pub(super) fn resources(prefix: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    for name in keys(from, to).into_iter().flatten() {
        let (old, new) = (field(from, name), field(to, name));
        let path = format!("{prefix}{}", shown(name));
        differ(&path, old, new, out, |out| match name.as_str() {
            "limits" | "requests" => texts(&format!("{path}."), old, new, out),
            other => rest(&format!("{prefix}resources."), other, old, new, out),
        });
    }
}

fn probe(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    match (from, to) {
        (Some(_), Some(_)) => {
            for name in keys(from, to).into_iter().flatten() {
                let (old, new) = (field(from, name), field(to, name));
                handler(&format!("{what}."), name, old, new, out);
            }
        }
        (Some(only), None) | (None, Some(only)) => {
            out.say(&format!("{what} {}{}", said(from, to), target(only)));
        }
        (None, None) => {}
    }
}

/// What a probe asks, in a few words.
fn target(probe: &Value) -> String {
    for kind in ["httpGet", "tcpSocket", "grpc"] {
        if let Some(action) = probe.get(kind) {
            let port = match action.get("port") {
                Some(Value::Number(number)) => number.to_string(),
                Some(Value::String(name)) => shown(name),
                Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => {
                    String::new()
                }
            };
            return format!(
                " ({kind} port {port}{})",
                shown(without_query(text(action, "path")))
            );
        }
    }
    match probe.get("exec") {
        Some(_) => " (a command)".to_owned(),
        None => String::new(),
    }
}

/// A query may carry a token.
fn without_query(path: &str) -> &str {
    path.split_once(['?', '#']).map_or(path, |(path, _)| path)
}

/// A part of a probe or of a lifecycle hook.
fn handler(prefix: &str, name: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    let path = plain(&format!("{prefix}{}", shown(name)), 160);
    differ(&path, from, to, out, |out| match (name, from, to) {
        ("port" | "scheme", _, _) => leaf(&path, from, to, true, out),
        ("path", _, _) => match (from.and_then(Value::as_str), to.and_then(Value::as_str)) {
            (Some(old), Some(new)) => {
                let (old, new) = (shown(without_query(old)), shown(without_query(new)));
                arrow(&path, &old, &new, out);
            }
            _ => leaf(&path, from, to, false, out),
        },
        ("httpHeaders", _, _) => {
            list(
                &path,
                from,
                to,
                name_of,
                out,
                &mut |header, old, new, out| {
                    out.say(&format!("{path} {header} {}", said(old, new)));
                },
            );
        }
        (_, Some(_), Some(_)) => match keys(from, to) {
            Some(names) => {
                for inner in names {
                    let (old, new) = (field(from, inner), field(to, inner));
                    handler(&format!("{path}."), inner, old, new, out);
                }
            }
            None => leaf(&path, from, to, false, out),
        },
        (_, _, _) => leaf(&path, from, to, false, out),
    });
}

fn ports(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    list(
        what,
        from,
        to,
        port_name,
        out,
        &mut |name, old, new, out| match (old, new) {
            (Some(old), Some(new)) if number(old) != number(new) => {
                arrow(&format!("{what} {name}"), &number(old), &number(new), out);
            }
            (Some(_), Some(_)) => {
                for field_name in keys(old, new).into_iter().flatten() {
                    let (old, new) = (field(old, field_name), field(new, field_name));
                    rest(&format!("{what} {name} "), field_name, old, new, out);
                }
            }
            (Some(only), None) | (None, Some(only)) => {
                out.say(&format!(
                    "{what} {name} {} ({})",
                    said(old, new),
                    number(only)
                ));
            }
            (None, None) => {}
        },
    );
}

fn port_name(port: &Value) -> String {
    match text(port, "name") {
        "" => number(port),
        name => name.to_owned(),
    }
}

/// `8080/TCP`
fn number(port: &Value) -> String {
    let number = port.get("containerPort").and_then(Value::as_u64);
    let protocol = match text(port, "protocol") {
        "" => "TCP",
        protocol => protocol,
    };
    format!("{}/{}", number.unwrap_or_default(), plain(protocol, 10))
}

fn mounts(what: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    list(
        what,
        from,
        to,
        mount_path,
        out,
        &mut |path, old, new, out| {
            let what = format!("{what} {path}");
            match (old, new) {
                (Some(_), Some(_)) => {
                    for name in keys(old, new).into_iter().flatten() {
                        let (old, new) = (field(old, name), field(new, name));
                        match name.as_str() {
                            "name" => leaf(&what, old, new, true, out),
                            other => rest(&format!("{what} "), other, old, new, out),
                        }
                    }
                }
                (Some(only), None) | (None, Some(only)) => {
                    let volume = shown(text(only, "name"));
                    out.say(&format!("{what} {} ({volume})", said(old, new)));
                }
                (None, None) => {}
            }
        },
    );
}

fn mount_path(mount: &Value) -> String {
    text(mount, "mountPath").to_owned()
}
