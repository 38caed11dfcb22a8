//! From the members that there are to the members that there shall be, one step per call.
//!
//! **Invariant.** Only a leader changes members, one change at a time; nobody gets a vote who has not
//! caught up; nobody is dropped who still votes. A leader that loses its vote steps down.
//!
//! Deliberately absent: whether a change is allowed. The agent knows the charter.

use super::Consensus;
use super::machine::SharedReplica;
use super::status::{Metrics, Role};
use super::types::Wanted;
use openraft::{ChangeMembers, EmptyNode, LogId, ServerState};
use std::collections::{BTreeMap, BTreeSet};
use std::pin::pin;
use std::sync::Arc;
use stead_proto::limits::{NODES_MAX, VOTERS_MAX};
use tokio::sync::{OwnedRwLockWriteGuard, RwLock, watch};

/// How many entries behind counts as caught up.
const LAG_MAX: u64 = 32;

/// How far a change of members has come. Call again after the next change of status until it is done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Progress {
    /// Members are as wanted, and that is committed.
    Done,
    /// A step is under way.
    Changing,
    /// Future voters still have to catch up.
    CatchingUp {
        /// Those.
        behind: BTreeSet<u64>,
    },
}

/// Why members cannot be changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MembershipError {
    /// Another node leads, or nobody does.
    #[error("this node does not lead")]
    NotLeader,
    /// A set that no mesh can have.
    #[error(
        "wanted: 1 to {VOTERS_MAX} voters, at most {NODES_MAX} nodes, and no learner that is also a voter"
    )]
    Senseless,
}

/// The next thing to do.
#[derive(Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Await(BTreeSet<u64>),
    Propose(ChangeMembers<u64, EmptyNode>),
}

impl Consensus {
    /// Moves the members one step towards the wanted ones, without waiting for it. Idempotent.
    ///
    /// # Errors
    /// [`MembershipError`].
    pub fn set_membership(
        &self,
        voters: &BTreeSet<u64>,
        learners: &BTreeSet<u64>,
    ) -> Result<Progress, MembershipError> {
        let fits = (1..=VOTERS_MAX).contains(&voters.len())
            && voters.len() + learners.len() <= NODES_MAX
            && voters.is_disjoint(learners);
        if !fits {
            return Err(MembershipError::Senseless);
        }
        if self.status().role != Role::Leader {
            return Err(MembershipError::NotLeader);
        }
        let Ok(permit) = self.changing_members.clone().try_acquire_owned() else {
            return Ok(Progress::Changing);
        };
        let step = step(self.me, &self.source.metrics.borrow(), voters, learners);
        match step {
            Step::Nothing => Ok(Progress::Done),
            Step::Await(behind) if behind.is_empty() => Ok(Progress::Changing),
            Step::Await(behind) => Ok(Progress::CatchingUp { behind }),
            Step::Propose(change) => {
                let (raft, order, replica) = (self.raft.clone(), self.order.clone(), self.replica.clone());
                let wanted = Wanted { voters: voters.clone(), learners: learners.clone() };
                // openraft lets a leader without a vote lead on for as long as it is a learner. One that drops
                // itself steps down once that is committed, and its successor takes it in again.
                let retain = voters.contains(&self.me);
                let mut metrics = self.source.metrics.clone();
                tokio::spawn(async move {
                    // A leader that has dropped itself proposes no other change: openraft would panic.
                    let _permit = permit;
                    let settled = settle(order, &mut metrics, &replica, &wanted);
                    let Ok(Some(turn)) = tokio::time::timeout(CHANGE_DEADLINE, settled).await else { return };
                    let before = *metrics.borrow().membership_config.log_id();
                    let changed = raft.change_membership(change, retain);
                    let mut changed = pin!(tokio::time::timeout(CHANGE_DEADLINE, changed));
                    let proposed = tokio::select! {
                        done = &mut changed => done,
                        () = has_its_place(&mut metrics, before) => {
                            drop(turn);
                            changed.await
                        }
                    };
                    match proposed {
                        Ok(Ok(_)) if retain => {}
                        Ok(Ok(_)) => {
                            let follows = metrics.wait_for(|now| now.state != ServerState::Leader);
                            let _ = tokio::time::timeout(CHANGE_DEADLINE, follows).await;
                        }
                        Ok(Err(error)) => tracing::info!(%error, "a change of members did not happen"),
                        Err(_) => tracing::warn!("a change of members is not committed yet"),
                    }
                });
                Ok(Progress::Changing)
            }
        }
    }
}

/// Waits until every entry is applied and none can be added, so that the change follows from the very state that all
/// others judge it by. `None` if that state wants something else by now.
async fn settle(
    order: Arc<RwLock<()>>,
    metrics: &mut watch::Receiver<Metrics>,
    replica: &SharedReplica,
    wanted: &Wanted,
) -> Option<OwnedRwLockWriteGuard<()>> {
    let turn = order.write_owned().await;
    let applied = |now: &Metrics| now.last_applied.map(|id| id.index) == now.last_log_index;
    metrics.wait_for(applied).await.ok()?;
    replica.lock().wanted(&[]).is_none_or(|now| now == *wanted).then_some(turn)
}

async fn has_its_place(metrics: &mut watch::Receiver<Metrics>, before: Option<LogId<u64>>) {
    let changed = metrics.wait_for(|now| *now.membership_config.log_id() != before);
    drop(changed.await);
}

/// How long one change may be awaited before the next attempt.
const CHANGE_DEADLINE: std::time::Duration = std::time::Duration::from_secs(5);

fn step(me: u64, metrics: &Metrics, voters: &BTreeSet<u64>, learners: &BTreeSet<u64>) -> Step {
    let members = &metrics.membership_config;
    // openraft takes one change at a time: the last one has to be committed.
    if members.log_id() > &metrics.last_applied {
        return Step::Await(BTreeSet::new());
    }
    let present: BTreeSet<u64> = members.nodes().map(|(node, _)| *node).collect();
    if !present.contains(&me) {
        return Step::Await(BTreeSet::new());
    }
    let wanted: BTreeSet<u64> = voters.union(learners).copied().collect();
    let missing: BTreeMap<u64, EmptyNode> =
        wanted.difference(&present).map(|node| (*node, EmptyNode {})).collect();
    if !missing.is_empty() {
        return Step::Propose(ChangeMembers::AddNodes(missing));
    }
    let sets = members.membership().get_joint_config();
    if sets.as_slice() != std::slice::from_ref(voters) {
        let old: BTreeSet<u64> = members.voter_ids().collect();
        let behind: BTreeSet<u64> =
            voters.difference(&old).copied().filter(|node| !caught_up(metrics, *node)).collect();
        return if behind.is_empty() {
            Step::Propose(ChangeMembers::ReplaceAllVoters(voters.clone()))
        } else {
            Step::Await(behind)
        };
    }
    let superfluous: BTreeSet<u64> = present.difference(&wanted).copied().collect();
    if superfluous.is_empty() {
        Step::Nothing
    } else {
        Step::Propose(ChangeMembers::RemoveNodes(superfluous))
    }
}

pub(super) fn caught_up(metrics: &Metrics, node: u64) -> bool {
    let Some(replication) = &metrics.replication else { return false };
    let Some(Some(matched)) = replication.get(&node) else { return false };
    let committed = metrics.last_applied.map_or(0, |id| id.index);
    matched.index.saturating_add(LAG_MAX) >= committed
}
