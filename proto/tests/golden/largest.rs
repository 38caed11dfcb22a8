//! The largest values that the other limits allow, against the limits of the frames that they travel in. What a node
//! cannot encode it cannot say: a report that is too long makes it mute.

use std::collections::BTreeMap;
use std::net::IpAddr;

use stead_proto::codec;
use stead_proto::command::{Command, Ground};
use stead_proto::detect::{Detector, Inbound, Level};
use stead_proto::fence::Fenced;
use stead_proto::id::{Name, NodeId};
use stead_proto::incident::{Incident, Line, Matter};
use stead_proto::lease::{Message as Lease, Verdict};
use stead_proto::limits::{
    COMMAND_FRAME_BYTES_MAX, ENDPOINTS_MAX, FENCED_TOLD_MAX, FORMER_KEYS_MAX, GROUNDS_MAX,
    INCIDENT_LINES_MAX, INCIDENTS_MAX, LEASE_FRAME_BYTES_MAX, NAME_BYTES_MAX, NODES_MAX,
    REPORT_FRAME_BYTES_MAX, SERVICES_MAX, SITE_HISTORY_MAX, SNAPSHOT_BYTES_MAX, TEXT_BYTES_MAX, VOTERS_MAX,
};
use stead_proto::lookout::{
    Attacked, Flood, InSeen, OutSeen, Posture, QueueSeen, SENDER_BYTES_MAX, SENDERS_MAX, TARGETS_MAX,
    TrafficSeen,
};
use stead_proto::memory::Memory;
use stead_proto::message::Message;
use stead_proto::order::{Act, Order};
use stead_proto::outside::HostKey;
use stead_proto::plan::{Epoch, Plan, Seat};
use stead_proto::report::{GateSeen, Head, LeaseSeen, Reach, Report, ServiceSeen};
use stead_proto::roster::Member;
use stead_proto::sign::{Signed, Statement};
use stead_proto::state::{SiteVersion, State};
use stead_proto::tribunal::{Certificate, Ground as Found, Place, Sanction, Subject, Testimony};

use crate::parts::{CLUSTER, genesis, key, made_of, member};
use crate::reports;

const NODE: NodeId = NodeId(u64::MAX);
const EPOCH: Epoch = Epoch { plan: u64::MAX, rank: u32::MAX };

fn text() -> String {
    "x".repeat(TEXT_BYTES_MAX)
}

fn name(number: usize) -> Name {
    format!("{number:0>NAME_BYTES_MAX$}").parse().unwrap()
}

/// One for each rung of the ladder that failed, one for a missing right, and one more.
const SHORTFALLS: usize = 5;

/// Every detector, target and program that a record may name.
fn traffic() -> TrafficSeen {
    let every = u32::MAX;
    let address = IpAddr::from([0xff; 16]);
    let flood = Flood {
        began_unix_ms: u64::MAX,
        ended_unix_ms: Some(u64::MAX),
        worst: Level::Convict,
        detectors: Detector::ALL.into(),
        peak: every,
        sent: u64::MAX,
        escaped: u64::MAX,
        targets: vec![address; TARGETS_MAX],
        senders: vec!["x".repeat(SENDER_BYTES_MAX); SENDERS_MAX],
    };
    let attack = Attacked {
        began_unix_ms: u64::MAX,
        ended_unix_ms: Some(u64::MAX),
        peak: every,
        received: u64::MAX,
        queue_full: u64::MAX,
    };
    let top = Some((address, u16::MAX));
    TrafficSeen {
        out: OutSeen { syn: every, cut: every, forged: every, unanswered: every, destinations: every, top },
        inbound: InSeen {
            syn: every,
            queue_full: every,
            state: Inbound::UnderAttack,
            shielded: true,
            fullest: Some(QueueSeen { port: u16::MAX, used: every, max: every }),
        },
        posture: Posture::Throttled,
        alarms: Detector::ALL.map(|detector| (detector, Level::Convict)).into(),
        flood: Some(flood),
        attack: Some(attack),
        blinded: Detector::ALL.into(),
        meddled: Some(text()),
    }
}

fn report() -> Report {
    let lease = |number| LeaseSeen {
        endpoint: name(number),
        highest: EPOCH,
        promised: Some((NODE, EPOCH)),
        holding: Some(EPOCH),
    };
    Report {
        from: NODE,
        incarnation: u64::MAX,
        sequence: u64::MAX,
        unix_ms: u64::MAX,
        services: (0..SERVICES_MAX).map(|number| (name(number), ServiceSeen::Down(text()))).collect(),
        leases: (0..ENDPOINTS_MAX).map(lease).collect(),
        reach: vec![
            (
                NODE,
                Reach {
                    heard_ms_ago: u32::MAX,
                    rtt_us: u32::MAX,
                    head: Some(Head {
                        at: Place { incarnation: u64::MAX, sequence: u64::MAX },
                        link: [255; 32]
                    }),
                    host_key: Some(HostKey([255; 32]))
                }
            );
            NODES_MAX
        ],
        isolated: vec![NODE; NODES_MAX],
        fenced: vec![Fenced { node: NODE, epoch: u64::MAX, failed: Some(text()) }; FENCED_TOLD_MAX],
        gate: GateSeen { rung: "lifetime".into(), slack_ms: u32::MAX, shortfalls: vec![text(); SHORTFALLS] },
        traffic: traffic(),
        ..reports::full()
    }
}

fn evidence() -> Vec<Signed<Report>> {
    vec![key(1).sign(CLUSTER, &report()).unwrap(); VOTERS_MAX]
}

fn seats() -> Vec<Seat> {
    vec![Seat { node: NODE, slack_ms: u32::MAX }; NODES_MAX]
}

#[test]
fn the_largest_report_can_be_signed_and_sent() {
    let signed = key(1).sign(CLUSTER, &report()).unwrap();
    assert!(codec::encode(&signed, REPORT_FRAME_BYTES_MAX).is_ok());
    // What surrounds a statement has room, too.
    let longest = (key(1).public(), vec![0_u8; Report::BYTES_MAX], vec![0_u8; 64]);
    assert!(codec::encode(&longest, REPORT_FRAME_BYTES_MAX).is_ok());
}

#[test]
fn the_largest_datagram_fits() {
    let verdict = Verdict::Refused { highest: EPOCH, retry_after_ms: u32::MAX, promised_to: Some(NODE) };
    let answer = Lease::Answer { epoch: EPOCH, config_index: u64::MAX, seq: u64::MAX, verdict };
    let memory = Memory { incarnation: u64::MAX, term: u64::MAX, durable: (u64::MAX, u64::MAX) };
    for message in [Message::Lease(name(0), answer), Message::Recalled(Some(memory))] {
        assert!(message.encode().unwrap().len() <= LEASE_FRAME_BYTES_MAX / 2, "{message:?}");
    }
}

#[test]
fn the_largest_evidence_fits_a_command() {
    let ground = Ground::Witnessed { reports: evidence(), because: text() };
    let plan =
        Command::Plan { endpoint: name(0), parent: u64::MAX, seats: seats(), ground, unix_ms: u64::MAX };
    assert!(codec::encode(&plan, COMMAND_FRAME_BYTES_MAX).is_ok());
}

#[test]
fn the_largest_order_fits_a_command() {
    let order = |text| Order { serial: u64::MAX, act: Act::Apply { base: 1, site: Box::default(), text } };
    let around = codec::encode(&order("x".repeat(70_000)), Order::BYTES_MAX).unwrap().len() - 70_000;
    let longest = order("x".repeat(Order::BYTES_MAX - around));
    let signed = key(99).sign(CLUSTER, &longest).unwrap();
    assert_eq!(signed.bytes().len(), Order::BYTES_MAX);
    assert!(codec::encode(&Command::Order(signed), COMMAND_FRAME_BYTES_MAX).is_ok());
}

#[test]
fn the_largest_state_fits_a_snapshot() {
    let line = || Line { unix_ms: u64::MAX, text: text() };
    let incident = |id: u64| Incident {
        id,
        matter: Matter::ServiceDown(NODE, name(0)),
        opened_unix_ms: u64::MAX,
        closed_unix_ms: Some(u64::MAX),
        lines: (0..INCIDENT_LINES_MAX).map(|_| line()).collect(),
        lines_dropped: u32::MAX,
    };
    let incidents: BTreeMap<u64, Incident> =
        (0..u64::try_from(INCIDENTS_MAX).unwrap()).map(|id| (u64::MAX - id, incident(id))).collect();
    // The text of a version stands for text and site together: both were in one order.
    let version = || SiteVersion {
        version: u64::MAX,
        by: name(0).to_string(),
        unix_ms: u64::MAX,
        text: "x".repeat(Order::BYTES_MAX),
        site: Default::default(),
    };
    let plan = Plan { index: u64::MAX, lease_ms: u32::MAX, seats: seats() };
    let ids = || (0..u64::try_from(NODES_MAX).unwrap()).map(|id| NodeId(u64::MAX - id));
    let state = State {
        former_keys: vec![member().key; FORMER_KEYS_MAX],
        members: ids().map(|id| (id, Member { id, ..member() })).collect(),
        site_history: (0..SITE_HISTORY_MAX).map(|_| version()).collect(),
        plans: (0..ENDPOINTS_MAX).map(|number| (name(number), plan.clone())).collect(),
        incidents: made_of(&incidents),
        ..State::begin(CLUSTER, &genesis())
    };
    // The newest site lies in the state once more, and the rest of a snapshot is small.
    let room = SNAPSHOT_BYTES_MAX - Order::BYTES_MAX - 128 * 1024;
    let bytes = codec::encode(&state, room).unwrap().len();
    assert!(bytes > room / 2, "{bytes} bytes are no large state");
}

#[test]
fn the_largest_testimony_fits_a_datagram_and_the_largest_certificate_a_command() {
    let ground = Found::Contradiction { one: [1; 32], other: [2; 32] };
    let testimony = Testimony {
        subject: Subject { node: NODE, key: member().key },
        sanction: Sanction::Isolate,
        electorate: u64::MAX,
        by: NODE,
        grounds: vec![ground; GROUNDS_MAX],
        unix_ms: u64::MAX,
        heard: Some(Place { incarnation: u64::MAX, sequence: u64::MAX }),
    };
    let signed = key(1).sign(CLUSTER, &testimony).unwrap();
    assert!(codec::encode(&Message::Testimony(signed.clone()), LEASE_FRAME_BYTES_MAX).is_ok());
    let certificate = Certificate::of(vec![signed; VOTERS_MAX]);
    let isolate = Command::Isolate { certificate, unix_ms: u64::MAX };
    assert!(codec::encode(&isolate, COMMAND_FRAME_BYTES_MAX).is_ok());
}
