//! What may reach openraft, and what may not.
//!
//! openraft believes whatever a member sends: one forged message with a higher term takes over, a term of
//! `u64::MAX` ends the cluster, and an entry out of order makes it panic. These are pure functions that
//! stand in between, for requests as well as for answers.
//!
//! **Invariant.** A message speaks for the peer that it came from and for nobody else. Terms never jump
//! by more than [`TERM_JUMP_MAX`], and nobody leads without a verified election certificate of that very
//! vote. An answer deposes nobody without one, unless the agent admitted a stranded voter's vote.
//!
//! Deliberately absent: verifying certificates (`elections` does), judging whether a list of members follows from the
//! state (`members`), and whether the content of a snapshot is true (`vouching`).

use super::wire::{Answer, AppendAnswer, Ballot, EntryId, Frame, LogEntry, Members, Payload};
use std::collections::BTreeSet;
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, NODES_MAX, TERM_JUMP_MAX, TERM_MAX, VOTERS_MAX};

/// No log ever gets this long; it keeps arithmetic on indexes far from its end.
const INDEX_MAX: u64 = u64::MAX / 4;

/// Why a message was not let through.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum GateError {
    /// The message names a leader or candidate that did not send it.
    #[error("speaks for node #{claimed}, but came from #{from}")]
    Impostor {
        /// Whom it names.
        claimed: u64,
        /// Who sent it.
        from: u64,
    },
    /// Its peers have demoted it.
    #[error("node #{leader} is demoted: it may not lead")]
    Demoted {
        /// Who leads all the same.
        leader: u64,
    },
    /// The term is too far ahead.
    #[error("term {term} is more than {TERM_JUMP_MAX} ahead of ours ({ours})")]
    TermJump {
        /// The term.
        term: u64,
        /// Our term.
        ours: u64,
    },
    /// A candidate that claims to be elected, or a leader that does not.
    #[error("a {kind} with a vote that only a {other} may carry")]
    WrongVote {
        /// What the message is.
        kind: &'static str,
        /// Who carries such a vote.
        other: &'static str,
    },
    /// Entries that no correct leader sends.
    #[error("entries that do not follow each other, or are newer than their leader")]
    Disorder,
    /// A member list that no correct leader sends.
    #[error("a member list with too many or too few nodes")]
    Members,
    /// A list of members that the state does not ask for.
    #[error("a list of members, entry {index}, that does not follow from the one before and the state")]
    Unlawful {
        /// Where it would stand in the log.
        index: u64,
    },
    /// A command over its limit.
    #[error("a command of more than {COMMAND_FRAME_BYTES_MAX} bytes")]
    Command,
    /// An answer with a higher vote and nothing to prove it.
    #[error("an answer with the higher term {term} and no election certificate for it")]
    Unproven {
        /// The term.
        term: u64,
    },
    /// A leader whose election nobody has proven here.
    #[error("node #{leader} leads term {term} without an election certificate that this node knows")]
    Unelected {
        /// Its term.
        term: u64,
        /// Who says that it leads.
        leader: u64,
    },
    /// A vote without the voter's signature.
    #[error("a vote of node #{from} without a grant that it signed")]
    Grant {
        /// The voter.
        from: u64,
    },
    /// An answer to something else.
    #[error("not an answer to what was asked")]
    Mismatch,
}

/// Whether a request from `from` may reach openraft on a node whose vote is `ours`; `elected` says whether
/// a vote's election certificate was verified.
///
/// # Errors
/// [`GateError`] says what is wrong; the sender is broken or hostile.
pub(crate) fn request(
    from: u64,
    ours: Ballot,
    elected: impl Fn(Ballot) -> bool,
    frame: &Frame,
) -> Result<(), GateError> {
    match frame {
        Frame::Append { ballot, prev, entries, commit } => {
            leader(from, &elected, *ballot)?;
            sequence(*ballot, *prev, entries)?;
            not_newer(*ballot, commit.as_ref())
        }
        Frame::Vote { ballot, last } => {
            speaks_for(from, ballot.node)?;
            if ballot.committed {
                return Err(GateError::WrongVote { kind: "candidate", other: "leader" });
            }
            term(ours, *ballot)?;
            not_newer(*ballot, last.as_ref())
        }
        Frame::Snapshot { ballot, name, image } => {
            leader(from, &elected, *ballot)?;
            not_newer(*ballot, image.last.as_ref())?;
            not_newer(*ballot, image.members_at.as_ref())?;
            let index = image.last.map(|id| id.index).ok_or(GateError::Disorder)?;
            if image.members_at > image.last || !is_snapshot_name(index, name) {
                return Err(GateError::Disorder);
            }
            members(&image.members)
        }
        // They never reach openraft.
        Frame::Elected { .. } | Frame::Vouch { .. } => Ok(()),
    }
}

/// The vote to count jumps of the term from: a node's own, or the term that its operator vouched for when he
/// admitted it, if that is higher.
pub(crate) fn counted_from(ours: Ballot, vouched_term: u64) -> Ballot {
    Ballot { term: ours.term.max(vouched_term), ..ours }
}

/// What an answer has to fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sent {
    /// Entries after `prev` up to `last` (equal for a heartbeat).
    Append {
        /// The leader's vote.
        ballot: Ballot,
        /// The entry before.
        prev: Option<EntryId>,
        /// The last entry.
        last: Option<EntryId>,
    },
    /// A request for a vote.
    Vote(Ballot),
    /// A snapshot.
    Snapshot(Ballot),
    /// An election certificate.
    Elected,
}

/// Whether an answer to what was sent may reach openraft; `proven` says which higher votes are believed.
///
/// # Errors
/// [`GateError`] for an answer that counts as no answer.
pub(crate) fn answer(sent: Sent, proven: impl Fn(Ballot) -> bool, answer: &Answer) -> Result<(), GateError> {
    let claimed = match (sent, answer) {
        (Sent::Append { .. }, Answer::Append(AppendAnswer::Success)) => return Ok(()),
        (Sent::Append { prev, last, .. }, Answer::Append(AppendAnswer::UpTo(id))) => {
            return if prev <= *id && *id <= last { Ok(()) } else { Err(GateError::Mismatch) };
        }
        (Sent::Append { prev, .. }, Answer::Append(AppendAnswer::Conflict)) => {
            return if prev.is_some() { Ok(()) } else { Err(GateError::Mismatch) };
        }
        (Sent::Append { ballot: ours, .. }, Answer::Append(AppendAnswer::Higher(ballot))) => {
            if *ballot > ours { ballot } else { return Err(GateError::Mismatch) }
        }
        (Sent::Elected, Answer::Elected) => return Ok(()),
        (Sent::Vote(ours), Answer::Vote { ballot, granted: true, .. }) => {
            return if *ballot == ours { Ok(()) } else { Err(GateError::Mismatch) };
        }
        (Sent::Vote(ours), Answer::Vote { ballot, .. })
        | (Sent::Snapshot(ours), Answer::Snapshot { ballot }) => {
            if *ballot > ours {
                ballot
            } else {
                return Ok(());
            }
        }
        (Sent::Append { .. } | Sent::Vote(_) | Sent::Snapshot(_) | Sent::Elected, _) => {
            return Err(GateError::Mismatch);
        }
    };
    if proven(*claimed) { Ok(()) } else { Err(GateError::Unproven { term: claimed.term }) }
}

/// The name of a snapshot of the state at `index`; names sort by index and are never used twice.
pub(crate) fn snapshot_name(index: u64, nonce: u128) -> String {
    format!("{index:020}-{nonce:032x}")
}

/// Names become file names, so a peer may not choose them freely.
fn is_snapshot_name(index: u64, name: &str) -> bool {
    name.strip_prefix(&format!("{index:020}-"))
        .is_some_and(|nonce| nonce.len() == 32 && nonce.bytes().all(|byte| byte.is_ascii_hexdigit()))
}

fn speaks_for(from: u64, claimed: u64) -> Result<(), GateError> {
    if from == claimed { Ok(()) } else { Err(GateError::Impostor { claimed, from }) }
}

fn leader(from: u64, elected: &impl Fn(Ballot) -> bool, ballot: Ballot) -> Result<(), GateError> {
    speaks_for(from, ballot.node)?;
    if !ballot.committed {
        return Err(GateError::WrongVote { kind: "leader", other: "candidate" });
    }
    let unelected = GateError::Unelected { term: ballot.term, leader: ballot.node };
    if elected(ballot) { Ok(()) } else { Err(unelected) }
}

fn term(ours: Ballot, theirs: Ballot) -> Result<(), GateError> {
    if is_near(ours, theirs.term) {
        Ok(())
    } else {
        Err(GateError::TermJump { term: theirs.term, ours: ours.term })
    }
}

/// Whether honest elections alone can have led from one term to the other.
pub(crate) const fn is_near(ours: Ballot, term: u64) -> bool {
    term <= ours.term.saturating_add(TERM_JUMP_MAX) && term <= TERM_MAX
}

fn not_newer(ballot: Ballot, id: Option<&EntryId>) -> Result<(), GateError> {
    let fine = id.is_none_or(|id| (id.term, id.node) <= (ballot.term, ballot.node) && id.index <= INDEX_MAX);
    if fine { Ok(()) } else { Err(GateError::Disorder) }
}

fn sequence(ballot: Ballot, prev: Option<EntryId>, entries: &[LogEntry]) -> Result<(), GateError> {
    not_newer(ballot, prev.as_ref())?;
    let mut before = prev;
    for entry in entries {
        let next_index = before.map_or(0, |id| id.index + 1);
        let leader_goes_back = before.is_some_and(|id| (id.term, id.node) > (entry.id.term, entry.id.node));
        if entry.id.index != next_index || leader_goes_back {
            return Err(GateError::Disorder);
        }
        not_newer(ballot, Some(&entry.id))?;
        match &entry.payload {
            Payload::Blank => {}
            Payload::Command(bytes) if bytes.0.len() > COMMAND_FRAME_BYTES_MAX => {
                return Err(GateError::Command);
            }
            Payload::Command(_) => {}
            Payload::Members(list) => members(list)?,
        }
        before = Some(entry.id);
    }
    Ok(())
}

fn members(members: &Members) -> Result<(), GateError> {
    let voters_fit = |set: &BTreeSet<u64>| {
        !set.is_empty() && set.len() <= VOTERS_MAX && set.iter().all(|node| members.nodes.contains(node))
    };
    let fine = (1..=2).contains(&members.voters.len())
        && members.voters.iter().all(voters_fit)
        && members.nodes.len() <= NODES_MAX;
    if fine { Ok(()) } else { Err(GateError::Members) }
}

#[cfg(test)]
mod tests {
    use super::super::wire::{Bytes, SnapshotImage};
    use super::*;

    const OURS: Ballot = Ballot { term: 10, node: 1, committed: true };

    fn any(_: Ballot) -> bool {
        true
    }

    fn nobody(_: Ballot) -> bool {
        false
    }

    fn led_by(node: u64, term: u64) -> Ballot {
        Ballot { term, node, committed: true }
    }

    fn heartbeat(ballot: Ballot) -> Frame {
        Frame::Append { ballot, prev: None, entries: Vec::new(), commit: None }
    }

    fn entry(term: u64, index: u64) -> LogEntry {
        LogEntry { id: EntryId { term, node: 2, index }, payload: Payload::Blank }
    }

    fn entries(prev: Option<EntryId>, entries: Vec<LogEntry>) -> Frame {
        Frame::Append { ballot: led_by(2, 11), prev, entries, commit: None }
    }

    #[test]
    fn nobody_speaks_for_another() {
        let impostor = Err(GateError::Impostor { claimed: 2, from: 3 });
        assert_eq!(request(3, OURS, any, &heartbeat(led_by(2, 11))), impostor);
        let vote = Frame::Vote { ballot: Ballot { term: 11, node: 2, committed: false }, last: None };
        assert_eq!(request(3, OURS, any, &vote), impostor);
        assert_eq!(request(2, OURS, any, &vote), Ok(()));
        assert_eq!(request(2, OURS, any, &heartbeat(led_by(2, 11))), Ok(()));
    }

    #[test]
    fn nobody_leads_without_a_proven_election() {
        let claimed = led_by(2, 11);
        let refused = Err(GateError::Unelected { term: 11, leader: 2 });
        assert_eq!(request(2, OURS, nobody, &heartbeat(claimed)), refused);
        assert_eq!(request(2, OURS, |ballot| ballot == led_by(2, 10), &heartbeat(claimed)), refused);
        assert_eq!(request(2, OURS, |ballot| ballot == claimed, &heartbeat(claimed)), Ok(()));
        let far = led_by(2, 10 + TERM_JUMP_MAX + 1);
        assert_eq!(request(2, OURS, |ballot| ballot == far, &heartbeat(far)), Ok(()));
    }

    #[test]
    fn a_candidates_term_jumps_no_further_than_allowed() {
        let asked = |ours, term| {
            let ballot = Ballot { term, node: 2, committed: false };
            request(2, ours, nobody, &Frame::Vote { ballot, last: None })
        };
        let far = 10 + TERM_JUMP_MAX + 1;
        assert_eq!(asked(OURS, far - 1), Ok(()));
        assert_eq!(asked(OURS, far), Err(GateError::TermJump { term: far, ours: 10 }));
        assert!(asked(led_by(1, u64::MAX - 3), u64::MAX).is_err());
        let newborn = Ballot { term: 0, node: 0, committed: false };
        assert!(asked(counted_from(newborn, 0), 900).is_err());
        assert_eq!(asked(counted_from(newborn, 900 - TERM_JUMP_MAX), 900), Ok(()));
        assert_eq!(counted_from(OURS, 3), OURS, "its own vote goes on counting");
    }

    #[test]
    fn a_candidate_cannot_call_itself_elected() {
        let vote = Frame::Vote { ballot: led_by(2, 11), last: None };
        assert!(matches!(request(2, OURS, any, &vote), Err(GateError::WrongVote { .. })));
        let append = heartbeat(Ballot { term: 11, node: 2, committed: false });
        assert!(matches!(request(2, OURS, any, &append), Err(GateError::WrongVote { .. })));
    }

    #[test]
    fn entries_follow_each_other_and_are_no_newer_than_their_leader() {
        let prev = Some(EntryId { term: 9, node: 1, index: 4 });
        let good = vec![entry(9, 5), entry(11, 6)];
        assert_eq!(request(2, OURS, any, &entries(prev, good)), Ok(()));
        for bad in [
            vec![entry(9, 6)],
            vec![entry(9, 5), entry(9, 7)],
            vec![entry(11, 5), entry(9, 6)],
            vec![entry(12, 5)],
            vec![entry(8, 5)],
        ] {
            assert_eq!(request(2, OURS, any, &entries(prev, bad)), Err(GateError::Disorder));
        }
        let endless = Some(EntryId { term: 9, node: 1, index: u64::MAX });
        assert_eq!(request(2, OURS, any, &entries(endless, vec![entry(9, 0)])), Err(GateError::Disorder));
    }

    #[test]
    fn oversized_commands_and_senseless_member_lists_are_refused() {
        let with = |payload| {
            let one = LogEntry { id: EntryId { term: 9, node: 2, index: 0 }, payload };
            request(2, OURS, any, &entries(None, vec![one]))
        };
        let long = Payload::Command(Bytes(vec![0; COMMAND_FRAME_BYTES_MAX + 1]));
        assert_eq!(with(long), Err(GateError::Command));
        let list = |voters, nodes| Payload::Members(Members { voters, nodes });
        assert_eq!(with(list(vec![], BTreeSet::new())), Err(GateError::Members));
        assert_eq!(with(list(vec![BTreeSet::new()], BTreeSet::new())), Err(GateError::Members));
        assert_eq!(with(list(vec![BTreeSet::from([1])], BTreeSet::from([2]))), Err(GateError::Members));
        assert_eq!(with(list(vec![BTreeSet::from([1])], BTreeSet::from([1, 2]))), Ok(()));
    }

    #[test]
    fn a_snapshot_is_no_newer_than_its_leader_and_named_after_its_index() {
        let named = |name: String, last, members_at| {
            let members = Members { voters: vec![BTreeSet::from([1])], nodes: BTreeSet::from([1]) };
            let image = SnapshotImage { last, members_at, members, state: Bytes(Vec::new()) };
            request(2, OURS, any, &Frame::Snapshot { ballot: led_by(2, 11), name, image })
        };
        let with = |last, members_at| named(snapshot_name(7, 99), last, members_at);
        let at = |term, index| Some(EntryId { term, node: 2, index });
        assert_eq!(with(at(11, 7), at(9, 3)), Ok(()));
        assert_eq!(with(at(12, 7), at(9, 3)), Err(GateError::Disorder));
        assert_eq!(with(at(11, 7), at(11, 8)), Err(GateError::Disorder));
        assert_eq!(with(None, None), Err(GateError::Disorder));
        for name in ["", "../../etc/passwd", &snapshot_name(8, 99), &format!("{}/", snapshot_name(7, 99))] {
            assert_eq!(named(name.into(), at(11, 7), at(9, 3)), Err(GateError::Disorder), "{name}");
        }
    }

    const APPEND: Sent = Sent::Append { ballot: OURS, prev: None, last: None };

    #[test]
    fn an_answer_deposes_nobody_without_proof() {
        let higher = led_by(2, 12);
        let unproven = Err(GateError::Unproven { term: 12 });
        let append = Answer::Append(AppendAnswer::Higher(higher));
        assert_eq!(answer(APPEND, nobody, &append), unproven);
        assert_eq!(answer(APPEND, |ballot| ballot == higher, &append), Ok(()));
        let vote = Answer::Vote { ballot: higher, granted: false, last: None, grant: None };
        assert_eq!(answer(Sent::Vote(OURS), nobody, &vote), unproven);
        let snapshot = |ballot| answer(Sent::Snapshot(OURS), nobody, &Answer::Snapshot { ballot });
        assert_eq!(snapshot(higher), unproven);
        assert_eq!(snapshot(OURS), Ok(()));
        assert_eq!(answer(APPEND, nobody, &Answer::Append(AppendAnswer::Success)), Ok(()));
    }

    #[test]
    fn answers_that_claim_what_was_not_asked_are_refused() {
        let mismatch = Err(GateError::Mismatch);
        let lower = Answer::Append(AppendAnswer::Higher(led_by(2, 9)));
        assert_eq!(answer(APPEND, nobody, &lower), mismatch);
        let other = Answer::Vote { ballot: led_by(2, 12), granted: true, last: None, grant: None };
        assert_eq!(answer(Sent::Vote(OURS), nobody, &other), mismatch);
        assert_eq!(answer(APPEND, nobody, &other), mismatch);
        assert_eq!(answer(APPEND, nobody, &Answer::Append(AppendAnswer::Conflict)), mismatch);
        let at = |index| Some(EntryId { term: 9, node: 1, index });
        let sent = Sent::Append { ballot: OURS, prev: at(3), last: at(5) };
        let up_to = |index| answer(sent, nobody, &Answer::Append(AppendAnswer::UpTo(at(index))));
        assert_eq!([up_to(2), up_to(3), up_to(5), up_to(6)], [mismatch, Ok(()), Ok(()), mismatch]);
    }

    /// `cargo test --release -p stead-node --lib what_an_append_costs -- --nocapture` prints it.
    #[test]
    fn what_an_append_costs() {
        let table: std::collections::BTreeMap<_, ()> = (1..=4_u64).map(|n| ((11, n), ())).collect();
        let is_elected = |ballot: Ballot| table.contains_key(&(ballot.term, ballot.node));
        let prev = Some(EntryId { term: 9, node: 1, index: 4 });
        for (what, count) in [("a heartbeat", 0), ("an entry", 1), ("64 entries", 64)] {
            let frame = entries(prev, (0..count).map(|i| entry(11, 5 + i)).collect());
            let start = std::time::Instant::now();
            (0..10_000)
                .for_each(|_| assert!(request(2, OURS, is_elected, core::hint::black_box(&frame)).is_ok()));
            println!("{what}: {:?}", start.elapsed() / 10_000);
        }
    }
}
