//! The traffic of all nodes, as each says of itself, or as the others last heard it say.

use super::{node::node, node_name};
use crate::agreement::Agreement;
use crate::ask::Heard;
use crate::json::{
    DetectorSays, InboundFlood, Incoming, OutboundFlood, Outgoing, Syn, TopDestination, Traffic,
};
use crate::words::harmless;
use std::collections::BTreeMap;
use stead_proto::detect::{Detector, Inbound, Level};
use stead_proto::id::NodeId;
use stead_proto::lookout::{Attacked, Flood, InSeen, OutSeen, Posture, TrafficSeen};

/// All nodes, by id.
pub(crate) fn syn(agreement: &Agreement<'_>) -> Syn {
    Syn { nodes: agreement.answers.iter().map(|(id, heard)| traffic(agreement, *id, heard)).collect() }
}

/// What is worth a new picture where nothing is redrawn: all but the figures, by node.
pub(crate) fn moods(syn: &Syn) -> BTreeMap<String, String> {
    let mood = |node: &Traffic| {
        let flood = node.flood.as_ref().map(|f| (f.began_unix_ms, f.ended_unix_ms, &f.targets, &f.programs));
        let attack = node.attack.as_ref().map(|a| (a.began_unix_ms, a.ended_unix_ms));
        let alarm = node.inbound.as_ref().map(|i| (i.alarm, i.shielded));
        let said: Vec<_> = node.detectors.iter().map(|d| (d.code, d.level, d.lost)).collect();
        format!("{:?}", (node.opinion, node.posture, flood, attack, alarm, said, &node.meddled))
    };
    syn.nodes.iter().map(|node| (node.node.clone(), mood(node))).collect()
}

fn traffic(agreement: &Agreement<'_>, id: NodeId, heard: &Heard) -> Traffic {
    let report = agreement.report_of(id);
    let seen = report.map(|(_, report)| &report.traffic);
    let shown = node(agreement, id, heard);
    Traffic {
        node: node_name(agreement, id),
        opinion: shown.opinion,
        details: shown.details,
        age_ms: report.map(|(age, _)| age).filter(|_| agreement.status_of(id).is_none()),
        posture: seen.map_or("unknown", |seen| posture(seen.posture)),
        out: seen.map(|seen| outgoing(&seen.out)),
        inbound: seen.map(|seen| incoming(&seen.inbound)),
        detectors: seen.map(detectors).unwrap_or_default(),
        meddled: seen.and_then(|seen| seen.meddled.as_deref()).map(harmless),
        flood: seen.and_then(|seen| seen.flood.as_ref()).map(outbound),
        attack: seen.and_then(|seen| seen.attack.as_ref()).map(inbound),
    }
}

const fn posture(posture: Posture) -> &'static str {
    match posture {
        Posture::Unlimited => "no-limit",
        Posture::Free => "free",
        Posture::Throttled => "throttled",
    }
}

fn outgoing(seen: &OutSeen) -> Outgoing {
    let top = |(address, share_per_mille): (std::net::IpAddr, u16)| TopDestination {
        address: address.to_string(),
        share_per_mille,
    };
    Outgoing {
        syn: seen.syn,
        cut: seen.cut,
        forged: seen.forged,
        unanswered: seen.unanswered,
        destinations: seen.destinations,
        top: seen.top.map(top),
    }
}

const fn incoming(seen: &InSeen) -> Incoming {
    Incoming {
        syn: seen.syn,
        queue_full: seen.queue_full,
        alarm: match seen.state {
            Inbound::Blind => "blind",
            Inbound::Quiet => "quiet",
            Inbound::UnderAttack => "under-attack",
        },
        shielded: seen.shielded,
    }
}

fn detectors(seen: &TrafficSeen) -> Vec<DetectorSays> {
    // A detector that went blind while it spoke goes on speaking, and is told of as lost beside that.
    let silent = seen.blinded.iter().filter(|lost| seen.alarms.iter().all(|(known, _)| known != *lost));
    let said = seen.alarms.iter().copied().chain(silent.map(|lost| (*lost, Level::Blind)));
    let mut said: Vec<(Detector, Level)> = said.filter(|(_, level)| *level != Level::Calm).collect();
    said.sort_unstable();
    let says = |(detector, level): (Detector, Level)| DetectorSays {
        code: detector.code(),
        level: word(level),
        lost: seen.blinded.contains(&detector),
        finds: detector.finds(),
    };
    said.into_iter().map(says).collect()
}

const fn word(level: Level) -> &'static str {
    match level {
        Level::Blind => "blind",
        Level::Calm => "calm",
        Level::Suspect => "suspect",
        Level::Convict => "convict",
    }
}

fn outbound(flood: &Flood) -> OutboundFlood {
    OutboundFlood {
        began_unix_ms: flood.began_unix_ms,
        ended_unix_ms: flood.ended_unix_ms,
        proven: flood.worst == Level::Convict,
        detectors: flood.detectors.iter().map(|detector| detector.code()).collect(),
        peak: flood.peak,
        sent: flood.sent,
        escaped: flood.escaped,
        targets: flood.targets.iter().map(ToString::to_string).collect(),
        programs: flood.senders.iter().map(|sender| harmless(sender)).collect(),
    }
}

const fn inbound(attack: &Attacked) -> InboundFlood {
    InboundFlood {
        began_unix_ms: attack.began_unix_ms,
        ended_unix_ms: attack.ended_unix_ms,
        peak: attack.peak,
        received: attack.received,
        queue_full: attack.queue_full,
    }
}
