//! The namespaces that a real node lives in, once somebody has made them: their network and their mounts.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context, Result, ensure};

use super::config::NODE_ADDRESS;

/// What the kubelet would otherwise set for the whole machine, and how it wants to find it.
const KERNEL: [(&str, &str); 6] = [
    ("vm/overcommit_memory", "1"),
    ("vm/panic_on_oom", "0"),
    ("kernel/panic", "10"),
    ("kernel/panic_on_oops", "1"),
    ("kernel/keys/root_maxkeys", "1000000"),
    ("kernel/keys/root_maxbytes", "25000000"),
];

/// Furnishes the network: loopback, and one interface that leads nowhere, from which the kubelet learns its address.
/// Refuses to touch a network that anybody else might use.
pub(super) fn furnish_network() -> Result<()> {
    ensure!(
        std::process::id() == 1 && only_loopback()?,
        "these are not fresh namespaces of our own, so nothing is done here: use `cargo xtask test --test node`"
    );
    ip("link set lo up")?;
    // Not a dummy: not every kernel has those, and pods need pairs anyway.
    ip("link add name node0 type veth peer name nowhere0")?;
    ip(&format!("address add {NODE_ADDRESS}/24 dev node0"))?;
    ip("link set node0 up")?;
    ip("link set nowhere0 up")?;
    ip("route add default dev node0")
}

/// Furnishes the mounts, all of them private and in memory, so that nothing stays: a place for the data of the node,
/// and one over each folder of the machine that the programs write to whatever they are told.
pub(super) fn furnish_mounts(data: &Path) -> Result<()> {
    fs::create_dir_all(data)?;
    memory_on(data)?;
    memory_on(Path::new("/run"))?;
    memory_on(Path::new("/var/log"))?;
    // Other things in there are used, perhaps this very workspace: it is only written over.
    let [above, work] = ["var-lib", "var-lib-work"].map(|name| data.join(name));
    fs::create_dir_all(&above)?;
    fs::create_dir_all(&work)?;
    let layers = format!(
        "lowerdir=/var/lib,upperdir={},workdir={}",
        above.display(),
        work.display()
    );
    run(
        "mount",
        &["-t", "overlay", "-o", &layers, "overlay", "/var/lib"],
    )?;
    cover_kernel_settings(&data.join("kernel"))
}

/// The kubelet is shown files where the settings of the kernel are, and leaves those of this machine alone.
fn cover_kernel_settings(folder: &Path) -> Result<()> {
    fs::create_dir_all(folder)?;
    for (setting, value) in KERNEL {
        let cover = folder.join(setting.replace('/', "-"));
        fs::write(&cover, format!("{value}\n"))?;
        let place: PathBuf = Path::new("/proc/sys").join(setting);
        let [cover, place] = [cover, place].map(|path| path.display().to_string());
        run("mount", &["--bind", &cover, &place])?;
    }
    Ok(())
}

fn memory_on(folder: &Path) -> Result<()> {
    let folder = folder.display().to_string();
    run("mount", &["-t", "tmpfs", "node", &folder])
}

/// Whether this network has no interface but loopback, as a new one.
fn only_loopback() -> Result<bool> {
    let devices = fs::read_to_string("/proc/self/net/dev")?;
    let names = devices
        .lines()
        .filter_map(|line| Some(line.split_once(':')?.0.trim()));
    Ok(names.eq(["lo"]))
}

fn ip(arguments: &str) -> Result<()> {
    run("ip", &arguments.split(' ').collect::<Vec<_>>())
}

/// Runs a program of the machine, which has to succeed.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<()> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .with_context(|| format!("cannot run {program}"))?;
    let errors = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.success(),
        "{program} {}: {errors}",
        arguments.join(" ")
    );
    Ok(())
}
