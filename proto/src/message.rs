//! Messages: what the meshes of two nodes tell each other in datagrams.
//!
//! Small, unordered, lossy, each meaningful by itself. Who sent one is proven by the session it came on
//! and therefore not written in it.

use crate::codec::{self, CodecError};
use crate::id::Name;
use crate::limits::LEASE_FRAME_BYTES_MAX;
use crate::memory::Memory;
use crate::sign::Signed;
use crate::tribunal::Testimony;
use crate::{election, lease};
use alloc::vec::Vec;
use serde::{Deserialize, Serialize};

/// One datagram.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// About one endpoint's lease.
    Lease(Name, lease::Message),
    /// About the next leader.
    Election(election::Message),
    /// What is the most that you ever saw of me?
    Recall,
    /// This.
    Recalled(Option<Memory>),
    /// What its author, who need not be the sender, says against a node.
    Testimony(Signed<Testimony>),
    /// I hear you, and no report of yours: are you there? A report is the answer.
    Challenge,
}

impl Message {
    /// Its bytes.
    ///
    /// # Errors
    /// [`CodecError::TooLong`] if it does not fit a datagram.
    pub fn encode(&self) -> Result<Vec<u8>, CodecError> {
        codec::encode(self, LEASE_FRAME_BYTES_MAX)
    }

    /// Reads one.
    ///
    /// # Errors
    /// [`CodecError`] for whatever a peer may have sent.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        codec::decode(bytes, LEASE_FRAME_BYTES_MAX)
    }
}
