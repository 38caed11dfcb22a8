//! The seed: whom a node that was admitted later may trust before it has read the log.
//!
//! The genesis names those who began; by now they may be gone, and their keys in anybody's hands. So the
//! operator who admits a node gives it the roster as a majority showed it after the admission. The node takes
//! that for the truth until it has applied the log up to there, and never looks at it again.
//!
//! **Invariant.** A view is never older than the seed nor than the state: the roster of the one that went
//! further counts, as a whole. All else, what was applied and its digest above all, is the state's own word.
//!
//! Deliberately absent: a signature. The file lies beside the node's key, where only its operator writes.

use crate::codec::{self, CodecError};
use crate::config::Config;
use crate::id::{ClusterId, Name, NodeId, PublicKey};
use crate::limits::COMMAND_FRAME_BYTES_MAX;
use crate::roster::{Member, Operator};
use crate::state::State;
use alloc::{collections::BTreeMap, sync::Arc, vec::Vec};
use serde::{Deserialize, Serialize};

/// The roster as of one log entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seed {
    /// Of which mesh.
    pub cluster: ClusterId,
    /// The entry after which it was so.
    pub index: u64,
    /// Raft's term then: a node that never voted believes one that is not far above it.
    pub term: u64,
    /// The nodes.
    pub members: BTreeMap<NodeId, Member>,
    /// The operators.
    pub operators: BTreeMap<PublicKey, Operator>,
    /// Who voted.
    pub config: Config,
}

/// Why bytes are no seed for this mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SeedError {
    /// Not readable.
    #[error("unreadable: {0}")]
    Codec(#[from] CodecError),
    /// Of another mesh.
    #[error("it is of mesh {found:?}, and the genesis of mesh {expected:?}")]
    Foreign {
        /// The mesh that it names.
        found: ClusterId,
        /// The mesh of the genesis.
        expected: ClusterId,
    },
}

impl Seed {
    /// The roster of a state that a majority showed, and the term that it showed beside.
    #[must_use]
    pub fn of(state: &State, term: u64) -> Self {
        Self {
            cluster: state.cluster,
            index: state.applied,
            term,
            members: state.members.clone(),
            operators: state.operators.clone(),
            config: state.config.clone(),
        }
    }

    /// Its bytes, as they lie beside the node's configuration.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, COMMAND_FRAME_BYTES_MAX)
    }

    /// Reads one of the mesh `cluster`.
    ///
    /// # Errors
    /// [`SeedError`].
    pub fn decode(bytes: &[u8], cluster: ClusterId) -> Result<Self, SeedError> {
        let seed: Self = codec::decode(bytes, COMMAND_FRAME_BYTES_MAX)?;
        let found = seed.cluster;
        if found == cluster { Ok(seed) } else { Err(SeedError::Foreign { found, expected: cluster }) }
    }

    /// The id under which the holder of `key` was admitted as `name`.
    #[must_use]
    pub fn id_of(&self, name: &Name, key: &PublicKey) -> Option<NodeId> {
        self.members.values().find(|m| m.name == *name && m.key == *key).map(|m| m.id)
    }

    /// The state to go by: `state` itself once it has come as far as this seed.
    #[must_use]
    pub fn view(&self, state: Arc<State>) -> Arc<State> {
        if state.applied >= self.index {
            return state;
        }
        let mut view = State::clone(&state);
        view.members.clone_from(&self.members);
        view.operators.clone_from(&self.operators);
        view.config.clone_from(&self.config);
        Arc::new(view)
    }
}
