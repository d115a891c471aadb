//! The core decides and does nothing else: no client, no runtime, no clock.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

fn here() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: impl AsRef<Path>) -> String {
    fs::read_to_string(here().join(path)).unwrap()
}

/// Everything the core is linked with, as Cargo resolves it for this crate alone.
fn linked() -> BTreeSet<String> {
    let cargo = std::env::var("CARGO").unwrap_or_else(|_| "cargo".to_owned());
    let output = Command::new(cargo)
        .args([
            "tree",
            "--offline",
            "--locked",
            "--package",
            "rollback-core",
        ])
        .args([
            "--edges", "normal", "--prefix", "none", "--format", "{p} {f}",
        ])
        .current_dir(here())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn the_dependencies_are_these_and_no_others() {
    let manifest = read("Cargo.toml");
    let section = manifest.split("[dependencies]").nth(1).unwrap();
    let section = section.split("\n[").next().unwrap();
    let names: Vec<&str> = section
        .lines()
        .filter_map(|line| line.split(['.', ' ', '=']).next())
        .filter(|name| !name.is_empty())
        .collect();
    let allowed = [
        "croner",
        "jiff",
        "k8s-openapi",
        "rollback-api",
        "semver",
        "serde",
        "serde_json",
        "sha2",
        "thiserror",
    ];
    for name in names {
        assert!(allowed.contains(&name), "{name} has no place in decisions");
    }
}

#[test]
fn nothing_that_is_linked_talks_or_waits() {
    let linked = linked();
    assert!(
        linked.iter().any(|line| line.starts_with("jiff ")),
        "{linked:?}"
    );
    let forbidden = [
        "kube-client",
        "kube-runtime",
        "tokio",
        "hyper",
        "reqwest",
        "axum",
        "mio",
        "async-std",
        "chrono",
        "time",
        "rustls",
        "futures-util",
        "tracing-subscriber",
        "rand",
        "getrandom",
    ];
    for line in &linked {
        let name = line.split(' ').next().unwrap();
        assert!(!forbidden.contains(&name), "{line}");
    }
    let kube = linked
        .iter()
        .find(|line| line.starts_with("kube "))
        .unwrap();
    for feature in ["client", "runtime", "ws"] {
        assert!(!kube.contains(feature), "{kube}");
    }
}

#[test]
fn the_clock_is_banned() {
    let bans = read("clippy.toml");
    for clock in [
        "jiff::Timestamp::now",
        "jiff::Zoned::now",
        "std::time::SystemTime::now",
        "std::time::Instant::now",
    ] {
        assert!(bans.contains(&format!("path = \"{clock}\"")), "{clock}");
    }
    let manifest = read("Cargo.toml");
    assert!(manifest.contains("[lints]\nworkspace = true"));
}

#[test]
fn no_source_reads_a_clock_or_the_world() {
    let mut pending = vec![here().join("src")];
    let mut seen = 0;
    while let Some(directory) = pending.pop() {
        for entry in fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                pending.push(path);
                continue;
            }
            seen += 1;
            let text = read(&path);
            for state in [
                "::now()",
                "SystemTime",
                "Instant",
                "std::env",
                "std::fs",
                "std::net",
                "std::thread",
                "std::process",
                "async fn",
                ".await",
                "static mut",
                "thread_local",
                "OnceLock",
                "HashMap",
                "disallowed_methods",
                "unsafe",
                "Zoned",
                "tz::",
                "TimeZone::system",
            ] {
                // Zones by name come with the library, and are the same on every machine.
                let by_name =
                    path.ends_with("src/approval/freeze.rs") && ["Zoned", "tz::"].contains(&state);
                if by_name {
                    continue;
                }
                assert!(!text.contains(state), "{}: {state}", path.display());
            }
        }
    }
    assert!(seen > 15, "{seen}");
}

#[test]
fn the_types_that_the_core_stands_on_have_no_client_either() {
    let manifest = read("../api/Cargo.toml");
    assert!(
        manifest.contains("kube = { workspace = true, features = [\"derive\"] }"),
        "{manifest}"
    );
    let workspace = read("../../Cargo.toml");
    let kube = workspace
        .lines()
        .find(|line| line.starts_with("kube = "))
        .unwrap();
    assert!(kube.contains("default-features = false"), "{kube}");
}
