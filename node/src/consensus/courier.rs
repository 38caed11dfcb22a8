//! From openraft to the peers: one frame, one answer, one deadline.
//!
//! **Invariant.** openraft sees no answer that did not pass [`gate::answer`], and no vote without a
//! grant that its voter signed. A peer is shown the certificate of an election before the first message of
//! its leader, and again after each failure. What fails for want of a
//! connection is `Unreachable` and is retried after a pause; a late answer is `Timeout`.

use super::contact::{Contact, now};
use super::elections::Elections;
use super::gate::{self, GateError, Sent};
use super::types::TypeConfig;
use super::wire::{Answer, AppendAnswer, Ballot, EntryId, Frame, LogEntry, SnapshotImage};
use openraft::error::{
    Fatal, PayloadTooLarge, RPCError, RaftError, ReplicationClosed, StreamingError, Timeout, Unreachable,
};
use openraft::network::{Backoff, RPCOption, RPCTypes, RaftNetwork, RaftNetworkFactory};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, VoteRequest, VoteResponse,
};
use openraft::{EmptyNode, LogId, OptionalSend, Snapshot, Vote};
use std::future::Future;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use stead_proto::codec::{self, CodecError};
use stead_proto::limits::{RAFT_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};

/// Pauses after an unreachable peer.
const PAUSES_MS: [u64; 5] = [20, 40, 80, 160, 200];

/// Carries frames to other nodes.
pub trait Courier: Send + Sync + 'static {
    /// Brings `frame` to node `to` and returns its answer, within `deadline`. The frame has at most
    /// [`SNAPSHOT_BYTES_MAX`] bytes, and all but snapshots at most [`RAFT_FRAME_BYTES_MAX`].
    fn call(
        &self,
        to: u64,
        frame: Vec<u8>,
        deadline: Duration,
    ) -> impl Future<Output = Result<Vec<u8>, CourierError>> + Send;
}

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CourierError {
    /// No connection, or the peer refused.
    #[error("unreachable: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("no answer in time")]
    Timeout,
}

/// Why an answer could not be used.
#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error(transparent)]
    Courier(#[from] CourierError),
    #[error("frame: {0}")]
    Codec(#[from] CodecError),
    #[error("answer refused: {0}")]
    Gate(#[from] GateError),
}

/// The highest vote that the agent admitted, without proof: a stranded voter's.
#[derive(Debug, Default)]
pub(super) struct Admitted(Mutex<Option<Ballot>>);

impl Admitted {
    fn is(&self, ballot: Ballot) -> bool {
        let admitted = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        admitted.is_some_and(|admitted| (admitted.term, admitted.node) == (ballot.term, ballot.node))
    }

    pub(super) fn raise(&self, ballot: Ballot) {
        let mut admitted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        *admitted = Some(ballot).max(*admitted);
    }
}

/// All peers.
pub(super) struct Peers<C> {
    pub(super) me: u64,
    pub(super) courier: Arc<C>,
    pub(super) contact: Arc<Contact>,
    pub(super) admitted: Arc<Admitted>,
    pub(super) elections: Arc<Elections>,
}

/// One peer.
pub(super) struct Peer<C> {
    me: u64,
    to: u64,
    courier: Arc<C>,
    contact: Arc<Contact>,
    admitted: Arc<Admitted>,
    elections: Arc<Elections>,
    /// Whose election this peer was shown, and has believed.
    shown: Option<Ballot>,
}

impl<C: Courier> RaftNetworkFactory<TypeConfig> for Peers<C> {
    type Network = Peer<C>;

    async fn new_client(&mut self, target: u64, _node: &EmptyNode) -> Peer<C> {
        Peer {
            me: self.me,
            to: target,
            courier: self.courier.clone(),
            contact: self.contact.clone(),
            admitted: self.admitted.clone(),
            elections: self.elections.clone(),
            shown: None,
        }
    }
}

impl<C: Courier> Peer<C> {
    async fn ask(&self, frame: Vec<u8>, sent: Sent, deadline: Duration) -> Result<Answer, Failure> {
        let answer = tokio::time::timeout(deadline, self.courier.call(self.to, frame, deadline)).await;
        let answer = codec::decode(&answer.map_err(|_| CourierError::Timeout)??, RAFT_FRAME_BYTES_MAX)?;
        let proven = |ballot| self.admitted.is(ballot) || self.elections.is_elected(ballot);
        gate::answer(sent, proven, &answer)
            .inspect_err(|error| tracing::debug!(peer = self.to, %error, "refused an answer"))?;
        Ok(answer)
    }

    /// Sends a leader's message, after the proof that it leads if the peer may not have it.
    async fn lead(
        &mut self,
        ballot: Ballot,
        frame: Vec<u8>,
        sent: Sent,
        deadline: Duration,
    ) -> Result<Answer, Failure> {
        if self.shown.take() != Some(ballot) {
            let unelected = GateError::Unelected { term: ballot.term, leader: ballot.node };
            let certificate = self.elections.certificate(ballot).ok_or(unelected)?;
            let proof = codec::encode(&Frame::Elected { ballot, certificate }, RAFT_FRAME_BYTES_MAX)?;
            self.ask(proof, Sent::Elected, deadline).await?;
        }
        let answer = self.ask(frame, sent, deadline).await?;
        self.shown = Some(ballot);
        Ok(answer)
    }

    fn timeout(&self, action: RPCTypes, timeout: Duration) -> Timeout<u64> {
        Timeout { action, id: self.me, target: self.to, timeout }
    }

    fn rpc_error(
        &self,
        action: RPCTypes,
        deadline: Duration,
        failure: &Failure,
    ) -> RPCError<u64, EmptyNode, RaftError<u64>> {
        match failure {
            Failure::Courier(CourierError::Timeout) => self.timeout(action, deadline).into(),
            Failure::Courier(CourierError::Unreachable(_)) | Failure::Codec(_) | Failure::Gate(_) => {
                Unreachable::new(failure).into()
            }
        }
    }
}

impl<C: Courier> RaftNetwork<TypeConfig> for Peer<C> {
    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        let (deadline, action) = (option.hard_ttl(), RPCTypes::AppendEntries);
        let ballot = Ballot::from(&rpc.vote);
        let prev = rpc.prev_log_id.as_ref().map(EntryId::from);
        let entries: Vec<LogEntry> = rpc.entries.into_iter().map(LogEntry::from).collect();
        let count = u64::try_from(entries.len()).unwrap_or(u64::MAX);
        let sent = Sent::Append { ballot, prev, last: entries.last().map(|entry| entry.id).or(prev) };
        let commit = rpc.leader_commit.as_ref().map(EntryId::from);
        let frame = Frame::Append { ballot, prev, entries, commit };
        let frame = match codec::encode(&frame, RAFT_FRAME_BYTES_MAX) {
            Ok(frame) => frame,
            Err(_) if count > 1 => return Err(PayloadTooLarge::new_entries_hint(count / 2).into()),
            Err(error) => return Err(self.rpc_error(action, deadline, &error.into())),
        };
        let sent_at = now();
        let answer = self.lead(ballot, frame, sent, deadline).await;
        let answer = match answer.map_err(|failure| self.rpc_error(action, deadline, &failure))? {
            Answer::Append(answer) => answer,
            Answer::Vote { .. } | Answer::Snapshot { .. } | Answer::Elected | Answer::Vouch { .. } => {
                return Err(self.rpc_error(action, deadline, &GateError::Mismatch.into()));
            }
        };
        if !matches!(answer, AppendAnswer::Higher(_)) {
            self.contact.record(self.to, ballot, sent_at);
        }
        Ok(answer.into())
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<u64>,
        option: RPCOption,
    ) -> Result<VoteResponse<u64>, RPCError<u64, EmptyNode, RaftError<u64>>> {
        let (deadline, action) = (option.hard_ttl(), RPCTypes::Vote);
        let ballot = Ballot::from(&rpc.vote);
        let mine = rpc.last_log_id.as_ref().map(EntryId::from);
        self.elections.stand(ballot, mine);
        let frame = Frame::Vote { ballot, last: mine };
        let frame = codec::encode(&frame, RAFT_FRAME_BYTES_MAX)
            .map_err(|error| self.rpc_error(action, deadline, &error.into()))?;
        match self.ask(frame, Sent::Vote(ballot), deadline).await {
            Ok(Answer::Vote { ballot, granted, last, grant }) => {
                if granted {
                    let collected = self.elections.collect(self.to, ballot, mine, grant);
                    collected.map_err(|error| self.rpc_error(action, deadline, &error.into()))?;
                }
                Ok(VoteResponse::new(Vote::from(ballot), last.map(LogId::from), granted))
            }
            Ok(Answer::Append(_) | Answer::Snapshot { .. } | Answer::Elected | Answer::Vouch { .. }) => {
                Err(self.rpc_error(action, deadline, &GateError::Mismatch.into()))
            }
            Err(failure) => Err(self.rpc_error(action, deadline, &failure)),
        }
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote<u64>,
        snapshot: Snapshot<TypeConfig>,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<u64>, StreamingError<TypeConfig, Fatal<u64>>> {
        let deadline = option.hard_ttl();
        let ballot = Ballot::from(&vote);
        let unusable = |failure: Failure| StreamingError::Unreachable(Unreachable::new(&failure));
        let image: SnapshotImage =
            codec::decode(&snapshot.snapshot, SNAPSHOT_BYTES_MAX).map_err(|error| unusable(error.into()))?;
        let frame = Frame::Snapshot { ballot, name: snapshot.meta.snapshot_id, image };
        let frame = codec::encode(&frame, SNAPSHOT_BYTES_MAX).map_err(|error| unusable(error.into()))?;
        let answer = tokio::select! {
            answer = self.lead(ballot, frame, Sent::Snapshot(ballot), deadline) => answer,
            closed = cancel => return Err(closed.into()),
        };
        match answer {
            Ok(Answer::Snapshot { ballot }) => Ok(SnapshotResponse::new(ballot.into())),
            Ok(Answer::Append(_) | Answer::Vote { .. } | Answer::Elected | Answer::Vouch { .. }) => {
                Err(unusable(GateError::Mismatch.into()))
            }
            Err(Failure::Courier(CourierError::Timeout)) => {
                Err(self.timeout(RPCTypes::InstallSnapshot, deadline).into())
            }
            Err(failure) => Err(unusable(failure)),
        }
    }

    fn backoff(&self) -> Backoff {
        let last = PAUSES_MS.last().copied();
        Backoff::new(PAUSES_MS.into_iter().chain(last.into_iter().cycle()).map(Duration::from_millis))
    }
}

impl From<AppendAnswer> for AppendEntriesResponse<u64> {
    fn from(answer: AppendAnswer) -> Self {
        match answer {
            AppendAnswer::Success => Self::Success,
            AppendAnswer::UpTo(id) => Self::PartialSuccess(id.map(LogId::from)),
            AppendAnswer::Conflict => Self::Conflict,
            AppendAnswer::Higher(ballot) => Self::HigherVote(ballot.into()),
        }
    }
}

impl From<AppendEntriesResponse<u64>> for AppendAnswer {
    fn from(response: AppendEntriesResponse<u64>) -> Self {
        match response {
            AppendEntriesResponse::Success => Self::Success,
            AppendEntriesResponse::PartialSuccess(id) => Self::UpTo(id.as_ref().map(EntryId::from)),
            AppendEntriesResponse::Conflict => Self::Conflict,
            AppendEntriesResponse::HigherVote(vote) => Self::Higher(Ballot::from(&vote)),
        }
    }
}
