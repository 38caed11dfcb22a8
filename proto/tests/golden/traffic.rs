//! Samples of what a node tells of its traffic, and of the policy that limits it.

use std::net::IpAddr;

use stead_proto::codec;
use stead_proto::detect::{Detector, Inbound, Level};
use stead_proto::guard::{Allowed, GuardPolicy, Prefix, Rate};
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::lookout::{Attacked, Flood, InSeen, OutSeen, Posture, QueueSeen, TrafficSeen};
use stead_proto::report::Report;
use stead_proto::sign::Statement;

use crate::parts::UNIX_MS;
use crate::sample::{Samples, every};

/// What an idle node tells of its traffic, in every report: twice a second, to every peer.
const IDLE_BYTES_MAX: usize = 40;

pub(crate) fn detectors() -> [(&'static str, Detector); 9] {
    every!(Detector:
        Provenance;
        Illegal;
        Identity;
        Outstanding;
        Drip;
        Magnitude;
        Conservation;
        RawOther;
        Integrity;
    )
}

pub(crate) fn levels() -> [(&'static str, Level); 4] {
    every!(Level: Blind; Calm; Suspect; Convict;)
}

pub(crate) fn inbound() -> [(&'static str, Inbound); 3] {
    every!(Inbound: Blind; Quiet; UnderAttack;)
}

pub(crate) fn postures() -> [(&'static str, Posture); 3] {
    every!(Posture: Unlimited; Free; Throttled;)
}

fn victims() -> [IpAddr; 2] {
    ["198.51.100.7", "2001:db8::7"].map(|address| address.parse().unwrap())
}

fn out_seen() -> OutSeen {
    let top = Some((victims()[0], 900));
    OutSeen { syn: 1_030, cut: 1_020, forged: 1_000, unanswered: 251, destinations: 70_000, top }
}

const fn queue_seen() -> QueueSeen {
    QueueSeen { port: 443, used: 251, max: 70_000 }
}

const fn in_seen() -> InSeen {
    InSeen {
        syn: 90_000,
        queue_full: 251,
        state: Inbound::UnderAttack,
        shielded: true,
        fullest: Some(queue_seen()),
    }
}

fn flood() -> Flood {
    Flood {
        began_unix_ms: UNIX_MS,
        ended_unix_ms: Some(UNIX_MS + 42_000),
        worst: Level::Convict,
        detectors: vec![Detector::Provenance, Detector::Magnitude],
        peak: 1_030,
        sent: 70_000,
        escaped: 251,
        targets: victims().into(),
        senders: vec!["udevd[4242] /tmp/.x (deleted)".into()],
    }
}

const fn attacked() -> Attacked {
    Attacked {
        began_unix_ms: UNIX_MS,
        ended_unix_ms: Some(UNIX_MS + 42_000),
        peak: 90_000,
        received: 1 << 32,
        queue_full: 70_000,
    }
}

/// Everything in use.
pub(crate) fn seen() -> TrafficSeen {
    TrafficSeen {
        out: out_seen(),
        inbound: in_seen(),
        posture: Posture::Throttled,
        alarms: vec![(Detector::Provenance, Level::Convict), (Detector::Conservation, Level::Blind)],
        flood: Some(flood()),
        attack: Some(attacked()),
        blinded: vec![Detector::Conservation],
        meddled: Some("our filter at tc egress was removed, and is back".into()),
    }
}

/// Under way, not ended.
fn lasting() -> TrafficSeen {
    TrafficSeen {
        flood: Some(Flood { ended_unix_ms: None, ..flood() }),
        attack: Some(Attacked { ended_unix_ms: None, ..attacked() }),
        ..seen()
    }
}

const RATE: Rate = Rate { per_second: 251, burst: 70_000 };

fn prefixes() -> [Prefix; 2] {
    let prefix = |address: &str, bits| Prefix { address: address.parse().unwrap(), bits };
    [prefix("192.0.2.0", 24), prefix("2001:db8::", 32)]
}

/// Everything in use, and nothing that its check complains of.
pub(crate) fn policy() -> GuardPolicy {
    let [four, six] = prefixes();
    GuardPolicy {
        limit: Rate { per_second: 10, burst: 20 },
        ceiling: Some(Rate { per_second: 2_000, burst: 2_000 }),
        allowed: vec![
            Allowed { to: four, port: Some(443), rate: RATE },
            Allowed { to: six, port: None, rate: RATE },
        ],
        licence_ms: 6_000,
        renew_every_ms: 400,
        friends: prefixes().into(),
    }
}

#[test]
fn what_an_idle_node_tells_of_its_traffic_is_short() {
    let mut node = TrafficSeen::default();
    let bare = codec::encode(&node, Report::BYTES_MAX).unwrap().len();
    // A site that calls a few others, behind a limit, is idle too.
    node.posture = Posture::Free;
    node.out = OutSeen { syn: 12, destinations: 3, top: Some((victims()[0], 500)), ..OutSeen::default() };
    node.inbound = InSeen { syn: 40, state: Inbound::Quiet, ..InSeen::default() };
    let calm = codec::encode(&node, Report::BYTES_MAX).unwrap().len();
    println!("{bare} bytes by default, {calm} bytes of a calm server");
    assert!(bare <= IDLE_BYTES_MAX && calm <= IDLE_BYTES_MAX, "{bare} and {calm} bytes");
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = Report::BYTES_MAX;
    samples.add_all("detect::Detector", detectors(), limit);
    samples.add_all("detect::level::Level", levels(), limit);
    samples.add_all("detect::inbound::Inbound", inbound(), limit);
    samples.add_all("lookout::seen::Posture", postures(), limit);
    samples.add("lookout::seen::OutSeen", out_seen(), limit);
    samples.add("lookout::seen::InSeen", in_seen(), limit);
    samples.add("lookout::seen::QueueSeen", queue_seen(), limit);
    samples.add("lookout::seen::Flood", flood(), limit);
    samples.add("lookout::seen::Attacked", attacked(), limit);
    samples.add("lookout::seen::TrafficSeen::idle", TrafficSeen::default(), limit);
    samples.add("lookout::seen::TrafficSeen::lasting", lasting(), limit);
    samples.add("lookout::seen::TrafficSeen::ended", seen(), limit);

    let limit = COMMAND_FRAME_BYTES_MAX;
    for (word, prefix) in ["IPv4", "IPv6"].iter().zip(prefixes()) {
        samples.add(&format!("guard::Prefix::{word}"), prefix, limit);
    }
    samples.add("guard::Rate", RATE, limit);
    for (word, allowed) in ["one port", "every port"].iter().zip(policy().allowed) {
        samples.add(&format!("guard::Allowed::{word}"), allowed, limit);
    }
    samples.add("guard::GuardPolicy::full", policy(), limit);
    samples.add("guard::GuardPolicy::default", GuardPolicy::default(), limit);
}
