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

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::{Cursor, Read};

    use super::super::pack;
    use super::*;

    const ALL: [Platform; 5] = [
        Platform::LinuxAmd64,
        Platform::LinuxArm64,
        Platform::DarwinAmd64,
        Platform::DarwinArm64,
        Platform::WindowsAmd64,
    ];
    /// What stands for the program.
    const PROGRAM: &[u8] = b"#!/bin/sh\necho rolled back\n";

    /// A file of an archive: what is in it, and whether it may be run.
    type Unpacked = BTreeMap<String, (Vec<u8>, bool)>;

    /// The manifest of archives that `pack` makes, in this folder.
    fn published(folder: &Path) -> Value {
        let source = Source {
            version: "1.2.3".to_owned(),
            revision: String::new(),
            time: 1_700_000_000,
        };
        let archives: Vec<(Platform, PathBuf)> = ALL
            .iter()
            .map(|it| (*it, pack::write(*it, &source, PROGRAM, folder).unwrap()))
            .collect();
        let path = write(&source, &archives, folder).unwrap();
        assert_eq!(path.file_name().unwrap(), "rollback.yaml");
        serde_saphyr::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
    }

    fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
        value.pointer(pointer).and_then(Value::as_str).unwrap()
    }

    fn platforms(manifest: &Value) -> &[Value] {
        manifest["spec"]["platforms"].as_array().unwrap()
    }

    /// What krew's `ValidatePlugin` asks of a manifest (kubernetes-sigs/krew, `internal/index/validation`).
    #[test]
    fn krew_takes_the_manifest() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = published(folder.path());
        assert_eq!(
            text(&manifest, "/apiVersion"),
            "krew.googlecontainertools.github.com/v1alpha2"
        );
        assert_eq!(text(&manifest, "/kind"), "Plugin");
        // The name of the file, and of the command.
        assert_eq!(text(&manifest, "/metadata/name"), "rollback");
        let short = text(&manifest, "/spec/shortDescription");
        assert!(!short.is_empty() && !short.contains(['\r', '\n']));
        let version = text(&manifest, "/spec/version");
        let numbers: Vec<&str> = version.strip_prefix('v').unwrap().split('.').collect();
        let is_semantic = numbers.iter().all(|it| it.parse::<u32>().is_ok());
        assert!(numbers.len() == 3 && is_semantic, "{version}");
        assert_eq!(platforms(&manifest).len(), ALL.len());
        let mut selectors = Vec::new();
        for platform in platforms(&manifest) {
            let sum = text(platform, "/sha256");
            let is_hex = |c: char| c.is_ascii_digit() || ('a'..='f').contains(&c);
            assert!(sum.len() == 64 && sum.chars().all(is_hex), "{sum}");
            let uri = text(platform, "/uri");
            assert!(
                uri.starts_with("https://") && uri.contains(version),
                "{uri}"
            );
            let labels = platform["selector"]["matchLabels"].as_object().unwrap();
            let names: Vec<&str> = labels.keys().map(String::as_str).collect();
            assert_eq!(names, ["arch", "os"]);
            let selector = (
                text(platform, "/selector/matchLabels/os"),
                text(platform, "/selector/matchLabels/arch"),
            );
            assert!(["linux", "darwin", "windows"].contains(&selector.0));
            assert!(["amd64", "arm64"].contains(&selector.1));
            // The first that matches is taken, so none may match twice.
            assert!(!selectors.contains(&selector), "{selector:?}");
            selectors.push(selector);
        }
    }

    /// What krew does with an archive: its digest, how it is read, where its files go, and what becomes the command.
    #[test]
    fn each_archive_is_what_the_manifest_says() {
        let folder = tempfile::tempdir().unwrap();
        let manifest = published(folder.path());
        for platform in platforms(&manifest) {
            let name = text(platform, "/uri").rsplit('/').next().unwrap();
            let bytes = std::fs::read(folder.path().join(name)).unwrap();
            assert_eq!(text(platform, "/sha256"), sha256(&bytes), "{name}");
            // By its first bytes, not by its name.
            let files = match bytes.get(..2).unwrap() {
                b"PK" => unzipped(&bytes),
                b"\x1f\x8b" => untarred(&bytes),
                other => panic!("{name} begins with {other:?}"),
            };
            let is_safe = |path: &String| !path.contains("..") && !path.starts_with(['/', '\\']);
            assert!(files.keys().all(is_safe), "{files:?}");
            let moved = platform["files"].as_array().unwrap();
            for step in moved {
                assert_eq!(text(step, "/to"), ".");
                assert!(files.contains_key(text(step, "/from")), "{step}");
            }
            let (program, runs) = &files[text(platform, "/bin")];
            assert_eq!(program, PROGRAM, "{name}");
            assert!(runs, "{name} cannot be run");
            assert!(files.contains_key("LICENSE"), "{name}");
            let is_windows = text(platform, "/selector/matchLabels/os") == "windows";
            let program = Path::new(text(platform, "/bin"));
            assert_eq!(program.extension().is_some(), is_windows);
        }
    }

    fn untarred(bytes: &[u8]) -> Unpacked {
        let mut archive = tar::Archive::new(flate2::read::GzDecoder::new(bytes));
        let entries = archive.entries().unwrap();
        let unpacked = entries.map(|entry| {
            let mut entry = entry.unwrap();
            assert!(entry.header().entry_type().is_file());
            let path = entry.path().unwrap().to_str().unwrap().to_owned();
            let runs = entry.header().mode().unwrap() & 0o111 == 0o111;
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (path, (content, runs))
        });
        unpacked.collect()
    }

    fn unzipped(bytes: &[u8]) -> Unpacked {
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let unpacked = (0..archive.len()).map(|index| {
            let mut file = archive.by_index(index).unwrap();
            let runs = file.unix_mode().is_some_and(|mode| mode & 0o111 == 0o111);
            let mut content = Vec::new();
            file.read_to_end(&mut content).unwrap();
            (file.name().unwrap().into_owned(), (content, runs))
        });
        unpacked.collect()
    }
}
