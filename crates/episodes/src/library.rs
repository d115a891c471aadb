//! The files.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde_json::{Value, json};

use crate::cause::{ALL, Cause};

/// Where the episodes are.
pub fn folder() -> PathBuf {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let workspace = here.ancestors().nth(2).unwrap_or(here);
    workspace.join("tests/episodes")
}

/// All that are generated, by their path below [`folder`].
pub fn generated() -> BTreeMap<String, Value> {
    let mut all = BTreeMap::new();
    for cause in ALL {
        for seed in 1..=cause.seeds {
            let path = format!("{}/{seed:02}.json", cause.name);
            all.insert(path, episode(cause, seed));
        }
    }
    all
}

fn episode(cause: &Cause, seed: u64) -> Value {
    json!({
        "cause": cause.name,
        "expect": cause.expect.as_str(),
        "from": "generated",
        "frames": cause.play(seed),
    })
}

/// Writes them anew. What was recorded stays.
pub fn write() -> Result<()> {
    for cause in ALL {
        fs::create_dir_all(folder().join(cause.name))?;
    }
    for (path, episode) in stored()? {
        if is_generated(&episode) {
            fs::remove_file(folder().join(path))?;
        }
    }
    for (path, episode) in generated() {
        fs::write(folder().join(&path), episode.to_string())?;
    }
    Ok(())
}

/// Whether it comes from this generator.
pub fn is_generated(episode: &Value) -> bool {
    episode["from"] == "generated"
}

/// All that are there, by their path.
pub fn stored() -> Result<BTreeMap<String, Value>> {
    let mut all = BTreeMap::new();
    for family in fs::read_dir(folder()).context("there are no episodes")? {
        let family = family?;
        if !family.file_type()?.is_dir() {
            continue;
        }
        for file in fs::read_dir(family.path())? {
            let file = file?.path();
            let path = file.strip_prefix(folder())?.display().to_string();
            let text = fs::read_to_string(&file)?;
            let episode = serde_json::from_str(&text).with_context(|| path.clone())?;
            all.insert(path, episode);
        }
    }
    Ok(all)
}
