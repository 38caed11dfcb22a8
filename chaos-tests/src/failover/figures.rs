//! Distributions of outages, as people and as programs read them.

use serde::Serialize;
use stead_deploy::lab::overlap::Report;
use stead_proto::time::Span;

use super::rehearsal::Run;
use super::scenario::{Goal, Scenario};

/// What many runs of one scenario came to. Times in milliseconds unless the name says otherwise.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which scenario.
    pub scenario: &'static str,
    /// Under which lease.
    pub lease_ms: u32,
    /// How often it was played to its end.
    pub runs: usize,
    /// How often it did not come to its end in time.
    pub failed: usize,
    /// How often a visitor noticed anything.
    pub noticed: usize,
    /// The median outage.
    pub p50_ms: u64,
    /// The 99th percentile; of fewer than 100 runs the longest.
    pub p99_ms: u64,
    /// The longest.
    pub max_ms: u64,
    /// The longest outage while what was broken came back.
    pub aftershock_max_ms: u64,
    /// How late the visitor itself was, at most.
    pub late_max_ms: u64,
    /// Requests that the visitor could not send.
    pub not_sent: u64,
    /// Frames of nodes that were not entitled to answer.
    pub overlaps: u64,
    /// Frames that the tap lost: above zero, no overlap is proven absent.
    pub tap_lost: u64,
    /// How often one node took over from another.
    pub handovers: usize,
    /// The shortest time between the last frame of one node and the first of the next, in microseconds.
    pub smallest_gap_us: Option<u64>,
    /// What DESIGN §10 asks for.
    pub goal: Option<Goal>,
    /// Whether all of it was reached: no failed run, no overlap, and the goal if there is one.
    pub reached: bool,
}

/// Runs of one scenario, as they come in.
#[derive(Clone, Debug, Default)]
pub struct Figures {
    runs: Vec<Run>,
    failed: usize,
    overlaps: u64,
    tap_lost: u64,
    handovers: usize,
    smallest_gap: Option<Span>,
}

impl Figures {
    /// One more run.
    pub fn add(&mut self, run: Run) {
        self.runs.push(run);
    }

    /// A run that did not come to its end.
    pub const fn add_failed(&mut self) {
        self.failed += 1;
    }

    /// How many did not come to their end.
    #[must_use]
    pub const fn failed(&self) -> usize {
        self.failed
    }

    /// What the tap saw meanwhile.
    pub fn add_verdict(&mut self, report: &Report) {
        self.tap_lost += report.lost;
        for history in report.addresses.values() {
            self.overlaps += history.violations_count;
            self.handovers += history
                .holds
                .iter()
                .zip(history.holds.iter().skip(1))
                .filter(|(a, b)| a.node != b.node)
                .count();
            self.smallest_gap = self.smallest_gap.into_iter().chain(history.smallest_gap).min();
        }
    }

    /// The row of the table.
    #[must_use]
    pub fn row(&self, scenario: Scenario, lease_ms: u32) -> Row {
        let mut sorted: Vec<Span> = self.runs.iter().map(|run| run.outage).collect();
        sorted.sort();
        let most = |of: fn(&Run) -> Span| self.runs.iter().map(of).max().unwrap_or_default().as_ms();
        let (p50_ms, p99_ms) = (percentile(&sorted, 50).as_ms(), percentile(&sorted, 99).as_ms());
        let goal = scenario.goal(lease_ms);
        let in_time =
            goal.is_none_or(|goal| p99_ms <= goal.p99_ms && goal.p50_ms.is_none_or(|p| p50_ms <= p));
        Row {
            scenario: scenario.name(),
            lease_ms,
            runs: sorted.len(),
            failed: self.failed,
            noticed: sorted.iter().filter(|outage| **outage > Span::ZERO).count(),
            p50_ms,
            p99_ms,
            max_ms: sorted.last().copied().unwrap_or_default().as_ms(),
            aftershock_max_ms: most(|run| run.aftershock),
            late_max_ms: most(|run| run.late),
            not_sent: self.runs.iter().map(|run| run.not_sent).sum(),
            overlaps: self.overlaps,
            tap_lost: self.tap_lost,
            handovers: self.handovers,
            smallest_gap_us: self.smallest_gap.map(|gap| gap.as_ns() / 1_000),
            goal,
            reached: in_time && self.failed == 0 && self.overlaps == 0 && self.tap_lost == 0,
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
    use stead_deploy::lab::overlap::History;

    #[test]
    fn percentiles_are_values_that_were_measured() {
        let sorted: Vec<Span> = (1..=20).map(Span::from_ms).collect();
        assert_eq!(percentile(&sorted, 50), Span::from_ms(10));
        assert_eq!(percentile(&sorted, 99), Span::from_ms(20));
        assert_eq!(percentile(&[], 99), Span::ZERO);
    }

    #[test]
    fn an_overlap_a_lost_frame_a_failed_run_or_a_slow_one_misses_the_goal() {
        let run = |ms| Run { outage: Span::from_ms(ms), ..Run::default() };
        let reached = |figures: &Figures| figures.row(Scenario::HostLostLeading, 350).reached;
        let mut good = Figures::default();
        good.add(run(360));
        assert!(reached(&good));

        let mut slow = good.clone();
        slow.add(run(801));
        let mut failed = good.clone();
        failed.add_failed();
        let mut overlapping = good.clone();
        let history = History { violations_count: 1, ..History::default() };
        let address = std::net::IpAddr::from([10, 83, 0, 100]);
        overlapping.add_verdict(&Report { addresses: [(address, history)].into(), lost: 0 });
        let mut blind = good.clone();
        blind.add_verdict(&Report { addresses: [].into(), lost: 1 });
        assert!([slow, failed, overlapping, blind].iter().all(|figures| !reached(figures)));
    }
}
