//! The flood detectors: pure functions over [`Sample`]s, one tick at a time.
//!
//! Each detector reads a tick, and an `Alarm` keeps what it said for a while. *Suspect* is reason for a
//! node to throttle itself, *convict* for its peers to act; the inbound alarm is neither.
//!
//! **Invariant.** Integers only, no clock but the arguments, memory of fixed size, and no input that overflows.
//! What arrives from outside makes nobody a suspect. Who is to be throttled or isolated is not decided here.

mod baseline;
mod conservation;
mod cusum;
#[cfg(test)]
mod driven;
mod flow;
mod identity;
mod illegal;
mod inbound;
mod integrity;
mod level;
mod magnitude;
mod outstanding;
mod provenance;
mod raw_other;
pub(crate) mod window;

pub use inbound::{Attack, Inbound};
pub use integrity::Integrity;
pub use level::{HOLD, Judgement, Level};

use crate::telemetry::Sample;
use crate::time::{Instant, Span};
use flow::Flow;
use level::{Alarm, Reading};
use serde::{Deserialize, Serialize};

/// The detectors of outbound traffic, by what they look at.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Detector {
    /// D1: SYNs of raw and packet sockets.
    Provenance,
    /// D2: SYNs with a payload, or from an address that is not ours.
    Illegal,
    /// D3: SYNs on the wire that the kernel's TCP did not make.
    Identity,
    /// D4: unanswered SYNs beyond what is usual.
    Outstanding,
    /// D4, the slow channel: unanswered SYNs in a drip.
    Drip,
    /// D5: more than 300 unanswered SYNs a second.
    Magnitude,
    /// D6: packets on the uplink that never passed tc.
    Conservation,
    /// D7: raw packets that are no SYNs.
    RawOther,
    /// D8: our own parts changed without us.
    Integrity,
}

impl Detector {
    /// All of them, in the order of their numbers.
    pub const ALL: [Self; 9] = [
        Self::Provenance,
        Self::Illegal,
        Self::Identity,
        Self::Outstanding,
        Self::Drip,
        Self::Magnitude,
        Self::Conservation,
        Self::RawOther,
        Self::Integrity,
    ];

    /// The short name that operators see.
    #[must_use]
    pub const fn code(self) -> &'static str {
        match self {
            Self::Provenance => "D1",
            Self::Illegal => "D2",
            Self::Identity => "D3",
            Self::Outstanding => "D4",
            Self::Drip => "D4-slow",
            Self::Magnitude => "D5",
            Self::Conservation => "D6",
            Self::RawOther => "D7",
            Self::Integrity => "D8",
        }
    }

    /// What it finds, for a person.
    #[must_use]
    pub const fn finds(self) -> &'static str {
        match self {
            Self::Provenance => {
                "SYNs made by hand, from raw or packet sockets; no server's software does that"
            }
            Self::Illegal => "SYNs with a payload, or from an address that is not the node's",
            Self::Identity => "more SYNs on the wire than the kernel's TCP has made",
            Self::Outstanding => "far more connections begun than answered",
            Self::Drip => "connections that stay unanswered, slowly and for long",
            Self::Magnitude => "more than 300 unanswered connections a second",
            Self::Conservation => "packets on the uplink that passed none of its hooks",
            Self::RawOther => "a stream of packets made by hand that are no TCP",
            Self::Integrity => "a part of stead that was changed without it",
        }
    }
}

/// What all detectors say after a tick.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// D1.
    pub provenance: Judgement,
    /// D2.
    pub illegal: Judgement,
    /// D3.
    pub identity: Judgement,
    /// D4.
    pub outstanding: Judgement,
    /// D4, the slow channel.
    pub drip: Judgement,
    /// D5.
    pub magnitude: Judgement,
    /// D6.
    pub conservation: Judgement,
    /// D7.
    pub raw_other: Judgement,
    /// D8.
    pub integrity: Judgement,
    /// The inbound alarm, apart from all others.
    pub inbound: Attack,
}

impl Findings {
    /// What `detector` says.
    #[must_use]
    pub const fn of(&self, detector: Detector) -> &Judgement {
        match detector {
            Detector::Provenance => &self.provenance,
            Detector::Illegal => &self.illegal,
            Detector::Identity => &self.identity,
            Detector::Outstanding => &self.outstanding,
            Detector::Drip => &self.drip,
            Detector::Magnitude => &self.magnitude,
            Detector::Conservation => &self.conservation,
            Detector::RawOther => &self.raw_other,
            Detector::Integrity => &self.integrity,
        }
    }

    /// The worst that any detector says; blind only if all are.
    #[must_use]
    pub fn worst(&self) -> Level {
        Detector::ALL.iter().map(|detector| self.of(*detector).level).max().unwrap_or_default()
    }

    /// The detectors that lack their input.
    pub fn blind(&self) -> impl Iterator<Item = Detector> + '_ {
        Detector::ALL.into_iter().filter(|detector| self.of(*detector).level == Level::Blind)
    }
}

/// All detectors of one node.
#[derive(Clone, Debug)]
pub struct Detectors {
    provenance: provenance::Provenance,
    illegal: illegal::Illegal,
    identity: identity::Identity,
    outstanding: outstanding::Outstanding,
    magnitude: magnitude::Magnitude,
    conservation: conservation::Conservation,
    raw_other: raw_other::RawOther,
    inbound: inbound::InboundAlarm,
    alarms: [Alarm; Detector::ALL.len()],
}

impl Default for Detectors {
    fn default() -> Self {
        Self::new()
    }
}

impl Detectors {
    /// Detectors that have seen nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            provenance: provenance::Provenance::new(),
            illegal: illegal::Illegal::new(),
            identity: identity::Identity::new(),
            outstanding: outstanding::Outstanding::new(),
            magnitude: magnitude::Magnitude::new(),
            conservation: conservation::Conservation::new(),
            raw_other: raw_other::RawOther::new(),
            inbound: inbound::InboundAlarm::new(),
            alarms: Default::default(),
        }
    }

    /// Takes the sample of the tick that ended at `now`. `integrity` is what the last comparison of our own parts
    /// gave, `None` if nobody compares them.
    pub fn tick(&mut self, now: Instant, sample: &Sample, integrity: Option<Integrity>) -> Findings {
        let (elapsed, flow) = (sample.elapsed, Flow::of(sample));
        let outstanding = self.outstanding.read(elapsed, flow);
        let readings = [
            self.provenance.read(sample),
            self.illegal.read(sample),
            self.identity.read(sample),
            outstanding.fast,
            outstanding.drip,
            self.magnitude.read(elapsed, flow, outstanding.fast.level),
            self.conservation.read(sample),
            self.raw_other.read(sample),
            integrity::read(integrity),
        ];
        let inbound = self.inbound.judge(now, sample);
        let [provenance, illegal, identity, outstanding, drip, magnitude, conservation, raw_other, integrity] =
            self.judge(now, elapsed, readings);
        Findings {
            provenance,
            illegal,
            identity,
            outstanding,
            drip,
            magnitude,
            conservation,
            raw_other,
            integrity,
            inbound,
        }
    }

    fn judge<const N: usize>(
        &mut self,
        now: Instant,
        elapsed: Span,
        readings: [Reading; N],
    ) -> [Judgement; N] {
        let mut alarms = self.alarms.iter_mut();
        readings
            .map(|reading| alarms.next().map(|alarm| alarm.judge(now, elapsed, reading)).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use super::driven::{connects, cookies, forged, run};
    use super::*;
    use crate::telemetry::{BySource, Egress, KernelTcp, Uplink};
    use proptest::prelude::*;

    #[test]
    fn a_node_without_any_sensor_is_blind_and_says_so() {
        let findings =
            run(&mut Detectors::new(), &Sample { elapsed: Span::from_ms(100), ..Sample::default() });
        // The test's runner always knows the integrity.
        assert_eq!(findings.blind().count(), 8);
        assert_eq!(findings.inbound.state, Inbound::Blind);
    }

    #[test]
    fn a_victim_is_neither_suspected_nor_convicted() {
        let findings = run(&mut Detectors::new(), &cookies(1_000_000, 0));
        assert_eq!((findings.inbound.state, findings.worst()), (Inbound::UnderAttack, Level::Calm));
    }

    #[test]
    fn a_minute_of_pause_makes_no_burst_of_what_happened_slowly() {
        let pause = Sample { elapsed: Span::from_ms(60_000), ..connects(540, 0) };
        assert_eq!(run(&mut Detectors::new(), &pause).worst(), Level::Calm);
        let raw = Sample { elapsed: Span::from_ms(60_000), ..forged(60) };
        assert_eq!(run(&mut Detectors::new(), &raw).provenance.level, Level::Calm);
    }

    fn count() -> impl Strategy<Value = u64> {
        prop_oneof![0..50_u64, any::<u64>(), Just(u64::MAX)]
    }

    prop_compose! {
        fn egress()(n in prop::array::uniform12(count()), destinations: u32, top_per_mille: u16) -> Egress {
            let [tcp, raw, packet, forwarded, payload, foreign, acks, rsts, again, raw_other, segments, syn_cut] = n;
            Egress {
                syn: BySource { tcp, raw, packet, forwarded },
                syn_with_payload: payload,
                syn_foreign: foreign,
                syn_ack_matched: acks,
                rst_matched: rsts,
                syn_again: again,
                syn_cut,
                raw_other,
                segments,
                destinations,
                top_per_mille,
            }
        }
    }

    prop_compose! {
        fn kernel()(n in prop::array::uniform9(count())) -> KernelTcp {
            let [opens, retransmits, cookies, drops, sent, received, overflows, listen_drops, forwarded] = n;
            KernelTcp {
                active_opens: opens,
                syn_retransmits: retransmits,
                queue_full_cookies: cookies,
                queue_full_drops: drops,
                cookies_sent: sent,
                cookies_received: received,
                listen_overflows: overflows,
                listen_drops,
                forwarded_syn: forwarded,
            }
        }
    }

    prop_compose! {
        fn sample()(
            elapsed in prop_oneof![Just(100_000_000), 0..2_000_000_000_u64, Just(u64::MAX), any::<u64>()],
            egress in prop::option::of(egress()),
            netdev_syn in prop::option::of(count()),
            kernel in prop::option::of(kernel()),
            uplink in prop::option::of((count(), count())),
        ) -> Sample {
            let uplink = uplink.map(|(sent, received)| Uplink { sent, received });
            Sample { elapsed: Span::from_ns(elapsed), egress, netdev_syn, inbound_syn: netdev_syn, kernel, uplink }
        }
    }

    proptest! {
        /// Debug builds check every sum: an overflow would end the test.
        #[test]
        fn no_sample_overflows_or_convicts_by_what_it_cannot_see(
            samples in prop::collection::vec((any::<u64>(), sample()), 1..60),
        ) {
            let mut detectors = Detectors::new();
            let mut tc_seen = false;
            for (now, sample) in &samples {
                let findings = detectors.tick(Instant::from_ns(*now), sample, None);
                tc_seen |= sample.egress.is_some();
                prop_assert!(tc_seen || findings.provenance.level == Level::Blind);
                prop_assert!(findings.outstanding.level != Level::Convict);
                prop_assert!(findings.drip.level != Level::Convict);
                prop_assert!(findings.conservation.level != Level::Convict);
            }
        }
    }
}
