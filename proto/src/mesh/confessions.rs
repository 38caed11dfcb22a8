//! Reports in which a node's own detectors convict it, and what makes them a ground.
//!
//! **Invariant.** A confession counts after it was told without a break for [`CONFESSED_FOR`]; what is sworn to is one
//! signed report, the first that came after that. One report that convicts nobody takes it back, unless it was
//! acted upon.

use crate::detect::Level;
use crate::id::NodeId;
use crate::lookout::TrafficSeen;
use crate::report::{self, Report};
use crate::sign::Signed;
use crate::state::State;
use crate::time::{Instant, Span};
use crate::tribunal::Ground;
use alloc::{collections::BTreeMap, vec::Vec};
use core::net::IpAddr;

/// How long a node has to confess before it is taken at its word: an operator who scans for a moment is no flood.
const CONFESSED_FOR: Span = Span::from_ms(1_000);
/// How long a confession counts after which nothing came any more.
const LASTS: Span = Span::from_ms(10_000);

/// What others have confessed to this node.
#[derive(Debug, Default)]
pub(super) struct Confessions(BTreeMap<NodeId, Confession>);

#[derive(Debug)]
struct Confession {
    first: Instant,
    last: Instant,
    /// The first one after it has lasted long enough.
    sworn: Option<Signed<Report>>,
    /// Where the session of the last one was opened from.
    at: Option<IpAddr>,
}

impl Confessions {
    /// A report that was verified, and where its session was opened from; whether there is a ground now that was not
    /// there before.
    pub(super) fn note(
        &mut self,
        now: Instant,
        report: &Report,
        at: Option<IpAddr>,
        signed: &Signed<Report>,
    ) -> bool {
        if !confesses(&report.traffic) {
            self.0.remove(&report.from);
            return false;
        }
        let begun = Confession { first: now, last: now, sworn: None, at };
        let confession = self.0.entry(report.from).or_insert(begun);
        (confession.last, confession.at) = (now, at);
        let counts = now.since(confession.first) >= CONFESSED_FOR && confession.sworn.is_none();
        if counts {
            confession.sworn = Some(signed.clone());
        }
        counts
    }

    /// How many confess, for however short a time already. Who fell silent over it counts for a while.
    pub(super) fn count(&self, now: Instant) -> usize {
        self.0.values().filter(|confession| now.since(confession.last) < LASTS).count()
    }

    /// What a node's confession comes to: the report, and whether it came from where the roster has the node.
    pub(super) fn grounds(&self, now: Instant, state: &State, node: NodeId) -> Vec<Ground> {
        let fresh = |confession: &&Confession| now.since(confession.last) < LASTS;
        let Some(confession) = self.0.get(&node).filter(fresh) else { return Vec::new() };
        let Some(signed) = &confession.sworn else { return Vec::new() };
        let mut grounds = Vec::from([Ground::Confession { report: report::link(signed) }]);
        let mut homes = state.members.get(&node).into_iter().flat_map(|member| &member.addresses);
        if confession.at.is_some_and(|at| homes.any(|home| home.ip().to_canonical() == at)) {
            grounds.push(Ground::AtHome);
        }
        grounds
    }

    /// What this node swore to about another one, or would.
    pub(super) fn sworn(&self, node: NodeId) -> Option<&Signed<Report>> {
        self.0.get(&node)?.sworn.as_ref()
    }

    pub(super) fn retain(&mut self, belongs: impl Fn(NodeId) -> bool) {
        self.0.retain(|node, _| belongs(*node));
    }
}

/// Whether a node's own detectors convict it at present.
pub(super) fn confesses(traffic: &TrafficSeen) -> bool {
    let flood = traffic.flood.as_ref();
    flood.is_some_and(|flood| flood.ended_unix_ms.is_none() && flood.worst == Level::Convict)
}
