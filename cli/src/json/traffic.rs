//! What `stead syn` prints.

use serde::Serialize;

/// `syn`: the SYNs of every node; a SYN opens a connection. With `--watch`, one document a line, as often as
/// everybody was asked: twice a second, less often while a node is silent.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Syn {
    /// The nodes, by id.
    pub nodes: Vec<Traffic>,
}

/// One node's traffic, as it says itself. All rates are per second, over the last second.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Traffic {
    /// What people call it.
    pub node: String,
    /// `agrees`, `behind`, `differs` or `silent`.
    pub opinion: &'static str,
    /// In which points it differs, or why it is silent.
    pub details: Vec<String>,
    /// How old this is, if the node did not answer itself: from the report that another one has of it. `null` if it
    /// answered, or if nothing is known.
    pub age_ms: Option<u64>,
    /// What it does with its own new connections: `free` (up to the ceiling), `throttled` (down to the limit and
    /// the allow-list), `no-limit` (its kernel has none), `unknown`.
    pub posture: &'static str,
    /// What goes out; `null` if nothing is known.
    pub out: Option<Outgoing>,
    /// What comes in; `null` if nothing is known.
    pub inbound: Option<Incoming>,
    /// The detectors that are not calm, by their codes.
    pub detectors: Vec<DetectorSays>,
    /// What was done to its sensors or rules within the last minute.
    pub meddled: Option<String>,
    /// The flood that leaves it, or did within the last minute.
    pub flood: Option<OutboundFlood>,
    /// The flood that arrives at it, or did within the last minute.
    pub attack: Option<InboundFlood>,
}

/// SYNs that go out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Outgoing {
    /// Sent by programs of the node, or forwarded by it, whether they left or not.
    pub syn: u32,
    /// Of these, cut off in its kernel.
    pub cut: u32,
    /// Of those that were not cut, made by hand: from raw or packet sockets.
    pub forged: u32,
    /// Of those that were not cut, without an answer.
    pub unanswered: u32,
    /// To how many addresses, estimated.
    pub destinations: u32,
    /// The address to which most of them went; `null` if there is none.
    pub top: Option<TopDestination>,
}

/// The most frequent destination.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct TopDestination {
    /// Its address.
    pub address: String,
    /// Its share, in thousandths.
    pub share_per_mille: u16,
}

/// SYNs that come in.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Incoming {
    /// All of them.
    pub syn: u32,
    /// Of these, those that met a full queue.
    pub queue_full: u32,
    /// What its alarm says: `quiet`, `under-attack`, or `blind`.
    pub alarm: &'static str,
    /// Whether a SYN proxy stands in front of its endpoints.
    pub shielded: bool,
}

/// What a detector says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct DetectorSays {
    /// Which: `D1` to `D8`, and `D4-slow`.
    pub code: &'static str,
    /// `suspect` (reason to throttle the node), `convict` (proof that it is hostile) or `blind` (it lacks its input).
    pub level: &'static str,
    /// Whether it saw before, and lost its input.
    pub lost: bool,
    /// What it finds, or would find if it saw, in words.
    pub finds: &'static str,
}

/// A flood that leaves a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct OutboundFlood {
    /// When it began, by its node's clock.
    pub began_unix_ms: u64,
    /// When it ended; `null` if it goes on.
    pub ended_unix_ms: Option<u64>,
    /// Whether a detector proved it; else it is suspected.
    pub proven: bool,
    /// The codes of all detectors that spoke, in that order.
    pub detectors: Vec<&'static str>,
    /// The highest rate, per second.
    pub peak: u32,
    /// SYNs in all, those of honest programs of the same time among them.
    pub sent: u64,
    /// How many of them left the host.
    pub escaped: u64,
    /// Whom it goes to, as far as that stands out.
    pub targets: Vec<String>,
    /// The programs that had a raw or packet socket open meanwhile.
    pub programs: Vec<String>,
}

/// A flood that arrives at a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InboundFlood {
    /// When it began, by its node's clock.
    pub began_unix_ms: u64,
    /// When it ended; `null` if it goes on.
    pub ended_unix_ms: Option<u64>,
    /// The highest rate, per second.
    pub peak: u32,
    /// SYNs in all, those of visitors among them.
    pub received: u64,
    /// Of these, those that met a full queue.
    pub queue_full: u64,
}
