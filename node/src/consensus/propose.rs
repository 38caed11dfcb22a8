//! Commands from this node into the log.
//!
//! **Invariant.** An error other than [`ProposeError::Timeout`] and [`ProposeError::Stopped`] means that
//! the command is not, and will never be, in the log.

use super::Consensus;
use super::flusher::Disk;
use super::types::Command;
use crate::storage::Space;
use openraft::error::{ClientWriteError, RaftError};
use std::time::Duration;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;

/// Proposals under way at once.
pub(super) const PROPOSALS_MAX: usize = 64;
/// Entries that may wait for a majority; a leader that was cut off must not collect more.
const UNCOMMITTED_MAX: u64 = 1_024;

/// Why a command was not (known to be) committed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ProposeError {
    /// Another node leads, or nobody does.
    #[error("this node does not lead; {}", leader.map_or("nobody is known to".into(), |it| format!("#{it} does")))]
    NotLeader {
        /// Who does, as far as known.
        leader: Option<u64>,
    },
    /// **Unknown**: it may be committed later, or never. Look at the state before trying again.
    #[error("no majority within the deadline: whether it is committed is unknown")]
    Timeout,
    /// Too many proposals wait already.
    #[error("too many proposals wait for a majority: try again later")]
    Busy,
    /// There is no room for it.
    #[error("the disk is full: free some space and try again")]
    DiskFull,
    /// Over the limit of one command.
    #[error("{bytes} bytes, where a command has at most {COMMAND_FRAME_BYTES_MAX}")]
    TooLong {
        /// Its length.
        bytes: usize,
    },
    /// **Unknown**, as with a timeout: consensus has ended on this node.
    #[error("consensus has ended on this node: restart the agent")]
    Stopped,
}

impl Consensus {
    /// Proposes a command and waits until it is committed and applied here: its index and its outcome.
    ///
    /// # Errors
    /// [`ProposeError`]; after a timeout the outcome is unknown.
    pub async fn propose(
        &self,
        command: Vec<u8>,
        deadline: Duration,
    ) -> Result<(u64, Vec<u8>), ProposeError> {
        if command.len() > COMMAND_FRAME_BYTES_MAX {
            return Err(ProposeError::TooLong { bytes: command.len() });
        }
        self.check_disk(command.len())?;
        self.check_backlog()?;
        let _permit = self.proposals.try_acquire().map_err(|_| ProposeError::Busy)?;
        // While a change of members finds its place, nothing else gets one.
        let begun = tokio::time::Instant::now();
        let order = tokio::time::timeout(deadline, self.order.read()).await;
        let _order = order.map_err(|_| ProposeError::Busy)?;
        let write = self.raft.client_write(Command(command));
        match tokio::time::timeout(deadline.saturating_sub(begun.elapsed()), write).await {
            Err(_) => Err(ProposeError::Timeout),
            Ok(Ok(done)) => Ok((done.log_id.index, done.data.0)),
            Ok(Err(RaftError::APIError(ClientWriteError::ForwardToLeader(to)))) => {
                Err(ProposeError::NotLeader {
                    leader: to.leader_id.filter(|leader| ![self.me, super::NOBODY].contains(leader)),
                })
            }
            Ok(Err(
                RaftError::APIError(ClientWriteError::ChangeMembershipError(_)) | RaftError::Fatal(_),
            )) => Err(ProposeError::Stopped),
        }
    }

    fn check_disk(&self, bytes: usize) -> Result<(), ProposeError> {
        match *self.source.disk.borrow() {
            Disk::Failed => return Err(ProposeError::Stopped),
            Disk::Full => return Err(ProposeError::DiskFull),
            Disk::Ok => {}
        }
        match self.store.space(u64::try_from(bytes).unwrap_or(u64::MAX)) {
            Space::Ok => Ok(()),
            Space::Full => {
                self.flusher.tend();
                Err(ProposeError::DiskFull)
            }
        }
    }

    fn check_backlog(&self) -> Result<(), ProposeError> {
        let metrics = self.source.metrics.borrow();
        let applied = metrics.last_applied.map_or(0, |id| id.index);
        let waiting = metrics.last_log_index.unwrap_or(0).saturating_sub(applied);
        if waiting < UNCOMMITTED_MAX { Ok(()) } else { Err(ProposeError::Busy) }
    }
}
