//! openraft's log and vote in a [`Store`].
//!
//! **Invariant.** All writes go through the one [`Flusher`], in the order in which openraft made them. The
//! log has no holes at any instant: entries are removed from the end backwards, and what is purged is
//! recorded before it goes. A restarted leader reads its vote back as a mere candidate's, so that it never
//! resumes its term.

use super::flusher::{Durability, Flusher};
use super::types::TypeConfig;
use super::wire::{Ballot, EntryId, LogEntry};
use crate::storage::{Op, Store, StoreError, Tree};
use openraft::storage::{LogFlushed, RaftLogStorage};
use openraft::{Entry, LogId, LogState, OptionalSend, RaftLogReader, StorageError, StorageIOError, Vote};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, RangeBounds};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use stead_proto::codec::{self, CodecError};
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, RAFT_FRAME_BYTES_MAX};

/// Bytes of one stored entry: the longest command and its frame.
const ENTRY_BYTES_MAX: usize = COMMAND_FRAME_BYTES_MAX + 4_096;
/// Bytes of a vote or an entry's id.
const FACT_BYTES_MAX: usize = 100;
/// Bytes of the entries that one message carries.
const BATCH_BYTES_MAX: usize = RAFT_FRAME_BYTES_MAX / 2;
/// Entries that one job removes.
const REMOVALS_MAX: u64 = 1_024;

const VOTE: &[u8] = b"vote";
const PURGED: &[u8] = b"purged";
const COMMITTED: &[u8] = b"committed";

/// How far the log reaches.
#[derive(Debug, Clone, Copy, Default)]
struct Extent {
    purged: Option<EntryId>,
    last: Option<EntryId>,
}

/// openraft's view of the store.
#[derive(Clone)]
pub(super) struct LogStore {
    store: Arc<dyn Store>,
    flusher: Flusher,
    extent: Arc<Mutex<Extent>>,
    appended_bytes: Arc<AtomicU64>,
    /// The durable vote: its term, and for whom.
    vote: Arc<Mutex<(u64, u64)>>,
}

impl LogStore {
    /// Opens the log that is in `store`.
    pub(super) fn open(store: Arc<dyn Store>, flusher: Flusher) -> Result<Self, StoreError> {
        let mut log = Self {
            store,
            flusher,
            extent: Arc::default(),
            appended_bytes: Arc::default(),
            vote: Arc::default(),
        };
        let vote: Option<Ballot> = log.fact(VOTE)?;
        log.keep_vote(vote.map_or((0, 0), |ballot| (ballot.term, ballot.node)));
        let purged = log.fact(PURGED)?;
        let last = match log.store.last(Tree::Log)? {
            Some((key, value)) => Some(log.entry(&key, &value)?.id),
            None => None,
        };
        let last = last.max(purged);
        log.finish_purge(purged)?;
        log.extent = Arc::new(Mutex::new(Extent { purged, last }));
        Ok(log)
    }

    /// Removes what a crash between recording a purge and removing the entries left behind.
    fn finish_purge(&self, purged: Option<EntryId>) -> Result<(), StoreError> {
        let Some(purged) = purged else { return Ok(()) };
        loop {
            let end = index_key(purged.index.saturating_add(1));
            let some = self.store.range(Tree::Log, &index_key(0), &end, BATCH_BYTES_MAX)?;
            if some.is_empty() {
                return Ok(());
            }
            let ops: Vec<Op> = some.into_iter().map(|(key, _)| Op::Remove(Tree::Log, key)).collect();
            match self.store.write(&ops).and_then(|()| self.store.sync()) {
                Err(error) if error.is_full() => return Ok(()),
                other => other?,
            }
        }
    }

    fn extent(&self) -> Extent {
        *self.extent.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn set_extent(&self, change: impl FnOnce(&mut Extent)) {
        change(&mut self.extent.lock().unwrap_or_else(PoisonError::into_inner));
    }

    /// The last entry that is on the disk.
    pub(super) fn last_durable(&self) -> Option<EntryId> {
        self.extent().last
    }

    /// The vote that is on the disk: its term, and for whom.
    pub(super) fn durable_vote(&self) -> (u64, u64) {
        *self.vote.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn keep_vote(&self, vote: (u64, u64)) {
        *self.vote.lock().unwrap_or_else(PoisonError::into_inner) = vote;
    }

    /// The last entry that was purged.
    pub(super) fn purged(&self) -> Option<EntryId> {
        self.extent().purged
    }

    /// Bytes appended since this was asked before.
    pub(super) fn take_appended_bytes(&self) -> u64 {
        self.appended_bytes.swap(0, Ordering::Relaxed)
    }

    fn fact<T: DeserializeOwned>(&self, key: &[u8]) -> Result<Option<T>, StoreError> {
        let Some(value) = self.store.get(Tree::Raft, key)? else { return Ok(None) };
        codec::decode(&value, FACT_BYTES_MAX).map(Some).map_err(|error| unreadable(key, error))
    }

    fn entry(&self, key: &[u8], value: &[u8]) -> Result<LogEntry, StoreError> {
        let entry: LogEntry =
            codec::decode(value, ENTRY_BYTES_MAX).map_err(|error| unreadable(key, error))?;
        if key == index_key(entry.id.index) {
            Ok(entry)
        } else {
            let why = format!("entry {} lies in the place of another", entry.id.index);
            Err(StoreError::Lost { file: "log".into(), why })
        }
    }

    fn read(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<Entry<TypeConfig>>, StoreError> {
        let entries = self.entries(from, to, bytes_max)?;
        Ok(entries.into_iter().map(Entry::from).collect())
    }

    /// The entries from `from` up to before `to`, as far as they are here and fit.
    pub(super) fn entries(&self, from: u64, to: u64, bytes_max: usize) -> Result<Vec<LogEntry>, StoreError> {
        let from = from.max(self.extent().purged.map_or(0, |id| id.index.saturating_add(1)));
        if from >= to {
            return Ok(Vec::new());
        }
        let records = self.store.range(Tree::Log, &index_key(from), &index_key(to), bytes_max)?;
        records.iter().map(|(key, value)| self.entry(key, value)).collect()
    }

    /// Removes entries with these indexes, durably, a bounded number at a time.
    async fn remove(&self, mut indexes: impl Iterator<Item = u64>) -> io::Result<()> {
        loop {
            let some: Vec<Op> = indexes
                .by_ref()
                .take(usize::try_from(REMOVALS_MAX).unwrap_or(usize::MAX))
                .map(|index| Op::Remove(Tree::Log, index_key(index)))
                .collect();
            if some.is_empty() {
                return Ok(());
            }
            self.flusher.write(some, Durability::Now).await?;
        }
    }
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB: RangeBounds<u64> + Clone + Debug + OptionalSend>(
        &mut self,
        range: RB,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        let from = match range.start_bound() {
            Bound::Included(index) => *index,
            Bound::Excluded(index) => index.saturating_add(1),
            Bound::Unbounded => 0,
        };
        let to = match range.end_bound() {
            Bound::Included(index) => index.saturating_add(1),
            Bound::Excluded(index) => *index,
            Bound::Unbounded => u64::MAX,
        };
        self.read(from, to, usize::MAX).map_err(|error| StorageIOError::read_logs(&error).into())
    }

    async fn limited_get_log_entries(
        &mut self,
        start: u64,
        end: u64,
    ) -> Result<Vec<Entry<TypeConfig>>, StorageError<u64>> {
        self.read(start, end, BATCH_BYTES_MAX).map_err(|error| StorageIOError::read_logs(&error).into())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, StorageError<u64>> {
        let Extent { purged, last } = self.extent();
        Ok(LogState { last_purged_log_id: purged.map(LogId::from), last_log_id: last.map(LogId::from) })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote<u64>) -> Result<(), StorageError<u64>> {
        let op = put(Tree::Raft, VOTE.to_vec(), &Ballot::from(vote), FACT_BYTES_MAX)
            .map_err(|error| StorageIOError::write_vote(&error))?;
        self.flusher
            .write(vec![op], Durability::Now)
            .await
            .map_err(|error| StorageIOError::write_vote(&error))?;
        self.keep_vote((vote.leader_id.term, vote.leader_id.node_id));
        Ok(())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote<u64>>, StorageError<u64>> {
        let ballot: Option<Ballot> = self.fact(VOTE).map_err(|error| StorageIOError::read_vote(&error))?;
        Ok(ballot.map(|ballot| Ballot { committed: false, ..ballot }.into()))
    }

    async fn save_committed(&mut self, committed: Option<LogId<u64>>) -> Result<(), StorageError<u64>> {
        let Some(committed) = committed else { return Ok(()) };
        let op = put(Tree::Raft, COMMITTED.to_vec(), &EntryId::from(&committed), FACT_BYTES_MAX)
            .map_err(|error| StorageIOError::write(&error))?;
        self.flusher
            .write(vec![op], Durability::Later)
            .await
            .map_err(|error| StorageIOError::write(&error))?;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId<u64>>, StorageError<u64>> {
        let committed: Option<EntryId> =
            self.fact(COMMITTED).map_err(|error| StorageIOError::read(&error))?;
        Ok(committed.map(LogId::from))
    }

    async fn append<I>(
        &mut self,
        entries: I,
        callback: LogFlushed<TypeConfig>,
    ) -> Result<(), StorageError<u64>>
    where
        I: IntoIterator<Item = Entry<TypeConfig>> + OptionalSend,
        I::IntoIter: OptionalSend,
    {
        let mut ops = Vec::new();
        let mut last = None;
        let mut bytes = 0_u64;
        for entry in entries {
            let entry = LogEntry::from(entry);
            last = Some(entry.id);
            let op = put(Tree::Log, index_key(entry.id.index), &entry, ENTRY_BYTES_MAX)
                .map_err(|error| StorageIOError::write_logs(&error))?;
            if let Op::Put(_, _, value) = &op {
                bytes = bytes.saturating_add(u64::try_from(value.len()).unwrap_or(u64::MAX));
            }
            ops.push(op);
        }
        let result = self.flusher.write(ops, Durability::Now).await;
        if result.is_ok() {
            self.appended_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.set_extent(|extent| extent.last = last.or(extent.last));
        }
        callback.log_io_completed(result);
        Ok(())
    }

    async fn truncate(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let Extent { purged, last } = self.extent();
        let Some(end) = last.map(|id| id.index) else { return Ok(()) };
        self.remove((log_id.index..=end).rev()).await.map_err(|error| StorageIOError::write_logs(&error))?;
        let left = log_id.index.checked_sub(1).map(|before| self.read(before, log_id.index, 0));
        let left = left.transpose().map_err(|error| StorageIOError::read_logs(&error))?;
        let left = left.and_then(|entries| entries.first().map(|entry| EntryId::from(&entry.log_id)));
        self.set_extent(|extent| extent.last = left.max(purged));
        Ok(())
    }

    async fn purge(&mut self, log_id: LogId<u64>) -> Result<(), StorageError<u64>> {
        let upto = EntryId::from(&log_id);
        let Extent { purged, last } = self.extent();
        let op = put(Tree::Raft, PURGED.to_vec(), &upto, FACT_BYTES_MAX)
            .map_err(|error| StorageIOError::write_logs(&error))?;
        self.flusher
            .write(vec![op], Durability::Now)
            .await
            .map_err(|error| StorageIOError::write_logs(&error))?;
        self.set_extent(|extent| {
            extent.purged = Some(upto);
            extent.last = extent.last.max(Some(upto));
        });
        let first = purged.map_or(0, |id| id.index.saturating_add(1));
        let end = last.map_or(0, |id| id.index).min(upto.index);
        self.remove(first..=end).await.map_err(|error| StorageIOError::write_logs(&error))?;
        Ok(())
    }
}

fn index_key(index: u64) -> Vec<u8> {
    index.to_be_bytes().to_vec()
}

fn put<T: Serialize>(tree: Tree, key: Vec<u8>, value: &T, bytes_max: usize) -> Result<Op, CodecError> {
    Ok(Op::Put(tree, key, codec::encode(value, bytes_max)?))
}

fn unreadable(key: &[u8], error: CodecError) -> StoreError {
    let key: String = key.iter().map(|byte| format!("{byte:02x}")).collect();
    StoreError::Lost { file: "log".into(), why: format!("the record {key} is {error}") }
}

#[cfg(test)]
mod tests {
    use super::super::Compaction;
    use super::super::checkpoints::Checkpoints;
    use super::super::machine::{Machine, SharedReplica};
    use super::super::types::Replica;
    use super::*;
    use crate::storage::{Create, SimDisk, SledStore};
    use openraft::testing::{StoreBuilder, Suite};
    use stead_proto::id::ClusterId;

    struct Nothing;
    impl Replica for Nothing {
        fn apply(&mut self, _index: u64, _command: &[u8]) -> Vec<u8> {
            Vec::new()
        }
        fn snapshot(&self) -> Vec<u8> {
            Vec::new()
        }
        fn restore(&mut self, _index: u64, _bytes: &[u8]) -> Result<(), String> {
            Ok(())
        }
    }

    fn open(store: Arc<dyn Store>) -> (LogStore, Machine) {
        let (flusher, _thread) = Flusher::start(store.clone()).unwrap();
        let log = LogStore::open(store.clone(), flusher.clone()).unwrap();
        // openraft's suite wants a snapshot of the last entry.
        let each = Compaction { entries: 1, ..Compaction::default() };
        let checkpoints = Checkpoints::open(store.as_ref(), flusher, each).unwrap();
        (log, Machine::open(store, SharedReplica::new(Nothing), checkpoints).unwrap())
    }

    struct OnSled;
    impl StoreBuilder<TypeConfig, LogStore, Machine, tempfile::TempDir> for OnSled {
        async fn build(&self) -> Result<(tempfile::TempDir, LogStore, Machine), StorageError<u64>> {
            let dir = tempfile::tempdir().unwrap();
            let store = SledStore::open(&dir.path().join("store"), ClusterId([7; 32]), 1, Create::IfAbsent);
            let (log, machine) = open(Arc::new(store.unwrap()));
            Ok((dir, log, machine))
        }
    }

    struct Simulated;
    impl StoreBuilder<TypeConfig, LogStore, Machine, SimDisk> for Simulated {
        async fn build(&self) -> Result<(SimDisk, LogStore, Machine), StorageError<u64>> {
            let disk = SimDisk::default();
            let (log, machine) = open(Arc::new(disk.open()));
            Ok((disk, log, machine))
        }
    }

    #[test]
    fn openrafts_own_suite_passes_on_sled() {
        Suite::test_all(OnSled).unwrap();
    }

    #[test]
    fn openrafts_own_suite_passes_on_the_simulated_store() {
        Suite::test_all(Simulated).unwrap();
    }

    fn entry(index: u64) -> Entry<TypeConfig> {
        let id = EntryId { term: 1, node: 1, index };
        LogEntry { id, payload: super::super::wire::Payload::Blank }.into()
    }

    async fn append(log: &mut LogStore, indexes: std::ops::RangeInclusive<u64>) {
        use openraft::storage::RaftLogStorageExt;
        log.blocking_append(indexes.map(entry)).await.unwrap();
    }

    /// Cuts the power after every single write of `work` and looks at what is left.
    async fn at_every_cut(
        work: impl AsyncFn(&mut LogStore),
        check: impl Fn(&mut LogStore, LogState<TypeConfig>),
    ) {
        for kept in 0.. {
            let disk = SimDisk::default();
            let (mut log, _machine) = open(Arc::new(disk.open()));
            append(&mut log, 0..=9).await;
            disk.withhold_syncs();
            work(&mut log).await;
            let writes = disk.unsynced();
            disk.crash(kept);
            let (mut log, _machine) = open(Arc::new(disk.open()));
            let state = log.get_log_state().await.unwrap();
            check(&mut log, state);
            if kept > writes {
                return;
            }
        }
    }

    fn no_holes(log: &LogStore, state: &LogState<TypeConfig>) {
        let first = state.last_purged_log_id.map_or(0, |id| id.index + 1);
        let end = state.last_log_id.map_or(0, |id| id.index + 1).max(first);
        let found: Vec<u64> =
            log.read(0, u64::MAX, usize::MAX).unwrap().iter().map(|e| e.log_id.index).collect();
        assert_eq!(found, (first..end).collect::<Vec<_>>());
    }

    #[tokio::test]
    async fn a_power_cut_anywhere_in_a_truncation_leaves_no_hole() {
        let work = async |log: &mut LogStore| {
            log.truncate(EntryId { term: 1, node: 1, index: 4 }.into()).await.unwrap()
        };
        at_every_cut(work, |log, state| {
            no_holes(log, &state);
            assert!(state.last_log_id.unwrap().index >= 3);
        })
        .await;
    }

    #[tokio::test]
    async fn a_power_cut_anywhere_in_a_purge_leaves_no_hole() {
        let work = async |log: &mut LogStore| {
            log.purge(EntryId { term: 1, node: 1, index: 6 }.into()).await.unwrap()
        };
        at_every_cut(work, |log, state| {
            no_holes(log, &state);
            assert_eq!(state.last_log_id.unwrap().index, 9);
        })
        .await;
    }

    #[tokio::test]
    async fn a_restarted_leader_is_a_mere_candidate() {
        let disk = SimDisk::default();
        let (mut log, _machine) = open(Arc::new(disk.open()));
        log.save_vote(&Vote::new_committed(5, 1)).await.unwrap();
        disk.crash(0);
        let (mut log, _machine) = open(Arc::new(disk.open()));
        assert_eq!(log.read_vote().await.unwrap(), Some(Vote::new(5, 1)));
    }
}
