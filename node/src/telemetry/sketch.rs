//! What `bpf/sensor.bpf.c` remembers about destinations: how many there were, and which came most often.
//!
//! Two sketches of fixed size, both mergeable, so that processors and spans of time can be put together:
//! - HyperLogLog (Flajolet and others 2007) with 1024 registers: the number of distinct destinations, with a
//!   standard error of 3.3 %; up to some 2 500 by counting empty registers, which is nearly exact for few.
//! - MV-Sketch (Tang, Huang, Lee 2019) with 128 buckets: each destination falls into one bucket, each bucket
//!   holds a majority vote. **Guarantee:** the count that is told is never below that of the most frequent
//!   destination, and above it by at most half of what else fell into its bucket (1/256 of the rest, expected).
//!
//! **Invariant.** Integers only, and a merge never loses the guarantee.

use std::{
    collections::VecDeque,
    net::{IpAddr, Ipv6Addr},
};
use stead_proto::{
    telemetry::TICK,
    time::{Instant, Span},
};

const REGISTERS: usize = 1024;
const BUCKETS: usize = 128;
const BUCKET_BYTES: usize = 24;
/// Bytes of one window in the kernel's map.
pub(super) const WINDOW_BYTES: usize = REGISTERS + BUCKETS * BUCKET_BYTES;
/// How far back the sketches look.
const REACH: Span = Span::from_ms(1_000);
/// `α m²` of the HyperLogLog paper for 1024 registers, that is 0.7213 / (1 + 1.079 / m) · m².
const ALPHA_M_SQUARED: u128 = 755_542;
/// The highest value of a register: 32 bits are looked at.
const RANK_MAX: u32 = 33;
/// Below this estimate empty registers tell more: 2.5 m, as in the paper.
const SMALL_MAX: u128 = 2_560;

/// The destination that most SYNs of the last second went to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TopDestination {
    /// Where they went.
    pub address: IpAddr,
    /// So many at least.
    pub at_least: u64,
    /// So many at most.
    pub at_most: u64,
    /// Of so many in all.
    pub of: u64,
}

impl TopDestination {
    /// Its share of all, in thousandths; never too low.
    #[must_use]
    pub fn per_mille(&self) -> u16 {
        let share = self.at_most.saturating_mul(1_000).div_ceil(self.of.max(1));
        u16::try_from(share.min(1_000)).unwrap_or(1_000)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Bucket {
    address: [u8; 16],
    votes: u64,
    total: u64,
}

impl Bucket {
    fn merge(&mut self, other: &Self) {
        self.total = self.total.saturating_add(other.total);
        if self.address == other.address {
            self.votes = self.votes.saturating_add(other.votes);
        } else if self.votes >= other.votes {
            self.votes -= other.votes;
        } else {
            self.votes = other.votes - self.votes;
            self.address = other.address;
        }
    }

    /// No destination in this bucket has more.
    const fn at_most(&self) -> u64 {
        self.total.saturating_add(self.votes).div_ceil(2)
    }
}

/// Both sketches over some span of time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Window {
    registers: Vec<u8>,
    buckets: Vec<Bucket>,
}

impl Window {
    pub(super) fn empty() -> Self {
        Self { registers: vec![0; REGISTERS], buckets: vec![Bucket::default(); BUCKETS] }
    }

    /// `struct window` of the kernel's program.
    pub(super) fn parse(bytes: &[u8; WINDOW_BYTES]) -> Self {
        let (registers, buckets) = bytes.split_at(REGISTERS);
        let buckets = buckets.chunks_exact(BUCKET_BYTES).map(|raw| {
            let number = |at: usize| raw.get(at..).and_then(<[u8]>::first_chunk).copied().unwrap_or_default();
            Bucket {
                address: raw.first_chunk().copied().unwrap_or_default(),
                votes: u32::from_ne_bytes(number(16)).into(),
                total: u32::from_ne_bytes(number(20)).into(),
            }
        });
        Self { registers: registers.to_vec(), buckets: buckets.collect() }
    }

    pub(super) fn merge(&mut self, other: &Self) {
        for (mine, theirs) in self.registers.iter_mut().zip(&other.registers) {
            *mine = (*mine).max(*theirs);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            mine.merge(theirs);
        }
    }

    /// Distinct destinations.
    pub(super) fn destinations(&self) -> u32 {
        let empty = self.registers.iter().filter(|register| **register == 0).count();
        // The sum of 2^-register, in units of 2^-33.
        let sum: u128 = self
            .registers
            .iter()
            .map(|register| 1u128 << RANK_MAX.saturating_sub(u32::from(*register)))
            .sum();
        let raw = (ALPHA_M_SQUARED << RANK_MAX) / sum.max(1);
        if raw <= SMALL_MAX && empty > 0 {
            return thrown_until(empty);
        }
        u32::try_from(raw).unwrap_or(u32::MAX)
    }

    /// The most frequent destination; `None` if there was none at all.
    pub(super) fn top(&self) -> Option<TopDestination> {
        let of = self.buckets.iter().map(|bucket| bucket.total).fold(0, u64::saturating_add);
        let top = self.buckets.iter().max_by_key(|bucket| bucket.at_most())?;
        (of > 0).then(|| TopDestination {
            address: Ipv6Addr::from(top.address).to_canonical(),
            at_least: top.votes,
            at_most: top.at_most(),
            of,
        })
    }
}

/// How many balls leave so many of the registers empty, on average: `m (H(m) - H(empty))`.
fn thrown_until(empty: usize) -> u32 {
    const UNIT: usize = 1 << 20;
    let sum: usize = (empty + 1..=REGISTERS).map(|k| REGISTERS * UNIT / k).sum();
    u32::try_from((sum + UNIT / 2) / UNIT).unwrap_or(u32::MAX)
}

/// The windows of the last second.
#[derive(Debug, Default)]
pub(super) struct LastSecond {
    /// When each began, oldest first.
    windows: VecDeque<(Instant, Window)>,
}

impl LastSecond {
    /// Adds what was counted up to `now`. More than one a tick share a window, so there are at most 11.
    pub(super) fn add(&mut self, now: Instant, window: Window) {
        self.forget(now);
        match self.windows.back_mut() {
            Some((begun, last)) if now.since(*begun) < TICK => last.merge(&window),
            _ => self.windows.push_back((now, window)),
        }
    }

    /// Everything of the second before `now`; `None` if nothing was sent in it.
    pub(super) fn sum(&mut self, now: Instant) -> Option<Window> {
        self.forget(now);
        let mut windows = self.windows.iter();
        let mut sum = windows.next()?.1.clone();
        windows.for_each(|(_, window)| sum.merge(window));
        Some(sum)
    }

    fn forget(&mut self, now: Instant) {
        while self.windows.front().is_some_and(|(begun, _)| now.since(*begun) >= REACH) {
            self.windows.pop_front();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The kernel's side of the sketch, with another hash: splitmix64.
    fn hash(mut x: u64) -> u64 {
        x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^ (x >> 31)
    }

    fn note(window: &mut Window, destination: u64) {
        let hash = hash(destination);
        let low = u32::try_from(hash & 0xffff_ffff).unwrap();
        let register = &mut window.registers[usize::try_from(hash >> 32).unwrap() % REGISTERS];
        *register = (*register).max(u8::try_from(low.trailing_zeros() + 1).unwrap());
        let mut address = [0; 16];
        address[8..].copy_from_slice(&destination.to_be_bytes());
        let bucket = &mut window.buckets[usize::try_from(hash >> 48).unwrap() % BUCKETS];
        bucket.merge(&Bucket { address, votes: 1, total: 1 });
    }

    fn noted(destinations: impl IntoIterator<Item = u64>) -> Window {
        let mut window = Window::empty();
        destinations.into_iter().for_each(|destination| note(&mut window, destination));
        window
    }

    #[test]
    fn distinct_destinations_are_estimated_within_a_tenth() {
        for count in [1u64, 2, 10, 50, 300, 1_000, 2_000, 3_000, 10_000, 100_000, 1_000_000] {
            let estimate = u64::from(noted(0..count).destinations());
            let allowed = (count / 10).max(1);
            assert!(estimate.abs_diff(count) <= allowed, "{count} destinations were taken for {estimate}");
        }
        assert_eq!(Window::empty().destinations(), 0);
    }

    #[test]
    fn merged_windows_know_what_each_of_them_knew() {
        let (mut left, right) = (noted(0..700), noted(300..1_000));
        left.merge(&right);
        assert_eq!(left.registers, noted(0..1_000).registers);
    }

    #[test]
    fn the_top_share_is_never_told_too_low_and_is_close() {
        for (to_the_top, others) in [(500u64, 0u64), (500, 500), (300, 700), (100, 900), (20, 980)] {
            let mut halves = [Window::empty(), Window::empty()];
            for n in 0..to_the_top {
                note(&mut halves[usize::try_from(n % 2).unwrap()], 7);
            }
            for n in 0..others {
                note(&mut halves[usize::try_from(n % 2).unwrap()], 1_000 + n);
            }
            let [mut window, second] = halves;
            window.merge(&second);
            let top = window.top().unwrap();
            let truth = to_the_top * 1_000 / (to_the_top + others);
            let told = u64::from(top.per_mille());
            assert!((truth..=truth + 15).contains(&told), "{to_the_top} of {others}: {told}, {top:?}");
            assert!(top.at_least <= to_the_top && top.of == to_the_top + others, "{top:?}");
            assert_eq!(top.address, IpAddr::from(Ipv6Addr::from(7u128)));
        }
        assert_eq!(Window::empty().top(), None);
    }

    #[test]
    fn after_a_second_a_window_is_forgotten_and_there_are_never_many() {
        let mut last = LastSecond::default();
        let at = |ms: u64| Instant::from_ns(ms * 1_000_000);
        for ms in 0..5_000 {
            last.add(at(ms), noted([ms]));
            assert!(last.windows.len() <= 11);
        }
        let left = last.sum(at(5_000)).unwrap().destinations();
        assert!((850..=1_150).contains(&left), "{left}");
        assert_eq!(last.sum(at(6_100)), None);
    }

    #[test]
    fn the_bytes_of_the_kernel_are_read_field_by_field() {
        let mut bytes = [0; WINDOW_BYTES];
        bytes[5] = 9;
        let bucket = &mut bytes[REGISTERS + BUCKET_BYTES..][..BUCKET_BYTES];
        bucket[10..16].copy_from_slice(&[0xff, 0xff, 192, 0, 2, 1]);
        bucket[16..20].copy_from_slice(&3u32.to_ne_bytes());
        bucket[20..24].copy_from_slice(&5u32.to_ne_bytes());
        let window = Window::parse(&bytes);
        assert_eq!(window.registers[5], 9);
        let address = "192.0.2.1".parse().unwrap();
        assert_eq!(window.top(), Some(TopDestination { address, at_least: 3, at_most: 4, of: 5 }));
    }
}
