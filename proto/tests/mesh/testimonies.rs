//! What hostile or broken members say against others: refused or merged, bounded, and never more than it is.

use stead_proto::detect::{Detector, Level};
use stead_proto::id::NodeId;
use stead_proto::limits::LEASE_FRAME_BYTES_MAX;
use stead_proto::lookout::{Flood, Posture, TrafficSeen};
use stead_proto::mesh::Event;
use stead_proto::message::Message;
use stead_proto::order::Act;
use stead_proto::roster::Role;
use stead_proto::tribunal::{Ground, Probe, Sanction, Subject, Testimony};

use crate::world::{World, key, settled};

fn confessing() -> TrafficSeen {
    let flood = Flood { worst: Level::Convict, detectors: vec![Detector::Provenance], ..Flood::default() };
    TrafficSeen { posture: Posture::Throttled, flood: Some(flood), ..TrafficSeen::default() }
}

fn flood(world: &mut World, node: NodeId) {
    world.push(world.now, node, Event::Traffic { seen: Box::new(confessing()), urgent: true });
}

fn against(world: &World, subject: u64, by: u64) -> Testimony {
    Testimony {
        subject: Subject { node: NodeId(subject), key: key(subject as u8).public() },
        sanction: Sanction::Isolate,
        electorate: world.state_at(world.log.len()).roster_index,
        by: NodeId(by),
        grounds: vec![Ground::Probed(Probe::HostKey), Ground::Probed(Probe::Content)],
        unix_ms: world.now.as_ns() / 1_000_000,
        heard: None,
    }
}

/// `from` brings it to everybody else.
fn bring(world: &mut World, from: u64, bytes: &[u8]) {
    let others: Vec<NodeId> = world.nodes.keys().copied().filter(|node| node.0 != from).collect();
    for to in others {
        world.push(world.now, to, Event::Datagram { from: NodeId(from), bytes: bytes.to_vec() });
    }
}

fn say(world: &mut World, from: u64, testimony: &Testimony, signer: u64) -> Vec<u8> {
    let signed = key(signer as u8).sign(world.cluster, testimony).unwrap();
    let bytes = Message::Testimony(signed).encode().unwrap();
    bring(world, from, &bytes);
    bytes
}

/// Every (observer, subject) of an isolation.
fn isolations(world: &World) -> Vec<(NodeId, NodeId)> {
    let of = |(id, node): (&NodeId, &crate::world::Node)| {
        node.refused.iter().map(|subject| (*id, *subject)).collect::<Vec<_>>()
    };
    world.nodes.iter().flat_map(of).collect()
}

fn cases(world: &World, node: u64) -> usize {
    let now = stead_proto::mesh::Now { at: world.now, unix_ms: 0 };
    world.nodes[&NodeId(node)].mesh.as_ref().unwrap().status(now, "").cases.len()
}

#[test]
fn what_is_forged_garbled_or_about_nobody_opens_no_case() {
    let (mut world, _) = settled(5);
    let good = against(&world, 2, 5);
    say(&mut world, 5, &good, 4);
    say(&mut world, 5, &Testimony { by: NodeId(4), ..good.clone() }, 5);
    say(&mut world, 5, &Testimony { electorate: 77, ..good.clone() }, 5);
    say(
        &mut world,
        5,
        &Testimony { subject: Subject { node: NodeId(9), key: key(9).public() }, ..good.clone() },
        5,
    );
    say(
        &mut world,
        5,
        &Testimony { subject: Subject { node: NodeId(2), key: key(3).public() }, ..good.clone() },
        5,
    );
    say(&mut world, 5, &Testimony { grounds: vec![Ground::AtHome], ..good.clone() }, 5);
    let of_itself = against(&world, 5, 5);
    say(&mut world, 5, &of_itself, 5);
    let whole = Message::Testimony(key(5).sign(world.cluster, &good).unwrap()).encode().unwrap();
    for length in 0..whole.len() {
        bring(&mut world, 5, &whole[..length]);
    }
    for place in 0..whole.len() {
        let mut bent = whole.clone();
        bent[place] ^= 1;
        bring(&mut world, 5, &bent);
        world.run_ms(30);
    }
    bring(&mut world, 5, &vec![0xff; LEASE_FRAME_BYTES_MAX]);
    world.run_ms(1_000);
    assert_eq!((1..5).map(|node| cases(&world, node)).collect::<Vec<_>>(), [0; 4]);
    // The whole one does, at those whom it is not about, and it comes to nothing.
    bring(&mut world, 5, &whole);
    world.run_ms(50);
    assert_eq!(cases(&world, 1), 1);
    for _ in 0..20 {
        bring(&mut world, 5, &whole);
        world.run_ms(500);
    }
    assert_eq!((cases(&world, 1), isolations(&world)), (1, vec![]));
}

#[test]
fn words_of_one_time_do_not_help_those_of_another() {
    let (mut world, _) = settled(3);
    // What an honest node might have said by mistake long ago is replayed beside a liar's word of today.
    let old = Testimony { unix_ms: 1, ..against(&world, 2, 1) };
    say(&mut world, 3, &old, 1);
    let fresh = against(&world, 2, 3);
    say(&mut world, 3, &fresh, 3);
    world.run_ms(5_000);
    assert_eq!(isolations(&world), []);
}

#[test]
fn where_too_few_are_left_to_agree_nobody_is_isolated() {
    for (nodes, dead) in [(2, None), (3, Some(NodeId(3)))] {
        let (mut world, _) = settled(nodes);
        if let Some(dead) = dead {
            world.crash(dead);
            world.run_ms(3_000);
        }
        flood(&mut world, NodeId(2));
        world.run_ms(10_000);
        assert_eq!(isolations(&world), [], "of {nodes}");
    }
}

#[test]
fn of_two_that_flood_at_once_half_of_three_is_no_crime_and_a_third_of_seven_goes_one_after_the_other() {
    let (mut world, _) = settled(3);
    flood(&mut world, NodeId(2));
    flood(&mut world, NodeId(3));
    world.run_ms(10_000);
    assert_eq!(isolations(&world), [], "most of the mesh does not turn at once: it is the sensors");

    let (mut world, _) = settled(7);
    for bad in [2, 3] {
        world.deaf.insert(NodeId(bad));
        flood(&mut world, NodeId(bad));
    }
    world.run_ms(10_000);
    for honest in [1, 4, 5, 6, 7] {
        let refused: Vec<u64> = world.nodes[&NodeId(honest)].refused.iter().map(|node| node.0).collect();
        assert_eq!(refused, [2, 3], "node {honest}");
    }
    assert_eq!(world.state_at(world.log.len()).isolations.len(), 2);
}

#[test]
fn a_conviction_outlives_a_change_of_the_roster_and_an_election() {
    let (mut world, _) = settled(5);
    let bad = world.leader.unwrap();
    world.deaf.insert(bad);
    flood(&mut world, bad);
    // The roster changes, and the leader is gone, just when they testify.
    world.run_ms(1_020);
    world.order(Act::SetRole { node: NodeId(5), role: Role::Witness });
    world.leader = None;
    world.tell_raft();
    world.run_ms(15_000);
    let honest: Vec<NodeId> = world.nodes.keys().copied().filter(|node| *node != bad).collect();
    for node in honest {
        assert!(world.nodes[&node].refused.contains(&bad), "{node}");
    }
    let state = world.state_at(world.log.len());
    assert!(state.is_isolated(bad) && state.isolations.len() == 1, "{:?}", state.isolations.keys());
}

#[test]
fn who_is_isolated_convicts_nobody_and_is_heard_by_nobody() {
    let (mut world, _) = settled(5);
    let bad = NodeId(5);
    world.deaf.insert(bad);
    flood(&mut world, bad);
    world.run_ms(15_000);
    assert_eq!(isolations(&world).len(), 4);
    let before = world.log.len();
    for subject in [1, 2, 3] {
        let lie = against(&world, subject, 5);
        let bytes = say(&mut world, 5, &lie, 5);
        // Nor if somebody else brings it.
        bring(&mut world, 4, &bytes);
    }
    world.run_ms(5_000);
    assert_eq!(isolations(&world).len(), 4);
    assert_eq!((1..=4).map(|node| cases(&world, node)).sum::<usize>(), 0);
    assert_eq!(world.log.len(), before);
}

#[test]
fn a_pair_of_five_demotes_nobody_and_a_majority_of_five_never_all() {
    let (mut world, holder) = settled(5);
    let liars = [4, 5];
    for round in 0..40 {
        for victim in 1..=3 {
            for liar in liars {
                let words = Testimony { sanction: Sanction::Demote, ..against(&world, victim, liar) };
                say(&mut world, liar, &words, liar);
            }
        }
        world.run_ms(500);
        let demoted = (1..=3).filter(|node| {
            let now = stead_proto::mesh::Now { at: world.now, unix_ms: 0 };
            let status = world.nodes[&NodeId(*node)].mesh.as_ref().unwrap().status(now, "");
            status.cases.iter().any(|case| case.demoted)
        });
        assert_eq!(demoted.count(), 0, "round {round}");
    }
    assert_eq!(world.holders(), [holder]);
    // Nor do three of five, whom no rule can hold, take the site down: two at most are demoted.
    for victim in 1..=5 {
        for liar in (1..=5).filter(|liar| *liar != victim) {
            let words = Testimony { sanction: Sanction::Demote, ..against(&world, victim, liar) };
            say(&mut world, liar, &words, liar);
        }
    }
    world.run_ms(5_000);
    world.until_served(None, 1_000);
}
