//! Whose turn it is, when more than one deserves to be isolated (DESIGN §11 P10).
//!
//! A node swears against a second one only after the first is out, or when its word against the first is so old that it
//! adds up with nobody's any more. So that two hostile nodes cannot shield each other — half of the judges sworn against
//! the one, half against the other, each waiting for ever — every judge takes the same one of those it could swear
//! against, by a lot that is drawn anew every [`SLOT_MS`] and that nobody's words have a part in.
//!
//! | contenders of the last minute | sworn against | then |
//! |---|---|---|
//! | X | nobody, or X | swears, and again while it lasts |
//! | X, Y, the lot says X | nobody, or X | the same; Y waits |
//! | | Y | waits until its word on Y is [`SPREAD_MS_MAX`] old, then swears against X |
//! | the leader | anybody | swears: it waits for nobody |
//!
//! Of the last minute, because a probe that times out once would change the order each time.

use super::{
    Facts, Sanction, Tribunal,
    certificate::SPREAD_MS_MAX,
    testimony::{self, Subject},
};
use crate::time::{Instant, Span};
use sha2::{Digest, Sha256};

/// How long a lot holds: the word of before has to lapse in it, and everybody to look and swear anew.
const SLOT_MS: u64 = 2 * SPREAD_MS_MAX;

impl Tribunal {
    /// Whether this node may swear that a subject belongs out: nobody else is being isolated, it is this one's turn, and
    /// as many stay as have to.
    pub(super) fn may_isolate(&self, facts: &Facts<'_>, subject: Subject) -> bool {
        let leads = facts.leader == Some(subject.node);
        self.leaves_enough(facts, subject) && (leads || !self.rules.one || self.has_its_turn(facts, subject))
    }

    fn leaves_enough(&self, facts: &Facts<'_>, subject: Subject) -> bool {
        let isolated = self.isolated();
        let stay = facts.voters.iter().filter(|node| **node != subject.node && !isolated.contains(node));
        !self.rules.budget
            || (isolated.len() < self.electorate.budget() && 2 * stay.count() > facts.voters.len())
    }

    fn has_its_turn(&self, facts: &Facts<'_>, subject: Subject) -> bool {
        let others = |other: &Subject| *other != subject;
        let pending =
            self.isolated.keys().filter(|s| others(s)).any(|other| !self.recorded.contains(&other.node));
        let sworn = self.sworn.iter().filter(|(s, _)| others(s));
        let bound = sworn.filter(|(s, _)| !self.is_out(s.node)).any(|(_, at)| !is_lapsed(facts.now, *at));
        let slot = facts.unix_ms / SLOT_MS;
        let contended = self.cases.iter().filter(|(other, _)| others(other)).any(|(other, case)| {
            let deserves = case.deserved.is_some_and(|at| !is_lapsed(facts.now, at));
            deserves && facts.leader != Some(other.node) && lot(slot, other) < lot(slot, &subject)
        });
        !pending && !bound && !contended
    }

    /// Takes note of whom this node could swear against by what it found just now.
    pub(super) fn line_up(&mut self, now: Instant) {
        if self.blames_the_network(now) {
            return;
        }
        for case in self.cases.values_mut() {
            if testimony::suffices(Sanction::Isolate, &case.grounds(now, self.rules.rebuttal)) {
                case.deserved = Some(now);
            }
        }
    }

    /// Remembers that this node swore just now that a subject belongs out.
    pub(super) fn swore(&mut self, now: Instant, subject: Subject) {
        self.sworn.retain(|_, at| !is_lapsed(now, *at));
        self.sworn.insert(subject, now);
    }
}

fn is_lapsed(now: Instant, at: Instant) -> bool {
    now.since(at) > Span::from_ms(SPREAD_MS_MAX)
}

fn lot(slot: u64, subject: &Subject) -> [u8; 32] {
    Sha256::new().chain_update(slot.to_be_bytes()).chain_update(subject.key.0).finalize().into()
}
