//! Reading from one connection: frames become messages in the agent's inbox, answers go back.
//!
//! **Invariant.** Nothing a peer sends is allocated beyond the limit of its kind. Datagrams never wait:
//! they find room in their inbox or are dropped and counted. Everything else waits, for a bounded time,
//! in a bounded number of tasks.

use super::core::Core;
use super::directory::Who;
use super::error::Cut;
use super::inbound::{Datagram, Inbound, Reply};
use super::links::{Admitted, Live};
use super::plane::Plane;
use super::profile::{ANSWER_WAIT_MAX, INBOX_WAIT_MAX, READ_MAX, REPORTS_AT_ONCE_MAX};
use super::whereabouts::canonical;
use super::wire::{read_frame, send_frame};
use crate::clock;
use quinn::{ReadToEndError, RecvStream, SendStream};
use std::net::IpAddr;
use std::sync::Arc;
use stead_proto::id::NodeId;
use stead_proto::limits::LEASE_FRAME_BYTES_MAX;
use tokio::sync::{Semaphore, oneshot};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

/// Lease messages that one peer may put into the inbox before others have their turn.
const DATAGRAMS_IN_A_ROW_MAX: usize = 8;

/// Reads from `live` until it ends.
pub(super) async fn serve(core: &Arc<Core>, live: &Arc<Live>, admitted: Admitted) {
    let work = async {
        match (live.plane, live.who) {
            (Plane::Report, Who::Node(from)) => {
                tokio::join!(take_datagrams(core, live, from), take_reports(core, live, from));
            }
            (Plane::Report, Who::Operator) => {}
            (Plane::Raft | Plane::Admin, _) => take_calls(core, live).await,
        }
    };
    tokio::select! {
        _ = live.connection.closed() => {}
        () = work => {}
        () = settle(core, live, admitted) => {}
    }
    core.links.remove(live);
}

async fn settle(core: &Core, live: &Live, admitted: Admitted) {
    if admitted == Admitted::Contested {
        sleep(core.profile.linger()).await;
        core.links.settle(live);
    }
    std::future::pending().await
}

async fn take_datagrams(core: &Core, live: &Live, from: NodeId) {
    let mut taken = 0_usize;
    while let Ok(bytes) = live.connection.read_datagram().await {
        let at = clock::now();
        if bytes.len() > LEASE_FRAME_BYTES_MAX {
            core.links.tally.oversize.add();
        } else if core.inboxes.datagrams.try_send(Datagram { from, bytes, at }).is_err() {
            core.links.tally.datagrams_dropped.add();
        }
        taken += 1;
        if taken.is_multiple_of(DATAGRAMS_IN_A_ROW_MAX) {
            // The other peers, and whoever empties the inbox, have their turn, so that a flood drowns only itself.
            tokio::task::yield_now().await;
        }
    }
}

async fn take_reports(core: &Arc<Core>, live: &Live, from: NodeId) {
    let places = Arc::new(Semaphore::new(usize::from(REPORTS_AT_ONCE_MAX)));
    let mut tasks = JoinSet::new();
    while let Ok(place) = places.clone().acquire_owned().await {
        let Ok(stream) = live.connection.accept_uni().await else { return };
        while tasks.try_join_next().is_some() {}
        let (core, at) = (core.clone(), live.at());
        tasks.spawn(async move {
            take_report(&core, stream, from, at).await;
            drop(place);
        });
    }
}

async fn take_report(core: &Core, mut stream: RecvStream, from: NodeId, at: Option<IpAddr>) {
    let Ok(bytes) = read(core, &mut stream, Plane::Report).await else { return };
    deliver(core, Inbound::Report { from, at, bytes }).await;
}

async fn take_calls(core: &Arc<Core>, live: &Arc<Live>) {
    let places = core.links.permits(live);
    let mut tasks = JoinSet::new();
    while let Ok((send, receive)) = live.connection.accept_bi().await {
        // Only now: a connection without a call must not keep a place from those that have one.
        let Ok(place) = places.clone().acquire_owned().await else { return };
        while tasks.try_join_next().is_some() {}
        let (core, live) = (core.clone(), live.clone());
        tasks.spawn(async move {
            let mut send = send;
            if let Err(cut) = take_call(&core, &live, &mut send, receive).await {
                // An error means that the stream is gone already.
                let _ = send.reset(cut.code());
            }
            drop(place);
        });
    }
}

async fn take_call(
    core: &Core,
    live: &Live,
    send: &mut SendStream,
    mut receive: RecvStream,
) -> Result<(), Cut> {
    let bytes = read(core, &mut receive, live.plane).await?;
    let (reply, answer) = oneshot::channel();
    let (reply, key) = (Reply(reply), live.key);
    let message = match (live.plane, live.who) {
        (Plane::Admin, from) => {
            Inbound::Admin { from, key, remote: canonical(live.connection.remote_address()), bytes, reply }
        }
        (Plane::Raft, Who::Node(from)) => Inbound::Raft { from, bytes, reply },
        (Plane::Raft | Plane::Report, _) => return Err(Cut::Refused),
    };
    if !deliver(core, message).await {
        return Err(Cut::Busy);
    }
    let answer = tokio::select! {
        answer = timeout(ANSWER_WAIT_MAX, answer) => answer.ok().and_then(Result::ok).ok_or(Cut::Refused)?,
        _ = send.stopped() => return Err(Cut::Cancelled),
    };
    match timeout(READ_MAX, send_frame(send, answer.into())).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(_)) | Err(_) => Err(Cut::Cancelled),
    }
}

/// One frame, or why it was not taken: too long, too slow or cut off.
async fn read(core: &Core, stream: &mut RecvStream, plane: Plane) -> Result<Vec<u8>, Cut> {
    match timeout(READ_MAX, read_frame(stream, plane.frame_bytes_max())).await {
        Ok(Ok(frame)) => Ok(frame),
        Ok(Err(ReadToEndError::TooLong)) => {
            core.links.tally.oversize.add();
            // An error means that the stream is gone already.
            let _ = stream.stop(Cut::TooLong.code());
            Err(Cut::TooLong)
        }
        Ok(Err(ReadToEndError::Read(_))) | Err(_) => Err(Cut::Cancelled),
    }
}

async fn deliver(core: &Core, message: Inbound) -> bool {
    let delivered = matches!(timeout(INBOX_WAIT_MAX, core.inboxes.messages.send(message)).await, Ok(Ok(())));
    if !delivered {
        core.links.tally.busy.add();
    }
    delivered
}
