//! Samples of what a node says about itself and remembers of others, and of its signature.

use stead_proto::health::Reason;
use stead_proto::id::NodeId;
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, LEASE_FRAME_BYTES_MAX, REPORT_FRAME_BYTES_MAX};
use stead_proto::liveness::Liveness;
use stead_proto::lookout::TrafficSeen;
use stead_proto::memory::{Memories, Memory};
use stead_proto::outside::HostKey;
use stead_proto::report::{
    ConfigSeen, GateSeen, Head, LeaseSeen, LogSeen, Reach, Report, ServiceSeen, Unwell, link,
};
use stead_proto::sign::{Signed, Statement};
use stead_proto::tribunal::Place;

use crate::parts::{CLUSTER, UNIX_MS, epoch, key, name};
use crate::sample::{Samples, every};
use crate::{sites, traffic};

fn services() -> [(&'static str, ServiceSeen); 4] {
    every!(ServiceSeen:
        Unknown;
        Healthy;
        Ailing("its port refuses connections: the application is not running".into());
        Down("status 503".into());
    )
}

fn unwell() -> [(&'static str, Unwell); 6] {
    every!(Unwell: DiskFull; StoreFailed; Stalled; UplinkMissing; AddressTaken; OutcastLetIn;)
}

fn config_seen() -> ConfigSeen {
    ConfigSeen { index: 400, age_ms: 70_000, pair_left: true }
}

fn log_seen() -> LogSeen {
    LogSeen {
        term: 251,
        voted_for: NodeId(2),
        durable: (251, 70_001),
        applied: 70_000,
        digest: [0xd1; 32],
        leader: Some(NodeId(1)),
    }
}

fn lease_seen() -> LeaseSeen {
    LeaseSeen {
        endpoint: name("www"),
        highest: epoch(70_000, 2),
        promised: Some((NodeId(300), epoch(70_000, 1))),
        holding: Some(epoch(70_000, 0)),
    }
}

fn reach() -> Reach {
    Reach { heard_ms_ago: 251, rtt_us: 70_000, head: Some(head()), host_key: Some(HostKey([8; 32])) }
}

const fn head() -> Head {
    Head { at: Place { incarnation: 7, sequence: 250 }, link: [5; 32] }
}

fn gate_seen() -> GateSeen {
    GateSeen { rung: "tcx".into(), slack_ms: 100, shortfalls: vec!["no announcement by IPv6".into()] }
}

/// The first of its incarnation: it follows none.
fn first() -> Report {
    Report {
        from: NodeId(3),
        incarnation: 1,
        sequence: 0,
        previous: [0; 32],
        unix_ms: 0,
        config: ConfigSeen::default(),
        log: LogSeen::default(),
        services: Vec::new(),
        leases: Vec::new(),
        reach: Vec::new(),
        isolated: Vec::new(),
        fenced: Vec::new(),
        gate: GateSeen::default(),
        unwell: Vec::new(),
        traffic: TrafficSeen::default(),
    }
}

/// The one after it, with every field in use.
pub(crate) fn full() -> Report {
    Report {
        from: NodeId(300),
        incarnation: 7,
        sequence: 1,
        previous: link(&key(1).sign(CLUSTER, &first()).unwrap()),
        unix_ms: UNIX_MS,
        config: config_seen(),
        log: log_seen(),
        services: services().map(|(word, seen)| (name(&word.to_lowercase()), seen)).into(),
        leases: vec![lease_seen(), LeaseSeen { promised: None, holding: None, ..lease_seen() }],
        reach: vec![
            (NodeId(1), reach()),
            (NodeId(3), Reach { heard_ms_ago: 0, rtt_us: 0, head: None, host_key: None }),
        ],
        isolated: vec![NodeId(1), NodeId(300)],
        fenced: vec![sites::fenced()],
        gate: gate_seen(),
        unwell: unwell().map(|(_, why)| why).into(),
        traffic: traffic::seen(),
    }
}

/// As evidence: one full, one bare.
pub(crate) fn signed() -> Vec<Signed<Report>> {
    vec![key(1).sign(CLUSTER, &full()).unwrap(), key(3).sign(CLUSTER, &first()).unwrap()]
}

pub(crate) fn memory() -> Memory {
    Memory::of(&full())
}

fn memories() -> Memories {
    let mut memories = Memories::default();
    memories.saw(&full());
    memories.saw(&first());
    memories
}

pub(crate) fn liveness() -> [(&'static str, Liveness); 3] {
    every!(Liveness: Up; Cut; Lost;)
}

pub(crate) fn add(samples: &mut Samples) {
    let limit = Report::BYTES_MAX;
    samples.add_all("report::ServiceSeen", services(), limit);
    samples.add_all("report::Unwell", unwell(), limit);
    samples.add("report::ConfigSeen", config_seen(), limit);
    samples.add("report::LogSeen", log_seen(), limit);
    samples.add("report::LeaseSeen", lease_seen(), limit);
    samples.add("report::Head", head(), limit);
    samples.add("outside::HostKey", HostKey([8; 32]), limit);
    samples.add("report::Reach", reach(), limit);
    samples.add("report::GateSeen", gate_seen(), limit);
    samples.add("report::Report::first", first(), limit);
    samples.add("report::Report::full", full(), limit);
    for (word, signed) in ["full", "first"].iter().zip(signed()) {
        samples.add(&format!("sign::Signed<Report>::{word}"), signed, REPORT_FRAME_BYTES_MAX);
    }
    samples.add("memory::Memory", memory(), LEASE_FRAME_BYTES_MAX);
    samples.add("memory::Memories", memories(), COMMAND_FRAME_BYTES_MAX);
    samples.add_all("liveness::Liveness", liveness(), COMMAND_FRAME_BYTES_MAX);
    let reasons = every!(Reason: Refused; Timeout; Bad("status 503".into()););
    samples.add_all("health::Reason", reasons, COMMAND_FRAME_BYTES_MAX);
}
