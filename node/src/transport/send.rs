//! Sending to peers: calls with an answer, reports of which only the newest matters, and exhibits beside them.

use super::core::Core;
use super::error::{CallError, Close, Cut, SendError};
use super::plane::Plane;
use super::wire::{read_frame, send_frame};
use bytes::Bytes;
use quinn::{Connection, ReadError, ReadToEndError, WriteError};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;
use stead_proto::id::NodeId;
use stead_proto::limits::{LEASE_FRAME_BYTES_MAX, REPORT_FRAME_BYTES_MAX};
use tokio::time::timeout;

/// Calls in a row that may time out before their connection is given up.
const TIMEOUTS_MAX: u32 = 2;
/// After this long an unsent report is stale.
const REPORT_MAX: Duration = Duration::from_millis(500);

pub(super) fn datagram(core: &Core, to: NodeId, bytes: Bytes) -> Result<(), SendError> {
    check(bytes.len(), LEASE_FRAME_BYTES_MAX)?;
    let live = core.links.best(to, Plane::Report).ok_or(SendError::NotConnected)?;
    let length = bytes.len();
    live.connection.send_datagram(bytes).map_err(|_| {
        let bytes_max = live.connection.max_datagram_size().unwrap_or(length);
        check(length, bytes_max).err().unwrap_or(SendError::NotConnected)
    })
}

pub(super) fn report(core: &Core, to: NodeId, bytes: Bytes) -> Result<(), SendError> {
    check(bytes.len(), REPORT_FRAME_BYTES_MAX)?;
    if core.links.queue_report(to, bytes) { Ok(()) } else { Err(SendError::NotConnected) }
}

pub(super) fn exhibit(core: &Core, to: NodeId, bytes: Bytes) -> Result<(), SendError> {
    check(bytes.len(), REPORT_FRAME_BYTES_MAX)?;
    if core.links.queue_exhibit(to, bytes) { Ok(()) } else { Err(SendError::NotConnected) }
}

/// Sends what [`report`] and [`exhibit`] leave, until aborted.
pub(super) async fn reports(core: Arc<Core>, to: NodeId) {
    let bell = core.links.bells(to, Plane::Report).report;
    loop {
        bell.notified().await;
        let sent = match core.links.best(to, Plane::Report) {
            Some(live) => timeout(REPORT_MAX, one_report(&core, to, &live.connection)).await,
            None => Ok(false),
        };
        if !matches!(sent, Ok(true)) {
            drop(core.links.take_report(to));
            core.links.tally.reports_dropped.add();
        }
        if core.links.report_waits(to) {
            bell.notify_one();
        }
    }
}

/// The report is taken only when there is a stream for it: until then a newer one may replace it.
async fn one_report(core: &Core, to: NodeId, connection: &Connection) -> bool {
    let Ok(mut stream) = connection.open_uni().await else { return false };
    match core.links.take_report(to) {
        Some(bytes) => send_frame(&mut stream, bytes).await.is_ok(),
        None => stream.reset(Cut::Cancelled.code()).is_ok(),
    }
}

pub(super) async fn call(
    core: &Core,
    to: NodeId,
    frame: Bytes,
    deadline: Duration,
    answer_bytes_max: usize,
) -> Result<Vec<u8>, CallError> {
    check(frame.len(), Plane::Raft.frame_bytes_max())?;
    let live = core.links.best(to, Plane::Raft).ok_or(SendError::NotConnected)?;
    if let Ok(answer) = timeout(deadline, exchange(&live.connection, frame, answer_bytes_max)).await {
        live.timeouts.store(0, Ordering::Relaxed);
        return answer;
    }
    core.links.tally.calls_timed_out.add();
    if live.timeouts.fetch_add(1, Ordering::Relaxed) + 1 >= TIMEOUTS_MAX {
        core.links.tally.stale.add();
        Close::Stale.close(&live.connection);
    }
    Err(CallError::TimedOut)
}

/// Sends a frame on a new stream and reads the answer. Portable: the operator's side uses it too.
pub(super) async fn exchange(
    connection: &Connection,
    frame: Bytes,
    answer_bytes_max: usize,
) -> Result<Vec<u8>, CallError> {
    let (mut send, mut receive) = connection.open_bi().await.map_err(|_| CallError::Lost)?;
    send_frame(&mut send, frame).await.map_err(|error| match error {
        WriteError::Stopped(_) => CallError::Refused,
        WriteError::ConnectionLost(_) | WriteError::ClosedStream | WriteError::ZeroRttRejected => {
            CallError::Lost
        }
    })?;
    read_frame(&mut receive, answer_bytes_max).await.map_err(|error| match error {
        ReadToEndError::TooLong => CallError::AnswerTooLong(answer_bytes_max),
        ReadToEndError::Read(ReadError::Reset(_)) => CallError::Refused,
        ReadToEndError::Read(_) => CallError::Lost,
    })
}

/// Whether a frame of this size may be sent.
pub(super) const fn check(bytes: usize, bytes_max: usize) -> Result<(), SendError> {
    if bytes <= bytes_max { Ok(()) } else { Err(SendError::TooLong { bytes, bytes_max }) }
}
