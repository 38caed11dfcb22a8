//! Genesis: how a mesh begins. Its hash is the mesh's identity, so that every node that starts from
//! another text is in another mesh.

use crate::codec::{self, CodecError};
use crate::id::{ClusterId, NodeId, PublicKey};
use crate::limits::{ADDRESSES_MAX, COMMAND_FRAME_BYTES_MAX, NODES_MAX, OPERATORS_MAX, VOTERS_MAX};
use crate::roster::{Member, Operator};
use crate::site::Site;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The first state of a mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Genesis {
    /// Random bytes, so that two meshes with equal contents differ.
    pub nonce: [u8; 16],
    /// Its nodes.
    pub members: Vec<Member>,
    /// Its operators.
    pub operators: BTreeMap<PublicKey, Operator>,
    /// Its first site.
    pub site: Site,
}

/// Why a text is no genesis.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GenesisError {
    /// Not readable.
    #[error("unreadable: {0}")]
    Codec(#[from] CodecError),
    /// Readable, but no mesh can start from it.
    #[error("{}", .0.join("; "))]
    Unsound(Vec<String>),
}

impl Genesis {
    /// The identity of the mesh that begins here.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn cluster(&self) -> Result<ClusterId, CodecError> {
        let bytes = codec::encode_for_hash(self, COMMAND_FRAME_BYTES_MAX)?;
        let digest = Sha256::new().chain_update("stead genesis").chain_update(bytes).finalize();
        Ok(ClusterId(digest.into()))
    }

    /// Its bytes, as they lie beside each node's configuration.
    ///
    /// # Errors
    /// [`CodecError::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, COMMAND_FRAME_BYTES_MAX)
    }

    /// Reads and checks one.
    ///
    /// # Errors
    /// [`GenesisError`], with everything that is wrong.
    pub fn decode(bytes: &[u8]) -> Result<Self, GenesisError> {
        let genesis: Self = codec::decode(bytes, COMMAND_FRAME_BYTES_MAX)?;
        let complaints = genesis.check();
        if complaints.is_empty() { Ok(genesis) } else { Err(GenesisError::Unsound(complaints)) }
    }

    /// Who votes at the beginning.
    #[must_use]
    pub fn voters(&self) -> BTreeSet<NodeId> {
        self.members.iter().filter(|m| m.role.votes()).map(|m| m.id).collect()
    }

    /// Everything that is wrong with it.
    #[must_use]
    pub fn check(&self) -> Vec<String> {
        let mut complaints: Vec<String> =
            self.site.check().into_iter().map(|c| format!("{}: {}", c.key, c.text)).collect();
        let voters = self.voters().len();
        if voters == 0 || voters > VOTERS_MAX {
            complaints.push(format!("{voters} voters; there must be 1 to {VOTERS_MAX}"));
        }
        if self.members.len() > NODES_MAX || self.operators.len() > OPERATORS_MAX {
            complaints.push(format!("at most {NODES_MAX} nodes and {OPERATORS_MAX} operators"));
        }
        if self.members.iter().any(|m| m.addresses.len() > ADDRESSES_MAX) {
            complaints.push(format!("at most {ADDRESSES_MAX} addresses of one node"));
        }
        let distinct = |count: usize| count == self.members.len();
        if !distinct(self.members.iter().map(|m| m.id).collect::<BTreeSet<_>>().len())
            || !distinct(self.members.iter().map(|m| &m.name).collect::<BTreeSet<_>>().len())
            || !distinct(self.members.iter().map(|m| m.key).collect::<BTreeSet<_>>().len())
        {
            complaints.push("two nodes share an id, a name or a key".into());
        }
        if self.operators.is_empty() {
            complaints.push("no operator: nobody could ever change this mesh".into());
        }
        complaints
    }
}
