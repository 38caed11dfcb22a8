//! The BPF file system: where maps and links are pinned, so that they outlive the process that made them.
//!
//! **Invariant.** What is pinned here stays when the agent dies. So the file system is mounted (if nobody has
//! done it, systemd does) only where the mount outlives the agent, too, and never unmounted. Nothing is ever
//! removed outside stead's own directory.

use rustix::mount::{MountFlags, mount};
use std::{
    fs, io,
    path::{Path, PathBuf},
};

/// Where the kernel's documentation, systemd and bpftool expect it.
const MOUNT_POINT: &str = "/sys/fs/bpf";
/// `BPF_FS_MAGIC` of `linux/magic.h`.
const MAGIC: u64 = 0xcafe_4a11;

/// stead's directory on a mounted BPF file system, made if it is missing.
pub(crate) fn directory(instance: &str, ifindex: u32) -> io::Result<PathBuf> {
    let root = Path::new(MOUNT_POINT);
    if !is_bpffs(root) {
        if mounts_are_private()? {
            return Err(io::Error::other(
                "not mounted, and a mount of this unit's own would end with it: run `mount -t bpf bpf /sys/fs/bpf` \
                 on the host",
            ));
        }
        mount("bpf", root, "bpf", MountFlags::NOSUID | MountFlags::NODEV | MountFlags::NOEXEC, None)?;
    }
    let directory = path(instance, ifindex);
    fs::create_dir_all(&directory)?;
    Ok(directory)
}

/// The directory's path, whether it exists or not.
pub(crate) fn path(instance: &str, ifindex: u32) -> PathBuf {
    Path::new(MOUNT_POINT).join("stead").join(instance).join(ifindex.to_string())
}

/// The interfaces for which `instance` has pinned something.
pub(crate) fn interfaces(instance: &str) -> Vec<u32> {
    let Ok(entries) = fs::read_dir(Path::new(MOUNT_POINT).join("stead").join(instance)) else {
        return Vec::new();
    };
    entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect()
}

/// Removes the directories of `instance` as far as they are empty.
pub(crate) fn sweep(instance: &str) {
    let ours = Path::new(MOUNT_POINT).join("stead");
    // What is not empty, or not there, is left as it is.
    let _ = fs::remove_dir(ours.join(instance)).and_then(|()| fs::remove_dir(ours));
}

/// Unlinks a pinned object; that it does not exist is fine.
pub(crate) fn unpin(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Whether what this thread mounts is seen by nobody else: not by init, or where init does not show it, not by
/// the process that started us.
fn mounts_are_private() -> io::Result<bool> {
    let ours = fs::read_link("/proc/thread-self/ns/mnt")?;
    let parent = std::os::unix::process::parent_id();
    let theirs =
        fs::read_link("/proc/1/ns/mnt").or_else(|_| fs::read_link(format!("/proc/{parent}/ns/mnt")))?;
    Ok(ours != theirs)
}

fn is_bpffs(path: &Path) -> bool {
    rustix::fs::statfs(path).is_ok_and(|stat| u64::try_from(stat.f_type) == Ok(MAGIC))
}
