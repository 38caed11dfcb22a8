//! Who votes: the configuration of leases, and the only ways from one to the next.
//!
//! **Invariant (P2).** Adjacent configurations differ by one voter, so their majorities meet; and the next one
//! is accepted only after a majority of the present voters applied the present one so long ago that no lease
//! of an earlier one can be alive. So leases that are alive at the same instant come from the same or from
//! adjacent configurations, and share a voter.
//!
//! **Invariant (P1).** In two-voter mode one node may hold by its own agreement alone. The mode starts on a
//! configuration of two voters, where this node's agreement is part of every majority anyway, and while it
//! may be on, no change is accepted that would give others a majority without this node: the restriction
//! binds everybody from the moment of applying it, the permission waits for everybody's confirmation.
//!
//! Deliberately absent: signatures. The caller has verified the reports that confirmations come from, and
//! whether the charter permits the change.

use crate::id::NodeId;
use crate::lease::{OUTLIVED, Rules};
use crate::limits::VOTERS_MAX;
use alloc::collections::BTreeSet;
use serde::{Deserialize, Serialize};

/// A set of voters, as committed at one log index.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Config {
    /// The log index of the entry that made it.
    pub index: u64,
    /// Who votes.
    pub voters: BTreeSet<NodeId>,
    /// Two-voter mode: this node alone may hold, by itself, once everybody has confirmed.
    pub pair: Option<NodeId>,
    /// The voters of the configuration before.
    pub before: BTreeSet<NodeId>,
    /// The log index of the configuration before, 0 for the founding one.
    pub before_index: u64,
    /// The node for which this configuration ended two-voter mode: it has to confirm that it left.
    pub leaving: Option<NodeId>,
}

/// One step from a configuration to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Change {
    /// One voter more.
    Add(NodeId),
    /// One voter less.
    Remove(NodeId),
    /// Two-voter mode with this node as the one that may hold alone.
    EnterPair(NodeId),
    /// Majorities only, again.
    LeavePair,
}

/// What a node said about itself in a signed report; see [`crate::lease::Lease::confirmation`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Confirmation {
    /// Who said it.
    pub node: NodeId,
    /// The configuration that it applied last.
    pub config_index: u64,
    /// For how long it had applied it, by its own clock, in ms.
    pub age_ms: u64,
    /// It is not in two-voter mode, and no lease that it got by itself can be alive.
    pub pair_left: bool,
}

/// Why a change is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum ChangeError {
    /// Not after the configuration that it follows.
    #[error("entry {index} cannot follow the configuration of entry {current}")]
    Index {
        /// Of the change.
        index: u64,
        /// Of the configuration.
        current: u64,
    },
    /// P2: too early.
    #[error(
        "{confirmed} of {needed} voters have applied the last change long enough ({OUTLIVED}): try again later"
    )]
    Unsettled {
        /// How many have.
        confirmed: usize,
        /// A majority.
        needed: usize,
    },
    /// P1: two-voter mode is on.
    #[error("node {0} may hold the endpoint alone: leave two-voter mode first")]
    PairMode(NodeId),
    /// P1: two-voter mode may still be on at its node.
    #[error("node {0} has not confirmed that it left two-voter mode: wait for its report")]
    PairNotLeft(NodeId),
    /// Adding a voter.
    #[error("node {0} votes already")]
    AlreadyVotes(NodeId),
    /// Removing somebody else, or making him hold alone.
    #[error("node {0} does not vote")]
    NoVoter(NodeId),
    /// Removing the last voter.
    #[error("node {0} is the only voter: add another one first")]
    LastVoter(NodeId),
    /// Adding one too many.
    #[error("there are {VOTERS_MAX} voters already: remove one first")]
    TooManyVoters,
    /// Two-voter mode among more or fewer.
    #[error("two-voter mode needs exactly two voters, not {0}")]
    NotTwo(usize),
    /// Leaving a mode that is off.
    #[error("two-voter mode is off already")]
    NotPaired,
}

impl Config {
    /// The first configuration of a mesh.
    #[must_use]
    pub fn founding(index: u64, voters: BTreeSet<NodeId>) -> Self {
        Self { index, voters, pair: None, before: BTreeSet::new(), before_index: 0, leaving: None }
    }

    /// How many voters are a majority.
    #[must_use]
    pub fn majority(&self) -> usize {
        self.voters.len() / 2 + 1
    }

    /// Whether epochs of the plan of entry `plan_index` may be agreed to anew. A tenure two configurations ago may
    /// have shared no voter with this one, so nobody here need know its epoch; but its plan was older than
    /// the configuration before, for its holder had not applied that one. So epochs rise across any number of
    /// changes, if each change is followed by a plan.
    #[must_use]
    pub const fn admits(&self, plan_index: u64) -> bool {
        plan_index > self.before_index
    }

    /// The configuration after `change`, which is the log entry `index`. `confirmations` hold at most one
    /// per node.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing changes then.
    pub fn next(
        &self,
        index: u64,
        change: Change,
        confirmations: &[Confirmation],
    ) -> Result<Self, ChangeError> {
        self.next_under(Rules::SOUND, index, change, confirmations)
    }

    /// [`Config::next`] under other rules, which only a test can make.
    ///
    /// # Errors
    /// [`ChangeError`]: nothing changes then.
    pub fn next_under(
        &self,
        rules: Rules,
        index: u64,
        change: Change,
        confirmations: &[Confirmation],
    ) -> Result<Self, ChangeError> {
        if index <= self.index {
            return Err(ChangeError::Index { index, current: self.index });
        }
        if rules.membership {
            self.check_settled(confirmations)?;
        }
        if rules.pair {
            self.check_pair(change, confirmations)?;
        }
        let (voters, pair) = self.changed(change)?;
        let leaving = self.pair.filter(|_| pair != self.pair);
        Ok(Self { index, voters, pair, before: self.voters.clone(), before_index: self.index, leaving })
    }

    /// P1: whether the node that may hold alone can know that everybody else is restricted by now.
    /// A voter that was removed counts as confirming when the caller says so (fenced, or signed off).
    #[must_use]
    pub fn pair_confirmed(&self, confirmations: &[Confirmation]) -> bool {
        self.voters.union(&self.before).all(|&voter| {
            confirmations.iter().any(|said| said.node == voter && said.config_index >= self.index)
        })
    }

    /// P2: a majority applied this configuration so long ago that leases of the one before are over.
    fn check_settled(&self, confirmations: &[Confirmation]) -> Result<(), ChangeError> {
        let settled = |voter: &&NodeId| {
            confirmations.iter().any(|said| {
                said.node == **voter && said.config_index >= self.index && said.age_ms > OUTLIVED.as_ms()
            })
        };
        let (confirmed, needed) = (self.voters.iter().filter(settled).count(), self.majority());
        if confirmed >= needed { Ok(()) } else { Err(ChangeError::Unsettled { confirmed, needed }) }
    }

    /// P1: no majority without the node that may hold alone, until it said that it cannot any more.
    fn check_pair(&self, change: Change, confirmations: &[Confirmation]) -> Result<(), ChangeError> {
        if let Some(alone) = self.pair {
            return match change {
                Change::LeavePair => Ok(()),
                Change::Remove(voter) if voter != alone => Ok(()),
                Change::Add(_) | Change::Remove(_) | Change::EnterPair(_) => {
                    Err(ChangeError::PairMode(alone))
                }
            };
        }
        let Some(leaving) = self.leaving else { return Ok(()) };
        let left =
            |said: &Confirmation| said.node == leaving && said.config_index >= self.index && said.pair_left;
        if confirmations.iter().any(left) { Ok(()) } else { Err(ChangeError::PairNotLeft(leaving)) }
    }

    /// The voters and the two-voter mode after `change`. Any change of voters ends the mode.
    fn changed(&self, change: Change) -> Result<(BTreeSet<NodeId>, Option<NodeId>), ChangeError> {
        let mut voters = self.voters.clone();
        match change {
            Change::Add(node) if voters.len() >= VOTERS_MAX && !voters.contains(&node) => {
                Err(ChangeError::TooManyVoters)
            }
            Change::Add(node) if !voters.insert(node) => Err(ChangeError::AlreadyVotes(node)),
            Change::Remove(node) if !voters.remove(&node) => Err(ChangeError::NoVoter(node)),
            Change::Remove(node) if voters.is_empty() => Err(ChangeError::LastVoter(node)),
            Change::EnterPair(_) if voters.len() != 2 => Err(ChangeError::NotTwo(voters.len())),
            Change::EnterPair(node) if !voters.contains(&node) => Err(ChangeError::NoVoter(node)),
            Change::LeavePair if self.pair.is_none() => Err(ChangeError::NotPaired),
            Change::EnterPair(node) => Ok((voters, Some(node))),
            Change::Add(_) | Change::Remove(_) | Change::LeavePair => Ok((voters, None)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec::Vec;

    fn config(voters: &[u64]) -> Config {
        Config::founding(5, voters.iter().copied().map(NodeId).collect())
    }

    fn confirmed(config: &Config, nodes: &[u64]) -> Vec<Confirmation> {
        let said = |&node| Confirmation {
            node: NodeId(node),
            config_index: config.index,
            age_ms: OUTLIVED.as_ms() + 1,
            pair_left: config.pair != Some(NodeId(node)),
        };
        nodes.iter().map(said).collect()
    }

    #[test]
    fn a_change_waits_until_a_majority_has_outlived_the_last_one() {
        let config = config(&[1, 2, 3]);
        let add = Change::Add(NodeId(4));
        let unsettled = |confirmed| Err(ChangeError::Unsettled { confirmed, needed: 2 });
        assert_eq!(config.next(6, add, &[]), unsettled(0));
        assert_eq!(config.next(6, add, &confirmed(&config, &[1])), unsettled(1));
        assert_eq!(config.next(6, add, &confirmed(&config, &[1, 4])), unsettled(1), "4 does not vote yet");
        let mut early = confirmed(&config, &[1, 2]);
        early[1].age_ms = OUTLIVED.as_ms();
        assert_eq!(config.next(6, add, &early), unsettled(1));
        let mut old = confirmed(&config, &[1, 2]);
        old[1].config_index = 4;
        assert_eq!(config.next(6, add, &old), unsettled(1));
        assert_eq!(config.next(6, add, &confirmed(&config, &[1, 2])).unwrap().voters.len(), 4);
    }

    #[test]
    fn no_voter_set_grows_and_no_pair_holder_changes_in_two_voter_mode() {
        let config = config(&[1, 2]);
        let paired = config.next(6, Change::EnterPair(NodeId(1)), &confirmed(&config, &[1, 2])).unwrap();
        let all = confirmed(&paired, &[1, 2, 3]);
        let refused = Err(ChangeError::PairMode(NodeId(1)));
        assert_eq!(paired.next(7, Change::Add(NodeId(3)), &all), refused);
        assert_eq!(paired.next(7, Change::EnterPair(NodeId(2)), &all), refused);
        assert_eq!(paired.next(7, Change::Remove(NodeId(1)), &all), refused);
        let left = paired.next(7, Change::LeavePair, &all).unwrap();
        assert_eq!((left.pair, left.leaving), (None, Some(NodeId(1))));
    }

    #[test]
    fn after_two_voter_mode_its_holder_has_to_confirm_that_it_left() {
        let config = config(&[1, 2]);
        let paired = config.next(6, Change::EnterPair(NodeId(1)), &confirmed(&config, &[1, 2])).unwrap();
        let left = paired.next(7, Change::LeavePair, &confirmed(&paired, &[1, 2])).unwrap();
        let mut said = confirmed(&left, &[1, 2]);
        said[0].pair_left = false;
        assert_eq!(left.next(8, Change::Add(NodeId(3)), &said), Err(ChangeError::PairNotLeft(NodeId(1))));
        said[0].pair_left = true;
        let grown = left.next(8, Change::Add(NodeId(3)), &said).unwrap();
        assert_eq!((grown.voters.len(), grown.leaving), (3, None));
    }

    #[test]
    fn two_voter_mode_is_usable_only_after_everybody_of_both_sets_confirmed() {
        let config = config(&[1, 2]);
        let mut paired = config.next(6, Change::EnterPair(NodeId(1)), &confirmed(&config, &[1, 2])).unwrap();
        assert!(!paired.pair_confirmed(&confirmed(&paired, &[1])));
        assert!(!paired.pair_confirmed(&confirmed(&config, &[1, 2])), "an older configuration");
        assert!(paired.pair_confirmed(&confirmed(&paired, &[1, 2])));
        paired.before.insert(NodeId(3));
        assert!(!paired.pair_confirmed(&confirmed(&paired, &[1, 2])), "a removed voter");
    }

    #[test]
    fn a_plan_older_than_the_configuration_before_is_not_agreed_to_anew() {
        let config = config(&[1, 2, 3]);
        assert!(config.admits(1));
        let next = config.next(8, Change::Remove(NodeId(3)), &confirmed(&config, &[1, 2])).unwrap();
        assert!(next.admits(6), "from before this change, but after the one before");
        assert!(!next.admits(5));
    }

    #[test]
    fn senseless_changes_are_refused_with_their_reason() {
        let config = config(&[1, 2, 3]);
        let all = confirmed(&config, &[1, 2, 3]);
        let try_it = |change| config.next(6, change, &all).unwrap_err();
        assert_eq!(try_it(Change::Add(NodeId(1))), ChangeError::AlreadyVotes(NodeId(1)));
        assert_eq!(try_it(Change::Remove(NodeId(4))), ChangeError::NoVoter(NodeId(4)));
        assert_eq!(try_it(Change::EnterPair(NodeId(1))), ChangeError::NotTwo(3));
        assert_eq!(try_it(Change::LeavePair), ChangeError::NotPaired);
        assert_eq!(
            config.next(5, Change::Remove(NodeId(1)), &all),
            Err(ChangeError::Index { index: 5, current: 5 })
        );
        let single = Config::founding(5, [NodeId(1)].into());
        let said = confirmed(&single, &[1]);
        assert_eq!(single.next(6, Change::Remove(NodeId(1)), &said), Err(ChangeError::LastVoter(NodeId(1))));
        let pair = Config::founding(5, [NodeId(1), NodeId(2)].into());
        let said = confirmed(&pair, &[1, 2]);
        assert_eq!(pair.next(6, Change::EnterPair(NodeId(3)), &said), Err(ChangeError::NoVoter(NodeId(3))));
        let full = Config::founding(5, (1..=9).map(NodeId).collect());
        let said = confirmed(&full, &[1, 2, 3, 4, 5]);
        assert_eq!(full.next(6, Change::Add(NodeId(10)), &said), Err(ChangeError::TooManyVoters));
    }
}
