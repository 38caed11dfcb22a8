//! What a detector says, and how long it goes on saying it.
//!
//! **Invariant.** An alarm goes up in the tick that shows its reason and comes down only after [`HOLD`] without
//! one. A sensor that falls silent does not end an alarm: whoever floods could otherwise acquit himself by
//! unloading it.

use crate::time::{Instant, Span};

/// How long an alarm outlives its reason.
pub const HOLD: Span = Span::from_ms(10_000);

/// What a detector makes of the last tick, from the least to the worst.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Level {
    /// Its sensor is missing: it can tell nothing.
    #[default]
    Blind,
    /// Nothing to see.
    Calm,
    /// Reason to throttle this node by itself.
    Suspect,
    /// Reason for the peers to act.
    Convict,
}

impl Level {
    /// `self` if `reached`, calm otherwise.
    pub(super) const fn when(self, reached: bool) -> Self {
        if reached { self } else { Self::Calm }
    }
}

/// What one detector says, with the figures that a person needs to follow it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Judgement {
    /// What it says now.
    pub level: Level,
    /// Since when it says so.
    pub since: Instant,
    /// What it counts, per second, over its window.
    pub rate: u64,
    /// What it compares with the threshold.
    pub sum: u64,
    /// Where its alarm begins.
    pub threshold: u64,
}

/// What was measured in one tick, before hysteresis.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Reading {
    pub(super) level: Level,
    pub(super) rate: u64,
    pub(super) sum: u64,
    pub(super) threshold: u64,
}

/// The memory of one alarm.
#[derive(Clone, Debug, Default)]
pub(super) struct Alarm {
    level: Level,
    since: Instant,
    quiet: Span,
}

impl Alarm {
    /// Takes the reading of a tick that ended at `now` and lasted `elapsed`.
    pub(super) fn judge(&mut self, now: Instant, elapsed: Span, reading: Reading) -> Judgement {
        let next = self.next(elapsed, reading.level);
        if next != self.level {
            (self.level, self.since) = (next, now);
        }
        let Reading { rate, sum, threshold, .. } = reading;
        Judgement { level: self.level, since: self.since, rate, sum, threshold }
    }

    fn next(&mut self, elapsed: Span, seen: Level) -> Level {
        if seen >= self.level || self.level <= Level::Calm {
            self.quiet = Span::ZERO;
            return seen;
        }
        self.quiet = self.quiet.plus(elapsed);
        if self.quiet < HOLD {
            return self.level;
        }
        self.quiet = Span::ZERO;
        seen
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn judge(alarm: &mut Alarm, now_ms: u64, level: Level) -> Level {
        let now = Instant::ZERO.after(Span::from_ms(now_ms));
        alarm.judge(now, Span::from_ms(1_000), Reading { level, ..Reading::default() }).level
    }

    #[test]
    fn an_alarm_rises_at_once_and_falls_after_ten_quiet_seconds() {
        let mut alarm = Alarm::default();
        assert_eq!(judge(&mut alarm, 0, Level::Convict), Level::Convict);
        for second in 1..10 {
            assert_eq!(judge(&mut alarm, second * 1_000, Level::Calm), Level::Convict);
        }
        assert_eq!(judge(&mut alarm, 10_000, Level::Calm), Level::Calm);
    }

    #[test]
    fn a_reason_in_between_starts_the_ten_seconds_again() {
        let mut alarm = Alarm::default();
        judge(&mut alarm, 0, Level::Suspect);
        for second in 1..=9 {
            judge(&mut alarm, second * 1_000, Level::Calm);
        }
        judge(&mut alarm, 10_000, Level::Suspect);
        assert_eq!(judge(&mut alarm, 11_000, Level::Calm), Level::Suspect);
    }

    #[test]
    fn a_sensor_that_falls_silent_does_not_acquit() {
        let mut alarm = Alarm::default();
        judge(&mut alarm, 0, Level::Convict);
        assert_eq!(judge(&mut alarm, 1_000, Level::Blind), Level::Convict);
        for second in 2..10 {
            judge(&mut alarm, second * 1_000, Level::Blind);
        }
        assert_eq!(judge(&mut alarm, 10_000, Level::Blind), Level::Blind);
    }
}
