//! What many measurements of one thing come to.
//!
//! **Invariant.** Every value in a [`Figure`] is one that was measured; there is no figure of nothing.

use anyhow::Context as _;
use rustix::time::{ClockId, clock_gettime};
use serde::Serialize;
use std::{fmt, time::Duration};

/// Measurements by nearest rank.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Figure {
    /// The least.
    pub least: f64,
    /// The median.
    pub median: f64,
    /// The 99th percentile; of fewer than 100 values the largest.
    pub p99: f64,
    /// The largest.
    pub most: f64,
    /// How many were measured.
    pub of: usize,
}

impl Figure {
    pub(super) fn of(values: impl IntoIterator<Item = f64>) -> anyhow::Result<Self> {
        let mut sorted: Vec<f64> = values.into_iter().collect();
        sorted.sort_by(f64::total_cmp);
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).copied().context("nothing was measured")
        };
        Ok(Self { least: rank(0)?, median: rank(50)?, p99: rank(99)?, most: rank(100)?, of: sorted.len() })
    }
}

/// The median, and in brackets the least and the largest.
impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = f.precision().unwrap_or(0);
        write!(f, "{:.digits$} ({:.digits$} to {:.digits$})", self.median, self.least, self.most)
    }
}

/// The processor time of this thread so far, with what the kernel did on it for packets.
pub(super) fn processor() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let (seconds, ns) = (u64::try_from(time.tv_sec), u32::try_from(time.tv_nsec));
    Duration::new(seconds.unwrap_or_default(), ns.unwrap_or_default())
}

pub(super) fn nanoseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e9
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_figure_is_made_of_what_was_measured() {
        let figure = Figure::of((1..=200).rev().map(f64::from)).expect("of 200");
        assert_eq!(figure, Figure { least: 1.0, median: 100.0, p99: 198.0, most: 200.0, of: 200 });
        assert_eq!(format!("{figure:.1}"), "100.0 (1.0 to 200.0)");
        assert!(Figure::of([]).is_err());
    }
}
