//! How a command ends: the exit codes, and what is said when it could not be carried out.
//!
//! **Invariant.** The codes are a promise to scripts; [`CODES`] is their documentation, shown in `--help` and
//! in the manual page.

use crate::document::Problem;
use std::process::ExitCode;
use stead_node::agent::AgentError;

/// The exit codes, for people.
pub const CODES: &str = "\
Exit codes:
  0  done; status: all is well; doctor: nothing to do
  1  could not be done, or was refused: the message says why
  2  bad input or usage; nothing was changed
  3  status: degraded; doctor: something to do; other questions: no majority agrees; move, drain: committed, not
     yet carried out
  4  unknown: the order may or may not be carried out; look before trying again
  5  agent: the uplink has appeared, or came back as another interface; start the agent again at once";

/// How a command ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Done.
    Ok,
    /// Could not be done.
    Failed,
    /// Bad input or usage; nothing was changed.
    Input,
    /// The mesh is degraded, has no quorum, has something to be done to it, or has not carried out yet what it committed.
    Degraded,
    /// An order may or may not be carried out.
    Unknown,
    /// The agent has to be started again.
    Again,
}

impl Exit {
    /// The number for it.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Ok => 0,
            Self::Failed => 1,
            Self::Input => 2,
            Self::Degraded => 3,
            Self::Unknown => 4,
            Self::Again => 5,
        }
    }
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit.code())
    }
}

/// Why a command was not carried out, told so that the operator knows what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// Could not be done.
    #[error("{0}")]
    Failed(String),
    /// Files that say what they must not; all of it.
    #[error("{}", lines(.0))]
    Problems(Vec<Problem>),
    /// Arguments that make no sense.
    #[error("{0}")]
    Usage(String),
    /// Nobody, or no majority, answered.
    #[error("{0}")]
    NoQuorum(String),
    /// Nobody knows whether it was done.
    #[error("{0}")]
    Unknown(String),
    /// Nothing failed, but the agent has to be started again.
    #[error("{0}")]
    Again(String),
    /// Whoever read our output has gone: nothing is left to say.
    #[error("the output was closed")]
    Closed,
}

impl Failure {
    /// The exit code for it.
    #[must_use]
    pub const fn exit(&self) -> Exit {
        match self {
            Self::Failed(_) => Exit::Failed,
            Self::Problems(_) | Self::Usage(_) => Exit::Input,
            Self::NoQuorum(_) => Exit::Degraded,
            Self::Unknown(_) => Exit::Unknown,
            Self::Again(_) => Exit::Again,
            Self::Closed => Exit::Ok,
        }
    }

    /// The problems in files, if it is about them.
    #[must_use]
    pub fn problems(&self) -> &[Problem] {
        match self {
            Self::Problems(problems) => problems,
            Self::Failed(_)
            | Self::Usage(_)
            | Self::NoQuorum(_)
            | Self::Unknown(_)
            | Self::Again(_)
            | Self::Closed => &[],
        }
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let text = error.to_string();
        if matches!(error, AgentError::UplinkAppeared { .. }) {
            Self::Again(text)
        } else {
            Self::Failed(text)
        }
    }
}

fn lines(problems: &[Problem]) -> String {
    problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_exit_code_is_documented() {
        for exit in [Exit::Ok, Exit::Failed, Exit::Input, Exit::Degraded, Exit::Unknown, Exit::Again] {
            assert!(CODES.contains(&format!("\n  {}  ", exit.code())), "{exit:?}");
        }
    }
}
