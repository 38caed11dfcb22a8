//! What every node's machine lets it do, what else is wrong with it, and what to do.
//!
//! **Invariant.** Nobody is called sound of whom nothing is known.

use super::{advice, node::node, node_name};
use crate::agreement::Agreement;
use crate::ask::Heard;
use crate::json::{Checkup, Doctor, Node, Part};
use crate::words::{harmless, span};
use std::collections::BTreeMap;
use stead_proto::admin::{RungSeen, Status};
use stead_proto::id::{Name, NodeId};
use stead_proto::limits::PATIENCE;
use stead_proto::lookout::TrafficSeen;

const LEASE_GATE: &str = "lease gate";
/// The rung of a part that has none.
const NONE: &str = "none";
const LIMIT: &str = "SYN limit";

/// How urgent something is, the most urgent first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Urgency {
    Quorum,
    Silent,
    /// It harms others.
    Flood,
    /// It does not take part as it should.
    Apart,
    Unwell,
    /// Two nodes might answer at once.
    LeaseGate,
    /// A flood could not be held.
    Limit,
    Attacked,
    /// A sensor was lost.
    Blinded,
    /// Something is not seen.
    Sensor,
    Shortfall,
    /// It passes by itself.
    Behind,
}

/// All nodes, or only the one called `only`; nothing if there is no such node.
pub(crate) fn doctor(agreement: &Agreement<'_>, only: Option<&Name>) -> Option<Doctor> {
    let asked =
        |(id, _): &(&NodeId, &Heard)| only.is_none_or(|name| node_name(agreement, **id) == name.as_str());
    let mut nodes = Vec::new();
    // The same advice for several nodes is one line.
    let mut todo: BTreeMap<(Urgency, String), Vec<String>> = BTreeMap::new();
    for (id, heard) in agreement.answers.iter().filter(asked) {
        let (shown, status) = (node(agreement, *id, heard), agreement.status_of(*id));
        let parts: Vec<Part> = status.map(parts).unwrap_or_default();
        let wrong = wrong(agreement, &shown, status, &parts);
        let mut due: Vec<(Urgency, String)> =
            parts.iter().filter(|part| !part.best).map(|part| (urgency(part), help(part))).collect();
        match (shown.opinion, advice::answer(&shown)) {
            ("silent", Some(what)) => drop(todo.entry((Urgency::Silent, what)).or_default()),
            _ => due.extend(wrong.iter().cloned()),
        }
        for what in due {
            todo.entry(what).or_default().push(shown.name.clone());
        }
        let wrong = wrong.into_iter().map(|(_, what)| what).collect();
        nodes.push(Checkup { node: shown.name.clone(), opinion: shown.opinion, parts, wrong });
    }
    if nodes.is_empty() {
        return None;
    }
    if !agreement.quorum {
        let text = "No majority of the voters agrees, so nothing can be changed: `stead status` says more.";
        todo.insert((Urgency::Quorum, text.into()), Vec::new());
    }
    // What names its node itself has none in front.
    let line = |((_, what), names): ((Urgency, String), Vec<String>)| {
        if names.is_empty() { what } else { format!("{}: {what}", names.join(", ")) }
    };
    let todo: Vec<String> = todo.into_iter().map(line).collect();
    Some(Doctor { sound: todo.is_empty(), nodes, todo })
}

/// Where its kernel lets it stand, with the lease gate, of which every report tells.
fn parts(status: &Status) -> Vec<Part> {
    let told = status.rungs.iter().map(part);
    if status.rungs.iter().any(|rung| rung.part == LEASE_GATE) {
        return told.collect();
    }
    let gate = &status.own.gate;
    let gate = RungSeen {
        part: LEASE_GATE.into(),
        rung: gate.rung.clone(),
        best: gate.shortfalls.is_empty(),
        cost: String::new(),
        remedy: gate.shortfalls.join("; "),
    };
    std::iter::once(part(&gate)).chain(told).collect()
}

fn part(seen: &RungSeen) -> Part {
    let text = |text: &str| (!text.is_empty()).then(|| harmless(text));
    Part {
        part: harmless(&seen.part),
        rung: harmless(if seen.rung.is_empty() { NONE } else { &seen.rung }),
        best: seen.best,
        cost: text(&seen.cost),
        remedy: text(&seen.remedy),
    }
}

fn urgency(part: &Part) -> Urgency {
    match part.part.as_str() {
        LEASE_GATE => Urgency::LeaseGate,
        LIMIT => Urgency::Limit,
        _ => Urgency::Sensor,
    }
}

fn help(part: &Part) -> String {
    let Part { part, rung, cost, remedy, .. } = part;
    let stands = if rung == NONE { "there is none".into() } else { format!("it stands on {rung}") };
    match (remedy, cost) {
        (Some(remedy), _) => format!("{part}: {remedy}"),
        (None, Some(cost)) => format!("{part}: {stands} ({cost}), and nothing is known that would help"),
        (None, None) => format!("{part}: {stands}, and nothing is known that would help"),
    }
}

/// What else is wrong with a node than where its parts stand, the most urgent first.
fn wrong(
    agreement: &Agreement<'_>,
    node: &Node,
    status: Option<&Status>,
    parts: &[Part],
) -> Vec<(Urgency, String)> {
    let mut wrong = Vec::new();
    let mut say = |urgency, what: String| wrong.push((urgency, what));
    let details = node.details.join("; ");
    match node.opinion {
        "silent" => {
            say(Urgency::Silent, format!("does not answer ({details}): nothing is known of its parts"))
        }
        "differs" => say(Urgency::Apart, format!("disagrees with the rest: {details}")),
        "behind" => say(Urgency::Behind, format!("is behind: it {details}, and catches up by itself")),
        _ => {}
    }
    node.waiting
        .iter()
        .for_each(|what| say(Urgency::Apart, format!("takes no part yet: {}", harmless(what))));
    node.refused.iter().for_each(|why| say(Urgency::Apart, format!("is refused: {why}")));
    node.unwell.iter().for_each(|what| say(Urgency::Unwell, format!("is unwell: {what}")));
    // What the gate falls short of stands with the gate already.
    let known = |what: &str| parts.iter().any(|part| part.remedy.as_ref().is_some_and(|r| r.contains(what)));
    for what in node.shortfalls.iter().map(|what| harmless(what)).filter(|what| !known(what)) {
        say(Urgency::Shortfall, format!("falls short: {what}"));
    }
    if let Some(status) = status {
        if matches!(node.liveness, Some("cut" | "lost")) {
            say(Urgency::Apart, "is not heard by most others: check UDP 7832 on the way to them".into());
        }
        unheard(agreement, status).into_iter().for_each(|what| say(Urgency::Apart, what));
        traffic(&status.own.traffic, &mut say);
    }
    wrong.sort_by_key(|(urgency, _)| *urgency);
    wrong
}

/// Whom it does not hear, though he answers us.
fn unheard(agreement: &Agreement<'_>, status: &Status) -> Option<String> {
    let patience = u32::try_from(PATIENCE.as_ms()).unwrap_or(u32::MAX);
    let deaf = status.own.reach.iter().filter(|(_, reach)| reach.heard_ms_ago > patience);
    let deaf = deaf.filter(|(peer, _)| agreement.status_of(*peer).is_some());
    let told: Vec<String> = deaf
        .map(|(peer, reach)| {
            format!("{} for {}", node_name(agreement, *peer), span(reach.heard_ms_ago.into()))
        })
        .collect();
    (!told.is_empty()).then(|| format!("has not heard {}: check UDP 7832 between them", told.join(", ")))
}

fn traffic(seen: &TrafficSeen, say: &mut impl FnMut(Urgency, String)) {
    if seen.flood.as_ref().is_some_and(|flood| flood.ended_unix_ms.is_none()) {
        say(Urgency::Flood, "sends a SYN flood: `stead syn` shows it".into());
    }
    if seen.attack.is_some_and(|attack| attack.ended_unix_ms.is_none()) {
        say(Urgency::Attacked, "is flooded with SYNs: `stead syn` shows it".into());
    }
    let lost: Vec<&str> = seen.blinded.iter().map(|detector| detector.code()).collect();
    if !lost.is_empty() {
        let lost = lost.join(", ");
        say(Urgency::Blinded, format!("has lost what it saw with ({lost}): its parts say which, and why"));
    }
    if let Some(what) = &seen.meddled {
        say(Urgency::Blinded, format!("was meddled with: {}", harmless(what)));
    }
}
