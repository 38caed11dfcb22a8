//! What can go wrong between nodes, and the codes that tell the other side.

use super::counters::Refusal;
use quinn::{ConnectionError, Side, VarInt};
use std::io;
use std::net::SocketAddr;

/// Why the transport could not start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The UDP socket.
    #[error("cannot listen on UDP {address}: {source}; is another agent running, or the port taken?")]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The TLS configuration; a bug, or a key that is none.
    #[error("cannot set up TLS: {0}")]
    Tls(#[from] rustls::Error),
    /// Times that do not fit together.
    #[error("transport profile: {0}")]
    Profile(&'static str),
}

/// Why something was not sent. Nothing was queued.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SendError {
    /// No live connection to that node; one is being dialled.
    #[error("not connected")]
    NotConnected,
    /// Longer than its kind of frame may be, or than the path carries.
    #[error("{bytes} bytes, where at most {bytes_max} are allowed")]
    TooLong {
        /// The size.
        bytes: usize,
        /// The limit.
        bytes_max: usize,
    },
}

/// Why a call has no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// Nothing was sent: no connection, or too long.
    #[error(transparent)]
    Send(#[from] SendError),
    /// No answer in time. The other side may have acted.
    #[error("no answer in time")]
    TimedOut,
    /// The connection ended. The other side may have acted.
    #[error("the connection was lost")]
    Lost,
    /// The other side would not answer: busy, or the frame broke a rule.
    #[error("the peer refused to answer")]
    Refused,
    /// The answer was longer than the caller allows.
    #[error("the answer is longer than {0} bytes")]
    AnswerTooLong(usize),
}

/// Says why a connection is closed (application error codes, RFC 9000 §20.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Close {
    Shutdown,
    Evicted,
    Duplicate,
    Stale,
    WrongPlane,
    Crowded,
}

impl Close {
    const ALL: [Self; 6] =
        [Self::Shutdown, Self::Evicted, Self::Duplicate, Self::Stale, Self::WrongPlane, Self::Crowded];

    pub(super) const fn code(self) -> VarInt {
        match self {
            Self::Shutdown => VarInt::from_u32(0),
            Self::Evicted => VarInt::from_u32(1),
            Self::Duplicate => VarInt::from_u32(2),
            Self::Stale => VarInt::from_u32(3),
            Self::WrongPlane => VarInt::from_u32(4),
            Self::Crowded => VarInt::from_u32(5),
        }
    }

    /// What it means for a connection that has only begun.
    pub(super) const fn refusal(self) -> Option<Refusal> {
        match self {
            Self::Evicted => Some(Refusal::EvictedKey),
            Self::WrongPlane => Some(Refusal::WrongPlane),
            Self::Crowded => Some(Refusal::Crowded),
            Self::Shutdown | Self::Duplicate | Self::Stale => None,
        }
    }

    pub(super) fn close(self, connection: &quinn::Connection) {
        connection.close(self.code(), &[]);
    }
}

/// Says why a stream is cut off.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cut {
    TooLong,
    Busy,
    Refused,
    Cancelled,
}

impl Cut {
    pub(super) const fn code(self) -> VarInt {
        match self {
            Self::TooLong => VarInt::from_u32(1),
            Self::Busy => VarInt::from_u32(2),
            Self::Refused => VarInt::from_u32(3),
            Self::Cancelled => VarInt::from_u32(4),
        }
    }
}

/// Which side refused a handshake, and why.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    ByUs(Refusal),
    ByPeer(Refusal),
}

/// Whether `error`, on our `side`, is a refused handshake. A timeout or a lost peer is none.
pub(super) fn refusal(error: &ConnectionError, side: Side) -> Option<Refused> {
    if let ConnectionError::TransportError(error) = error {
        return Some(Refused::ByUs(of_alert(u64::from(error.code), side)));
    }
    if let ConnectionError::ConnectionClosed(close) = error {
        return Some(Refused::ByPeer(of_alert(u64::from(close.error_code), !side)));
    }
    let ConnectionError::ApplicationClosed(close) = error else { return None };
    Close::ALL.into_iter().find(|known| known.code() == close.error_code)?.refusal().map(Refused::ByPeer)
}

/// TLS alerts as QUIC carries them (RFC 9001 §4.8; numbers from RFC 8446 §6).
fn of_alert(code: u64, by: Side) -> Refusal {
    match code {
        0x12c => Refusal::EvictedKey, // 44 certificate_revoked
        0x130 => Refusal::UnknownKey, // 48 unknown_ca
        // 49 access_denied: a client did not find whom it dialled, a server is of another mesh.
        0x131 if by == Side::Client => Refusal::WrongNode,
        0x131 => Refusal::WrongMesh,
        0x178 => Refusal::WrongPlane, // 120 no_application_protocol
        0x02 => Refusal::Crowded,     // CONNECTION_REFUSED
        _ => Refusal::Malformed,
    }
}
