//! Nodes that keep something from the others: that tell each something else, or serve and report no more.

use stead_proto::id::NodeId;
use stead_proto::mesh::{Event, Now};
use stead_proto::report::{self, Head, Reach, Report};
use stead_proto::sign::Signed;
use stead_proto::state::Authority;
use stead_proto::tribunal::{Ground, Place};
use stead_proto::{codec, limits::REPORT_FRAME_BYTES_MAX};

use crate::judging::{others, refused_by, until_refused};
use crate::world::{World, key, settled};

fn demoted(world: &World, by: NodeId, node: NodeId) -> bool {
    let now = Now { at: world.now, unix_ms: 0 };
    let status = world.nodes[&by].mesh.as_ref().unwrap().status(now, "");
    status.cases.iter().any(|case| case.subject == node && case.demoted)
}

#[test]
fn who_tells_each_something_else_is_cut_off_by_all() {
    for nodes in [3, 4, 5, 7] {
        for leads in [false, true] {
            let (mut world, _) = settled(nodes);
            let leader = world.leader.unwrap();
            let bad = if leads { leader } else { others(&world, leader)[0] };
            world.two_faced.insert(bad, [0; 32]);
            world.deaf.insert(bad);
            let ms = until_refused(&mut world, bad, 4_000);
            assert!(ms < 3_000, "n = {nodes}: {ms} ms");
            world.run_ms(12_000);
            let state = world.state_at(world.log.len());
            assert!(matches!(state.isolations[&bad].by, Authority::Peers(_)), "n = {nodes}");
            assert_eq!(state.isolations.len(), 1, "n = {nodes}");
            let witness = others(&world, bad)[0];
            let [kept] = &world.nodes[&witness].convictions[..] else { panic!("one conviction") };
            let [one, other] = &kept.evidence[..] else { panic!("two reports: {:?}", kept.evidence) };
            let [one, other] = [one, other].map(|signed| signed.verify(world.cluster).unwrap());
            assert!(one.from == bad && other.from == bad && one != other);
        }
    }
}

#[test]
fn honest_nodes_show_nothing_and_contradict_nobody_through_restarts_and_cuts() {
    let (mut world, _) = settled(5);
    for round in 0..10 {
        let node = NodeId(1 + round % 5);
        world.isolate(node, true);
        world.run_ms(700);
        world.isolate(node, false);
        world.run_ms(700);
        world.crash(node);
        world.run_ms(300);
        world.boot(node);
        world.run_ms(1_500);
    }
    assert_eq!(world.exhibits, 0);
    assert!(world.nodes.keys().all(|node| refused_by(&world, *node).is_empty()));
}

#[test]
fn who_lies_about_what_it_heard_makes_others_show_a_little_and_convicts_nobody() {
    let (mut world, _) = settled(5);
    let (liar, victim) = (NodeId(5), NodeId(2));
    let (exhibits, begun) = (world.exhibits, world.now);
    for sequence in 1..=500 {
        let own = world.nodes[&liar].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "").own;
        let head = own.reach.iter().find(|(node, _)| *node == victim).unwrap().1.head.unwrap();
        let false_head = Head { link: [6; 32], ..head };
        let reach =
            vec![(victim, Reach { heard_ms_ago: 1, rtt_us: 1, head: Some(false_head), host_key: None })];
        let told = Report { incarnation: 70, sequence, reach, ..own };
        let bytes =
            codec::encode(&key(5).sign(world.cluster, &told).unwrap(), REPORT_FRAME_BYTES_MAX).unwrap();
        for to in others(&world, liar) {
            world.push(world.now, to, Event::Report { from: liar, at: None, bytes: bytes.clone() });
        }
        world.run_ms(20);
    }
    let shown = world.exhibits - exhibits;
    let seconds = world.now.since(begun).as_ms() / 1_000;
    assert!(shown > 0 && shown as u64 <= 3 * 2 * (seconds + 1), "{shown} in {seconds} s");
    assert_eq!(refused_by(&world, victim), []);
}

#[test]
fn exhibits_that_are_forged_or_of_nobody_prove_nothing() {
    let (mut world, _) = settled(3);
    let (liar, victim) = (NodeId(3), NodeId(2));
    let own = world.nodes[&victim].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "").own;
    for (signer, from) in [(3, victim), (77, victim), (3, NodeId(9))] {
        let report = Report { from, previous: [9; 32], ..own.clone() };
        let signed = key(signer).sign(world.cluster, &report).unwrap();
        let mut bytes = codec::encode(&signed, REPORT_FRAME_BYTES_MAX).unwrap();
        world.push(world.now, NodeId(1), Event::Report { from: liar, at: None, bytes: bytes.clone() });
        // Under the key of the victim, with a signature that does not hold.
        let at = bytes.windows(32).position(|window| window == key(signer).public().0).unwrap();
        bytes[at..at + 32].copy_from_slice(&key(2).public().0);
        world.push(world.now, NodeId(1), Event::Report { from: liar, at: None, bytes });
        world.run_ms(500);
    }
    world.run_ms(5_000);
    assert!(world.nodes.keys().all(|node| refused_by(&world, *node).is_empty()));
}

#[test]
fn one_broken_chain_is_a_proof_as_well_as_two_reports_of_one_place() {
    let (mut world, _) = settled(3);
    let (bad, now) = (NodeId(2), world.now);
    let own = world.nodes[&bad].mesh.as_ref().unwrap().status(Now { at: now, unix_ms: 0 }, "").own;
    let sign = |report: &Report| -> (Signed<Report>, Vec<u8>) {
        let signed = key(2).sign(world.cluster, report).unwrap();
        let bytes = codec::encode(&signed, REPORT_FRAME_BYTES_MAX).unwrap();
        (signed, bytes)
    };
    let first = Report { incarnation: 50, sequence: 1, previous: [0; 32], ..own.clone() };
    let (signed, first) = sign(&first);
    let good = Report { incarnation: 50, sequence: 2, previous: report::link(&signed), ..own.clone() };
    let (_, good) = sign(&good);
    let (_, broken) = sign(&Report { incarnation: 50, sequence: 3, previous: [3; 32], ..own });
    world.mute.insert(bad);
    for (to, bytes) in [(1, &first), (3, &first), (1, &good), (3, &good)] {
        world.push(world.now, NodeId(to), Event::Report { from: bad, at: None, bytes: bytes.clone() });
    }
    world.run_ms(1_500);
    assert_eq!(refused_by(&world, bad), []);
    for to in [1, 3] {
        world.push(world.now, NodeId(to), Event::Report { from: bad, at: None, bytes: broken.clone() });
    }
    until_refused(&mut world, bad, 2_000);
    let [kept] = &world.nodes[&NodeId(1)].convictions[..] else { panic!("one conviction") };
    let places = kept.evidence.iter().map(|signed| signed.verify(world.cluster).unwrap().place());
    let mut places: Vec<Place> = places.collect();
    places.sort_unstable();
    assert_eq!(places, [2, 3].map(|sequence| Place { incarnation: 50, sequence }));
}

#[test]
fn a_holder_that_serves_and_reports_no_more_is_demoted_and_comes_back_when_it_reports() {
    let (mut world, holder) = settled(3);
    world.mute.insert(holder);
    world.run_ms(4_000);
    assert_eq!(world.holders(), [holder], "four seconds may happen");
    world.run_ms(5_000);
    let witness = others(&world, holder)[0];
    assert!(demoted(&world, witness, holder));
    world.until_served(Some(holder), 2_000);
    assert_eq!(refused_by(&world, holder), [], "silence alone cuts nobody off");
    world.mute.clear();
    world.run_ms(620_000);
    assert!(!demoted(&world, witness, holder));
}

#[test]
fn who_answers_when_it_is_asked_why_it_is_silent_is_not_demoted() {
    let (mut world, holder) = settled(3);
    world.mute.insert(holder);
    world.run_ms(6_000);
    world.mute.clear();
    world.run_ms(10_000);
    assert_eq!(world.holders(), [holder]);
    assert!(others(&world, holder).iter().all(|witness| !demoted(&world, *witness, holder)));
    assert_eq!(Ground::Silence.to_string().matches("reports stopped").count(), 1);
}
