//! Builds the programs of the embedded cluster from `tests/cluster`, and tools from `tests/tools`, once per version of them.

use std::{
    fs::{self, File},
    io::ErrorKind,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::OnceLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use sha2::{Digest, Sha256};

use crate::process::tail;

/// What a program of Kubernetes says that it is.
macro_rules! kubernetes {
    ($minor:literal, $patch:literal) => {
        concat!(
            "-s -w -X k8s.io/component-base/version.gitVersion=v1.",
            $minor,
            ".",
            $patch,
            " -X k8s.io/client-go/pkg/version.gitVersion=v1.",
            $minor,
            ".",
            $patch,
            " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=",
            $minor
        )
    };
}
const KUBERNETES_FLAGS: &str = kubernetes!("37", "2");
const KWOK_FLAGS: &str = "-s -w -X sigs.k8s.io/kwok/pkg/consts.Version=v0.8.0";
const PLAIN_FLAGS: &str = "-s -w";

/// A program: its name, the folder of its Go module, its package, its linker flags.
type Program = (&'static str, &'static str, &'static str, &'static str);

/// What every embedded cluster needs.
const PROGRAMS: [Program; 4] = [
    ("leash", ".", "./leash", PLAIN_FLAGS),
    ("controlplane", ".", "./controlplane", KUBERNETES_FLAGS),
    ("kubectl", ".", "./kubectl", KUBERNETES_FLAGS),
    ("kwok", "kwok", "sigs.k8s.io/kwok/cmd/kwok", KWOK_FLAGS),
];
/// What a real node needs besides; nobody else has to wait for it.
const NODE_PROGRAMS: [Program; 3] = [
    ("kubelet", ".", "./kubelet", KUBERNETES_FLAGS),
    ("app", ".", "./app", PLAIN_FLAGS),
    ("image", ".", "./image", PLAIN_FLAGS),
];

/// The same four of another minor version, whose modules `tests/cluster/older` names.
macro_rules! older {
    ($minor:literal, $patch:literal) => {
        Older {
            minor: concat!("1.", $minor),
            modules: concat!("older/1.", $minor, ".mod"),
            kit: Kit {
                sources: "cluster",
                cache: concat!("cluster-1.", $minor),
                programs: &[&[
                    PROGRAMS[0],
                    (
                        "controlplane",
                        ".",
                        "./controlplane",
                        kubernetes!($minor, $patch),
                    ),
                    ("kubectl", ".", "./kubectl", kubernetes!($minor, $patch)),
                    PROGRAMS[3],
                ]],
                says: concat!(
                    "building the embedded cluster of Kubernetes 1.",
                    $minor,
                    " with Go: about 10 minutes on two cores the first time"
                ),
            },
        }
    };
}

/// A cluster of an older version of Kubernetes.
struct Older {
    minor: &'static str,
    /// The file with the modules that it is made of.
    modules: &'static str,
    kit: Kit,
}

const OLDER: [Older; 1] = [older!("35", "4")];

/// The environment variable that names an older minor version of Kubernetes for the embedded cluster, for example `1.35`.
pub const KUBERNETES: &str = "ROLLBACK_KUBERNETES";

/// The older minor versions that there are modules of.
pub fn older_versions() -> impl Iterator<Item = &'static str> {
    OLDER.iter().map(|older| older.minor)
}

/// The older version that was asked for.
fn older() -> Result<Option<&'static Older>> {
    let Some(wanted) = &crate::variant().kubernetes else {
        return Ok(None);
    };
    let found = OLDER.iter().find(|older| older.minor == *wanted);
    let known: Vec<&str> = older_versions().collect();
    let missing = || {
        format!(
            "no modules of Kubernetes {wanted}: there are {}",
            known.join(", ")
        )
    };
    found.map(Some).with_context(missing)
}

/// What is built from one folder of Go modules, and kept by its content.
struct Kit {
    /// Where its modules are, below `tests`.
    sources: &'static str,
    /// Its folder in the cache, in which nothing else may be: what is not wanted any more is removed there.
    cache: &'static str,
    /// All of its programs; a caller may want fewer.
    programs: &'static [&'static [Program]],
    /// What is said while it is built.
    says: &'static str,
}

const CLUSTER: Kit = Kit {
    sources: "cluster",
    cache: "cluster",
    programs: &[&PROGRAMS, &NODE_PROGRAMS],
    says: "building the embedded cluster with Go: about 8 to 10 minutes on two cores the first time, seconds when Go's \
           build cache is warm",
};

const HELM: [Program; 1] = [("helm", "helm", "helm.sh/helm/v4/cmd/helm", PLAIN_FLAGS)];
const TOOLS: Kit = Kit {
    sources: "tools",
    cache: "go-tools",
    programs: &[&HELM],
    says: "building Helm with Go: about 6 minutes on two cores the first time",
};

/// The file in a folder of programs whose age says when they were last wanted.
const USED: &str = "used";
/// How long they are kept after that.
const UNUSED: Duration = Duration::from_hours(14 * 24);

const NO_GO: &str = "the embedded cluster is built with Go: install Go 1.26 or newer, or pass \
    --context NAME to use an existing cluster (kubectl and kwok have to be on the PATH then)";

/// The programs that an embedded cluster is made of.
#[derive(Clone, Debug)]
pub struct Binaries {
    /// Where they were built; without it they are looked for on the PATH.
    folder: Option<PathBuf>,
}

impl Binaries {
    /// The programs in a folder that [`ensure`] has filled, here or in another process.
    pub(crate) fn at(folder: Option<PathBuf>) -> Self {
        KNOWN.get_or_init(|| Self { folder }).clone()
    }

    /// The folder that holds them, unless they are those on the PATH.
    pub fn folder(&self) -> Option<&Path> {
        self.folder.as_deref()
    }

    fn program(&self, name: &str) -> PathBuf {
        self.folder
            .as_ref()
            .map_or_else(|| PathBuf::from(name), |folder| folder.join(name))
    }

    /// etcd, kube-apiserver, kube-controller-manager and kube-scheduler in one program.
    pub fn controlplane(&self) -> PathBuf {
        self.program("controlplane")
    }

    /// The real kubectl.
    pub fn kubectl(&self) -> PathBuf {
        self.program("kubectl")
    }

    /// The player of fake nodes.
    pub fn kwok(&self) -> PathBuf {
        self.program("kwok")
    }

    /// The real kubelet; it is there once [`ensure_node`] has built it.
    pub fn kubelet(&self) -> PathBuf {
        self.program("kubelet")
    }

    /// What runs in the containers of a real node, and the program that makes images of it.
    pub(crate) fn app_and_image(&self) -> [PathBuf; 2] {
        [self.program("app"), self.program("image")]
    }

    /// The program that ties a child to the life of its parent; there is none without Go.
    pub fn leash(&self) -> Option<PathBuf> {
        self.folder.as_ref().map(|folder| folder.join("leash"))
    }
}

/// What this process has already found, so that it is looked for once.
static KNOWN: OnceLock<Binaries> = OnceLock::new();

/// The programs for an existing cluster: as [`ensure`], or those on the PATH where Go is missing.
pub fn ensure_for_existing() -> Result<Binaries> {
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let go_is_missing = matches!(
        Command::new("go").arg("version").output(),
        Err(error) if error.kind() == ErrorKind::NotFound
    );
    if !go_is_missing {
        return ensure();
    }
    for name in ["kubectl", "kwok"] {
        Command::new(name)
            .arg("--help")
            .output()
            .with_context(|| format!("{name} is not on the PATH; it is needed on an existing cluster, unless Go is there to build it"))?;
    }
    Ok(Binaries::at(None))
}

/// Builds what is not built yet. Concurrent callers wait for the one that builds.
pub fn ensure() -> Result<Binaries> {
    if let Some(known) = KNOWN.get() {
        return Ok(known.clone());
    }
    let folder = match older()? {
        Some(older) => build_missing(&older.kit, older.kit.programs[0])?,
        None => build_missing(&CLUSTER, &PROGRAMS)?,
    };
    Ok(Binaries::at(Some(folder)))
}

/// Builds what a real node needs as well, if it is not built yet.
pub fn ensure_node() -> Result<Binaries> {
    let binaries = ensure()?;
    let folder = build_missing(&CLUSTER, &NODE_PROGRAMS)?;
    anyhow::ensure!(
        binaries.folder() == Some(&*folder),
        "tests/cluster has changed while it was being built: start again"
    );
    Ok(binaries)
}

/// The real Helm. It takes minutes to build, so in the gate it is used where somebody has built it, and `None` elsewhere; a full
/// run builds it.
pub fn helm() -> Result<Option<PathBuf>> {
    let built = place(&TOOLS)?.1.join("helm");
    if built.is_file() {
        return Ok(Some(built));
    }
    if !crate::is_full() {
        crate::node::tell("SKIPPED here: what needs Helm; `cargo xtask test --full` builds it");
        return Ok(None);
    }
    Ok(Some(build_missing(&TOOLS, &HELM)?.join("helm")))
}

/// Where the modules of a kit are, and where its programs are once they are built.
fn place(kit: &Kit) -> Result<(PathBuf, PathBuf)> {
    let sources = crate::workspace().join("tests").join(kit.sources);
    let folder = crate::cache_folder()?
        .join(kit.cache)
        .join(fingerprint(&sources, kit)?);
    Ok((sources, folder))
}

/// Builds those of the programs that are not there, and says where they are.
fn build_missing(kit: &Kit, programs: &[Program]) -> Result<PathBuf> {
    let (sources, folder) = place(kit)?;
    let home = crate::cache_folder()?.join(kit.cache);
    fs::create_dir_all(&home)?;

    let lock = File::create(home.join("lock"))?;
    if lock.try_lock().is_err() {
        eprintln!("waiting for another process that builds the same");
        lock.lock()?;
    }
    remove_unused(&home, &folder)?;
    let missing: Vec<_> = programs
        .iter()
        .filter(|(name, ..)| !folder.join(name).exists())
        .collect();
    if !missing.is_empty() {
        eprintln!("{}", kit.says);
    }
    fs::create_dir_all(&folder)?;
    // When it was last wanted.
    File::create(folder.join(USED))?;
    for (number, (name, module, package, linker)) in missing.iter().enumerate() {
        eprintln!("building {name} ({} of {})", number + 1, missing.len());
        build(name, &sources.join(module), package, linker, &folder, kit)?;
    }
    Ok(folder)
}

/// Names the inputs: everything that goes into the programs, and the compiler.
fn fingerprint(sources: &Path, kit: &Kit) -> Result<String> {
    let mut hash = Sha256::new();
    hash.update(go(sources, &["env", "GOVERSION", "GOOS", "GOARCH"])?);
    for program in kit.programs.iter().copied().flatten() {
        hash.update(format!("{program:?}"));
    }
    let mut files = Vec::new();
    list(sources, &mut files)?;
    if let Some(modules) = modules_of(kit) {
        let modules = sources.join(modules);
        files.push(modules.with_extension("sum"));
        files.push(modules);
    }
    files.sort();
    for file in files {
        hash.update(file.strip_prefix(sources)?.to_string_lossy().as_bytes());
        hash.update(fs::read(&file)?);
    }
    let digest = hash.finalize();
    Ok(digest[..8]
        .iter()
        .fold(String::new(), |text, byte| text + &format!("{byte:02x}")))
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    for entry in fs::read_dir(folder).with_context(|| format!("no {}", folder.display()))? {
        let path = entry?.path();
        // Each of those is of another cluster.
        if path.file_name().is_some_and(|name| name == "older") {
            continue;
        }
        if path.is_dir() {
            list(&path, files)?;
        } else if path.file_name().is_some_and(|name| name != "stages.yaml") {
            // The stages are read when a cluster starts; they are not compiled in.
            files.push(path);
        }
    }
    Ok(())
}

fn go(folder: &Path, args: &[&str]) -> Result<Vec<u8>> {
    let output = Command::new("go")
        .args(args)
        .current_dir(folder)
        .output()
        .map_err(no_go)?;
    if !output.status.success() {
        bail!(
            "go {}: {}",
            args.join(" "),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(output.stdout)
}

fn no_go(error: std::io::Error) -> anyhow::Error {
    if error.kind() == ErrorKind::NotFound {
        anyhow!(NO_GO)
    } else {
        anyhow!(error).context("cannot run go")
    }
}

/// The file with the modules of this kit, where it is not `go.mod`.
fn modules_of(kit: &Kit) -> Option<&'static str> {
    let mut older = OLDER.iter();
    older
        .find(|older| older.kit.cache == kit.cache)
        .map(|older| older.modules)
}

fn build(
    name: &str,
    module: &Path,
    package: &str,
    linker: &str,
    folder: &Path,
    kit: &Kit,
) -> Result<()> {
    // A program with modules of its own is the same in each version.
    let modules = modules_of(kit).filter(|file| module.join(file).exists());
    let unfinished = folder.join(format!("{name}.unfinished"));
    let log = folder.join(format!("{name}.log"));
    let output = File::create(&log)?;
    let mut child = Command::new("go")
        .arg("build")
        .args(modules.map(|file| format!("-modfile={file}")))
        .args(["-trimpath", "-ldflags", linker, "-o"])
        .arg(&unfinished)
        .arg(package)
        .current_dir(module)
        .env("CGO_ENABLED", "0")
        .env("GOWORK", "off")
        // The sums in go.sum are the only ones that are accepted.
        .env("GOFLAGS", "-mod=readonly -buildvcs=false")
        .stdin(Stdio::null())
        .stdout(output.try_clone()?)
        .stderr(output)
        .spawn()
        .map_err(no_go)?;

    let start = Instant::now();
    let mut told = 0;
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        thread::sleep(Duration::from_millis(100));
        let half_minutes = start.elapsed().as_secs() / 30;
        if half_minutes > told {
            told = half_minutes;
            eprintln!("  {name}: {} s so far", start.elapsed().as_secs());
        }
    };
    if !status.success() {
        let text = fs::read_to_string(&log).unwrap_or_default();
        bail!("go build {package} failed:\n{}", tail(&text, 25));
    }
    fs::rename(unfinished, folder.join(name))?;
    fs::remove_file(log)?;
    eprintln!("  {name}: done after {} s", start.elapsed().as_secs());
    Ok(())
}

/// Programs that nobody has wanted for a while are of no use any more, and large. Other checkouts may want those of another
/// version today.
fn remove_unused(home: &Path, current: &Path) -> Result<()> {
    for entry in fs::read_dir(home)? {
        let path = entry?.path();
        if !path.is_dir() || path == current {
            continue;
        }
        let used = fs::metadata(path.join(USED)).and_then(|it| it.modified());
        let unused = used.ok().and_then(|used| used.elapsed().ok());
        if unused.is_none_or(|unused| unused > UNUSED) {
            fs::remove_dir_all(path)?;
        }
    }
    Ok(())
}
