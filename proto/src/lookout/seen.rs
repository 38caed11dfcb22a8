//! What a node tells the others of its traffic, as part of its report.

use crate::detect::{Detector, Inbound, Level};
use alloc::{string::String, vec::Vec};
use core::net::IpAddr;
use serde::{Deserialize, Serialize};

/// Targets that a flood's record names.
pub const TARGETS_MAX: usize = 4;
/// Processes that a flood's record names.
pub const SENDERS_MAX: usize = 4;
/// Bytes of the name of one of them.
pub const SENDER_BYTES_MAX: usize = 64;

/// A node's traffic as its sensors and detectors have it. All rates are per second, over the last second.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TrafficSeen {
    /// What goes out.
    pub out: OutSeen,
    /// What comes in.
    pub inbound: InSeen,
    /// What this node does about it.
    pub posture: Posture,
    /// Every detector that is not calm.
    pub alarms: Vec<(Detector, Level)>,
    /// The flood that leaves this node, or left it within the last minute.
    pub flood: Option<Flood>,
    /// The flood that arrives here, or did within the last minute.
    pub attack: Option<Attacked>,
    /// Detectors that lost their input: they saw before.
    pub blinded: Vec<Detector>,
    /// A sensor or rule of ours that somebody removed or changed within the last minute: what, as a sentence.
    pub meddled: Option<String>,
}

/// SYNs without ACK that go out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutSeen {
    /// Sent by programs of this host, or forwarded by it, whether they left or not.
    pub syn: u32,
    /// Of these, cut off in the kernel.
    pub cut: u32,
    /// Of those seen at tc, from raw and packet sockets.
    pub forged: u32,
    /// Of those seen at tc, without an answer.
    pub unanswered: u32,
    /// Their distinct destinations, estimated.
    pub destinations: u32,
    /// The most frequent destination, and its share in thousandths.
    pub top: Option<(IpAddr, u16)>,
}

/// SYNs without ACK that come in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct InSeen {
    /// All of them.
    pub syn: u32,
    /// Of these, those that met a full queue.
    pub queue_full: u32,
    /// What the inbound alarm says.
    pub state: Inbound,
    /// Whether a SYN proxy stands in front of the endpoints.
    pub shielded: bool,
    /// The fullest accept queue of the endpoints' ports.
    pub fullest: Option<QueueSeen>,
}

/// The connections of one listening socket that wait for the application. A full queue on a calm network is a slow
/// application: a flood completes no handshake, and fills none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct QueueSeen {
    /// The port.
    pub port: u16,
    /// How many wait.
    pub used: u32,
    /// How many may.
    pub max: u32,
}

/// What a node does with its own outbound SYNs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Posture {
    /// It has no limit in its kernel: it can only tell.
    #[default]
    Unlimited,
    /// Licensed: new connections open freely, up to the ceiling.
    Free,
    /// Down to the limit and the allow-list.
    Throttled,
}

/// A flood that leaves a node, from the first sign to its end.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Flood {
    /// When it began, in milliseconds since 1970 by its node's clock.
    pub began_unix_ms: u64,
    /// When it ended, if it has.
    pub ended_unix_ms: Option<u64>,
    /// The worst that a detector said.
    pub worst: Level,
    /// Every detector that spoke, in the order in which they did.
    pub detectors: Vec<Detector>,
    /// The highest rate, in SYNs a second.
    pub peak: u32,
    /// SYNs in all, those of the second before it was noticed and those of honest programs among them.
    pub sent: u64,
    /// How many of them left the host.
    pub escaped: u64,
    /// Whom it went to, the most frequent first.
    pub targets: Vec<IpAddr>,
    /// The programs that had a raw or packet socket open while forged SYNs were seen, as `comm[pid] file`.
    pub senders: Vec<String>,
}

/// A flood that arrives at a node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Attacked {
    /// When it began, in milliseconds since 1970 by its node's clock.
    pub began_unix_ms: u64,
    /// When it ended, if it has.
    pub ended_unix_ms: Option<u64>,
    /// The highest rate, in SYNs a second.
    pub peak: u32,
    /// SYNs in all, those of the second before it was noticed and those of visitors among them.
    pub received: u64,
    /// Of these, those that met a full queue.
    pub queue_full: u64,
}
