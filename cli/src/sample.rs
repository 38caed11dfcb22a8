//! Hand-made answers of a mesh of three, for the tests of comparing and rendering.
#![allow(clippy::as_conversions)]

use crate::ask::{Answers, Heard, Way};
use crate::site_file::SiteFile;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use stead_proto::admin::{
    Answer, CaseSeen, EndpointStatus, HandshakeRefusal, PeerRefusal, PeerStatus, Request, RungSeen, Status,
    TransportSeen,
};
use stead_proto::codec;
use stead_proto::detect::{Detector, Inbound, Level};
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, Name, NodeId, PublicKey};
use stead_proto::incident::Incidents;
use stead_proto::limits::ADMIN_FRAME_BYTES_MAX;
use stead_proto::liveness::Liveness;
use stead_proto::lookout::{Attacked, Flood, InSeen, OutSeen, Posture, TrafficSeen};
use stead_proto::plan::{Epoch, Plan, Seat};
use stead_proto::report::{ConfigSeen, GateSeen, LogSeen, Reach, Report, ServiceSeen};
use stead_proto::roster::{Member, Operator, OperatorRole, Role, Standing};
use stead_proto::sign::SecretKey;
use stead_proto::state::{Authority, Isolation, SiteVersion, State};
use stead_proto::tribunal::{Certificate, Ground, Sanction, Subject, Testimony};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixListener;
use zeroize::Zeroizing;

/// The hour at which all of this takes place.
pub(crate) const NOW_UNIX_MS: u64 = 1_800_000_000_000;

pub(crate) const SITE: &str = "[service.web]\ncheck = { http = \"http://127.0.0.1:8080/health\" }\n\
    restart = { unit = \"nginx.service\" }\n\n[endpoint.www]\naddress = \"192.0.2.10\"\nports = [80, 443]\nservices = [\"web\"]\n";

const NAMES: [&str; 3] = ["a", "b", "w"];

pub(crate) fn name(text: &str) -> Name {
    text.parse().unwrap()
}

/// Everybody answers and agrees; a leads and holds.
pub(crate) fn healthy() -> Answers {
    let state = state();
    let status = |id: u64| answer(id, &state);
    (1..=3).map(|id| (NodeId(id), heard(id, Ok(Box::new(status(id)))))).collect()
}

/// These nodes do not answer, and the others have missed them for a while.
pub(crate) fn silent(nodes: &[u64]) -> Answers {
    let mut answers = healthy();
    for id in nodes {
        let why =
            format!("no answer from 10.0.0.{id}:7832 in time: is the agent running, and UDP to it allowed?");
        answers.insert(NodeId(*id), heard(*id, Err(why)));
    }
    for heard in answers.values_mut() {
        let Ok(status) = &mut heard.answer else { continue };
        for peer in status.peers.iter_mut().filter(|peer| nodes.contains(&peer.node.0)) {
            (peer.liveness, peer.since_ms, peer.heard_ms_ago) = (Liveness::Lost, 42_000, Some(43_600));
            peer.report = peer.report.take().map(|(_, report)| (43_600, report));
        }
        if nodes.contains(&1) || nodes.len() > 1 {
            (status.leader_fresh, status.own.log.leader) = (false, None);
        }
    }
    answers
}

/// One node has another state at the same entry.
pub(crate) fn disagreeing(node: u64) -> Answers {
    let mut answers = healthy();
    status(&mut answers, node).state.digest = [0xbb; 32];
    answers
}

/// The application is dead everywhere: a shows the holding page.
pub(crate) fn holding_page() -> Answers {
    let mut answers = healthy();
    for id in [1, 2] {
        let status = status(&mut answers, id);
        status.own.services =
            vec![(name("web"), ServiceSeen::Down("connection refused on port 8080".into()))];
        status.endpoints[0].ready = false;
    }
    status(&mut answers, 1).endpoints[0].holding_page = true;
    answers
}

/// Two nodes say that they serve the same endpoint.
pub(crate) fn contested() -> Answers {
    let mut answers = healthy();
    status(&mut answers, 2).endpoints[0].serving = Some((Epoch { plan: 97, rank: 1 }, 200));
    answers
}

/// Node b runs a version that the others do not speak any more.
pub(crate) fn refused() -> Answers {
    let mut answers = healthy();
    let transport = &mut status(&mut answers, 2).transport;
    transport.refused_by_peers = [(HandshakeRefusal::WrongPlane, 7)].into();
    transport.last_refused_by_peer =
        Some(PeerRefusal { peer: Some(NodeId(1)), why: HandshakeRefusal::WrongPlane, ms_ago: 700 });
    answers
}

/// Node a is flooded, b sends a flood, and the witness has neither a limit nor BPF.
pub(crate) fn flooded() -> Answers {
    let mut answers = healthy();
    let began_unix_ms = NOW_UNIX_MS - 42_000;
    let seen = &mut status(&mut answers, 1).own.traffic;
    (seen.inbound.syn, seen.inbound.queue_full) = (90_000, 70_000);
    (seen.inbound.state, seen.inbound.shielded) = (Inbound::UnderAttack, true);
    let (peak, received, queue_full) = (91_000, 3_780_000, 2_940_000);
    seen.attack = Some(Attacked { began_unix_ms, peak, received, queue_full, ended_unix_ms: None });
    let seen = &mut status(&mut answers, 2).own.traffic;
    seen.posture = Posture::Throttled;
    let top = Some(("203.0.113.80".parse().unwrap(), 987));
    seen.out = OutSeen { syn: 1_012, cut: 1_002, forged: 1_000, unanswered: 990, destinations: 14, top };
    seen.alarms = vec![
        (Detector::Provenance, Level::Convict),
        (Detector::Magnitude, Level::Suspect),
        (Detector::Conservation, Level::Blind),
    ];
    seen.blinded = vec![Detector::Conservation];
    seen.meddled = Some("our filter at tc egress was removed, and is back".into());
    seen.flood = Some(Flood {
        began_unix_ms,
        worst: Level::Convict,
        detectors: vec![Detector::Provenance, Detector::Magnitude],
        peak: 1_030,
        sent: 42_504,
        escaped: 433,
        targets: vec!["203.0.113.80".parse().unwrap(), "2001:db8::80".parse().unwrap()],
        senders: vec!["udevd\x1b[2J[4242] /tmp/.x (deleted)".into()],
        ended_unix_ms: None,
    });
    let seen = &mut status(&mut answers, 3).own.traffic;
    (seen.posture, seen.inbound.state) = (Posture::Unlimited, Inbound::Blind);
    seen.alarms = [Detector::Provenance, Detector::RawOther].map(|d| (d, Level::Blind)).into();
    for id in 1..=3 {
        status(&mut answers, id).state.incidents = alarms();
    }
    answers
}

/// The lease gate of b stands on nft, the witness has no limit, and neither has BPF.
pub(crate) fn poor() -> Answers {
    let mut answers = healthy();
    let no_bpf = "the kernel refuses BPF (EPERM); run the agent as root, or give its unit CAP_BPF";
    let rung = |part: &str, rung: &str, cost: &str, remedy: &str| RungSeen {
        part: part.into(),
        rung: rung.into(),
        best: false,
        cost: cost.into(),
        remedy: remedy.into(),
    };
    let sensor = rung("egress sensor", "none", "who sends a SYN is not seen: D1 and D2 are blind", no_bpf);
    let gate = "takeovers wait 100 ms longer";
    let b = &mut status(&mut answers, 2).rungs;
    b[0] = rung("lease gate", "nft timeouts", gate, &format!("no BPF (tcx): {no_bpf}"));
    (b[1], b[2].cost) = (sensor.clone(), "AF_XDP escapes the limit".into());
    let w = &mut status(&mut answers, 3).rungs;
    (w[1], w[2]) = (sensor, rung("SYN limit", "none", "a flood leaves it unhindered", ""));
    answers
}

/// The others have cut b off, 42 s ago, and a accuses the witness.
pub(crate) fn cut_off() -> Answers {
    let mut answers = silent(&[2]);
    let said = |subject: u64, by: u64, grounds: Vec<Ground>| Testimony {
        subject: Subject { node: NodeId(subject), key: PublicKey([subject as u8; 32]) },
        sanction: Sanction::Isolate,
        electorate: 0,
        by: NodeId(by),
        grounds,
        unix_ms: NOW_UNIX_MS - 42_000,
        heard: None,
    };
    let confessed = vec![Ground::Confession { report: [7; 32] }, Ground::AtHome];
    let key = SecretKey::from_seed(&Zeroizing::new([9; 32]));
    for id in [1, 3] {
        let status = status(&mut answers, id);
        let signed = |by| key.sign(status.state.cluster, &said(2, by, confessed.clone())).unwrap();
        let by = Authority::Peers(Certificate::of(vec![signed(1), signed(3)]));
        let isolation = Isolation { index: 120, unix_ms: NOW_UNIX_MS - 41_000, by };
        status.state.isolations.insert(NodeId(2), isolation);
        let testimony = Testimony { sanction: Sanction::Demote, ..said(3, 1, vec![Ground::Silence]) };
        status.cases = vec![CaseSeen {
            subject: NodeId(3),
            open_ms: 8_000,
            demoted: false,
            testimonies: vec![testimony],
        }];
    }
    answers
}

/// Nobody leads.
pub(crate) fn leaderless() -> Answers {
    let mut answers = healthy();
    for id in 1..=3 {
        let status = status(&mut answers, id);
        (status.leader_fresh, status.own.log.leader) = (false, None);
    }
    answers
}

/// What a node answered, to change it.
pub(crate) fn status(answers: &mut Answers, node: u64) -> &mut Status {
    answers.get_mut(&NodeId(node)).unwrap().answer.as_mut().unwrap()
}

fn heard(id: u64, answer: Result<Box<Status>, String>) -> Heard {
    Heard { name: name(NAMES[id as usize - 1]), answer, via: None }
}

fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: name(NAMES[id as usize - 1]),
        key: PublicKey([id as u8; 32]),
        role: if id == 3 { Role::Witness } else { Role::Voter },
        addresses: vec![format!("10.0.0.{id}:7832").parse().unwrap()],
        standing: Standing::Active,
    }
}

fn state() -> State {
    let site = SiteFile::parse("site.toml", SITE).unwrap().site;
    let operator = Operator { name: name("ann"), role: OperatorRole::Admin, serial: 0 };
    let genesis = Genesis {
        nonce: [1; 16],
        members: (1..=3).map(member).collect(),
        operators: BTreeMap::from([(PublicKey([9; 32]), operator)]),
        site: site.clone(),
    };
    let mut state = State::begin(ClusterId([0xab; 32]), &genesis);
    (state.applied, state.digest, state.site_version) = (120, [0xaa; 32], 2);
    let text = SITE.to_string();
    let unix_ms = NOW_UNIX_MS - 7_200_000;
    state.site_history.push(SiteVersion { version: 2, by: "ann".into(), unix_ms, text, site });
    let seats = [1, 2].map(|id| Seat { node: NodeId(id), slack_ms: 0 }).to_vec();
    state.plans.insert(name("www"), Plan { index: 97, lease_ms: 350, seats });
    state.incidents = incidents();
    state
}

/// A move that is over, and a refused order that nobody has looked at.
fn incidents() -> Incidents {
    let line = |ago_ms: u64, text: &str| serde_json::json!({ "unix_ms": NOW_UNIX_MS - ago_ms, "text": text });
    let incidents = serde_json::json!({
        "97": {
            "id": 97, "matter": { "Move": "www" }, "opened_unix_ms": NOW_UNIX_MS - 754_000,
            "closed_unix_ms": NOW_UNIX_MS - 753_000, "lines_dropped": 0,
            "lines": [line(754_000, "from b to a: web failed on b (connection refused)"), line(753_000, "a serves it")],
        },
        "110": {
            "id": 110, "matter": { "NodeUnwell": 2 }, "opened_unix_ms": NOW_UNIX_MS - 60_000,
            "closed_unix_ms": null, "lines_dropped": 0,
            "lines": [line(60_000, "disk full: no writes until there is room")],
        },
    });
    serde_json::from_value(incidents).unwrap()
}

/// Those of floods and of a lost sensor.
fn alarms() -> Incidents {
    let open = |id: u64, matter: &str, node: u64, text: &str| {
        let line = serde_json::json!({ "unix_ms": NOW_UNIX_MS - 42_000, "text": text });
        serde_json::json!({
            "id": id, "matter": { matter: node }, "opened_unix_ms": NOW_UNIX_MS - 42_000,
            "closed_unix_ms": null, "lines_dropped": 0, "lines": [line],
        })
    };
    let incidents = serde_json::json!({
        "121": open(121, "InboundFlood", 1, "a is flooded with SYNs from outside"),
        "122": open(122, "OutboundFlood", 2, "b opens more connections than its limit"),
        "123": open(123, "SensorBlind", 2, "b: our filter at tc egress was removed\u{1b}[2J"),
    });
    serde_json::from_value(incidents).unwrap()
}

fn report(id: u64) -> Report {
    let services = if id == 3 { Vec::new() } else { vec![(name("web"), ServiceSeen::Healthy)] };
    Report {
        from: NodeId(id),
        incarnation: 4,
        sequence: 77,
        previous: [0; 32],
        unix_ms: NOW_UNIX_MS,
        config: ConfigSeen { index: 0, age_ms: 900_000, pair_left: true },
        log: LogSeen {
            term: 5,
            voted_for: NodeId(1),
            durable: (5, 120),
            applied: 120,
            digest: [0xaa; 32],
            leader: Some(NodeId(1)),
        },
        services,
        leases: Vec::new(),
        reach: (1..=3).filter(|other| *other != id).map(|other| (NodeId(other), reach(other))).collect(),
        isolated: Vec::new(),
        fenced: Vec::new(),
        gate: GateSeen { rung: "bpf".into(), slack_ms: 0, shortfalls: Vec::new() },
        unwell: Vec::new(),
        traffic: calm(),
    }
}

/// A site that calls a few others.
fn calm() -> TrafficSeen {
    let top = Some(("198.51.100.7".parse().unwrap(), 500));
    TrafficSeen {
        out: OutSeen { syn: 12, unanswered: 1, destinations: 3, top, ..OutSeen::default() },
        inbound: InSeen { syn: 40, state: Inbound::Quiet, ..InSeen::default() },
        posture: Posture::Free,
        ..TrafficSeen::default()
    }
}

/// A kernel that has everything.
fn rungs() -> Vec<RungSeen> {
    let best = |part: &str, rung: &str| RungSeen {
        part: part.into(),
        rung: rung.into(),
        best: true,
        ..RungSeen::default()
    };
    vec![
        best("lease gate", "BPF at tcx"),
        best("egress sensor", "BPF at tcx"),
        best("SYN limit", "nft at netdev egress"),
    ]
}

/// The witness is far away.
const fn reach(other: u64) -> Reach {
    Reach { heard_ms_ago: 40, rtt_us: if other == 3 { 12_480 } else { 310 }, head: None, host_key: None }
}

fn answer(id: u64, state: &State) -> Status {
    let epoch = Epoch { plan: 97, rank: 0 };
    let peer = |other: u64| PeerStatus {
        node: NodeId(other),
        liveness: Liveness::Up,
        since_ms: 900_000,
        heard_ms_ago: Some(40),
        report: Some((40, report(other))),
    };
    let endpoint = EndpointStatus {
        name: name("www"),
        serving: (id == 1).then_some((epoch, 310)),
        promised: Some((NodeId(1), epoch)),
        ready: id != 3,
        holding_page: false,
        trouble: None,
    };
    Status {
        node: NodeId(id),
        version: "0.1.0".into(),
        uptime_ms: 900_000 + id * 1_000,
        waiting: None,
        leader_fresh: true,
        state: state.clone(),
        own: report(id),
        peers: (1..=3).filter(|other| *other != id).map(peer).collect(),
        endpoints: vec![endpoint],
        transport: TransportSeen {
            // The normal noise of the Internet.
            refused: [(HandshakeRefusal::UnknownKey, 12)].into(),
            ..TransportSeen::default()
        },
        rungs: rungs(),
        cases: Vec::new(),
        evidence: Vec::new(),
    }
}

/// An agent on a socket of its own, that answers as it is told to.
pub(crate) struct Agent {
    directory: tempfile::TempDir,
}

impl Agent {
    pub(crate) fn way(&self) -> Way {
        Way::Socket(self.directory.path().join("agent.sock"))
    }
}

/// Starts one on the current runtime; it ends with the runtime.
pub(crate) fn agent(answer: impl FnMut(Request) -> Answer + Send + 'static) -> Agent {
    let agent = Agent { directory: tempfile::tempdir().unwrap() };
    let listener = UnixListener::bind(agent.directory.path().join("agent.sock")).unwrap();
    let answer = Arc::new(Mutex::new(answer));
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = answer.clone();
            tokio::spawn(async move {
                let mut length = [0; 4];
                while stream.read_exact(&mut length).await.is_ok() {
                    let mut frame = vec![0; u32::from_le_bytes(length) as usize];
                    stream.read_exact(&mut frame).await.unwrap();
                    let request = codec::decode(&frame, ADMIN_FRAME_BYTES_MAX).unwrap();
                    let said = (answer.lock().unwrap())(request);
                    let said = codec::encode(&said, ADMIN_FRAME_BYTES_MAX).unwrap();
                    stream.write_all(&(said.len() as u32).to_le_bytes()).await.unwrap();
                    stream.write_all(&said).await.unwrap();
                }
            });
        }
    });
    agent
}
