//! The manifest for krew. The public index refuses a plugin with so general a name, so it is for an index of our own:
//! `kubectl krew index add`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde_json::{Value, json};

use super::{Part, Platform, Source, name, read, sha256};

/// Where the archives of a version are published.
const PUBLISHED: &str = "https://github.com/broxiva/rollback-operator/releases/download";

/// Writes `rollback.yaml`, with an entry for each archive.
pub fn write(source: &Source, archives: &[(Platform, PathBuf)], folder: &Path) -> Result<PathBuf> {
    let platforms: Vec<Value> = archives
        .iter()
        .map(|(platform, path)| entry(source, *platform, path))
        .collect::<Result<_>>()?;
    let manifest = json!({
        "apiVersion": "krew.googlecontainertools.github.com/v1alpha2",
        "kind": "Plugin",
        "metadata": {"name": "rollback"},
        "spec": {
            "version": format!("v{}", source.version),
            "homepage": "https://github.com/broxiva/rollback-operator",
            "shortDescription": "Ask for rollbacks, approve and follow them",
            "description": concat!(
                "Asks the rollback operator to bring back an earlier version of Deployments, shows what would change\n",
                "and what may go wrong, approves, follows and reports. It has the rights of whoever runs it.\n"
            ),
            "platforms": platforms,
        },
    });
    let path = folder.join("rollback.yaml");
    let text = serde_saphyr::to_string(&manifest)?;
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn entry(source: &Source, platform: Platform, path: &Path) -> Result<Value> {
    let program = platform.file(Part::Plugin.program());
    Ok(json!({
        "selector": {"matchLabels": {"os": platform.os(), "arch": platform.arch()}},
        "uri": format!("{PUBLISHED}/v{}/{}", source.version, name(path)?),
        "sha256": sha256(&read(path)?),
        "bin": program,
        "files": [{"from": program, "to": "."}, {"from": "LICENSE", "to": "."}],
    }))
}
