//! D6, conservation: the uplink sends more packets than ever passed tc. Something sends beside the stack (AF_XDP,
//! a kernel module, `PACKET_QDISC_BYPASS`).
//!
//! Suspects when, over each of the seconds that end within 3 s, the excess is more than 1000 packets a second and
//! more than 5 % of what was sent. It never convicts: counters of real network cards are approximate.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 1001 beside tc in one tick | Calm |
//! | Calm | 1000/s beside tc for 5 s | Calm |
//! | Calm | 1010/s beside tc for 5 s | Suspect |
//! | Calm | 5 % of 100000/s beside tc for 5 s | Calm |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Suspect | nothing | Suspect |
//! | Suspect | 1001 beside tc in one tick | Suspect |
//! | Suspect | 1000/s beside tc for 5 s | Suspect |
//! | Suspect | 1010/s beside tc for 5 s | Suspect |
//! | Suspect | 5 % of 100000/s beside tc for 5 s | Suspect |
//! | Suspect | 20 quiet seconds | Calm |
//! | Suspect | no sensor | Suspect |
//! | Blind | nothing | Calm |
//! | Blind | 1001 beside tc in one tick | Calm |
//! | Blind | 1000/s beside tc for 5 s | Calm |
//! | Blind | 1010/s beside tc for 5 s | Suspect |
//! | Blind | 5 % of 100000/s beside tc for 5 s | Calm |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** A card that updates its counters in jumps of up to two seconds raises no alarm: between two jumps
//! there is always a second without excess.

use super::level::{Level, Reading};
use super::window::Window;
use crate::telemetry::Sample;
use crate::time::Span;

const EXCESS_MAX: u64 = 1_000;
/// The share of what was sent that may be miscounted: a twentieth.
const SHARE: u64 = 20;
const LASTING: Span = Span::from_ms(3_000);

#[derive(Clone, Debug)]
pub(super) struct Conservation {
    sent: Window<16>,
    passed: Window<16>,
    lasted: Span,
}

impl Conservation {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(1_000));
        Self { sent: window.clone(), passed: window, lasted: Span::ZERO }
    }

    pub(super) fn read(&mut self, sample: &Sample) -> Reading {
        let (Some(uplink), Some(egress)) = (sample.uplink, sample.egress) else {
            self.lasted = Span::ZERO;
            return Reading::default();
        };
        let sent = self.sent.push(sample.elapsed, uplink.sent);
        let passed = self.passed.push(sample.elapsed, egress.segments);
        let (sum, threshold) = (sent.saturating_sub(passed), EXCESS_MAX.max(sent / SHARE));
        self.lasted = if sum > threshold { self.lasted.plus(sample.elapsed) } else { Span::ZERO };
        Reading { level: Level::Suspect.when(self.lasted >= LASTING), rate: sum, sum, threshold }
    }
}

#[cfg(test)]
mod tests {
    use super::super::driven::{Drive, assert_table, run, wire};
    use super::super::{Detector, Detectors};
    use super::*;

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("conservation.rs"),
            Detector::Conservation,
            &[
                Drive::quiet("nothing"),
                Drive::once("1001 beside tc in one tick", wire(1_001, 0)),
                Drive::times("1000/s beside tc for 5 s", wire(100, 0), 50),
                Drive::times("1010/s beside tc for 5 s", wire(101, 0), 50),
                Drive::times("5 % of 100000/s beside tc for 5 s", wire(10_000, 9_500), 50),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }

    #[test]
    fn counters_that_jump_every_two_seconds_are_no_alarm() {
        let mut detectors = Detectors::new();
        for tick in 0..600_u64 {
            let sent = if tick % 20 == 0 { 100_000 } else { 0 };
            assert_eq!(run(&mut detectors, &wire(sent, 5_000)).conservation.level, Level::Calm);
        }
    }
}
