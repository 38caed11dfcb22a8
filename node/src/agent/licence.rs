//! The core's leave for the licence to go on: a moment that the lookout's thread compares with its clock.
//!
//! **Invariant.** Only a core that handles events moves it. A lookout whose core hangs renews nothing, and the
//! kernel falls back to the limit.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use stead_proto::time::{Instant, Span};

/// How long one leave lasts: several of the events that bring it may be late.
const LEAVE: Span = Span::from_ms(2_000);

/// Until when the licence may be renewed.
#[derive(Clone, Debug, Default)]
pub(super) struct Leave {
    until_ns: Arc<AtomicU64>,
    ended: Arc<AtomicBool>,
}

impl Leave {
    /// The core lives at `now`.
    pub(super) fn give(&self, now: Instant) {
        self.until_ns.store(now.after(LEAVE).as_ns(), Ordering::Release);
    }

    /// The node was cut off: never again.
    pub(super) fn end(&self) {
        self.ended.store(true, Ordering::Release);
    }

    pub(super) fn has_ended(&self) -> bool {
        self.ended.load(Ordering::Acquire)
    }

    pub(super) fn lasts(&self, now: Instant) -> bool {
        !self.has_ended() && now.as_ns() < self.until_ns.load(Ordering::Acquire)
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

    #[test]
    fn who_was_cut_off_has_no_leave_any_more() {
        let leave = Leave::default();
        leave.give(Instant::ZERO);
        leave.clone().end();
        leave.give(Instant::ZERO);
        assert!(!leave.lasts(Instant::ZERO));
    }
}
