//! Room on the disk, watched before it runs out.
//!
//! A full disk must not end the agent. New work is refused while there is still room for the work under
//! way ([`HEADROOM_BYTES`]); when even that is gone, the reserve file is given up, since sled cannot open,
//! vote or compact without room; when room returns, the reserve is built again first.
//!
//! **Invariant.** Nobody writes to the engine with less than [`FLOOR_BYTES`] free, so that it meets
//! "no space left" only when another process races us.

use super::{Space, StoreError};
use std::fs::{self, File};
use std::path::{Path, PathBuf};

/// What the reserve file holds back.
pub(super) const RESERVE_BYTES: u64 = 8 * 1024 * 1024;
/// Below this no new work is taken on.
pub(super) const HEADROOM_BYTES: u64 = 4 * 1024 * 1024;
/// Below this the reserve is given up, and without a reserve nothing is written.
pub(super) const FLOOR_BYTES: u64 = 1024 * 1024;

/// The room in the file system of one directory.
#[derive(Debug)]
pub(super) struct Room {
    dir: PathBuf,
    reserve: PathBuf,
    privileged: bool,
}

impl Room {
    pub(super) fn of(dir: &Path, reserve: PathBuf) -> Self {
        Self { dir: dir.to_path_buf(), reserve, privileged: rustix::process::geteuid().is_root() }
    }

    /// Bytes that this process may still write. If nobody can say, there is room: the engine will tell.
    fn free(&self) -> u64 {
        rustix::fs::statvfs(&self.dir).map_or(u64::MAX, |fs| {
            let blocks = if self.privileged { fs.f_bfree } else { fs.f_bavail };
            blocks.saturating_mul(fs.f_frsize)
        })
    }

    /// Whether `bytes` of new work may be taken on.
    pub(super) fn space(&self, bytes: u64) -> Space {
        let enough = self.free() >= HEADROOM_BYTES.saturating_add(bytes) && self.reserve.exists();
        if enough { Space::Ok } else { Space::Full }
    }

    /// Makes sure that the engine finds room, at the reserve's expense if need be.
    pub(super) fn make(&self) -> Result<(), StoreError> {
        if self.free() < FLOOR_BYTES {
            self.give_up_reserve();
        }
        if self.free() < FLOOR_BYTES { Err(StoreError::Full { dir: self.dir.clone() }) } else { Ok(()) }
    }

    /// Frees the reserve.
    pub(super) fn give_up_reserve(&self) {
        if fs::remove_file(&self.reserve).is_ok() {
            tracing::warn!(file = %self.reserve.display(), "the disk is full: gave up the reserve");
        }
    }

    /// Builds the reserve again if that leaves enough room for everything else.
    pub(super) fn restore_reserve(&self) {
        let complete = fs::metadata(&self.reserve).is_ok_and(|file| file.len() == RESERVE_BYTES);
        if complete || self.free() < RESERVE_BYTES + HEADROOM_BYTES + FLOOR_BYTES {
            return;
        }
        if self.build_reserve().is_err() {
            let _ = fs::remove_file(&self.reserve);
        }
    }

    /// Builds the reserve.
    pub(super) fn build_reserve(&self) -> Result<(), StoreError> {
        let io = |source| StoreError::io("set space aside", &self.reserve, source);
        let file = File::create(&self.reserve).map_err(io)?;
        rustix::fs::fallocate(&file, rustix::fs::FallocateFlags::empty(), 0, RESERVE_BYTES)
            .map_err(|errno| io(errno.into()))?;
        file.sync_all().map_err(io)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_reserve_is_given_up_and_comes_back() {
        let dir = tempfile::tempdir().unwrap();
        let room = Room::of(dir.path(), dir.path().join("reserve"));
        assert_eq!(room.space(0), Space::Full);
        room.restore_reserve();
        assert_eq!(room.space(0), Space::Ok);
        assert_eq!(room.space(u64::MAX), Space::Full);
        room.give_up_reserve();
        assert_eq!(room.space(0), Space::Full);
        room.restore_reserve();
        assert_eq!(fs::metadata(dir.path().join("reserve")).unwrap().len(), RESERVE_BYTES);
    }
}
