//! Planes: what a connection is for. One ALPN name each, which carries the protocol version, so that
//! two versions that cannot talk to each other find out before the first frame.

use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, RAFT_PLANE_BYTES_MAX, REPORT_FRAME_BYTES_MAX};

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Plane {
    /// Consensus: calls between nodes.
    Raft,
    /// Telemetry as one-way streams, lease messages as datagrams, between nodes.
    Report,
    /// Requests of operators, and of nodes that pass one on.
    Admin,
}

impl Plane {
    /// The planes on which nodes keep a connection to each other.
    pub(super) const BETWEEN_NODES: [Self; 2] = [Self::Raft, Self::Report];
    const ALL: [Self; 3] = [Self::Raft, Self::Report, Self::Admin];

    /// Its name in the TLS handshake (RFC 7301).
    #[must_use]
    pub const fn alpn(self) -> &'static [u8] {
        match self {
            Self::Raft => b"stead-raft/1",
            Self::Report => b"stead-report/1",
            Self::Admin => b"stead-admin/1",
        }
    }

    /// All names, as the accepting side offers them.
    pub(super) fn all_alpn() -> Vec<Vec<u8>> {
        Self::ALL.map(|plane| plane.alpn().to_vec()).to_vec()
    }

    /// The plane of this name.
    pub(super) fn from_alpn(name: &[u8]) -> Option<Self> {
        Self::ALL.into_iter().find(|plane| plane.alpn() == name)
    }

    /// The largest frame that a peer may send on one of its streams.
    pub(super) const fn frame_bytes_max(self) -> usize {
        match self {
            Self::Raft => RAFT_PLANE_BYTES_MAX,
            Self::Report => REPORT_FRAME_BYTES_MAX,
            Self::Admin => ADMIN_FRAME_BYTES_MAX,
        }
    }
}
