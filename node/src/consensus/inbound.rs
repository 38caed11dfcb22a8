//! Frames from peers into openraft.
//!
//! **Invariant.** Every frame passes the gate first; entries and snapshots are taken only if there is room
//! for them; and a leader in fresh contact with a majority is not deposed by a candidate.

use super::Consensus;
use super::gate::{self, GateError};
use super::members::Lists;
use super::types::TypeConfig;
use super::wire::{Answer, AppendAnswer, Ballot, EntryId, Frame, LogEntry, SnapshotImage};
use crate::storage::Space;
use openraft::raft::{AppendEntriesRequest, VoteRequest};
use openraft::{EffectiveMembership, EmptyNode, Entry, LogId, Snapshot, Vote};
use std::collections::BTreeSet;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;
use stead_proto::codec::{self, CodecError};
use stead_proto::election::{CertificateError, ElectionCertificate};
use stead_proto::id::NodeId;
use stead_proto::limits::{RAFT_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use stead_proto::time::Span;

/// Requests under way at once: each peer has one or two.
pub(super) const REQUESTS_MAX: usize = 64;

/// Why a frame got no answer.
#[derive(Debug, thiserror::Error)]
pub enum HandleError {
    /// Not a frame of ours.
    #[error("unreadable frame: {0}")]
    Unreadable(#[from] CodecError),
    /// The sender is broken or hostile.
    #[error("refused: {0}")]
    Gate(#[from] GateError),
    /// An election certificate that proves nothing.
    #[error("refused an election certificate: {0}")]
    Certificate(#[from] CertificateError),
    /// A snapshot that is no state.
    #[error("refused a snapshot: {0}")]
    Snapshot(String),
    /// A snapshot that nobody else has like that.
    #[error(
        "{given} of the {needed} nodes that it takes have the same image of entry {index} as this snapshot"
    )]
    Unvouched {
        /// Which checkpoint.
        index: u64,
        /// How many have it, with the leader.
        given: usize,
        /// How many it takes.
        needed: usize,
    },
    /// No room for it here; the leader tries again by itself.
    #[error("the disk is full")]
    DiskFull,
    /// Too many requests wait.
    #[error("too many requests at once")]
    Busy,
    /// The disk is too slow.
    #[error("not done in time")]
    Timeout,
    /// Consensus has ended on this node.
    #[error("consensus has ended on this node")]
    Stopped,
}

impl Consensus {
    /// Answers a frame that arrived on an authenticated connection from node `from`.
    ///
    /// # Errors
    /// [`HandleError`]: tell the peer nothing but that it failed; [`HandleError::Gate`],
    /// [`HandleError::Certificate`] and [`HandleError::Unreadable`] are evidence against it.
    pub async fn handle(&self, from: u64, frame: &[u8]) -> Result<Vec<u8>, HandleError> {
        let _permit = self.requests.try_acquire().map_err(|_| HandleError::Busy)?;
        let frame_decoded: Frame = codec::decode(frame, SNAPSHOT_BYTES_MAX)?;
        let is_snapshot = matches!(frame_decoded, Frame::Snapshot { .. });
        if !is_snapshot && frame.len() > RAFT_FRAME_BYTES_MAX {
            return Err(CodecError::TooLong { bytes: frame.len(), bytes_max: RAFT_FRAME_BYTES_MAX }.into());
        }
        let leads = matches!(frame_decoded, Frame::Append { .. } | Frame::Snapshot { .. });
        if leads && self.demoted.read().unwrap_or_else(PoisonError::into_inner).contains(&from) {
            return Err(GateError::Demoted { leader: from }.into());
        }
        let ours = gate::counted_from(self.source.ballot(), self.term_floor.load(Ordering::Relaxed));
        gate::request(from, ours, |ballot| self.elections.is_elected(ballot), &frame_decoded)
            .inspect_err(|error| tracing::warn!(peer = from, %error, "refused a message"))?;
        let deadline = if is_snapshot { super::SNAPSHOT_DEADLINE } else { self.timing.election_timeout };
        let answer = tokio::time::timeout(deadline, self.pass(frame_decoded, frame.len()));
        let answer = answer.await.map_err(|_| HandleError::Timeout)??;
        Ok(codec::encode(&answer, RAFT_FRAME_BYTES_MAX)?)
    }

    async fn pass(&self, frame: Frame, bytes: usize) -> Result<Answer, HandleError> {
        match frame {
            Frame::Append { ballot, prev, entries, commit } => {
                self.append(ballot, prev, entries, commit, bytes).await
            }
            Frame::Vote { ballot, last } => self.vote(ballot, last).await,
            Frame::Snapshot { ballot, name, image } => self.snapshot(ballot, name, image, bytes).await,
            Frame::Elected { ballot, certificate } => self.elected(ballot, certificate).await,
            Frame::Vouch { index } => Ok(self.vouch(index)),
        }
    }

    async fn append(
        &self,
        ballot: Ballot,
        prev: Option<EntryId>,
        entries: Vec<LogEntry>,
        commit: Option<EntryId>,
        bytes: usize,
    ) -> Result<Answer, HandleError> {
        // What was judged has to be what openraft appends next.
        let _turn = self.appending.lock().await;
        let lists = self.check_members(prev, &entries).await?;
        let full = !entries.is_empty() && self.is_full(bytes);
        let refuse = full || lists == Lists::Unknown;
        // A follower without room still follows: it takes the message for a heartbeat.
        let (entries, commit) = if refuse { (Vec::new(), None) } else { (entries, commit) };
        let request = AppendEntriesRequest::<TypeConfig> {
            vote: Vote::from(ballot),
            prev_log_id: prev.map(LogId::from),
            entries: entries.into_iter().map(Entry::from).collect(),
            leader_commit: commit.map(LogId::from),
        };
        let response = self.raft.append_entries(request).await.map_err(|_| HandleError::Stopped)?;
        let answer = AppendAnswer::from(response);
        // What a leader has to know to send what is missing before.
        let is_told = matches!(answer, AppendAnswer::Conflict | AppendAnswer::Higher(_));
        match (full, refuse) {
            (true, _) => Err(HandleError::DiskFull),
            (false, true) if !is_told => Err(HandleError::Busy),
            (false, _) => Ok(Answer::Append(answer)),
        }
    }

    async fn vote(&self, ballot: Ballot, last: Option<EntryId>) -> Result<Answer, HandleError> {
        let patience = u64::try_from(self.timing.election_timeout.as_millis()).unwrap_or(u64::MAX);
        if self.is_fresh_leader(Span::from_ms(patience)) {
            let last = self.source.log.last_durable();
            return Ok(Answer::Vote { ballot: self.source.ballot(), granted: false, last, grant: None });
        }
        let theirs = last;
        let request = VoteRequest::new(Vote::from(ballot), last.map(LogId::from));
        let response = self.raft.vote(request).await.map_err(|_| HandleError::Stopped)?;
        let last = response.last_log_id.as_ref().map(EntryId::from);
        // openraft answers after the vote is saved.
        let (now, granted) = (Ballot::from(&response.vote), response.vote_granted);
        let grant = if granted { self.elections.grant(now, theirs) } else { None };
        Ok(Answer::Vote { ballot: now, granted, last, grant })
    }

    async fn elected(&self, ballot: Ballot, certificate: ElectionCertificate) -> Result<Answer, HandleError> {
        if !self.elections.is_elected(ballot) {
            let (memberships, newest) = self.memberships().await?;
            let electorate = self.elections.electorate(memberships, newest);
            self.elections.believe(ballot, certificate, &electorate).inspect_err(|error| {
                let (term, leader) = (ballot.term, ballot.node);
                tracing::warn!(term, leader, %error, "refused an election certificate");
            })?;
        }
        Ok(Answer::Elected)
    }

    /// The voters that the log knows of, and where the newest of them stand in it.
    pub(super) async fn memberships(&self) -> Result<(Vec<Vec<BTreeSet<NodeId>>>, Option<u64>), HandleError> {
        let memberships = self.raft.with_raft_state(|state| {
            let known = &state.membership_state;
            let sets = |of: &EffectiveMembership<u64, EmptyNode>| {
                let sets = of.membership().get_joint_config().iter();
                sets.map(|set| set.iter().copied().map(NodeId).collect()).collect()
            };
            let newest = known.effective().log_id().as_ref().map(|id| id.index);
            // The newest may not be committed: then a leader may have been elected without it.
            (vec![sets(known.committed()), sets(known.effective())], newest)
        });
        memberships.await.map_err(|_| HandleError::Stopped)
    }

    async fn snapshot(
        &self,
        ballot: Ballot,
        name: String,
        image: SnapshotImage,
        bytes: usize,
    ) -> Result<Answer, HandleError> {
        if self.is_full(bytes) {
            return Err(HandleError::DiskFull);
        }
        let index = image.last.map_or(0, |id| id.index);
        self.replica.lock().check(index, &image.state.0).map_err(HandleError::Snapshot)?;
        let bytes = codec::encode(&image, SNAPSHOT_BYTES_MAX)?;
        self.check_vouchers(ballot.node, index, &bytes)
            .await
            .inspect_err(|error| tracing::warn!(leader = ballot.node, %error, "no snapshot is taken"))?;
        let snapshot = Snapshot { meta: image.meta(name), snapshot: Box::new(bytes) };
        let response = self.raft.install_full_snapshot(ballot.into(), snapshot).await;
        let response = response.map_err(|_| HandleError::Stopped)?;
        Ok(Answer::Snapshot { ballot: Ballot::from(&response.vote) })
    }

    fn is_full(&self, bytes: usize) -> bool {
        let full = self.store.space(u64::try_from(bytes).unwrap_or(u64::MAX)) == Space::Full;
        if full {
            self.flusher.tend();
        }
        full
    }
}
