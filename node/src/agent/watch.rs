//! Carries what the committed state says into the agent's surroundings: who may talk to us, what is probed; and
//! tells the core how Raft stands and how far the peers are.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use stead_proto::health::Verdict;
use stead_proto::id::{Name, NodeId, PublicKey};
use stead_proto::mesh::{Event, RaftFacts};
use stead_proto::report::{ServiceSeen, Unwell};
use stead_proto::roster::Role as MemberRole;
use stead_proto::seed::Seed;
use stead_proto::state::State;
use stead_proto::time::Span;
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, watch};

use super::owner::{state_event, tell_unwell};
use crate::consensus::{Consensus, Disk, Role, Status};
use crate::service::{ServiceEvent, Services};
use crate::transport::{Directory, Transport, Who};

/// The local fact that holds what was seen of the others.
pub(super) const MEMORIES_KEY: &str = "memories";
/// The local fact that holds the convictions of everybody who was cut off.
pub(super) const CONVICTIONS_KEY: &str = "convictions";
/// How often a leader proves to itself that it still leads.
const FRESHNESS_ROUND: Duration = Duration::from_millis(100);
/// How often round-trip times are read.
const ROUND_TRIPS_EVERY: Duration = Duration::from_secs(1);

/// The keys that may talk to this node.
pub(super) fn accepted_keys(state: &State) -> BTreeMap<PublicKey, Who> {
    let operators = state.operators.keys().map(|key| (*key, Who::Operator));
    let members = state.members.values().filter(|member| !state.is_isolated(member.id));
    let members = members.map(|member| (member.key, Who::Node(member.id)));
    operators.chain(members).collect()
}

/// The state to go by: a node that was admitted later goes by its seed until it has read the log so far.
pub(super) fn view(seed: Option<&Seed>, state: Arc<State>) -> Arc<State> {
    match seed {
        Some(seed) => seed.view(state),
        None => state,
    }
}

/// Follows the state: directory, hints, services; then tells the core.
pub(super) async fn state(
    me: NodeId,
    seed: Option<Seed>,
    mut states: watch::Receiver<Arc<State>>,
    directory: Directory,
    hints: watch::Sender<Arc<State>>,
    mut services: Services,
    events: mpsc::Sender<Event>,
) {
    loop {
        let state = view(seed.as_ref(), states.borrow_and_update().clone());
        directory.replace(accepted_keys(&state));
        hints.send_replace(state.clone());
        let probed = state.members.get(&me).is_some_and(|m| m.role != MemberRole::Witness);
        let wanted = if probed { state.site.services.values().cloned().collect() } else { Vec::new() };
        let before: Vec<Name> = services.snapshot().into_iter().map(|event| event.name).collect();
        if let Err(error) = services.replace(wanted).await {
            tracing::error!(%error, "cannot probe the services of the site");
        }
        for name in before.into_iter().filter(|name| !state.site.services.contains_key(name)) {
            let _ = events.send(Event::Service { name, seen: None }).await;
        }
        if events.send(state_event(&state)).await.is_err() || states.changed().await.is_err() {
            return;
        }
    }
}

/// At each SIGHUP, reads the configuration again.
pub(super) async fn reload(
    read: impl Fn() -> Option<crate::config::Config>,
    peers: watch::Sender<BTreeMap<Name, Vec<String>>>,
) {
    let Ok(mut hangups) = signal(SignalKind::hangup()) else { return std::future::pending().await };
    while hangups.recv().await.is_some() {
        match read() {
            Some(config) => {
                tracing::info!("the configuration was read again: looking for peers where it says");
                peers.send_replace(config.peers);
            }
            None => tracing::error!("the configuration is not sound any more: it was not taken over"),
        }
    }
}

/// Tells the core how Raft stands, at each change and, on a leader, as its quorum is confirmed.
pub(super) async fn raft(consensus: Arc<Consensus>, fresh_for: Span, events: mpsc::Sender<Event>) {
    let mut changes = consensus.changes();
    let (mut told, mut disk) = (None, Disk::Ok);
    loop {
        let status = consensus.status();
        if status.role == Role::Stopped {
            tracing::error!("consensus has ended on this node");
            return;
        }
        if status.disk != disk {
            disk = status.disk;
            tell_unwell(&events, Unwell::DiskFull, matches!(disk, Disk::Full)).await;
            tell_unwell(&events, Unwell::StoreFailed, matches!(disk, Disk::Failed)).await;
        }
        let facts = facts(&status, consensus.is_fresh_leader(fresh_for));
        if told.as_ref() != Some(&facts) {
            told = Some(facts.clone());
            if events.send(Event::Raft(facts)).await.is_err() {
                return;
            }
        }
        let pause = if status.role == Role::Leader { FRESHNESS_ROUND } else { Duration::from_secs(1) };
        if let Ok(Err(_)) = tokio::time::timeout(pause, changes.changed()).await {
            return;
        }
    }
}

fn facts(status: &Status, leading: bool) -> RaftFacts {
    let ids = |raw: &std::collections::BTreeSet<u64>| raw.iter().copied().map(NodeId).collect();
    RaftFacts {
        term: status.vote_term,
        voted_for: NodeId(status.vote_for),
        last: status.last_log.unwrap_or_default(),
        durable: status.durable_log.unwrap_or_default(),
        leader: status.leader.map(NodeId),
        leading,
        able: matches!(status.disk, Disk::Ok),
        voters: ids(&status.voters),
        learners: ids(&status.learners),
    }
}

/// Tells the core how long the way to each peer and back takes, as QUIC measures it.
pub(super) async fn round_trips(transport: Transport, events: mpsc::Sender<Event>) {
    let mut told: BTreeMap<NodeId, u32> = BTreeMap::new();
    loop {
        let found = transport.connected().into_iter().filter_map(|peer| {
            let rtt_us = u32::try_from(transport.rtt(peer)?.as_micros()).unwrap_or(u32::MAX);
            Some((peer, rtt_us.max(1)))
        });
        let found: BTreeMap<NodeId, u32> = found.collect();
        let gone = told.keys().filter(|peer| !found.contains_key(peer)).map(|peer| (*peer, 0));
        let news = found.iter().map(|(peer, rtt_us)| (*peer, *rtt_us));
        let news: Vec<_> = news.filter(|(peer, rtt_us)| told.get(peer) != Some(rtt_us)).chain(gone).collect();
        for (peer, rtt_us) in news {
            if events.send(Event::RoundTrip { peer, rtt_us }).await.is_err() {
                return;
            }
        }
        told = found;
        tokio::time::sleep(ROUND_TRIPS_EVERY).await;
    }
}

/// Tells the core how the services are.
pub(super) async fn services(mut changes: mpsc::Receiver<ServiceEvent>, events: mpsc::Sender<Event>) {
    while let Some(change) = changes.recv().await {
        tracing::info!(service = %change.name, verdict = change.verdict.word(), "service");
        let seen = Some(seen(&change.verdict));
        if events.send(Event::Service { name: change.name, seen }).await.is_err() {
            return;
        }
    }
}

fn seen(verdict: &Verdict) -> ServiceSeen {
    let reason = || {
        let reason = verdict.reason().map(ToString::to_string).unwrap_or_default();
        stead_proto::roster::bounded_text(&reason)
    };
    match verdict {
        Verdict::Unknown => ServiceSeen::Unknown,
        Verdict::Healthy => ServiceSeen::Healthy,
        Verdict::Ailing { .. } => ServiceSeen::Ailing(reason()),
        Verdict::Down { .. } => ServiceSeen::Down(reason()),
    }
}
