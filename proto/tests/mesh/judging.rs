//! A node that confesses a flood is cut off by all others, whatever it is: follower, holder or leader.

use stead_proto::detect::{Detector, Level};
use stead_proto::id::NodeId;
use stead_proto::incident::Matter;
use stead_proto::lookout::{Flood, Posture, TrafficSeen};
use stead_proto::mesh::{Event, Now};
use stead_proto::message::Message;
use stead_proto::order::Act;
use stead_proto::roster::{Member, Role};
use stead_proto::seed::Seed;
use stead_proto::state::Authority;
use stead_proto::tribunal::{Ground, Sanction, Subject, Testimony};

use crate::world::{World, home, key, member, settled, unjudged};

fn flooding() -> TrafficSeen {
    let flood = Flood {
        worst: Level::Convict,
        detectors: vec![Detector::Provenance],
        peak: 900,
        sent: 900,
        ..Flood::default()
    };
    TrafficSeen { posture: Posture::Throttled, flood: Some(flood), ..TrafficSeen::default() }
}

fn flood(world: &mut World, node: NodeId, seen: &TrafficSeen) {
    world.push(world.now, node, Event::Traffic { seen: Box::new(seen.clone()), urgent: true });
}

pub(crate) fn others(world: &World, than: NodeId) -> Vec<NodeId> {
    world.nodes.keys().copied().filter(|node| *node != than).collect()
}

#[track_caller]
pub(crate) fn refused_by(world: &World, node: NodeId) -> Vec<NodeId> {
    others(world, node).into_iter().filter(|other| world.nodes[other].refused.contains(&node)).collect()
}

/// Runs until all others refuse a node; after how many ms.
#[track_caller]
pub(crate) fn until_refused(world: &mut World, node: NodeId, within_ms: u64) -> u64 {
    let start = world.now;
    while refused_by(world, node).len() < others(world, node).len() {
        world.run_ms(10);
        let ms = world.now.since(start).as_ms();
        assert!(ms < within_ms, "only {:?} refuse {node} after {ms} ms", refused_by(world, node));
    }
    world.now.since(start).as_ms()
}

#[test]
fn who_confesses_a_flood_is_cut_off_everywhere_and_serves_no_more_whatever_it_is() {
    for nodes in [3, 4, 5, 7] {
        for role in 0..3 {
            let (mut world, holder) = settled(nodes);
            let leader = world.leader.unwrap();
            let bad = match role {
                0 => holder,
                1 => leader,
                _ => *others(&world, holder).iter().find(|node| **node != leader).unwrap(),
            };
            // It takes no notice of what is said about it, as malware would not.
            world.deaf.insert(bad);
            flood(&mut world, bad, &flooding());
            let ms = until_refused(&mut world, bad, 2_000);
            assert!(ms >= 1_000, "n = {nodes}: {ms} ms are no lasting confession");
            world.until_served(Some(bad), 1_000);
            world.run_ms(12_000);
            assert_ne!(world.leader, Some(bad), "n = {nodes}: its followers have left it");
            let state = world.state_at(world.log.len());
            let isolation = &state.isolations[&bad];
            assert!(matches!(isolation.by, Authority::Peers(_)), "{isolation:?}");
            assert!(!state.config.voters.contains(&bad), "n = {nodes}: {:?}", state.config);
            assert!(!state.candidates().contains(&bad));
            let told = state.incidents.open(&Matter::Isolated(bad)).expect("an incident");
            assert!(
                told.lines.iter().any(|line| line.text.contains("its own detectors convict it")),
                "{told:#?}"
            );
            assert_eq!(state.isolations.len(), 1);
        }
    }
}

#[test]
fn the_accused_that_still_obeys_lets_go_of_everything_and_shuts_itself_in() {
    let (mut world, holder) = settled(3);
    flood(&mut world, holder, &flooding());
    until_refused(&mut world, holder, 2_000);
    world.run_ms(50);
    assert!(world.nodes[&holder].quarantined);
    let status = world.nodes[&holder].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "");
    assert!(status.waiting.unwrap().contains("cut off by its peers"));
    // Its release is not heard any more: the promise that it was given runs out by itself.
    world.until_served(Some(holder), 500);
}

#[test]
fn a_moment_of_flooding_isolates_nobody() {
    let (mut world, _) = settled(3);
    let bad = NodeId(2);
    for _ in 0..5 {
        flood(&mut world, bad, &flooding());
        world.run_ms(800);
        flood(&mut world, bad, &TrafficSeen::default());
        world.run_ms(2_000);
    }
    assert_eq!(refused_by(&world, bad), []);
    assert!(world.state_at(world.log.len()).isolations.is_empty());
}

#[test]
fn a_stolen_key_cannot_confess_from_elsewhere() {
    let (mut world, holder) = settled(3);
    world.elsewhere.insert(holder, "203.0.113.9".parse().unwrap());
    flood(&mut world, holder, &flooding());
    world.run_ms(10_000);
    assert_eq!(refused_by(&world, holder), []);
    // All that it reaches is what is taken back by itself: the owner of the key serves nothing for a while.
    assert_ne!(world.holders(), [holder]);
    let other = others(&world, holder)[0];
    let status = world.nodes[&other].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "");
    assert!(status.cases.iter().any(|case| case.subject == holder && case.demoted), "{:?}", status.cases);
}

#[test]
fn who_was_away_learns_of_it_and_who_restarts_has_not_forgotten() {
    let (mut world, _) = settled(5);
    let (bad, away) = (NodeId(2), NodeId(5));
    world.deaf.insert(bad);
    world.isolate(away, true);
    world.run_ms(2_000);
    flood(&mut world, bad, &flooding());
    world.run_ms(3_000);
    assert_eq!(refused_by(&world, bad), [NodeId(1), NodeId(3), NodeId(4)]);
    world.isolate(away, false);
    until_refused(&mut world, bad, 2_000);
    let back = NodeId(3);
    let [kept] = &world.nodes[&back].convictions[..] else { panic!("one conviction") };
    let [confession] = &kept.evidence[..] else { panic!("it swore to a confession") };
    assert!(confession.verify(world.cluster).is_ok_and(|report| report.from == bad));
    world.crash(back);
    world.run_ms(500);
    // Its log was lost behind the certificate: what it kept is all it knows.
    world.node(back).applied = 0;
    world.cut.extend(others(&world, back).into_iter().flat_map(|other| [(other, back), (back, other)]));
    world.boot(back);
    world.run_ms(10);
    assert!(world.nodes[&back].refused.contains(&bad));
}

#[test]
fn once_the_isolated_was_removed_nothing_is_left_of_it_and_the_next_one_can_be_judged() {
    let (mut world, _) = settled(3);
    world.deaf.insert(NodeId(3));
    flood(&mut world, NodeId(3), &flooding());
    until_refused(&mut world, NodeId(3), 2_000);
    world.run_ms(15_000);
    world.order(Act::SetRole { node: NodeId(3), role: Role::Learner });
    world.run_ms(1_000);
    world.order(Act::Remove(NodeId(3)));
    world.crash(NodeId(3));
    world.run_ms(1_000);
    assert!(world.state_at(world.log.len()).isolations.is_empty());
    let reports = |world: &World| world.reports;
    let before = reports(&world);
    world.run_ms(10_000);
    assert!(reports(&world) - before <= 2 * 25, "{} reports in ten seconds", reports(&world) - before);
    // Two are too few to judge; with a third one they can again.
    let newcomer = Member { id: NodeId(4), name: "n4".parse().unwrap(), key: key(4).public(), ..member(4) };
    world.order(Act::Admit(Box::new(newcomer)));
    world.join(NodeId(4), Some(Seed::of(&world.state_at(world.log.len()), 1)));
    world.run_ms(60_000);
    world.deaf.insert(NodeId(4));
    flood(&mut world, NodeId(4), &flooding());
    world.run_ms(3_000);
    let refusing = [NodeId(1), NodeId(2)].map(|node| world.nodes[&node].refused.contains(&NodeId(4)));
    assert_eq!(refusing, [true, true]);
}

#[test]
fn who_died_while_it_confessed_shields_nobody_for_long() {
    let (mut world, _) = settled(5);
    for dead in [4, 5] {
        flood(&mut world, NodeId(dead), &flooding());
        world.run_ms(300);
        world.crash(NodeId(dead));
    }
    world.run_ms(20_000);
    world.deaf.insert(NodeId(3));
    flood(&mut world, NodeId(3), &flooding());
    world.run_ms(3_000);
    // Two witnesses of five isolate nobody; but they do look, and demote.
    let status = world.nodes[&NodeId(1)].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "");
    assert!(status.cases.iter().any(|case| case.subject == NodeId(3)), "{:?}", status.cases);
}

#[test]
fn a_mesh_whose_charter_forbids_it_judges_nobody() {
    let (mut world, _) = unjudged(3);
    flood(&mut world, NodeId(2), &flooding());
    world.run_ms(10_000);
    assert_eq!(refused_by(&world, NodeId(2)), []);
}

#[test]
fn an_operator_cuts_a_node_off_but_never_the_majority() {
    let (mut world, _) = settled(3);
    let isolate = |node| Act::Isolate { node: NodeId(node), reason: "it mines coins".into() };
    world.deaf.insert(NodeId(3));
    world.order(isolate(3));
    until_refused(&mut world, NodeId(3), 1_000);
    world.order(isolate(2));
    world.run_ms(1_000);
    assert_eq!(refused_by(&world, NodeId(2)), [], "one of three would be left");
    let state = world.state_at(world.log.len());
    world.order(Act::SetRole { node: NodeId(3), role: Role::Learner });
    world.run_ms(10_000);
    world.order(Act::Remove(NodeId(3)));
    let gone = world.state_at(world.log.len());
    assert!(gone.isolations.is_empty() && !gone.members.contains_key(&NodeId(3)), "{:?}", gone.isolations);
    assert!(gone.former_keys.contains(&key(3).public()), "its key is never admitted again");
    assert!(
        matches!(&state.isolations[&NodeId(3)].by, Authority::Operator { reason, .. } if reason == "it mines coins")
    );
}

#[test]
fn one_liar_isolates_nobody_however_much_it_says() {
    let (mut world, _) = settled(3);
    let (liar, victim) = (NodeId(3), NodeId(2));
    let spent = |world: &World| world.log.len();
    let before = spent(&world);
    for round in 0..2_000_u64 {
        let testimony = Testimony {
            subject: Subject { node: victim, key: key(2).public() },
            sanction: if round.is_multiple_of(2) { Sanction::Isolate } else { Sanction::Demote },
            electorate: 0,
            by: liar,
            grounds: vec![Ground::Confession { report: [7; 32] }, Ground::AtHome],
            unix_ms: world.now.as_ns() / 1_000_000 + round,
            heard: None,
        };
        let signed = key(3).sign(world.cluster, &testimony).unwrap();
        let bytes = Message::Testimony(signed).encode().unwrap();
        for to in [NodeId(1), victim] {
            world.push(world.now, to, Event::Datagram { from: liar, bytes: bytes.clone() });
        }
        world.run_ms(5);
    }
    world.run_ms(5_000);
    assert_eq!((refused_by(&world, victim), refused_by(&world, NodeId(1))), (vec![], vec![]));
    assert_eq!(spent(&world), before, "nothing of it goes into the log");
    assert_eq!(home(victim).to_string(), "198.51.100.2");
}
