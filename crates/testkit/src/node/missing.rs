//! What a machine needs for a real node.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use super::config::PLUGINS;

/// Programs, and the Debian package that has them.
const PROGRAMS: [(&str, &str); 6] = [
    ("unshare", "util-linux"),
    ("mount", "mount"),
    ("ip", "iproute2"),
    ("containerd", "containerd"),
    ("ctr", "containerd"),
    ("runc", "runc"),
];
/// The network plugins that pods need.
const NETWORK: [&str; 3] = ["ptp", "host-local", "loopback"];

/// Everything that this machine lacks for a real node, in words that say what to do. Empty when there can be one.
pub fn missing() -> Vec<String> {
    if !cfg!(target_os = "linux") {
        return vec!["Linux".to_owned()];
    }
    let mut missing = Vec::new();
    if !is_root() {
        missing.push("root (namespaces and containers are made)".to_owned());
    }
    for (program, package) in PROGRAMS {
        if on_the_path(program).is_none() {
            missing.push(format!("{program} (package {package})"));
        }
    }
    let plugins = Path::new(PLUGINS);
    if !NETWORK.iter().all(|plugin| plugins.join(plugin).exists()) {
        missing.push(format!(
            "network plugins in {PLUGINS} (package containernetworking-plugins)"
        ));
    }
    missing
}

/// The effective user, as the kernel says.
fn is_root() -> bool {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mut users = status.lines().filter_map(|line| line.strip_prefix("Uid:"));
    users
        .next()
        .and_then(|ids| ids.split_whitespace().nth(1))
        .is_some_and(|effective| effective == "0")
}

fn on_the_path(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|folder| folder.join(program))
        .find(|file| file.is_file())
}
