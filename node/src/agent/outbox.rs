//! The way from the owner to the worker, which may be slow: nothing waits for it, and nothing decisive gets lost.
//!
//! **Invariant.** The owner never blocks. What the core wants only once (to join, to end, a holding page, what it
//! saw of the others) arrives in the end, in its newest form; what it asks for again by itself may be dropped, and
//! a dropped proposal is told to the core. Bounded: one waiting effect for each thing that can be wanted.

use std::collections::VecDeque;
use std::time::Duration;

use stead_proto::mesh::Effect;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

/// How soon a full queue is tried again.
pub(super) const RETRY_AFTER: Duration = Duration::from_millis(20);

/// The worker's queue, and what found no room in it.
#[derive(Debug)]
pub(super) struct Outbox {
    queue: Sender<Effect>,
    waiting: VecDeque<Effect>,
}

impl Outbox {
    pub(super) const fn new(queue: Sender<Effect>) -> Self {
        Self { queue, waiting: VecDeque::new() }
    }

    /// Whether [`Outbox::retry`] is wanted.
    pub(super) fn waits(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// Hands an effect over, now or later; the ticket of a proposal that will never arrive.
    pub(super) fn give(&mut self, effect: Effect) -> Option<u64> {
        self.retry();
        let effect = match self.waits() {
            false => match self.queue.try_send(effect) {
                Ok(()) | Err(TrySendError::Closed(_)) => return None,
                Err(TrySendError::Full(effect)) => effect,
            },
            true => effect,
        };
        tracing::warn!("the worker does not keep up");
        match effect {
            Effect::Propose { ticket, .. } => return Some(ticket),
            // A look is wanted again by itself.
            Effect::License
            | Effect::Look(_)
            | Effect::Campaign
            | Effect::Follow { .. }
            | Effect::Admit { .. } => {}
            decisive @ (Effect::Join
            | Effect::Lost { .. }
            | Effect::HoldingPage { .. }
            | Effect::KeepMemories(_)
            | Effect::KeepConvictions(_)
            | Effect::CutOff(_)
            | Effect::Demoted(_)
            | Effect::Fence(_)
            | Effect::Quarantine
            | Effect::Remember(_)
            | Effect::Send { .. }
            | Effect::Report(_)
            | Effect::Exhibit(_)
            | Effect::Serve { .. }
            | Effect::Extend { .. }
            | Effect::Cease { .. }) => {
                self.waiting.retain(|older| !replaces(&decisive, older));
                self.waiting.push_back(decisive);
            }
        }
        None
    }

    /// Tries again, in order.
    pub(super) fn retry(&mut self) {
        while let Some(effect) = self.waiting.pop_front() {
            match self.queue.try_send(effect) {
                Ok(()) | Err(TrySendError::Closed(_)) => {}
                Err(TrySendError::Full(effect)) => return self.waiting.push_front(effect),
            }
        }
    }
}

/// Whether an older effect says nothing any more once this one is known.
fn replaces(newer: &Effect, older: &Effect) -> bool {
    match (newer, older) {
        (Effect::HoldingPage { endpoint: newer, .. }, Effect::HoldingPage { endpoint: older, .. }) => {
            newer == older
        }
        _ => std::mem::discriminant(newer) == std::mem::discriminant(older),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::memory::Memories;
    use tokio::sync::mpsc::channel;

    fn propose(ticket: u64) -> Effect {
        let command = stead_proto::command::Command::Note {
            matter: stead_proto::incident::Matter::Voters,
            text: String::new(),
            closes: true,
            unix_ms: 0,
        };
        Effect::Propose { ticket, command: Box::new(command) }
    }

    #[test]
    fn a_full_queue_loses_no_decision_and_tells_of_each_lost_proposal() {
        let (sender, mut receiver) = channel(1);
        let mut outbox = Outbox::new(sender);
        assert_eq!(outbox.give(propose(1)), None);
        assert_eq!(outbox.give(propose(2)), Some(2));
        for _ in 0..1_000 {
            for effect in [Effect::KeepMemories(Memories::default()), Effect::Join, Effect::Campaign] {
                assert_eq!(outbox.give(effect), None);
            }
        }
        assert_eq!(outbox.waiting.len(), 2);
        assert_eq!(outbox.give(propose(3)), Some(3), "it must not overtake what waits");

        let mut arrived = Vec::new();
        while let Ok(effect) = receiver.try_recv() {
            arrived.push(effect);
            outbox.retry();
        }
        assert!(
            matches!(arrived[..], [Effect::Propose { ticket: 1, .. }, Effect::KeepMemories(_), Effect::Join]),
            "{arrived:?}"
        );
        assert!(!outbox.waits());
    }
}
