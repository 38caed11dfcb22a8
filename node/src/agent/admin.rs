//! Answers operators: over QUIC by their key, over the local socket as root, or passed on by a peer.
//!
//! **Invariant.** Nothing is changed for who asks, only for what is signed: an order goes into the log with
//! its operator's signature and is judged by `apply` on every node. What cannot be somebody's order at all
//! (unknown key, broken signature, carried out already) never reaches the log, so that it cannot be filled
//! from outside.

use std::sync::Arc;
use std::time::Duration;

use stead_proto::admin::{Answer, Request, RungSeen};
use stead_proto::codec;
use stead_proto::command::{Command, Outcome, Refusal};
use stead_proto::id::NodeId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::order::Order;
use stead_proto::sign::Signed;
use stead_proto::state::State;
use tokio::sync::{mpsc, oneshot, watch};

use super::inlets::StatusQuery;
use super::peer;
use crate::consensus::{Consensus, ProposeError};
use crate::transport::{CallError, Transport};

/// How long an order may take until it is committed.
const COMMIT_DEADLINE: Duration = Duration::from_secs(5);
/// How long a peer may take to answer in somebody's place.
const PASS_ON_DEADLINE: Duration = Duration::from_secs(6);
const STATUS_DEADLINE: Duration = Duration::from_secs(2);

/// Who asks decides whether a request may be passed on once more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Asker {
    /// An operator, or root on this machine.
    Operator,
    /// A peer that passes on; it is not passed on again.
    Peer,
}

/// What answering takes.
#[derive(Clone)]
pub(super) struct Admin {
    pub(super) me: NodeId,
    pub(super) consensus: Arc<Consensus>,
    pub(super) transport: Transport,
    pub(super) state: watch::Receiver<Arc<State>>,
    pub(super) queries: mpsc::Sender<StatusQuery>,
    /// The encoded genesis.
    pub(super) genesis: Arc<[u8]>,
    /// What the kernel of this machine lets the agent do, as the lookout tells it.
    pub(super) rungs: watch::Receiver<Vec<RungSeen>>,
}

impl Admin {
    /// Answers one request.
    pub(super) async fn answer(&self, asker: Asker, request: Request) -> Answer {
        match request {
            Request::Status => self.status().await,
            Request::StatusOf(node) if node == self.me => self.status().await,
            Request::StatusOf(node) if asker == Asker::Operator => {
                let passed = peer::pass_on(&self.transport, node, &Request::Status, STATUS_DEADLINE);
                passed.await.unwrap_or_else(|error| unavailable(format!("{node} does not answer: {error}")))
            }
            Request::StatusOf(node) => unavailable(format!("{node} is another node")),
            Request::Genesis => Answer::Genesis(self.genesis.to_vec()),
            Request::Submit(signed) => self.submit(asker, signed).await,
        }
    }

    async fn status(&self) -> Answer {
        let (reply, answer) = oneshot::channel();
        let asked = self.queries.try_send(StatusQuery { reply });
        let answer = tokio::time::timeout(STATUS_DEADLINE, answer);
        match (asked, answer.await) {
            (Ok(()), Ok(Ok(mut status))) => {
                status.transport = self.transport.counters().into();
                status.rungs = self.rungs.borrow().clone();
                Answer::Status(status)
            }
            (Ok(()) | Err(_), _) => unavailable("the agent is busy".into()),
        }
    }

    async fn submit(&self, asker: Asker, signed: Signed<Order>) -> Answer {
        let state = self.state.borrow().clone();
        if let Err(refusal @ (Refusal::UnknownOperator | Refusal::Signature | Refusal::Replayed)) =
            state.check_order(&signed)
        {
            return Answer::Refused(refusal);
        }
        let Ok(command) = codec::encode(&Command::Order(signed.clone()), COMMAND_FRAME_BYTES_MAX) else {
            return unavailable("the order is too long for one log entry".into());
        };
        match self.consensus.propose(command, COMMIT_DEADLINE).await {
            Ok((index, outcome)) => match codec::decode::<Outcome>(&outcome, COMMAND_FRAME_BYTES_MAX) {
                Ok(outcome) => Answer::Committed { index, outcome },
                Err(error) => {
                    Answer::Unavailable { why: format!("unreadable outcome: {error}"), unknown: true }
                }
            },
            Err(ProposeError::NotLeader { leader: Some(leader) }) if asker == Asker::Operator => {
                let request = Request::Submit(signed);
                let passed = peer::pass_on(&self.transport, NodeId(leader), &request, PASS_ON_DEADLINE);
                passed.await.unwrap_or_else(|error| Answer::Unavailable {
                    unknown: !matches!(error, CallError::Send(_)),
                    why: format!("the leader does not answer: {error}"),
                })
            }
            Err(error @ (ProposeError::Timeout | ProposeError::Stopped)) => {
                Answer::Unavailable { why: error.to_string(), unknown: true }
            }
            Err(error) => unavailable(error.to_string()),
        }
    }
}

fn unavailable(why: String) -> Answer {
    Answer::Unavailable { why, unknown: false }
}
