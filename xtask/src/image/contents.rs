//! What is in a program: a list of its crates (SBOM) in the form of `CycloneDX`, made by `cargo cyclonedx`.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};

use super::{Part, Source};
use crate::cargo;

/// The tool, and the version that was tried.
const TOOL: &str = "cargo-cyclonedx";
const VERSION: &str = "0.5.9";

/// Writes the list for one program beside its image.
pub async fn write(part: Part, source: &Source, folder: &Path) -> Result<PathBuf> {
    let tool = tool().await?;
    // The tool writes beside each manifest of the workspace, so it works on a copy of what it reads.
    let copy = tempfile::tempdir()?;
    let workspace = testkit::workspace();
    manifests(&workspace, copy.path())?;
    let file = format!("{}-{}.cdx", part.program(), source.version);
    let package = copy.path().join(part.folder());
    let output = tokio::process::Command::new(&tool)
        .args([
            "cyclonedx",
            "--format",
            "json",
            "--spec-version",
            "1.5",
            "--no-build-deps",
        ])
        .args([
            "--describe",
            "crate",
            "--override-filename",
            &file,
            "--manifest-path",
        ])
        .arg(package.join("Cargo.toml"))
        .env("SOURCE_DATE_EPOCH", source.time.to_string())
        .env("CARGO_NET_OFFLINE", "true")
        .kill_on_drop(true)
        .output()
        .await
        .with_context(|| format!("running {}", tool.display()))?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "cargo cyclonedx: {said}");
    let made = package.join(format!("{file}.json"));
    let path = folder.join(format!("{file}.json"));
    let text =
        std::fs::read_to_string(&made).with_context(|| format!("reading {}", made.display()))?;
    let text = text.replace(&copy.path().display().to_string(), "/src");
    std::fs::write(&path, text).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

/// Copies what says which crates are used, and the sources, whose targets cargo wants to see.
fn manifests(from: &Path, to: &Path) -> Result<()> {
    for name in [
        "Cargo.toml",
        "Cargo.lock",
        "rust-toolchain.toml",
        "crates",
        "xtask",
        "tests",
    ] {
        copy(&from.join(name), &to.join(name))?;
    }
    Ok(())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    if !from.is_dir() {
        std::fs::copy(from, to).with_context(|| format!("copying {}", from.display()))?;
        return Ok(());
    }
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let name = entry?.file_name();
        copy(&from.join(&name), &to.join(&name))?;
    }
    Ok(())
}

/// Where the tool is. It is built once for all checkouts on this machine.
async fn tool() -> Result<PathBuf> {
    let root = testkit::cache_folder()?
        .join("tools")
        .join(format!("{TOOL}-{VERSION}"));
    let tool = root.join("bin").join(TOOL);
    if !tool.is_file() {
        let place = root.to_string_lossy();
        cargo::cargo(
            &[
                "install",
                TOOL,
                "--version",
                VERSION,
                "--locked",
                "--quiet",
                "--root",
                &place,
            ],
            &[],
        )
        .await?;
    }
    Ok(tool)
}
