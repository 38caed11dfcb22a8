//! One node.

use super::{node_name, transport};
use crate::agreement::{Agreement, Opinion};
use crate::ask::Heard;
use crate::json::{self, Node};
use std::collections::BTreeSet;
use stead_proto::id::NodeId;
use stead_proto::liveness::Liveness;
use stead_proto::report::Reach;
use stead_proto::roster::Standing;

pub(super) fn node(agreement: &Agreement<'_>, id: NodeId, heard: &Heard) -> Node {
    let state = agreement.state();
    let member = state.and_then(|state| state.members.get(&id));
    let status = agreement.status_of(id);
    let (opinion, details) = match agreement.opinions.get(&id) {
        Some(Opinion::Agrees) | None => ("agrees", Vec::new()),
        Some(Opinion::Behind(entries)) => ("behind", vec![format!("lacks {entries} entries")]),
        Some(Opinion::Differs(differences)) => ("differs", differences.clone()),
        Some(Opinion::Silent(why)) => ("silent", vec![why.clone()]),
    };
    let seen = liveness(agreement, id);
    let serving = status.into_iter().flat_map(|s| &s.endpoints).filter(|e| e.serving.is_some());
    Node {
        name: member.map_or_else(|| heard.name.to_string(), |m| m.name.to_string()),
        id: id.0,
        role: member.map(|m| m.role.as_str()),
        votes: state.is_some_and(|state| state.config.voters.contains(&id)),
        drained: member.is_some_and(|m| m.standing == Standing::Drained),
        probation_until_unix_ms: member.and_then(|m| match m.standing {
            Standing::Probation { until_unix_ms, .. } => Some(until_unix_ms),
            Standing::Active | Standing::Drained => None,
        }),
        cut_off: state.and_then(|state| super::cases::cut_off(state, id)),
        opinion,
        details,
        via: heard.via.as_ref().map(ToString::to_string),
        liveness: seen.map(|(liveness, _)| word(liveness)),
        liveness_since_ms: seen.map(|(_, since)| since),
        leads: agreement.leader == Some(id),
        follows: status.and_then(|s| s.own.log.leader).map(|leader| node_name(agreement, leader)),
        version: status.map(|s| s.version.clone()),
        uptime_ms: status.map(|s| s.uptime_ms),
        applied: status.map(|s| s.state.applied),
        serves: serving.map(|e| e.name.to_string()).collect(),
        waiting: status.and_then(|s| s.waiting.clone()),
        unwell: status.into_iter().flat_map(|s| &s.own.unwell).map(|u| u.as_str().into()).collect(),
        reach: status.into_iter().flat_map(|s| &s.own.reach).map(|seen| reach(agreement, seen)).collect(),
        refused: status.and_then(|s| transport::refused(&s.transport, |peer| node_name(agreement, peer))),
        transport: status.map(|s| transport::transport(&s.transport)),
        gate: status.map(|s| s.own.gate.rung.clone()).filter(|rung| !rung.is_empty()),
        shortfalls: status.map(|s| s.own.gate.shortfalls.clone()).unwrap_or_default(),
        host_key: state.and_then(|state| state.host_keys.get(&id)).map(ToString::to_string),
        other_host_keys: other_host_keys(agreement, id),
        addresses: member.into_iter().flat_map(|m| &m.addresses).map(ToString::to_string).collect(),
        key: member.map(|m| m.key.to_string()),
    }
}

/// Host keys that others see there and the mesh does not know.
fn other_host_keys(agreement: &Agreement<'_>, id: NodeId) -> Vec<String> {
    let known = agreement.state().and_then(|state| state.host_keys.get(&id));
    let statuses = agreement.answers.keys().filter_map(|other| agreement.status_of(*other));
    let reach = statuses.flat_map(|status| &status.own.reach).filter(|(peer, _)| *peer == id);
    let others = reach.filter_map(|(_, reach)| reach.host_key).filter(|key| Some(key) != known);
    others.collect::<BTreeSet<_>>().iter().map(ToString::to_string).collect()
}

fn reach(agreement: &Agreement<'_>, (peer, seen): &(NodeId, Reach)) -> json::Reach {
    json::Reach {
        node: node_name(agreement, *peer),
        heard_ms_ago: seen.heard_ms_ago,
        rtt_us: Some(seen.rtt_us).filter(|rtt_us| *rtt_us > 0),
    }
}

/// What most of the others make of a node, and for how long at least one of them has.
fn liveness(agreement: &Agreement<'_>, id: NodeId) -> Option<(Liveness, u64)> {
    let others = agreement.answers.keys().filter_map(|other| agreement.status_of(*other));
    let views: Vec<(Liveness, u64)> = others
        .flat_map(|status| &status.peers)
        .filter(|peer| peer.node == id)
        .map(|peer| (peer.liveness, peer.since_ms))
        .collect();
    let votes = |liveness: Liveness| views.iter().filter(|(seen, _)| *seen == liveness).count();
    let common = [Liveness::Up, Liveness::Cut, Liveness::Lost].into_iter().max_by_key(|seen| votes(*seen))?;
    views.into_iter().filter(|(seen, _)| *seen == common).max_by_key(|(_, since)| *since)
}

const fn word(liveness: Liveness) -> &'static str {
    match liveness {
        Liveness::Up => "up",
        Liveness::Cut => "cut",
        Liveness::Lost => "lost",
    }
}
