//! When a flood was throttled, by its victim's record alone. Pure.
//!
//! *Throttled* is the moment from which on all that arrives, up to the flood's end, would pass the limit: a bucket
//! that fills at the limit's rate and is full at that moment, as the kernel's own is. What arrived before it has
//! left the host for want of the throttle.
//!
//! **Invariant.** A flood that ends before the bucket could have shown that it overflows is never called throttled.

use stead_proto::guard::Rate;
use stead_proto::time::{Instant, Span};

/// SYNs above the limit's burst that the bucket forgives: the flooder's own unsteadiness.
const SLACK: u64 = 2;
/// For how long a throttle has to hold at least.
const HELD_MIN: Span = Span::from_ms(500);

/// What a victim's record says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// When the first SYN arrived.
    pub first: Instant,
    /// The last SYN for want of the throttle; the first one if there was none.
    pub throttled: Instant,
    /// How many SYNs arrived until then, that one included; 0 if all were within the limit.
    pub before: u64,
    /// How many arrived in all.
    pub all: u64,
}

impl Verdict {
    /// From the first SYN to the throttle.
    #[must_use]
    pub fn took(&self) -> Span {
        self.throttled.since(self.first)
    }
}

/// Judges a record in the order of time of a flood of `per_s` that ended at `ended`; `None` if it was not throttled,
/// or nothing arrived.
#[must_use]
pub fn judge(syns: &[Instant], limit: Rate, per_s: Option<u32>, ended: Instant) -> Option<Verdict> {
    let first = *syns.first()?;
    // If a suffix conforms, so does every shorter one: its bucket is full where the longer one's may not be.
    let conforms = |from: usize| conforms(syns.get(from..).unwrap_or_default(), limit);
    let (mut low, mut high) = (0, syns.len());
    while low < high {
        let middle = low.midpoint(high);
        if conforms(middle) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    let throttled = low.checked_sub(1).and_then(|last| syns.get(last)).copied().unwrap_or(first);
    let held = ended.since(throttled);
    if held < held_min(limit, per_s) {
        return None;
    }
    let count = |count: usize| u64::try_from(count).unwrap_or(u64::MAX);
    Some(Verdict { first, throttled, before: count(low), all: count(syns.len()) })
}

/// For how long a throttle has to be seen: twice the time in which an unthrottled flood empties the bucket.
fn held_min(limit: Rate, per_s: Option<u32>) -> Span {
    let excess = per_s.unwrap_or(u32::MAX).saturating_sub(limit.per_second).max(1);
    let burst = u64::from(limit.burst) + SLACK;
    HELD_MIN.plus(Span::from_ms(2 * burst * 1_000 / u64::from(excess)))
}

fn conforms(syns: &[Instant], limit: Rate) -> bool {
    let cost_ns = 1_000_000_000 / u64::from(limit.per_second).max(1);
    let full_ns = cost_ns * (u64::from(limit.burst) + SLACK);
    let (mut tokens_ns, mut last) = (full_ns, syns.first().copied().unwrap_or_default());
    syns.iter().all(|at| {
        tokens_ns = tokens_ns.saturating_add(at.since(last).as_ns()).min(full_ns);
        last = *at;
        tokens_ns.checked_sub(cost_ns).map(|left| tokens_ns = left).is_some()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Rate = Rate { per_second: 10, burst: 10 };

    /// SYNs every `every_ms` from `from_ms` to before `to_ms`.
    fn steady(from_ms: u64, to_ms: u64, every_ms: usize) -> Vec<Instant> {
        (from_ms..to_ms).step_by(every_ms).map(|ms| Instant::ZERO.after(Span::from_ms(ms))).collect()
    }

    fn verdict(syns: &[Instant], per_s: u32, ended_ms: u64) -> Option<Verdict> {
        judge(syns, LIMIT, Some(per_s), Instant::ZERO.after(Span::from_ms(ended_ms)))
    }

    #[test]
    fn a_flood_that_falls_to_the_limit_is_throttled_where_it_does() {
        // 1 000/s for 200 ms, the full bucket at once, then the limit's rate.
        let syns = [steady(0, 210, 1), steady(300, 3_000, 100)].concat();
        let found = verdict(&syns, 1_000, 3_000).expect("it is throttled");
        assert!((195..=200).contains(&found.took().as_ms()), "{found:?}");
        assert!((196..=201).contains(&found.before) && found.all == 237, "{found:?}");
    }

    #[test]
    fn a_flood_that_goes_on_is_not_throttled() {
        for (per_s, every_ms) in [(1_000, 1), (50, 20), (20, 50)] {
            assert_eq!(verdict(&steady(0, 10_000, every_ms), per_s, 10_000), None, "{per_s}");
        }
    }

    #[test]
    fn a_flood_that_never_exceeds_the_limit_is_throttled_from_the_start() {
        let found = verdict(&steady(0, 5_000, 100), 1_000, 5_000).expect("it is within the limit");
        assert_eq!((found.took(), found.before, found.all), (Span::ZERO, 0, 50));
    }

    #[test]
    fn nothing_is_made_of_nothing() {
        assert_eq!(verdict(&[], 1_000, 5_000), None);
    }
}
