//! openraft's state machine: a [`Replica`] and its snapshots.
//!
//! The state lives in memory; what is on the disk is the latest snapshot, and the log after it.
//!
//! **Invariant.** A snapshot is the image of a [checkpoint](Checkpoints). One that openraft was told about is on the disk. A full disk delays a snapshot
//! and fails none.

use super::checkpoints::{self, Checkpoints};
use super::gate::snapshot_name;
use super::types::{Command, Image, Outcome, Replica, TypeConfig};
use super::wire::SnapshotImage;
use crate::storage::{Store, StoreError};
use openraft::storage::{RaftStateMachine, Snapshot};
use openraft::{
    AnyError, EmptyNode, Entry, EntryPayload, LogId, OptionalSend, RaftSnapshotBuilder, SnapshotMeta,
    StorageError, StorageIOError, StoredMembership,
};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};
use stead_proto::codec;
use stead_proto::limits::SNAPSHOT_BYTES_MAX;

const RETRY_EVERY: Duration = Duration::from_millis(200);

/// The replicated state, shared with whoever checks a snapshot before it is installed.
#[derive(Clone)]
pub(super) struct SharedReplica(Arc<Mutex<Box<dyn Replica>>>);

impl SharedReplica {
    pub(super) fn new(replica: impl Replica) -> Self {
        Self(Arc::new(Mutex::new(Box::new(replica))))
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, Box<dyn Replica>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The state machine.
pub(super) struct Machine {
    replica: SharedReplica,
    store: Arc<dyn Store>,
    checkpoints: Checkpoints,
    last: Option<LogId<u64>>,
    membership: StoredMembership<u64, EmptyNode>,
}

/// One snapshot on its way to the disk.
pub(super) struct Builder {
    image: Result<Image, codec::CodecError>,
    store: Arc<dyn Store>,
}

impl Machine {
    /// The state of the latest snapshot.
    pub(super) fn open(
        store: Arc<dyn Store>,
        replica: SharedReplica,
        checkpoints: Checkpoints,
    ) -> Result<Self, StoreError> {
        let (last, membership) = (None, StoredMembership::default());
        let mut machine = Self { replica, store, checkpoints, last, membership };
        if let Some((name, bytes)) = machine.store.snapshot()? {
            let lost = |why: String| StoreError::Lost { file: name.clone().into(), why };
            let image = decode(&bytes).map_err(|error| lost(error.to_string()))?;
            machine.adopt(&image.meta(name.clone()), &image, &bytes).map_err(lost)?;
        }
        Ok(machine)
    }

    /// The index of the last entry that is part of the state.
    pub(super) fn last_index(&self) -> Option<u64> {
        self.last.map(|id| id.index)
    }

    fn adopt(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        image: &SnapshotImage,
        bytes: &[u8],
    ) -> Result<(), String> {
        let index = image.last.map_or(0, |id| id.index);
        self.replica.lock().restore(index, &image.state.0)?;
        if let Some(last) = image.last {
            self.checkpoints.adopt(last, bytes.to_vec());
        }
        self.last = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        Ok(())
    }
}

fn decode(bytes: &[u8]) -> Result<SnapshotImage, codec::CodecError> {
    codec::decode(bytes, SNAPSHOT_BYTES_MAX)
}

/// Stores a snapshot, waiting for room if there is none.
async fn store_snapshot(store: &Arc<dyn Store>, name: &str, image: Image) -> Result<(), StorageError<u64>> {
    let image = Arc::new(image);
    loop {
        let (store, name, bytes) = (store.clone(), name.to_owned(), image.clone());
        let put = tokio::task::spawn_blocking(move || store.put_snapshot(&name, &bytes)).await;
        match put {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(error)) if error.is_full() => {
                tracing::warn!(%error, "a snapshot waits for room");
                tokio::time::sleep(RETRY_EVERY).await;
            }
            Ok(Err(error)) => return Err(StorageIOError::write_snapshot(None, &error).into()),
            Err(error) => return Err(StorageIOError::write_snapshot(None, &error).into()),
        }
    }
}

fn nonce() -> u128 {
    SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_nanos())
}

impl RaftStateMachine<TypeConfig> for Machine {
    type SnapshotBuilder = Builder;

    async fn applied_state(
        &mut self,
    ) -> Result<(Option<LogId<u64>>, StoredMembership<u64, EmptyNode>), StorageError<u64>> {
        Ok((self.last, self.membership.clone()))
    }

    async fn apply<I>(&mut self, entries: I) -> Result<Vec<Outcome>, StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut replica = self.replica.lock();
        let mut outcomes = Vec::new();
        for entry in entries {
            let mut command_bytes = 0;
            let outcome = match entry.payload {
                EntryPayload::Blank => Vec::new(),
                EntryPayload::Normal(Command(bytes)) => {
                    command_bytes = bytes.len();
                    replica.apply(entry.log_id.index, &bytes)
                }
                EntryPayload::Membership(membership) => {
                    self.membership = StoredMembership::new(Some(entry.log_id), membership);
                    Vec::new()
                }
            };
            self.last = Some(entry.log_id);
            self.checkpoints.applied(entry.log_id, command_bytes, &self.membership, || replica.snapshot());
            outcomes.push(Outcome(outcome));
        }
        Ok(outcomes)
    }

    async fn get_snapshot_builder(&mut self) -> Builder {
        // openraft asks for one also where there was no checkpoint yet.
        let between = || checkpoints::between(self.last, &self.membership, &self.replica);
        let image = self.checkpoints.latest().map_or_else(between, Ok);
        Builder { image, store: self.store.clone() }
    }

    async fn begin_receiving_snapshot(&mut self) -> Result<Box<Image>, StorageError<u64>> {
        Ok(Box::default())
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta<u64, EmptyNode>,
        snapshot: Box<Image>,
    ) -> Result<(), StorageError<u64>> {
        let image = decode(&snapshot).map_err(|error| StorageIOError::read_snapshot(None, &error))?;
        self.adopt(meta, &image, &snapshot)
            .map_err(|why| StorageIOError::read_snapshot(Some(meta.signature()), AnyError::error(why)))?;
        store_snapshot(&self.store, &meta.snapshot_id, *snapshot).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot<TypeConfig>>, StorageError<u64>> {
        let found = self.store.snapshot().map_err(|error| StorageIOError::read_snapshot(None, &error))?;
        let Some((name, bytes)) = found else { return Ok(None) };
        let image = decode(&bytes).map_err(|error| StorageIOError::read_snapshot(None, &error))?;
        Ok(Some(Snapshot { meta: image.meta(name), snapshot: Box::new(bytes) }))
    }
}

impl RaftSnapshotBuilder<TypeConfig> for Builder {
    async fn build_snapshot(&mut self) -> Result<Snapshot<TypeConfig>, StorageError<u64>> {
        let unusable =
            |error| StorageError::from(StorageIOError::write_snapshot(None, AnyError::new(&error)));
        let bytes = self.image.clone().map_err(unusable)?;
        let image = decode(&bytes).map_err(unusable)?;
        let meta = image.meta(snapshot_name(image.last.map_or(0, |id| id.index), nonce()));
        store_snapshot(&self.store, &meta.snapshot_id, bytes.clone()).await?;
        Ok(Snapshot { meta, snapshot: Box::new(bytes) })
    }
}
