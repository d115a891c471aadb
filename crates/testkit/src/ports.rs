//! Ports that no other cluster on this machine takes.

use std::{
    fs::{self, File},
    net::{Ipv4Addr, TcpListener},
};

use anyhow::{Context, Result, bail};

// Below the range from which systems hand out ports of outgoing connections, so that a port that is
// free now is not somebody's client a moment later.
const FIRST: u16 = 10_000;
const BLOCKS: u16 = 2_500;
const BLOCK: u16 = 8;

/// A block of ports, held by a file lock for as long as this value lives: the operating system lets
/// go of it however the process ends.
#[derive(Debug)]
pub(crate) struct Ports {
    first: u16,
    _lock: File,
}

impl Ports {
    pub(crate) fn lease() -> Result<Self> {
        let folder = crate::target_folder().join("cluster-ports");
        fs::create_dir_all(&folder)?;
        // Starting somewhere else in each process saves most of the looking.
        let start = std::process::id() % u32::from(BLOCKS);
        for step in 0..u32::from(BLOCKS) {
            let block = u16::try_from((start + step) % u32::from(BLOCKS))?;
            let path = folder.join(block.to_string());
            let lock =
                File::create(&path).with_context(|| format!("cannot write {}", path.display()))?;
            let first = FIRST + block * BLOCK;
            if lock.try_lock().is_ok() && all_free(first) {
                return Ok(Self { first, _lock: lock });
            }
        }
        bail!(
            "no free block of ports between {FIRST} and {}",
            FIRST + BLOCKS * BLOCK
        )
    }

    /// The n-th port of the block.
    pub(crate) fn port(&self, n: u16) -> u16 {
        self.first + n % BLOCK
    }
}

fn all_free(first: u16) -> bool {
    (first..first + BLOCK).all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok())
}
