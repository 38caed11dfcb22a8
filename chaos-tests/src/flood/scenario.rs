//! The floods of the bench: how sent and how fast, and what is asked of each.

use std::fmt;

use clap::ValueEnum as _;
use serde::Serialize;

use super::flooder::Way;

/// The rates, in SYNs a second; none is as fast as possible.
const RATES: [Option<u32>; 6] = [Some(20), Some(50), Some(100), Some(1_000), Some(10_000), None];

/// One flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scenario {
    /// How it is sent.
    pub way: Way,
    /// SYNs a second; as fast as possible if none.
    pub per_s: Option<u32>,
}

/// What DESIGN §10 asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Goal {
    /// Until it is throttled in the kernel, the 99th percentile.
    pub throttled_p99_ms: u64,
    /// SYNs that leave the host until then, at most.
    pub left_max: u64,
}

impl Scenario {
    /// All of them: raw and TCP sockets at each rate, and what else malware does at one.
    pub fn all() -> impl Iterator<Item = Self> {
        let of = |way| RATES.into_iter().map(move |per_s| Self { way, per_s });
        let tricks = [Way::Loaded, Way::Spoofed, Way::Packet, Way::Bypass];
        let tricks = tricks.into_iter().map(|way| Self { way, per_s: Some(1_000) });
        of(Way::Raw).chain(of(Way::Tcp)).chain(tricks)
    }

    /// How long it lasts: well beyond the moment at which the slowest detector that can see it speaks.
    #[must_use]
    pub const fn lasts_ms(self) -> u64 {
        match (self.way, self.per_s) {
            // D4 adds up ten a second to sixty.
            (Way::Tcp, Some(..=20)) => 13_000,
            (Way::Tcp, Some(..=50)) => 6_000,
            // D1 speaks at sixty in ten seconds.
            (_, Some(..=20)) => 9_000,
            (_, Some(_)) => 4_000,
            (_, None) => 2_000,
        }
    }

    /// What is asked of it.
    #[must_use]
    pub fn goal(self) -> Option<Goal> {
        let goal = Goal { throttled_p99_ms: 300, left_max: 300 };
        (self == Self { way: Way::Raw, per_s: Some(1_000) }).then_some(goal)
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let way = self.way.to_possible_value();
        let way = way.as_ref().map_or("", |way| way.get_name());
        match self.per_s {
            Some(per_s) => write!(f, "{way}-{per_s}"),
            None => write!(f, "{way}-max"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flood_has_a_name_of_its_own_and_one_has_the_goal() {
        let names: std::collections::BTreeSet<String> = Scenario::all().map(|s| s.to_string()).collect();
        assert_eq!(names.len(), Scenario::all().count());
        let asked: Vec<String> =
            Scenario::all().filter(|s| s.goal().is_some()).map(|s| s.to_string()).collect();
        assert_eq!(asked, ["raw-1000"]);
    }
}
