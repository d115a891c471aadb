//! Data folders that are removed, sooner or later, however their owner ends.

use std::{
    env,
    fs::{self, File},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};

pub(crate) const PREFIX: &str = "rollback-cluster-";
const OWNER: &str = "owner";

/// A folder of its own for one cluster.
///
/// Dropping removes it. The owner holds a lock on a file inside, so a later start can tell the
/// folders of killed processes from living ones, and sweep them. `ROLLBACK_KEEP=1` keeps it for good.
#[derive(Debug)]
pub(crate) struct Folder {
    path: PathBuf,
    owner: Option<File>,
}

impl Folder {
    pub(crate) fn new() -> Result<Self> {
        sweep();
        let made = tempfile::Builder::new()
            .prefix("rollback-starting-")
            .tempdir()
            .context("cannot make a data folder")?
            .keep();
        let keep = env::var_os("ROLLBACK_KEEP").is_some_and(|value| value == "1");
        let owner = if keep {
            None
        } else {
            let owner = File::create(made.join(OWNER))?;
            owner.lock()?;
            Some(owner)
        };
        // The name that a sweep looks for comes last: by then the lock is held.
        let suffix = made.file_name().unwrap_or_default().to_string_lossy();
        let path = made.with_file_name(suffix.replace("rollback-starting-", PREFIX));
        fs::rename(&made, &path)?;
        Ok(Self { path, owner })
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if self.owner.is_some() {
            drop(fs::remove_dir_all(&self.path));
        } else {
            eprintln!("kept: {}", self.path.display());
        }
    }
}

/// Removes what killed processes left behind. Best effort: another user's folder stays.
pub(crate) fn sweep() {
    let Ok(entries) = fs::read_dir(env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        if !entry.file_name().to_string_lossy().starts_with(PREFIX) {
            continue;
        }
        let Ok(owner) = File::open(entry.path().join(OWNER)) else {
            continue;
        };
        if owner.try_lock().is_ok() {
            drop(fs::remove_dir_all(entry.path()));
        }
    }
}
