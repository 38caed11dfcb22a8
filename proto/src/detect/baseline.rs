//! What is usual on this node: a slow mean of a rate, which nobody can teach to call a flood usual.
//!
//! An exponentially weighted mean with a time constant of one hour, in billionths of an event per second.
//!
//! **Invariant.** Above its floor the mean at most doubles in a day, however the rate grows, and it never
//! passes its cap. Below the floor it moves freely: nothing is decided by it there.

use crate::time::Span;

const TAU_S: i128 = 3_600;
const NANO: i128 = 1_000_000_000;
/// ln 2 / 86 400 s, in parts of 10^15: growth by this much a second doubles in a day.
const GROWTH_PER_S: i128 = 8_022_536_812;
const GROWTH_UNIT: i128 = 1_000_000_000_000_000;
/// Far above every rate, and far below the end of numbers.
const RATE_MAX: i128 = NANO * NANO;
/// The mean moves in steps of a second: finer ones cost time and change nothing.
const STEP: Span = Span::from_ms(1_000);
/// A longer step would overshoot the mean; what a pause of an hour hides is not learned.
const STEP_MAX_NS: i128 = TAU_S * NANO;

/// A slow mean of a rate.
#[derive(Clone, Debug)]
pub(super) struct Baseline {
    floor: i128,
    cap: i128,
    mean: i128,
    elapsed: Span,
    count: i64,
}

impl Baseline {
    /// Starts at zero. `floor_milli` and `cap_milli` are in thousandths of an event per second.
    pub(super) fn new(floor_milli: u32, cap_milli: u32) -> Self {
        let nano = |milli: u32| i128::from(milli) * (NANO / 1_000);
        Self { floor: nano(floor_milli), cap: nano(cap_milli), mean: 0, elapsed: Span::ZERO, count: 0 }
    }

    /// Learns from a tick in which `count` events more than their answers happened.
    pub(super) fn learn(&mut self, elapsed: Span, count: i64) {
        self.elapsed = self.elapsed.plus(elapsed);
        self.count = self.count.saturating_add(count);
        if self.elapsed >= STEP {
            self.step();
        }
    }

    /// The tick is not learned, nor what was gathered before it.
    pub(super) fn freeze(&mut self) {
        (self.elapsed, self.count) = (Span::ZERO, 0);
    }

    /// In thousandths per second, rounded down.
    pub(super) fn milli(&self) -> u64 {
        u64::try_from(self.mean / (NANO / 1_000)).unwrap_or(0)
    }

    fn step(&mut self) {
        let ns = i128::from(self.elapsed.as_ns());
        let rate = (i128::from(self.count) * NANO * NANO / ns.max(1)).clamp(-RATE_MAX, RATE_MAX);
        let taken_ns = ns.min(STEP_MAX_NS);
        let wanted = self.mean + (rate - self.mean) * taken_ns / STEP_MAX_NS;
        let growth = self.mean.max(self.floor) * taken_ns / NANO * GROWTH_PER_S / GROWTH_UNIT;
        let allowed = self.floor.max(self.mean + growth);
        self.mean = wanted.clamp(0, allowed.min(self.cap));
        self.freeze();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Span = Span::from_ms(1_000);

    fn hours(baseline: &mut Baseline, hours: u64, per_s: i64) {
        for _ in 0..hours * 3_600 {
            baseline.learn(SECOND, per_s);
        }
    }

    #[test]
    fn it_nears_a_steady_rate_with_its_time_constant() {
        let mut baseline = Baseline::new(100_000, 1_000_000);
        hours(&mut baseline, 1, 50);
        // 50 (1 - 1/e) = 31.6
        assert!((31_500..=31_700).contains(&baseline.milli()), "{}", baseline.milli());
        hours(&mut baseline, 9, 50);
        assert!((49_900..=50_000).contains(&baseline.milli()), "{}", baseline.milli());
    }

    #[test]
    fn above_its_floor_it_at_most_doubles_in_a_day() {
        let mut baseline = Baseline::new(3_334, 1_000_000);
        hours(&mut baseline, 1, 1_000);
        let mut before = baseline.milli();
        for _ in 0..5 {
            hours(&mut baseline, 24, 1_000_000);
            let after = baseline.milli();
            assert!(after <= 2 * before + 2 && after > before * 19 / 10, "{before} to {after}");
            before = after;
        }
    }

    #[test]
    fn it_never_passes_its_cap() {
        let mut baseline = Baseline::new(3_334, 33_333);
        hours(&mut baseline, 24 * 10, i64::MAX);
        assert_eq!(baseline.milli(), 33_333);
    }

    #[test]
    fn the_tick_length_does_not_matter() {
        let (mut fine, mut coarse) = (Baseline::new(100_000, 1_000_000), Baseline::new(100_000, 1_000_000));
        for _ in 0..36_000 {
            fine.learn(Span::from_ms(100), 3);
        }
        for _ in 0..360 {
            coarse.learn(Span::from_ms(10_000), 300);
        }
        assert!(fine.milli().abs_diff(coarse.milli()) < 60, "{} {}", fine.milli(), coarse.milli());
    }
}
