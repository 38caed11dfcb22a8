//! What a mesh core is told, and what it wants done.

use super::{Conviction, Records};
use crate::command::Command;
use crate::fence::FenceOrder;
use crate::id::{Name, NodeId};
use crate::lookout::TrafficSeen;
use crate::memory::{Memories, Memory};
use crate::outside::{Look, Sight};
use crate::plan::Epoch;
use crate::report::{ServiceSeen, Unwell};
use crate::roster::Member;
use crate::site::EndpointSpec;
use crate::state::State;
use crate::time::Instant;
use alloc::{boxed::Box, collections::BTreeSet, string::String, sync::Arc, vec::Vec};
use core::net::IpAddr;

/// The moment of an event: the clock that decisions use, and the one that people read.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// The local clock.
    pub at: Instant,
    /// The wall clock, in milliseconds since 1970. Never decides anything.
    pub unix_ms: u64,
}

/// Something that happened.
#[derive(Clone, Debug)]
pub enum Event {
    /// The deadline has come.
    Timer,
    /// A datagram of an authenticated node.
    Datagram {
        /// Whose.
        from: NodeId,
        /// What.
        bytes: Vec<u8>,
    },
    /// A report, as it came in.
    Report {
        /// On whose session it came.
        from: NodeId,
        /// Where that session was opened from, if it is still there.
        at: Option<IpAddr>,
        /// The signed report, encoded.
        bytes: Vec<u8>,
    },
    /// A peer is connected that was not.
    Reached,
    /// A round trip to a peer was measured, or none can be any more.
    RoundTrip {
        /// Which peer.
        peer: NodeId,
        /// In microseconds; zero if it is not connected.
        rtt_us: u32,
    },
    /// Entries were applied; this is the state after them.
    State(Arc<State>),
    /// Raft's own view changed.
    Raft(RaftFacts),
    /// A message of the current leader came in.
    LeaderHeard,
    /// A service changed.
    Service {
        /// Which.
        name: Name,
        /// How it is now; nothing if it is not probed any more.
        seen: Option<ServiceSeen>,
    },
    /// Something went wrong with this node, or is well again.
    Unwell {
        /// What.
        what: Unwell,
        /// Whether it is so now.
        on: bool,
    },
    /// What the lookout of this node says of its traffic.
    Traffic {
        /// What it says.
        seen: Box<TrafficSeen>,
        /// Whether the others should hear of it at once.
        urgent: bool,
    },
    /// A driver cannot do what it should, or can again.
    Trouble {
        /// For which endpoint.
        endpoint: Name,
        /// Why, as a sentence.
        text: Option<String>,
    },
    /// Whether another host has the address of an endpoint was asked.
    Probed {
        /// For which endpoint.
        endpoint: Name,
        /// Which address was asked for.
        address: IpAddr,
        /// Who answered, if somebody did; it may be the mesh's own holder.
        taken: Option<String>,
    },
    /// An [`Effect::Fence`] has ended.
    Fenced {
        /// Whom it was about.
        node: NodeId,
        /// Its epoch.
        epoch: u64,
        /// Why it failed, if it did.
        failed: Option<String>,
    },
    /// What an [`Effect::Look`] saw.
    Saw(Sight),
    /// A proposal came to an end.
    Proposed {
        /// Which.
        ticket: u64,
        /// Whether it was committed and carried out; otherwise the next one waits a little.
        done: bool,
    },
    /// The agent is asked to stop in good order.
    Stop,
}

/// What stands between this node and serving an address on its uplink.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// Nothing: addresses are claimed at once.
    Trusted,
    /// Before the first claim the network is asked whether another host has the address; [`Event::Probed`] tells.
    Asked,
    /// It cannot serve any, and why.
    Useless(String),
}

/// Raft as the core has to know it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RaftFacts {
    /// The term of the durable vote.
    pub term: u64,
    /// For whom that vote is.
    pub voted_for: NodeId,
    /// The last entry held, (term, index).
    pub last: (u64, u64),
    /// The last entry held durably.
    pub durable: (u64, u64),
    /// Whom this node follows.
    pub leader: Option<NodeId>,
    /// Whether this node leads and a quorum has confirmed it lately.
    pub leading: bool,
    /// Whether the store takes writes.
    pub able: bool,
    /// Who votes in Raft's own configuration.
    pub voters: BTreeSet<NodeId>,
    /// Who follows in it.
    pub learners: BTreeSet<NodeId>,
}

/// An endpoint that this node serves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Serving {
    /// Under which epoch.
    pub epoch: Epoch,
    /// Until when, if nothing renews it.
    pub until: Instant,
    /// What it is.
    pub spec: EndpointSpec,
    /// Whether the holding page stands in for the application.
    pub holding_page: bool,
}

/// Something to do, in the order given.
#[derive(Clone, Debug)]
pub enum Effect {
    /// Write the lease records to memory that survives this process, before anything that follows.
    Remember(Records),
    /// Send a datagram.
    Send {
        /// Whom to.
        to: NodeId,
        /// What.
        bytes: Vec<u8>,
    },
    /// Send this report to all peers.
    Report(Vec<u8>),
    /// Show this report of somebody else to all peers, beside this node's own.
    Exhibit(Vec<u8>),
    /// Open the gate, claim the address, announce it.
    Serve {
        /// Which endpoint.
        endpoint: Name,
        /// How, under which epoch, until when.
        serving: Box<Serving>,
    },
    /// Move the gate's expiry.
    Extend {
        /// Which endpoint.
        endpoint: Name,
        /// The new expiry.
        until: Instant,
    },
    /// Close the gate at once, before anything that follows; then give the address up.
    Cease {
        /// Which endpoint.
        endpoint: Name,
        /// What was served.
        serving: Box<Serving>,
    },
    /// Put the holding page in front of visitors, or take it away.
    HoldingPage {
        /// Which endpoint.
        endpoint: Name,
        /// What it is.
        spec: Box<EndpointSpec>,
        /// Whether it shall stand.
        on: bool,
    },
    /// Let the licence for new outbound connections go on for a while: the core lives.
    License,
    /// Run the operator's fence command; [`Event::Fenced`] tells what came of it.
    Fence(FenceOrder),
    /// Look at something from outside; [`Event::Saw`] tells what was seen.
    Look(Look),
    /// These may not lead for now: take nothing from them as leaders; if this node is one, fall silent as a leader.
    Demoted(BTreeSet<NodeId>),
    /// Become a candidate for Raft's leadership.
    Campaign,
    /// Propose a command; tell by [`Event::Proposed`] how it ended.
    Propose {
        /// To recognise it by.
        ticket: u64,
        /// What.
        command: Box<Command>,
    },
    /// Bring Raft's membership in line.
    Follow {
        /// Who shall vote.
        voters: BTreeSet<NodeId>,
        /// Who shall follow.
        learners: BTreeSet<NodeId>,
    },
    /// Let a peer's higher vote count: it campaigned in vain, or voted for who did, and only a term above that brings
    /// it back.
    Admit {
        /// The term of its vote, from its signed report.
        term: u64,
        /// For whom it is.
        node: NodeId,
    },
    /// Keep what was seen of the others; durable soon, not now.
    KeepMemories(Memories),
    /// Cut a node off: close what is open with it, refuse its key, drop its addresses, for good.
    CutOff(Box<Member>),
    /// Keep every conviction; durable soon, not now.
    KeepConvictions(Vec<Conviction>),
    /// This node was convicted: let nothing out of this host but what the operator needs to look after it.
    Quarantine,
    /// The recall is complete: take part in Raft.
    Join,
    /// The store is older than what the others saw of it: stop for good, and say so.
    Lost {
        /// What they saw.
        seen: Memory,
    },
}
