//! What nodes remember of each other, so that a restored image cannot pass for its former self (DESIGN §11 P3).
//!
//! A server that is rolled back to a backup image has forgotten votes that it gave. At each start a node
//! therefore asks the others for the most that they ever saw of it, and goes on only if its own store
//! knows at least as much. Peers keep what they saw across their own restarts.

use crate::id::NodeId;
use crate::report::Report;
use alloc::collections::{BTreeMap, BTreeSet};
use serde::{Deserialize, Serialize};

/// The most that was ever seen of one node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// Its incarnation.
    pub incarnation: u64,
    /// The term of its durable vote.
    pub term: u64,
    /// Its last durable log entry, (term, index).
    pub durable: (u64, u64),
}

impl Memory {
    /// What a report shows.
    #[must_use]
    pub const fn of(report: &Report) -> Self {
        Self { incarnation: report.incarnation, term: report.log.term, durable: report.log.durable }
    }

    /// The larger of both in each part.
    #[must_use]
    pub fn join(self, other: Self) -> Self {
        Self {
            incarnation: self.incarnation.max(other.incarnation),
            term: self.term.max(other.term),
            durable: self.durable.max(other.durable),
        }
    }

    /// Whether a store that knows only `self` has lost something that `seen` proves it once knew.
    ///
    /// A later term may legitimately have cut the log back, so the log counts only within the same term.
    #[must_use]
    pub fn is_behind(&self, seen: &Self) -> bool {
        self.incarnation < seen.incarnation
            || self.term < seen.term
            || (self.term == seen.term && self.durable < seen.durable)
    }
}

/// The question at start, until a majority has answered it.
#[derive(Debug)]
pub struct Recall {
    own: Memory,
    seen: Memory,
    answered: BTreeSet<NodeId>,
}

/// What came of a recall.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Recalled {
    /// Not enough answers yet.
    Waiting,
    /// The store knows all that a majority ever saw of this node.
    Complete,
    /// The store is older than what the others saw: this is a restored image.
    Lost {
        /// The most that was seen.
        seen: Memory,
    },
}

impl Recall {
    /// Starts with what the own store knows (its incarnation *before* it is raised for this start).
    #[must_use]
    pub const fn new(own: Memory) -> Self {
        Self { own, seen: Memory { incarnation: 0, term: 0, durable: (0, 0) }, answered: BTreeSet::new() }
    }

    /// Counts one voter's answer: what it saw, if it ever saw anything.
    pub fn answer(&mut self, from: NodeId, memory: Option<Memory>) {
        self.answered.insert(from);
        self.seen = self.seen.join(memory.unwrap_or_default());
    }

    /// Who has not answered yet.
    pub fn missing<'a>(
        &'a self,
        me: NodeId,
        voters: &'a BTreeSet<NodeId>,
    ) -> impl Iterator<Item = NodeId> + 'a {
        voters.iter().copied().filter(move |v| *v != me && !self.answered.contains(v))
    }

    /// Where the question stands, given who votes.
    #[must_use]
    pub fn judge(&self, me: NodeId, voters: &BTreeSet<NodeId>) -> Recalled {
        if self.own.is_behind(&self.seen) {
            return Recalled::Lost { seen: self.seen };
        }
        let heard = voters.iter().filter(|v| **v == me || self.answered.contains(v)).count();
        if heard > voters.len() / 2 { Recalled::Complete } else { Recalled::Waiting }
    }
}

/// What this node saw of each other.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memories(BTreeMap<NodeId, Memory>);

impl Memories {
    /// Takes in a report; says whether it showed a new incarnation or term, which is worth writing down at once:
    /// a vote that an image has forgotten is one in a term that it has forgotten.
    pub fn saw(&mut self, report: &Report) -> bool {
        let entry = self.0.entry(report.from).or_default();
        let fresh = entry.incarnation < report.incarnation || entry.term < report.log.term;
        *entry = entry.join(Memory::of(report));
        fresh
    }

    /// The most that was seen of a node.
    #[must_use]
    pub fn of(&self, node: NodeId) -> Option<Memory> {
        self.0.get(&node).copied()
    }

    /// Forgets nodes that left the roster.
    pub fn retain(&mut self, keep: impl Fn(NodeId) -> bool) {
        self.0.retain(|node, _| keep(*node));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: Memory = Memory { incarnation: 5, term: 7, durable: (7, 100) };

    fn voters() -> BTreeSet<NodeId> {
        [1, 2, 3].map(NodeId).into()
    }

    #[test]
    fn a_restored_image_is_found_out_by_one_who_remembers() {
        for seen in
            [Memory { incarnation: 6, ..OWN }, Memory { term: 8, ..OWN }, Memory { durable: (7, 101), ..OWN }]
        {
            let mut recall = Recall::new(OWN);
            recall.answer(NodeId(2), Some(seen));
            assert_eq!(recall.judge(NodeId(1), &voters()), Recalled::Lost { seen });
        }
    }

    #[test]
    fn a_log_that_a_later_term_cut_back_is_no_loss() {
        let mut recall = Recall::new(Memory { term: 8, durable: (7, 90), ..OWN });
        recall.answer(NodeId(2), Some(OWN));
        assert_eq!(recall.judge(NodeId(1), &voters()), Recalled::Complete);
    }

    #[test]
    fn a_minority_of_answers_is_not_enough() {
        let five: BTreeSet<_> = [1, 2, 3, 4, 5].map(NodeId).into();
        let mut recall = Recall::new(OWN);
        recall.answer(NodeId(2), None);
        assert_eq!(recall.judge(NodeId(1), &five), Recalled::Waiting);
        recall.answer(NodeId(9), None);
        assert_eq!(recall.judge(NodeId(1), &five), Recalled::Waiting);
        recall.answer(NodeId(3), Some(OWN));
        assert_eq!(recall.judge(NodeId(1), &five), Recalled::Complete);
    }
}
