//! The lookout of one node: from what its sensors count to what it does about it and tells the others.
//!
//! ```text
//! sensors ─ Sample ─▶ detectors ─▶ throttle ─▶ posture ─▶ the limit in the kernel
//!                        │             └──────▶ flood, attack: the records of what happens
//!                        └────────────────────▶ TrafficSeen ─▶ report ─▶ every peer
//! ```
//!
//! **Invariant.** One tick in, one [`Orders`] out, and nothing else: no clock, no socket. What arrives from
//! outside never throttles a node.
//!
//! Deliberately absent: what the peers make of a convicted node, and the quarantine.

mod flood;
mod seen;
mod throttle;

pub use seen::{
    Attacked, Flood, InSeen, OutSeen, Posture, QueueSeen, SENDER_BYTES_MAX, SENDERS_MAX, TARGETS_MAX,
    TrafficSeen,
};

use crate::detect::window::Window;
use crate::detect::{Detector, Detectors, Findings, Inbound, Integrity, Level};
use crate::roster::bounded_text;
use crate::telemetry::Sample;
use crate::time::{Instant, Span};
use alloc::{collections::BTreeSet, string::String};
use core::net::IpAddr;
use flood::{Incoming, Outgoing, Tick};
use throttle::Throttle;

/// For how long it is told that somebody meddled with our own parts.
const MEDDLED_SHOWN: Span = Span::from_ms(60_000);
/// A destination is worth naming from this share on, in thousandths.
const TARGET_PER_MILLE_MIN: u16 = 100;

/// What a lookout starts from.
#[derive(Clone, Debug, Default)]
pub struct Resumed {
    /// Whether there is a limit in this node's kernel.
    pub limited: bool,
    /// Whether an earlier agent left it throttled.
    pub throttled: bool,
    /// The flood that it was recording.
    pub flood: Option<Flood>,
}

/// One tick, as the agent read it.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    /// What the sensors counted.
    pub sample: Sample,
    /// SYNs that the limit in the kernel cut off in the tick; `None` without one.
    pub cut: Option<u64>,
    /// The most frequent destination, and its share in thousandths.
    pub top: Option<(IpAddr, u16)>,
    /// What the last comparison of our own parts with what we installed gave.
    pub integrity: Option<Integrity>,
    /// That a sensor or a rule of ours was removed or changed, and is back or not: a sentence.
    pub meddled: Option<String>,
    /// Whether a SYN proxy stands in front of the endpoints.
    pub shielded: bool,
    /// The fullest accept queue of the endpoints' ports.
    pub fullest: Option<QueueSeen>,
}

/// What the agent has to do after a tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Orders {
    /// Whether the licence has to be withdrawn, or stay so.
    pub throttle: bool,
    /// Whether a SYN proxy has to stand in front of the endpoints.
    pub shield: bool,
    /// Whether it is worth the effort to look for who has raw and packet sockets open.
    pub search: bool,
    /// Whether the others should hear of this tick at once.
    pub urgent: bool,
}

/// The lookout of one node.
#[derive(Clone, Debug)]
pub struct Lookout {
    detectors: Detectors,
    limited: bool,
    throttle: Throttle,
    outgoing: Outgoing,
    incoming: Incoming,
    rates: Rates,
    seen: TrafficSeen,
    /// Detectors that have ever had their input: only who saw can go blind.
    sighted: BTreeSet<Detector>,
    since_meddled: Span,
    shields: bool,
}

impl Lookout {
    /// A lookout that has just begun.
    #[must_use]
    pub fn new(resumed: Resumed) -> Self {
        let left = resumed.flood.as_ref().map_or(Level::Suspect, |flood| flood.worst.max(Level::Suspect));
        Self {
            detectors: Detectors::new(),
            limited: resumed.limited,
            throttle: Throttle::resumed(if resumed.throttled { left } else { Level::Calm }),
            outgoing: Outgoing::resumed(resumed.flood),
            incoming: Incoming::default(),
            rates: Rates::new(),
            seen: TrafficSeen::default(),
            sighted: BTreeSet::new(),
            since_meddled: Span::ZERO,
            shields: false,
        }
    }

    /// What the others are told.
    #[must_use]
    pub const fn seen(&self) -> &TrafficSeen {
        &self.seen
    }

    /// The flood that leaves this node, for memory that survives the agent.
    #[must_use]
    pub const fn flood(&self) -> Option<&Flood> {
        self.outgoing.record()
    }

    /// Takes the tick that ended at `now`; `unix_ms` is for the records that people read.
    pub fn tick(&mut self, now: Instant, unix_ms: u64, watched: &Watched) -> Orders {
        let sample = &watched.sample;
        let elapsed = sample.elapsed;
        let findings = self.detectors.tick(now, sample, watched.integrity);
        let counts = Counts::of(sample, watched.cut.unwrap_or_default());
        let throttle = self.throttle.judge(elapsed, flood::worst(&findings), counts.cut);

        self.rates.push(elapsed, &counts);
        let target = watched.top.filter(|(_, per_mille)| *per_mille >= TARGET_PER_MILLE_MIN);
        let out = Tick {
            elapsed,
            unix_ms,
            count: counts.sent,
            rate: self.rates.sent,
            part: counts.escaped,
            part_rate: self.rates.sent.saturating_sub(self.rates.cut),
        };
        self.outgoing.tick(throttle, out, &findings, target.map(|(address, _)| address));
        let inbound = Tick {
            elapsed,
            unix_ms,
            count: counts.received,
            rate: self.rates.received,
            part: counts.queue_full,
            part_rate: self.rates.queue_full,
        };
        self.incoming.tick(findings.inbound.state, inbound);

        let before = core::mem::take(&mut self.seen);
        let meddled = self.meddled(elapsed, watched, &before);
        self.seen = self.compose(watched, &findings, throttle, meddled);
        Orders {
            throttle,
            shield: self.shield(sample, findings.inbound.state),
            search: self.rates.forged > 0,
            urgent: says_other(&before, &self.seen),
        }
    }

    /// Programs that have a raw or packet socket open while forged SYNs are seen.
    pub fn accuse(&mut self, senders: &[String]) {
        self.outgoing.accuse(senders);
    }

    /// Cookies carry a flood as well as a proxy does, and cost visitors less. Where there are none, a full queue
    /// drops whoever comes: only then the proxy stands, until the flood is over.
    fn shield(&mut self, sample: &Sample, state: Inbound) -> bool {
        let drops = sample.kernel.is_some_and(|kernel| kernel.queue_full_drops > 0);
        self.shields = state == Inbound::UnderAttack && (self.shields || drops);
        self.shields
    }

    fn meddled(&mut self, elapsed: Span, watched: &Watched, before: &TrafficSeen) -> Option<String> {
        self.since_meddled = self.since_meddled.plus(elapsed);
        match &watched.meddled {
            Some(text) => {
                self.since_meddled = Span::ZERO;
                Some(bounded_text(text))
            }
            None => before.meddled.clone().filter(|_| self.since_meddled < MEDDLED_SHOWN),
        }
    }

    fn compose(
        &mut self,
        watched: &Watched,
        findings: &Findings,
        throttle: bool,
        meddled: Option<String>,
    ) -> TrafficSeen {
        let egress = watched.sample.egress.unwrap_or_default();
        let posture = match (self.limited, throttle) {
            (false, _) => Posture::Unlimited,
            (true, false) => Posture::Free,
            (true, true) => Posture::Throttled,
        };
        for detector in Detector::ALL {
            if findings.of(detector).level != Level::Blind {
                self.sighted.insert(detector);
            }
        }
        TrafficSeen {
            out: OutSeen {
                syn: self.rates.sent,
                cut: self.rates.cut,
                forged: self.rates.forged,
                unanswered: u32::try_from(findings.outstanding.rate).unwrap_or(u32::MAX),
                destinations: egress.destinations,
                top: watched.top.filter(|_| self.rates.sent > 0),
            },
            inbound: InSeen {
                syn: self.rates.received,
                queue_full: self.rates.queue_full,
                state: findings.inbound.state,
                shielded: watched.shielded,
                fullest: watched.fullest,
            },
            posture,
            alarms: flood::alarms(findings),
            flood: self.outgoing.record().cloned(),
            attack: self.incoming.record(),
            blinded: self.sighted.iter().copied().filter(|d| findings.of(*d).level == Level::Blind).collect(),
            meddled,
        }
    }
}

/// Whether something changed that cannot wait for the next regular report.
fn says_other(before: &TrafficSeen, after: &TrafficSeen) -> bool {
    let ended = |seen: &TrafficSeen| {
        let flood = seen.flood.as_ref().map(|flood| (flood.worst, flood.ended_unix_ms.is_some()));
        (flood, seen.attack.map(|attack| attack.ended_unix_ms.is_some()))
    };
    before.posture != after.posture
        || before.alarms != after.alarms
        || before.inbound.state != after.inbound.state
        || before.inbound.shielded != after.inbound.shielded
        || before.meddled != after.meddled
        || ended(before) != ended(after)
}

/// What one tick counts.
#[derive(Clone, Copy, Debug, Default)]
struct Counts {
    sent: u64,
    cut: u64,
    escaped: u64,
    forged: u64,
    received: u64,
    queue_full: u64,
}

impl Counts {
    /// The limit at netdev egress comes first, then tc: what `limit_cut` holds nobody behind it has seen. What tc
    /// cuts off it has counted before.
    fn of(sample: &Sample, limit_cut: u64) -> Self {
        let at_tc = sample.egress.map(|egress| egress.syn.sum());
        let tried = sample.netdev_syn.max(at_tc).unwrap_or_default();
        let tc_cut = sample.egress.map_or(0, |egress| egress.syn_cut).min(tried);
        let kernel = sample.kernel.unwrap_or_default();
        Self {
            sent: tried.saturating_add(limit_cut),
            cut: tc_cut.saturating_add(limit_cut),
            escaped: tried.saturating_sub(tc_cut),
            forged: sample.egress.map_or(0, |egress| egress.syn.forged()),
            received: sample.inbound_syn.unwrap_or_default(),
            queue_full: kernel.queue_full_cookies.saturating_add(kernel.queue_full_drops),
        }
    }
}

/// The same over the last second.
#[derive(Clone, Debug)]
struct Rates {
    windows: [Window<16>; 5],
    sent: u32,
    cut: u32,
    forged: u32,
    received: u32,
    queue_full: u32,
}

impl Rates {
    fn new() -> Self {
        let windows = core::array::from_fn(|_| Window::new(Span::from_ms(1_000)));
        Self { windows, sent: 0, cut: 0, forged: 0, received: 0, queue_full: 0 }
    }

    fn push(&mut self, elapsed: Span, counts: &Counts) {
        let counts = [counts.sent, counts.cut, counts.forged, counts.received, counts.queue_full];
        let rates =
            [&mut self.sent, &mut self.cut, &mut self.forged, &mut self.received, &mut self.queue_full];
        for ((window, rate), count) in self.windows.iter_mut().zip(rates).zip(counts) {
            *rate = u32::try_from(window.push(elapsed, count)).unwrap_or(u32::MAX);
        }
    }
}

#[cfg(test)]
mod tests;
