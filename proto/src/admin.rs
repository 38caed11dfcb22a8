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
use crate::tribunal::Testimony;
use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};
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
    /// What its connections came to.
    pub transport: TransportSeen,
    /// On which rung of its ladders each part of it stands that a kernel may lack.
    pub rungs: Vec<RungSeen>,
    /// What is said against whom and not concluded.
    pub cases: Vec<CaseSeen>,
    /// The reports that it swore to, of those who were cut off.
    pub evidence: Vec<Signed<Report>>,
}

/// An open case, as one node has it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CaseSeen {
    /// Against whom.
    pub subject: NodeId,
    /// For how long it has been open, in milliseconds.
    pub open_ms: u64,
    /// Whether it is demoted for the time being.
    pub demoted: bool,
    /// Who said what.
    pub testimonies: Vec<Testimony>,
}

/// A part of an agent that does what this machine's kernel allows.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RungSeen {
    /// Which part: "lease gate", "egress sensor".
    pub part: String,
    /// Where it stands: "BPF at tcx"; "none".
    pub rung: String,
    /// Whether that is the best there is.
    pub best: bool,
    /// What it therefore cannot see or do; empty if nothing.
    pub cost: String,
    /// Why it stands no higher, and what would help; empty if nothing would.
    pub remedy: String,
}

/// What a node's transport refused, dropped and gave up, since its agent was started.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TransportSeen {
    /// Handshakes that it refused, per cause. Strangers who knock are among them.
    pub refused: BTreeMap<HandshakeRefusal, u64>,
    /// Handshakes of its own that other nodes refused, per cause.
    pub refused_by_peers: BTreeMap<HandshakeRefusal, u64>,
    /// The last of those that does not pass by itself.
    pub last_refused_by_peer: Option<PeerRefusal>,
    /// Connections that it closed because their key left the directory.
    pub evicted: u64,
    /// Connections that it closed because the same peer had a better one.
    pub duplicates: u64,
    /// Connections that it closed because calls on them timed out.
    pub stale: u64,
    /// Datagrams that found its inbox full.
    pub datagrams_dropped: u64,
    /// Datagrams, frames and streams that broke a limit.
    pub oversize: u64,
    /// Reports that were replaced by a newer one, or never found a connection.
    pub reports_dropped: u64,
    /// Frames that waited in vain for room in its inbox.
    pub busy: u64,
    /// Its own calls that timed out.
    pub calls_timed_out: u64,
}

/// That another node refused a handshake.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PeerRefusal {
    /// Which node was looked for; nothing if it came by itself.
    pub peer: Option<NodeId>,
    /// Why.
    pub why: HandshakeRefusal,
    /// How long ago, in milliseconds.
    pub ms_ago: u64,
}

/// Why a handshake came to nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum HandshakeRefusal {
    /// A key that was never accepted.
    UnknownKey,
    /// A key that was accepted once.
    EvictedKey,
    /// An accepted key, but not the one that was dialled.
    WrongNode,
    /// Somebody who asks for another mesh.
    WrongMesh,
    /// A protocol version, or a plane, that is not for this peer.
    WrongPlane,
    /// Anything else that is not a handshake of ours.
    Malformed,
    /// Too many handshakes or connections at once.
    Crowded,
}

impl HandshakeRefusal {
    /// What the operator of a refused node can do; nothing if it passes by itself.
    #[must_use]
    pub const fn remedy(self) -> Option<&'static str> {
        match self {
            Self::UnknownKey => {
                Some("it does not know this node's key: compare node.key with the roster (`stead nodes`)")
            }
            Self::EvictedKey => Some("this node was removed: wipe it and admit it anew under a new key"),
            Self::WrongMesh => {
                Some("it belongs to another mesh: compare genesis.bin and the addresses of the peers")
            }
            Self::WrongPlane => Some("it speaks another protocol version: run the same `stead` on both"),
            Self::WrongNode | Self::Malformed | Self::Crowded => None,
        }
    }
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
