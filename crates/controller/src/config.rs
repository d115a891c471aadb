//! Command line of the controller.

use std::net::SocketAddr;

use ipnet::IpNet;

/// Carries out `RollbackRequests`.
///
/// The API server is found through KUBECONFIG or the ServiceAccount of the pod. Log level and filter
/// come from `RUST_LOG`.
#[derive(clap::Parser, Clone, Debug)]
#[command(name = "rollback-controller", version)]
pub struct Config {
    /// Watch this namespace only; all namespaces without it.
    #[arg(long, env = "ROLLBACK_NAMESPACE")]
    pub namespace: Option<String>,

    /// Where /metrics, /healthz and /readyz are served.
    #[arg(long, default_value = "0.0.0.0:8080", env = "ROLLBACK_METRICS_ADDRESS")]
    pub metrics_address: SocketAddr,

    /// Networks that HTTP checks may reach, separated by commas. Loopback, link-local and metadata
    /// addresses are reached only when a network given here contains them.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "10.0.0.0/8,172.16.0.0/12,192.168.0.0/16,100.64.0.0/10,fc00::/7",
        env = "ROLLBACK_PROBE_NETWORKS"
    )]
    pub probe_networks: Vec<IpNet>,

    /// How many requests are worked on at the same time.
    #[arg(long, default_value_t = 16, env = "ROLLBACK_CONCURRENCY")]
    pub concurrency: u16,
}
