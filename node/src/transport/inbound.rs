//! What the transport hands to the agent.

use super::directory::Who;
use bytes::Bytes;
use std::net::{IpAddr, SocketAddr};
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::time::Instant;
use tokio::sync::{mpsc, oneshot};

/// Where received messages go. Both channels are bounded by whoever makes them.
#[derive(Clone, Debug)]
pub struct Inboxes {
    /// Lease messages. When this is full they are dropped and counted, so that none is ever late.
    pub datagrams: mpsc::Sender<Datagram>,
    /// Everything else. When this is full, peers wait.
    pub messages: mpsc::Sender<Inbound>,
}

/// A lease message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Datagram {
    /// The authenticated sender.
    pub from: NodeId,
    /// At most [`stead_proto::limits::LEASE_FRAME_BYTES_MAX`].
    pub bytes: Bytes,
    /// When it was read from the connection.
    pub at: Instant,
}

/// A message, or news about a peer.
#[derive(Debug)]
pub enum Inbound {
    /// A report, at most [`stead_proto::limits::REPORT_FRAME_BYTES_MAX`]. May overtake an older one.
    Report {
        /// The authenticated sender.
        from: NodeId,
        /// Where its connection was opened from, if it is still there.
        at: Option<IpAddr>,
        /// The frame.
        bytes: Vec<u8>,
    },
    /// A call of consensus, at most [`stead_proto::limits::RAFT_FRAME_BYTES_MAX`].
    Raft {
        /// The authenticated sender.
        from: NodeId,
        /// The frame.
        bytes: Vec<u8>,
        /// Where the answer goes.
        reply: Reply,
    },
    /// An admin request, at most [`stead_proto::limits::ADMIN_FRAME_BYTES_MAX`].
    Admin {
        /// What the directory said about the sender when he connected.
        from: Who,
        /// His authenticated key.
        key: PublicKey,
        /// Where he is.
        remote: SocketAddr,
        /// The frame.
        bytes: Vec<u8>,
        /// Where the answer goes.
        reply: Reply,
    },
    /// A peer can be reached (its report plane stands). Messages of it may have come before this.
    Connected {
        /// The peer.
        peer: NodeId,
    },
    /// A peer cannot be reached any more. Comes before the next [`Inbound::Connected`], always.
    Lost {
        /// The peer.
        peer: NodeId,
    },
}

/// Answers one call. Dropping it refuses the call.
#[derive(Debug)]
pub struct Reply(pub(super) oneshot::Sender<Vec<u8>>);

impl Reply {
    /// Sends the answer. Nothing happens if the caller has gone.
    pub fn send(self, answer: Vec<u8>) {
        let _ = self.0.send(answer);
    }
}
