//! One value of every variant of every type that leaves a process.
//!
//! **Invariant.** Each `every_…` walks its enum by an exhaustive `match`, so that a variant without a sample does
//! not compile.

use std::collections::{BTreeMap, BTreeSet};

use stead_proto::admin::{
    Answer, EndpointStatus, HandshakeRefusal, PeerRefusal, PeerStatus, Request, Status, TransportSeen,
};
use stead_proto::command::{Command, Ground, Outcome, Refusal};
use stead_proto::config::Change;
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, Name, NodeId};
use stead_proto::incident::Matter;
use stead_proto::liveness::Liveness;
use stead_proto::message::Message;
use stead_proto::order::{Act, Order};
use stead_proto::plan::{Epoch, Seat};
use stead_proto::report::{ConfigSeen, GateSeen, LeaseSeen, LogSeen, Reach, Report, ServiceSeen, Unwell};
use stead_proto::roster::{Member, Operator, OperatorRole, Role, Standing};
use stead_proto::service::{Check, Restart, RestartHow, Service};
use stead_proto::sign::{SecretKey, Signed};
use stead_proto::site::{Driver, EndpointSpec, HoldingText, Site};
use stead_proto::state::State;
use stead_proto::{election, lease, memory};
use zeroize::Zeroizing;

const MESH: ClusterId = ClusterId([7; 32]);

/// All of a chain that begins here: each element says which is next.
fn chain<T: Clone>(first: T, next: impl Fn(&T) -> Option<T>) -> Vec<T> {
    std::iter::successors(Some(first), |last| next(last)).collect()
}

fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

fn name(text: &str) -> Name {
    text.parse().unwrap()
}

fn epoch() -> Epoch {
    Epoch { plan: 97, rank: 1 }
}

pub(super) fn member(id: u64, role: Role, standing: Standing) -> Member {
    let (v4, v6) = ("192.0.2.1:7832".parse().unwrap(), "[2001:db8::1]:7832".parse().unwrap());
    let seed = u8::try_from(id).unwrap();
    Member {
        id: NodeId(id),
        name: name(&format!("n{id}")),
        key: key(seed).public(),
        role,
        addresses: vec![v4, v6],
        standing,
    }
}

fn every_member() -> Vec<Member> {
    let roles = chain(Role::Voter, |role| match role {
        Role::Voter => Some(Role::Learner),
        Role::Learner => Some(Role::Witness),
        Role::Witness => None,
    });
    let standings = chain(Standing::Active, |standing| match standing {
        Standing::Active => Some(Standing::Drained),
        Standing::Drained => None,
    });
    let standing = |i: usize| standings[i % standings.len()];
    roles.iter().enumerate().map(|(i, role)| member(i as u64 + 1, *role, standing(i))).collect()
}

fn every_check() -> Vec<Check> {
    chain(Check::http(8080, "/health"), |check| match check {
        Check::Http { .. } => Some(Check::Tcp { port: 5432 }),
        Check::Tcp { .. } => Some(Check::Exec { command: vec!["/bin/check".into(), "-q".into()] }),
        Check::Exec { .. } => None,
    })
}

pub(super) fn site() -> Site {
    let mut site = Site::default();
    let restarts = chain(RestartHow::Unit("web.service".into()), |how| match how {
        RestartHow::Unit(_) => Some(RestartHow::Command(vec!["/bin/web".into()])),
        RestartHow::Command(_) => None,
    });
    for (i, check) in every_check().into_iter().enumerate() {
        let service = name(&format!("s{i}"));
        let restart = restarts.get(i).cloned().map(Restart::new);
        site.services.insert(service.clone(), Service { restart, ..Service::new(service, check) });
    }
    let drivers = chain(Driver::Vip, |driver| match driver {
        Driver::Vip => Some(Driver::Exec(vec!["/bin/move".into()])),
        Driver::Exec(_) => None,
    });
    let addresses = ["192.0.2.10", "2001:db8::10"];
    for (i, driver) in drivers.into_iter().enumerate() {
        let spec = EndpointSpec {
            address: addresses[i].parse().unwrap(),
            ports: vec![80, 443],
            services: BTreeSet::from([name("s0")]),
            driver,
            lease_ms: 350,
            prefer: vec![name("n1")],
            holding: HoldingText::default(),
        };
        site.endpoints.insert(name(&format!("e{i}")), spec);
    }
    site
}

pub(super) fn genesis() -> Genesis {
    let roles = chain(OperatorRole::Viewer, |role| match role {
        OperatorRole::Viewer => Some(OperatorRole::Caretaker),
        OperatorRole::Caretaker => Some(OperatorRole::Admin),
        OperatorRole::Admin => None,
    });
    let operator = |(i, role)| {
        let serial = 1_000 + i as u64;
        (key(100 + i as u8).public(), Operator { name: name(&format!("o{i}")), role, serial })
    };
    let operators = roles.into_iter().enumerate().map(operator).collect();
    Genesis { nonce: [5; 16], members: every_member(), operators, site: site() }
}

pub(super) fn every_act() -> Vec<Act> {
    chain(Act::Apply { base: 1, site: Box::new(site()), text: "# site\n".into() }, |act| match act {
        Act::Apply { .. } => Some(Act::Rollback { base: 3, to: 2 }),
        Act::Rollback { .. } => Some(Act::Move { endpoint: name("e0"), to: NodeId(2) }),
        Act::Move { .. } => Some(Act::Drain { node: NodeId(2), drained: true }),
        Act::Drain { .. } => Some(Act::Admit(Box::new(member(4, Role::Learner, Standing::Active)))),
        Act::Admit(_) => Some(Act::SetRole { node: NodeId(2), role: Role::Witness }),
        Act::SetRole { .. } => Some(Act::Remove(NodeId(2))),
        Act::Remove(_) => None,
    })
}

pub(super) fn order(act: Act) -> Signed<Order> {
    key(102).sign(MESH, &Order { serial: 1_700_000_000_000_000, act }).unwrap()
}

pub(super) fn report() -> Report {
    let services = chain(ServiceSeen::Unknown, |seen| match seen {
        ServiceSeen::Unknown => Some(ServiceSeen::Healthy),
        ServiceSeen::Healthy => Some(ServiceSeen::Ailing("restarting".into())),
        ServiceSeen::Ailing(_) => Some(ServiceSeen::Down("refused".into())),
        ServiceSeen::Down(_) => None,
    });
    let unwell = chain(Unwell::DiskFull, |unwell| match unwell {
        Unwell::DiskFull => Some(Unwell::StoreFailed),
        Unwell::StoreFailed => Some(Unwell::Stalled),
        Unwell::Stalled => Some(Unwell::UplinkMissing),
        Unwell::UplinkMissing => Some(Unwell::AddressTaken),
        Unwell::AddressTaken => None,
    });
    Report {
        from: NodeId(1),
        incarnation: 3,
        sequence: 500,
        previous: [9; 32],
        unix_ms: 1_700_000_000_000,
        config: ConfigSeen { index: 40, age_ms: 90_000, pair_left: true },
        log: LogSeen { term: 4, durable: (4, 98), applied: 97, digest: [8; 32], leader: Some(NodeId(2)) },
        services: services.into_iter().enumerate().map(|(i, seen)| (name(&format!("s{i}")), seen)).collect(),
        leases: vec![LeaseSeen {
            endpoint: name("e0"),
            highest: epoch(),
            promised: Some((NodeId(1), epoch())),
            holding: Some(epoch()),
        }],
        reach: vec![(NodeId(2), Reach { heard_ms_ago: 12, rtt_us: 345 })],
        gate: GateSeen { rung: "BPF (tcx)".into(), slack_ms: 0, shortfalls: vec!["one".into()] },
        unwell,
    }
}

pub(super) fn signed_report() -> Signed<Report> {
    key(1).sign(MESH, &report()).unwrap()
}

fn every_ground() -> Vec<Ground> {
    chain(Ground::First, |ground| match ground {
        Ground::First => Some(Ground::Refresh),
        Ground::Refresh => {
            Some(Ground::Witnessed { reports: vec![signed_report()], because: "n1 fell silent".into() })
        }
        Ground::Witnessed { .. } => None,
    })
}

fn every_change() -> Vec<Change> {
    chain(Change::Add(NodeId(3)), |change| match change {
        Change::Add(_) => Some(Change::Remove(NodeId(3))),
        Change::Remove(_) => Some(Change::EnterPair(NodeId(1))),
        Change::EnterPair(_) => Some(Change::LeavePair),
        Change::LeavePair => None,
    })
}

fn every_matter() -> Vec<Matter> {
    chain(Matter::Move(name("e0")), |matter| match matter {
        Matter::Move(_) => Some(Matter::Vacant(name("e0"))),
        Matter::Vacant(_) => Some(Matter::NodeLost(NodeId(2))),
        Matter::NodeLost(_) => Some(Matter::ServiceDown(NodeId(2), name("s0"))),
        Matter::ServiceDown(..) => Some(Matter::NodeUnwell(NodeId(2))),
        Matter::NodeUnwell(_) => Some(Matter::Voters),
        Matter::Voters => Some(Matter::Roster),
        Matter::Roster => Some(Matter::OrderRefused(key(100).public())),
        Matter::OrderRefused(_) => None,
    })
}

pub(super) fn every_command() -> Vec<Command> {
    let unix_ms = 1_700_000_000_000;
    let kinds = chain(Command::Probe, |command| match command {
        Command::Probe => Some(Command::Order(order(Act::Remove(NodeId(2))))),
        Command::Order(_) => Some(Command::Plan {
            endpoint: name("e0"),
            parent: 9,
            seats: vec![Seat { node: NodeId(1), slack_ms: 0 }, Seat { node: NodeId(2), slack_ms: 100 }],
            ground: Ground::First,
            unix_ms,
        }),
        Command::Plan { .. } => Some(Command::Voters {
            change: Change::LeavePair,
            reports: vec![signed_report()],
            reason: "it is back".into(),
            unix_ms,
        }),
        Command::Voters { .. } => {
            Some(Command::Note { matter: Matter::Voters, text: "so".into(), closes: false, unix_ms })
        }
        Command::Note { .. } => None,
    });
    let plan = |ground| Command::Plan { endpoint: name("e1"), parent: 0, seats: Vec::new(), ground, unix_ms };
    let voters = |change| Command::Voters { change, reports: Vec::new(), reason: String::new(), unix_ms };
    let note = |matter| Command::Note { matter, text: "x".into(), closes: false, unix_ms };
    kinds
        .into_iter()
        .chain(every_ground().into_iter().map(plan))
        .chain(every_change().into_iter().map(voters))
        .chain(every_matter().into_iter().map(note))
        .collect()
}

pub(super) fn every_message() -> Vec<Message> {
    let lease = |message| Message::Lease(name("e0"), message);
    let verdict = |verdict| lease::Message::Answer { epoch: epoch(), config_index: 40, seq: 1, verdict };
    let leases =
        chain(lease::Message::Ask { epoch: epoch(), config_index: 40, seq: 1 }, |message| match message {
            lease::Message::Ask { .. } => Some(verdict(lease::Verdict::Agreed)),
            lease::Message::Answer { verdict: lease::Verdict::Agreed, .. } => {
                Some(verdict(lease::Verdict::Refused {
                    highest: epoch(),
                    retry_after_ms: 25,
                    promised_to: Some(NodeId(2)),
                }))
            }
            lease::Message::Answer { verdict: lease::Verdict::Refused { .. }, .. } => {
                Some(lease::Message::Release { epoch: epoch(), next: Some(NodeId(3)) })
            }
            lease::Message::Release { .. } => None,
        });
    let others = chain(Message::Recall, |message| match message {
        Message::Recall => Some(Message::Recalled(Some(memory()))),
        Message::Recalled(_) => Some(Message::Election(election::Message::Ask { round: 1, last: (4, 98) })),
        Message::Election(election::Message::Ask { .. }) => {
            Some(Message::Election(election::Message::Grant { round: 1 }))
        }
        Message::Election(election::Message::Grant { .. }) | Message::Lease(..) => None,
    });
    leases.into_iter().map(lease).chain(others).collect()
}

fn memory() -> memory::Memory {
    memory::Memory { incarnation: 3, term: 4, durable: (4, 98) }
}

pub(super) fn memories() -> memory::Memories {
    let mut memories = memory::Memories::default();
    assert!(memories.saw(&report()));
    memories
}

/// A state with everything in it: what every command made of the genesis.
pub(super) fn state() -> State {
    let genesis = genesis();
    let mut state = State::begin(MESH, &genesis);
    let seats = vec![Seat { node: NodeId(1), slack_ms: 100 }];
    let first = Command::Plan { endpoint: name("e0"), parent: 0, seats, ground: Ground::First, unix_ms: 1 };
    for (index, command) in (1..).zip([first].into_iter().chain(every_command())) {
        let bytes = stead_proto::codec::encode(&command, usize::MAX).unwrap();
        state.apply(index, &bytes);
    }
    assert!(!state.plans.is_empty() && state.incidents.iter().count() > 3);
    state
}

pub(super) fn every_refusal() -> Vec<Refusal> {
    chain(Refusal::Unreadable, |refusal| match refusal {
        Refusal::Unreadable => Some(Refusal::Signature),
        Refusal::Signature => Some(Refusal::UnknownOperator),
        Refusal::UnknownOperator => {
            Some(Refusal::Role { name: name("o0"), has: "viewer".into(), needed: "admin".into() })
        }
        Refusal::Role { .. } => Some(Refusal::Replayed),
        Refusal::Replayed => Some(Refusal::Stale { base: 1, newest: 2 }),
        Refusal::Stale { .. } => Some(Refusal::Site(vec!["wrong".into()])),
        Refusal::Site(_) => Some(Refusal::Unknown("node #9".into())),
        Refusal::Unknown(_) => Some(Refusal::Forbidden("no".into())),
        Refusal::Forbidden(_) => None,
    })
}

pub(super) fn every_request() -> Vec<Request> {
    chain(Request::Status, |request| match request {
        Request::Status => Some(Request::StatusOf(NodeId(2))),
        Request::StatusOf(_) => Some(Request::Submit(order(Act::Remove(NodeId(2))))),
        Request::Submit(_) => Some(Request::Genesis),
        Request::Genesis => None,
    })
}

pub(super) fn every_answer() -> Vec<Answer> {
    let outcomes = chain(Outcome::Done, |outcome| match outcome {
        Outcome::Done => Some(Outcome::Site(3)),
        Outcome::Site(_) => Some(Outcome::Refused(Refusal::Replayed)),
        Outcome::Refused(_) => None,
    });
    let kinds = chain(Answer::Status(Box::new(status())), |answer| match answer {
        Answer::Status(_) => Some(Answer::Refused(Refusal::Signature)),
        Answer::Refused(_) => Some(Answer::Unavailable { why: "no leader".into(), unknown: true }),
        Answer::Unavailable { .. } => Some(Answer::Genesis(vec![1, 2, 3])),
        Answer::Genesis(_) | Answer::Committed { .. } => None,
    });
    let committed = outcomes.into_iter().map(|outcome| Answer::Committed { index: 99, outcome });
    kinds.into_iter().chain(committed).chain(every_refusal().into_iter().map(Answer::Refused)).collect()
}

fn status() -> Status {
    let livenesses = chain(Liveness::Up, |liveness| match liveness {
        Liveness::Up => Some(Liveness::Cut),
        Liveness::Cut => Some(Liveness::Lost),
        Liveness::Lost => None,
    });
    let peer = |(i, liveness)| PeerStatus {
        node: NodeId(2 + i as u64),
        liveness,
        since_ms: 1_000,
        heard_ms_ago: Some(20),
        report: Some((20, report())),
    };
    Status {
        node: NodeId(1),
        version: "0.1.0".into(),
        uptime_ms: 60_000,
        waiting: Some("the recall".into()),
        leader_fresh: true,
        state: state(),
        own: report(),
        peers: livenesses.into_iter().enumerate().map(peer).collect(),
        endpoints: vec![EndpointStatus {
            name: name("e0"),
            serving: Some((epoch(), 200)),
            promised: Some((NodeId(1), epoch())),
            ready: true,
            holding_page: false,
            trouble: Some("none".into()),
        }],
        transport: transport(),
    }
}

fn transport() -> TransportSeen {
    let refusals = chain(HandshakeRefusal::UnknownKey, |refusal| match refusal {
        HandshakeRefusal::UnknownKey => Some(HandshakeRefusal::EvictedKey),
        HandshakeRefusal::EvictedKey => Some(HandshakeRefusal::WrongNode),
        HandshakeRefusal::WrongNode => Some(HandshakeRefusal::WrongMesh),
        HandshakeRefusal::WrongMesh => Some(HandshakeRefusal::WrongPlane),
        HandshakeRefusal::WrongPlane => Some(HandshakeRefusal::Malformed),
        HandshakeRefusal::Malformed => Some(HandshakeRefusal::Crowded),
        HandshakeRefusal::Crowded => None,
    });
    let last = PeerRefusal { peer: Some(NodeId(2)), why: HandshakeRefusal::WrongMesh, ms_ago: 9 };
    TransportSeen {
        refused: refusals.iter().map(|refusal| (*refusal, 3)).collect(),
        refused_by_peers: BTreeMap::new(),
        last_refused_by_peer: Some(last),
        evicted: 1,
        duplicates: 2,
        stale: 3,
        datagrams_dropped: 4,
        oversize: 5,
        reports_dropped: 6,
        busy: 7,
        calls_timed_out: 8,
    }
}

pub(super) fn record() -> lease::Record {
    lease::Record {
        boot_id: lease::BootId([3; 16]),
        highest: epoch(),
        spent: false,
        promise: None,
        config_index: 40,
        config_since_ns: 1,
        silent_until_ns: 2,
        held: None,
    }
}

/// For types whose order of entries is their own.
pub(super) fn named<T>(what: &str, all: Vec<T>) -> BTreeMap<String, T> {
    all.into_iter().enumerate().map(|(i, value)| (format!("{what} {i:02}"), value)).collect()
}
