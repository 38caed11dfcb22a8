//! Incidents, with names instead of numbers.

use crate::json::{Incident, Line};
use crate::words::harmless;
use stead_proto::incident::{self, Matter};
use stead_proto::state::State;

/// All that are remembered, the newest first.
pub(crate) fn incidents(state: &State) -> Vec<Incident> {
    state.incidents.iter().rev().map(|one| incident(state, one)).collect()
}

/// One of them.
pub(crate) fn incident(state: &State, incident: &incident::Incident) -> Incident {
    Incident {
        id: incident.id,
        matter: word(&incident.matter),
        title: title(state, &incident.matter),
        open: incident.closed_unix_ms.is_none(),
        opened_unix_ms: incident.opened_unix_ms,
        closed_unix_ms: incident.closed_unix_ms,
        lines: incident.lines.iter().map(|l| Line { unix_ms: l.unix_ms, text: harmless(&l.text) }).collect(),
        lines_dropped: incident.lines_dropped,
    }
}

const fn word(matter: &Matter) -> &'static str {
    match matter {
        Matter::Move(_) => "move",
        Matter::Vacant(_) => "vacant",
        Matter::NodeLost(_) => "node-lost",
        Matter::ServiceDown(_, _) => "service-down",
        Matter::NodeUnwell(_) => "node-unwell",
        Matter::Voters => "voters",
        Matter::Roster => "roster",
        Matter::OutboundFlood(_) => "outbound-flood",
        Matter::InboundFlood(_) => "inbound-flood",
        Matter::SensorBlind(_) => "sensor-blind",
        Matter::Isolated(_) => "isolated",
        Matter::HostKey(_) => "host-key",
        Matter::Demoted(_) => "demoted",
        Matter::OrderRefused(_) => "order-refused",
    }
}

fn title(state: &State, matter: &Matter) -> String {
    match matter {
        Matter::Move(_) | Matter::Vacant(_) | Matter::Voters | Matter::Roster => matter.to_string(),
        Matter::NodeLost(node) => format!("node {} lost", state.name_of(*node)),
        Matter::ServiceDown(node, service) => format!("service {service} fails on {}", state.name_of(*node)),
        Matter::OutboundFlood(node) => format!("{} sends a SYN flood", state.name_of(*node)),
        Matter::InboundFlood(node) => format!("{} is flooded with SYNs", state.name_of(*node)),
        Matter::SensorBlind(node) => format!("{} lost a sensor", state.name_of(*node)),
        Matter::NodeUnwell(node) => format!("node {} is unwell", state.name_of(*node)),
        Matter::Isolated(node) => format!("{} was cut off", state.name_of(*node)),
        Matter::HostKey(node) => format!("{} has another SSH host key", state.name_of(*node)),
        Matter::Demoted(node) => format!("{} may neither lead nor serve", state.name_of(*node)),
        Matter::OrderRefused(key) => match state.operators.get(key) {
            Some(operator) => format!("order of {} refused", operator.name),
            None => matter.to_string(),
        },
    }
}
