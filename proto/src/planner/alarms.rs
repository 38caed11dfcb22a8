//! What the incidents say of floods and of sensors: drawn from what each node says of its own traffic.
//!
//! **Invariant.** Deterministic and bounded: a line is written once, however often its reason is told, and only
//! as many can be told as a record names targets and programs.

use crate::detect::Level;
use crate::id::NodeId;
use crate::incident::Matter;
use crate::inventory::{Inventory, NodeNow};
use crate::liveness::Liveness;
use crate::lookout::{Attacked, Flood, Posture, TrafficSeen};
use crate::state::State;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// What there is to tell of a node at present; the first line of each matter opens its incident.
pub(super) fn current(state: &State, id: NodeId, node: &NodeNow) -> Vec<(Matter, String)> {
    if node.liveness != Liveness::Up {
        return Vec::new();
    }
    let (name, seen) = (state.name_of(id).to_string(), &node.report.traffic);
    let mut told = Vec::new();
    if let Some(flood) = seen.flood.as_ref().filter(|flood| flood.ended_unix_ms.is_none()) {
        let lines = outbound(&name, flood, seen.posture);
        told.extend(lines.into_iter().map(|line| (Matter::OutboundFlood(id), line)));
    }
    if seen.attack.is_some_and(|attack| attack.ended_unix_ms.is_none()) {
        let first =
            format!("{name} is flooded with SYNs from outside; it defends itself, and is not at fault");
        told.push((Matter::InboundFlood(id), first));
        if seen.inbound.shielded {
            let shield = format!("a SYN proxy stands in front of the endpoints of {name}");
            told.push((Matter::InboundFlood(id), shield));
        }
    }
    told.extend(blind(&name, seen).map(|line| (Matter::SensorBlind(id), line)));
    told
}

fn outbound(name: &str, flood: &Flood, posture: Posture) -> Vec<String> {
    let done = match posture {
        Posture::Unlimited => "no limit in its kernel can hold it: see `stead doctor`",
        Posture::Free | Posture::Throttled => "its kernel holds it down to the limit",
    };
    let mut lines = Vec::from([format!("{name} opens more connections than its limit: {done}")]);
    for detector in &flood.detectors {
        lines.push(format!("{}: {}", detector.code(), detector.finds()));
    }
    lines.extend(flood.targets.iter().map(|target| format!("it goes to {target}")));
    let sender = |sender| format!("a program with a raw or packet socket open meanwhile: {sender}");
    lines.extend(flood.senders.iter().map(sender));
    lines
}

fn blind(name: &str, seen: &TrafficSeen) -> Option<String> {
    if seen.blinded.is_empty() && seen.meddled.is_none() {
        return None;
    }
    let lost: Vec<&str> = seen.blinded.iter().map(|detector| detector.code()).collect();
    let lost = if lost.is_empty() { String::new() } else { format!("; blind for now: {}", lost.join(", ")) };
    let why = seen.meddled.as_deref().unwrap_or("a sensor was lost");
    Some(format!("{name}: {why}{lost}; see `stead doctor`"))
}

/// How an incident of these matters ended, or nothing if it has not.
pub(super) fn ending(inventory: &Inventory, matter: &Matter) -> Option<String> {
    let seen = |node: &NodeId| {
        let node = inventory.nodes.get(node).filter(|node| node.liveness == Liveness::Up)?;
        Some(&node.report.traffic)
    };
    match matter {
        Matter::OutboundFlood(node) => Some(match &seen(node)?.flood {
            Some(flood) => outbound_ended(flood),
            None => "over".into(),
        }),
        Matter::InboundFlood(node) => Some(seen(node)?.attack.map_or_else(|| "over".into(), inbound_ended)),
        Matter::SensorBlind(node) => {
            let seen = seen(node)?;
            (seen.blinded.is_empty() && seen.meddled.is_none()).then(|| "its sensors see again".into())
        }
        Matter::Move(_)
        | Matter::Vacant(_)
        | Matter::NodeLost(_)
        | Matter::ServiceDown(..)
        | Matter::NodeUnwell(_)
        | Matter::Voters
        | Matter::Roster
        | Matter::OrderRefused(_)
        | Matter::HostKey(_)
        | Matter::Demoted(_)
        | Matter::Isolated(_) => None,
    }
}

fn outbound_ended(flood: &Flood) -> String {
    let Flood { sent, escaped, peak, .. } = flood;
    let proven = if flood.worst == Level::Convict { "proven" } else { "suspected, not proven" };
    let lasted = seconds(flood.began_unix_ms, flood.ended_unix_ms);
    format!("over after {lasted} s ({proven}): {sent} SYNs, at most {peak} a second; {escaped} left the host")
}

fn inbound_ended(attack: Attacked) -> String {
    let Attacked { received, queue_full, peak, .. } = attack;
    let lasted = seconds(attack.began_unix_ms, attack.ended_unix_ms);
    format!(
        "over after {lasted} s: {received} SYNs, at most {peak} a second; {queue_full} of them met a full queue"
    )
}

fn seconds(from_ms: u64, to_ms: Option<u64>) -> u64 {
    to_ms.unwrap_or(from_ms).saturating_sub(from_ms).div_ceil(1_000)
}
