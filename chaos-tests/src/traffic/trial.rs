//! The two trials of the detectors: an honest server for days, and a flood on top of one.
//!
//! **Invariant.** A delay counts from the moment of the first SYN to the end of the tick that shows the alarm, which
//! is when the agent can act; the moment is random within its tick.

use super::flood::{Flood, Kind};
use super::profile::{PROFILES, Profile};
use super::source::Source;
use crate::lease_search::rng::Rng;
use serde::Serialize;
use stead_proto::detect::{Detector, Detectors, Integrity, Level};
use stead_proto::telemetry::TICK;
use stead_proto::time::Instant;

const TICK_US: u64 = 100_000;
const TICKS_PER_DAY: u64 = 864_000;
/// Ticks of honest traffic before a flood.
const BEFORE: u64 = 300;
/// Ticks for which a flood is watched.
const WATCHED: u64 = 600;

/// What one detector said of an honest server.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct FalseAlarms {
    /// Times that a suspicion began.
    pub suspicions: u64,
    /// Times that a conviction began.
    pub convictions: u64,
    /// How long it was above calm, in ticks.
    pub ticks: u64,
}

/// What an honest server looked like to each detector, in the order of [`Detector::ALL`].
pub type Honest = [FalseAlarms; Detector::ALL.len()];

/// Runs an honest server for `ticks`.
#[must_use]
pub fn honest(profile: Profile, seed: u64, ticks: u64) -> Honest {
    let mut source = Source::new(profile, seed);
    let mut detectors = Detectors::new();
    let mut alarms = Honest::default();
    let mut before = [Level::Blind; Detector::ALL.len()];
    let mut now = Instant::ZERO;
    for _ in 0..ticks {
        now = now.after(TICK);
        let findings = detectors.tick(now, &source.next_sample(), Some(Integrity::Ours));
        for ((alarm, before), detector) in alarms.iter_mut().zip(&mut before).zip(Detector::ALL) {
            let level = findings.of(detector).level;
            alarm.ticks += u64::from(level > Level::Calm);
            if level > *before {
                alarm.suspicions += u64::from(level == Level::Suspect);
                alarm.convictions += u64::from(level == Level::Convict);
            }
            *before = level;
        }
    }
    alarms
}

/// As [`honest`], in days.
#[must_use]
pub fn honest_days(profile: Profile, seed: u64, days: u64) -> Honest {
    honest(profile, seed, days * TICKS_PER_DAY)
}

/// How long a flood went unnoticed, in microseconds; `None` if it stayed so.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Delay {
    /// Until it was at least suspected.
    pub suspect_us: Option<u64>,
    /// Until it was convicted.
    pub convict_us: Option<u64>,
}

/// Starts a flood on a shop's server and waits for the detectors.
#[must_use]
pub fn flood(kind: Kind, per_s: u64, seed: u64) -> Delay {
    let [_, shop, ..] = PROFILES;
    let mut rng = Rng::new(seed);
    let mut source = Source::new(shop, rng.bits());
    let mut detectors = Detectors::new();
    let mut now = Instant::ZERO;
    for _ in 0..BEFORE {
        now = now.after(TICK);
        let _ = detectors.tick(now, &source.next_sample(), Some(Integrity::Ours));
    }
    let mut flood = Flood::new(kind, per_s);
    let first_us = rng.between(1, TICK_US);
    let mut delay = Delay::default();
    for tick in 0..WATCHED {
        now = now.after(TICK);
        let mut sample = source.next_sample();
        flood.add(if tick == 0 { first_us } else { TICK_US }, &mut sample);
        let worst = detectors.tick(now, &sample, Some(Integrity::Ours)).worst();
        let since_us = first_us + tick * TICK_US;
        if worst >= Level::Suspect {
            delay.suspect_us = delay.suspect_us.or(Some(since_us));
        }
        if worst == Level::Convict {
            delay.convict_us = Some(since_us);
            break;
        }
    }
    delay
}

/// The delays of one kind of flood at one rate over several seeds.
#[derive(Clone, Debug, Serialize)]
pub struct FloodResult {
    /// How it was sent.
    pub kind: Kind,
    /// SYNs a second.
    pub per_s: u64,
    /// Until it was at least suspected.
    pub suspect: Spread,
    /// Until it was convicted.
    pub convict: Spread,
    /// Whether the rules promised more than was found.
    pub missed: bool,
}

/// Delays over several seeds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Spread {
    /// In how many of them there was one.
    pub found: usize,
    /// The median of those, in milliseconds.
    pub p50_ms: Option<u64>,
    /// The longest of those, in milliseconds.
    pub max_ms: Option<u64>,
}

impl Spread {
    fn of(delays: impl Iterator<Item = Option<u64>>) -> Self {
        let mut us: Vec<u64> = delays.flatten().collect();
        us.sort_unstable();
        let ms = |us: Option<&u64>| us.map(|us| us.div_ceil(1_000));
        let middle = us.len().saturating_sub(1) / 2;
        Self { found: us.len(), p50_ms: ms(us.get(middle)), max_ms: ms(us.last()) }
    }
}

/// Runs a flood with `seeds` seeds from `seed` on.
#[must_use]
pub fn floods(kind: Kind, per_s: u64, seed: u64, seeds: usize) -> FloodResult {
    let delays: Vec<Delay> = (seed..).take(seeds).map(|seed| flood(kind, per_s, seed)).collect();
    let suspect = Spread::of(delays.iter().map(|delay| delay.suspect_us));
    let convict = Spread::of(delays.iter().map(|delay| delay.convict_us));
    let promised = kind.detectable();
    let missed = (per_s >= promised.suspect && suspect.found < seeds)
        || (promised.convict.is_some_and(|least| per_s >= least) && convict.found < seeds);
    FloodResult { kind, per_s, suspect, convict, missed }
}
