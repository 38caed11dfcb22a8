//! The core's leave for the licence to go on: a moment that the lookout's thread compares with its clock.
//!
//! **Invariant.** Only a core that handles events moves it. A lookout whose core hangs renews nothing, and the
//! kernel falls back to the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use stead_proto::time::{Instant, Span};

/// How long one leave lasts: several of the events that bring it may be late.
const LEAVE: Span = Span::from_ms(2_000);

/// Until when the licence may be renewed.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave(Arc<AtomicU64>);

impl Leave {
    /// The core lives at `now`.
    pub(super) fn give(&self, now: Instant) {
        self.0.store(now.after(LEAVE).as_ns(), Ordering::Release);
    }

    pub(super) fn lasts(&self, now: Instant) -> bool {
        now.as_ns() < self.0.load(Ordering::Acquire)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leave_ends_two_seconds_after_the_last_sign_of_life() {
        let leave = Leave::default();
        assert!(!leave.lasts(Instant::ZERO));
        leave.give(Instant::ZERO);
        assert!(leave.clone().lasts(Instant::ZERO.after(Span::from_ms(1_999))));
        assert!(!leave.lasts(Instant::ZERO.after(Span::from_ms(2_000))));
    }
}
