//! What was refused, dropped and given up, as numbers.
//!
//! **Invariant.** A flood of refused strangers costs a bounded map and at most one log line a minute.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};
pub use stead_proto::admin::HandshakeRefusal as Refusal;
use stead_proto::admin::{PeerRefusal, TransportSeen};
use stead_proto::id::NodeId;
use tracing::{debug, warn};

const SOURCES_MAX: usize = 64;
const WARN_EVERY: Duration = Duration::from_secs(60);

/// One reading of the counters, since the transport was started.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Handshakes that this side refused, per cause.
    pub refused: BTreeMap<Refusal, u64>,
    /// Handshakes that the other side refused, per cause.
    pub refused_by_peer: BTreeMap<Refusal, u64>,
    /// The last of those that does not pass by itself: by whom, if that is known, why, and when.
    pub last_refused_by_peer: Option<(Option<NodeId>, Refusal, Instant)>,
    /// Connections that were closed because their key left the directory.
    pub evicted: u64,
    /// Connections that were closed because the same peer had a better one.
    pub duplicates: u64,
    /// Connections that were closed because calls on them timed out.
    pub stale: u64,
    /// Datagrams that found the inbox full.
    pub datagrams_dropped: u64,
    /// Datagrams, frames and streams that broke a limit.
    pub oversize: u64,
    /// Reports that were replaced by a newer one, or never found a connection.
    pub reports_dropped: u64,
    /// Frames that waited in vain for room in the inbox.
    pub busy: u64,
    /// Own calls that timed out.
    pub calls_timed_out: u64,
}

/// A counter that only grows.
#[derive(Debug, Default)]
pub(super) struct Count(AtomicU64);

impl Count {
    pub(super) fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// The live counters.
#[derive(Debug, Default)]
pub(super) struct Tally {
    pub(super) evicted: Count,
    pub(super) duplicates: Count,
    pub(super) stale: Count,
    pub(super) datagrams_dropped: Count,
    pub(super) oversize: Count,
    pub(super) reports_dropped: Count,
    pub(super) busy: Count,
    pub(super) calls_timed_out: Count,
    refusals: Mutex<Refusals>,
}

#[derive(Debug, Default)]
struct Refusals {
    ours: BTreeMap<Refusal, u64>,
    theirs: BTreeMap<Refusal, u64>,
    sources: BTreeMap<IpAddr, u64>,
    unreported: u64,
    reported_at: Option<Instant>,
    complained_at: Option<Instant>,
    last_by_peer: Option<(Option<NodeId>, Refusal, Instant)>,
}

impl Tally {
    /// Counts a handshake that this side refused, and says so at most once a minute.
    pub(super) fn refuse(&self, why: Refusal, source: IpAddr) {
        debug!(?why, %source, "handshake refused");
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(report) = refusals.add(why, source, Instant::now()) else { return };
        drop(refusals);
        warn!(
            refused = report.refused,
            sources = report.sources,
            last = ?why,
            "refused connections; if one of these peers is yours, compare its key, mesh and version with the roster"
        );
    }

    /// Counts a handshake that the other side refused, and says at most once a minute what to do about it.
    pub(super) fn refused_by_peer(&self, why: Refusal, peer: Option<NodeId>) {
        let mut refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        *refusals.theirs.entry(why).or_default() += 1;
        let Some(remedy) = why.remedy() else { return };
        let now = Instant::now();
        refusals.last_by_peer = Some((peer, why, now));
        if refusals.complained_at.is_some_and(|at| now.saturating_duration_since(at) < WARN_EVERY) {
            return;
        }
        refusals.complained_at = Some(now);
        drop(refusals);
        let peer = peer.map(|peer| peer.to_string());
        warn!(?why, peer, "a peer refuses this node: {remedy}");
    }

    pub(super) fn read(&self) -> Counters {
        let refusals = self.refusals.lock().unwrap_or_else(PoisonError::into_inner);
        Counters {
            refused: refusals.ours.clone(),
            refused_by_peer: refusals.theirs.clone(),
            last_refused_by_peer: refusals.last_by_peer,
            evicted: self.evicted.get(),
            duplicates: self.duplicates.get(),
            stale: self.stale.get(),
            datagrams_dropped: self.datagrams_dropped.get(),
            oversize: self.oversize.get(),
            reports_dropped: self.reports_dropped.get(),
            busy: self.busy.get(),
            calls_timed_out: self.calls_timed_out.get(),
        }
    }
}

impl From<Counters> for TransportSeen {
    fn from(counters: Counters) -> Self {
        let ms_ago = |at: Instant| u64::try_from(at.elapsed().as_millis()).unwrap_or(u64::MAX);
        Self {
            refused: counters.refused,
            refused_by_peers: counters.refused_by_peer,
            last_refused_by_peer: counters.last_refused_by_peer.map(|(peer, why, at)| PeerRefusal {
                peer,
                why,
                ms_ago: ms_ago(at),
            }),
            evicted: counters.evicted,
            duplicates: counters.duplicates,
            stale: counters.stale,
            datagrams_dropped: counters.datagrams_dropped,
            oversize: counters.oversize,
            reports_dropped: counters.reports_dropped,
            busy: counters.busy,
            calls_timed_out: counters.calls_timed_out,
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Report {
    refused: u64,
    sources: usize,
}

impl Refusals {
    /// Counts one; returns what to log if it is time to.
    fn add(&mut self, why: Refusal, source: IpAddr, now: Instant) -> Option<Report> {
        *self.ours.entry(why).or_default() += 1;
        if self.sources.len() < SOURCES_MAX || self.sources.contains_key(&source) {
            *self.sources.entry(source).or_default() += 1;
        }
        self.unreported += 1;
        if self.reported_at.is_some_and(|at| now.saturating_duration_since(at) < WARN_EVERY) {
            return None;
        }
        self.reported_at = Some(now);
        let report = Report { refused: self.unreported, sources: self.sources.len() };
        self.unreported = 0;
        self.sources.clear();
        Some(report)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_strangers_is_one_line_a_minute_and_a_bounded_map() {
        let (mut refusals, start) = (Refusals::default(), Instant::now());
        let mut lines = Vec::new();
        for n in 0..120_000_u32 {
            let now = start + Duration::from_millis(u64::from(n));
            lines.extend(refusals.add(Refusal::UnknownKey, IpAddr::V4(n.into()), now));
            assert!(refusals.sources.len() <= SOURCES_MAX);
        }
        let first = Report { refused: 1, sources: 1 };
        assert_eq!(lines, [first, Report { refused: 60_000, sources: SOURCES_MAX }]);
        assert_eq!(refusals.ours, [(Refusal::UnknownKey, 120_000)].into());
    }
}
