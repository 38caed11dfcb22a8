//! What agents ask each other on the Raft plane: consensus itself, and what they pass on for operators.
//!
//! One kind byte, then the frame, so that consensus' frames are not copied into an envelope.

use std::time::Duration;

use bytes::Bytes;
use stead_proto::admin;
use stead_proto::codec::{self, CodecError};
use stead_proto::id::NodeId;
use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};

use crate::consensus::{Courier, CourierError};
use crate::transport::{CallError, Transport};

const CONSENSUS: u8 = 0;
const ADMIN: u8 = 1;

/// A request of a peer.
#[derive(Debug)]
pub(super) enum PeerRequest<'a> {
    /// A frame of consensus.
    Consensus(&'a [u8]),
    /// An operator's request that the peer passes on.
    Admin(Box<admin::Request>),
}

impl<'a> PeerRequest<'a> {
    /// Reads one.
    pub(super) fn decode(frame: &'a [u8]) -> Result<Self, CodecError> {
        match frame.split_first() {
            Some((&CONSENSUS, body)) => Ok(Self::Consensus(body)),
            Some((&ADMIN, body)) => Ok(Self::Admin(codec::decode(body, ADMIN_FRAME_BYTES_MAX)?)),
            Some(_) | None => Err(CodecError::Malformed),
        }
    }
}

/// Passes an operator's request on to a peer.
pub(super) async fn pass_on(
    transport: &Transport,
    to: NodeId,
    request: &admin::Request,
    deadline: Duration,
) -> Result<admin::Answer, CallError> {
    let body = codec::encode(request, ADMIN_FRAME_BYTES_MAX - 1).unwrap_or_default();
    let answer = transport.call(to, frame(ADMIN, &body), deadline, ADMIN_FRAME_BYTES_MAX).await?;
    Ok(codec::decode(&answer, ADMIN_FRAME_BYTES_MAX).unwrap_or_else(|error| admin::Answer::Unavailable {
        why: format!("unreadable answer of {to}: {error}"),
        unknown: true,
    }))
}

/// Carries consensus over QUIC.
#[derive(Debug)]
pub(super) struct QuicCourier(pub(super) Transport);

impl Courier for QuicCourier {
    async fn call(&self, to: u64, body: Vec<u8>, deadline: Duration) -> Result<Vec<u8>, CourierError> {
        let call = self.0.call(NodeId(to), frame(CONSENSUS, &body), deadline, SNAPSHOT_BYTES_MAX);
        call.await.map_err(|error| match error {
            CallError::TimedOut => CourierError::Timeout,
            CallError::Send(_) | CallError::Lost | CallError::Refused | CallError::AnswerTooLong(_) => {
                CourierError::Unreachable(error.to_string())
            }
        })
    }
}

fn frame(kind: u8, body: &[u8]) -> Bytes {
    let mut frame = Vec::with_capacity(1 + body.len());
    frame.push(kind);
    frame.extend(body);
    frame.into()
}
