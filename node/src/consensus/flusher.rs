//! The one thread that writes to the store.
//!
//! Vote, log and local facts go through one bounded queue in one order. The thread takes what has queued
//! up, writes all of it, syncs once, and then answers everybody.
//!
//! **Invariant.** A [`Durability::Now`] job is answered with `Ok` only after a sync that covers it. A full
//! disk is no error here: the thread waits for room and goes on, for openraft never recovers from a failed
//! write. Only a disk that is broken is reported, and then for ever.

use crate::storage::{Op, Space, Store, StoreError};
use std::io;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot, watch};

/// Jobs that may wait.
const QUEUE_MAX: usize = 256;
/// Jobs that one sync may cover.
const BATCH_MAX: usize = 64;
/// How often a full disk is looked at again.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// How long the disk may take for what nothing waits for.
const KEEP_DEADLINE: Duration = Duration::from_secs(5);

/// The state of the disk, as the operator wants to know it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Disk {
    /// Writes are taken.
    Ok,
    /// New writes are refused until somebody makes room; nothing that was acknowledged is in danger.
    Full,
    /// The disk or the store is broken: this process cannot go on.
    Failed,
}

/// When a job counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Durability {
    /// Once it is on the disk.
    Now,
    /// Once it is visible; the next sync covers it.
    Later,
}

enum Job {
    Write { ops: Vec<Op>, durability: Durability, done: oneshot::Sender<io::Result<()>> },
    Tend,
    Stop,
}

/// The way to the thread. The thread ends when the last of these is gone.
#[derive(Clone)]
pub(super) struct Flusher {
    jobs: mpsc::Sender<Job>,
    disk: watch::Receiver<Disk>,
}

impl Flusher {
    /// Starts the thread.
    pub(super) fn start(store: Arc<dyn Store>) -> io::Result<(Self, JoinHandle<()>)> {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX);
        let (report, disk) = watch::channel(Disk::Ok);
        let worker = Worker { store, report };
        let thread =
            std::thread::Builder::new().name("stead-flusher".into()).spawn(move || worker.run(queue))?;
        Ok((Self { jobs, disk }, thread))
    }

    /// Writes `ops` in the order of the calls.
    pub(super) async fn write(&self, ops: Vec<Op>, durability: Durability) -> io::Result<()> {
        let (done, answer) = oneshot::channel();
        let stopped = || io::Error::other("the store was closed");
        self.jobs.send(Job::Write { ops, durability, done }).await.map_err(|_| stopped())?;
        answer.await.map_err(|_| stopped())?
    }

    /// Writes a fact that nothing waits for, and whose loss costs little; `what` it is, for the log.
    pub(super) fn keep(&self, op: Op, what: &'static str) {
        let flusher = self.clone();
        tokio::spawn(async move {
            let written = tokio::time::timeout(KEEP_DEADLINE, flusher.write(vec![op], Durability::Now)).await;
            if !matches!(written, Ok(Ok(()))) {
                tracing::warn!(what, "this could not be kept");
            }
        });
    }

    /// Looks after the reserve and the state of the disk; does nothing if the thread is busy.
    pub(super) fn tend(&self) {
        let _ = self.jobs.try_send(Job::Tend);
    }

    /// Ends the thread after what is queued; later writes fail.
    pub(super) async fn stop(&self) {
        let _ = self.jobs.send(Job::Stop).await;
    }

    /// The state of the disk, and its changes.
    pub(super) fn disk(&self) -> watch::Receiver<Disk> {
        self.disk.clone()
    }
}

struct Worker {
    store: Arc<dyn Store>,
    report: watch::Sender<Disk>,
}

impl Worker {
    fn run(self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            let mut batch = vec![first];
            while batch.len() < BATCH_MAX
                && let Ok(job) = queue.try_recv()
            {
                batch.push(job);
            }
            self.perform(batch, &mut queue);
        }
        if *self.report.borrow() != Disk::Failed {
            let _ = self.store.sync();
        }
    }

    fn perform(&self, batch: Vec<Job>, queue: &mut mpsc::Receiver<Job>) {
        let (mut ops, mut durability, mut waiting) = (Vec::new(), Durability::Later, Vec::new());
        for job in batch {
            match job {
                Job::Tend => self.tend(),
                Job::Stop => queue.close(),
                Job::Write { ops: more, durability: wanted, done } => {
                    ops.extend(more);
                    waiting.push(done);
                    if wanted == Durability::Now {
                        durability = Durability::Now;
                    }
                }
            }
        }
        let result = self.persist(&ops, durability, queue);
        for done in waiting {
            let copy = result.as_ref().copied().map_err(|error| io::Error::other(error.to_string()));
            let _ = done.send(copy);
        }
    }

    fn persist(
        &self,
        ops: &[Op],
        durability: Durability,
        queue: &mpsc::Receiver<Job>,
    ) -> Result<(), StoreError> {
        if ops.is_empty() {
            return Ok(());
        }
        if *self.report.borrow() == Disk::Failed {
            return Err(failed_before());
        }
        let written = self.until_there_is_room(queue, || self.store.write(ops));
        let result = match durability {
            Durability::Now => written.and_then(|()| self.until_there_is_room(queue, || self.store.sync())),
            Durability::Later => written,
        };
        if let Err(error) = &result
            && !error.is_full()
        {
            tracing::error!(%error, "the store cannot go on");
            self.report.send_replace(Disk::Failed);
        }
        result
    }

    /// Repeats `work` while the disk is full, unless nobody waits for it any more.
    fn until_there_is_room(
        &self,
        queue: &mpsc::Receiver<Job>,
        work: impl Fn() -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        loop {
            match work() {
                Err(error) if error.is_full() && !queue.is_closed() => {
                    self.set(Disk::Full);
                    std::thread::sleep(RETRY_EVERY);
                }
                other => return other,
            }
        }
    }

    fn tend(&self) {
        self.store.tend();
        self.set(match self.store.space(0) {
            Space::Ok => Disk::Ok,
            Space::Full => Disk::Full,
        });
    }

    fn set(&self, now: Disk) {
        self.report.send_if_modified(|disk| {
            let changes = *disk != now && *disk != Disk::Failed;
            if changes {
                match now {
                    Disk::Full => {
                        tracing::warn!("the disk is full: new writes are refused until there is room")
                    }
                    Disk::Ok | Disk::Failed => tracing::info!("there is room on the disk again"),
                }
                *disk = now;
            }
            changes
        });
    }
}

fn failed_before() -> StoreError {
    StoreError::Io {
        what: "go on after a failure",
        path: "store".into(),
        source: io::Error::other("see the log"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::storage::{SimDisk, Tree};

    fn put(value: u8) -> Vec<Op> {
        vec![Op::Put(Tree::Meta, b"key".to_vec(), vec![value])]
    }

    #[tokio::test]
    async fn an_answer_comes_after_the_sync() {
        let disk = SimDisk::default();
        let (flusher, _thread) = Flusher::start(Arc::new(disk.open())).unwrap();
        flusher.write(put(1), Durability::Later).await.unwrap();
        assert_eq!(disk.unsynced(), 1);
        flusher.write(put(2), Durability::Now).await.unwrap();
        assert_eq!(disk.unsynced(), 0);
        disk.crash(0);
        assert_eq!(disk.open().get(Tree::Meta, b"key").unwrap(), Some(vec![2]));
    }

    #[tokio::test]
    async fn a_full_disk_delays_writes_and_fails_none() {
        let disk = SimDisk::default();
        let (flusher, _thread) = Flusher::start(Arc::new(disk.open())).unwrap();
        disk.set_full(Space::Full);
        let mut state = flusher.disk();
        let write = tokio::spawn({
            let flusher = flusher.clone();
            async move { flusher.write(put(1), Durability::Now).await }
        });
        state.wait_for(|disk| *disk == Disk::Full).await.unwrap();
        disk.set_full(Space::Ok);
        write.await.unwrap().unwrap();
        flusher.tend();
        state.wait_for(|disk| *disk == Disk::Ok).await.unwrap();
    }

    #[tokio::test]
    async fn a_broken_disk_is_reported_for_ever() {
        let disk = SimDisk::default();
        let (flusher, _thread) = Flusher::start(Arc::new(disk.open())).unwrap();
        disk.crash(0);
        assert!(flusher.write(put(1), Durability::Now).await.is_err());
        assert!(flusher.write(put(1), Durability::Later).await.is_err());
        assert_eq!(*flusher.disk().borrow(), Disk::Failed);
    }
}
