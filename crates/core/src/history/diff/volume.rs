//! What differs between the volumes of two pod templates.

use serde_json::Value;

use super::lines::{Lines, Side, arrow, field, keys, list, name_of, rest, said, shown, text};
use crate::message::text::plain;

/// Volumes by name, with the kind and the name of what is behind them.
pub(super) fn volumes(from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    list(
        "volume",
        from,
        to,
        name_of,
        out,
        &mut |name, old, new, out| {
            let what = format!("volume {name}");
            match (old, new) {
                (Some(before), Some(after)) => {
                    let (before, after) = (source(before), source(after));
                    if before != after {
                        arrow(&what, &before, &after, out);
                    }
                    for kind in keys(old, new).into_iter().flatten() {
                        details(&what, kind, field(old, kind), field(new, kind), out);
                    }
                }
                (Some(only), None) | (None, Some(only)) => {
                    out.say(&format!("{what} {} ({})", said(old, new), source(only)));
                }
                (None, None) => {}
            }
        },
    );
}

/// The fields of the same kind of source, except those that `source` has told.
fn details(what: &str, kind: &str, from: Side<'_>, to: Side<'_>, out: &mut Lines) {
    if from.is_none() || to.is_none() {
        return;
    }
    let Some(names) = keys(from, to) else {
        rest(&format!("{what} "), kind, from, to, out);
        return;
    };
    let told = told(kind);
    for name in names {
        if Some(name.as_str()) != told {
            let prefix = format!("{what} {}.", shown(kind));
            rest(&prefix, name, field(from, name), field(to, name), out);
        }
    }
}

/// The field that names what is behind a volume.
fn told(kind: &str) -> Option<&'static str> {
    match kind {
        "secret" => Some("secretName"),
        "configMap" => Some("name"),
        "persistentVolumeClaim" => Some("claimName"),
        "csi" => Some("driver"),
        _ => None,
    }
}

/// `Secret db`, `emptyDir`, `projected Secret db, ConfigMap app`.
fn source(volume: &Value) -> String {
    let kinds = volume.as_object().into_iter().flatten();
    let sources: Vec<String> = kinds
        .filter(|(kind, _)| *kind != "name")
        .map(|(kind, source)| match kind.as_str() {
            "secret" => format!("Secret {}", plain(text(source, "secretName"), 63)),
            "configMap" => format!("ConfigMap {}", plain(text(source, "name"), 63)),
            "persistentVolumeClaim" => {
                format!(
                    "PersistentVolumeClaim {}",
                    plain(text(source, "claimName"), 63)
                )
            }
            "csi" => format!("csi {}", plain(text(source, "driver"), 63)),
            "projected" => projected(source),
            other => shown(other),
        })
        .collect();
    plain(&sources.join(", "), 120)
}

fn projected(source: &Value) -> String {
    let parts: Vec<String> = source
        .get("sources")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|part| {
            let named = |field: &str| part.get(field).map(|named| shown(text(named, "name")));
            named("secret")
                .map(|name| format!("Secret {name}"))
                .or_else(|| named("configMap").map(|name| format!("ConfigMap {name}")))
        })
        .collect();
    format!("projected {}", parts.join(", "))
        .trim_end()
        .to_owned()
}
