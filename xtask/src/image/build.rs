//! Building the programs: static on Linux, for every platform from the same sources.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use clap::ValueEnum;

use super::Part;
use crate::cargo;

/// An operating system and an architecture, as container images and krew name them.
#[derive(ValueEnum, Clone, Copy, Debug, PartialEq, Eq)]
pub enum Platform {
    /// Linux on x86-64.
    LinuxAmd64,
    /// Linux on 64-bit ARM.
    LinuxArm64,
    /// macOS on x86-64.
    DarwinAmd64,
    /// macOS on Apple silicon.
    DarwinArm64,
    /// Windows on x86-64.
    WindowsAmd64,
}

impl Platform {
    /// What Rust calls it.
    fn triple(self) -> &'static str {
        match self {
            Self::LinuxAmd64 => "x86_64-unknown-linux-musl",
            Self::LinuxArm64 => "aarch64-unknown-linux-musl",
            Self::DarwinAmd64 => "x86_64-apple-darwin",
            Self::DarwinArm64 => "aarch64-apple-darwin",
            Self::WindowsAmd64 => "x86_64-pc-windows-gnu",
        }
    }

    /// The operating system.
    pub fn os(self) -> &'static str {
        match self {
            Self::LinuxAmd64 | Self::LinuxArm64 => "linux",
            Self::DarwinAmd64 | Self::DarwinArm64 => "darwin",
            Self::WindowsAmd64 => "windows",
        }
    }

    /// The architecture.
    pub fn arch(self) -> &'static str {
        match self {
            Self::LinuxAmd64 | Self::DarwinAmd64 | Self::WindowsAmd64 => "amd64",
            Self::LinuxArm64 | Self::DarwinArm64 => "arm64",
        }
    }

    /// Whether there can be an image for it.
    pub fn is_linux(self) -> bool {
        self.os() == "linux"
    }

    /// The name of a program in an archive for it.
    pub fn file(self, program: &str) -> String {
        match self {
            Self::WindowsAmd64 => format!("{program}.exe"),
            Self::LinuxAmd64 | Self::LinuxArm64 | Self::DarwinAmd64 | Self::DarwinArm64 => {
                program.to_owned()
            }
        }
    }
}

/// Builds the program of `part` for each platform, and says where it is. Images are for Linux, so only the plugin is built
/// for others.
pub async fn programs(
    part: Part,
    platforms: &[Platform],
    profile: &str,
) -> Result<Vec<(Platform, PathBuf)>> {
    let mut built = Vec::new();
    for &platform in platforms {
        if part != Part::Plugin && !platform.is_linux() {
            continue;
        }
        linkable(platform)?;
        let way = way(platform)?;
        let arguments = ["--locked", "--profile", profile, "--target", way.triple];
        call(way, "build", part, &arguments).await?;
        let path = testkit::target_folder()
            .join(way.triple)
            .join(profile)
            .join(platform.file(part.program()));
        built.push((platform, path));
    }
    Ok(built)
}

/// An error at once where the linker would fail after minutes: a program for macOS is linked against frameworks that only
/// Apple's SDK has, and not zig.
fn linkable(platform: Platform) -> Result<()> {
    let has_sdk = std::env::var_os("SDKROOT").is_some() || cfg!(target_os = "macos");
    if platform.os() == "darwin" && !has_sdk {
        bail!(
            "linking for {} needs the frameworks Security and CoreFoundation of Apple's SDK: set SDKROOT to one, or only look whether it compiles, with --check",
            platform.triple()
        );
    }
    Ok(())
}

/// Whether the programs compile for the platforms.
pub async fn check(parts: &[Part], platforms: &[Platform]) -> Result<()> {
    for &part in parts {
        for &platform in platforms {
            if part == Part::Plugin || platform.is_linux() {
                let way = way(platform)?;
                call(way, "check", part, &["--locked", "--target", way.triple]).await?;
                println!("{} compiles for {}", part.program(), way.triple);
            }
        }
    }
    Ok(())
}

/// How a program for a platform is built on this machine.
#[derive(Clone, Copy)]
struct Way {
    triple: &'static str,
    /// Whether another linker and C compiler than this machine's are needed: those of zig, by `cargo zigbuild`.
    zig: bool,
    flags: &'static str,
}

/// With the libraries of the system in the program. A build script or a macro of this machine is never built so, because the
/// platform is always named.
const STATIC: &str = "-C target-feature=+crt-static";

fn way(platform: Platform) -> Result<Way> {
    let triple = platform.triple();
    let is_own =
        platform == Platform::LinuxAmd64 && cfg!(all(target_os = "linux", target_arch = "x86_64"));
    if is_own && has("musl-gcc") && is_installed(triple)? {
        return Ok(Way {
            triple,
            zig: false,
            flags: "",
        });
    }
    if is_own {
        // Names are resolved by a static glibc as well; nothing has to be installed for it.
        let triple = "x86_64-unknown-linux-gnu";
        return Ok(Way {
            triple,
            zig: false,
            flags: STATIC,
        });
    }
    if !has("cargo-zigbuild") {
        bail!("{triple} needs cargo-zigbuild and zig: pip install cargo-zigbuild ziglang");
    }
    if !is_installed(triple)? {
        bail!("the standard library for {triple} is missing: rustup target add {triple}");
    }
    Ok(Way {
        triple,
        zig: true,
        flags: "",
    })
}

/// Whether a program of that name is in the PATH.
fn has(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).any(|folder| folder.join(program).is_file())
}

/// Whether the standard library is there for that platform.
fn is_installed(triple: &str) -> Result<bool> {
    let output = std::process::Command::new("rustc")
        .args(["--print", "target-libdir", "--target", triple])
        .current_dir(testkit::workspace())
        .output()
        .context("running rustc")?;
    let folder = String::from_utf8(output.stdout)?;
    Ok(output.status.success() && PathBuf::from(folder.trim()).is_dir())
}

async fn call(way: Way, what: &str, part: Part, arguments: &[&str]) -> Result<()> {
    let verb = match (way.zig, what) {
        (true, "build") => "zigbuild",
        (_, what) => what,
    };
    let mut command = if way.zig {
        // Its own subcommands know where zig is; cargo alone would not.
        let mut command = tokio::process::Command::new("cargo-zigbuild");
        command
            .current_dir(testkit::workspace())
            .arg(verb)
            .kill_on_drop(true);
        command
    } else {
        cargo::command(&[verb])
    };
    command.args(["--package", part.package()]).args(arguments);
    command.env("RUSTFLAGS", flags(way));
    if way.triple.ends_with("linux-musl") && !way.zig {
        command.env("CC_x86_64_unknown_linux_musl", "musl-gcc");
    }
    let status = command.status().await.context("running cargo")?;
    if !status.success() {
        bail!("{} does not build for {}", part.program(), way.triple);
    }
    Ok(())
}

/// Folders of this machine are no part of a program: not for its reader, and not for its digest.
fn flags(way: Way) -> String {
    let home = std::env::var("CARGO_HOME")
        .ok()
        .map(PathBuf::from)
        .or_else(|| {
            let home = std::env::var_os("HOME")?;
            Some(PathBuf::from(home).join(".cargo"))
        });
    let mut flags = format!(
        "{} --remap-path-prefix={}=/src",
        way.flags,
        testkit::workspace().display()
    );
    if let Some(home) = home {
        flags = format!("{flags} --remap-path-prefix={}=/cargo", home.display());
    }
    flags.trim_start().to_owned()
}
