//! An image as one file: a layout of the OCI, which podman, skopeo, containerd and kind read, with the list that
//! `docker load` looks for.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use jiff::Timestamp;
use oci_spec::image::{
    Arch, ConfigBuilder, Descriptor, DescriptorBuilder, HistoryBuilder, ImageConfigurationBuilder,
    ImageIndex, ImageIndexBuilder, ImageManifestBuilder, MediaType, Os, PlatformBuilder,
    RootFsBuilder, Sha256Digest,
};
use serde::Serialize;

use super::{File, Part, Platform, Source, gzip, read, sha256, tarball};

/// Who the program runs as: nobody that has an account on the node.
const USER: &str = "65532:65532";
/// The certificates of public authorities, from where Debian, Ubuntu and Alpine keep them.
const CERTIFICATES: &str = "etc/ssl/certs/ca-certificates.crt";

/// The blobs of a layout, each under its digest.
struct Layout {
    archive: tar::Builder<Vec<u8>>,
    time: u64,
}

impl Layout {
    fn file(&mut self, path: &str, content: &[u8]) -> Result<()> {
        let mut header = tar::Header::new_ustar();
        header.set_size(u64::try_from(content.len())?);
        header.set_mode(0o644);
        header.set_mtime(self.time);
        Ok(self.archive.append_data(&mut header, path, content)?)
    }

    /// Adds a blob, and says how others refer to it.
    fn blob(&mut self, kind: MediaType, content: &[u8]) -> Result<DescriptorBuilder> {
        let digest = sha256(content);
        self.file(&blob_path(&digest), content)?;
        Ok(DescriptorBuilder::default()
            .media_type(kind)
            .size(u64::try_from(content.len())?)
            .digest(digest.parse::<Sha256Digest>()?))
    }
}

fn blob_path(digest: &str) -> String {
    format!("blobs/sha256/{digest}")
}

/// Writes the image of `part` for all platforms into one archive.
pub fn write(
    part: Part,
    source: &Source,
    programs: &[(Platform, Vec<u8>)],
    folder: &Path,
) -> Result<PathBuf> {
    let image = format!("{}:{}", part.program(), source.version);
    let mut layout = Layout {
        archive: tar::Builder::new(Vec::new()),
        time: source.time,
    };
    let mut manifests = Vec::new();
    let mut docker = Vec::new();
    for (platform, program) in programs {
        let (manifest, list) = one(&mut layout, part, source, *platform, program, &image)?;
        manifests.push(manifest);
        docker.push(list);
    }
    // The archive holds one image: who copies it without a name would otherwise not know which. That of several platforms is
    // an index of its own. Docker's list knows no platforms, so it has the first.
    let image = if let [only] = manifests.as_slice() {
        only.clone()
    } else {
        let platforms = index(manifests)?;
        layout
            .blob(MediaType::ImageIndex, &json(&platforms)?)?
            .build()?
    };
    let named = named(
        image,
        source,
        &format!("{}:{}", part.program(), source.version),
    );
    layout.file("index.json", &json(&index(vec![named])?)?)?;
    docker.truncate(1);
    layout.file("manifest.json", &json(&docker)?)?;
    layout.file("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
    let path = folder.join(format!("{}-{}.oci.tar", part.program(), source.version));
    std::fs::write(&path, layout.archive.into_inner()?)
        .with_context(|| format!("writing {}", path.display()))?;
    Ok(path)
}

fn index(manifests: Vec<Descriptor>) -> Result<ImageIndex> {
    Ok(ImageIndexBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageIndex)
        .manifests(manifests)
        .build()?)
}

/// With its name: containerd imports nothing, and says nothing, without the first; the others go by the second.
fn named(mut image: Descriptor, source: &Source, name: &str) -> Descriptor {
    let names = [
        (
            "io.containerd.image.name",
            format!("docker.io/library/{name}"),
        ),
        ("org.opencontainers.image.ref.name", source.version.clone()),
    ];
    let names = names.map(|(key, name)| (key.to_owned(), name));
    image.set_annotations(Some(HashMap::from(names)));
    image
}

/// The image for one platform: its manifest, and its entry in Docker's list.
fn one(
    layout: &mut Layout,
    part: Part,
    source: &Source,
    platform: Platform,
    program: &[u8],
    image: &str,
) -> Result<(Descriptor, serde_json::Value)> {
    let files = tarball(&files(part, program)?, source.time)?;
    let compressed = gzip(&files)?;
    let layer = layout
        .blob(MediaType::ImageLayerGzip, &compressed)?
        .build()?;
    let created = Timestamp::from_second(i64::try_from(source.time)?)?.to_string();
    let config = ImageConfigurationBuilder::default()
        .created(created.clone())
        .architecture(arch(platform))
        .os(Os::Linux)
        .config(
            ConfigBuilder::default()
                .user(USER)
                .entrypoint([format!("/{}", part.program())])
                .working_dir("/")
                .labels(labels(part, source, &created))
                .build()?,
        )
        .rootfs(
            RootFsBuilder::default()
                .typ("layers")
                .diff_ids([format!("sha256:{}", sha256(&files))])
                .build()?,
        )
        .history([HistoryBuilder::default()
            .created(created)
            .created_by("cargo xtask image")
            .build()?])
        .build()?;
    let config = layout
        .blob(MediaType::ImageConfig, &json(&config)?)?
        .build()?;
    let list = serde_json::json!({
        "Config": blob_path(config.digest().digest()),
        "RepoTags": [image],
        "Layers": [blob_path(layer.digest().digest())],
    });
    let manifest = ImageManifestBuilder::default()
        .schema_version(2u32)
        .media_type(MediaType::ImageManifest)
        .config(config)
        .layers([layer])
        .build()?;
    let manifest = layout
        .blob(MediaType::ImageManifest, &json(&manifest)?)?
        .platform(
            PlatformBuilder::default()
                .os(Os::Linux)
                .architecture(arch(platform))
                .build()?,
        )
        .build()?;
    Ok((manifest, list))
}

/// What is in the image: the program, who it runs as, and whom it trusts.
fn files(part: Part, program: &[u8]) -> Result<Vec<File>> {
    let certificates = Path::new("/").join(CERTIFICATES);
    Ok(vec![
        File {
            path: "etc/group",
            content: b"root:x:0:\nnonroot:x:65532:\n".to_vec(),
            executable: false,
        },
        File {
            path: "etc/passwd",
            content:
                b"root:x:0:0:root:/:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/:/sbin/nologin\n"
                    .to_vec(),
            executable: false,
        },
        File {
            path: CERTIFICATES,
            content: read(&certificates).context("install the package ca-certificates")?,
            executable: false,
        },
        File {
            path: part.program(),
            content: program.to_vec(),
            executable: true,
        },
    ])
}

fn arch(platform: Platform) -> Arch {
    match platform {
        Platform::LinuxAmd64 | Platform::DarwinAmd64 | Platform::WindowsAmd64 => Arch::Amd64,
        Platform::LinuxArm64 | Platform::DarwinArm64 => Arch::ARM64,
    }
}

/// The labels that the OCI gives names to.
fn labels(part: Part, source: &Source, created: &str) -> HashMap<String, String> {
    [
        ("title", part.program()),
        ("description", part.description()),
        ("version", &source.version),
        ("revision", &source.revision),
        ("created", created),
        ("licenses", "Apache-2.0"),
        ("vendor", "Broxiva"),
    ]
    .into_iter()
    .map(|(name, value)| (format!("org.opencontainers.image.{name}"), value.to_owned()))
    .collect()
}

/// JSON with the fields of each object in the order of the alphabet: the library keeps labels in none.
fn json(value: &impl Serialize) -> Result<Vec<u8>> {
    Ok(serde_json::to_vec(&serde_json::to_value(value)?)?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read;

    use serde_json::Value;

    use super::*;

    fn archive(platforms: &[Platform]) -> Vec<u8> {
        let source = Source {
            version: "1.2.3".to_owned(),
            revision: "abc".to_owned(),
            time: 1_796_000_000,
        };
        let folder = tempfile::tempdir().unwrap();
        let programs: Vec<_> = platforms
            .iter()
            .map(|platform| (*platform, platform.arch().as_bytes().to_vec()))
            .collect();
        let path = write(Part::Controller, &source, &programs, folder.path()).unwrap();
        read(&path).unwrap()
    }

    fn files(archive: &[u8]) -> BTreeMap<String, Vec<u8>> {
        let mut archive = tar::Archive::new(archive);
        let entries = archive.entries().unwrap().map(Result::unwrap);
        entries
            .map(|mut entry| {
                let path = entry.path().unwrap().display().to_string();
                let mut content = Vec::new();
                entry.read_to_end(&mut content).unwrap();
                (path, content)
            })
            .collect()
    }

    /// The blob that a descriptor speaks of; its digest has to be that of what it holds.
    fn blob(files: &BTreeMap<String, Vec<u8>>, descriptor: &Value) -> Value {
        let digest = descriptor["digest"].as_str().unwrap();
        let digest = digest.strip_prefix("sha256:").unwrap();
        let content = &files[&blob_path(digest)];
        assert_eq!(sha256(content), digest);
        assert_eq!(descriptor["size"], content.len());
        serde_json::from_slice(content).unwrap_or_default()
    }

    #[test]
    fn an_archive_holds_one_image_for_all_its_platforms() {
        let platforms = [Platform::LinuxAmd64, Platform::LinuxArm64];
        for platforms in [&platforms[..1], &platforms] {
            let files = files(&archive(platforms));
            let index: Value = serde_json::from_slice(&files["index.json"]).unwrap();
            let images = index["manifests"].as_array().unwrap();
            assert_eq!(images.len(), 1, "{index}");
            let names = &images[0]["annotations"];
            assert_eq!(
                names["io.containerd.image.name"],
                "docker.io/library/rollback-controller:1.2.3"
            );
            assert_eq!(names["org.opencontainers.image.ref.name"], "1.2.3");
            let image = blob(&files, &images[0]);
            let manifests = if platforms.len() == 1 {
                vec![image]
            } else {
                let of = image["manifests"].as_array().unwrap();
                let arch = |at: usize| of[at]["platform"]["architecture"].clone();
                assert_eq!((arch(0), arch(1)), ("amd64".into(), "arm64".into()));
                of.iter().map(|it| blob(&files, it)).collect()
            };
            assert_eq!(manifests.len(), platforms.len());
            for manifest in manifests {
                let config = blob(&files, &manifest["config"]);
                assert_eq!(config["config"]["User"], USER);
                assert_eq!(config["config"]["Entrypoint"][0], "/rollback-controller");
                blob(&files, &manifest["layers"][0]);
            }
            let docker: Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
            assert_eq!(docker.as_array().unwrap().len(), 1);
        }
    }

    #[test]
    fn the_same_sources_make_the_same_bytes() {
        let platforms = [Platform::LinuxAmd64, Platform::LinuxArm64];
        assert_eq!(archive(&platforms), archive(&platforms));
    }
}
