//! What nodes say to each other about a lease, in datagrams: lost, late, doubled and out of order.
//!
//! **Invariant.** No message carries a reading of a clock that anybody but its author looks at: `seq` is
//! opaque to the voter, which only gives it back. The sender is proven by TLS and not part of a message.

use crate::id::NodeId;
use crate::plan::Epoch;
use serde::{Deserialize, Serialize};

/// A message about one endpoint's lease.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Message {
    /// "Promise me to agree to nobody else." Also tells nodes without a vote who holds.
    Ask {
        /// Under this epoch, whose seat is the sender's.
        epoch: Epoch,
        /// The configuration that the sender applied.
        config_index: u64,
        /// Given back in the answer.
        seq: u64,
    },
    /// What a voter says to an [`Message::Ask`].
    Answer {
        /// The asked one.
        epoch: Epoch,
        /// The configuration that the voter applied.
        config_index: u64,
        /// Of the ask.
        seq: u64,
        /// Yes or no.
        verdict: Verdict,
    },
    /// "My gate is closed; I shall never use this epoch nor an earlier one again."
    Release {
        /// The last epoch that the sender asked for.
        epoch: Epoch,
        /// Who shall claim next; others wait a little.
        next: Option<NodeId>,
    },
}

/// A voter's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Verdict {
    /// It will agree to nobody else for as long as the asker's lease can last.
    Agreed,
    /// It will not.
    Refused {
        /// The highest epoch that this voter is done with; a new claim has to be above.
        highest: Epoch,
        /// When to ask again, in ms from now.
        retry_after_ms: u32,
        /// Whom it has promised to.
        promised_to: Option<NodeId>,
    },
}
