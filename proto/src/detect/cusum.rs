//! The signed CUSUM of D4: `G = max(0, G + outstanding − k·Δ)`, an alarm above `h`.
//!
//! The ancestor is SYN-dog (Wang, Zhang, Shin, ICDCS 2002). Outstanding SYNs are signed, so that answers that come
//! a tick late cancel the burst that asked for them.
//!
//! **Invariant.** `G` stays within twice `h`: a flood that ends is over within `h/k`, however large it was.

use crate::time::Span;

/// The sum of what is outstanding beyond the allowance, in thousandths of a SYN.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Cusum {
    milli: u64,
}

impl Cusum {
    /// Takes a tick; `k` is in thousandths a second, `h` in thousandths. The sum, in thousandths.
    pub(super) fn push(&mut self, elapsed: Span, outstanding: i64, k_milli: u64, h_milli: u64) -> u64 {
        let allowed = i128::from(k_milli) * i128::from(elapsed.as_ns()) / 1_000_000_000;
        let sum = i128::from(self.milli) + i128::from(outstanding) * 1_000 - allowed;
        let bound = h_milli.saturating_mul(2);
        self.milli = u64::try_from(sum.max(0)).unwrap_or(u64::MAX).min(bound);
        self.milli
    }

    /// The sum, in thousandths.
    pub(super) const fn milli(self) -> u64 {
        self.milli
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TICK: Span = Span::from_ms(100);

    #[test]
    fn what_is_answered_a_tick_later_leaves_nothing() {
        let mut cusum = Cusum::default();
        assert_eq!(cusum.push(TICK, 50, 10_000, 60_000), 49_000);
        assert_eq!(cusum.push(TICK, -50, 10_000, 60_000), 0);
    }

    #[test]
    fn it_falls_from_any_height_within_twelve_seconds() {
        let mut cusum = Cusum::default();
        cusum.push(TICK, i64::MAX, 10_000, 60_000);
        assert_eq!(cusum.milli(), 120_000);
        for _ in 0..120 {
            cusum.push(TICK, 0, 10_000, 60_000);
        }
        assert_eq!(cusum.milli(), 0);
    }
}
