//! The admin plane: what operators ask an agent, and what it answers.
//!
//! Over QUIC with an operator's key, or over the local socket as root. Reading takes any role; changing
//! anything takes a signed [`Order`], no matter who carries it.

use crate::command::{Outcome, Refusal};
use crate::id::{Name, NodeId};
use crate::liveness::Liveness;
use crate::order::Order;
use crate::plan::Epoch;
use crate::report::Report;
use crate::sign::Signed;
use crate::state::State;
use alloc::{boxed::Box, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// A question or an order.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Request {
    /// How do you see the mesh?
    Status,
    /// How does that node see it? Passed on to it.
    StatusOf(NodeId),
    /// Carry this out, or pass it to who can.
    Submit(Signed<Order>),
    /// How did the mesh begin? For the files of a node that joins.
    Genesis,
}

/// The answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Answer {
    /// One node's view.
    Status(Box<Status>),
    /// Committed at this index, with this outcome.
    Committed {
        /// The log index.
        index: u64,
        /// What it came to.
        outcome: Outcome,
    },
    /// Not even proposed.
    Refused(Refusal),
    /// Not now, and why. The order may or may not be carried out if `unknown`.
    Unavailable {
        /// A sentence.
        why: String,
        /// Whether it may have been committed all the same.
        unknown: bool,
    },
    /// The encoded genesis, whose hash is the mesh's identity: nobody has to be believed.
    Genesis(Vec<u8>),
}

/// One node's view of the mesh.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Who speaks.
    pub node: NodeId,
    /// The version of its program.
    pub version: String,
    /// For how long it has been running, in milliseconds.
    pub uptime_ms: u64,
    /// What keeps it from taking part, if something does.
    pub waiting: Option<String>,
    /// Whether a majority has lately confirmed its leader to it.
    pub leader_fresh: bool,
    /// The replicated state as this node has applied it.
    pub state: State,
    /// Its own latest report.
    pub own: Report,
    /// The others.
    pub peers: Vec<PeerStatus>,
    /// Its endpoints.
    pub endpoints: Vec<EndpointStatus>,
}

/// How one node sees another.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerStatus {
    /// Which.
    pub node: NodeId,
    /// What all observers together make of it.
    pub liveness: Liveness,
    /// For how long, in milliseconds.
    pub since_ms: u64,
    /// How long ago this node heard it itself, in milliseconds.
    pub heard_ms_ago: Option<u64>,
    /// Its latest report, and how old it is in milliseconds.
    pub report: Option<(u64, Report)>,
}

/// How one node sees an endpoint.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointStatus {
    /// Which.
    pub name: Name,
    /// Under which epoch this node serves it, and for how many milliseconds more.
    pub serving: Option<(Epoch, u64)>,
    /// To whom this node's promise runs, under which epoch.
    pub promised: Option<(NodeId, Epoch)>,
    /// Whether its own services would do.
    pub ready: bool,
    /// Whether the holding page stands in for the application.
    pub holding_page: bool,
    /// What the driver last complained of.
    pub trouble: Option<String>,
}
