//! What this node remembers: ordered key-value trees and one snapshot, behind a narrow trait.
//!
//! Two implementations: [`SledStore`] on a disk, and [`SimStore`], which loses un-synced writes when it
//! is told to crash. Everything above this module sees [`Store`] alone, so that the engine can be replaced.
//!
//! **Invariant.** Writes survive a crash in the order in which they were made: some prefix of the writes
//! since the last [`Store::sync`] is there afterwards, and everything before that sync is. A stored value
//! that changed behind our back is an error, never an answer. Nothing here starts empty in silence.
//!
//! Deliberately absent: transactions (the order of writes is enough for a log), and any knowledge of Raft.

mod layout;
mod record;
mod simulated;
mod sled_store;
mod snapshot_file;
mod space;

pub use layout::Create;
pub use simulated::{SimDisk, SimStore};
pub use sled_store::SledStore;

use std::io;
use std::path::{Path, PathBuf};

/// A key of a tree, at most [`KEY_BYTES_MAX`] long.
pub type Key = Vec<u8>;

/// Bytes of a key.
pub const KEY_BYTES_MAX: usize = 64;

/// A family of keys. Keys of equal length are ordered by their bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tree {
    /// Log entries under their big-endian index.
    Log,
    /// The vote, what is purged, what is known as committed.
    Raft,
    /// Small local facts of the agent (its incarnation, for one).
    Meta,
    /// Facts of the store itself.
    Store,
}

/// One write.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Sets a key.
    Put(Tree, Key, Vec<u8>),
    /// Removes a key, if it is there.
    Remove(Tree, Key),
}

/// How much room the disk has for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Space {
    /// Enough.
    Ok,
    /// Too little to take on new writes; what is under way still fits.
    Full,
}

/// Why the store could not do it.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// No store here, and none may be created.
    #[error(
        "{dir}: no store here. If this node never ran before, start it once with --create; if it did, its store is gone, and it must not vote under its old id again"
    )]
    Absent {
        /// Where it should be.
        dir: PathBuf,
    },
    /// The store of another node or another mesh.
    #[error(
        "{file}: this store belongs to {found}, not to {expected}. Point the agent at its own directory (`data` in agent.toml), if it has one"
    )]
    Foreign {
        /// The file that says so.
        file: PathBuf,
        /// Whose it is.
        found: String,
        /// Whose it should be.
        expected: String,
    },
    /// Written by a later version.
    #[error(
        "{file}: written by a newer version (format {format}, this build knows {known}). Upgrade stead on this machine, if you do not mean to go back for good"
    )]
    Newer {
        /// The file that says so.
        file: PathBuf,
        /// The format found.
        format: u32,
        /// The newest format that this build reads.
        known: u32,
    },
    /// Damaged: the node must not go on under its identity.
    #[error("{file}: the store is lost: {why}")]
    Lost {
        /// The damaged file.
        file: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another process has it open.
    #[error("{file}: in use by another process. Stop the other agent first")]
    InUse {
        /// The locked file.
        file: PathBuf,
    },
    /// No room on the disk; nothing was written, the same call may be made again.
    #[error("{dir}: the disk is full. Free some space; the agent goes on by itself")]
    Full {
        /// Where.
        dir: PathBuf,
    },
    /// Longer than the limit of its kind.
    #[error("{what} of {bytes} bytes, where at most {bytes_max} are allowed")]
    TooLong {
        /// What was too long.
        what: &'static str,
        /// Its length.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
    /// The operating system refused.
    #[error(
        "{path}: cannot {what}: {source}. Check the disk and the permissions, then start the agent again"
    )]
    Io {
        /// What was tried.
        what: &'static str,
        /// On which file.
        path: PathBuf,
        /// Why it failed.
        source: io::Error,
    },
}

impl StoreError {
    /// Wraps an error of the operating system; one for want of space becomes [`StoreError::Full`].
    pub(crate) fn io(what: &'static str, path: &Path, source: io::Error) -> Self {
        if is_out_of_space(&source) {
            Self::Full { dir: path.to_path_buf() }
        } else {
            Self::Io { what, path: path.to_path_buf(), source }
        }
    }

    /// Whether there is no way on under the node's identity, unless its own directory turns up elsewhere.
    #[must_use]
    pub const fn is_end_of_identity(&self) -> bool {
        match self {
            Self::Absent { .. } | Self::Foreign { .. } | Self::Newer { .. } | Self::Lost { .. } => true,
            Self::InUse { .. } | Self::Full { .. } | Self::TooLong { .. } | Self::Io { .. } => false,
        }
    }

    /// Whether the same call may succeed once there is room.
    #[must_use]
    pub const fn is_full(&self) -> bool {
        matches!(self, Self::Full { .. })
    }
}

pub(crate) fn is_out_of_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Where a node's durable state lives. All calls may block on the disk.
pub trait Store: Send + Sync + 'static {
    /// The value of a key.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if the value is damaged.
    fn get(&self, tree: Tree, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError>;

    /// Keys from `from` to below `to` with their values, in order, until `bytes_max` bytes of values are
    /// reached; at least one, if there is one. Both bounds have the same length.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if a value is damaged.
    fn range(
        &self,
        tree: Tree,
        from: &[u8],
        to: &[u8],
        bytes_max: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StoreError>;

    /// The greatest key (of a tree whose keys are equally long) and its value.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if the value is damaged.
    fn last(&self, tree: Tree) -> Result<Option<(Key, Vec<u8>)>, StoreError>;

    /// Makes writes that readers see at once and that the next [`Store::sync`] makes durable.
    ///
    /// # Errors
    /// [`StoreError::Full`] before anything was written.
    fn write(&self, ops: &[Op]) -> Result<(), StoreError>;

    /// Makes all writes so far durable.
    ///
    /// # Errors
    /// [`StoreError::Full`] if the writes are still only promised: call again later.
    fn sync(&self) -> Result<(), StoreError>;

    /// How much room there is for `bytes` more.
    fn space(&self, bytes: u64) -> Space;

    /// Takes care of the reserve: frees it when needed, restores it when there is room again.
    fn tend(&self);

    /// Stores a snapshot under a new name, durably, and then removes the ones before it. Names sort by age;
    /// a snapshot that is older than the one there is dropped.
    ///
    /// # Errors
    /// [`StoreError::Full`] with nothing changed.
    fn put_snapshot(&self, name: &str, bytes: &[u8]) -> Result<(), StoreError>;

    /// The latest snapshot and its name.
    ///
    /// # Errors
    /// [`StoreError::Lost`] if it is damaged.
    fn snapshot(&self) -> Result<Option<(String, Vec<u8>)>, StoreError>;
}
