//! The types that openraft works with, and the state machine as the rest of the agent sees it.
//!
//! **Invariant.** Commands and outcomes are opaque here: consensus orders bytes and knows no meaning.

use openraft::EmptyNode;
use std::collections::BTreeSet;
use stead_proto::limits::SNAPSHOT_BYTES_MAX;

/// A command of the mesh, encoded.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Vec<u8>);

/// What became of a command, encoded; empty for entries that carry none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Outcome(pub(crate) Vec<u8>);

/// An encoded [`super::wire::SnapshotImage`].
pub(crate) type Image = Vec<u8>;

openraft::declare_raft_types!(
    /// openraft's types in this agent.
    pub(crate) TypeConfig:
        D = Command,
        R = Outcome,
        NodeId = u64,
        Node = EmptyNode,
        SnapshotData = Image,
);

/// Bytes of the whole state: what fits a snapshot together with its members and its frame.
pub const STATE_BYTES_MAX: usize = SNAPSHOT_BYTES_MAX - 64 * 1024;

/// Who shall be a member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// Who shall vote.
    pub voters: BTreeSet<u64>,
    /// Who shall only follow.
    pub learners: BTreeSet<u64>,
}

/// The replicated state: what committed commands are applied to.
///
/// Equal commands in equal order lead to equal states on all nodes. None of the calls may block on
/// anything but the processor.
pub trait Replica: Send + 'static {
    /// Applies one committed command and says what became of it.
    fn apply(&mut self, index: u64, command: &[u8]) -> Vec<u8>;

    /// Who shall be a member once also these commands, with their indexes, are applied; those that are already are to be
    /// left out. `None` from a state that leaves it to the leader. The state must not change.
    fn wanted(&self, _commands: &[(u64, &[u8])]) -> Option<Wanted> {
        None
    }

    /// The whole state, at most [`STATE_BYTES_MAX`] long.
    fn snapshot(&self) -> Vec<u8>;

    /// Whether [`Replica::restore`] would take these bytes. Asked before consensus commits itself to a
    /// snapshot that a peer sent, since it cannot go on after one that turns out to be none.
    ///
    /// # Errors
    /// A sentence that says why not.
    fn check(&self, _index: u64, _bytes: &[u8]) -> Result<(), String> {
        Ok(())
    }

    /// Replaces the whole state by one that [`Replica::snapshot`] wrote after applying entry `index`.
    ///
    /// # Errors
    /// A sentence that says why these bytes are no state; the state must not have changed.
    fn restore(&mut self, index: u64, bytes: &[u8]) -> Result<(), String>;
}
