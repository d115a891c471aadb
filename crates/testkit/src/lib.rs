//! What the tests stand on: a real control plane on this machine, the people who use it, the shop
//! that is rolled back, and the ways in which things go wrong. Never shipped.
//!
//! - [`cluster`] starts etcd, the API server, its controllers and fake nodes, or borrows a cluster.
//! - [`node`] adds a real node, with a kubelet and containers.
//! - [`shop`] builds the Deployments of a test; [`health`] answers their health checks.
//! - [`controller`] runs the controller as a process of its own; [`proxy`] stands between it and the
//!   API server and breaks the connection at a chosen request.
//! - [`scene`] puts them together: a namespace, a controller, the people and what they do.
//! - [`prometheus`] starts a real Prometheus, where its package is installed.
//! - [`receiver`] runs the receiver of alerts; [`alertmanager`] starts a real Alertmanager to send to it.
//! - [`audit`] reads what the API server says has happened.
//! - [`blocks`] are the commands that pages tell people to type.
//! - [`conformance`] has the list of cases and the table that the tests fill in.

pub mod alertmanager;
pub mod audit;
pub mod blocks;
pub mod build;
pub mod cluster;
pub mod conformance;
pub mod controller;
pub mod flood;
mod folder;
pub mod glossary;
pub mod health;
pub mod memory;
pub mod node;
pub mod poll;
mod ports;
mod process;
pub mod prometheus;
pub mod proxy;
pub mod receiver;
pub mod scene;
pub mod shell;
pub mod shop;
pub mod typed;

pub use cluster::{Cluster, Namespace, User};
pub use controller::ControllerProcess;
pub use poll::eventually;
pub use receiver::ReceiverProcess;
pub use scene::Scene;

use std::path::{Path, PathBuf};

use anyhow::Context as _;

/// What is tested on, where that is not what everybody has.
#[derive(Clone, Debug, Default)]
pub struct Variant {
    /// An older minor version of Kubernetes.
    pub kubernetes: Option<String>,
    /// Whether people write who they are: nothing does it for them. So it is on older versions.
    pub typed: bool,
}

impl Variant {
    /// What [`variant`] of another process reads.
    pub fn environment(&self) -> Vec<(&'static str, &std::ffi::OsStr)> {
        let version = self.kubernetes.as_deref().map(std::ffi::OsStr::new);
        let typed = self.typed.then_some(std::ffi::OsStr::new("1"));
        let version = version.map(|version| (build::KUBERNETES, version));
        let typed = typed.map(|typed| (typed::TYPED, typed));
        version.into_iter().chain(typed).collect()
    }
}

static VARIANT: std::sync::OnceLock<Variant> = std::sync::OnceLock::new();

/// Says what this process tests on; the environment says it otherwise. The first word counts.
pub fn choose(variant: Variant) {
    VARIANT.get_or_init(|| variant);
}

/// What this process tests on.
pub fn variant() -> &'static Variant {
    VARIANT.get_or_init(|| {
        let kubernetes = std::env::var(build::KUBERNETES).ok();
        let kubernetes = kubernetes.filter(|version| !version.is_empty());
        let typed = std::env::var_os(typed::TYPED).is_some() || kubernetes.is_some();
        Variant { kubernetes, typed }
    })
}

/// Whether an older version of Kubernetes is tested on, for a test that needs what only newer ones have; says so.
pub fn is_older(needs: &str) -> bool {
    let older = variant().kubernetes.as_deref();
    if let Some(version) = older {
        node::tell(&format!(
            "SKIPPED on Kubernetes {version}: it takes {needs}"
        ));
    }
    older.is_some()
}

/// The environment variable that makes the tests run at their full size: `cargo xtask test --full` sets it.
pub const FULL: &str = "ROLLBACK_TEST_FULL";

/// The folder of images that were built for the tests, in a full run.
pub const IMAGES: &str = "ROLLBACK_TEST_IMAGES";

/// Whether this is a full run, and not the gate, which has no hours.
pub fn is_full() -> bool {
    std::env::var_os(FULL).is_some()
}

/// How much of something a test makes: `full` in a full run, and in the gate a `part`.
pub fn size(full: usize, part: usize) -> usize {
    if is_full() { full } else { part }
}

/// The root of the Cargo workspace that these tests belong to.
pub fn workspace() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).unwrap_or(here).to_path_buf()
}

/// Where Cargo puts what it builds.
pub fn target_folder() -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(
        || workspace().join("target"),
        |folder| workspace().join(folder),
    )
}

/// Where what takes long to build is kept, by its content, for every checkout of this project: `ROLLBACK_CACHE`, or a
/// folder of its own in the user's cache.
pub fn cache_folder() -> anyhow::Result<PathBuf> {
    let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty());
    set("ROLLBACK_CACHE")
        .map(PathBuf::from)
        .or_else(|| Some(PathBuf::from(set("XDG_CACHE_HOME")?).join("rollback-operator")))
        .or_else(|| Some(PathBuf::from(set("HOME")?).join(".cache/rollback-operator")))
        .context("there is no home folder to keep a cache in: set ROLLBACK_CACHE to a folder")
}

/// TLS needs one process-wide provider; whoever comes first installs it.
pub(crate) fn install_crypto_provider() {
    drop(rustls::crypto::ring::default_provider().install_default());
}
