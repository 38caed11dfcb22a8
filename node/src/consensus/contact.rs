//! When a majority last accepted this node as its leader.
//!
//! openraft goes on calling a cut-off leader a leader. What counts is when the messages were *sent* that a
//! majority has answered since: at that instant, nobody else can have been in office.
//!
//! **Invariant.** Send times are taken before sending, on a clock that also counts while the machine is
//! suspended; answers under an older vote count for nothing.

use super::wire::Ballot;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};
use stead_proto::time::Instant;

/// The answers to a leader's messages.
#[derive(Debug, Default)]
pub(super) struct Contact(Mutex<Answers>);

#[derive(Debug, Default)]
struct Answers {
    ballot: Option<Ballot>,
    sent_at: BTreeMap<u64, Instant>,
}

impl Contact {
    /// `node` accepted a message that was sent under `ballot` at `sent_at`.
    pub(super) fn record(&self, node: u64, ballot: Ballot, sent_at: Instant) {
        let mut answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.ballot < Some(ballot) {
            *answers = Answers { ballot: Some(ballot), sent_at: BTreeMap::new() };
        }
        if answers.ballot == Some(ballot) {
            let latest = answers.sent_at.entry(node).or_insert(sent_at);
            *latest = sent_at.max(*latest);
        }
    }

    /// When a majority of each set of voters was last in contact under `ballot`.
    pub(super) fn of_majority(
        &self,
        me: u64,
        ballot: Ballot,
        voters: &[BTreeSet<u64>],
        now: Instant,
    ) -> Option<Instant> {
        let answers = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let nobody = BTreeMap::new();
        let sent_at = if answers.ballot == Some(ballot) { &answers.sent_at } else { &nobody };
        majority(me, voters, sent_at, now)
    }
}

/// The earliest, over all sets, of the majority-th latest contact.
fn majority(
    me: u64,
    voters: &[BTreeSet<u64>],
    sent_at: &BTreeMap<u64, Instant>,
    now: Instant,
) -> Option<Instant> {
    let of_set = |set: &BTreeSet<u64>| {
        let mut contacts: Vec<Instant> = set
            .iter()
            .filter_map(|node| if *node == me { Some(now) } else { sent_at.get(node).copied() })
            .collect();
        contacts.sort_unstable_by(|a, b| b.cmp(a));
        contacts.get(set.len() / 2).copied()
    };
    voters.iter().map(of_set).min().flatten()
}

/// This machine's `CLOCK_BOOTTIME`.
pub(super) fn now() -> Instant {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanoseconds = u64::try_from(time.tv_nsec).unwrap_or(0);
    Instant::from_ns(seconds.saturating_mul(1_000_000_000).saturating_add(nanoseconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(ms: u64) -> Instant {
        Instant::from_ns(ms * 1_000_000)
    }

    fn contact(voters: &[&[u64]], answers: &[(u64, u64)]) -> Option<Instant> {
        let voters: Vec<BTreeSet<u64>> = voters.iter().map(|set| set.iter().copied().collect()).collect();
        let sent_at = answers.iter().map(|(node, ms)| (*node, at(*ms))).collect();
        majority(1, &voters, &sent_at, at(100))
    }

    #[test]
    fn contact_is_as_old_as_the_majority_th_answer() {
        assert_eq!(contact(&[&[1]], &[]), Some(at(100)));
        assert_eq!(contact(&[&[1, 2, 3]], &[]), None);
        assert_eq!(contact(&[&[1, 2, 3]], &[(2, 50), (3, 70)]), Some(at(70)));
        assert_eq!(contact(&[&[1, 2, 3, 4]], &[(2, 50), (3, 70)]), Some(at(50)));
        assert_eq!(contact(&[&[1, 2, 3, 4, 5]], &[(2, 50), (3, 70), (4, 90)]), Some(at(70)));
        assert_eq!(contact(&[&[1, 2, 3]], &[(7, 90)]), None);
    }

    #[test]
    fn a_change_of_voters_needs_both_majorities_and_a_removed_leader_is_no_voter() {
        assert_eq!(contact(&[&[1, 2, 3], &[2, 3, 4]], &[(2, 60), (3, 80)]), Some(at(60)));
        assert_eq!(contact(&[&[1, 2], &[3, 4]], &[(2, 60)]), None);
        assert_eq!(contact(&[], &[]), None);
    }

    #[test]
    fn answers_under_an_older_vote_do_not_count() {
        let ballot = |term| Ballot { term, node: 1, committed: true };
        let contact = Contact::default();
        let voters = [BTreeSet::from([1, 2, 3])];
        contact.record(2, ballot(4), at(10));
        assert_eq!(contact.of_majority(1, ballot(4), &voters, at(20)), Some(at(10)));
        assert_eq!(contact.of_majority(1, ballot(5), &voters, at(20)), None);
        contact.record(3, ballot(5), at(15));
        contact.record(2, ballot(4), at(19));
        assert_eq!(contact.of_majority(1, ballot(5), &voters, at(20)), Some(at(15)));
    }
}
