//! The course of one case: what was said against one node, and what this node found itself.
//!
//! **Invariant.** A case holds at most one testimony of each witness and sanction, and ends [`LASTS`] after the last
//! word or finding: whoever wants it to go on has to look again.

use super::testimony::{Ground, Sanction, Testimony};
use crate::id::NodeId;
use crate::sign::Signed;
use crate::time::{Instant, Span};
use alloc::{collections::BTreeMap, vec::Vec};

/// How long a case waits for one more word.
pub const LASTS: Span = Span::from_ms(60_000);
/// How long a node that is charged with silence may take to answer.
pub const REBUTTAL: Span = Span::from_ms(2_000);
/// How long what this node found counts.
const FRESH: Span = Span::from_ms(10_000);

/// One case.
#[derive(Clone, Debug)]
pub(super) struct Case {
    pub(super) opened: Instant,
    pub(super) stirred: Instant,
    /// Who spoke first; this node, if it found something before anybody said so.
    pub(super) accuser: NodeId,
    pub(super) testimonies: BTreeMap<(NodeId, Sanction), (Testimony, Signed<Testimony>)>,
    /// Whether it has ever come back from a look, and what it found last.
    pub(super) found: Option<(Instant, Vec<Ground>)>,
    /// When what this node found was last enough to isolate.
    pub(super) deserved: Option<Instant>,
    /// Since when the subject owes an answer.
    pub(super) challenged: Option<Instant>,
    /// Whether the accusers have paid for it.
    pub(super) struck: bool,
}

impl Case {
    pub(super) const fn opened(now: Instant, accuser: NodeId) -> Self {
        Self {
            opened: now,
            stirred: now,
            accuser,
            testimonies: BTreeMap::new(),
            found: None,
            deserved: None,
            challenged: None,
            struck: false,
        }
    }

    /// Takes a testimony that was verified; whether it is news.
    pub(super) fn hear(&mut self, now: Instant, testimony: Testimony, signed: Signed<Testimony>) -> bool {
        let place = (testimony.by, testimony.sanction);
        // A later word of the same witness replaces the earlier one: it may be what brings the others together.
        let news = self.testimonies.get(&place).is_none_or(|(known, _)| known.unix_ms < testimony.unix_ms);
        if news {
            self.stirred = now;
            self.testimonies.insert(place, (testimony, signed));
        }
        news
    }

    /// What this node can swear to at present: without silence, for as long as the subject may still answer.
    pub(super) fn grounds(&self, now: Instant, rebuttal: bool) -> Vec<Ground> {
        let Some((at, found)) = &self.found else { return Vec::new() };
        if now.since(*at) > FRESH {
            return Vec::new();
        }
        let mute = !rebuttal || self.challenged.is_some_and(|since| now.since(since) >= REBUTTAL);
        found.iter().filter(|ground| mute || **ground != Ground::Silence).copied().collect()
    }

    pub(super) fn is_over(&self, now: Instant) -> bool {
        now.since(self.stirred) > LASTS
    }
}
