//! Orders: what an operator signs.
//!
//! **Invariant.** An order counts once: its serial number has to be above every earlier one of the same
//! key, and the signature covers mesh, serial number, base version and act together.

use crate::id::{Name, NodeId};
use crate::limits::COMMAND_FRAME_BYTES_MAX;
use crate::outside::HostKey;
use crate::roster::{Member, OperatorRole, Role};
use crate::sign::Statement;
use crate::site::Site;
use alloc::{boxed::Box, string::String};
use serde::{Deserialize, Serialize};

/// One command of one operator.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Above the serial number of every earlier order of this key; microseconds since 1970 by custom.
    pub serial: u64,
    /// What to do.
    pub act: Act,
}

/// What an operator can have done.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Act {
    /// Replace the site.
    Apply {
        /// The version that it replaces; refused if that is no longer the newest.
        base: u64,
        /// The new one.
        site: Box<Site>,
        /// The file as the operator wrote it, for `site show`.
        text: String,
    },
    /// Make an earlier version of the site the newest again.
    Rollback {
        /// The version that it replaces.
        base: u64,
        /// The version to take up again.
        to: u64,
    },
    /// Move an endpoint to a node.
    Move {
        /// Which endpoint.
        endpoint: Name,
        /// Where to.
        to: NodeId,
    },
    /// Let a node hold nothing, or something again.
    Drain {
        /// Which node.
        node: NodeId,
        /// `true` to drain, `false` to undrain.
        drained: bool,
    },
    /// Take a node into the roster; it begins as a learner and is promoted as the charter says.
    Admit(Box<Member>),
    /// Take a node that was cut off into the roster again: under its name, with a new id and a new key, as a learner on
    /// probation.
    Readmit {
        /// What was cut off, and goes.
        old: NodeId,
        /// What comes.
        member: Box<Member>,
    },
    /// Give a node another role; who votes follows when it is safe.
    SetRole {
        /// Which node.
        node: NodeId,
        /// What it shall be.
        role: Role,
    },
    /// Take a node that has no vote any more out of the roster.
    Remove(NodeId),
    /// Cut a node off, at once and for good.
    Isolate {
        /// Which node.
        node: NodeId,
        /// Why, for whoever reads the incident.
        reason: String,
    },
    /// From now on a node's SSH server has this host key.
    AcceptHostKey {
        /// Which node.
        node: NodeId,
        /// Its key.
        key: HostKey,
    },
}

impl Act {
    /// The least role that may order this.
    #[must_use]
    pub const fn role_min(&self) -> OperatorRole {
        match self {
            Self::Move { .. } | Self::Drain { .. } | Self::Isolate { .. } => OperatorRole::Caretaker,
            Self::Apply { .. }
            | Self::Rollback { .. }
            | Self::Admit(_)
            | Self::Readmit { .. }
            | Self::SetRole { .. }
            | Self::AcceptHostKey { .. }
            | Self::Remove(_) => OperatorRole::Admin,
        }
    }

    /// The word for it.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Apply { .. } => "apply",
            Self::Rollback { .. } => "rollback",
            Self::Move { .. } => "move",
            Self::Drain { drained: true, .. } => "drain",
            Self::Drain { drained: false, .. } => "undrain",
            Self::Admit(_) => "admit",
            Self::Readmit { .. } => "readmit",
            Self::SetRole { .. } => "set-role",
            Self::Remove(_) => "remove",
            Self::Isolate { .. } => "isolate",
            Self::AcceptHostKey { .. } => "accept-host-key",
        }
    }
}

impl Statement for Order {
    const CONTEXT: &'static str = "stead order v1";
    const BYTES_MAX: usize = COMMAND_FRAME_BYTES_MAX - 1_024;
}
