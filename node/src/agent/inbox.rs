//! What comes in from peers and operators, other than lease datagrams.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use stead_proto::admin::{Answer, Request};
use stead_proto::codec;
use stead_proto::id::NodeId;
use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, COMMAND_FRAME_BYTES_MAX};
use stead_proto::mesh::Event;
use tokio::sync::mpsc;

use super::admin::{Admin, Asker};
use super::peer::PeerRequest;
use crate::consensus::Consensus;
use crate::transport::{Inbound, Reply, Who};

/// Turns what comes in into events and answers.
#[derive(Clone)]
pub(super) struct Inbox {
    pub(super) consensus: Arc<Consensus>,
    pub(super) admin: Admin,
    pub(super) events: mpsc::Sender<Event>,
    /// Whether the recall is complete; before that this node answers nothing of consensus.
    pub(super) joined: Arc<AtomicBool>,
}

impl Inbox {
    /// Serves until the transport is gone.
    pub(super) async fn run(self, mut messages: mpsc::Receiver<Inbound>) {
        while let Some(message) = messages.recv().await {
            match message {
                Inbound::Report { from, at, bytes } => {
                    let _ = self.events.send(Event::Report { from, at, bytes }).await;
                }
                Inbound::Raft { from, bytes, reply } => {
                    let inbox = self.clone();
                    tokio::spawn(async move { inbox.peer(from, &bytes, reply).await });
                }
                Inbound::Admin { from, bytes, reply, .. } => {
                    let inbox = self.clone();
                    tokio::spawn(async move { inbox.operator(from, &bytes, reply).await });
                }
                Inbound::Connected { peer } => {
                    tracing::info!(%peer, "reached");
                    let _ = self.events.send(Event::Reached).await;
                }
                Inbound::Lost { peer } => tracing::info!(%peer, "lost"),
            }
        }
    }

    async fn peer(&self, from: NodeId, bytes: &[u8], reply: Reply) {
        match PeerRequest::decode(bytes) {
            Ok(PeerRequest::Consensus(frame)) => {
                if !self.joined.load(Ordering::Acquire) {
                    return;
                }
                match self.consensus.handle(from.0, frame).await {
                    Ok(answer) => reply.send(answer),
                    Err(error) => return tracing::debug!(%from, %error, "refused a frame of consensus"),
                }
                if self.consensus.status().leader == Some(from.0) {
                    let _ = self.events.try_send(Event::LeaderHeard);
                }
            }
            Ok(PeerRequest::Admin(request)) => send(reply, &self.admin.answer(Asker::Peer, *request).await),
            Err(error) => tracing::debug!(%from, %error, "unreadable frame"),
        }
    }

    async fn operator(&self, from: Who, bytes: &[u8], reply: Reply) {
        let asker = match from {
            Who::Operator => Asker::Operator,
            Who::Node(_) => Asker::Peer,
        };
        match codec::decode::<Request>(bytes, COMMAND_FRAME_BYTES_MAX) {
            Ok(request) => send(reply, &self.admin.answer(asker, request).await),
            Err(error) => {
                let why = format!("unreadable request: {error}");
                send(reply, &Answer::Unavailable { why, unknown: false });
            }
        }
    }
}

fn send(reply: Reply, answer: &Answer) {
    match codec::encode(answer, ADMIN_FRAME_BYTES_MAX) {
        Ok(bytes) => reply.send(bytes),
        Err(error) => tracing::error!(%error, "an answer is too long"),
    }
}
