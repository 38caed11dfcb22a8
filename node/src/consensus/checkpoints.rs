//! Images of the state that all nodes make at the same entries, so that one can swear to what another one sends.
//!
//! A snapshot replaces all that a node knows, trust included, and nothing in it shows that it is true. But equal logs
//! make equal states: at each checkpoint every node makes the same image, byte for byte, and remembers its SHA-256. A
//! leader sends only such images, and a receiver asks the others before it believes one (`inbound`).
//!
//! **Invariant.** The place of the next checkpoint follows from the entries since the last one alone. What was taken
//! over from a peer is a checkpoint, too.

use super::Compaction;
use super::flusher::Flusher;
use super::machine::SharedReplica;
use super::types::Image;
use super::wire::{EntryId, SnapshotImage};
use crate::storage::{Op, Store, StoreError, Tree};
use openraft::{EmptyNode, LogId, StoredMembership};
use sha2::{Digest, Sha256};
use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use stead_proto::codec;
use stead_proto::limits::SNAPSHOT_BYTES_MAX;

/// Checkpoints between two snapshots of a node, so that a snapshot is never much older than the log.
const BETWEEN_SNAPSHOTS: u64 = 4;
/// Checkpoints that a node can swear to: those of the last four snapshots.
const REMEMBERED: usize = 16;
/// Where they are on the disk.
const KEY: &[u8] = b"consensus/checkpoints";

/// The index of a checkpoint, and the SHA-256 of its image.
type Sworn = (u64, [u8; 32]);

/// What this node knows of checkpoints; all clones are one.
#[derive(Clone)]
pub(super) struct Checkpoints {
    entries: u64,
    bytes: u64,
    flusher: Flusher,
    known: Arc<Mutex<Known>>,
}

#[derive(Default)]
struct Known {
    latest: Option<(EntryId, Image)>,
    bytes_since: u64,
    sworn: VecDeque<Sworn>,
}

impl Checkpoints {
    /// Those that this node swore to before this start.
    pub(super) fn open(
        store: &dyn Store,
        flusher: Flusher,
        compaction: Compaction,
    ) -> Result<Self, StoreError> {
        let sworn = match store.get(Tree::Meta, KEY)? {
            None => VecDeque::new(),
            // Their loss costs the others a later snapshot.
            Some(bytes) => codec::decode(&bytes, super::META_BYTES_MAX).unwrap_or_else(|error| {
                tracing::warn!(%error, "the list of checkpoints is unreadable");
                VecDeque::new()
            }),
        };
        let known = Arc::new(Mutex::new(Known { sworn, ..Known::default() }));
        let (entries, bytes) = (compaction.entries / BETWEEN_SNAPSHOTS, compaction.bytes / BETWEEN_SNAPSHOTS);
        Ok(Self { entries: entries.max(1), bytes: bytes.max(1), flusher, known })
    }

    /// Counts an entry that was applied, and makes an image of the state if one is due here.
    pub(super) fn applied(
        &self,
        last: LogId<u64>,
        command_bytes: usize,
        membership: &StoredMembership<u64, EmptyNode>,
        state: impl FnOnce() -> Vec<u8>,
    ) {
        let mut known = self.lock();
        known.bytes_since =
            known.bytes_since.saturating_add(u64::try_from(command_bytes).unwrap_or(u64::MAX));
        let since = known.latest.as_ref().map_or(0, |(id, _)| id.index);
        if last.index.saturating_sub(since) < self.entries && known.bytes_since < self.bytes {
            return;
        }
        let image = SnapshotImage::new(Some(last), membership, state());
        match codec::encode(&image, SNAPSHOT_BYTES_MAX) {
            Ok(bytes) => self.take(&mut known, EntryId::from(&last), bytes),
            Err(error) => tracing::error!(%error, "the state has grown too large for a snapshot"),
        }
    }

    /// Takes over the image of a checkpoint.
    pub(super) fn adopt(&self, last: EntryId, image: Image) {
        self.take(&mut self.lock(), last, image);
    }

    fn take(&self, known: &mut Known, last: EntryId, image: Image) {
        let sworn = (last.index, digest(&image));
        (known.latest, known.bytes_since) = (Some((last, image)), 0);
        // At a start it is the one of before.
        if known.sworn.contains(&sworn) {
            return;
        }
        known.sworn.retain(|(index, _)| *index != last.index);
        known.sworn.push_back(sworn);
        while known.sworn.len() > REMEMBERED {
            known.sworn.pop_front();
        }
        let Ok(bytes) = codec::encode(&known.sworn, super::META_BYTES_MAX) else { return };
        // What a crash takes is computed again from the log.
        self.flusher.keep(Op::Put(Tree::Meta, KEY.to_vec(), bytes), "the list of checkpoints");
    }

    /// The image of the last checkpoint.
    pub(super) fn latest(&self) -> Option<Image> {
        self.lock().latest.as_ref().map(|(_, image)| image.clone())
    }

    /// The SHA-256 of this node's own image at this checkpoint, if it remembers one.
    pub(super) fn sworn(&self, index: u64) -> Option<[u8; 32]> {
        self.lock().sworn.iter().find(|(at, _)| *at == index).map(|(_, digest)| *digest)
    }

    fn lock(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is sworn of an image.
pub(super) fn digest(image: &[u8]) -> [u8; 32] {
    Sha256::digest(image).into()
}

/// The image of a state between checkpoints: for a mesh so young that it had none.
pub(super) fn between(
    last: Option<LogId<u64>>,
    membership: &StoredMembership<u64, EmptyNode>,
    replica: &SharedReplica,
) -> Result<Image, codec::CodecError> {
    let state = replica.lock().snapshot();
    codec::encode(&SnapshotImage::new(last, membership, state), SNAPSHOT_BYTES_MAX)
}
