//! The flags of each component. What is not said here is as in any other cluster.

use std::{ffi::OsStr, fs, path::Path};

use anyhow::Result;
use serde_json::{Value, json};

use super::user;
use crate::{
    build::Binaries,
    process::{Launch, Process},
};

/// What all components share: where the programs and the data are, and the ports of the API server,
/// of etcd, and of etcd's peers that it does not have.
pub(crate) struct Site<'a> {
    pub(crate) binaries: &'a Binaries,
    pub(crate) folder: &'a Path,
    pub(crate) ports: [u16; 3],
    pub(crate) nodes: Nodes,
    pub(crate) serves: Serves,
}

/// What the API server has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Serves {
    /// Everything that it can.
    Everything,
    /// No policies that change what is written, as before Kubernetes 1.36.
    NoMutatingPolicies,
}

impl Serves {
    fn flags(self) -> Vec<String> {
        match self {
            // Older versions do not know the plugin.
            Self::NoMutatingPolicies if crate::variant().kubernetes.is_some() => Vec::new(),
            Self::Everything => Vec::new(),
            Self::NoMutatingPolicies => vec![
                "--disable-admission-plugins=MutatingAdmissionPolicy".into(),
                "--runtime-config=admissionregistration.k8s.io/v1/mutatingadmissionpolicies=false,\
                 admissionregistration.k8s.io/v1/mutatingadmissionpolicybindings=false"
                    .into(),
            ],
        }
    }
}

/// Who runs the pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Nodes {
    /// Nobody: kwok plays them.
    Fake,
    /// A kubelet, which whoever starts the cluster starts too.
    Real,
}

/// Where etcd listens, beside an API server that listens on this port: they have one block of ports.
pub(crate) fn etcd_beside(server: u16) -> String {
    format!("http://127.0.0.1:{}", server.saturating_add(1))
}

impl Site<'_> {
    pub(crate) fn server(&self) -> String {
        format!("https://127.0.0.1:{}", self.ports[0])
    }

    pub(crate) fn etcd_port(&self) -> u16 {
        self.ports[1]
    }

    fn file(&self, name: &str) -> String {
        self.folder.join(name).display().to_string()
    }

    fn write(&self, name: &str, content: impl AsRef<[u8]>) -> Result<String> {
        let path = self.folder.join(name);
        fs::write(&path, content)?;
        Ok(path.display().to_string())
    }

    fn start(&self, component: &str, flags: Vec<String>) -> Result<Process> {
        let mut args = vec![component.to_owned()];
        args.extend(flags);
        let launch = Launch {
            name: component,
            program: &self.binaries.controlplane(),
            args,
            // Two cores are what the tests have, and a seventh of the API server's work was collecting garbage. It lives
            // for minutes, in memory that is there.
            env: vec![("GOGC", OsStr::new("400"))],
            log: self.folder.join(format!("{component}.log")),
        };
        Process::start(self.binaries.leash().as_deref(), launch)
    }

    pub(crate) fn etcd(&self) -> Result<Process> {
        let clients = format!("http://127.0.0.1:{}", self.ports[1]);
        let peers = format!("http://127.0.0.1:{}", self.ports[2]);
        self.start(
            "etcd",
            vec![
                format!("--data-dir={}", self.file("etcd")),
                format!("--listen-client-urls={clients}"),
                format!("--advertise-client-urls={clients}"),
                format!("--listen-peer-urls={peers}"),
                format!("--initial-advertise-peer-urls={peers}"),
                format!("--initial-cluster=default={peers}"),
                // The data does not have to survive anything.
                "--unsafe-no-fsync".into(),
                "--log-level=warn".into(),
            ],
        )
    }

    pub(crate) fn apiserver(&self) -> Result<Process> {
        let tokens = self.write("tokens.csv", user::token_file())?;
        let policy = self.write("audit-policy.json", audit_policy(self.nodes).to_string())?;
        let mut serves = self.serves.flags();
        if crate::variant().kubernetes.is_none() {
            // A pod template field that is newer than the types of the controller.
            serves.push("--feature-gates=EvictionRequestAPI=true".into());
        }
        self.start(
            "kube-apiserver",
            [
                serves,
                vec![
                    format!("--etcd-servers=http://127.0.0.1:{}", self.ports[1]),
                    "--bind-address=127.0.0.1".into(),
                    format!("--secure-port={}", self.ports[0]),
                    // The address of the kubernetes Service may not be on loopback, so it gets none.
                    "--endpoint-reconciler-type=none".into(),
                    "--service-cluster-ip-range=10.96.0.0/16".into(),
                    format!("--cert-dir={}", self.folder.display()),
                    format!("--tls-cert-file={}", self.file("server.crt")),
                    format!("--tls-private-key-file={}", self.file("server.key")),
                    "--service-account-issuer=https://kubernetes.default.svc".into(),
                    format!("--service-account-key-file={}", self.file("accounts.pub")),
                    format!(
                        "--service-account-signing-key-file={}",
                        self.file("accounts.key")
                    ),
                    "--authorization-mode=RBAC,Node".into(),
                    // Names of nodes are no names that anybody here resolves.
                    "--kubelet-preferred-address-types=InternalIP".into(),
                    format!("--token-auth-file={tokens}"),
                    format!("--audit-policy-file={policy}"),
                    format!("--audit-log-path={}", self.file("audit.log")),
                    // Written before the request ends, in one file that is never rotated away.
                    "--audit-log-mode=blocking".into(),
                    "--audit-log-maxsize=4096".into(),
                    // Many tests share one server.
                    "--max-requests-inflight=3000".into(),
                    "--max-mutating-requests-inflight=1500".into(),
                ],
            ]
            .concat(),
        )
    }

    pub(crate) fn controller_manager(&self) -> Result<Process> {
        self.start(
            "kube-controller-manager",
            vec![
                format!("--kubeconfig={}", self.file("kubeconfig")),
                "--leader-elect=false".into(),
                "--secure-port=0".into(),
                "--use-service-account-credentials".into(),
                format!(
                    "--service-account-private-key-file={}",
                    self.file("accounts.key")
                ),
                format!("--root-ca-file={}", self.file("ca.crt")),
                // It makes this folder, by default in /usr/libexec.
                format!("--flex-volume-plugin-dir={}", self.file("volume-plugins")),
                // Tests that run side by side must not starve each other.
                "--kube-api-qps=200".into(),
                "--kube-api-burst=400".into(),
                "--concurrent-deployment-syncs=20".into(),
                "--concurrent-replicaset-syncs=20".into(),
                "--concurrent-namespace-syncs=20".into(),
            ],
        )
    }

    pub(crate) fn scheduler(&self) -> Result<Process> {
        let config = json!({
            "apiVersion": "kubescheduler.config.k8s.io/v1",
            "kind": "KubeSchedulerConfiguration",
            "clientConnection": { "kubeconfig": self.file("kubeconfig"), "qps": 200, "burst": 400 },
            "leaderElection": { "leaderElect": false },
        });
        let config = self.write("scheduler.json", config.to_string())?;
        self.start(
            "kube-scheduler",
            vec![format!("--config={config}"), "--secure-port=0".into()],
        )
    }
}

/// Plays the nodes of the cluster that `kubeconfig` leads to.
pub(crate) fn kwok(binaries: &Binaries, folder: &Path, kubeconfig: &Path) -> Result<Process> {
    let stages = crate::workspace().join("tests/cluster/stages.yaml");
    let launch = Launch {
        name: "kwok",
        program: &binaries.kwok(),
        args: vec![
            format!("--kubeconfig={}", kubeconfig.display()),
            format!("--config={}", stages.display()),
            "--manage-nodes-with-annotation-selector=kwok.x-k8s.io/node=fake".into(),
            "--node-ip=127.0.0.1".into(),
            "--node-lease-duration-seconds=40".into(),
        ],
        env: vec![("KWOK_WORKDIR", OsStr::new(folder))],
        log: folder.join("kwok.log"),
    };
    Process::start(binaries.leash().as_deref(), launch)
}

/// A node that exists on paper only. The taint keeps everything away that does not ask for it.
pub(crate) fn fake_node(number: usize) -> Value {
    let name = format!("fake-{number}");
    json!({
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {
            "name": name,
            "annotations": { "kwok.x-k8s.io/node": "fake" },
            "labels": {
                "kubernetes.io/hostname": name,
                "kubernetes.io/os": "linux",
                "testkit.broxiva.com/node": "fake",
            },
        },
        "spec": {
            "taints": [{ "key": "kwok.x-k8s.io/node", "value": "fake", "effect": "NoSchedule" }],
        },
    })
}

/// Records every write, and the reads of controllers that run as a `ServiceAccount`, so that tests
/// can count what a controller asks for. The cluster's own housekeeping only reads quietly.
fn audit_policy(nodes: Nodes) -> Value {
    let reads = ["get", "list", "watch"];
    // What a node says of its pods, so that tests can tell when it was said. kwok says what it was told.
    let with_bodies = match nodes {
        Nodes::Fake => json!([
            { "group": "apps", "resources": ["deployments"] },
            { "group": "rollback.broxiva.com" },
        ]),
        Nodes::Real => json!([
            { "group": "apps", "resources": ["deployments", "replicasets/status"] },
            { "group": "rollback.broxiva.com" },
            { "group": "", "resources": ["pods/status", "events"] },
        ]),
    };
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            { "level": "None", "verbs": reads, "userGroups": ["system:serviceaccounts:kube-system"] },
            { "level": "Metadata", "verbs": reads, "userGroups": ["system:serviceaccounts"] },
            { "level": "None", "verbs": reads },
            { "level": "Request", "resources": with_bodies },
            { "level": "Request", "verbs": ["create"], "resources": [
                { "group": "", "resources": ["configmaps"] },
            ] },
            { "level": "Metadata" },
        ],
    })
}
