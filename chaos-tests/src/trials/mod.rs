//! Trials by the thousand: the tribunal among liars, in virtual time.
//!
//! Each trial has ⌊(n−1)/2⌋ liars of its own kind, at least one of them visibly hostile, and honest mistakes
//! ([`scene`]); every honest node runs the real tribunal ([`world`]); and an oracle that knows the truth watches
//! ([`oracle`]). With any rule against abuse switched off some trial has to end badly: that proves the rule, and the trials.

pub mod oracle;
pub mod scene;
pub mod world;

use crate::lease_search::schedule_seed;
use oracle::{Fault, Oracle};
use stead_proto::tribunal::Rules;

/// A trial that ended badly.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    /// Its number, from 0.
    pub number: u64,
    /// Its seed.
    pub seed: u64,
    /// What happened.
    pub fault: Fault,
}

/// What trials came to.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// How many were played.
    pub trials: u64,
    /// From the first sign to the last honest node's isolation of it, each, sorted, in ms.
    pub took_ms: Vec<u64>,
    /// The first that ended badly.
    pub failure: Option<Failure>,
}

/// Plays `trials` trials of `n` nodes, up to the first that ends badly.
#[must_use]
pub fn search(trials: u64, seed: u64, n: u64, rules: Rules) -> Found {
    let mut found = Found::default();
    for number in 0..trials {
        let seed = schedule_seed(seed, number);
        found.trials += 1;
        match world::run(seed, n, rules) {
            Ok(Oracle { took_ms, .. }) => found.took_ms.extend(took_ms),
            Err(fault) => {
                found.failure = Some(Failure { number, seed, fault });
                break;
            }
        }
    }
    found.took_ms.sort_unstable();
    found
}
