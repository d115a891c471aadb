//! What others install: images of the controller and of the receiver, archives of the plugin, and beside each what is in it.
//!
//! No daemon is needed and nothing is downloaded but crates. The same sources give the same bytes: times are those of the
//! commit, folders of this machine are not in the programs, and entries stand in a fixed order.

mod build;
mod contents;
mod krew;
mod oci;
mod pack;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use clap::{Args, ValueEnum};
use sha2::{Digest, Sha256};

pub use build::Platform;

/// What is built, for which platforms, and where it is put.
#[derive(Args)]
pub struct Order {
    /// Only these; all without them.
    parts: Vec<Part>,
    /// For these platforms. Images are for linux only.
    #[arg(long, value_enum, default_value = "linux-amd64", value_delimiter = ',')]
    platform: Vec<Platform>,
    /// The cargo profile: `release`, or `image`, which builds in a tenth of the time and runs slower.
    #[arg(long, default_value = "release")]
    profile: String,
    /// Where everything is put.
    #[arg(long, default_value = "target/image")]
    output: PathBuf,
    /// Only look whether it compiles for the platforms.
    #[arg(long)]
    check: bool,
    /// Leave out the lists of what is in the programs.
    #[arg(long)]
    no_sbom: bool,
}

/// Something that is installed.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The image of `rollback-controller`.
    Controller,
    /// The image of `rollback-receiver`.
    Receiver,
    /// The archives of `kubectl-rollback`, and its image.
    Plugin,
}

impl Part {
    /// The name of the program, and of its image.
    fn program(self) -> &'static str {
        match self {
            Self::Controller => "rollback-controller",
            Self::Receiver => "rollback-receiver",
            Self::Plugin => "kubectl-rollback",
        }
    }

    fn package(self) -> &'static str {
        match self {
            Self::Controller => "rollback-controller",
            Self::Receiver => "rollback-receiver",
            Self::Plugin => "rollback-cli",
        }
    }

    /// The folder of the package.
    fn folder(self) -> &'static str {
        match self {
            Self::Controller => "crates/controller",
            Self::Receiver => "crates/receiver",
            Self::Plugin => "crates/cli",
        }
    }

    /// What it is, for the labels of the image.
    fn description(self) -> &'static str {
        match self {
            Self::Controller => "Carries out RollbackRequests",
            Self::Receiver => "Turns alerts into RollbackRequests",
            Self::Plugin => "kubectl rollback: asks for rollbacks, approves and follows them",
        }
    }
}

/// The source that everything is made from.
pub struct Source {
    /// The version of the workspace.
    pub version: String,
    /// The commit, or what cannot be known without git.
    pub revision: String,
    /// When it was committed, in seconds of Unix time. `SOURCE_DATE_EPOCH` counts more.
    pub time: u64,
}

/// Builds the image of the controller for tests, quickly, and says in which folder it is.
pub async fn for_tests() -> Result<PathBuf> {
    let output = testkit::target_folder().join("image-for-tests");
    let order = Order {
        parts: vec![Part::Controller],
        platform: vec![Platform::LinuxAmd64],
        profile: "image".to_owned(),
        output: output.clone(),
        check: false,
        no_sbom: true,
    };
    run(order).await?;
    Ok(output)
}

/// Builds what was ordered.
pub async fn run(order: Order) -> Result<()> {
    let parts = match order.parts.as_slice() {
        [] => Part::value_variants(),
        some => some,
    };
    if order.check {
        return build::check(parts, &order.platform).await;
    }
    let source = source().await?;
    let folder = testkit::workspace().join(&order.output);
    std::fs::create_dir_all(&folder).with_context(|| format!("making {}", folder.display()))?;
    let mut written = Vec::new();
    for &part in parts {
        let built = build::programs(part, &order.platform, &order.profile).await?;
        written.extend(package(part, &source, &built, &folder)?);
        if !order.no_sbom {
            written.push(contents::write(part, &source, &folder).await?);
        }
    }
    sums(&folder, &written)?;
    for path in written {
        println!("{}", path.display());
    }
    Ok(())
}

/// Packs one program, for each platform that it was built for.
fn package(
    part: Part,
    source: &Source,
    built: &[(Platform, PathBuf)],
    folder: &Path,
) -> Result<Vec<PathBuf>> {
    let linux: Vec<_> = built.iter().filter(|(it, _)| it.is_linux()).collect();
    let mut written = Vec::new();
    if !linux.is_empty() {
        let programs: Vec<_> = linux
            .iter()
            .map(|(platform, path)| Ok((*platform, read(path)?)))
            .collect::<Result<_>>()?;
        written.push(oci::write(part, source, &programs, folder)?);
    }
    if part == Part::Plugin {
        let mut archives = Vec::new();
        for (platform, path) in built {
            archives.push((
                *platform,
                pack::write(*platform, source, &read(path)?, folder)?,
            ));
        }
        written.push(krew::write(source, &archives, folder)?);
        written.extend(archives.into_iter().map(|(_, path)| path));
    }
    Ok(written)
}

async fn source() -> Result<Source> {
    let told = std::env::var("SOURCE_DATE_EPOCH").ok();
    let committed = git(&["log", "-1", "--format=%ct"]).await;
    let time = told.or(committed).context(
        "there is no time to give the files: build from a git clone, or set SOURCE_DATE_EPOCH",
    )?;
    Ok(Source {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: git(&["rev-parse", "HEAD"]).await.unwrap_or_default(),
        time: time
            .trim()
            .parse()
            .context("SOURCE_DATE_EPOCH is no number")?,
    })
}

/// What git answers about this clone, if there is one.
async fn git(arguments: &[&str]) -> Option<String> {
    let output = tokio::process::Command::new("git")
        .args(arguments)
        .current_dir(testkit::workspace())
        .output()
        .await
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    (output.status.success() && !text.trim().is_empty()).then(|| text.trim().to_owned())
}

/// `SHA256SUMS`, as `sha256sum --check` reads it.
fn sums(folder: &Path, written: &[PathBuf]) -> Result<()> {
    let mut lines: Vec<String> = written
        .iter()
        .map(|path| Ok(format!("{}  {}\n", sha256(&read(path)?), name(path)?)))
        .collect::<Result<_>>()?;
    lines.sort();
    let path = folder.join("SHA256SUMS");
    std::fs::write(&path, lines.concat()).with_context(|| format!("writing {}", path.display()))
}

fn read(path: &Path) -> Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("reading {}", path.display()))
}

fn name(path: &Path) -> Result<&str> {
    let name = path.file_name().and_then(|name| name.to_str());
    name.with_context(|| format!("{} has no name", path.display()))
}

fn sha256(bytes: &[u8]) -> String {
    hex::encode(Sha256::digest(bytes))
}

/// A file of an archive.
struct File {
    path: &'static str,
    content: Vec<u8>,
    executable: bool,
}

/// A tar archive that depends on nothing but the files and this time.
fn tarball(files: &[File], time: u64) -> Result<Vec<u8>> {
    let mut archive = tar::Builder::new(Vec::new());
    archive.mode(tar::HeaderMode::Deterministic);
    for file in files {
        ensure!(!file.path.starts_with('/'), "{} is absolute", file.path);
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(file.content.len())?);
        header.set_mode(if file.executable { 0o755 } else { 0o644 });
        header.set_mtime(time);
        header.set_uid(0);
        header.set_gid(0);
        archive.append_data(&mut header, file.path, file.content.as_slice())?;
    }
    Ok(archive.into_inner()?)
}

/// The same bytes for the same input: no name and no time stand in the header.
fn gzip(bytes: &[u8]) -> Result<Vec<u8>> {
    use std::io::Write;
    let mut writer = flate2::GzBuilder::new().write(Vec::new(), flate2::Compression::best());
    writer.write_all(bytes)?;
    Ok(writer.finish()?)
}
