//! The pods behind a port of a Service: only those that belong to the version that is being judged.
//!
//! Whoever may write `EndpointSlices` of the namespace writes there what they like. So a slice says which pods the Service
//! leads to and at which port, and where a pod is, only its own status says.

use std::net::IpAddr;

use k8s_openapi::api::core::v1::{Pod, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;
use kube::api::ListParams;
use kube::{Api, Client, ResourceExt};

/// Label of an `EndpointSlice` that names its Service.
const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// A pod that can be asked, and at which port.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Endpoint {
    /// Name of the pod.
    pub pod: String,
    /// Its address.
    pub address: IpAddr,
    /// Port of the pod.
    pub port: u16,
}

impl Endpoint {
    /// A pod at its own address, or at this one if it is one of its own.
    pub fn of(pod: &Pod, listed: Option<&str>, port: u16) -> Option<Self> {
        let status = pod.status.as_ref()?;
        let more = status.pod_ips.iter().flatten().map(|own| own.ip.as_str());
        let mut own = status.pod_ip.as_deref().into_iter().chain(more).peekable();
        let first = *own.peek()?;
        let address = own.find(|own| Some(*own) == listed).unwrap_or(first);
        Some(Self {
            pod: pod.name_any(),
            address: address.parse().ok()?,
            port,
        })
    }
}

/// The ready endpoints of a port of a Service that are these pods, by UID; or why that cannot be told, in words.
pub async fn endpoints(
    client: &Client,
    namespace: &str,
    name: &str,
    port: i32,
    pods: &[Pod],
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
    let mut found: Vec<Endpoint> = slices
        .iter()
        .flat_map(|slice| of_slice(slice, &port_name, pods))
        .collect();
    // A pod with addresses of two kinds is in a slice of each.
    found.sort();
    found.dedup_by(|one, other| (&one.pod, one.port) == (&other.pod, other.port));
    Ok(found)
}

/// Name of the Service's port with this number; empty when it has none.
fn named_port(service: &Service, number: i32) -> Option<String> {
    let ports = service.spec.as_ref()?.ports.as_ref()?;
    let port = ports.iter().find(|port| port.port == number)?;
    Some(port.name.clone().unwrap_or_default())
}

fn of_slice(slice: &EndpointSlice, port_name: &str, pods: &[Pod]) -> Vec<Endpoint> {
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
            let uid = endpoint.target_ref.as_ref()?.uid.as_ref()?;
            let pod = pods
                .iter()
                .find(|pod| pod.metadata.uid.as_ref() == Some(uid))?;
            Endpoint::of(pod, endpoint.addresses.first().map(String::as_str), port)
        })
        .collect()
}
