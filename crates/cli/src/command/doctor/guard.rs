//! Whether the admission policies are there that make approvals true. Whether they hold, the controller tries
//! (`rollback_guard_hole`).

use kube::Client;
use kube::ResourceExt;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use rollback_api::GUARD_LABEL;
use serde_json::Value;

use super::Finding;
use crate::output::clean;

/// What is installed.
const SHIPPED: &str = include_str!("../../../../../deploy/20-guard.yaml");
/// What to type when something is wrong with it.
const APPLY: &str = "kubectl apply -f deploy/20-guard.yaml";
/// What was looked at.
const CHECK: &str = "guard";

/// Looks whether each object of the file is there.
pub async fn look(client: &Client) -> Vec<Finding> {
    let shipped = shipped();
    let mut kinds: Vec<&str> = shipped.iter().map(|(kind, _)| kind.as_str()).collect();
    kinds.dedup();
    kinds.sort_unstable();
    kinds.dedup();
    let mut missing = Vec::new();
    for kind in kinds {
        let found = match names(client, kind).await {
            Ok(found) => found,
            Err(error) => return vec![Finding::unknown(CHECK, &error, APPLY)],
        };
        let wanted = shipped.iter().filter(|(of, _)| of == kind);
        let lacks = wanted.filter(|(_, name)| !found.contains(name));
        missing.extend(lacks.map(|(kind, name)| format!("{kind} {name}")));
    }
    if missing.is_empty() {
        return vec![Finding::ok(
            CHECK,
            format!("{} policies and bindings are there", shipped.len()),
        )];
    }
    let why = "without all of them no approval counts, because anybody could have written it";
    missing
        .iter()
        .map(|it| Finding::fault(CHECK, format!("{} is missing", clean(it)), why, APPLY))
        .collect()
}

/// Kind and name of each object of the file.
fn shipped() -> Vec<(String, String)> {
    let documents: Vec<Value> = serde_saphyr::from_multiple(SHIPPED).unwrap_or_default();
    let text = |value: &Value| value.as_str().map(str::to_owned);
    let one = |it: &Value| Some((text(&it["kind"])?, text(&it["metadata"]["name"])?));
    documents.iter().filter_map(one).collect()
}

async fn names(client: &Client, kind: &str) -> kube::Result<Vec<String>> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    let resource = match kind.kind.strip_suffix("Policy") {
        Some(stem) => {
            ApiResource::from_gvk_with_plural(&kind, &format!("{}policies", stem.to_lowercase()))
        }
        None => ApiResource::from_gvk_with_plural(&kind, &format!("{}s", kind.kind.to_lowercase())),
    };
    let api: Api<DynamicObject> = Api::all_with(client.clone(), &resource);
    let labelled = ListParams::default().labels(GUARD_LABEL);
    let found = api.list_metadata(&labelled).await?;
    Ok(found.items.iter().map(ResourceExt::name_any).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_has_a_binding_for_each_policy() {
        let shipped = shipped();
        let policies = shipped
            .iter()
            .filter(|(kind, _)| kind.ends_with("Policy"))
            .count();
        assert!(policies > 10 && shipped.len() == 2 * policies);
    }
}
