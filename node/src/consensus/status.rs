//! What consensus can say about itself at once, without asking anybody.

use super::contact::{Contact, now};
use super::flusher::Disk;
use super::log_store::LogStore;
use super::types::TypeConfig;
use super::wire::{Ballot, EntryId};
use openraft::{EmptyNode, RaftMetrics, RaftTypeConfig, ServerState};
use std::collections::BTreeSet;
use std::sync::Arc;
use stead_proto::time::Span;
use tokio::sync::watch;

/// What a node is in consensus.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Role {
    /// Follows without a vote.
    Learner,
    /// Follows, and votes.
    Follower,
    /// Asks for votes.
    Candidate,
    /// Was elected; whether it still leads is another question: see [`super::Consensus::is_fresh_leader`].
    Leader,
    /// Consensus has ended on this node; only a restart of the process brings it back.
    Stopped,
}

/// Everything at a glance. Log positions are (term, index).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// The current term.
    pub term: u64,
    /// What this node is.
    pub role: Role,
    /// The elected leader of the current term, as far as known.
    pub leader: Option<u64>,
    /// The last entry of the log.
    pub last_log: Option<(u64, u64)>,
    /// The last entry that is on the disk.
    pub durable_log: Option<(u64, u64)>,
    /// The term of the vote that is on the disk.
    pub vote_term: u64,
    /// For whom it is.
    pub vote_for: u64,
    /// The index of the last applied entry.
    pub applied: Option<u64>,
    /// On a leader: milliseconds since the last message was *sent* that a majority has answered.
    pub quorum_acked_ms_ago: Option<u64>,
    /// The nodes that vote; during a change, those of both sets.
    pub voters: BTreeSet<u64>,
    /// The nodes that only follow.
    pub learners: BTreeSet<u64>,
    /// The disk.
    pub disk: Disk,
}

pub(super) type Metrics =
    RaftMetrics<<TypeConfig as RaftTypeConfig>::NodeId, <TypeConfig as RaftTypeConfig>::Node>;

/// Where a status comes from.
#[derive(Clone)]
pub(super) struct Source {
    pub(super) me: u64,
    pub(super) metrics: watch::Receiver<Metrics>,
    pub(super) data: watch::Receiver<openraft::metrics::RaftDataMetrics<u64>>,
    pub(super) disk: watch::Receiver<Disk>,
    pub(super) log: LogStore,
    pub(super) contact: Arc<Contact>,
}

impl Source {
    /// The status now.
    pub(super) fn status(&self) -> Status {
        let mut status = self.lasting();
        status.quorum_acked_ms_ago = self.contact_age().map(Span::as_ms);
        status
    }

    /// The status without what changes by the mere passing of time.
    pub(super) fn lasting(&self) -> Status {
        let last_log = self.data.borrow().last_log.as_ref().map(EntryId::from).map(EntryId::position);
        let (vote_term, vote_for) = self.log.durable_vote();
        let metrics = self.metrics.borrow();
        let membership = metrics.membership_config.membership();
        Status {
            term: metrics.current_term,
            role: role(&metrics),
            leader: metrics.current_leader.filter(|leader| *leader != super::NOBODY),
            last_log,
            durable_log: self.log.last_durable().map(EntryId::position),
            vote_term,
            vote_for,
            applied: metrics.last_applied.map(|id| id.index),
            quorum_acked_ms_ago: None,
            voters: membership.voter_ids().collect(),
            learners: membership.learner_ids().collect(),
            disk: *self.disk.borrow(),
        }
    }

    /// This node's vote.
    pub(super) fn ballot(&self) -> Ballot {
        Ballot::from(&self.metrics.borrow().vote)
    }

    /// On a leader: how long ago the last message was sent that a majority has answered.
    pub(super) fn contact_age(&self) -> Option<Span> {
        let (ballot, voters) = {
            let metrics = self.metrics.borrow();
            let ballot = Ballot::from(&metrics.vote);
            let leads = role(&metrics) == Role::Leader && ballot.committed && ballot.node == self.me;
            if !leads {
                return None;
            }
            (ballot, metrics.membership_config.membership().get_joint_config().clone())
        };
        let now = now();
        Some(now.since(self.contact.of_majority(self.me, ballot, &voters, now)?))
    }
}

fn role(metrics: &RaftMetrics<u64, EmptyNode>) -> Role {
    if metrics.running_state.is_err() {
        return Role::Stopped;
    }
    match metrics.state {
        ServerState::Learner => Role::Learner,
        ServerState::Follower => Role::Follower,
        ServerState::Candidate => Role::Candidate,
        ServerState::Leader => Role::Leader,
        ServerState::Shutdown => Role::Stopped,
    }
}
