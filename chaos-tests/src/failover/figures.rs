//! Distributions of outages, as people and as programs read them.

use serde::Serialize;
use stead_proto::time::Span;

/// What many runs of one scenario came to. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which scenario.
    pub scenario: &'static str,
    /// Under which lease.
    pub lease_ms: u32,
    /// How often it was played.
    pub runs: usize,
    /// How often a visitor noticed anything.
    pub noticed: usize,
    /// The median outage.
    pub p50_ms: u64,
    /// The 99th percentile; of fewer than 100 runs the longest.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// The longest that is allowed at the 99th percentile.
    pub goal_p99_ms: Option<u64>,
}

/// Outages of one scenario, as they come in.
#[derive(Clone, Debug, Default)]
pub struct Figures(Vec<Span>);

impl Figures {
    /// One more run.
    pub fn add(&mut self, outage: Span) {
        self.0.push(outage);
    }

    /// The row of the table.
    #[must_use]
    pub fn row(&self, scenario: &'static str, lease_ms: u32, goal_p99_ms: Option<u64>) -> Row {
        let mut sorted = self.0.clone();
        sorted.sort();
        Row {
            scenario,
            lease_ms,
            runs: sorted.len(),
            noticed: sorted.iter().filter(|outage| **outage > Span::ZERO).count(),
            p50_ms: percentile(&sorted, 50).as_ms(),
            p99_ms: percentile(&sorted, 99).as_ms(),
            max_ms: sorted.last().copied().unwrap_or_default().as_ms(),
            goal_p99_ms,
        }
    }
}

/// The smallest value that at least `percent` of all do not exceed (nearest rank).
fn percentile(sorted: &[Span], percent: usize) -> Span {
    let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
    sorted.get(rank).copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<Span> = (1..=20).map(Span::from_ms).collect();
        assert_eq!(percentile(&sorted, 50), Span::from_ms(10));
        assert_eq!(percentile(&sorted, 99), Span::from_ms(20));
        assert_eq!(percentile(&[], 99), Span::ZERO);
    }
}
