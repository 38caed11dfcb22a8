//! The fence: what the mesh may have done to a server that it has cut off, by a command of the operator's.
//!
//! An isolated node is refused by all others, but its host still runs: it may answer for the endpoint's address, or flood
//! whom it likes. Only whoever runs the machine below it can stop that. The policy is the operator's *warrant* for it, signed like
//! all of the site: which command, how many nodes, until when.
//!
//! **Invariant.** Only what is isolated is fenced; each attempt has an epoch of its own, the log index of its order; one
//! node at a time carries it out, chosen by rank and not by the leader.

use crate::id::NodeId;
use crate::limits::{COMMAND_BYTES_MAX, COMMAND_WORDS_MAX};
use crate::site::Complaint;
use alloc::{format, string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// How many nodes try before it is left to an operator.
pub const ATTEMPTS_MAX: u32 = 5;
/// How long an attempt has before another node tries.
pub const ATTEMPT_MS: u64 = 90_000;

/// An operator's warrant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FencePolicy {
    /// The command: `COMMAND… isolate NODE ADDRESS EPOCH`. It has to be idempotent, and whoever it talks to to refuse an
    /// epoch lower than one that it has seen for that node.
    pub command: Vec<String>,
    /// How many nodes may be fenced under it.
    pub nodes_max: u8,
    /// Until when it holds, in milliseconds since 1970, by the clocks of most of the nodes.
    pub until_unix_ms: u64,
}

impl FencePolicy {
    /// What is wrong with it.
    #[must_use]
    pub fn check(&self) -> Vec<Complaint> {
        let mut complaints = Vec::new();
        let mut say =
            |key: &str, text: String| complaints.push(Complaint { key: format!("fence.{key}"), text });
        if self.command.first().is_none_or(|program| !program.starts_with('/')) {
            say("exec", "begin the command with an absolute path, such as [\"/usr/local/bin/fence\"]".into());
        }
        let bytes = self.command.iter().map(String::len).sum::<usize>();
        if bytes > COMMAND_BYTES_MAX || self.command.len() > COMMAND_WORDS_MAX {
            say(
                "exec",
                format!("keep the command below {COMMAND_BYTES_MAX} bytes and {COMMAND_WORDS_MAX} words"),
            );
        }
        if self.nodes_max == 0 {
            say("nodes", "it may fence no node at all: leave [fence] out, or write 1".into());
        }
        complaints
    }
}

/// How far the fencing of one node is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fencing {
    /// Which attempt this is, from 1 on.
    pub attempt: u32,
    /// The log index of its order: higher than that of every attempt before.
    pub epoch: u64,
    /// Who carries it out.
    pub by: NodeId,
    /// When it was ordered, by the middle one of the clocks of those who signed for it, in milliseconds since 1970.
    pub since_unix_ms: u64,
    /// What came of it, as its node signed; nothing while it runs.
    pub outcome: Option<Fenced>,
}

/// What came of one attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fenced {
    /// Whom it was about.
    pub node: NodeId,
    /// Its epoch.
    pub epoch: u64,
    /// Why it failed; nothing if the command ended well.
    pub failed: Option<String>,
}

/// Something to have done by the command.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FenceOrder {
    /// Whom it is about.
    pub node: NodeId,
    /// The epoch of the attempt.
    pub epoch: u64,
    /// The command and all its arguments.
    pub command: Vec<String>,
}
