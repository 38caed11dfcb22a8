//! Distributions of what floods came to, as people and as programs read them.

use serde::Serialize;

use super::rival::RivalRun;
use super::scenario::{Goal, Scenario};
use super::scene::Play;

/// Values by nearest rank: each is one that was measured.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// The median.
    pub p50: u64,
    /// The 99th percentile; of fewer than 100 values the largest.
    pub p99: u64,
    /// The largest.
    pub max: u64,
}

impl Spread {
    /// Of all values; nothing of nothing.
    #[must_use]
    pub fn of(values: impl IntoIterator<Item = u64>) -> Option<Self> {
        let mut sorted: Vec<u64> = values.into_iter().collect();
        sorted.sort_unstable();
        let rank = |percent: usize| {
            let rank = (sorted.len() * percent).div_ceil(100).saturating_sub(1);
            sorted.get(rank).copied()
        };
        Some(Self { p50: rank(50)?, p99: rank(99)?, max: sorted.last().copied()? })
    }
}

impl std::fmt::Display for Spread {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}/{}", self.p50, self.p99, self.max)
    }
}

/// What many runs of one flood came to. Times in milliseconds from the first SYN at the victim.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Which flood.
    pub scenario: String,
    /// How often it was played to its end.
    pub runs: usize,
    /// How often it was not.
    pub failed: usize,
    /// How often it was throttled.
    pub throttled: usize,
    /// Until it was.
    pub throttled_ms: Option<Spread>,
    /// SYNs at the victim until then, those that only the kernel counted among them.
    pub left_until_then: Option<Spread>,
    /// SYNs at the victim in all.
    pub left_in_all: Option<Spread>,
    /// Until every peer had a report of it; only of runs in which all had.
    pub shown_ms: Option<Spread>,
    /// In how many runs all had.
    pub shown: usize,
    /// Until the mesh had an incident.
    pub opened_ms: Option<Spread>,
    /// In how many runs the incident was closed in the end.
    pub closed: usize,
    /// How far the incident's count of SYNs that left the host was below the victim's, at most.
    pub untold_max: u64,
    /// Requests of visitors meanwhile.
    pub asked: u64,
    /// Of these, those that failed.
    pub unserved: u64,
    /// What DESIGN §10 asks for.
    pub goal: Option<Goal>,
    /// What FastNetMon told of the same flood on a host of its own, where it was played.
    pub rival: Option<RivalRow>,
    /// Whether everything was reached that is asked of every flood, and of this one.
    pub reached: bool,
}

/// What FastNetMon told of many runs of one flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct RivalRow {
    /// How often it was played.
    pub runs: usize,
    /// How often it told anything.
    pub told: usize,
    /// Until it did, in milliseconds; it throttles nothing by itself.
    pub told_ms: Option<Spread>,
    /// SYNs at the victim until then, or in all where it told nothing.
    pub left: Option<Spread>,
}

impl RivalRow {
    /// The row of these runs; nothing of none.
    #[must_use]
    pub fn of(runs: &[RivalRun]) -> Option<Self> {
        let told_ms = Spread::of(runs.iter().filter_map(|run| run.told_ms));
        let told = runs.iter().filter(|run| run.told_ms.is_some()).count();
        let left = Some(Spread::of(runs.iter().map(|run| run.left))?);
        Some(Self { runs: runs.len(), told, told_ms, left })
    }
}

impl Row {
    /// The row of these runs.
    #[must_use]
    pub fn of(scenario: Scenario, plays: &[Play], failed: usize, rival: &[RivalRun]) -> Self {
        let ms = |of: fn(&Play) -> Option<stead_proto::time::Span>| {
            Spread::of(plays.iter().filter_map(of).map(stead_proto::time::Span::as_ms))
        };
        let throttled_ms = ms(|play| play.verdict.map(|verdict| verdict.took()));
        let left_until_then = Spread::of(plays.iter().filter_map(|p| p.verdict.map(|v| v.before + p.lost)));
        let left_in_all = Spread::of(plays.iter().filter_map(|p| p.verdict.map(|v| v.all + p.lost)));
        let count = |fits: fn(&Play) -> bool| plays.iter().filter(|play| fits(play)).count();
        let (throttled, shown) = (count(|p| p.verdict.is_some()), count(|p| p.shown.is_some()));
        let closed = count(|play| play.told.is_some());
        let untold = |play: &Play| Some((play.verdict?.all + play.lost).saturating_sub(play.told?.1));
        let goal = scenario.goal();
        let in_goal = goal.is_none_or(|goal| {
            throttled_ms.is_some_and(|t| t.p99 <= goal.throttled_p99_ms)
                && left_until_then.is_some_and(|left| left.max <= goal.left_max)
        });
        let unserved = plays.iter().map(|play| play.failed).sum();
        let all = plays.len();
        Self {
            scenario: scenario.to_string(),
            runs: all,
            failed,
            throttled,
            throttled_ms,
            left_until_then,
            left_in_all,
            shown_ms: ms(|play| play.shown),
            shown,
            opened_ms: ms(|play| play.opened),
            closed,
            untold_max: plays.iter().filter_map(untold).max().unwrap_or_default(),
            asked: plays.iter().map(|play| play.asked).sum(),
            unserved,
            goal,
            rival: RivalRow::of(rival),
            reached: in_goal
                && failed == 0
                && all > 0
                && [throttled, shown, closed].iter().all(|count| *count == all)
                && unserved == 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::flooder::{Sent, Way};
    use super::super::verdict::Verdict;
    use super::*;
    use stead_proto::time::{Instant, Span};

    fn play(throttled_ms: u64, before: u64) -> Play {
        let throttled = Instant::ZERO.after(Span::from_ms(throttled_ms));
        let verdict = Verdict { first: Instant::ZERO, throttled, before, all: before + 40 };
        Play {
            node: 0,
            held: false,
            verdict: Some(verdict),
            lost: 0,
            shown: Some(Span::from_ms(400)),
            opened: Some(Span::from_ms(500)),
            sent: Sent::default(),
            asked: 800,
            failed: 0,
            told: Some((4_000, 61)),
            incident: Some(7),
        }
    }

    fn reached(plays: &[Play], failed: usize) -> bool {
        Row::of(Scenario { way: Way::Raw, per_s: Some(1_000) }, plays, failed, &[]).reached
    }

    #[test]
    fn spreads_are_values_that_were_measured() {
        assert_eq!(Spread::of(1..=20), Some(Spread { p50: 10, p99: 20, max: 20 }));
        assert_eq!(Spread::of([]), None);
    }

    #[test]
    fn whatever_is_asked_can_be_missed() {
        let good = play(120, 130);
        assert!(reached(std::slice::from_ref(&good), 0));
        assert!(!reached(std::slice::from_ref(&good), 1), "a run failed");
        assert!(!reached(&[], 0), "nothing was played");
        let bad = [
            play(301, 130),
            play(120, 301),
            Play { verdict: None, ..good.clone() },
            Play { shown: None, ..good.clone() },
            Play { told: None, ..good.clone() },
            Play { failed: 1, ..good.clone() },
            Play { lost: 200, ..good },
        ];
        assert!(bad.iter().all(|play| !reached(std::slice::from_ref(play), 0)));
    }
}
