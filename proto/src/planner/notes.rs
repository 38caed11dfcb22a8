//! What the incidents should say: opened when something lasts, closed when it is over.

use super::{alarms, host_keys};
use crate::command::Command;
use crate::id::{Name, NodeId};
use crate::incident::{Incident, Matter};
use crate::inventory::{Inventory, NodeNow};
use crate::limits::NOTE_AFTER;
use crate::liveness::Liveness;
use crate::report::Report;
use crate::roster::bounded_text;
use crate::state::State;
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

/// The lines that are missing.
pub(super) fn plan(state: &State, inventory: &Inventory, unix_ms: u64) -> Vec<Command> {
    let mut current: Vec<(Matter, String)> = Vec::new();
    for (id, node) in
        inventory.nodes.iter().filter(|(id, _)| state.members.contains_key(id) && !state.is_isolated(**id))
    {
        current.extend(lost(state, *id, node));
        current.extend(unwell(*id, node));
        current.extend(alarms::current(state, *id, node));
        current.extend(host_keys::current(state, inventory, *id));
        let failing = inventory.down(*id, &state.site);
        current.extend(
            failing.map(|(service, why)| (Matter::ServiceDown(*id, service.clone()), why.to_string())),
        );
    }
    let vacant = state.plans.keys().filter(|name| is_vacant(inventory, name));
    current.extend(vacant.map(|name| (Matter::Vacant(name.clone()), "no node serves it".to_string())));

    // One line of a matter at a time: proposals overtake each other, and the first line is what opens it.
    let mut opened: Vec<(Matter, String, bool)> = Vec::new();
    for (matter, text) in current.iter().filter(|(matter, text)| is_news(state, matter, text)) {
        if opened.iter().all(|(told, ..)| told != matter) {
            opened.push((matter.clone(), text.clone(), false));
        }
    }
    let closed = state
        .incidents
        .iter()
        .filter(|i| i.closed_unix_ms.is_none() && current.iter().all(|(matter, _)| *matter != i.matter))
        .filter_map(|incident| Some((incident.matter.clone(), ending(state, inventory, incident)?, true)));
    opened
        .into_iter()
        .chain(closed)
        .map(|(matter, text, closes)| Command::Note { matter, text, closes, unix_ms })
        .collect()
}

/// Floods are told line by line; everything else by the line that opens its incident.
fn is_news(state: &State, matter: &Matter, text: &str) -> bool {
    let Some(incident) = state.incidents.open(matter) else { return true };
    match matter {
        Matter::OutboundFlood(_) | Matter::InboundFlood(_) | Matter::SensorBlind(_) => {
            incident.lines_dropped == 0 && incident.lines.iter().all(|line| line.text != bounded_text(text))
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
        | Matter::Isolated(_) => false,
    }
}

fn lost(state: &State, id: NodeId, node: &NodeNow) -> Option<(Matter, String)> {
    let name = state.name_of(id);
    let text = match node.liveness {
        Liveness::Up => return None,
        Liveness::Cut => format!("{name} is reached by some of the others, not by most"),
        Liveness::Lost => format!("{name} is silent: no other node reaches it"),
    };
    (node.since >= NOTE_AFTER).then_some((Matter::NodeLost(id), text))
}

fn unwell(id: NodeId, node: &NodeNow) -> Option<(Matter, String)> {
    let reasons: Vec<&str> = node.report.unwell.iter().map(|u| u.as_str()).collect();
    let worth = node.liveness == Liveness::Up && !reasons.is_empty();
    worth.then(|| (Matter::NodeUnwell(id), reasons.join("; ")))
}

/// Nobody who is up holds it or has promised it, and everybody has been up long enough to have done so.
fn is_vacant(inventory: &Inventory, name: &Name) -> bool {
    let mut up = inventory.nodes.values().filter(|n| n.liveness == Liveness::Up).peekable();
    let idle = |node: &NodeNow| {
        let lease = node.report.leases.iter().find(|l| l.endpoint == *name);
        lease.is_none_or(|l| l.holding.is_none() && l.promised.is_none())
    };
    up.peek().is_some() && up.all(|node| node.since >= NOTE_AFTER && idle(node))
}

/// How a matter ended, or nothing if it has not.
fn ending(state: &State, inventory: &Inventory, incident: &Incident) -> Option<String> {
    match &incident.matter {
        Matter::NodeLost(node)
        | Matter::ServiceDown(node, _)
        | Matter::NodeUnwell(node)
        | Matter::OutboundFlood(node)
        | Matter::InboundFlood(node)
        | Matter::SensorBlind(node)
        | Matter::HostKey(node)
        | Matter::Demoted(node)
        | Matter::Isolated(node)
            if !state.members.contains_key(node) =>
        {
            Some("the node was removed".into())
        }
        Matter::NodeLost(node)
        | Matter::ServiceDown(node, _)
        | Matter::NodeUnwell(node)
        | Matter::OutboundFlood(node)
        | Matter::InboundFlood(node)
        | Matter::SensorBlind(node)
        | Matter::HostKey(node)
        | Matter::Demoted(node)
            if state.is_isolated(*node) =>
        {
            Some(format!("{} was cut off: what it says does not count any more", state.name_of(*node)))
        }
        // What is left to do is an operator's: look at the server, remove the node. And a demotion is ended by who
        // knows of it.
        Matter::Isolated(_) | Matter::Demoted(_) => None,
        Matter::HostKey(node) => host_keys::ending(state, inventory, *node),
        Matter::ServiceDown(_, service) if !state.site.services.contains_key(service) => {
            Some("the service was removed".into())
        }
        Matter::NodeLost(node) => inventory.is_up(*node).then(|| format!("{} is back", state.name_of(*node))),
        Matter::ServiceDown(node, service) => {
            inventory.is_up(*node).then(|| format!("{service} works again"))
        }
        Matter::NodeUnwell(node) => inventory.is_up(*node).then(|| "well again".into()),
        Matter::Vacant(endpoint) if !state.site.endpoints.contains_key(endpoint) => {
            Some("the endpoint was removed".into())
        }
        Matter::Vacant(endpoint) => {
            let holds = |report: &&Report| {
                report.leases.iter().any(|l| l.endpoint == *endpoint && l.holding.is_some())
            };
            let holder = inventory.live_reports().find(holds)?.from;
            Some(format!("{} serves it", state.name_of(holder)))
        }
        Matter::Move(endpoint) => {
            let Some(plan) = state.plans.get(endpoint) else {
                return Some("the endpoint was removed".into());
            };
            let holder = plan.seats.first()?.node;
            let report = inventory.live_reports().find(|report| report.from == holder)?;
            let mut leases = report.leases.iter().filter(|lease| lease.endpoint == *endpoint);
            let serves = leases.any(|l| l.holding.is_some_and(|epoch| epoch.plan >= plan.index));
            serves.then(|| format!("{} serves it", state.name_of(holder)))
        }
        matter @ (Matter::OutboundFlood(_) | Matter::InboundFlood(_) | Matter::SensorBlind(_)) => {
            alarms::ending(inventory, matter)
        }
        // These do not last: their first line is all.
        Matter::Voters | Matter::Roster | Matter::OrderRefused(_) => Some(String::new()),
    }
}
