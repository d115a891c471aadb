//! A real node: a real kubelet and containerd, and containers that listen, crash, or cannot be made.
//!
//! All of it, the control plane and the tests included, lives in namespaces of its own: no packet can leave the
//! machine, no other process sees its mounts, and the kernel ends every process of it, containers too, when the test
//! program ends. [`runner`] is the command that makes them; [`shared`] starts the cluster inside of them.

pub mod app;
mod cgroups;
mod config;
mod door;
mod missing;
mod place;
mod start;

use std::{
    env,
    ffi::OsStr,
    io::Write,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use tokio::sync::OnceCell;

use crate::{Cluster, build, folder};

pub use config::POD_NETWORK;
pub use door::{Door, import};
pub use missing::missing;

/// Set by whoever starts the test program in namespaces of its own.
pub const INSIDE: &str = "ROLLBACK_NODE_INSIDE";
/// Set by whoever runs the tests on a real node in a pass of their own: in this one they skip themselves.
pub const LATER: &str = "ROLLBACK_NODE_LATER";
/// Set to 1, a machine that lacks what a test needs (a real node, Prometheus, Alertmanager) fails it instead of skipping it.
pub const REQUIRED: &str = "ROLLBACK_TEST_REAL";

/// How long the kernel may take to end the last processes of a cluster.
const PATIENCE: Duration = Duration::from_secs(10);

/// The command that runs a program in namespaces of its own: network, mounts, processes. When whoever runs this
/// command ends, however that happens, the leash ends `unshare`, that ends the program, and with the first process
/// of their namespace the kernel ends all others.
pub fn runner(leash: &Path) -> Vec<String> {
    let leash = leash.display().to_string();
    let unshare = "unshare --net --mount --pid --fork --kill-child --mount-proc";
    std::iter::once(leash)
        .chain(unshare.split(' ').map(str::to_owned))
        .collect()
}

/// The cluster with the real node that all tests of a program share, with this project installed. `None` where there
/// can be none: the reason is on standard error then, and the test has nothing to do.
pub async fn shared() -> Result<Option<&'static Cluster>> {
    static SHARED: OnceCell<Option<Cluster>> = OnceCell::const_new();
    let cluster = SHARED
        .get_or_try_init(async || {
            if env::var_os(INSIDE).is_some() {
                return start::start().await.map(Some);
            }
            if env::var_os(LATER).is_some() {
                return Ok(None);
            }
            let missing = missing();
            let why = if missing.is_empty() {
                "they run in namespaces of their own: use `cargo xtask test --test node`".to_owned()
            } else {
                format!("missing: {}", missing.join("; "))
            };
            if is_required() {
                bail!("{REQUIRED}=1, but the tests on a real node cannot run here; {why}");
            }
            tell(&format!("SKIPPED here: the tests on a real node; {why}"));
            Ok(None)
        })
        .await?;
    Ok(cluster.as_ref())
}

/// Whether what is missing is a failure.
pub fn is_required() -> bool {
    env::var_os(REQUIRED).as_deref() == Some(OsStr::new("1"))
}

/// Says something that the test harness does not keep to itself when the test passes.
pub fn tell(message: &str) {
    // Nobody to tell is nothing to fail for.
    drop(writeln!(std::io::stderr(), "{message}"));
}

/// Removes what ended clusters have left behind: their data folders and their empty control groups. One that was just
/// told to end gets some time to do so.
pub fn sweep() {
    let deadline = Instant::now() + PATIENCE;
    loop {
        folder::sweep();
        if cgroups::sweep() || Instant::now() > deadline {
            return;
        }
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Builds the programs of a real node, or says why they cannot be.
pub fn ensure() -> Result<build::Binaries> {
    build::ensure_node()
}
