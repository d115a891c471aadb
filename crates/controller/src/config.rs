//! Command line of the controller.

use std::net::SocketAddr;

use ipnet::IpNet;
use rollback_notify::destinations::Destination;
use rollback_probe::allow::{AllowList, Oddity};
use url::Url;

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

    /// Private networks that checks of addresses outside the cluster may reach, separated by commas. Without any, such a
    /// check reaches public addresses only.
    #[arg(long, value_delimiter = ',', env = "ROLLBACK_EXTERNAL_NETWORKS")]
    pub external_networks: Vec<IpNet>,

    /// Prometheus servers that checks of numbers may ask, separated by commas or given several times: scheme, host, port and
    /// the path to begin with, for example `http://prometheus.monitoring.svc:9090`. Without any, none is asked.
    #[arg(
        long,
        value_delimiter = ',',
        value_parser = prometheus,
        env = "ROLLBACK_PROMETHEUS_ALLOW"
    )]
    pub prometheus_allow: Vec<String>,

    /// Hosts that notifications may go to, separated by commas: HOST (with HTTPS), *.DOMAIN, or one of https://HOST:PORT,
    /// http://HOST:PORT and smtp://HOST:PORT. What is given here takes the place of the well-known services. They may lead
    /// to public addresses, and to those of --probe-networks and --external-networks.
    #[arg(
        long,
        value_delimiter = ',',
        default_value = rollback_notify::destinations::WELL_KNOWN,
        env = "ROLLBACK_NOTIFY_ALLOW"
    )]
    pub notify_allow: Vec<Destination>,

    /// Where Slack's web API is, for bots.
    #[arg(
        long,
        default_value = "https://slack.com/api",
        env = "ROLLBACK_SLACK_URL"
    )]
    pub slack_url: Url,

    /// Where the events API of `PagerDuty` is; its region in Europe is at `https://events.eu.pagerduty.com`.
    #[arg(
        long,
        default_value = "https://events.pagerduty.com",
        env = "ROLLBACK_PAGERDUTY_URL"
    )]
    pub pagerduty_url: Url,

    /// How many requests are worked on at the same time; of one namespace at most three quarters of them, and less
    /// while others have work.
    #[arg(long, default_value_t = 16, env = "ROLLBACK_CONCURRENCY")]
    pub concurrency: u16,

    /// How many requests of one namespace may be open at the same time. Those that came by themselves, from alerts or
    /// from the controller's own watch, have half of the places.
    #[arg(
        long,
        default_value_t = 100,
        value_parser = clap::value_parser!(u32).range(1..=10_000),
        env = "ROLLBACK_MAX_OPEN_REQUESTS"
    )]
    pub max_open_requests: u32,
    /// How many new versions are under analysis at the same time, shared in the same way; more wait for their turn.
    #[arg(
        long,
        default_value_t = 200,
        value_parser = clap::value_parser!(u16).range(1..),
        env = "ROLLBACK_MAX_ANALYSES"
    )]
    pub max_analyses: u16,

    /// Take part in the election of one controller among several. Without it nothing keeps a second
    /// one away.
    #[arg(
        long,
        default_value_t = true,
        action = clap::ArgAction::Set,
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true",
        env = "ROLLBACK_LEADER_ELECT"
    )]
    pub leader_elect: bool,

    /// Name in the election, different for each controller. A controller that starts again under its
    /// old name goes on at once. Default: the host, the process and a random number.
    #[arg(long, env = "POD_NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub identity: Option<String>,

    /// Namespace of the Lease.
    #[arg(long, default_value = "rollback-system", env = "POD_NAMESPACE")]
    pub lease_namespace: String,

    /// Lease duration of the leader election, in seconds: for that long a leader that is not heard of stays the leader.
    /// The renew deadline, after which it stops writing, is two thirds of it; the retry period is two fifteenths.
    #[arg(
        long,
        default_value_t = 15,
        value_parser = clap::value_parser!(u32).range(3..=600),
        env = "ROLLBACK_LEASE_SECONDS"
    )]
    pub lease_seconds: u32,
}

/// An address of a Prometheus, as it stands in a list.
fn prometheus(text: &str) -> Result<String, Oddity> {
    AllowList::parse([text]).map_err(|(_, oddity)| oddity)?;
    Ok(text.to_owned())
}
