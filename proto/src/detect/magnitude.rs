//! D5, magnitude: D4 alarms, and more than 300 SYNs a second went unanswered over two seconds.
//!
//! This is what convicts a flood that goes through the kernel's own TCP, by `connect`.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 600 unanswered | Calm |
//! | Calm | 601 unanswered | Convict |
//! | Calm | 10000 answered | Calm |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Convict | nothing | Convict |
//! | Convict | 600 unanswered | Convict |
//! | Convict | 601 unanswered | Convict |
//! | Convict | 10000 answered | Convict |
//! | Convict | 20 quiet seconds | Calm |
//! | Convict | no sensor | Convict |
//! | Blind | nothing | Calm |
//! | Blind | 600 unanswered | Calm |
//! | Blind | 601 unanswered | Convict |
//! | Blind | 10000 answered | Calm |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** It never convicts in a tick in which D4 has no reason of its own.

use super::flow::Flow;
use super::level::{Level, Reading};
use super::window::Window;
use crate::time::Span;

/// In two seconds.
const UNANSWERED_MAX: u64 = 600;

#[derive(Clone, Debug)]
pub(super) struct Magnitude {
    sent: Window<32>,
    settled: Window<32>,
}

impl Magnitude {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(2_000));
        Self { sent: window.clone(), settled: window }
    }

    /// `outstanding` is what D4 read in the same tick.
    pub(super) fn read(&mut self, elapsed: Span, flow: Option<Flow>, outstanding: Level) -> Reading {
        let Some(Flow { sent, settled }) = flow else { return Reading::default() };
        let sum = self.sent.push(elapsed, sent).saturating_sub(self.settled.push(elapsed, settled));
        let reached = outstanding >= Level::Suspect && sum > UNANSWERED_MAX;
        Reading { level: Level::Convict.when(reached), rate: sum / 2, sum, threshold: UNANSWERED_MAX }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Detector;
    use super::super::driven::{Drive, assert_table, connects};

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("magnitude.rs"),
            Detector::Magnitude,
            &[
                Drive::quiet("nothing"),
                Drive::once("600 unanswered", connects(600, 0)),
                Drive::once("601 unanswered", connects(601, 0)),
                Drive::once("10000 answered", connects(10_000, 10_000)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }
}
