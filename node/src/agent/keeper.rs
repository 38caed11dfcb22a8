//! Keeps what this node has to know again after a restart, soon: what was seen of the others (DESIGN §11 P3), and who
//! was cut off by which certificate.
//!
//! **Invariant.** One write at a time, always of the newest: what the disk holds never goes back, whatever a slow
//! or failing disk does to the order of things. What could not be written is written later.

use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use stead_proto::codec;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

use crate::consensus::Consensus;

const WRITE_DEADLINE: Duration = Duration::from_secs(5);
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Keeps what comes. Does not end: a worker that is gone says itself why the agent has to.
pub(super) async fn run<T: Serialize + Send + Sync>(
    consensus: Arc<Consensus>,
    key: &'static str,
    newest: watch::Receiver<T>,
) {
    let put = |bytes: Vec<u8>| {
        let consensus = consensus.clone();
        async move { consensus.meta_put(key, &bytes).await }
    };
    keep(newest, put, RETRY_AFTER).await;
    std::future::pending().await
}

/// Until the sender is gone.
async fn keep<T: Serialize, E: Display, W: Future<Output = Result<(), E>>>(
    mut newest: watch::Receiver<T>,
    mut put: impl FnMut(Vec<u8>) -> W,
    retry_after: Duration,
) {
    while newest.changed().await.is_ok() {
        let bytes = codec::encode(&*newest.borrow_and_update(), COMMAND_FRAME_BYTES_MAX);
        let Ok(bytes) = bytes.inspect_err(|error| tracing::error!(%error, "too much to be kept")) else {
            continue;
        };
        match timeout(WRITE_DEADLINE, put(bytes)).await {
            Ok(Ok(())) => continue,
            Ok(Err(error)) => tracing::warn!(%error, "cannot keep what a restart has to know again"),
            Err(_) => tracing::warn!("the disk is too slow to keep what a restart has to know again"),
        }
        newest.mark_changed();
        sleep(retry_after).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeMap;
    use std::sync::Mutex;
    use stead_proto::id::NodeId;
    use stead_proto::memory::{Memories, Memory};
    use tokio::sync::Semaphore;

    fn memories(incarnation: u64) -> Memories {
        let map = BTreeMap::from([(NodeId(2), Memory { incarnation, ..Memory::default() })]);
        codec::decode(&codec::encode(&map, COMMAND_FRAME_BYTES_MAX).unwrap(), COMMAND_FRAME_BYTES_MAX)
            .unwrap()
    }

    fn incarnation(bytes: &[u8]) -> u64 {
        let memories: Memories = codec::decode(bytes, COMMAND_FRAME_BYTES_MAX).unwrap();
        memories.of(NodeId(2)).unwrap().incarnation
    }

    #[tokio::test]
    async fn the_newest_is_written_last_and_again_if_it_could_not_be() {
        let (sender, receiver) = watch::channel(Memories::default());
        let (written, disk) = (Arc::new(Mutex::new(Vec::new())), Arc::new(Semaphore::new(0)));
        let (log, turns) = (written.clone(), disk.clone());
        let put = move |bytes: Vec<u8>| {
            let (log, turns) = (log.clone(), turns.clone());
            async move {
                turns.acquire().await.unwrap().forget();
                let mut log = log.lock().unwrap();
                log.push(incarnation(&bytes));
                if log.len() == 2 { Err("no room") } else { Ok(()) }
            }
        };
        let keeper = tokio::spawn(keep(receiver, put, Duration::ZERO));
        sender.send_replace(memories(1));
        // The first write is under way, and slow, while more is seen.
        tokio::task::yield_now().await;
        for incarnation in 2..=9 {
            sender.send_replace(memories(incarnation));
        }
        disk.add_permits(3);
        let all = async {
            while written.lock().unwrap().len() < 3 {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(10), all).await.expect("three writes");
        assert_eq!(*written.lock().unwrap(), [1, 9, 9], "the second one failed");
        drop(sender);
        timeout(Duration::from_secs(10), keeper).await.expect("it ends with its sender").unwrap();
    }
}
