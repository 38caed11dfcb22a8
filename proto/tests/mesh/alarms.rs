//! What a node's sensors and detectors say becomes an incident that anybody can read, line by line, once.

use std::net::IpAddr;

use crate::world::{World, unjudged};
use stead_proto::codec;
use stead_proto::command::Command;
use stead_proto::detect::{Detector, Inbound, Level};
use stead_proto::id::NodeId;
use stead_proto::incident::{Incident, Matter};
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, INCIDENT_LINES_MAX};
use stead_proto::lookout::{Attacked, Flood, InSeen, Posture, TrafficSeen};
use stead_proto::mesh::Event;
use stead_proto::order::Act;
use stead_proto::roster::Role;

const ONE: NodeId = NodeId(1);
const TWO: NodeId = NodeId(2);
const BEGAN: u64 = 1_794_528_000_000;
const HELD: &str = "its kernel holds it down to the limit";
const HOUR_MS: u64 = 3_600_000;

fn address(last: u16) -> IpAddr {
    IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, last])
}

/// Throttled, by one detector, with nothing known of targets and programs yet.
fn flooding() -> TrafficSeen {
    TrafficSeen {
        posture: Posture::Throttled,
        alarms: vec![(Detector::Provenance, Level::Convict)],
        flood: Some(Flood {
            began_unix_ms: BEGAN,
            worst: Level::Convict,
            detectors: vec![Detector::Provenance],
            peak: 900,
            sent: 900,
            escaped: 12,
            ..Flood::default()
        }),
        ..TrafficSeen::default()
    }
}

fn with(seen: &TrafficSeen, change: impl FnOnce(&mut Flood)) -> TrafficSeen {
    let mut seen = seen.clone();
    change(seen.flood.as_mut().unwrap());
    seen
}

fn ended(seen: &TrafficSeen) -> TrafficSeen {
    let over = with(seen, |flood| {
        flood.ended_unix_ms = Some(BEGAN + 41_200);
        (flood.peak, flood.sent, flood.escaped) = (1_030, 40_950, 251);
    });
    TrafficSeen { posture: Posture::Free, alarms: Vec::new(), ..over }
}

fn attacked() -> TrafficSeen {
    let attack = Attacked { began_unix_ms: BEGAN, peak: 90_000, received: 90_000, ..Attacked::default() };
    let inbound = InSeen { state: Inbound::UnderAttack, syn: 90_000, ..InSeen::default() };
    TrafficSeen { inbound, attack: Some(attack), posture: Posture::Free, ..TrafficSeen::default() }
}

fn tell(world: &mut World, node: NodeId, seen: &TrafficSeen) {
    world.push(world.now, node, Event::Traffic { seen: Box::new(seen.clone()), urgent: true });
    world.run_ms(300);
}

/// All incidents about a matter, the oldest first.
fn incidents(world: &World, matter: &Matter) -> Vec<Incident> {
    let state = world.state_at(world.log.len());
    state.incidents.iter().filter(|incident| incident.matter == *matter).cloned().collect()
}

#[track_caller]
fn only(world: &World, matter: &Matter) -> Incident {
    let all = incidents(world, matter);
    let [incident] = &all[..] else { panic!("{} of them: {all:#?}", all.len()) };
    incident.clone()
}

fn texts(incident: &Incident) -> Vec<&str> {
    incident.lines.iter().map(|line| line.text.as_str()).collect()
}

fn notes_about(world: &World, matter: &Matter) -> usize {
    let is_about = |bytes: &&Vec<u8>| {
        let command = codec::decode(bytes, COMMAND_FRAME_BYTES_MAX).unwrap();
        matches!(command, Command::Note { matter: of, .. } if of == *matter)
    };
    world.log.iter().filter(is_about).count()
}

#[test]
fn an_outbound_flood_is_told_line_by_line_and_closed_with_its_figures() {
    let (mut world, _) = unjudged(3);
    // The leader's own flood is told like that of any other.
    for node in [world.leader.unwrap(), TWO, NodeId(3)] {
        let matter = Matter::OutboundFlood(node);
        let begun = flooding();
        tell(&mut world, node, &begun);
        let more = with(&begun, |flood| {
            flood.detectors.push(Detector::Magnitude);
            flood.targets = vec![address(7), address(8)];
        });
        tell(&mut world, node, &more);
        let all = with(&more, |flood| flood.senders.push("udevd[4242] /tmp/.x (deleted)".into()));
        for sent in 1_000..1_050 {
            tell(&mut world, node, &with(&all, |flood| flood.sent = sent));
        }
        let open = only(&world, &matter);
        let first = format!("n{} opens more connections than its limit: {HELD}", node.0);
        assert_eq!(open.closed_unix_ms, None);
        assert_eq!(
            texts(&open),
            [
                first.as_str(),
                "D1: SYNs made by hand, from raw or packet sockets; no server's software does that",
                "D5: more than 300 unanswered connections a second",
                "it goes to 2001:db8::7",
                "it goes to 2001:db8::8",
                "a program with a raw or packet socket open meanwhile: udevd[4242] /tmp/.x (deleted)",
            ]
        );
        tell(&mut world, node, &ended(&all));
        let closed = only(&world, &matter);
        assert!(closed.closed_unix_ms.is_some());
        assert_eq!(
            texts(&closed).last(),
            Some(&"over after 42 s (proven): 40950 SYNs, at most 1030 a second; 251 left the host")
        );
        assert_eq!(closed.lines.len(), open.lines.len() + 1);
        assert_eq!(notes_about(&world, &matter), closed.lines.len(), "no entry without its line");
        // The record is still shown, then forgotten: neither opens anything.
        tell(&mut world, node, &TrafficSeen { posture: Posture::Free, ..TrafficSeen::default() });
        assert_eq!(only(&world, &matter), closed);
    }
}

#[test]
fn a_flood_that_comes_back_is_a_second_incident() {
    let (mut world, _) = unjudged(3);
    for count in 1..=3 {
        tell(&mut world, TWO, &flooding());
        tell(&mut world, TWO, &ended(&flooding()));
        let all = incidents(&world, &Matter::OutboundFlood(TWO));
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|incident| incident.closed_unix_ms.is_some() && incident.lines.len() == 3));
    }
}

#[test]
fn a_flood_that_no_limit_holds_says_so() {
    let (mut world, _) = unjudged(3);
    tell(&mut world, TWO, &TrafficSeen { posture: Posture::Unlimited, ..flooding() });
    let incident = only(&world, &Matter::OutboundFlood(TWO));
    assert_eq!(
        texts(&incident)[0],
        "n2 opens more connections than its limit: no limit in its kernel can hold it: see `stead doctor`"
    );
}

#[test]
fn an_inbound_flood_is_no_fault_of_its_node_and_closed_with_its_figures() {
    let (mut world, holder) = unjudged(3);
    let matter = Matter::InboundFlood(TWO);
    tell(&mut world, TWO, &attacked());
    let mut shielded = attacked();
    shielded.inbound.shielded = true;
    for received in 90_000..90_020 {
        shielded.attack.as_mut().unwrap().received = received;
        tell(&mut world, TWO, &shielded);
    }
    let open = only(&world, &matter);
    assert_eq!(open.closed_unix_ms, None);
    let mut over = attacked();
    over.inbound = InSeen::default();
    over.attack = Some(Attacked {
        ended_unix_ms: Some(BEGAN + 60_000),
        received: 5_400_000,
        queue_full: 70_000,
        ..over.attack.unwrap()
    });
    tell(&mut world, TWO, &over);
    let closed = only(&world, &matter);
    assert!(closed.closed_unix_ms.is_some());
    assert_eq!(
        texts(&closed),
        [
            "n2 is flooded with SYNs from outside; it defends itself, and is not at fault",
            "a SYN proxy stands in front of the endpoints of n2",
            "over after 60 s: 5400000 SYNs, at most 90000 a second; 70000 of them met a full queue",
        ]
    );
    assert_eq!(notes_about(&world, &matter), 3);
    assert_eq!(incidents(&world, &Matter::OutboundFlood(TWO)), []);
    assert_eq!(world.holders(), [holder], "a victim keeps what it holds");
}

#[test]
fn a_lost_sensor_is_told_until_it_sees_again() {
    let (mut world, _) = unjudged(3);
    let matter = Matter::SensorBlind(TWO);
    let meddled = "our filter at tc egress was removed, and is back";
    let blind = TrafficSeen {
        posture: Posture::Free,
        blinded: vec![Detector::Provenance, Detector::Illegal],
        meddled: Some(meddled.into()),
        ..TrafficSeen::default()
    };
    for _ in 0..20 {
        tell(&mut world, TWO, &blind);
    }
    tell(&mut world, TWO, &TrafficSeen { blinded: Vec::new(), ..blind.clone() });
    assert_eq!(only(&world, &matter).closed_unix_ms, None, "somebody meddled a moment ago");
    tell(&mut world, TWO, &TrafficSeen { posture: Posture::Free, ..TrafficSeen::default() });
    let closed = only(&world, &matter);
    assert!(closed.closed_unix_ms.is_some());
    assert_eq!(
        texts(&closed),
        [
            &*format!("n2: {meddled}; blind for now: D1, D2; see `stead doctor`"),
            &*format!("n2: {meddled}; see `stead doctor`"),
            "its sensors see again",
        ]
    );
}

#[test]
fn a_lost_node_keeps_its_incident_open_until_it_is_back_and_says_that_it_is_over() {
    let (mut world, _) = unjudged(3);
    world.leader = Some(ONE);
    world.run_ms(1_000);
    let flood = Matter::OutboundFlood(TWO);
    tell(&mut world, TWO, &flooding());
    let before = only(&world, &flood);
    world.isolate(TWO, true);
    world.run_ms(60_000);
    assert!(!incidents(&world, &Matter::NodeLost(TWO)).is_empty(), "it is lost to the others");
    assert_eq!(only(&world, &flood), before, "nobody knows whether it is over");
    world.push(world.now, TWO, Event::Traffic { seen: Box::new(ended(&flooding())), urgent: true });
    world.isolate(TWO, false);
    world.run_ms(5_000);
    let after = only(&world, &flood);
    assert!(after.closed_unix_ms.is_some() && texts(&after).last().unwrap().starts_with("over after 42 s"));
}

#[test]
fn a_removed_nodes_incidents_are_closed() {
    let (mut world, _) = unjudged(3);
    world.leader = Some(ONE);
    world.run_ms(1_000);
    let mut all = attacked();
    (all.flood, all.blinded) = (flooding().flood, vec![Detector::Conservation]);
    tell(&mut world, TWO, &all);
    world.run_ms(1_000);
    let matters = [Matter::OutboundFlood(TWO), Matter::InboundFlood(TWO), Matter::SensorBlind(TWO)];
    for matter in &matters {
        assert_eq!(only(&world, matter).closed_unix_ms, None);
    }
    world.crash(TWO);
    world.order(Act::SetRole { node: TWO, role: Role::Learner });
    for _ in 0..200 {
        if !world.state_at(world.log.len()).config.voters.contains(&TWO) {
            break;
        }
        world.run_ms(100);
    }
    world.order(Act::Remove(TWO));
    world.nodes.remove(&TWO);
    world.run_ms(2_000);
    for matter in &matters {
        let closed = only(&world, matter);
        assert!(closed.closed_unix_ms.is_some(), "{closed:#?}");
        assert_eq!(texts(&closed).last(), Some(&"the node was removed"));
    }
}

#[test]
fn a_flood_of_an_hour_writes_no_more_than_its_first_minute() {
    let (mut world, _) = unjudged(3);
    let mut all = attacked();
    (all.flood, all.posture, all.blinded) =
        (flooding().flood, Posture::Throttled, vec![Detector::Conservation]);
    let (start, mut sent, mut early) = (world.now, 0_u64, None);
    // Its figures change with every report, and it is throttled, free and throttled again all the time.
    while world.now.since(start).as_ms() < HOUR_MS {
        sent += 1_000;
        let mut seen = with(&all, |flood| (flood.sent, flood.peak) = (sent, sent as u32));
        seen.attack.as_mut().unwrap().received = sent;
        seen.posture = if sent.is_multiple_of(2_000) { Posture::Throttled } else { Posture::Free };
        world.push(world.now, TWO, Event::Traffic { seen: Box::new(seen), urgent: false });
        world.run_ms(10_000);
        assert!(world.log.len() < 200, "{} entries", world.log.len());
        if world.now.since(start).as_ms() >= 60_000 {
            early = early.or(Some(world.log.len()));
        }
    }
    assert_eq!(Some(world.log.len()), early, "{sent} SYNs later");
}

#[test]
fn a_node_that_names_ever_new_targets_fills_one_incident_and_then_the_log_no_more() {
    let (mut world, _) = unjudged(3);
    let matter = Matter::OutboundFlood(TWO);
    let mut quiet = 0;
    for number in 0..100 {
        let targets = (0..4).map(|i| address(number * 4 + i)).collect();
        let boast = TrafficSeen { blinded: vec![Detector::ALL[usize::from(number) % 9]], ..flooding() };
        tell(&mut world, TWO, &with(&boast, |flood| flood.targets = targets));
        if number == 30 {
            quiet = world.log.len();
        }
    }
    let full = only(&world, &matter);
    assert_eq!(full.lines.len(), INCIDENT_LINES_MAX);
    assert!(full.lines_dropped > 0);
    assert_eq!(world.log.len(), quiet, "{:#?}", incidents(&world, &Matter::SensorBlind(TWO)));
}
