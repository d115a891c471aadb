//! What it takes to reach a channel: read when it is needed, and kept nowhere.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::Secret as Stored;
use kube::{Api, Client};
use rollback_api::policy::Channel;
use rollback_notify::{Address, Secret};

/// Why a channel cannot be reached now, in words for the status. Trying again may help.
pub struct Unreachable(pub String);

/// The address of a channel of a namespace.
pub async fn address(
    client: &Client,
    namespace: &str,
    channel: &Channel,
) -> Result<Address, Unreachable> {
    let api: Api<Stored> = Api::namespaced(client.clone(), namespace);
    let mut found = BTreeMap::new();
    for key in channel.secret_keys() {
        let at = (key.name.clone(), key.key.clone());
        if found.contains_key(&at) {
            continue;
        }
        let stored = api
            .get_opt(&key.name)
            .await
            .map_err(|error| explain(&key.name, &error))?;
        let stored =
            stored.ok_or_else(|| Unreachable(format!("the Secret {} does not exist", key.name)))?;
        let value = stored.data.as_ref().and_then(|data| data.get(&key.key));
        let value = value.and_then(|value| std::str::from_utf8(&value.0).ok());
        if let Some(value) = value {
            found.insert(at, Secret::new(value));
        }
    }
    match Address::of(channel, &found) {
        Ok(Some(address)) => Ok(address),
        Ok(None) => Err(Unreachable("the channel leads nowhere".to_owned())),
        Err(missing) => Err(Unreachable(missing.to_string())),
    }
}

fn explain(name: &str, error: &kube::Error) -> Unreachable {
    let is_forbidden = matches!(error, kube::Error::Api(status) if status.code == 403);
    Unreachable(if is_forbidden {
        format!(
            "the controller may not read the Secret {name}: grant it the verb get on this one name (docs/notifications.md)"
        )
    } else {
        format!("the Secret {name} could not be read")
    })
}
