//! A limit for the memory of one process: a control group where this user may make one, else only what it is seen to take.

use std::path::{Path, PathBuf};
use std::{fs, process};

use anyhow::{Context as _, Result, ensure};

/// Where control groups of version 1 limit memory.
const VERSION_1: &str = "/sys/fs/cgroup/memory";
/// Where those of version 2 are.
const VERSION_2: &str = "/sys/fs/cgroup";

/// The limit of a process. Whoever goes beyond it is killed by the kernel, or fails the check.
#[derive(Debug)]
pub struct Limit {
    pid: u32,
    bytes: u64,
    group: Option<Group>,
}

#[derive(Debug)]
struct Group {
    folder: PathBuf,
    root: PathBuf,
    peak: &'static str,
}

impl Limit {
    /// Limits the process from now on.
    pub fn put(pid: u32, bytes: u64) -> Result<Self> {
        let group = Group::make(pid, bytes).ok();
        if group.is_none() {
            eprintln!("no control group can be made here: memory is looked at and not limited");
        }
        Ok(Self { pid, bytes, group })
    }

    /// The most that the control group had, in bytes, where there is one.
    pub fn peak_of_group(&self) -> Option<u64> {
        let group = self.group.as_ref()?;
        let peak = fs::read_to_string(group.folder.join(group.peak)).ok()?;
        peak.trim().parse().ok()
    }

    /// The most that the process had, in bytes, its program included.
    pub fn peak(&self) -> Result<u64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid))
            .context("the process has ended")?;
        let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
        let kib = peak.and_then(|rest| rest.trim().strip_suffix(" kB"));
        Ok(kib.context("no VmHWM in /proc")?.trim().parse::<u64>()? * 1024)
    }

    /// Fails when it has ended, or had more than it may. Says what it had.
    pub fn check(&self, who: &str) -> Result<()> {
        let (peak, group) = (self.peak()?, self.peak_of_group());
        let mib = |bytes: u64| bytes / (1024 * 1024);
        println!(
            "{who}: at most {} MiB, in its control group {:?} MiB, limit {} MiB",
            mib(peak),
            group.map(mib),
            mib(self.bytes)
        );
        ensure!(peak <= self.bytes, "{who} had {peak} bytes");
        Ok(())
    }
}

impl Group {
    fn make(pid: u32, bytes: u64) -> Result<Self> {
        let (root, limit, peak) = if Path::new(VERSION_1).join("memory.limit_in_bytes").exists() {
            (
                VERSION_1,
                "memory.limit_in_bytes",
                "memory.max_usage_in_bytes",
            )
        } else {
            drop(fs::write(
                Path::new(VERSION_2).join("cgroup.subtree_control"),
                "+memory",
            ));
            (VERSION_2, "memory.max", "memory.peak")
        };
        let root = PathBuf::from(root);
        let folder = root.join(format!("rollback-memory-{}-{pid}", process::id()));
        fs::create_dir_all(&folder)?;
        let group = Self { folder, root, peak };
        fs::write(group.folder.join(limit), bytes.to_string())?;
        fs::write(group.folder.join("cgroup.procs"), pid.to_string())?;
        Ok(group)
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let members = fs::read_to_string(self.folder.join("cgroup.procs")).unwrap_or_default();
        for member in members.lines() {
            drop(fs::write(self.root.join("cgroup.procs"), member));
        }
        drop(fs::remove_dir(&self.folder));
    }
}
