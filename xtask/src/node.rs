//! The tests on a real node: in namespaces of their own, by `cargo test` with a runner that makes them.

use std::ffi::OsStr;
use std::path::Path;

use anyhow::{Context, Result, bail};
use testkit::node;

use crate::cargo::cargo;
use crate::image;

/// The test program that needs a real node.
const PROGRAM: &str = "node";
/// How many of its tests run at a time. They wait for containers more than they work.
const THREADS: &str = "8";

/// Removes what is left when the tests have ended, however they did.
struct Swept;

impl Drop for Swept {
    fn drop(&mut self) {
        node::sweep();
    }
}

/// Whether these arguments of `cargo test` choose the tests on a real node.
pub fn is_asked_for(arguments: &[String]) -> bool {
    arguments.iter().any(|argument| argument == "--test=node")
        || arguments
            .windows(2)
            .any(|pair| pair[0] == "--test" && pair[1] == PROGRAM)
}

/// Runs all of them where there can be a real node, and says why where there cannot. In a full run the shipped image is built
/// for them.
pub async fn test_if_possible(full: bool) -> Result<()> {
    let missing = node::missing();
    if missing.is_empty() || node::is_required() {
        let all = ["--test".to_owned(), PROGRAM.to_owned()];
        let images = if full {
            Some(image::for_tests().await?)
        } else {
            None
        };
        return run(&all, images.as_deref()).await;
    }
    eprintln!(
        "SKIPPED: the tests on a real node; missing: {}",
        missing.join("; ")
    );
    Ok(())
}

/// Runs those that the arguments choose.
pub async fn test(arguments: &[String]) -> Result<()> {
    run(arguments, None).await
}

async fn run(arguments: &[String], images: Option<&Path>) -> Result<()> {
    let missing = node::missing();
    if !missing.is_empty() {
        bail!(
            "the tests on a real node cannot run here; missing: {}",
            missing.join("; ")
        );
    }
    // Nothing can be downloaded in there.
    let binaries = tokio::task::spawn_blocking(node::ensure).await??;
    let leash = binaries.leash().context("there is no leash without Go")?;
    let runner = serde_json::to_string(&node::runner(&leash))?;
    let runner = format!("target.'cfg(unix)'.runner={runner}");
    let mut command = vec!["test", "--locked", "--config", &runner];
    if !arguments.iter().any(|argument| argument == "-p") {
        // The features of the whole workspace: those of one package would be another build of everything.
        command.push("--workspace");
    }
    command.extend(arguments.iter().map(String::as_str));
    let _swept = Swept;
    let mut environment = vec![
        (node::INSIDE, OsStr::new("1")),
        ("RUST_TEST_THREADS", OsStr::new(THREADS)),
    ];
    environment.extend(images.map(|folder| (testkit::IMAGES, folder.as_os_str())));
    cargo(&command, &environment).await
}
