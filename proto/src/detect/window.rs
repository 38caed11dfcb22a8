//! A sum over the last so many seconds, from ticks of uneven length.
//!
//! **Invariant.** Memory is fixed, and no input overflows it: a count above [`COUNT_MAX`] counts as that. A tick
//! that lasted longer than the window counts with its share of the window, so that a pause of the agent makes
//! no burst of what happened slowly.

use crate::time::Span;

/// The most that one tick can add: far above what any machine sends, far below the end of numbers.
const COUNT_MAX: u64 = 1 << 32;

/// The sum over about `span`, in at most `N` parts.
#[derive(Clone, Debug)]
pub(crate) struct Window<const N: usize> {
    span: Span,
    parts: [Part; N],
    oldest: usize,
    used: usize,
    covered_ns: u64,
    sum: u64,
}

#[derive(Clone, Copy, Debug, Default)]
struct Part {
    ns: u64,
    count: u64,
}

impl<const N: usize> Window<N> {
    pub(crate) fn new(span: Span) -> Self {
        Self { span, parts: [Part::default(); N], oldest: 0, used: 0, covered_ns: 0, sum: 0 }
    }

    /// Adds what was counted in `elapsed`; the sum over the window after that.
    pub(crate) fn push(&mut self, elapsed: Span, count: u64) -> u64 {
        let (mut ns, mut count) = (elapsed.as_ns(), count.min(COUNT_MAX));
        let span_ns = self.span.as_ns();
        if ns > span_ns {
            let share = u128::from(count) * u128::from(span_ns) / u128::from(ns.max(1));
            (ns, count) = (span_ns, u64::try_from(share).unwrap_or(COUNT_MAX));
        }
        // Timers are late by a little: a twentieth more than the window still counts as the window.
        let room_ns = span_ns + span_ns / 20;
        while self.used > 0 && self.covered_ns + ns > room_ns {
            self.drop_oldest();
        }
        self.append(ns, count);
        self.sum
    }

    /// What it holds, per second, rounded down.
    pub(crate) fn rate(&self) -> u64 {
        self.sum.saturating_mul(1_000) / self.span.as_ms().max(1)
    }

    fn drop_oldest(&mut self) {
        if let Some(part) = self.parts.get(self.oldest) {
            self.covered_ns -= part.ns;
            self.sum -= part.count;
        }
        self.oldest = if self.oldest + 1 >= N { 0 } else { self.oldest + 1 };
        self.used -= 1;
    }

    /// Ticks that come faster than there are parts share the newest one.
    fn append(&mut self, ns: u64, count: u64) {
        let shares = self.used >= N;
        self.used += usize::from(!shares);
        let mut at = self.oldest + self.used - 1;
        if at >= N {
            at -= N;
        }
        let Some(part) = self.parts.get_mut(at) else { return };
        let before = if shares { *part } else { Part::default() };
        *part = Part { ns: before.ns + ns, count: (before.count + count).min(COUNT_MAX) };
        self.covered_ns += ns;
        self.sum += part.count - before.count;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn it_forgets_what_is_older_than_its_span() {
        let mut window = Window::<16>::new(Span::from_ms(1_000));
        assert_eq!(window.push(Span::from_ms(100), 7), 7);
        for _ in 0..9 {
            assert_eq!(window.push(Span::from_ms(100), 0), 7);
        }
        assert_eq!(window.push(Span::from_ms(100), 0), 0);
    }

    #[test]
    fn a_long_pause_counts_with_its_share() {
        let mut window = Window::<16>::new(Span::from_ms(1_000));
        assert_eq!(window.push(Span::from_ms(60_000), 600), 10);
        assert_eq!(window.rate(), 10);
    }

    proptest! {
        #[test]
        fn its_sum_is_that_of_its_parts(ticks in prop::collection::vec((any::<u64>(), any::<u64>()), 0..200)) {
            let mut window = Window::<8>::new(Span::from_ms(1_000));
            for (ns, count) in ticks {
                // Every second tick is short, so that parts are shared and dropped as well.
                let ns = if count % 2 == 0 { ns % 200_000_000 } else { ns };
                let sum = window.push(Span::from_ns(ns), count);
                let held = (0..window.used).map(|n| window.parts[(window.oldest + n) % 8].count).sum::<u64>();
                prop_assert_eq!(sum, held);
                prop_assert!(sum <= 8 * COUNT_MAX);
            }
        }
    }
}
