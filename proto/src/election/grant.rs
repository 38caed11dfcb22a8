//! A grant: one voter's signed word that it gave its vote of one term to one candidate.
//!
//! **Invariant.** It is signed only after that vote is durable, so a voter never signs two candidates of one
//! term, not even across a crash.

use super::LogPosition;
use crate::id::NodeId;
use crate::limits::GRANT_BYTES_MAX;
use crate::sign::Statement;
use serde::{Deserialize, Serialize};

/// One vote, given. The mesh is bound by the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Grant {
    /// The term of the vote.
    pub term: u64,
    /// Who got it.
    pub candidate: NodeId,
    /// Where the candidate's log ended.
    pub last: Option<LogPosition>,
    /// The log index of the voter's membership: a candidate with a log as new as the voter's has it, too.
    pub membership: Option<u64>,
    /// Who gave it; the key that signed has to be his.
    pub voter: NodeId,
}

impl Statement for Grant {
    const CONTEXT: &'static str = "stead vote grant v1";
    const BYTES_MAX: usize = GRANT_BYTES_MAX;
}
