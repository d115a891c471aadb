//! The pods behind a port of a Service: only those that belong to the version that is being judged.

use std::collections::BTreeSet;
use std::net::IpAddr;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client};

/// Label of an `EndpointSlice` that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A pod that can be asked, and at which port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Name of the pod.
    pub pod: String,
    /// Its address.
    pub address: IpAddr,
    /// Port of the pod.
    pub port: u16,
}

/// The ready endpoints of a port of a Service that are these pods, by UID; or why that cannot be told, in words.
pub async fn endpoints(
    client: &Client,
    namespace: &str,
    name: &str,
    port: i32,
    pods: &BTreeSet<String>,
) -> Result<Vec<Endpoint>, String> {
    let services: Api<Service> = Api::namespaced(client.clone(), namespace);
    let slices: Api<EndpointSlice> = Api::namespaced(client.clone(), namespace);
    let labelled = ListParams::default().labels(&format!("{SERVICE_NAME}={name}"));
    let unread = |error: kube::Error| match error {
        kube::Error::Api(status) => {
            format!("Service {name} cannot be read: HTTP {}", status.code)
        }
        _ => format!("Service {name} cannot be read"),
    };
    let (service, slices) =
        futures::try_join!(services.get_opt(name), slices.list(&labelled)).map_err(unread)?;
    let Some(service) = service else {
        return Err(format!("there is no Service {name}"));
    };
    let port_name =
        named_port(&service, port).ok_or_else(|| format!("Service {name} has no port {port}"))?;
    Ok(slices
        .iter()
        .flat_map(|slice| of_slice(slice, &port_name, pods))
        .collect())
}

/// Name of the Service's port with this number; empty when it has none.
fn named_port(service: &Service, number: i32) -> Option<String> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|port| port.port == number)?;
    Some(port.name.clone().unwrap_or_default())
}

fn of_slice(slice: &EndpointSlice, port_name: &str, pods: &BTreeSet<String>) -> Vec<Endpoint> {
    let port = slice
        .ports
        .iter()
        .flatten()
        .find(|port| port.name.as_deref().unwrap_or_default() == port_name)
        .and_then(|port| u16::try_from(port.port?).ok());
    let Some(port) = port else {
        return Vec::new();
    };
    slice
        .endpoints
        .iter()
        .flatten()
        .filter(|endpoint| {
            let conditions = endpoint.conditions.as_ref();
            conditions.and_then(|conditions| conditions.ready) != Some(false)
        })
        .filter_map(|endpoint| {
            let reference = endpoint.target_ref.as_ref()?;
            let is_meant = reference.uid.as_ref().is_some_and(|uid| pods.contains(uid));
            if !is_meant {
                return None;
            }
            Some(Endpoint {
                pod: reference.name.clone().unwrap_or_default(),
                address: endpoint.addresses.first()?.parse().ok()?,
                port,
            })
        })
        .collect()
}
