//! The plan of an endpoint: who shall hold it, and who after him, committed ahead of time.
//!
//! **Invariant.** An [`Epoch`] is unique for ever and belongs to one node: its plan is one log entry, and
//! the seat of each rank is fixed by that entry. A changed lease length is a new plan, hence a new epoch.
//!
//! Deliberately absent: how a plan is chosen (that is placement), and who holds now (that is the lease).

use crate::id::NodeId;
use crate::limits::{GATE_SLACK_MAX, LEASE_MAX, LEASE_MIN, NODES_MAX};
use crate::time::Span;
use alloc::{collections::BTreeSet, vec::Vec};
use core::fmt;
use serde::{Deserialize, Serialize};

/// A fencing token: the log index of a plan, and a rank in it. Ordered by plan first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Epoch {
    /// The log index of the plan.
    pub plan: u64,
    /// The rank in that plan; 0 is the holder that the plan wants.
    pub rank: u32,
}

impl Epoch {
    /// Above every epoch of the plans up to and including the log index `plan`.
    #[must_use]
    pub const fn last_of(plan: u64) -> Self {
        Self { plan, rank: u32::MAX }
    }
}

impl fmt::Display for Epoch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.plan, self.rank)
    }
}

/// A node in a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Seat {
    /// Who sits here.
    pub node: NodeId,
    /// How long after the lease ran out this node's kernel gate may still be open, in ms of its own clock.
    pub slack_ms: u32,
}

impl Seat {
    /// [`Seat::slack_ms`] as a span.
    #[must_use]
    pub fn slack(&self) -> Span {
        Span::from_ms(u64::from(self.slack_ms))
    }
}

/// Who holds an endpoint, and who succeeds him in which order. The seat of rank `r` is `seats[r % len]`, so
/// the list goes round for ever and a chain of takeovers never needs a Raft leader.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Plan {
    /// The log index of the entry that this plan came with.
    pub index: u64,
    /// How long a holder may serve without renewing, in ms.
    pub lease_ms: u32,
    /// The holder that the plan wants, then its successors. No node twice.
    pub seats: Vec<Seat>,
}

/// Why a plan is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PlanError {
    /// Nobody would ever hold.
    #[error("the plan has no seats: name at least one node")]
    NoSeats,
    /// More seats than a mesh has nodes.
    #[error("the plan has {0} seats, where at most {NODES_MAX} are allowed")]
    TooManySeats(usize),
    /// The same node in two seats.
    #[error("node {0} sits twice in the plan: name it once, the order goes round by itself")]
    SeatTwice(NodeId),
    /// A lease that no restarted voter would wait for, or that no network can renew.
    #[error("a lease of {0} ms: choose one between {LEASE_MIN} and {LEASE_MAX}")]
    Lease(u32),
    /// A gate that closes later than any voter waits for.
    #[error("node {0} may close its gate {1} ms late, where at most {GATE_SLACK_MAX} are allowed")]
    Slack(NodeId, u32),
}

impl Plan {
    /// [`Plan::lease_ms`] as a span.
    #[must_use]
    pub fn lease(&self) -> Span {
        Span::from_ms(u64::from(self.lease_ms))
    }

    /// The epoch of `rank` in this plan.
    #[must_use]
    pub const fn epoch(&self, rank: u32) -> Epoch {
        Epoch { plan: self.index, rank }
    }

    /// Who sits at `rank`.
    #[must_use]
    pub fn seat(&self, rank: u32) -> Option<&Seat> {
        let place = usize::try_from(rank).ok()?.checked_rem(self.seats.len())?;
        self.seats.get(place)
    }

    /// The seat of `epoch`, if it is one of this plan.
    #[must_use]
    pub fn seat_of(&self, epoch: Epoch) -> Option<&Seat> {
        if epoch.plan == self.index { self.seat(epoch.rank) } else { None }
    }

    /// The smallest rank from `from` on at which `node` sits.
    #[must_use]
    pub fn rank_from(&self, node: NodeId, from: u32) -> Option<u32> {
        let seats = u32::try_from(self.seats.len()).ok()?;
        (0..seats)
            .filter_map(|step| from.checked_add(step))
            .find(|&rank| self.seat(rank).is_some_and(|seat| seat.node == node))
    }

    /// Whether voters may agree to this plan's epochs.
    ///
    /// # Errors
    /// [`PlanError`], the first one found.
    pub fn check(&self) -> Result<(), PlanError> {
        if self.seats.is_empty() {
            return Err(PlanError::NoSeats);
        }
        if self.seats.len() > NODES_MAX {
            return Err(PlanError::TooManySeats(self.seats.len()));
        }
        if self.lease() < LEASE_MIN || self.lease() > LEASE_MAX {
            return Err(PlanError::Lease(self.lease_ms));
        }
        let mut seen = BTreeSet::new();
        for seat in &self.seats {
            if !seen.insert(seat.node) {
                return Err(PlanError::SeatTwice(seat.node));
            }
            if seat.slack() > GATE_SLACK_MAX {
                return Err(PlanError::Slack(seat.node, seat.slack_ms));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(nodes: &[u64]) -> Plan {
        let seats = nodes.iter().map(|&node| Seat { node: NodeId(node), slack_ms: 0 }).collect();
        Plan { index: 7, lease_ms: 1_000, seats }
    }

    #[test]
    fn epochs_are_ordered_by_plan_and_then_by_rank() {
        assert!(Epoch { plan: 2, rank: 9 } < Epoch { plan: 3, rank: 0 });
        assert!(Epoch { plan: 3, rank: 0 } < Epoch { plan: 3, rank: 1 });
        assert!(Epoch { plan: 3, rank: u32::MAX } <= Epoch::last_of(3));
    }

    #[test]
    fn the_order_of_seats_goes_round_for_ever() {
        let plan = plan(&[1, 2, 3]);
        let nodes: Vec<u64> = (0..7).map(|rank| plan.seat(rank).unwrap().node.0).collect();
        assert_eq!(nodes, [1, 2, 3, 1, 2, 3, 1]);
        assert_eq!(plan.rank_from(NodeId(1), 1), Some(3));
        assert_eq!(plan.rank_from(NodeId(9), 0), None);
        assert_eq!(plan.rank_from(NodeId(2), u32::MAX), None, "there is no rank after the last one");
    }

    #[test]
    fn a_plan_that_voters_could_not_keep_is_refused() {
        assert_eq!(plan(&[1, 2]).check(), Ok(()));
        assert_eq!(plan(&[]).check(), Err(PlanError::NoSeats));
        assert_eq!(plan(&[1, 2, 1]).check(), Err(PlanError::SeatTwice(NodeId(1))));
        let many: Vec<u64> = (0..33).collect();
        assert_eq!(plan(&many).check(), Err(PlanError::TooManySeats(33)));
        assert_eq!(Plan { lease_ms: 3_001, ..plan(&[1]) }.check(), Err(PlanError::Lease(3_001)));
        let seats = alloc::vec![Seat { node: NodeId(1), slack_ms: 2_501 }];
        assert_eq!(Plan { seats, ..plan(&[1]) }.check(), Err(PlanError::Slack(NodeId(1), 2_501)));
    }
}
