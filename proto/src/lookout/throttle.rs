//! When a node throttles itself, and when it stops doing so.
//!
//! A throttled node sends so little that its detectors fall silent. So what the limit cuts off decides, too:
//! while programs go on asking for more than it lets through, nothing is over.
//!
//! | state | tick | then |
//! |---|---|---|
//! | Free | nothing | Free |
//! | Free | suspected | Throttled, suspected |
//! | Free | convicted | Throttled, convicted |
//! | Free | only cut | Free |
//! | Free | 20 quiet seconds | Free |
//! | Free | 70 seconds of cuts | Free |
//! | Throttled, suspected | nothing | Throttled, suspected |
//! | Throttled, suspected | suspected | Throttled, suspected |
//! | Throttled, suspected | convicted | Throttled, convicted |
//! | Throttled, suspected | only cut | Throttled, suspected |
//! | Throttled, suspected | 20 quiet seconds | Free |
//! | Throttled, suspected | 70 seconds of cuts | Free |
//! | Throttled, convicted | nothing | Throttled, convicted |
//! | Throttled, convicted | suspected | Throttled, convicted |
//! | Throttled, convicted | convicted | Throttled, convicted |
//! | Throttled, convicted | only cut | Throttled, convicted |
//! | Throttled, convicted | 20 quiet seconds | Free |
//! | Throttled, convicted | 70 seconds of cuts | Throttled, convicted |
//!
//! **Invariant.** Convicted, a node stays throttled for as long as anything is cut. Only suspected, it may try again
//! after [`PATIENCE_MIN`], since a busy crawler is cut for ever; each vain try doubles that, up to [`PATIENCE_MAX`].

use crate::detect::Level;
use crate::time::Span;

/// How long nothing may be cut, and no detector speak, before the throttle is lifted.
const QUIET: Span = Span::from_ms(10_000);
/// After how long a node that is only suspected tries to do without.
const PATIENCE_MIN: Span = Span::from_ms(60_000);
/// The longest that a new try may take to come.
const PATIENCE_MAX: Span = Span::from_ms(3_600_000);

/// Whether this node throttles itself.
#[derive(Clone, Debug)]
pub(super) struct Throttle {
    /// The worst that was said since it was throttled; calm while it is free.
    worst: Level,
    quiet: Span,
    /// For how long it has been throttled, or free.
    lasted: Span,
    patience: Span,
}

impl Throttle {
    /// `worst` is what an earlier agent of this host left behind; calm if nothing.
    pub(super) const fn resumed(worst: Level) -> Self {
        Self { worst, quiet: Span::ZERO, lasted: Span::ZERO, patience: PATIENCE_MIN }
    }

    pub(super) fn is_on(&self) -> bool {
        self.worst >= Level::Suspect
    }

    /// Takes what the detectors said in a tick of `elapsed`, and how many SYNs the limit cut in it; whether the
    /// node is throttled after that.
    pub(super) fn judge(&mut self, elapsed: Span, level: Level, cut: u64) -> bool {
        self.lasted = self.lasted.plus(elapsed);
        if self.is_on() {
            self.stay(elapsed, level, cut)
        } else {
            self.begin(level)
        }
        self.is_on()
    }

    fn begin(&mut self, level: Level) {
        if self.lasted >= self.patience {
            self.patience = PATIENCE_MIN;
        }
        if level >= Level::Suspect {
            (self.worst, self.quiet, self.lasted) = (level, Span::ZERO, Span::ZERO);
        }
    }

    fn stay(&mut self, elapsed: Span, level: Level, cut: u64) {
        self.worst = self.worst.max(level);
        let speaks = level >= Level::Suspect;
        self.quiet = if speaks || cut > 0 { Span::ZERO } else { self.quiet.plus(elapsed) };
        let tries = !speaks && self.worst < Level::Convict && self.lasted >= self.patience;
        if self.quiet >= QUIET {
            (self.worst, self.lasted) = (Level::Calm, Span::ZERO);
        } else if tries {
            (self.worst, self.lasted) = (Level::Calm, Span::ZERO);
            self.patience = self.patience.times(2).min(PATIENCE_MAX);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::{format, string::String, vec::Vec};

    fn tick(throttle: &mut Throttle, level: Level, cut: u64) {
        throttle.judge(Span::from_ms(100), level, cut);
    }

    fn ticks(throttle: &mut Throttle, seconds: u64, level: Level, cut: u64) {
        (0..seconds * 10).for_each(|_| tick(throttle, level, cut));
    }

    fn state(throttle: &Throttle) -> &'static str {
        match throttle.worst {
            Level::Blind | Level::Calm => "Free",
            Level::Suspect => "Throttled, suspected",
            Level::Convict => "Throttled, convicted",
        }
    }

    type Drive = (&'static str, fn(&mut Throttle));

    #[test]
    fn the_table_in_the_docs_is_what_the_throttle_does() {
        let drives: [Drive; 6] = [
            ("nothing", |t| tick(t, Level::Calm, 0)),
            ("suspected", |t| tick(t, Level::Suspect, 0)),
            ("convicted", |t| tick(t, Level::Convict, 0)),
            ("only cut", |t| tick(t, Level::Calm, 5)),
            ("20 quiet seconds", |t| ticks(t, 20, Level::Calm, 0)),
            ("70 seconds of cuts", |t| ticks(t, 70, Level::Calm, 1)),
        ];
        let mut rows = Vec::new();
        for worst in [Level::Calm, Level::Suspect, Level::Convict] {
            for (name, drive) in &drives {
                let mut throttle = Throttle::resumed(worst);
                let before = state(&throttle);
                drive(&mut throttle);
                rows.push(format!("//! | {before} | {name} | {} |", state(&throttle)));
            }
        }
        let docs: Vec<String> = include_str!("throttle.rs")
            .lines()
            .filter(|line| line.starts_with("//! | ") && !line.contains("| state |"))
            .map(String::from)
            .collect();
        assert_eq!(docs, rows);
    }

    #[test]
    fn a_flood_that_is_only_suspected_is_tried_at_ever_longer_intervals() {
        let mut throttle = Throttle::resumed(Level::Calm);
        let mut tries = Vec::new();
        for tick in 0..4 * 36_000_u64 {
            let was_on = throttle.is_on();
            // Whenever it is free, the flood is suspected again.
            let level = if was_on { Level::Calm } else { Level::Suspect };
            throttle.judge(Span::from_ms(100), level, 90);
            if was_on && !throttle.is_on() {
                tries.push(tick / 600);
            }
        }
        assert_eq!(tries, [1, 3, 7, 15, 31, 63, 123, 183]);
    }

    #[test]
    fn an_hour_of_peace_makes_it_patient_no_more() {
        let mut throttle = Throttle::resumed(Level::Suspect);
        ticks(&mut throttle, 61, Level::Calm, 9);
        assert!(!throttle.is_on());
        ticks(&mut throttle, 3_600, Level::Calm, 0);
        throttle.judge(Span::from_ms(100), Level::Suspect, 0);
        ticks(&mut throttle, 61, Level::Calm, 9);
        assert!(!throttle.is_on(), "sixty seconds again");
    }
}
