//! The replicated state inside Raft's state machine, published to the rest of the agent after each entry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use stead_proto::codec;
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use stead_proto::seed::Seed;
use stead_proto::state::State;
use tokio::sync::watch;

use super::watch::view;
use crate::consensus::{Electors, Replica, Wanted};

/// The one writer of the state.
#[derive(Debug)]
pub(super) struct StateReplica {
    state: watch::Sender<Arc<State>>,
}

impl StateReplica {
    /// Starts from `state`; the receiver always shows the newest.
    #[must_use]
    pub(super) fn new(state: State) -> (Self, watch::Receiver<Arc<State>>) {
        let (sender, receiver) = watch::channel(Arc::new(state));
        (Self { state: sender }, receiver)
    }
}

impl StateReplica {
    fn read(&self, index: u64, bytes: &[u8]) -> Result<State, String> {
        let state: State = codec::decode(bytes, SNAPSHOT_BYTES_MAX).map_err(|error| error.to_string())?;
        if state.cluster != self.state.borrow().cluster {
            return Err("a snapshot of another mesh".into());
        }
        if state.applied > index {
            return Err(format!("a snapshot that claims entry {} where {index} is its last", state.applied));
        }
        Ok(state)
    }
}

impl Replica for StateReplica {
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8> {
        let mut outcome = Vec::new();
        self.state.send_modify(|state| {
            let result = Arc::make_mut(state).apply(index, command);
            outcome = codec::encode(&result, COMMAND_FRAME_BYTES_MAX).expect("outcomes are bounded");
        });
        outcome
    }

    fn wanted(&self, commands: &[(u64, &[u8])]) -> Option<Wanted> {
        let mut state = self.state.borrow().clone();
        for (index, command) in commands {
            if *index > state.applied {
                Arc::make_mut(&mut state).apply(*index, command);
            }
        }
        let raw = |nodes: BTreeSet<NodeId>| nodes.into_iter().map(|node| node.0).collect();
        let (voters, learners) = state.wanted_members();
        Some(Wanted { voters: raw(voters), learners: raw(learners) })
    }

    fn snapshot(&self) -> Vec<u8> {
        codec::encode(&**self.state.borrow(), SNAPSHOT_BYTES_MAX).expect("the state is bounded")
    }

    fn check(&self, index: u64, bytes: &[u8]) -> Result<(), String> {
        self.read(index, bytes).map(drop)
    }

    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String> {
        let state = self.read(index, bytes)?;
        self.state.send_replace(Arc::new(state));
        Ok(())
    }
}

/// Who may vote, by the state, or by the seed until the state has come that far.
#[derive(Debug)]
pub(super) struct StateElectors {
    pub(super) states: watch::Receiver<Arc<State>>,
    pub(super) roster: Option<Seed>,
}

impl Electors for StateElectors {
    fn keys(&self) -> BTreeMap<NodeId, PublicKey> {
        view(self.roster.as_ref(), self.states.borrow().clone())
            .members
            .values()
            .map(|member| (member.id, member.key))
            .collect()
    }

    fn voters(&self) -> BTreeSet<NodeId> {
        view(self.roster.as_ref(), self.states.borrow().clone()).config.voters.clone()
    }
}
