//! Elections: when this node may try to become the Raft leader (DESIGN §11 P6).
//!
//! openraft's own election timer is off, because each of its attempts raises the term, also in a
//! partition. Instead a node that misses its leader first asks the other voters whether they miss him too
//! and whether its log is recent enough (the pre-vote of Ongaro's thesis, §9.6); only a majority of such
//! grants lets it campaign. Nothing of the pre-vote is durable, and it decides no election: votes do, and
//! [`ElectionCertificate`] proves them.
//!
//! | state | event | next |
//! |---|---|---|
//! | calm | leader heard | calm, timer restarted |
//! | calm | timer | asking: a new round, questions to all voters |
//! | asking | majority of grants | calm, **campaign**, timer restarted |
//! | asking | leader heard | calm |
//! | asking | timer | asking: the next round |

mod certificate;
mod grant;

pub use certificate::{CertificateError, Elected, ElectionCertificate, Electorate};
pub use grant::Grant;

use crate::id::NodeId;
use crate::time::{Instant, Span};
use alloc::{collections::BTreeSet, vec::Vec};
use serde::{Deserialize, Serialize};

/// A last log entry: (term, index), compared like Raft does.
pub type LogPosition = (u64, u64);

/// A question or an answer of the pre-vote.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// Would you elect me?
    Ask {
        /// Tells rounds apart.
        round: u64,
        /// Where my log ends.
        last: LogPosition,
    },
    /// Yes: I miss the leader too, and your log is no older than mine.
    Grant {
        /// The round that it answers.
        round: u64,
    },
}

/// What an election has to know about the rest of the node.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    /// This node.
    pub me: NodeId,
    /// Who votes.
    pub voters: &'a BTreeSet<NodeId>,
    /// Where this node's log ends.
    pub last: LogPosition,
    /// Whether this node leads, with a fresh quorum behind it.
    pub leading: bool,
    /// Whether its store takes writes.
    pub able: bool,
}

/// What an election wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Send this.
    Send(NodeId, Message),
    /// Become a candidate.
    Campaign,
}

/// The pre-vote of one node.
#[derive(Debug)]
pub struct Election {
    timeout: Span,
    jitter: u64,
    leader_heard: Option<Instant>,
    deadline: Instant,
    round: u64,
    grants: BTreeSet<NodeId>,
}

impl Election {
    /// An election that waits `timeout`, plus up to as much again by chance (from `seed`), for a leader.
    #[must_use]
    pub fn new(now: Instant, timeout: Span, seed: u64) -> Self {
        let mut election = Self {
            timeout,
            jitter: seed,
            leader_heard: None,
            deadline: now,
            round: 0,
            grants: BTreeSet::new(),
        };
        election.restart(now);
        election
    }

    /// When [`Election::tick`] wants to be called next.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.deadline
    }

    /// A message from the leader came in.
    pub fn leader_heard(&mut self, now: Instant) {
        self.leader_heard = Some(now);
        self.grants.clear();
        self.restart(now);
    }

    /// The leader does not count any more: what was heard of him neither, and soon somebody should try.
    pub fn forsake_leader(&mut self, now: Instant) {
        self.leader_heard = None;
        self.grants.clear();
        self.restart(now);
        let wait = self.deadline.since(now).as_ns().saturating_sub(self.timeout.as_ns());
        self.deadline = now.after(Span::from_ns(wait / 2));
    }

    /// The timer: starts a round if nobody leads.
    pub fn tick(&mut self, now: Instant, facts: &Facts<'_>, out: &mut Vec<Output>) {
        if now < self.deadline {
            return;
        }
        self.restart(now);
        if facts.leading || !facts.able || !facts.voters.contains(&facts.me) {
            return;
        }
        self.round = self.round.wrapping_add(1);
        self.grants = BTreeSet::from([facts.me]);
        let ask = Message::Ask { round: self.round, last: facts.last };
        let others = facts.voters.iter().filter(|v| **v != facts.me);
        out.extend(others.map(|v| Output::Send(*v, ask.clone())));
        self.count(now, facts, out);
    }

    /// A message of the pre-vote came in.
    pub fn message(
        &mut self,
        now: Instant,
        facts: &Facts<'_>,
        from: NodeId,
        message: &Message,
        out: &mut Vec<Output>,
    ) {
        if !facts.voters.contains(&from) {
            return;
        }
        match *message {
            Message::Ask { round, last } => {
                if self.misses_leader(now, facts) && last >= facts.last {
                    out.push(Output::Send(from, Message::Grant { round }));
                }
            }
            Message::Grant { round } => {
                if round == self.round && !self.grants.is_empty() {
                    self.grants.insert(from);
                    self.count(now, facts, out);
                }
            }
        }
    }

    fn count(&mut self, now: Instant, facts: &Facts<'_>, out: &mut Vec<Output>) {
        if self.grants.len() > facts.voters.len() / 2 && self.misses_leader(now, facts) {
            self.grants.clear();
            self.restart(now);
            out.push(Output::Campaign);
        }
    }

    /// Whether the leader was heard lately.
    #[must_use]
    pub fn hears_leader(&self, now: Instant) -> bool {
        self.leader_heard.is_some_and(|heard| now.since(heard) < self.timeout)
    }

    fn misses_leader(&self, now: Instant, facts: &Facts<'_>) -> bool {
        !facts.leading && !self.hears_leader(now)
    }

    fn restart(&mut self, now: Instant) {
        // SplitMix64 (Steele et al., OOPSLA 2014): enough to tell nodes apart.
        self.jitter = self.jitter.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.jitter;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        let extra = (z ^ (z >> 31)) % self.timeout.as_ns().max(1);
        self.deadline = now.after(self.timeout).after(Span::from_ns(extra));
    }
}

#[cfg(test)]
mod certificate_tests;

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Span = Span::from_ms(1_000);

    fn voters() -> BTreeSet<NodeId> {
        [1, 2, 3].map(NodeId).into()
    }

    fn facts(voters: &BTreeSet<NodeId>, me: u64) -> Facts<'_> {
        Facts { me: NodeId(me), voters, last: (3, 10), leading: false, able: true }
    }

    fn later(election: &Election) -> Instant {
        election.deadline().after(Span::from_ms(1))
    }

    #[test]
    fn a_node_campaigns_only_after_a_majority_misses_the_leader() {
        let (voters, mut out) = (voters(), Vec::new());
        let mut election = Election::new(Instant::ZERO, TIMEOUT, 1);
        let now = later(&election);
        election.tick(now, &facts(&voters, 1), &mut out);
        assert_eq!(out.len(), 2);
        assert!(!out.contains(&Output::Campaign));
        out.clear();
        election.message(now, &facts(&voters, 1), NodeId(2), &Message::Grant { round: 1 }, &mut out);
        assert_eq!(out, [Output::Campaign]);
    }

    #[test]
    fn a_node_that_hears_the_leader_grants_nothing() {
        let (voters, mut out) = (voters(), Vec::new());
        let mut election = Election::new(Instant::ZERO, TIMEOUT, 1);
        election.leader_heard(Instant::ZERO);
        let ask = Message::Ask { round: 9, last: (99, 99) };
        let soon = Instant::ZERO.after(Span::from_ms(999));
        election.message(soon, &facts(&voters, 1), NodeId(2), &ask, &mut out);
        assert_eq!(out, []);
        let late = Instant::ZERO.after(TIMEOUT);
        election.message(late, &facts(&voters, 1), NodeId(2), &ask, &mut out);
        assert_eq!(out, [Output::Send(NodeId(2), Message::Grant { round: 9 })]);
    }

    #[test]
    fn an_older_log_and_a_stranger_get_nothing() {
        let (voters, mut out) = (voters(), Vec::new());
        let mut election = Election::new(Instant::ZERO, TIMEOUT, 1);
        let old = Message::Ask { round: 1, last: (3, 9) };
        election.message(Instant::ZERO, &facts(&voters, 1), NodeId(2), &old, &mut out);
        let stranger = Message::Ask { round: 1, last: (9, 9) };
        election.message(Instant::ZERO, &facts(&voters, 1), NodeId(7), &stranger, &mut out);
        assert_eq!(out, []);
    }

    #[test]
    fn grants_of_an_earlier_round_do_not_count() {
        let (voters, mut out) = (voters(), Vec::new());
        let mut election = Election::new(Instant::ZERO, TIMEOUT, 1);
        for _ in 0..2 {
            let now = later(&election);
            election.tick(now, &facts(&voters, 1), &mut out);
        }
        out.clear();
        let now = later(&election);
        election.message(now, &facts(&voters, 1), NodeId(2), &Message::Grant { round: 1 }, &mut out);
        assert_eq!(out, []);
    }
}
