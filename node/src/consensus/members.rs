//! Which list of members may follow which.
//!
//! A leader writes the lists, and each node acts on a list as soon as it is in its log: a hostile leader that names
//! itself as the only voter has the mesh for itself. So a list has to be one step of the way to what the replicated
//! state asks for after the entry before it, which everybody can compute alike:
//!
//! | from | to | allowed if |
//! |---|---|---|
//! | none | V | the state wants V |
//! | V | V, V ∪ W together | the state wants W |
//! | V, W together | W | always: it was allowed before |
//! | | V, or one of both and X together | the state wants V, X |
//! | any | the same voters, with nodes more or fewer | the state wants these there, or not there |
//!
//! **Invariant.** Total and pure; the same for leader and follower.

use super::Consensus;
use super::gate::GateError;
use super::inbound::HandleError;
use super::types::Wanted;
use super::wire::{EntryId, LogEntry, Members, Payload};
use openraft::{EffectiveMembership, EmptyNode};
use stead_proto::limits::RAFT_FRAME_BYTES_MAX;

/// Whether `new` may follow `old` when the state wants `wanted`.
pub(super) fn follows(old: &Members, new: &Members, wanted: &Wanted) -> bool {
    let voters = match (old.voters.as_slice(), new.voters.as_slice()) {
        ([], [set]) => *set == wanted.voters,
        (before, after) if before == after => true,
        ([_, to], [set]) if set == to => true,
        (before @ [_, _], [set]) => before.contains(set) && *set == wanted.voters,
        (before, [from, to]) => before.contains(from) && *to == wanted.voters,
        _ => false,
    };
    let was_replaced = |node| old.voters.len() == 2 && old.voters.iter().any(|set| set.contains(node));
    let is_wanted = |node| wanted.voters.contains(node) || wanted.learners.contains(node);
    voters
        && new.nodes.difference(&old.nodes).all(is_wanted)
        && old.nodes.difference(&new.nodes).all(|node| !is_wanted(node) || was_replaced(node))
}

/// What this node can say of the lists of members among a leader's entries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Lists {
    /// There is none, or each may follow the one before.
    Fine,
    /// The entries before are not all here: none of these may be taken yet.
    Unknown,
}

impl Consensus {
    /// Judges the lists of members among a leader's entries that come after `prev`.
    pub(super) async fn check_members(
        &self,
        prev: Option<EntryId>,
        entries: &[LogEntry],
    ) -> Result<Lists, HandleError> {
        if !entries.iter().any(|entry| matches!(entry.payload, Payload::Members(_))) {
            return Ok(Lists::Fine);
        }
        let from = self.source.metrics.borrow().last_applied.map_or(0, |id| id.index.saturating_add(1));
        let to = prev.map_or(0, |id| id.index.saturating_add(1));
        let log = &self.source.log;
        let own = log.entries(from, to, RAFT_FRAME_BYTES_MAX).map_err(|_| HandleError::Stopped)?;
        if own.last().map_or(from, |entry| entry.id.index + 1) < to {
            return Ok(Lists::Unknown);
        }
        let mut members = self.members_before(to).await?;
        let mut commands: Vec<(u64, &[u8])> = own.iter().filter_map(command).collect();
        for entry in entries {
            commands.extend(command(entry));
            let Payload::Members(list) = &entry.payload else { continue };
            let is_here = log.entries(entry.id.index, entry.id.index + 1, RAFT_FRAME_BYTES_MAX);
            let is_here = is_here.is_ok_and(|here| here.iter().any(|here| here == entry));
            // What is here was judged when it came.
            if !is_here {
                let wanted = self.replica.lock().wanted(&commands);
                if wanted.is_some_and(|wanted| !follows(&members, list, &wanted)) {
                    return Err(GateError::Unlawful { index: entry.id.index }.into());
                }
            }
            members = list.clone();
        }
        Ok(Lists::Fine)
    }

    /// The list that holds where the next entry has this index.
    async fn members_before(&self, index: u64) -> Result<Members, HandleError> {
        let known = self.raft.with_raft_state(move |state| {
            let (committed, newest) =
                (state.membership_state.committed(), state.membership_state.effective());
            let is_before = |of: &EffectiveMembership<u64, EmptyNode>| {
                of.log_id().as_ref().is_some_and(|id| id.index < index)
            };
            // One that a later leader did not have goes, and the committed one comes back.
            let holds = if is_before(newest) { newest } else { committed };
            Members::from(holds.membership())
        });
        known.await.map_err(|_| HandleError::Stopped)
    }
}

fn command(entry: &LogEntry) -> Option<(u64, &[u8])> {
    match &entry.payload {
        Payload::Command(bytes) => Some((entry.id.index, &bytes.0)),
        Payload::Blank | Payload::Members(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    fn set(nodes: &[u64]) -> BTreeSet<u64> {
        nodes.iter().copied().collect()
    }

    fn list(voters: &[&[u64]], nodes: &[u64]) -> Members {
        Members { voters: voters.iter().map(|nodes| set(nodes)).collect(), nodes: set(nodes) }
    }

    fn wanted(voters: &[u64], learners: &[u64]) -> Wanted {
        Wanted { voters: set(voters), learners: set(learners) }
    }

    #[test]
    fn a_leader_cannot_name_the_voters_it_likes() {
        let three = list(&[&[1, 2, 3]], &[1, 2, 3]);
        let calm = wanted(&[1, 2, 3], &[]);
        for forged in [
            list(&[&[1]], &[1]),
            list(&[&[1]], &[1, 2, 3]),
            list(&[&[1, 2, 3], &[1]], &[1, 2, 3]),
            list(&[&[1], &[1, 2, 3]], &[1, 2, 3]),
            list(&[&[1, 2, 3], &[1, 2, 3, 4]], &[1, 2, 3, 4]),
            list(&[&[1, 2, 3]], &[1, 2]),
            list(&[&[1, 2, 3]], &[1, 2, 3, 4]),
            list(&[], &[1, 2, 3]),
            list(&[&[1, 2, 3], &[1, 2, 3], &[1, 2, 3]], &[1, 2, 3]),
        ] {
            assert!(!follows(&three, &forged, &calm), "{forged:?}");
        }
        assert!(!follows(&three, &list(&[&[1, 2]], &[1, 2, 3]), &wanted(&[1, 2], &[3])), "not at once");
        assert!(!follows(&list(&[], &[]), &list(&[&[1]], &[1]), &calm), "not the first one either");
        assert!(follows(&list(&[], &[]), &three, &calm));
    }

    #[test]
    fn a_change_that_is_under_way_may_end_and_may_turn_back() {
        let between = list(&[&[1, 2, 3], &[2, 3]], &[1, 2, 3]);
        let (two, three) = (list(&[&[2, 3]], &[2, 3]), list(&[&[1, 2, 3]], &[1, 2, 3]));
        let (less, same) = (wanted(&[2, 3], &[1]), wanted(&[1, 2, 3], &[]));
        assert!(follows(&three, &between, &less));
        assert!(follows(&between, &two, &same), "what was begun may end, whatever is wanted since");
        assert!(follows(&between, &three, &same) && !follows(&between, &three, &less));
    }
}
