//! Incidents: the replicated, human-readable record of one event from first sign to end.
//!
//! **Invariant.** Bounded: at most [`INCIDENTS_MAX`] are kept, each with at most [`INCIDENT_LINES_MAX`]
//! lines; the oldest *closed* one of the matter that has most makes room first.

use crate::id::{Name, NodeId, PublicKey};
use crate::limits::{INCIDENT_LINES_MAX, INCIDENTS_MAX};
use crate::roster::bounded_text;
use alloc::{collections::BTreeMap, string::String, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};

/// What an incident is about. Together with the incident's openness it is its identity: while one is
/// open, a second sign of the same matter becomes a line of it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Matter {
    /// An endpoint changed its holder.
    Move(Name),
    /// Nobody holds an endpoint.
    Vacant(Name),
    /// A node is not reached by most of the others.
    NodeLost(NodeId),
    /// A service fails on a node.
    ServiceDown(NodeId, Name),
    /// A node calls itself unwell.
    NodeUnwell(NodeId),
    /// The set of voters changed.
    Voters,
    /// Orders of one key were refused.
    OrderRefused(PublicKey),
    /// An operator changed who belongs to the mesh, or as what.
    Roster,
    /// A node sends a SYN flood.
    OutboundFlood(NodeId),
    /// A node is flooded with SYNs.
    InboundFlood(NodeId),
    /// A node lost a sensor that it had, or somebody meddled with one.
    SensorBlind(NodeId),
    /// A node was cut off.
    Isolated(NodeId),
    /// The SSH host key of a node is another one than it was.
    HostKey(NodeId),
    /// A node may neither lead nor serve for a while.
    Demoted(NodeId),
}

impl fmt::Display for Matter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Move(endpoint) => write!(f, "endpoint {endpoint} moved"),
            Self::Vacant(endpoint) => write!(f, "nobody holds endpoint {endpoint}"),
            Self::NodeLost(node) => write!(f, "node {node} lost"),
            Self::ServiceDown(node, service) => write!(f, "service {service} fails on node {node}"),
            Self::NodeUnwell(node) => write!(f, "node {node} is unwell"),
            Self::Voters => f.write_str("voters changed"),
            Self::Roster => f.write_str("roster changed"),
            Self::OutboundFlood(node) => write!(f, "node {node} sends a SYN flood"),
            Self::InboundFlood(node) => write!(f, "node {node} is flooded with SYNs"),
            Self::SensorBlind(node) => write!(f, "node {node} lost a sensor"),
            Self::Isolated(node) => write!(f, "node {node} is cut off"),
            Self::HostKey(node) => write!(f, "node {node} has another SSH host key"),
            Self::Demoted(node) => write!(f, "node {node} is demoted"),
            Self::OrderRefused(key) => write!(f, "order refused (key {key:?})"),
        }
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incident {
    /// The log index at which it was opened; its number for people.
    pub id: u64,
    /// What it is about.
    pub matter: Matter,
    /// When it was opened, in milliseconds since 1970 by the recording leader's clock.
    pub opened_unix_ms: u64,
    /// When it ended.
    pub closed_unix_ms: Option<u64>,
    /// What happened, in order.
    pub lines: Vec<Line>,
    /// How many lines did not fit any more.
    pub lines_dropped: u32,
}

/// One line of an incident.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// When, in milliseconds since 1970.
    pub unix_ms: u64,
    /// What.
    pub text: String,
}

/// The incidents that the state remembers, by number.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Incidents(BTreeMap<u64, Incident>);

impl Incidents {
    /// By number, the oldest first.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Incident> {
        self.0.values()
    }

    /// One of them.
    #[must_use]
    pub fn get(&self, id: u64) -> Option<&Incident> {
        self.0.get(&id)
    }

    /// The open one about this matter.
    #[must_use]
    pub fn open(&self, matter: &Matter) -> Option<&Incident> {
        self.0.values().rev().find(|i| i.closed_unix_ms.is_none() && i.matter == *matter)
    }

    /// Writes a line into the open incident about `matter`, or opens one under the number `index`.
    pub(crate) fn note(&mut self, index: u64, matter: &Matter, unix_ms: u64, text: &str) {
        let line = Line { unix_ms, text: bounded_text(text) };
        let open = self.0.values_mut().rev().find(|i| i.closed_unix_ms.is_none() && i.matter == *matter);
        if let Some(incident) = open {
            return incident.push(line);
        }
        self.make_room();
        let incident = Incident {
            id: index,
            matter: matter.clone(),
            opened_unix_ms: unix_ms,
            closed_unix_ms: None,
            lines: alloc::vec![line],
            lines_dropped: 0,
        };
        self.0.insert(index, incident);
    }

    /// Ends the open incident about `matter`, if there is one, with a last line if there is more to say.
    pub(crate) fn close(&mut self, matter: &Matter, unix_ms: u64, text: &str) {
        let open = self.0.values_mut().rev().find(|i| i.closed_unix_ms.is_none() && i.matter == *matter);
        if let Some(incident) = open {
            if !text.is_empty() {
                incident.push(Line { unix_ms, text: bounded_text(text) });
            }
            incident.closed_unix_ms = Some(unix_ms);
        }
    }

    fn make_room(&mut self) {
        if self.0.len() < INCIDENTS_MAX {
            return;
        }
        if let Some(id) = self.most_repeated().or_else(|| self.0.keys().next().copied()) {
            self.0.remove(&id);
        }
    }

    /// The oldest closed incident of the matter that has most of them: who makes one thing happen over and over
    /// washes nothing else away.
    fn most_repeated(&self) -> Option<u64> {
        let mut closed: BTreeMap<&Matter, (usize, u64)> = BTreeMap::new();
        for incident in self.0.values().filter(|i| i.closed_unix_ms.is_some()) {
            closed.entry(&incident.matter).or_insert((0, incident.id)).0 += 1;
        }
        closed.into_values().min_by_key(|(count, oldest)| (usize::MAX - count, *oldest)).map(|(_, id)| id)
    }
}

impl Incident {
    fn push(&mut self, line: Line) {
        if self.lines.len() < INCIDENT_LINES_MAX {
            self.lines.push(line);
        } else {
            self.lines_dropped = self.lines_dropped.saturating_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_sign_of_the_same_matter_is_a_line_not_an_incident() {
        let mut all = Incidents::default();
        all.note(3, &Matter::Voters, 10, "one");
        all.note(4, &Matter::Voters, 11, "two");
        assert_eq!(all.iter().map(|i| i.lines.len()).collect::<Vec<_>>(), [2]);
        all.close(&Matter::Voters, 12, "over");
        all.note(5, &Matter::Voters, 13, "again");
        assert_eq!(all.iter().count(), 2);
    }

    #[test]
    fn what_happens_over_and_over_washes_nothing_else_away() {
        let mut all = Incidents::default();
        all.note(0, &Matter::Voters, 0, "the one that counts");
        all.close(&Matter::Voters, 0, "");
        for i in 1..2_000_u64 {
            let matter = Matter::OutboundFlood(NodeId(i % 2));
            all.note(i, &matter, i, "again");
            all.close(&matter, i, "over");
        }
        assert_eq!(all.iter().count(), INCIDENTS_MAX);
        assert!(all.get(0).is_some() && all.get(1_999).is_some() && all.get(1).is_none());
    }

    #[test]
    fn storms_stay_bounded_and_closed_incidents_make_room_first() {
        let mut all = Incidents::default();
        all.note(0, &Matter::NodeLost(NodeId(0)), 0, "still open");
        for i in 1..2_000_u64 {
            let matter = Matter::NodeLost(NodeId(i));
            all.note(i, &matter, i, "lost");
            all.close(&matter, i, "back");
        }
        assert_eq!(all.iter().count(), INCIDENTS_MAX);
        assert!(all.get(0).is_some());
        for _ in 0..1_000 {
            all.note(9_999, &Matter::NodeLost(NodeId(0)), 0, "x");
        }
        assert_eq!(all.get(0).unwrap().lines.len(), INCIDENT_LINES_MAX);
    }
}
