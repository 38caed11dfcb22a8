//! What a host lacks. Taken on by the node's own process before it becomes `stead`.
//!
//! **Invariant.** Nothing here outlives the process: capabilities are its own, mounts are in its own mount
//! namespace.

use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, bail};
use rustix::mount::{MountFlags, mount, mount_bind};
use rustix::thread::{CapabilitySet, capabilities, remove_capability_from_bounding_set, set_capabilities};

/// Where a full copy of the store lives until it is put into its place.
const DISK: &str = "/run/disk";
/// A search path with nothing in it.
const NOWHERE: &str = "/nonexistent";

/// One thing that a host lacks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Handicap {
    /// No right to configure the network.
    NoNetAdmin,
    /// No right to load BPF programs.
    NoBpf,
    /// No `nft` on the search path.
    NoNft,
    /// The data directory, which has to be there already, moves to a disk of 32 MB.
    TinyDisk,
}

impl Handicap {
    const ALL: [Self; 4] = [Self::NoNetAdmin, Self::NoBpf, Self::NoNft, Self::TinyDisk];

    const fn word(self) -> &'static str {
        match self {
            Self::NoNetAdmin => "no-net-admin",
            Self::NoBpf => "no-bpf",
            Self::NoNft => "no-nft",
            Self::TinyDisk => "tiny-disk",
        }
    }

    fn take_on(self, home: &Path) -> anyhow::Result<()> {
        match self {
            Self::NoNetAdmin => give_up(CapabilitySet::NET_ADMIN),
            Self::NoBpf => give_up(CapabilitySet::BPF | CapabilitySet::SYS_ADMIN | CapabilitySet::PERFMON),
            Self::NoNft => search_nowhere(),
            Self::TinyDisk => move_to_tiny_disk(&home.join("data")),
        }
    }
}

/// Writes down what the host of node `name` lacks from its agent's next start on. `scene` holds the mesh.
///
/// # Errors
/// What the system says.
pub fn write(scene: &Path, name: &str, handicaps: &[Handicap]) -> anyhow::Result<()> {
    let lines: Vec<&str> = handicaps.iter().map(|handicap| handicap.word()).collect();
    Ok(std::fs::write(file(scene, name), lines.join("\n"))?)
}

/// Takes on what is written down for this agent; nothing for any other command.
///
/// # Errors
/// What the system says, or an unknown word.
pub fn suffer(arguments: &[String]) -> anyhow::Result<()> {
    let [_, command, _, config, ..] = arguments else { return Ok(()) };
    let home = Path::new(config).parent().unwrap_or(Path::new("."));
    let (Some(scene), Some(name)) = (home.ancestors().nth(2), home.file_name()) else { return Ok(()) };
    let file = file(scene, &name.to_string_lossy());
    if command != "agent" || !file.exists() {
        return Ok(());
    }
    for word in std::fs::read_to_string(&file)?.lines() {
        let known = Handicap::ALL.into_iter().find(|handicap| handicap.word() == word);
        let Some(handicap) = known else { bail!("{}: what is {word:?}?", file.display()) };
        handicap.take_on(home)?;
    }
    Ok(())
}

fn file(scene: &Path, name: &str) -> PathBuf {
    scene.join(format!("handicap-{name}"))
}

fn give_up(lost: CapabilitySet) -> anyhow::Result<()> {
    for capability in lost.iter() {
        remove_capability_from_bounding_set(capability).context("leave the bounding set")?;
    }
    let mut sets = capabilities(None)?;
    (sets.effective, sets.permitted) = (sets.effective - lost, sets.permitted - lost);
    sets.inheritable = CapabilitySet::empty();
    set_capabilities(None, sets).context("give up capabilities")
}

/// Starts this program anew with an empty search path, once.
fn search_nowhere() -> anyhow::Result<()> {
    if std::env::var_os("PATH").is_some_and(|path| path == NOWHERE) {
        return Ok(());
    }
    let error = Command::new("/proc/self/exe").args(std::env::args_os().skip(1)).env("PATH", NOWHERE).exec();
    Err(error).context("start anew")
}

fn move_to_tiny_disk(data: &Path) -> anyhow::Result<()> {
    let disk = Path::new(DISK);
    std::fs::create_dir_all(disk)?;
    mount(c"tmpfs", DISK, c"tmpfs", MountFlags::empty(), Some(c"size=32m")).context("mount a tiny disk")?;
    copy(data, disk)?;
    mount_bind(DISK, data).context("put the tiny disk in its place")
}

/// Copies a directory with all that is in it.
///
/// # Errors
/// What the system says.
pub fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from).with_context(|| from.display().to_string())? {
        let entry = entry?;
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        if source.is_dir() {
            copy(&source, &target)?;
        } else {
            std::fs::copy(&source, &target).with_context(|| source.display().to_string())?;
        }
    }
    Ok(())
}
