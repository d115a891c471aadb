//! The report as JSON, however long the story is.

use rollback_api::request::MAX_TARGETS;
use serde_json::Value;

use super::{FULL_TARGETS, Report, SHORT_LIMIT};
use crate::message::text::plain;

/// Longest JSON that is kept as it is, in bytes. A ConfigMap holds 1 MiB.
const DATA_LIMIT: usize = 256 * 1024;
/// The same when there are many Deployments.
const DATA_LIMIT_OF_MANY: usize = 512 * 1024;
/// Longest list of a JSON that was too long.
const SHORT_LIST: usize = 20;

/// The report as JSON. When it is too long, what the page leaves out too goes first, and then what others wrote is
/// cut; that a Deployment is missing is the last resort.
pub(super) fn data(report: &Report) -> String {
    let limit = if report.plan.targets.len() > FULL_TARGETS {
        DATA_LIMIT_OF_MANY
    } else {
        DATA_LIMIT
    };
    let json = serde_json::to_string_pretty(report).unwrap_or_default();
    if json.len() <= limit {
        return json;
    }
    let mut value = serde_json::to_value(report).unwrap_or_default();
    let cuts: [fn(&mut Value); 4] = [
        leave_out_changes,
        leave_out_logs,
        |value| shorten(value, MAX_TARGETS),
        |value| shorten(value, SHORT_LIST),
    ];
    for cut in cuts {
        cut(&mut value);
        if value.to_string().len() <= limit {
            break;
        }
    }
    value.to_string()
}

fn leave_out_changes(value: &mut Value) {
    let targets = value.pointer_mut("/plan/targets");
    for target in targets.and_then(Value::as_array_mut).into_iter().flatten() {
        if let Some(target) = target.as_object_mut() {
            target.remove("changes");
        }
    }
}

fn shorten(value: &mut Value, most: usize) {
    match value {
        Value::String(text) => *text = plain(text, SHORT_LIMIT),
        Value::Array(items) => {
            items.truncate(most);
            for item in items {
                shorten(item, most);
            }
        }
        Value::Object(map) => {
            for item in map.values_mut() {
                shorten(item, most);
            }
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}

fn leave_out_logs(value: &mut Value) {
    let targets = value.pointer_mut("/targets").and_then(Value::as_array_mut);
    let jobs = targets
        .into_iter()
        .flatten()
        .filter_map(|target| target.get_mut("jobs")?.as_array_mut());
    for end in jobs.flatten().filter_map(|job| job.get_mut("end")) {
        if let Some(end) = end.as_object_mut() {
            end.remove("log");
        }
    }
}
