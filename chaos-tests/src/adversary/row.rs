//! Many nights of one kind, as people and as programs read them.

use serde::Serialize;

use super::malware::Struck;
use super::role::Role;
use crate::flood::Spread;

/// What DESIGN §10 asks for, in milliseconds.
const CUT_OFF_MAX_MS: u64 = 3_000;
const ELSEWHERE_MAX_MS: u64 = 3_000;
const OUTAGE_MAX_MS: u64 = 1_000;

/// What the nights of one role came to.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// What the hostile node was.
    pub role: Role,
    /// How many nodes there were.
    pub nodes: u8,
    /// How often it was played to its end, and how often not.
    pub runs: usize,
    /// Runs that did not come to their end.
    pub failed: usize,
    /// Until the last honest node had cut it off.
    pub isolated_ms: Option<Spread>,
    /// Until an honest node served.
    pub elsewhere_ms: Option<Spread>,
    /// Until an honest node led.
    pub led_ms: Option<Spread>,
    /// Until the log had it.
    pub recorded_ms: Option<Spread>,
    /// Visitors' longest outage.
    pub outage_ms: Option<Spread>,
    /// SYNs at the victim.
    pub syns: Option<Spread>,
    /// Honest nodes that were cut off, in all runs.
    pub honest_isolated: usize,
    /// Connections that the evicted key was let into, in all runs.
    pub let_in: usize,
    /// Whether every goal was reached in every run.
    pub reached: bool,
}

impl Row {
    /// Of all nights of one role.
    #[must_use]
    pub fn of(role: Role, nodes: u8, nights: &[Struck], failed: usize) -> Self {
        let spread = |of: fn(&Struck) -> Option<u64>| Spread::of(nights.iter().filter_map(of));
        let honest_isolated = nights.iter().map(|night| night.honest_isolated).sum();
        let let_in = nights.iter().map(|night| night.let_in).sum();
        Self {
            role,
            nodes,
            runs: nights.len(),
            failed,
            isolated_ms: spread(|night| Some(night.isolated_ms.1)),
            elsewhere_ms: spread(|night| night.elsewhere_ms),
            led_ms: spread(|night| night.led_ms),
            recorded_ms: spread(|night| Some(night.recorded_ms)),
            outage_ms: spread(|night| Some(night.outage_ms)),
            syns: spread(|night| Some(night.syns)),
            honest_isolated,
            let_in,
            reached: failed == 0 && !nights.is_empty() && nights.iter().all(reached),
        }
    }
}

/// Whether one night reached every goal.
fn reached(night: &Struck) -> bool {
    night.isolated_ms.1 <= CUT_OFF_MAX_MS
        && night.elsewhere_ms.is_none_or(|ms| ms <= ELSEWHERE_MAX_MS)
        && night.outage_ms <= OUTAGE_MAX_MS
        && night.honest_isolated == 0
        && night.let_in == 0
}

impl Struck {
    /// Whether it reached every goal of DESIGN §10.
    #[must_use]
    pub fn reached(&self) -> bool {
        reached(self)
    }
}
