//! Reports: what a node says about itself and sees of the others, signed and chained.
//!
//! Every node sends its report to all peers twice a second and at once on a change, so everybody holds the
//! whole matrix of who reaches whom. Reports never go into the Raft log, except as evidence inside a command.
//!
//! **Invariant.** (incarnation, sequence) of one key never repeats; `previous` is the hash of the statement
//! before it in the same incarnation.

use crate::config::Confirmation;
use crate::fence::Fenced;
use crate::id::{Name, NodeId};
use crate::limits::REPORT_FRAME_BYTES_MAX;
use crate::lookout::TrafficSeen;
use crate::outside::HostKey;
use crate::plan::Epoch;
use crate::sign::{Signed, Statement};
use crate::tribunal::Place;
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// One report.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// Who speaks; the key that signs it has to be his.
    pub from: NodeId,
    /// How often this node has started; durable before the first report.
    pub incarnation: u64,
    /// Counts up within the incarnation.
    pub sequence: u64,
    /// SHA-256 of the statement before; zero in the first one.
    pub previous: [u8; 32],
    /// The wall clock, in milliseconds since 1970; for people, never for decisions.
    pub unix_ms: u64,
    /// The configuration of the lease protocol that it has applied.
    pub config: ConfigSeen,
    /// Where it stands in the log.
    pub log: LogSeen,
    /// Its services.
    pub services: Vec<(Name, ServiceSeen)>,
    /// Its side of each endpoint's lease.
    pub leases: Vec<LeaseSeen>,
    /// Whom it has heard lately.
    pub reach: Vec<(NodeId, Reach)>,
    /// Whom it has cut off.
    pub isolated: Vec<NodeId>,
    /// Fence commands that it ran and of which the log does not know yet.
    pub fenced: Vec<Fenced>,
    /// How its kernel enforces the lease.
    pub gate: GateSeen,
    /// What is wrong with it.
    pub unwell: Vec<Unwell>,
    /// Its traffic, as its sensors and detectors have it.
    pub traffic: TrafficSeen,
}

/// Which voter configuration a node has applied, and since when.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigSeen {
    /// The log index of the configuration.
    pub index: u64,
    /// For how long it has been applied here, in milliseconds.
    pub age_ms: u64,
    /// That no lease which this node got by itself, in two-voter mode, can be alive.
    pub pair_left: bool,
}

/// Where a node stands in the replicated log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogSeen {
    /// The term of its durable vote.
    pub term: u64,
    /// For whom that vote is.
    pub voted_for: NodeId,
    /// The last entry that it holds durably: (term, index).
    pub durable: (u64, u64),
    /// The last entry that it has applied.
    pub applied: u64,
    /// The state's digest after that entry.
    pub digest: [u8; 32],
    /// Whom it follows.
    pub leader: Option<NodeId>,
}

/// A service as its node sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ServiceSeen {
    /// Not probed long enough.
    Unknown,
    /// Works.
    Healthy,
    /// Fails, and is being brought back.
    Ailing(String),
    /// Fails.
    Down(String),
}

/// One node's side of one endpoint's lease.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaseSeen {
    /// Which endpoint.
    pub endpoint: Name,
    /// The highest epoch that this node knows of.
    pub highest: Epoch,
    /// To whom, under which epoch, its promise runs at present.
    pub promised: Option<(NodeId, Epoch)>,
    /// Under which epoch it serves at present.
    pub holding: Option<Epoch>,
}

/// One edge of the reachability matrix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reach {
    /// How long ago the peer was heard, in milliseconds; since the agent's start, if it never was.
    pub heard_ms_ago: u32,
    /// The round-trip time, in microseconds; zero if unknown.
    pub rtt_us: u32,
    /// The last report that was heard of it.
    pub head: Option<Head>,
    /// The SSH host key that it showed last, if it did lately.
    pub host_key: Option<HostKey>,
}

/// One report, named by its place and its hash: whoever heard another one at that place has found a liar
/// (DESIGN §11 P4).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// Its place in its author's chain.
    pub at: Place,
    /// Its [`link`].
    pub link: [u8; 32],
}

/// How a node's kernel ends a lease.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GateSeen {
    /// The rung of the ladder it stands on, as the operator reads it.
    pub rung: String,
    /// How long after the lease the kernel may need.
    pub slack_ms: u32,
    /// What this node cannot do, and what that costs.
    pub shortfalls: Vec<String>,
}

/// A reason for which a node distrusts itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Unwell {
    /// The disk under the data directory is full: it takes no writes.
    DiskFull,
    /// The store fails for another reason.
    StoreFailed,
    /// The agent was stopped or starved for longer than a heartbeat.
    Stalled,
    /// The interface that should carry an endpoint is missing or down.
    UplinkMissing,
    /// Another host answers for an endpoint's address.
    AddressTaken,
    /// A node that was cut off is connected, or its key is accepted.
    OutcastLetIn,
}

impl Unwell {
    /// The sentence for it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::DiskFull => "disk full: no writes until there is room",
            Self::StoreFailed => "the store fails: see the log",
            Self::Stalled => "was stopped or starved for a while",
            Self::UplinkMissing => "the uplink is missing or down",
            Self::AddressTaken => "another host answers for an endpoint's address",
            Self::OutcastLetIn => "a node that was cut off is let in all the same: see the log",
        }
    }
}

impl Report {
    /// Its place in the chain of its author.
    #[must_use]
    pub const fn place(&self) -> Place {
        Place { incarnation: self.incarnation, sequence: self.sequence }
    }

    /// What it says for a change of voters.
    #[must_use]
    pub const fn confirmation(&self) -> Confirmation {
        let ConfigSeen { index, age_ms, pair_left } = self.config;
        Confirmation { node: self.from, config_index: index, age_ms, pair_left }
    }
}

impl Statement for Report {
    const CONTEXT: &'static str = "stead report v1";
    const BYTES_MAX: usize = REPORT_FRAME_BYTES_MAX - 256;
}

/// The hash by which the next report names this one.
#[must_use]
pub fn link(signed: &Signed<Report>) -> [u8; 32] {
    Sha256::digest(signed.bytes()).into()
}
