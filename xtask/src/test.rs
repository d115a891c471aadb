//! `cargo xtask test`: every test of the workspace, with one cluster for those that need it; then the
//! conformance table, which has to be what they have seen; then the tests on a real node, where there can be one.

use std::ffi::OsStr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use testkit::{Cluster, conformance};

use crate::Place;
use crate::cargo::cargo;
use crate::node;
use crate::programs::{self, Program};
use crate::session::{self, CtrlC};

/// How many programs that need no cluster run at a time. They compute.
const PLAIN_AT_ONCE: usize = 2;
/// How many programs that need the cluster run at a time: a second one, because most end with one long test.
const SCENARIOS_AT_ONCE: usize = 2;
/// How many tests of each of those. With six in all two cores are full, and what waits for 60 s does so in vain.
const SCENARIO_THREADS: &str = "2";
/// Those that take longest come first, so that none of them is alone in the end.
const LONGEST: [&str; 4] = [
    "controller: trust",
    "controller: crash",
    "controller: cases",
    "controller: platform",
];

/// How many stories each property of the simulation tells in a full run. There are six: more than 100,000 in all.
const FULL_STORIES: &str = "17000";

/// Builds, starts the cluster, runs `cargo test`, and stops the cluster. In a full run the tests do all that they can do, and
/// the simulation tells all its stories.
pub async fn run(place: Place, full: bool, arguments: Vec<String>, ctrl_c: CtrlC) -> Result<()> {
    let all = async {
        test(&place, &arguments, full).await?;
        if full { stories().await } else { Ok(()) }
    };
    Box::pin(ctrl_c.or(all)).await
}

/// The simulation at full size, optimised but with every check that a debug build makes.
async fn stories() -> Result<()> {
    cargo(
        &[
            "test",
            "--locked",
            "--release",
            "--config=profile.release.debug-assertions=true",
            "--config=profile.release.overflow-checks=true",
            "--config=profile.release.lto=false",
            "--package=rollback-core",
            "--test=decisions",
            "--",
            "lifecycle::",
        ],
        &[("PROPTEST_CASES", OsStr::new(FULL_STORIES))],
    )
    .await
}

async fn test(place: &Place, extra: &[String], full: bool) -> Result<()> {
    if node::is_asked_for(extra) {
        return node::test(extra).await;
    }
    session::prepare(place).await?;
    if extra.is_empty() {
        everything(place, full).await
    } else {
        chosen(place, extra).await
    }
}

/// All tests: what needs no cluster first, so that what is wrong shows early.
async fn everything(place: &Place, full: bool) -> Result<()> {
    // This builds the binaries too, for the tests of their packages. To build them alone would build what they stand on once
    // more, with other features.
    let programs = programs::build().await?;
    let (mut scenarios, plain): (Vec<&Program>, Vec<&Program>) =
        programs.iter().partition(|program| program.scenario);
    scenarios.sort_by_key(|program| {
        let place = LONGEST.iter().position(|name| *name == program.name);
        place.unwrap_or(LONGEST.len())
    });
    programs::run(&plain, PLAIN_AT_ONCE, &[]).await?;
    cargo(&["test", "--locked", "--workspace", "--doc"], &[]).await?;
    let (cluster, seen) = stage(place, &[]).await?;
    let environment = environment(&cluster, &seen);
    let threads = OsStr::new(SCENARIO_THREADS);
    let variant = testkit::variant().environment();
    let mut environment = [
        &environment[..],
        &variant,
        &[("RUST_TEST_THREADS", threads)],
    ]
    .concat();
    if full {
        environment.push((testkit::FULL, OsStr::new("1")));
    }
    programs::run(&scenarios, SCENARIOS_AT_ONCE, &environment).await?;
    seen.compare()?;
    if !testkit::variant().typed {
        without_the_stamp(&cluster, &scenarios, &environment).await?;
    }
    drop(cluster);
    if place.context.is_none() {
        node::test_if_possible(full).await?;
    }
    Ok(())
}

/// What is tried again without the policy that writes who asks and who approves: the parts of these programs that are
/// about who somebody is.
const TYPED: [(&str, &[&str]); 3] = [
    ("controller: attacks", &["table::"]),
    (
        "controller: trust",
        &["deputy", "machines", "replay", "glass", "withdrawal"],
    ),
    ("cli: cli", &["an_approval_by_the_plugin_is_the_same"]),
];

/// The same cluster and the guard that it would have before Kubernetes 1.36. Nothing else uses the cluster any more.
async fn without_the_stamp(
    cluster: &Cluster,
    programs: &[&Program],
    environment: &[(&str, &OsStr)],
) -> Result<()> {
    eprintln!("\nagain, with people who write who they are");
    cluster.withhold_stamp().await?;
    let mut chosen = Vec::new();
    for (name, parts) in TYPED {
        let program = programs.iter().find(|program| program.name == name);
        let program = program.with_context(|| format!("there is no program {name}"))?;
        chosen.push(program.only(parts));
    }
    let environment = [environment, &[(testkit::typed::TYPED, OsStr::new("1"))]].concat();
    programs::run(
        &chosen.iter().collect::<Vec<_>>(),
        SCENARIOS_AT_ONCE,
        &environment,
    )
    .await
}

/// Those that the arguments of `cargo test` choose.
async fn chosen(place: &Place, extra: &[String]) -> Result<()> {
    let mut arguments = vec!["test", "--locked"];
    if extra
        .iter()
        .all(|argument| argument != "-p" && argument != "--package")
    {
        arguments.push("--workspace");
    }
    arguments.extend(extra.iter().map(String::as_str));
    // Compiled before the cluster is started, so that the two do not fight for the processors.
    let only_build: Vec<&str> = arguments
        .iter()
        .copied()
        .take_while(|argument| *argument != "--")
        .chain(["--no-run"])
        .collect();
    cargo(&only_build, &[]).await?;
    build_binaries().await?;
    let (cluster, seen) = stage(place, extra).await?;
    let variant = testkit::variant().environment();
    let environment = [&environment(&cluster, &seen)[..], &variant].concat();
    cargo(&arguments, &environment).await?;
    seen.compare()
}

/// Cargo builds the programs of the packages that are tested; some tests start those of others beside them.
async fn build_binaries() -> Result<()> {
    let packages = ["-p", "rollback-controller", "-p", "rollback-receiver"];
    cargo(
        &[&["build", "--locked", "--bins"], &packages[..]].concat(),
        &[],
    )
    .await
}

async fn stage(place: &Place, extra: &[String]) -> Result<(Cluster, Conformance)> {
    let cluster = session::cluster(place).await?;
    eprintln!(
        "the cluster is up; its data is in {}",
        cluster.folder().display()
    );
    let seen = Conformance::new(place, extra, &cluster)?;
    Ok((cluster, seen))
}

/// What the tests are told about what they run on.
fn environment<'a>(cluster: &'a Cluster, seen: &'a Conformance) -> [(&'static str, &'a OsStr); 3] {
    [
        ("ROLLBACK_TEST_CLUSTER", cluster.folder().as_os_str()),
        (conformance::FOLDER, seen.folder.as_os_str()),
        // Those that need a real node skip themselves here; they run afterwards.
        (testkit::node::LATER, OsStr::new("1")),
    ]
}

/// What the tests see of the conformance cases.
struct Conformance {
    folder: PathBuf,
    /// Why it says nothing about the committed table.
    partial: Option<&'static str>,
}

impl Conformance {
    fn new(place: &Place, extra: &[String], cluster: &Cluster) -> Result<Self> {
        if place.context.is_some() {
            // Another cluster, and perhaps another kubectl: not what the table is about.
            return Ok(Self {
                folder: cluster.folder().join("conformance"),
                partial: Some("on a borrowed cluster"),
            });
        }
        let folder = conformance::folder();
        if !extra.is_empty() {
            return Ok(Self {
                folder,
                partial: Some("when not all tests run"),
            });
        }
        // What an earlier run saw must not stand in for this one.
        if folder.exists() {
            std::fs::remove_dir_all(&folder)
                .with_context(|| format!("removing {}", folder.display()))?;
        }
        Ok(Self {
            folder,
            partial: None,
        })
    }

    /// Fails when the committed table is not what was seen.
    fn compare(&self) -> Result<()> {
        if let Some(when) = self.partial {
            eprintln!("{} is not compared {when}", conformance::PAGE);
            return Ok(());
        }
        let path = testkit::workspace().join(conformance::PAGE);
        let committed = std::fs::read_to_string(&path).unwrap_or_default();
        conformance::compare(&committed, &conformance::page(&self.folder)?)?;
        eprintln!("{} is what the tests have seen", conformance::PAGE);
        Ok(())
    }
}
