//! The control groups of a real node: one below the root of each hierarchy, named after the cluster's data folder.

use std::{
    env, fs,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

use crate::folder::PREFIX;

/// The control group of the cluster with this data folder, as the kubelet calls it.
pub(super) fn name(cluster: &Path) -> String {
    let name = cluster.file_name().unwrap_or_default();
    format!("/{}", name.to_string_lossy())
}

/// Makes the control group in each hierarchy, of version 1 or 2.
pub(super) fn make(name: &str) -> Result<()> {
    for (root, version_2) in roots()? {
        if version_2 {
            // Controllers have to be handed down; those that are not there are none that can be missed.
            for controller in ["cpu", "cpuset", "memory", "pids", "io", "hugetlb"] {
                let hand_down = format!("+{controller}");
                drop(fs::write(root.join("cgroup.subtree_control"), hand_down));
            }
        }
        let group = root.join(name.trim_start_matches('/'));
        fs::create_dir_all(&group).with_context(|| format!("cannot make {}", group.display()))?;
    }
    Ok(())
}

/// Removes the control groups of clusters whose data folder is gone, and says whether no cluster has any left. They
/// can only be removed when the last of their processes has ended.
pub(super) fn sweep() -> bool {
    let mut none_left = true;
    for (root, _) in roots().unwrap_or_default() {
        for group in fs::read_dir(root).into_iter().flatten().flatten() {
            let name = group.file_name();
            if name.to_string_lossy().starts_with(PREFIX) {
                let ended = !env::temp_dir().join(name).exists();
                none_left &= ended && remove(&group.path());
            }
        }
    }
    none_left
}

/// Removes a group and those in it, and says whether they are gone.
fn remove(group: &Path) -> bool {
    let children = fs::read_dir(group).into_iter().flatten().flatten();
    for child in children.filter(|child| child.path().is_dir()) {
        remove(&child.path());
    }
    fs::remove_dir(group).is_ok() || !group.exists()
}

/// The root of each hierarchy that is mounted, and whether it is of version 2.
fn roots() -> Result<Vec<(PathBuf, bool)>> {
    let mounts = fs::read_to_string("/proc/self/mounts")?;
    let of_groups = |line: &str| {
        let mut fields = line.split(' ').skip(1);
        let root = PathBuf::from(fields.next()?);
        match fields.next()? {
            "cgroup" => Some((root, false)),
            "cgroup2" => Some((root, true)),
            _ => None,
        }
    };
    Ok(mounts.lines().filter_map(of_groups).collect())
}
