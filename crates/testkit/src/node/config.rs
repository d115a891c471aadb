//! The settings of the programs of a real node. What is not said here is as on any other node.

use std::path::Path;

use serde_json::{Value, json};

use crate::cluster::{NODE, NODE_TOKEN};

/// Where the pods are. A controller that is to reach them needs it as `--probe-networks`.
pub const POD_NETWORK: &str = "10.88.0.0/16";
/// Where the node is.
pub(super) const NODE_ADDRESS: &str = "10.89.0.1";
/// Where the network plugins are.
pub(super) const PLUGINS: &str = "/usr/lib/cni";
/// The image of the container that holds a pod together.
pub(super) const PAUSE: &str = "registry.broxiva.example/pause:v1";

/// Paths of one node.
pub(super) struct Paths<'a>(pub(super) &'a Path);

impl Paths<'_> {
    pub(super) fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }

    pub(super) fn socket(&self) -> String {
        self.path("containerd.sock")
    }
}

/// For containerd.
pub(super) fn containerd(paths: &Paths<'_>) -> String {
    // JSON strings are TOML strings.
    let text = |value: &str| json!(value).to_string();
    let plugin = r#"plugins."io.containerd.grpc.v1.cri""#;
    format!(
        r#"version = 2
root = {root}
state = {state}
disabled_plugins = ["io.containerd.internal.v1.opt"]
[grpc]
address = {socket}
[{plugin}]
# Who may not raise a process above the killer of the memory may not be asked to.
restrict_oom_score_adj = true
sandbox_image = {pause}
[{plugin}.cni]
bin_dir = {bin}
conf_dir = {conf}
"#,
        root = text(&paths.path("containerd")),
        state = text(&paths.path("containerd-state")),
        socket = text(&paths.socket()),
        pause = text(PAUSE),
        bin = text(PLUGINS),
        conf = text(&paths.path("cni")),
    )
}

/// For the network plugins: each pod is one end of a pair of interfaces, the node the other.
pub(super) fn network(paths: &Paths<'_>) -> Value {
    json!({
        "cniVersion": "0.4.0",
        "name": "pods",
        "plugins": [{
            "type": "ptp",
            "ipam": {
                "type": "host-local",
                "dataDir": paths.path("cni-addresses"),
                "ranges": [[{ "subnet": POD_NETWORK }]],
                "routes": [{ "dst": "0.0.0.0/0" }],
            },
        }],
    })
}

/// For the kubelet.
pub(super) fn kubelet(paths: &Paths<'_>, cgroup: &str) -> Value {
    json!({
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "containerRuntimeEndpoint": format!("unix://{}", paths.socket()),
        "podLogsDir": paths.path("pod-logs"),
        "volumePluginDir": paths.path("volume-plugins"),
        "resolvConf": paths.path("resolv.conf"),
        "clusterDNS": ["10.96.0.10"],
        "clusterDomain": "cluster.local",
        // Whoever is in this network may; nobody else can be.
        "authentication": { "anonymous": { "enabled": true }, "webhook": { "enabled": false } },
        "authorization": { "mode": "AlwaysAllow" },
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": cgroup,
        "enforceNodeAllocatable": [],
        "failCgroupV1": false,
        "failSwapOn": false,
        "makeIPTablesUtilChains": false,
        // The disk of this machine may be as full as it likes: no pod and no image is put away for it.
        "evictionHard": {},
        "imageGCHighThresholdPercent": 100,
        // Tests that run side by side must not starve each other.
        "serializeImagePulls": false,
        "eventRecordQPS": 0,
        "kubeAPIQPS": 200,
        "kubeAPIBurst": 400,
    })
}

/// How the kubelet talks to the API server: as the node that it is.
pub(super) fn kubeconfig(server: &str, ca: &Path) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{ "name": "cluster", "cluster": { "server": server, "certificate-authority": ca } }],
        "users": [{ "name": NODE, "user": { "token": NODE_TOKEN } }],
        "contexts": [{ "name": "node", "context": { "cluster": "cluster", "user": NODE } }],
        "current-context": "node",
    })
}
