//! Snapshots as files: a checksum, then the bytes.
//!
//! **Invariant.** A file with a snapshot's name is complete and durable: it was written under another name,
//! synced, renamed, and its directory synced. Names are never used twice, and they sort by age.

use super::StoreError;
use super::layout::{sync_dir, write_durably};
use sha2::{Digest, Sha256};
use std::fs;
use std::path::{Path, PathBuf};

const SUFFIX: &str = ".snapshot";
const UNFINISHED: &str = ".unfinished";
const MAGIC: &[u8; 8] = b"steadsn1";
const DIGEST_BYTES: usize = 32;

/// Writes a snapshot, then removes all others; one that is older than what is there is dropped.
pub(super) fn put(dir: &Path, name: &str, bytes: &[u8]) -> Result<(), StoreError> {
    if newest(dir)?.and_then(|path| name_of(&path)).is_some_and(|there| there.as_str() > name) {
        return Ok(());
    }
    let unfinished = dir.join(format!("{name}{UNFINISHED}"));
    let path = dir.join(format!("{name}{SUFFIX}"));
    let mut content = MAGIC.to_vec();
    content.extend_from_slice(&digest(name, bytes));
    content.extend_from_slice(bytes);
    write_durably(&unfinished, &content).inspect_err(|_| {
        let _ = fs::remove_file(&unfinished);
    })?;
    fs::rename(&unfinished, &path).map_err(|source| StoreError::io("name the snapshot", &path, source))?;
    sync_dir(dir)?;
    remove_all_but(dir, &path)
}

/// Reads the latest snapshot.
pub(super) fn latest(dir: &Path) -> Result<Option<(String, Vec<u8>)>, StoreError> {
    let Some(path) = newest(dir)? else { return Ok(None) };
    let lost = |why: &str| StoreError::Lost { file: path.clone(), why: why.into() };
    let name = name_of(&path).ok_or_else(|| lost("its name is not text"))?;
    let content = fs::read(&path).map_err(|source| StoreError::io("read the snapshot", &path, source))?;
    let rest = content.strip_prefix(MAGIC).ok_or_else(|| lost("it is not a snapshot"))?;
    let (expected, bytes) = rest.split_at_checked(DIGEST_BYTES).ok_or_else(|| lost("it is too short"))?;
    if expected != digest(&name, bytes) {
        return Err(lost("it does not match its checksum"));
    }
    Ok(Some((name, bytes.to_vec())))
}

/// Removes what an interrupted [`put`] left behind.
pub(super) fn tidy(dir: &Path) -> Result<(), StoreError> {
    remove_all_but(dir, &newest(dir)?.unwrap_or_default())
}

fn newest(dir: &Path) -> Result<Option<PathBuf>, StoreError> {
    Ok(files(dir)?.into_iter().rfind(|path| has_suffix(path, SUFFIX)))
}

fn name_of(path: &Path) -> Option<String> {
    Some(path.file_name()?.to_str()?.strip_suffix(SUFFIX)?.to_owned())
}

fn remove_all_but(dir: &Path, keep: &Path) -> Result<(), StoreError> {
    for path in files(dir)? {
        if path != keep && (has_suffix(&path, SUFFIX) || has_suffix(&path, UNFINISHED)) {
            fs::remove_file(&path)
                .map_err(|source| StoreError::io("remove an old snapshot", &path, source))?;
        }
    }
    Ok(())
}

fn files(dir: &Path) -> Result<Vec<PathBuf>, StoreError> {
    let io = |source| StoreError::io("list the snapshots", dir, source);
    let mut paths = Vec::new();
    for entry in fs::read_dir(dir).map_err(io)? {
        paths.push(entry.map_err(io)?.path());
    }
    paths.sort();
    Ok(paths)
}

fn has_suffix(path: &Path, suffix: &str) -> bool {
    path.file_name().and_then(|name| name.to_str()).is_some_and(|name| name.ends_with(suffix))
}

fn digest(name: &str, bytes: &[u8]) -> [u8; DIGEST_BYTES] {
    Sha256::new().chain_update(name).chain_update([0]).chain_update(bytes).finalize().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_snapshot_replaces_the_ones_before() {
        let dir = tempfile::tempdir().unwrap();
        assert!(latest(dir.path()).unwrap().is_none());
        put(dir.path(), "01", b"old").unwrap();
        put(dir.path(), "02", b"new").unwrap();
        put(dir.path(), "01", b"late").unwrap();
        fs::write(dir.path().join("03.unfinished"), b"half").unwrap();
        tidy(dir.path()).unwrap();
        assert_eq!(latest(dir.path()).unwrap(), Some(("02".into(), b"new".to_vec())));
        assert_eq!(files(dir.path()).unwrap().len(), 1);
    }

    #[test]
    fn one_flipped_bit_anywhere_in_a_snapshot_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        put(dir.path(), "01", b"state").unwrap();
        let path = dir.path().join("01.snapshot");
        let whole = fs::read(&path).unwrap();
        for bit in 0..whole.len() * 8 {
            let mut broken = whole.clone();
            broken[bit / 8] ^= 1 << (bit % 8);
            fs::write(&path, broken).unwrap();
            assert!(matches!(latest(dir.path()), Err(StoreError::Lost { .. })), "bit {bit}");
        }
    }
}
