//! The random-schedule search that tries to break the lease.
//!
//! Each schedule is a small mesh under its own mix of faults, in virtual time, with the real state machine of
//! `stead-proto` on every node ([`world`]) and an oracle in true time ([`oracle`]). A schedule is fixed by its
//! seed, so what fails can be replayed step by step. With one of the rules P1, P2, P7, P8 switched off the
//! search has to find a violation: that proves both the rule and the search.

pub mod host;
pub mod mix;
pub mod oracle;
pub mod rng;
pub mod world;

use oracle::{Heed, Seen, Violation};
use rng::Rng;
use std::num::NonZero;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use stead_proto::lease::Rules;
use world::Telling;

/// What to search.
#[derive(Clone, Copy, Debug)]
pub struct Search {
    /// How many schedules.
    pub schedules: u64,
    /// From which the schedules' seeds grow.
    pub seed: u64,
    /// The rules in force.
    pub rules: Rules,
    /// What counts as a failure.
    pub heed: Heed,
}

/// What came out.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// Schedules that were run to their end.
    pub schedules: u64,
    /// Their figures together.
    pub seen: Seen,
    /// The first failing one.
    pub failure: Option<Failure>,
}

/// A schedule that broke a rule.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// The how-manieth schedule, counted from 0.
    pub number: u64,
    /// Its own seed, for a replay.
    pub seed: u64,
    /// What it broke.
    pub violation: Violation,
}

/// The seed of schedule `number` of a search.
#[must_use]
pub fn schedule_seed(search_seed: u64, number: u64) -> u64 {
    Rng::new(search_seed.wrapping_add(number)).bits()
}

struct Shared {
    seen: Seen,
    schedules: u64,
    failure: Option<Failure>,
}

/// Runs the schedules on all cores, up to the first that fails. `progress` is called now and then with the
/// number of schedules that were run.
pub fn search(search: &Search, progress: impl Fn(u64) + Sync) -> Found {
    let next = AtomicU64::new(0);
    // No schedule after the first failing one is of interest; all before it are.
    let end = AtomicU64::new(search.schedules);
    let shared = Mutex::new(Shared { seen: Seen::NOTHING, schedules: 0, failure: None });
    let cores = thread::available_parallelism().map_or(1, NonZero::get);
    thread::scope(|scope| {
        for _ in 0..cores {
            scope.spawn(|| work(search, &next, &end, &shared, &progress));
        }
    });
    let Shared { seen, schedules, failure } =
        shared.into_inner().unwrap_or_else(|poison| poison.into_inner());
    Found { schedules, seen, failure }
}

fn work(
    search: &Search,
    next: &AtomicU64,
    end: &AtomicU64,
    shared: &Mutex<Shared>,
    progress: &(impl Fn(u64) + Sync),
) {
    const BATCH: u64 = 64;
    loop {
        let first = next.fetch_add(BATCH, Ordering::Relaxed);
        if first >= end.load(Ordering::Relaxed) {
            return;
        }
        let (mut seen, mut schedules, mut failure) = (Seen::NOTHING, 0, None);
        for number in first..first + BATCH {
            if number >= end.load(Ordering::Relaxed) {
                break;
            }
            let seed = schedule_seed(search.seed, number);
            let outcome = world::run(seed, search.rules, search.heed, Telling::Quiet);
            seen.add(&outcome.seen);
            schedules += 1;
            if let Some(violation) = outcome.violation {
                failure = Some(Failure { number, seed, violation });
                end.fetch_min(number, Ordering::Relaxed);
                break;
            }
        }
        let mut shared = shared.lock().unwrap_or_else(|poison| poison.into_inner());
        shared.seen.add(&seen);
        shared.schedules += schedules;
        if let Some(failure) = failure
            && shared.failure.is_none_or(|known| failure.number < known.number)
        {
            shared.failure = Some(failure);
        }
        progress(shared.schedules);
    }
}
