//! The directory of a store: whose it is, and in which format.
//!
//! ```text
//! <dir>/LAYOUT       whose store this is, in words
//! <dir>/sled/        log, vote and local facts
//! <dir>/snapshots/   the latest snapshot
//! <dir>/reserve      8 MB to give up when the disk is full
//! <dir>/unfinished/  only while the store is created
//! ```
//!
//! Everything happens inside of the directory, which may be the root of a volume of its own: nothing is
//! written beside it, and a `lost+found` in it is nobody's content.
//!
//! **Invariant.** A store with a `LAYOUT` in its place is complete: all parts were built in `unfinished/`,
//! synced and moved to their places, `LAYOUT` as the last one. A store without it is begun again only while
//! `unfinished/` stands, and nothing lies beside it that a creation does not make; in all other cases
//! a missing file is damage, or the content is not ours.

use super::StoreError;
use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use stead_proto::id::ClusterId;

/// The format that this build writes and reads.
const FORMAT: u32 = 1;
const TITLE: &str = "stead store";
const LAYOUT_BYTES_MAX: u64 = 4_096;
const LAYOUT: &str = "LAYOUT";
const ENGINE: &str = "sled";
const SNAPSHOTS: &str = "snapshots";
const RESERVE: &str = "reserve";
const UNFINISHED: &str = "unfinished";
/// The parts of a store that are in place before it is one.
const MOVED_FIRST: [&str; 3] = [ENGINE, SNAPSHOTS, RESERVE];
/// What file systems of the ext family keep at their root.
const LOST_AND_FOUND: &str = "lost+found";

/// Whether a store may be created.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Create {
    /// This node starts for the first time: create its store, unless the first start got that far already.
    IfAbsent,
    /// This node ran before: a missing store is an error.
    Never,
}

/// The owner of a store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Owner {
    pub(super) cluster: ClusterId,
    pub(super) node: u64,
}

impl Owner {
    fn words(self) -> String {
        format!("node {} of mesh {}", self.node, self.cluster)
    }

    fn file(self) -> String {
        format!("{TITLE}\nformat {FORMAT}\ncluster {}\nnode {}\n", self.cluster, self.node)
    }
}

pub(super) fn layout_file(dir: &Path) -> PathBuf {
    dir.join(LAYOUT)
}

pub(super) fn engine_dir(dir: &Path) -> PathBuf {
    dir.join(ENGINE)
}

pub(super) fn snapshot_dir(dir: &Path) -> PathBuf {
    dir.join(SNAPSHOTS)
}

pub(super) fn reserve_file(dir: &Path) -> PathBuf {
    dir.join(RESERVE)
}

/// Whether there is a store (or anything else that is not an empty directory, nor an unfinished creation).
pub(super) fn is_present(dir: &Path) -> Result<bool, StoreError> {
    let io = |source| StoreError::io("look into the directory", dir, source);
    let mut names = BTreeSet::new();
    match fs::read_dir(dir) {
        Ok(entries) => {
            for entry in entries {
                names.insert(entry.map_err(io)?.file_name());
            }
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(source) => return Err(io(source)),
    }
    names.remove(OsStr::new(LOST_AND_FOUND));
    if names.contains(OsStr::new(UNFINISHED)) {
        let is_made = |name: &OsString| name == UNFINISHED || MOVED_FIRST.iter().any(|part| name == part);
        return Ok(!names.iter().all(is_made));
    }
    Ok(!names.is_empty())
}

/// Builds a store with `fill` inside of its directory, and makes it one by moving [`LAYOUT`] to its place.
pub(super) fn create(
    dir: &Path,
    owner: Owner,
    fill: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let unfinished = dir.join(UNFINISHED);
    let io = |what, source| StoreError::io(what, &unfinished, source);
    make_dir(dir)?;
    let _one_at_a_time = alone(dir)?;
    if is_present(dir)? {
        return Ok(());
    }
    // The mark that allows all this goes last.
    for part in MOVED_FIRST.into_iter().chain([UNFINISHED]) {
        remove_all(&dir.join(part))?;
    }
    fs::create_dir(&unfinished).map_err(|e| io("create the directory", e))?;
    fs::create_dir(snapshot_dir(&unfinished)).map_err(|e| io("create the directory of snapshots", e))?;
    write_durably(&layout_file(&unfinished), owner.file().as_bytes())?;
    fill(&unfinished)?;
    sync_dir(&snapshot_dir(&unfinished))?;
    sync_dir(&unfinished)?;
    sync_dir(dir)?;
    for part in MOVED_FIRST {
        move_out(&unfinished, dir, part)?;
    }
    sync_dir(dir)?;
    move_out(&unfinished, dir, LAYOUT)?;
    sync_dir(dir)?;
    tidy(dir)
}

/// Removes what a creation that was interrupted at its very end left behind.
pub(super) fn tidy(dir: &Path) -> Result<(), StoreError> {
    let unfinished = dir.join(UNFINISHED);
    match fs::remove_dir(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(StoreError::io("remove what the creation of the store left", &unfinished, error))
        }
        Ok(()) | Err(_) => Ok(()),
    }
}

/// Makes the directory and its name durable, if it is not there.
fn make_dir(dir: &Path) -> Result<(), StoreError> {
    if dir.is_dir() {
        return Ok(());
    }
    fs::create_dir_all(dir).map_err(|e| StoreError::io("create the directory", dir, e))?;
    match dir.parent() {
        Some(parent) if parent.as_os_str().is_empty() => sync_dir(Path::new(".")),
        Some(parent) => sync_dir(parent),
        None => Ok(()),
    }
}

/// Keeps a second agent from taking this one's unfinished store for an abandoned one.
fn alone(dir: &Path) -> Result<File, StoreError> {
    let handle = File::open(dir).map_err(|source| StoreError::io("open", dir, source))?;
    let locked = rustix::fs::flock(&handle, rustix::fs::FlockOperation::NonBlockingLockExclusive);
    locked.map(|()| handle).map_err(|_| StoreError::InUse { file: dir.to_path_buf() })
}

fn remove_all(path: &Path) -> Result<(), StoreError> {
    let removed = match fs::symlink_metadata(path) {
        Ok(found) if found.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
        Err(error) => Err(error),
    };
    removed.map_err(|source| StoreError::io("remove an unfinished store", path, source))
}

fn move_out(from: &Path, to: &Path, part: &str) -> Result<(), StoreError> {
    let place = to.join(part);
    let moved = match fs::symlink_metadata(&place) {
        Ok(_) => Err(std::io::ErrorKind::AlreadyExists.into()),
        Err(_) => fs::rename(from.join(part), &place),
    };
    moved.map_err(|source| StoreError::io("move a part of the new store to its place", &place, source))
}

/// Refuses a store that is damaged, of another node or mesh, or of a newer format.
pub(super) fn verify(dir: &Path, owner: Owner) -> Result<(), StoreError> {
    let file = layout_file(dir);
    let lost = |why: &str| StoreError::Lost { file: file.clone(), why: why.into() };
    let size = match fs::metadata(&file) {
        Ok(metadata) => metadata.len(),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(lost("the file is missing, so nothing says whose directory this is"));
        }
        Err(source) => return Err(StoreError::io("look at", &file, source)),
    };
    if size > LAYOUT_BYTES_MAX {
        return Err(lost("it is too long to be what the agent wrote"));
    }
    let text = fs::read(&file).map_err(|source| StoreError::io("read", &file, source))?;
    let text = String::from_utf8(text).map_err(|_| lost("it is not text"))?;
    let mut lines = text.lines();
    if lines.next() != Some(TITLE) {
        return Err(lost("it does not begin with \"stead store\""));
    }
    let format = lines.next().and_then(|line| line.strip_prefix("format ")).and_then(|n| n.parse().ok());
    let format: u32 = format.ok_or_else(|| lost("it names no format"))?;
    if format > FORMAT {
        return Err(StoreError::Newer { file, format, known: FORMAT });
    }
    let cluster = lines.next().and_then(|line| line.strip_prefix("cluster ")).and_then(|n| n.parse().ok());
    let node = lines.next().and_then(|line| line.strip_prefix("node ")).and_then(|n| n.parse().ok());
    let (Some(cluster), Some(node), None) = (cluster, node, lines.next()) else {
        return Err(lost("it does not name the mesh and the node"));
    };
    let found = Owner { cluster, node };
    if found == owner {
        Ok(())
    } else {
        Err(StoreError::Foreign { file, found: found.words(), expected: owner.words() })
    }
}

/// Writes a new file and syncs its content (its name is durable once the directory is synced).
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<(), StoreError> {
    let write = || {
        let mut file = File::create(path)?;
        file.write_all(bytes)?;
        file.sync_all()
    };
    write().map_err(|source| StoreError::io("write", path, source))
}

/// Makes the names in a directory durable.
pub(super) fn sync_dir(dir: &Path) -> Result<(), StoreError> {
    let sync = || File::open(dir)?.sync_all();
    sync().map_err(|source| StoreError::io("sync the directory", dir, source))
}
