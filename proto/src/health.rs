//! Is a service healthy, should it be restarted, and may its endpoint be given away? Pure: probe results in,
//! verdicts and restarts out.
//!
//! | state | on | becomes | and |
//! |---|---|---|---|
//! | unknown | `rise` successes in a row | healthy | |
//! | unknown | failures that weigh `fall` | down | the first restart waits one back-off: the machine may be booting |
//! | healthy | failures that weigh `fall`, restart due | ailing | restart |
//! | healthy | failures that weigh `fall`, none due | down | |
//! | ailing | `rise` successes in a row | healthy | |
//! | ailing | the patience runs out | down | |
//! | ailing, down | a failure, restart due | the same | restart |
//! | down | `rise` successes in a row | healthy | |
//!
//! A failure weighs 1, a refused connection 2: a closed port is definitive, silence may be a pause. A success
//! sets the weight back to nothing. A restart is due when the last one is one back-off away; the back-off
//! doubles from restart to restart and starts over once the service was healthy for
//! [`crate::limits::STABLE_AFTER`].
//!
//! **Invariant.** Fewer than `rise` successes never make a service healthy, failures lighter than `fall` never
//! make it unhealthy, and no two restarts are closer than their back-off. Only a restart that was just begun
//! buys patience, so a service that keeps dying is not waited for again and again.

use crate::limits::{STABLE_AFTER, TEXT_BYTES_MAX};
use crate::service::Service;
use crate::time::{Instant, Span};
use alloc::string::String;
use core::fmt;
use serde::{Deserialize, Serialize};

/// What one probe found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Probed {
    /// It works.
    Ok,
    /// Nobody listens: definitive.
    Refused,
    /// No answer in time.
    Timeout,
    /// It answered, wrongly; this is what it said.
    Bad(String),
}

/// Why a service is not healthy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Reason {
    /// Nobody listens on its port.
    #[error("its port refuses connections: the application is not running")]
    Refused,
    /// No answer in time.
    #[error("no answer in time: the application hangs or is overloaded")]
    Timeout,
    /// It answered, wrongly. At most [`TEXT_BYTES_MAX`] bytes.
    #[error("{0}")]
    Bad(String),
}

/// What is to be thought of a service now. Times are of this node's clock and stay here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Too little was seen of it.
    Unknown,
    /// It works.
    Healthy,
    /// It failed and is being restarted; the endpoint waits until then.
    Ailing {
        /// When it failed.
        since: Instant,
        /// When the patience ends and it counts as down.
        until: Instant,
        /// What the probe said that made it fail.
        reason: Reason,
    },
    /// It does not work, and its endpoint may be given away.
    Down {
        /// When it failed.
        since: Instant,
        /// What the probe said that made it fail.
        reason: Reason,
    },
}

/// What to do after a probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Advice {
    /// Go on probing.
    Watch,
    /// Restart the service now.
    Restart {
        /// The how-manieth since it was last stable, from 1.
        attempt: u32,
    },
}

/// One service's health on this node.
#[derive(Debug, Clone)]
pub struct Health {
    rules: Rules,
    state: State,
    restarts: Restarts,
}

#[derive(Debug, Clone)]
struct Rules {
    rise: u8,
    fall: u8,
    restart: Option<RestartRules>,
}

#[derive(Debug, Clone, Copy)]
struct RestartRules {
    patience: Span,
    backoff_min: Span,
    backoff_max: Span,
}

#[derive(Debug, Clone)]
enum State {
    Unknown { successes: u8, weight: u8 },
    Healthy { since: Instant, weight: u8 },
    Unhealthy { since: Instant, until: Option<Instant>, reason: Reason, successes: u8 },
}

#[derive(Debug, Clone, Default)]
struct Restarts {
    attempts: u32,
    last: Option<Instant>,
    not_before: Instant,
}

impl Health {
    /// A service of which nothing is known yet.
    #[must_use]
    pub fn new(service: &Service) -> Self {
        let restart = service.restart.as_ref().map(|restart| RestartRules {
            patience: Span::from_ms(restart.patience_ms.into()),
            backoff_min: Span::from_ms(restart.backoff_ms_min.into()),
            backoff_max: Span::from_ms(restart.backoff_ms_max.into()),
        });
        let rules = Rules { rise: service.rise.max(1), fall: service.fall.max(1), restart };
        Self { rules, state: State::Unknown { successes: 0, weight: 0 }, restarts: Restarts::default() }
    }

    /// Takes in the result of a probe that ended `now`.
    pub fn observe(&mut self, probed: Probed, now: Instant) -> Advice {
        match Failure::of(probed) {
            None => {
                self.succeed(now);
                Advice::Watch
            }
            Some(failure) => self.fail(failure, now),
        }
    }

    /// What is to be thought of it `now`.
    #[must_use]
    pub fn verdict(&self, now: Instant) -> Verdict {
        match &self.state {
            State::Unknown { .. } => Verdict::Unknown,
            State::Healthy { .. } => Verdict::Healthy,
            State::Unhealthy { since, until, reason, .. } => match until {
                Some(until) if now < *until => {
                    Verdict::Ailing { since: *since, until: *until, reason: reason.clone() }
                }
                Some(_) | None => Verdict::Down { since: *since, reason: reason.clone() },
            },
        }
    }

    /// When the verdict changes without another probe: the end of the patience.
    #[must_use]
    pub fn deadline(&self, now: Instant) -> Option<Instant> {
        match self.verdict(now) {
            Verdict::Ailing { until, .. } => Some(until),
            Verdict::Unknown | Verdict::Healthy | Verdict::Down { .. } => None,
        }
    }

    fn succeed(&mut self, now: Instant) {
        match &mut self.state {
            State::Healthy { since, weight } => {
                *weight = 0;
                if now.since(*since) >= STABLE_AFTER {
                    self.restarts.attempts = 0;
                }
            }
            State::Unknown { successes, weight } => {
                *weight = 0;
                *successes = successes.saturating_add(1);
                if *successes >= self.rules.rise {
                    self.state = State::Healthy { since: now, weight: 0 };
                }
            }
            State::Unhealthy { successes, .. } => {
                *successes = successes.saturating_add(1);
                if *successes >= self.rules.rise {
                    self.state = State::Healthy { since: now, weight: 0 };
                }
            }
        }
    }

    fn fail(&mut self, failure: Failure, now: Instant) -> Advice {
        match &mut self.state {
            State::Unknown { successes, weight } => {
                *successes = 0;
                *weight = weight.saturating_add(failure.weight);
                if *weight >= self.rules.fall {
                    self.fall(failure.reason, None, now);
                    if let Some(rules) = self.rules.restart {
                        self.restarts.not_before = now.after(rules.backoff_min);
                    }
                }
                Advice::Watch
            }
            State::Healthy { weight, .. } => {
                *weight = weight.saturating_add(failure.weight);
                if *weight < self.rules.fall {
                    return Advice::Watch;
                }
                let advice = self.restart_if_due(now);
                let until = match (advice, self.rules.restart) {
                    (Advice::Restart { .. }, Some(rules)) => Some(now.after(rules.patience)),
                    (Advice::Restart { .. } | Advice::Watch, _) => None,
                };
                self.fall(failure.reason, until, now);
                advice
            }
            State::Unhealthy { successes, .. } => {
                *successes = 0;
                self.restart_if_due(now)
            }
        }
    }

    fn fall(&mut self, reason: Reason, until: Option<Instant>, now: Instant) {
        self.state = State::Unhealthy { since: now, until, reason, successes: 0 };
    }

    fn restart_if_due(&mut self, now: Instant) -> Advice {
        let Some(rules) = self.rules.restart else { return Advice::Watch };
        if !self.restarts.due(rules, now) {
            return Advice::Watch;
        }
        self.restarts.last = Some(now);
        self.restarts.attempts = self.restarts.attempts.saturating_add(1);
        Advice::Restart { attempt: self.restarts.attempts }
    }
}

impl Restarts {
    fn due(&self, rules: RestartRules, now: Instant) -> bool {
        let doublings = self.attempts.saturating_sub(1).min(32);
        let backoff = rules.backoff_min.times(1 << doublings).min(rules.backoff_max);
        now >= self.not_before && self.last.is_none_or(|last| now.since(last) >= backoff)
    }
}

impl Verdict {
    /// Whether visitors can be served.
    #[must_use]
    pub const fn is_healthy(&self) -> bool {
        matches!(self, Self::Healthy)
    }

    /// The word for logs, metrics and tables.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Healthy => "healthy",
            Self::Ailing { .. } => "ailing",
            Self::Down { .. } => "down",
        }
    }

    /// Why it is not healthy, if that is known.
    #[must_use]
    pub const fn reason(&self) -> Option<&Reason> {
        match self {
            Self::Unknown | Self::Healthy => None,
            Self::Ailing { reason, .. } | Self::Down { reason, .. } => Some(reason),
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.reason() {
            Some(reason) => write!(f, "{} ({reason})", self.word()),
            None => f.write_str(self.word()),
        }
    }
}

struct Failure {
    weight: u8,
    reason: Reason,
}

impl Failure {
    fn of(probed: Probed) -> Option<Self> {
        match probed {
            Probed::Ok => None,
            Probed::Refused => Some(Self { weight: 2, reason: Reason::Refused }),
            Probed::Timeout => Some(Self { weight: 1, reason: Reason::Timeout }),
            Probed::Bad(mut text) => {
                text.truncate(text.floor_char_boundary(TEXT_BYTES_MAX));
                Some(Self { weight: 1, reason: Reason::Bad(text) })
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{Check, Restart, RestartHow};
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn service(rise: u8, fall: u8, restarts: bool) -> Service {
        let mut service = Service::new("web".parse().unwrap(), Check::Tcp { port: 80 });
        (service.rise, service.fall) = (rise, fall);
        service.restart = restarts.then(|| Restart::new(RestartHow::Unit("web".into())));
        service
    }

    const fn ms(ms: u64) -> Instant {
        Instant::ZERO.after(Span::from_ms(ms))
    }

    fn healthy(service: &Service) -> Health {
        let mut health = Health::new(service);
        for _ in 0..service.rise {
            health.observe(Probed::Ok, ms(0));
        }
        assert_eq!(health.verdict(ms(0)), Verdict::Healthy);
        health
    }

    #[test]
    fn nothing_is_known_before_enough_was_seen() {
        let mut health = Health::new(&service(2, 2, false));
        for probed in [Probed::Ok, Probed::Timeout, Probed::Ok, Probed::Timeout] {
            health.observe(probed, ms(0));
            assert_eq!(health.verdict(ms(0)), Verdict::Unknown);
        }
    }

    #[test]
    fn one_late_answer_is_no_failure_but_a_closed_port_is() {
        let mut late = healthy(&service(2, 2, false));
        late.observe(Probed::Timeout, ms(100));
        assert_eq!(late.verdict(ms(100)), Verdict::Healthy);
        let mut closed = healthy(&service(2, 2, false));
        closed.observe(Probed::Refused, ms(100));
        assert_eq!(closed.verdict(ms(100)), Verdict::Down { since: ms(100), reason: Reason::Refused });
    }

    #[test]
    fn a_success_between_failures_forgives_them() {
        let mut health = healthy(&service(2, 2, false));
        for probed in [Probed::Timeout, Probed::Ok, Probed::Timeout, Probed::Ok] {
            health.observe(probed, ms(100));
            assert_eq!(health.verdict(ms(100)), Verdict::Healthy);
        }
    }

    #[test]
    fn the_endpoint_waits_for_a_restart_and_no_longer_than_its_patience() {
        let mut health = healthy(&service(2, 2, true));
        assert_eq!(health.observe(Probed::Refused, ms(100)), Advice::Restart { attempt: 1 });
        let ailing = Verdict::Ailing { since: ms(100), until: ms(250), reason: Reason::Refused };
        assert_eq!(health.verdict(ms(249)), ailing);
        assert_eq!(health.deadline(ms(249)), Some(ms(250)));
        assert_eq!(health.verdict(ms(250)), Verdict::Down { since: ms(100), reason: Reason::Refused });
        assert_eq!(health.deadline(ms(250)), None);
    }

    #[test]
    fn a_service_that_dies_again_at_once_is_not_waited_for_again() {
        let mut health = healthy(&service(1, 2, true));
        health.observe(Probed::Refused, ms(100));
        health.observe(Probed::Ok, ms(200));
        assert_eq!(health.verdict(ms(200)), Verdict::Healthy);
        assert_eq!(health.observe(Probed::Refused, ms(300)), Advice::Watch);
        assert_eq!(health.verdict(ms(300)), Verdict::Down { since: ms(300), reason: Reason::Refused });
    }

    #[test]
    fn restarts_double_their_distance_up_to_the_longest() {
        let mut health = healthy(&service(1, 2, true));
        let at_s: Vec<u64> = (0..15_000)
            .filter(|tenth| health.observe(Probed::Refused, ms(tenth * 100)) != Advice::Watch)
            .map(|tenth| tenth / 10)
            .collect();
        assert_eq!(at_s, [0, 1, 3, 7, 15, 31, 63, 127, 255, 511, 811, 1_111, 1_411]);
    }

    #[test]
    fn a_stable_minute_earns_a_quick_restart() {
        let mut health = healthy(&service(1, 2, true));
        for tenth in 0..200 {
            health.observe(Probed::Refused, ms(tenth * 100));
        }
        health.observe(Probed::Ok, ms(20_000));
        health.observe(Probed::Ok, ms(80_000));
        assert_eq!(health.observe(Probed::Refused, ms(80_100)), Advice::Restart { attempt: 1 });
    }

    #[test]
    fn a_service_that_was_never_seen_healthy_is_left_to_boot_first() {
        let mut health = Health::new(&service(1, 2, true));
        assert_eq!(health.observe(Probed::Refused, ms(0)), Advice::Watch);
        assert_eq!(health.verdict(ms(0)).word(), "down");
        assert_eq!(health.observe(Probed::Refused, ms(999)), Advice::Watch);
        assert_eq!(health.observe(Probed::Refused, ms(1_000)), Advice::Restart { attempt: 1 });
    }

    #[test]
    fn no_reason_is_longer_than_a_text_may_be() {
        let mut health = healthy(&service(1, 1, false));
        health.observe(Probed::Bad("é".repeat(1_000)), ms(0));
        let Verdict::Down { reason: Reason::Bad(text), .. } = health.verdict(ms(0)) else { panic!() };
        assert_eq!(text.len(), TEXT_BYTES_MAX);
    }

    fn probed() -> impl Strategy<Value = Probed> {
        prop_oneof![
            4 => Just(Probed::Ok),
            1 => Just(Probed::Refused),
            1 => Just(Probed::Timeout),
            1 => Just(Probed::Bad("500".into())),
        ]
    }

    /// The weight of the failures since the last success, and the successes since the last failure.
    fn streaks(seen: &[Probed]) -> (u32, usize) {
        let failures = seen.iter().rev().take_while(|probed| **probed != Probed::Ok);
        let weight = failures.map(|probed| if *probed == Probed::Refused { 2 } else { 1 }).sum();
        (weight, seen.iter().rev().take_while(|probed| **probed == Probed::Ok).count())
    }

    proptest! {
        #[test]
        fn it_never_flaps_faster_than_rise_and_fall_permit_nor_restarts_before_its_backoff(
            rise in 1_u8..5, fall in 1_u8..5, restarts: bool,
            steps in prop::collection::vec((1_u64..20_000, probed()), 1..200),
        ) {
            let mut health = Health::new(&service(rise, fall, restarts));
            let (mut now, mut seen) = (Instant::ZERO, Vec::new());
            let (mut last_restart, mut stretch) = (None::<Instant>, 0_u32);
            let mut healthy_since = None::<Instant>;
            for (gap, probed) in steps {
                now = now.after(Span::from_ms(gap));
                let was_healthy = health.verdict(now).is_healthy();
                seen.push(probed.clone());
                let advice = health.observe(probed.clone(), now);
                let (weight, successes) = streaks(&seen);
                let verdict = health.verdict(now);
                match (was_healthy, verdict.is_healthy()) {
                    (false, true) => prop_assert!(successes >= usize::from(rise)),
                    (true, false) => prop_assert!(weight >= u32::from(fall)),
                    (false, false) => prop_assert!(successes < usize::from(rise)),
                    (true, true) => prop_assert!(weight < u32::from(fall)),
                }
                if verdict.is_healthy() {
                    let since = *healthy_since.get_or_insert(now);
                    if probed == Probed::Ok && now.since(since) >= STABLE_AFTER {
                        stretch = 0;
                    }
                } else {
                    healthy_since = None;
                }
                if let Advice::Restart { attempt } = advice {
                    prop_assert!(restarts && probed != Probed::Ok && !verdict.is_healthy());
                    if let Some(last) = last_restart {
                        let backoff_ms = 1_000_u64 << stretch.saturating_sub(1).min(20);
                        prop_assert!(now.since(last) >= Span::from_ms(backoff_ms.min(300_000)));
                    }
                    stretch += 1;
                    prop_assert_eq!(attempt, stretch);
                    last_restart = Some(now);
                }
                if let Verdict::Ailing { since, until, .. } = verdict {
                    prop_assert!(last_restart.is_some_and(|last| last >= since));
                    prop_assert_eq!(until.since(since), Span::from_ms(150));
                }
            }
        }
    }
}
