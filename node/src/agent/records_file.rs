//! The lease records of this boot: a small file on a tmpfs that outlives the agent, not the machine.
//!
//! Two slots are written in turns, each with a sequence number and a checksum, so that a writer that is
//! killed half-way leaves the other slot whole. No sync: what has to survive is the process, and a reboot
//! has to lose the file (DESIGN §11 P7, P8).
//!
//! **Invariant.** When [`RecordsFile::write`] returns, a later start of the agent in this boot reads these
//! records or later ones.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use serde::{Serialize, de::DeserializeOwned};
use sha2::{Digest, Sha256};
use stead_proto::codec;

/// Bytes of one slot: sixteen endpoints fit several times over.
const SLOT_BYTES: usize = 16 * 1024;
const HEAD_BYTES: usize = 8 + 8 + 4;

/// Why the file cannot serve.
#[derive(Debug, thiserror::Error)]
pub enum RecordsError {
    /// It cannot be opened or made.
    #[error(
        "{path}: cannot keep lease records there ({source}); the run directory has to be a writable tmpfs"
    )]
    Open {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// It cannot be written: nothing may be promised.
    #[error("cannot write lease records: {0}")]
    Write(#[source] io::Error),
    /// More than fits.
    #[error("lease records are too large: {0}")]
    TooLarge(#[from] codec::CodecError),
}

/// The open file.
#[derive(Debug)]
pub(super) struct RecordsFile {
    file: File,
    sequence: u64,
}

impl RecordsFile {
    /// Opens or makes the file and reads the newest whole record, if there is one.
    ///
    /// # Errors
    /// [`RecordsError::Open`].
    pub(super) fn open<T: DeserializeOwned>(path: &Path) -> Result<(Self, Option<T>), RecordsError> {
        let open = || {
            let file = OpenOptions::new()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o600)
                .open(path)?;
            let slots = [read_slot(&file, 0)?, read_slot(&file, 1)?];
            Ok((file, slots.into_iter().flatten().max_by_key(|(sequence, _)| *sequence)))
        };
        let (file, newest) = open().map_err(|source| RecordsError::Open { path: path.into(), source })?;
        let sequence = newest.as_ref().map_or(0, |(sequence, _)| *sequence);
        let value = newest.and_then(|(_, bytes)| codec::decode(&bytes, SLOT_BYTES).ok());
        Ok((Self { file, sequence }, value))
    }

    /// Writes `value` over the older slot.
    ///
    /// # Errors
    /// [`RecordsError`]; then nothing that depends on it may be sent.
    pub(super) fn write<T: Serialize>(&mut self, value: &T) -> Result<(), RecordsError> {
        let body = codec::encode(value, SLOT_BYTES - HEAD_BYTES)?;
        let sequence = self.sequence + 1;
        let length = u32::try_from(body.len()).expect("shorter than a slot");
        let mut slot = Vec::with_capacity(HEAD_BYTES + body.len());
        slot.extend(checksum(sequence, &body));
        slot.extend(sequence.to_le_bytes());
        slot.extend(length.to_le_bytes());
        slot.extend(body);
        self.file.write_all_at(&slot, offset(sequence % 2)).map_err(RecordsError::Write)?;
        self.sequence = sequence;
        Ok(())
    }
}

fn offset(slot: u64) -> u64 {
    slot * u64::try_from(SLOT_BYTES).expect("a small constant")
}

fn read_slot(file: &File, slot: u64) -> io::Result<Option<(u64, Vec<u8>)>> {
    let mut bytes = vec![0; SLOT_BYTES];
    let mut read = 0;
    while read < SLOT_BYTES {
        let rest = bytes.get_mut(read..).unwrap_or_default();
        match file.read_at(rest, offset(slot) + u64::try_from(read).unwrap_or(u64::MAX))? {
            0 => break,
            n => read += n,
        }
    }
    Ok(parse_slot(bytes.get(..read).unwrap_or_default()))
}

fn parse_slot(bytes: &[u8]) -> Option<(u64, Vec<u8>)> {
    let (sum, rest) = bytes.split_first_chunk::<8>()?;
    let (sequence, rest) = rest.split_first_chunk::<8>()?;
    let (length, rest) = rest.split_first_chunk::<4>()?;
    let sequence = u64::from_le_bytes(*sequence);
    let body = rest.get(..usize::try_from(u32::from_le_bytes(*length)).ok()?)?;
    (checksum(sequence, body) == *sum).then(|| (sequence, body.to_vec()))
}

fn checksum(sequence: u64, body: &[u8]) -> [u8; 8] {
    let digest = Sha256::new().chain_update(sequence.to_le_bytes()).chain_update(body).finalize();
    core::array::from_fn(|i| digest.get(i).copied().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_record_is_read_back() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        for i in 0..5_u32 {
            let (mut file, before) = RecordsFile::open::<u32>(&path).unwrap();
            assert_eq!(before, i.checked_sub(1));
            file.write(&i).unwrap();
        }
    }

    #[test]
    fn a_half_written_slot_leaves_the_one_before() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lease");
        let (mut file, _) = RecordsFile::open::<String>(&path).unwrap();
        file.write(&"one".to_string()).unwrap();
        file.write(&"two".to_string()).unwrap();
        let whole = std::fs::read(&path).unwrap();
        for cut in 0..40 {
            let mut torn = whole.clone();
            torn[cut..40].fill(0xAA);
            std::fs::write(&path, &torn).unwrap();
            let (_, read) = RecordsFile::open::<String>(&path).unwrap();
            assert!(matches!(read.as_deref(), Some("one" | "two")), "{read:?} at {cut}");
        }
    }
}
