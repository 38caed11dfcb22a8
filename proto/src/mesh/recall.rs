//! The recall at start: nothing is promised before a majority has said what it remembers of this node.
//!
//! Answers are authenticated by the session they come on, not signed, and each is taken at its word. So one
//! peer that lies can
//! - say *more* than it ever saw: this node calls itself lost and stops, at this start and at each one in which
//!   the liar is heard. Its store is not touched, and nothing is promised or voted meanwhile: one node is denied
//!   its restart, which the mesh survives as it survives any one node that is down;
//! - say *less*: this hides nothing as long as the store is whole, for then there is nothing to hide. Only
//!   together with a second fault, a store that really was set back, can it let a restored image vote again,
//!   in a mesh whose majority is this node and the liar before any honest peer is heard.
//!
//! Deliberately absent: waiting for more than a majority, or for two that say the same before a node counts as
//! lost. In a mesh of three there may be only one other, and his word must do.

use super::{Effect, Mesh, send};
use crate::id::NodeId;
use crate::limits::RECALL_EVERY;
use crate::memory::{Memory, Recall, Recalled};
use crate::message::Message;
use crate::time::Instant;
use alloc::vec::Vec;

/// How far this node has come.
#[derive(Debug)]
pub(super) enum Phase {
    /// Asks what the others remember.
    Recalling {
        /// The question.
        recall: Recall,
        /// When to ask again.
        ask_at: Instant,
    },
    /// Takes part.
    Running,
    /// Is a restored image and takes part in nothing.
    Lost,
    /// Was convicted by its peers and takes part in nothing.
    CutOff,
}

impl Mesh {
    pub(super) fn answer_recall(&self, from: NodeId, out: &mut Vec<Effect>) {
        // A restored image has forgotten what it saw of others, too.
        if !matches!(self.phase, Phase::Lost) {
            send(out, from, &Message::Recalled(self.memories.of(from)));
        }
    }

    pub(super) fn take_recalled(&mut self, from: NodeId, memory: Option<Memory>) {
        if let Phase::Recalling { recall, ask_at } = &mut self.phase {
            recall.answer(from, memory);
            *ask_at = Instant::ZERO;
        }
    }

    /// A peer is there that was not: what was asked before never arrived, and it may wait for a word of this node.
    pub(super) fn greet(&mut self) {
        if let Phase::Recalling { ask_at, .. } = &mut self.phase {
            *ask_at = Instant::ZERO;
        }
        self.reporter.hurry();
    }

    pub(super) fn recall_if_due(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let Phase::Recalling { recall, ask_at } = &mut self.phase else { return };
        if now < *ask_at {
            return;
        }
        let voters = &self.state.config.voters;
        match recall.judge(self.me, voters) {
            Recalled::Waiting => {
                for peer in recall.missing(self.me, voters) {
                    send(out, peer, &Message::Recall);
                }
                *ask_at = now.after(RECALL_EVERY);
            }
            Recalled::Complete => {
                self.phase = Phase::Running;
                out.push(Effect::Join);
                self.adopt_tenures(now, out);
            }
            Recalled::Lost { seen } => {
                self.phase = Phase::Lost;
                out.push(Effect::Lost { seen });
            }
        }
    }

    /// What keeps this node from taking part, as a sentence.
    pub(super) fn waiting(&self) -> Option<alloc::string::String> {
        match &self.phase {
            Phase::Running => None,
            Phase::Recalling { recall, .. } => {
                let missing: Vec<_> = recall
                    .missing(self.me, &self.state.config.voters)
                    .map(|node| self.state.name_of(node))
                    .collect();
                Some(alloc::format!(
                    "asks what the others remember of it; not answered yet: {}",
                    missing.join(", ")
                ))
            }
            Phase::CutOff => Some("was cut off by its peers: see `stead cases` on one of them".into()),
            Phase::Lost => Some("is older than what the others saw of it (a restored image?)".into()),
        }
    }
}
