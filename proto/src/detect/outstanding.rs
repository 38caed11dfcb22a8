//! D4, outstanding SYNs: more questions than answers, measured against what is usual here.
//!
//! Two channels. The fast one has `k = max(10/s, 3 × mean)` and `h = max(60, one second of the mean SYN rate)`; the
//! slow one, for drips, `k = 2/s` and `h = 600`. Both only suspect: an outage of a database looks like this too.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Calm | nothing | Calm |
//! | Calm | 61 unanswered | Calm |
//! | Calm | 62 unanswered | Suspect |
//! | Calm | 10000 answered | Calm |
//! | Calm | 20 quiet seconds | Calm |
//! | Calm | no sensor | Blind |
//! | Suspect | nothing | Suspect |
//! | Suspect | 61 unanswered | Suspect |
//! | Suspect | 62 unanswered | Suspect |
//! | Suspect | 10000 answered | Suspect |
//! | Suspect | 20 quiet seconds | Calm |
//! | Suspect | no sensor | Suspect |
//! | Blind | nothing | Calm |
//! | Blind | 61 unanswered | Calm |
//! | Blind | 62 unanswered | Suspect |
//! | Blind | 10000 answered | Calm |
//! | Blind | 20 quiet seconds | Calm |
//! | Blind | no sensor | Blind |
//!
//! **Invariant.** The means are learned only while `G ≤ h/2`, at most double in a day and stop at a cap, so that
//! `k ≤ 100/s` and `h ≤ 600` for ever: no patience makes a flood above 100/s usual. See [`super::baseline`].

use super::baseline::Baseline;
use super::cusum::Cusum;
use super::flow::Flow;
use super::level::{Level, Reading};
use super::window::Window;
use crate::time::Span;

const K_MILLI_MIN: u64 = 10_000;
const H_MILLI_MIN: u64 = 60_000;
/// Below these means `k` and `h` stand at their least.
const OUTSTANDING_FLOOR_MILLI: u32 = 3_333;
const SYN_FLOOR_MILLI: u32 = 60_000;
/// Above these means `k` and `h` do not follow.
const OUTSTANDING_CAP_MILLI: u32 = 33_333;
const SYN_CAP_MILLI: u32 = 600_000;

const DRIP_K_MILLI: u64 = 2_000;
const DRIP_H_MILLI: u64 = 600_000;

#[derive(Clone, Debug)]
pub(super) struct Outstanding {
    fast: Cusum,
    drip: Cusum,
    mean_outstanding: Baseline,
    mean_syn: Baseline,
    sent: Window<16>,
    settled: Window<16>,
}

/// What the two channels say.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Channels {
    pub(super) fast: Reading,
    pub(super) drip: Reading,
}

impl Outstanding {
    pub(super) fn new() -> Self {
        let window = Window::new(Span::from_ms(1_000));
        Self {
            fast: Cusum::default(),
            drip: Cusum::default(),
            mean_outstanding: Baseline::new(OUTSTANDING_FLOOR_MILLI, OUTSTANDING_CAP_MILLI),
            mean_syn: Baseline::new(SYN_FLOOR_MILLI, SYN_CAP_MILLI),
            sent: window.clone(),
            settled: window,
        }
    }

    pub(super) fn read(&mut self, elapsed: Span, flow: Option<Flow>) -> Channels {
        let Some(flow) = flow else { return Channels::default() };
        let outstanding = flow.outstanding();
        let (k_milli, h_milli) = self.limits_milli();
        let rate =
            self.sent.push(elapsed, flow.sent).saturating_sub(self.settled.push(elapsed, flow.settled));
        let fast = self.fast.push(elapsed, outstanding, k_milli, h_milli);
        let drip = self.drip.push(elapsed, outstanding, DRIP_K_MILLI, DRIP_H_MILLI);
        self.learn(elapsed, flow, h_milli);
        Channels { fast: reading(fast, h_milli, rate), drip: reading(drip, DRIP_H_MILLI, rate) }
    }

    /// `k` in thousandths a second, `h` in thousandths.
    pub(super) fn limits_milli(&self) -> (u64, u64) {
        let k = self.mean_outstanding.milli().saturating_mul(3).max(K_MILLI_MIN);
        (k, self.mean_syn.milli().max(H_MILLI_MIN))
    }

    fn learn(&mut self, elapsed: Span, flow: Flow, h_milli: u64) {
        if self.fast.milli() > h_milli / 2 {
            self.mean_outstanding.freeze();
            self.mean_syn.freeze();
            return;
        }
        self.mean_outstanding.learn(elapsed, flow.outstanding());
        self.mean_syn.learn(elapsed, i64::try_from(flow.sent).unwrap_or(i64::MAX));
    }
}

fn reading(sum_milli: u64, h_milli: u64, rate: u64) -> Reading {
    let level = Level::Suspect.when(sum_milli > h_milli);
    Reading { level, rate, sum: sum_milli / 1_000, threshold: h_milli / 1_000 }
}

#[cfg(test)]
mod tests {
    use super::super::driven::{Drive, assert_table, connects, run};
    use super::super::{Detector, Detectors};
    use super::*;

    #[test]
    fn the_table_in_the_docs_is_what_the_detector_does() {
        assert_table(
            include_str!("outstanding.rs"),
            Detector::Outstanding,
            &[
                Drive::quiet("nothing"),
                Drive::once("61 unanswered", connects(61, 0)),
                Drive::once("62 unanswered", connects(62, 0)),
                Drive::once("10000 answered", connects(10_000, 10_000)),
                Drive::calm("20 quiet seconds"),
                Drive::blind("no sensor"),
            ],
        );
    }

    #[test]
    fn a_drip_of_four_a_second_is_suspected_after_five_minutes() {
        let mut detectors = Detectors::new();
        let seconds = (1..400).find(|_| {
            (0..10).any(|tick| {
                let unanswered = u64::from(tick % 5 < 2);
                run(&mut detectors, &connects(unanswered, 0)).drip.level == Level::Suspect
            })
        });
        assert!(seconds.is_some_and(|seconds| (299..=302).contains(&seconds)), "{seconds:?}");
        assert_eq!(run(&mut detectors, &connects(0, 0)).outstanding.level, Level::Calm);
    }

    /// Ticks until a flood of `per_tick` unanswered SYNs a tick is suspected.
    fn ticks_until_suspected(outstanding: &mut Outstanding, per_tick: u64) -> Option<usize> {
        let flow = Flow { sent: per_tick, settled: 0 };
        (1..1_000).find(|_| outstanding.read(Span::from_ms(100), Some(flow)).fast.level == Level::Suspect)
    }

    #[test]
    fn a_ramp_that_doubles_every_six_hours_is_suspected_and_the_flood_after_it_too() {
        let mut outstanding = Outstanding::new();
        let mut suspected_at_rate = None;
        for second in 0..4 * 86_400_u32 {
            let rate = 1_u64 << (second / 21_600).min(10);
            let flow = Flow { sent: rate, settled: 0 };
            let seen = outstanding.read(Span::from_ms(1_000), Some(flow)).fast.level;
            if seen == Level::Suspect && suspected_at_rate.is_none() {
                suspected_at_rate = Some(rate);
            }
        }
        assert_eq!(suspected_at_rate, Some(16), "the first rate above k = 10/s");
        assert!(outstanding.limits_milli().0 <= 30_000, "{:?}", outstanding.limits_milli());
        for _ in 0..100 {
            outstanding.read(Span::from_ms(1_000), Some(Flow::default()));
        }
        assert!(ticks_until_suspected(&mut outstanding, 100).is_some_and(|ticks| ticks <= 2));
    }

    #[test]
    fn a_month_just_below_the_threshold_hides_no_flood_of_two_hundred_a_second() {
        let mut outstanding = Outstanding::new();
        for second in 0..30 * 86_400_u32 {
            let sent = outstanding.limits_milli().0 * 9 / 10_000;
            let seen = outstanding.read(Span::from_ms(1_000), Some(Flow { sent, settled: 0 }));
            assert_eq!(seen.fast.level, Level::Calm, "second {second}");
        }
        let (k_milli, h_milli) = outstanding.limits_milli();
        assert!((90_000..=100_000).contains(&k_milli) && h_milli <= 91_000, "{k_milli} {h_milli}");
        let ticks = ticks_until_suspected(&mut outstanding, 20).unwrap();
        assert!(ticks <= 10, "{ticks} ticks");
    }
}
