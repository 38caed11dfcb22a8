//! Asks the peers of a flooding node, all the time, what they know of it.
//!
//! **Invariant.** What is noted is what a peer told over its own local socket, at the moment when its answer was
//! there: never the flooding node's own word.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stead::demo::stage::Director;
use stead_deploy::lab::now;
use stead_proto::admin::Status;
use stead_proto::id::NodeId;
use stead_proto::incident::Matter;
use stead_proto::lookout::{Posture, TrafficSeen};
use stead_proto::time::Instant;

use super::incident;

/// Between two questions to one peer.
const ASK_EVERY: Duration = Duration::from_millis(5);

/// What the peers told.
#[derive(Clone, Debug, Default)]
pub(super) struct Noted {
    /// When each peer first had a report of the flood.
    pub(super) shown: BTreeMap<usize, Instant>,
    /// When the first of them had its incident, and its number.
    pub(super) opened: Option<(Instant, u64)>,
}

/// Somebody who asks until he is dropped.
#[derive(Debug)]
pub(super) struct Watch {
    noted: Arc<Mutex<Noted>>,
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Watch {
    /// Begins to ask everybody but node `i`, whose id is `node`; incidents up to number `after` are old.
    pub(super) fn start(director: Director, i: usize, node: NodeId, after: u64) -> anyhow::Result<Self> {
        let (noted, ends) = (Arc::new(Mutex::new(Noted::default())), Arc::new(AtomicBool::new(false)));
        let (notes, end) = (Arc::clone(&noted), Arc::clone(&ends));
        let peers: Vec<usize> = (0..director.nodes()).filter(|peer| *peer != i).collect();
        let watch = move || {
            while !end.load(Ordering::Acquire) {
                for peer in &peers {
                    let Ok(status) = director.status(*peer) else { continue };
                    let mut notes = notes.lock().unwrap_or_else(PoisonError::into_inner);
                    notes.take(*peer, &status, node, after);
                }
                std::thread::sleep(ASK_EVERY);
            }
        };
        let thread = std::thread::Builder::new().name("watch".into()).spawn(watch)?;
        Ok(Self { noted, ends, thread: Some(thread) })
    }

    /// What was told so far.
    pub(super) fn so_far(&self) -> Noted {
        self.noted.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Release);
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

impl Noted {
    fn take(&mut self, peer: usize, status: &Status, node: NodeId, after: u64) {
        let at = now();
        if seen_by(status, node).is_some_and(floods) {
            self.shown.entry(peer).or_insert(at);
        }
        if self.opened.is_none() {
            let incident = incident::latest(status, &Matter::OutboundFlood(node), after);
            self.opened = incident.map(|incident| (at, incident.id));
        }
    }
}

/// What a node knows of another's traffic.
pub(super) fn seen_by(status: &Status, node: NodeId) -> Option<&TrafficSeen> {
    let peer = status.peers.iter().find(|peer| peer.node == node)?;
    peer.report.as_ref().map(|(_, report)| &report.traffic)
}

/// Whether a node says that it floods, and is held.
pub(super) fn floods(seen: &TrafficSeen) -> bool {
    seen.posture == Posture::Throttled
        && seen.flood.as_ref().is_some_and(|flood| flood.ended_unix_ms.is_none())
}
