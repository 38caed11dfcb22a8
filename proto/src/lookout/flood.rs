//! The record of one flood, outgoing or incoming: what its incident will say.
//!
//! **Invariant.** Sums never go back while it lasts, also over a restart of the agent ([`Outgoing::resumed`]); it is
//! kept for [`SHOWN`] after its end, so that the figures reach whoever writes the incident.

use super::seen::{Attacked, Flood, SENDER_BYTES_MAX, SENDERS_MAX, TARGETS_MAX};
use crate::detect::{Detector, Findings, Inbound, Level};
use crate::time::Span;
use alloc::{string::String, vec::Vec};
use core::net::IpAddr;

/// How long a flood is told of after its end.
const SHOWN: Span = Span::from_ms(60_000);

/// What one tick adds.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Tick {
    pub(super) elapsed: Span,
    pub(super) unix_ms: u64,
    /// SYNs of the tick, and of the last second.
    pub(super) count: u64,
    pub(super) rate: u32,
    /// Of those of the tick, and of the last second: how many left, or met a full queue.
    pub(super) part: u64,
    pub(super) part_rate: u32,
}

impl Tick {
    /// SYNs of the last second before this tick, and the part of them: what came about before anybody noticed.
    fn before(&self) -> (u64, u64) {
        let before = |rate: u32, count: u64| u64::from(rate).saturating_sub(count);
        (before(self.rate, self.count), before(self.part_rate, self.part))
    }
}

/// The flood that leaves this node.
#[derive(Clone, Debug, Default)]
pub(super) struct Outgoing {
    record: Option<Flood>,
    since_end: Span,
}

impl Outgoing {
    pub(super) fn resumed(record: Option<Flood>) -> Self {
        Self { record: record.filter(|flood| flood.ended_unix_ms.is_none()), since_end: Span::ZERO }
    }

    pub(super) const fn record(&self) -> Option<&Flood> {
        self.record.as_ref()
    }

    /// Begins, continues, ends or forgets the record. `on` is whether the node is throttled, or would be.
    pub(super) fn tick(&mut self, on: bool, tick: Tick, findings: &Findings, target: Option<IpAddr>) {
        let lives = self.record.as_ref().is_some_and(|flood| flood.ended_unix_ms.is_none());
        if on && !lives {
            let (sent, escaped) = tick.before();
            self.record = Some(Flood { began_unix_ms: tick.unix_ms, sent, escaped, ..Flood::default() });
        }
        let Some(flood) = &mut self.record else { return };
        match (on, flood.ended_unix_ms) {
            (true, _) => add(flood, tick, findings, target),
            (false, None) => {
                flood.ended_unix_ms = Some(tick.unix_ms);
                self.since_end = Span::ZERO;
            }
            (false, Some(_)) => {
                self.since_end = self.since_end.plus(tick.elapsed);
                if self.since_end >= SHOWN {
                    self.record = None;
                }
            }
        }
    }

    /// Programs that may be behind it.
    pub(super) fn accuse(&mut self, senders: &[String]) {
        let Some(flood) = self.record.as_mut().filter(|flood| flood.ended_unix_ms.is_none()) else { return };
        for sender in senders {
            let mut end = sender.len().min(SENDER_BYTES_MAX);
            while !sender.is_char_boundary(end) {
                end -= 1;
            }
            let sender = sender.get(..end).unwrap_or_default();
            if flood.senders.len() < SENDERS_MAX && flood.senders.iter().all(|known| known != sender) {
                flood.senders.push(sender.into());
            }
        }
    }
}

fn add(flood: &mut Flood, tick: Tick, findings: &Findings, target: Option<IpAddr>) {
    flood.peak = flood.peak.max(tick.rate);
    flood.sent = flood.sent.saturating_add(tick.count);
    flood.escaped = flood.escaped.saturating_add(tick.part);
    for detector in Detector::ALL {
        let level = findings.of(detector).level;
        if level >= Level::Suspect && throttles(detector) && !flood.detectors.contains(&detector) {
            flood.detectors.push(detector);
        }
    }
    flood.worst = flood.worst.max(worst(findings));
    if let Some(target) = target
        && flood.targets.len() < TARGETS_MAX
        && !flood.targets.contains(&target)
    {
        flood.targets.push(target);
    }
}

/// Whether what a detector says is a reason to throttle.
///
/// The slow channel of D4 stands on for any crawler, D6 speaks of what no limit on SYNs can hold, and D8 of who
/// meddled with us: these only tell.
pub(super) const fn throttles(detector: Detector) -> bool {
    match detector {
        Detector::Provenance
        | Detector::Illegal
        | Detector::Identity
        | Detector::Outstanding
        | Detector::Magnitude
        | Detector::RawOther => true,
        Detector::Drip | Detector::Conservation | Detector::Integrity => false,
    }
}

/// The worst that a detector with a right to throttle says.
pub(super) fn worst(findings: &Findings) -> Level {
    let levels = Detector::ALL.into_iter().filter(|detector| throttles(*detector));
    levels.map(|detector| findings.of(detector).level).max().unwrap_or_default()
}

/// The flood that arrives at this node.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Incoming {
    record: Option<Attacked>,
    since_end: Span,
}

impl Incoming {
    pub(super) const fn record(&self) -> Option<Attacked> {
        self.record
    }

    pub(super) fn tick(&mut self, state: Inbound, tick: Tick) {
        let on = state == Inbound::UnderAttack;
        let lives = self.record.is_some_and(|attack| attack.ended_unix_ms.is_none());
        if on && !lives {
            let (received, queue_full) = tick.before();
            self.record =
                Some(Attacked { began_unix_ms: tick.unix_ms, received, queue_full, ..Attacked::default() });
        }
        let Some(attack) = &mut self.record else { return };
        match (on, attack.ended_unix_ms) {
            (true, _) => {
                attack.peak = attack.peak.max(tick.rate);
                attack.received = attack.received.saturating_add(tick.count);
                attack.queue_full = attack.queue_full.saturating_add(tick.part);
            }
            (false, None) => {
                attack.ended_unix_ms = Some(tick.unix_ms);
                self.since_end = Span::ZERO;
            }
            (false, Some(_)) => {
                self.since_end = self.since_end.plus(tick.elapsed);
                if self.since_end >= SHOWN {
                    self.record = None;
                }
            }
        }
    }
}

/// Every alarm but the calm ones.
pub(super) fn alarms(findings: &Findings) -> Vec<(Detector, Level)> {
    let all = Detector::ALL.into_iter().map(|detector| (detector, findings.of(detector).level));
    all.filter(|(_, level)| *level != Level::Calm).collect()
}
