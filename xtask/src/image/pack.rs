//! The archives of the plugin: what krew, or a person, unpacks.

use std::io::{Cursor, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use zip::write::SimpleFileOptions;

use super::{File, Part, Platform, Source, gzip, tarball};

/// The licence, which has to come along.
const LICENSE: &[u8] = include_bytes!("../../../LICENSE");

/// Writes the archive for one platform: `zip` for Windows, `tar.gz` elsewhere.
pub fn write(
    platform: Platform,
    source: &Source,
    program: &[u8],
    folder: &Path,
) -> Result<PathBuf> {
    let name = format!(
        "{}-{}-{}-{}",
        Part::Plugin.program(),
        source.version,
        platform.os(),
        platform.arch()
    );
    let (ending, content) = match platform {
        Platform::WindowsAmd64 => ("zip", zipped(platform, source, program)?),
        Platform::LinuxAmd64
        | Platform::LinuxArm64
        | Platform::DarwinAmd64
        | Platform::DarwinArm64 => ("tar.gz", tarred(source, program)?),
    };
    let path = folder.join(format!("{name}.{ending}"));
    std::fs::write(&path, content).with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn tarred(source: &Source, program: &[u8]) -> Result<Vec<u8>> {
    let files = [
        File {
            path: "LICENSE",
            content: LICENSE.to_vec(),
            executable: false,
        },
        File {
            path: Part::Plugin.program(),
            content: program.to_vec(),
            executable: true,
        },
    ];
    gzip(&tarball(&files, source.time)?)
}

fn zipped(platform: Platform, source: &Source, program: &[u8]) -> Result<Vec<u8>> {
    let time = Timestamp::from_second(i64::try_from(source.time)?)?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .datetime();
    let options = SimpleFileOptions::default()
        .compression_method(zip::CompressionMethod::Deflated)
        .last_modified_time(time.try_into()?);
    let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
    archive.start_file("LICENSE", options)?;
    archive.write_all(LICENSE)?;
    archive.start_file(
        platform.file(Part::Plugin.program()),
        options.unix_permissions(0o755),
    )?;
    archive.write_all(program)?;
    Ok(archive.finish()?.into_inner())
}
