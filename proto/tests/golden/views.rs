//! Samples of the replicated state, as it lies in a snapshot, and of the admin plane, which shows it.

use std::collections::BTreeMap;

use stead_proto::admin::{
    Answer, EndpointStatus, HandshakeRefusal, PeerRefusal, PeerStatus, Request, RungSeen, Status,
    TransportSeen,
};
use stead_proto::command::Outcome;
use stead_proto::id::NodeId;
use stead_proto::limits::{ADMIN_FRAME_BYTES_MAX, COMMAND_FRAME_BYTES_MAX, SNAPSHOT_BYTES_MAX};
use stead_proto::liveness::Liveness;
use stead_proto::outside::HostKey;
use stead_proto::seed::Seed;
use stead_proto::state::{SiteVersion, State};

use crate::commands::{incidents, refusal, signed_order};
use crate::parts::{CLUSTER, UNIX_MS, config, epoch, genesis, name, plan, public};
use crate::sample::{Samples, every};
use crate::{reports, sites, tribunal};

fn site_version() -> SiteVersion {
    SiteVersion {
        version: 300,
        by: "ann".into(),
        unix_ms: UNIX_MS,
        text: "[service.http]\n".into(),
        site: sites::site(),
    }
}

fn begun() -> State {
    State::begin(CLUSTER, &genesis())
}

/// Everything in use; written out, so that a field of which no sample has anything does not compile.
fn state() -> State {
    let genesis = genesis();
    State {
        cluster: CLUSTER,
        applied: 70_001,
        digest: [0xd1; 32],
        members: genesis.members.into_iter().map(|member| (member.id, member)).collect(),
        roster_index: 251,
        isolations: BTreeMap::from([(NodeId(300), tribunal::isolation())]),
        fences: BTreeMap::from([(NodeId(300), sites::fencing())]),
        fences_spent: 1,
        node_id_max: NodeId(301),
        former_keys: vec![public(97), public(96)],
        operators: genesis.operators,
        config: config(),
        site: sites::site(),
        site_version: 300,
        site_history: vec![SiteVersion { version: 299, ..site_version() }, site_version()],
        host_keys: BTreeMap::from([(NodeId(1), HostKey([8; 32]))]),
        plans: BTreeMap::from([(name("www"), plan())]),
        incidents: incidents(),
    }
}

fn handshakes() -> [(&'static str, HandshakeRefusal); 7] {
    every!(HandshakeRefusal:
        UnknownKey;
        EvictedKey;
        WrongNode;
        WrongMesh;
        WrongPlane;
        Malformed;
        Crowded;
    )
}

fn peer_refusal() -> PeerRefusal {
    PeerRefusal { peer: Some(NodeId(300)), why: HandshakeRefusal::WrongMesh, ms_ago: 70_000 }
}

fn transport() -> TransportSeen {
    let causes = |first: u64| (first..).zip(handshakes()).map(|(count, (_, why))| (why, count)).collect();
    TransportSeen {
        refused: causes(1),
        refused_by_peers: causes(250),
        last_refused_by_peer: Some(peer_refusal()),
        evicted: 11,
        duplicates: 12,
        stale: 13,
        datagrams_dropped: 14,
        oversize: 15,
        reports_dropped: 16,
        busy: 17,
        calls_timed_out: 70_000,
    }
}

fn peer(liveness: Liveness) -> PeerStatus {
    PeerStatus {
        node: NodeId(300),
        liveness,
        since_ms: 70_000,
        heard_ms_ago: Some(251),
        report: Some((250, reports::full())),
    }
}

fn endpoint() -> EndpointStatus {
    EndpointStatus {
        name: name("www"),
        serving: Some((epoch(70_000, 1), 349)),
        promised: Some((NodeId(300), epoch(70_000, 1))),
        ready: true,
        holding_page: true,
        trouble: Some("the uplink is down".into()),
    }
}

fn rung() -> RungSeen {
    RungSeen {
        part: "egress sensor".into(),
        rung: "kernel counters".into(),
        best: false,
        cost: "raw SYNs that answer nobody".into(),
        remedy: "install a kernel with BPF".into(),
    }
}

fn status() -> Status {
    let silent = PeerStatus { heard_ms_ago: None, report: None, ..peer(Liveness::Lost) };
    Status {
        node: NodeId(1),
        version: "0.1.0".into(),
        uptime_ms: UNIX_MS,
        waiting: Some("waits for a majority".into()),
        leader_fresh: true,
        state: state(),
        own: reports::full(),
        peers: vec![peer(Liveness::Up), silent],
        endpoints: vec![endpoint()],
        transport: transport(),
        rungs: vec![rung(), RungSeen::default()],
        cases: vec![tribunal::case()],
        evidence: reports::signed(),
    }
}

fn requests() -> [(&'static str, Request); 4] {
    every!(Request: Status; StatusOf(NodeId(300)); Submit(signed_order()); Genesis;)
}

fn answers() -> [(&'static str, Answer); 5] {
    every!(Answer:
        Status(Box::new(status()));
        Committed { index: 70_001, outcome: Outcome::Site(300) };
        Refused(refusal());
        Unavailable { why: "no leader".into(), unknown: true };
        Genesis(genesis().encode().unwrap());
    )
}

pub(crate) fn add(samples: &mut Samples) {
    samples.add("state::SiteVersion", site_version(), SNAPSHOT_BYTES_MAX);
    samples.add("state::State::begun", begun(), SNAPSHOT_BYTES_MAX);
    samples.add("state::State::full", state(), SNAPSHOT_BYTES_MAX);

    samples.add("seed::Seed", Seed::of(&state(), 251), COMMAND_FRAME_BYTES_MAX);
    samples.add_all("admin::Request", requests(), COMMAND_FRAME_BYTES_MAX);
    samples.add_all("admin::Answer", answers(), ADMIN_FRAME_BYTES_MAX);
    samples.add("admin::Status", status(), ADMIN_FRAME_BYTES_MAX);
    for (word, liveness) in reports::liveness() {
        samples.add(&format!("admin::PeerStatus::{word}"), peer(liveness), ADMIN_FRAME_BYTES_MAX);
    }
    samples.add_all("admin::HandshakeRefusal", handshakes(), ADMIN_FRAME_BYTES_MAX);
    samples.add("admin::PeerRefusal", peer_refusal(), ADMIN_FRAME_BYTES_MAX);
    samples.add("admin::TransportSeen", transport(), ADMIN_FRAME_BYTES_MAX);
    samples.add("admin::RungSeen", rung(), ADMIN_FRAME_BYTES_MAX);
    samples.add("admin::EndpointStatus", endpoint(), ADMIN_FRAME_BYTES_MAX);
}
