//! The task that watches: it announces changes of status, keeps the log small, and looks after the disk.

use super::Compaction;
use super::flusher::{Disk, Flusher};
use super::status::{Source, Status};
use super::types::TypeConfig;
use openraft::Raft;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

/// How often the disk is looked at.
const TEND_EVERY: Duration = Duration::from_millis(500);

/// Bytes appended since something.
#[derive(Debug, Default)]
struct Growth {
    since_snapshot: u64,
    since_purge: u64,
}

/// Starts the task; it ends with consensus.
pub(super) fn start(
    raft: Raft<TypeConfig>,
    source: Source,
    flusher: Flusher,
    compaction: Compaction,
) -> (watch::Receiver<Status>, JoinHandle<()>) {
    let (announce, changes) = watch::channel(source.lasting());
    let task = tokio::spawn(watch_over(raft, source, flusher, compaction, announce));
    (changes, task)
}

async fn watch_over(
    raft: Raft<TypeConfig>,
    mut source: Source,
    flusher: Flusher,
    compaction: Compaction,
    announce: watch::Sender<Status>,
) {
    let mut growth = Growth::default();
    let mut tend = tokio::time::interval(TEND_EVERY);
    tend.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            changed = source.metrics.changed() => if changed.is_err() { return },
            changed = source.disk.changed() => if changed.is_err() { return },
            _ = tend.tick() => flusher.tend(),
        }
        source.metrics.mark_unchanged();
        let now = source.lasting();
        announce.send_if_modified(|before| {
            let changes = *before != now;
            if changes {
                *before = now.clone();
            }
            changes
        });
        if now.disk != Disk::Failed {
            compact(&raft, &source, &mut growth, compaction).await;
        }
    }
}

/// Snapshots and purges by bytes; by entries, openraft does it itself.
async fn compact(raft: &Raft<TypeConfig>, source: &Source, growth: &mut Growth, compaction: Compaction) {
    let appended = source.log.take_appended_bytes();
    growth.since_snapshot = growth.since_snapshot.saturating_add(appended);
    growth.since_purge = growth.since_purge.saturating_add(appended);
    if growth.since_snapshot > compaction.bytes {
        growth.since_snapshot = 0;
        let _ = raft.trigger().snapshot().await;
    }
    let snapshot = source.metrics.borrow().snapshot.map(|id| id.index);
    if let Some(upto) = snapshot
        && growth.since_purge > compaction.log_bytes_max
    {
        growth.since_purge = 0;
        let _ = raft.trigger().purge_log(upto).await;
    }
}
