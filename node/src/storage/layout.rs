//! The directory of a store: whose it is, and in which format.
//!
//! ```text
//! <dir>/LAYOUT      whose store this is, in words
//! <dir>/sled/       log, vote and local facts
//! <dir>/snapshots/  the latest snapshot
//! <dir>/reserve     8 MB to give up when the disk is full
//! ```
//!
//! **Invariant.** A directory that carries the final name is complete: it was built under another name,
//! synced, and renamed. So a missing file in it is damage and never an unfinished first start.

use super::StoreError;
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};
use stead_proto::id::ClusterId;

/// The format that this build writes and reads.
const FORMAT: u32 = 1;
const TITLE: &str = "stead store";
const LAYOUT_BYTES_MAX: u64 = 4_096;

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
    dir.join("LAYOUT")
}

pub(super) fn engine_dir(dir: &Path) -> PathBuf {
    dir.join("sled")
}

pub(super) fn snapshot_dir(dir: &Path) -> PathBuf {
    dir.join("snapshots")
}

pub(super) fn reserve_file(dir: &Path) -> PathBuf {
    dir.join("reserve")
}

/// Whether there is a store (or anything else that is not an empty directory).
pub(super) fn is_present(dir: &Path) -> Result<bool, StoreError> {
    match fs::read_dir(dir) {
        Ok(mut entries) => Ok(entries.next().is_some()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
        Err(source) => Err(StoreError::io("look into the directory", dir, source)),
    }
}

/// Builds a store beside its place with `fill`, then moves it there in one step.
pub(super) fn create(
    dir: &Path,
    owner: Owner,
    fill: impl FnOnce(&Path) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (Some(parent), Some(name)) = (dir.parent(), dir.file_name()) else {
        let source = std::io::Error::from(std::io::ErrorKind::InvalidInput);
        return Err(StoreError::io("create a store without a name", dir, source));
    };
    let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
    let mut unfinished_name = name.to_os_string();
    unfinished_name.push(".unfinished");
    let unfinished = parent.join(unfinished_name);
    let io = |what, source| StoreError::io(what, &unfinished, source);
    fs::create_dir_all(parent).map_err(|e| io("create the directory above", e))?;
    match fs::remove_dir_all(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(io("remove an unfinished store", error));
        }
        _ => {}
    }
    fs::create_dir(&unfinished).map_err(|e| io("create the directory", e))?;
    fs::create_dir(snapshot_dir(&unfinished)).map_err(|e| io("create the directory of snapshots", e))?;
    write_durably(&layout_file(&unfinished), owner.file().as_bytes())?;
    fill(&unfinished)?;
    sync_dir(&snapshot_dir(&unfinished))?;
    sync_dir(&unfinished)?;
    fs::rename(&unfinished, dir).map_err(|e| io("move the new store to its place", e))?;
    sync_dir(parent)
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
