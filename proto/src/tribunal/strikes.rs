//! Accusations that nobody could confirm, held against the accuser.
//!
//! | strikes in a day | then |
//! |---|---|
//! | 0 to 2 | his word opens cases |
//! | 3, the last within the hour | his word opens none, and alone it keeps none going; it counts beside others' |
//!
//! **Invariant.** Bounded: three moments for each node of the electorate.

use crate::id::NodeId;
use crate::time::{Instant, Span};
use alloc::{collections::BTreeMap, vec::Vec};

const STRIKES_MAX: usize = 3;
const DAY: Span = Span::from_ms(86_400_000);
const HOUR: Span = Span::from_ms(3_600_000);

#[derive(Clone, Debug, Default)]
pub(super) struct Strikes(BTreeMap<NodeId, Vec<Instant>>);

impl Strikes {
    pub(super) fn add(&mut self, now: Instant, node: NodeId) {
        let strikes = self.0.entry(node).or_default();
        strikes.retain(|at| now.since(*at) < DAY);
        strikes.push(now);
        if strikes.len() > STRIKES_MAX {
            strikes.remove(0);
        }
    }

    pub(super) fn is_out(&self, now: Instant, node: NodeId) -> bool {
        self.0.get(&node).is_some_and(|strikes| {
            strikes.len() == STRIKES_MAX
                && strikes.first().is_some_and(|first| now.since(*first) < DAY)
                && strikes.last().is_some_and(|last| now.since(*last) < HOUR)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn three_in_a_day_silence_for_an_hour() {
        let node = NodeId(3);
        let at = |hours: u64| Instant::ZERO.after(Span::from_ms(hours * 3_600_000 + 1));
        let mut strikes = Strikes::default();
        strikes.add(at(0), node);
        strikes.add(at(10), node);
        assert!(!strikes.is_out(at(10), node));
        strikes.add(at(20), node);
        assert!(strikes.is_out(at(20), node) && !strikes.is_out(at(20), NodeId(4)));
        assert!(!strikes.is_out(at(21), node), "after an hour he is heard again");
        strikes.add(at(30), node);
        assert!(strikes.is_out(at(30), node), "and the next one counts with the last two");
        strikes.add(at(55), node);
        assert!(!strikes.is_out(at(55), node), "what was yesterday is forgotten");
    }
}
