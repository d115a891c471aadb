//! `fuzz/` on the toolchain of the workspace: what cargo-fuzz does, less what only a nightly toolchain can.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};

/// What lets libFuzzer see which code an input reaches.
const FLAGS: &str = "--cfg fuzzing -Cpasses=sancov-module \
    -Cllvm-args=-sanitizer-coverage-level=4 \
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters \
    -Cllvm-args=-sanitizer-coverage-pc-table \
    -Cllvm-args=-sanitizer-coverage-trace-compares \
    -Ccodegen-units=1";

/// Longest input, in bytes: longer ones take longer, and reach nothing else.
const LONGEST: &str = "-max_len=4096";

/// Most inputs that a run adds to a corpus: it is kept with the code, and read in every test run.
const MOST_KEPT: usize = 50;

/// Runs every target, or this one, so many times; fails at the first input that breaks something.
pub fn run(only: Option<&str>, runs: u64, keep: bool) -> Result<()> {
    let folder = testkit::workspace().join("fuzz");
    let targets = targets(&folder, only)?;
    let programs = build(&folder)?;
    for target in targets {
        println!("fuzz: {target}, {runs} executions");
        let corpus = folder.join("corpus").join(&target);
        let found = folder.join("target/found").join(&target);
        fs::create_dir_all(&corpus)?;
        fs::create_dir_all(&found)?;
        let program = programs.join(&target);
        let runs = format!("-runs={runs}");
        fuzzer(
            &program,
            &[&runs, LONGEST, "-timeout=10", "-print_final_stats=1"],
            &[&found, &corpus],
        )?;
        if keep {
            merge(&program, &corpus, &found)?;
        }
    }
    Ok(())
}

/// The targets by name, each a file.
fn targets(folder: &Path, only: Option<&str>) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for file in fs::read_dir(folder.join("targets")).context("reading fuzz/targets")? {
        let path = file?.path();
        names.extend(
            path.file_stem()
                .map(|name| name.to_string_lossy().into_owned()),
        );
    }
    names.sort();
    let all = names.join(", ");
    names.retain(|name| only.is_none_or(|only| only == name));
    ensure!(!names.is_empty(), "no such target; there are {all}");
    Ok(names)
}

/// Builds all targets, and says where they are. A target triple is given so that the flags are not those of build scripts.
fn build(folder: &Path) -> Result<PathBuf> {
    let version = Command::new("rustc")
        .arg("-vV")
        .output()
        .context("running rustc")?;
    let version = String::from_utf8(version.stdout)?;
    let host = version.lines().find_map(|line| line.strip_prefix("host: "));
    let host = host.context("rustc does not say what it is for")?;
    let status = Command::new(env!("CARGO"))
        .args(["build", "--release", "--locked", "--bins", "--target", host])
        .env("RUSTFLAGS", FLAGS)
        .env("CARGO_TARGET_DIR", folder.join("target"))
        .current_dir(folder)
        .status()
        .context("running cargo")?;
    ensure!(status.success(), "the fuzz targets do not build");
    Ok(folder.join("target").join(host).join("release"))
}

/// Runs the program of a target. What breaks it is left in `fuzz/target/`.
fn fuzzer(program: &Path, arguments: &[&str], folders: &[&Path]) -> Result<()> {
    let status = Command::new(program)
        .args(arguments)
        .arg(format!("-artifact_prefix={}-", program.display()))
        .args(folders)
        .status()
        .with_context(|| format!("running {}", program.display()))?;
    ensure!(
        status.success(),
        "{} was broken by the input that is named above",
        program.display()
    );
    Ok(())
}

/// Adds the smallest of the fewest inputs that reach what both folders reach to the first.
fn merge(program: &Path, corpus: &Path, found: &Path) -> Result<()> {
    let least = found.with_extension("least");
    if least.exists() {
        fs::remove_dir_all(&least)?;
    }
    fs::create_dir_all(&least)?;
    fuzzer(
        program,
        &["-set_cover_merge=1", LONGEST],
        &[&least, corpus, found],
    )?;
    let mut files = fs::read_dir(&least)?
        .map(|file| {
            let file = file?;
            Ok((file.metadata()?.len(), file.path(), file.file_name()))
        })
        .collect::<Result<Vec<_>>>()?;
    files.sort();
    for (_, path, name) in files.into_iter().take(MOST_KEPT) {
        fs::copy(path, corpus.join(name))?;
    }
    Ok(())
}
