//! The roster: who belongs to the mesh, and who may command it.

use crate::id::{Name, NodeId, PublicKey};
use alloc::{string::String, vec::Vec};
use core::net::SocketAddr;
use serde::{Deserialize, Serialize};

/// One node as the mesh knows it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its number, never used twice.
    pub id: NodeId,
    /// What people call it.
    pub name: Name,
    /// Its identity.
    pub key: PublicKey,
    /// What the operator made it.
    pub role: Role,
    /// Where it may be found. Hints, no identity.
    pub addresses: Vec<SocketAddr>,
    /// Whether it may hold an endpoint at the moment.
    pub standing: Standing,
}

/// What a node is there for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Votes and may hold endpoints.
    Voter,
    /// Follows, may hold endpoints, has no vote.
    Learner,
    /// Votes and never holds an endpoint.
    Witness,
}

impl Role {
    /// Whether the operator gave it a vote. Whether it has one *now* is said by the configuration.
    #[must_use]
    pub const fn votes(self) -> bool {
        matches!(self, Self::Voter | Self::Witness)
    }

    /// Whether it may hold an endpoint.
    #[must_use]
    pub const fn serves(self) -> bool {
        matches!(self, Self::Voter | Self::Learner)
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Voter => "voter",
            Self::Learner => "learner",
            Self::Witness => "witness",
        }
    }
}

/// Whether a node may hold an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Standing {
    /// Yes.
    Active,
    /// No, by an operator's word, until he says otherwise.
    Drained,
    /// No: it came back after it had been cut off, and has to prove itself first.
    Probation {
        /// Until when, in milliseconds since 1970, by the clocks of most of the others.
        until_unix_ms: u64,
        /// What it is there for afterwards.
        then: Role,
    },
}

/// A person who may command the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Operator {
    /// What people call him.
    pub name: Name,
    /// What he may do.
    pub role: OperatorRole,
    /// The highest serial number among his orders; an order is accepted only above it.
    pub serial: u64,
}

/// What an operator may do. Ordered: the later one may do all that the earlier may.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum OperatorRole {
    /// Look.
    Viewer,
    /// Move, drain.
    Caretaker,
    /// Everything.
    Admin,
}

impl OperatorRole {
    /// The word for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Viewer => "viewer",
            Self::Caretaker => "caretaker",
            Self::Admin => "admin",
        }
    }
}

/// A free text for people, cut to what the mesh keeps.
#[must_use]
pub fn bounded_text(text: &str) -> String {
    let mut end = text.len().min(crate::limits::TEXT_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default().into()
}
