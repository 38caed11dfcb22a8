//! What a hostile peer, a careless operator, a driver or an unlucky moment may not bring about.

use std::collections::BTreeSet;

use crate::world::{World, genesis, key, settled, web, www};
use stead_proto::codec;
use stead_proto::command::{Command, Outcome};
use stead_proto::id::{Name, NodeId};
use stead_proto::incident::Matter;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::mesh::{Event, Now, Uplink};
use stead_proto::order::{Act, Order};
use stead_proto::report::{ServiceSeen, Unwell};
use stead_proto::roster::{Member, Role, Standing};
use stead_proto::state::State;
use stead_proto::time::Span;

const ALL: [NodeId; 3] = [NodeId(1), NodeId(2), NodeId(3)];

fn other_than(not: &[NodeId]) -> NodeId {
    ALL.into_iter().find(|id| !not.contains(id)).unwrap()
}

fn outcome_of(act: Act) -> Outcome {
    let genesis = genesis(3);
    let cluster = genesis.cluster().unwrap();
    let signed = key(99).sign(cluster, &Order { serial: 1, act }).unwrap();
    let command = codec::encode(&Command::Order(signed), COMMAND_FRAME_BYTES_MAX).unwrap();
    State::begin(cluster, &genesis).apply(1, &command)
}

fn status(world: &World, id: NodeId) -> stead_proto::admin::Status {
    world.nodes[&id].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "test")
}

#[test]
fn a_holder_that_restarts_closes_its_gate_before_it_steps_aside() {
    for delay_ms in 0..6 {
        let (mut world, holder) = settled(3);
        let to = other_than(&[holder]);
        world.leader = Some(other_than(&[holder, to]));
        world.run_ms(500);
        world.crash(holder);
        world.run_ms(20);
        world.boot(holder);
        world.run_ms(delay_ms);
        world.order(Act::Move { endpoint: www(), to });
        world.run_ms(2_000);
        assert_eq!(world.holders(), [to]);
    }
}

#[test]
fn an_address_that_changed_its_endpoint_waits_for_the_holder_who_does_not_know_yet() {
    let (mut world, holder) = settled(3);
    world.leader = Some(other_than(&[holder]));
    world.run_ms(500);
    world.isolate(holder, true);
    let mut site = genesis(3).site;
    let spec = site.endpoints.remove(&www()).unwrap();
    let renamed: Name = "shop".parse().unwrap();
    site.endpoints.insert(renamed, spec);
    world.order(Act::Apply { base: 1, site: Box::new(site), text: String::new() });
    let (_, ms) = world.until_served(Some(holder), 5_000);
    assert!(ms < 1_000, "{ms} ms");
}

#[test]
fn an_endpoint_whose_troubles_are_over_everywhere_is_served_again() {
    let (mut world, _) = settled(3);
    for id in ALL {
        world.push(world.now, id, Event::Trouble { endpoint: www(), text: Some("cannot".into()) });
    }
    world.run_ms(5_000);
    for id in ALL {
        world.push(world.now, id, Event::Trouble { endpoint: www(), text: None });
    }
    world.until_served(None, 2_000);
}

#[test]
fn an_endpoint_that_nobody_serves_is_not_called_served_because_a_node_restarts() {
    let (mut world, _) = settled(3);
    for id in ALL {
        world.push(world.now, id, Event::Trouble { endpoint: www(), text: Some("cannot".into()) });
    }
    world.run_ms(5_000);
    let last = other_than(&[world.leader.unwrap()]);
    world.crash(last);
    world.run_ms(2_500);
    world.boot(last);
    world.push(world.now, last, Event::Trouble { endpoint: www(), text: Some("cannot".into()) });
    world.run_ms(5_000);
    assert_eq!(world.holders(), []);
    let state = world.state_at(world.log.len());
    let vacant: Vec<_> = state.incidents.iter().filter(|i| i.matter == Matter::Vacant(www())).collect();
    assert!(vacant.len() == 1 && vacant[0].closed_unix_ms.is_none(), "{vacant:#?}");
}

#[test]
fn a_peer_that_boasts_of_a_slow_gate_cannot_keep_others_from_being_planned() {
    let mut world = World::start(3);
    world.crash(NodeId(3));
    world.node(NodeId(3)).slack_ms = u32::MAX;
    world.boot(NodeId(3));
    world.run_ms(5_000);
    assert!(!world.holders().is_empty());
    assert!(world.log.len() < 30, "{} entries", world.log.len());
}

#[test]
fn an_endpoint_leaves_a_node_whose_uplink_is_gone_and_may_come_back_with_it() {
    let (mut world, holder) = settled(3);
    let unwell = |on| Event::Unwell { what: Unwell::UplinkMissing, on };
    world.push(world.now, holder, unwell(true));
    world.run_ms(2_000);
    let [other] = world.holders()[..] else { panic!("held by {:?}", world.holders()) };
    assert_ne!(other, holder);
    world.push(world.now, other, unwell(true));
    world.push(world.now, holder, unwell(false));
    world.run_ms(2_000);
    assert!(world.holders().len() == 1 && !world.holders().contains(&other), "{:?}", world.holders());
}

#[test]
fn round_trips_are_reported_until_the_peer_is_not_connected_any_more() {
    let (mut world, _) = settled(3);
    let told = |world: &World| {
        let reach = status(world, NodeId(1)).own.reach;
        reach.into_iter().map(|(peer, reach)| (peer.0, reach.rtt_us)).collect::<Vec<_>>()
    };
    for (rtt_us, expected) in [(640, [(2, 640), (3, 0)]), (0, [(2, 0), (3, 0)])] {
        world.push(world.now, NodeId(1), Event::RoundTrip { peer: NodeId(2), rtt_us });
        world.run_ms(100);
        assert_eq!(told(&world), expected);
    }
}

#[test]
fn a_peer_that_boasts_of_a_high_term_is_not_let_through() {
    let (mut world, _) = settled(3);
    world.leader = Some(NodeId(1));
    world.node(NodeId(3)).term = u64::MAX;
    world.run_ms(3_000);
    assert_eq!(world.admitted, [0_u64; 0]);
    world.node(NodeId(2)).term = 4;
    world.run_ms(3_000);
    assert!(world.admitted.contains(&4));
}

#[test]
fn an_endpoint_is_not_ordered_onto_a_drained_node() {
    let (mut world, holder) = settled(3);
    let to = other_than(&[holder]);
    world.order(Act::Drain { node: to, drained: true });
    world.now = world.now.after(Span::from_ms(1));
    world.order(Act::Move { endpoint: www(), to });
    let state = world.state_at(world.log.len());
    let refused = state.incidents.iter().any(|i| matches!(i.matter, Matter::OrderRefused(_)));
    assert!(refused, "{:#?}", state.incidents);
}

#[test]
fn a_node_that_starts_slowly_does_not_call_itself_stalled() {
    let (mut world, holder) = settled(3);
    let other = other_than(&[holder]);
    world.crash(other);
    world.run_ms(1_000);
    world.boot(other);
    world.now = world.now.after(Span::from_ms(300));
    let now = world.now;
    for id in ALL.into_iter().filter(|id| *id != other) {
        world.push(now, id, Event::Timer);
    }
    world.run_ms(500);
    assert!(!status(&world, other).own.unwell.contains(&Unwell::Stalled));
}

#[test]
fn services_of_an_earlier_site_do_not_swell_the_reports() {
    let (mut world, holder) = settled(3);
    for i in 0..100 {
        let (name, text) = (format!("gone-{i}").parse().unwrap(), "x".repeat(300));
        world.push(world.now, holder, Event::Service { name, seen: Some(ServiceSeen::Down(text)) });
    }
    world.run_ms(1_000);
    assert_eq!(status(&world, holder).own.services.len(), 1);
}

/// Another host answers for the endpoint's address.
fn answer_probe(world: &mut World, id: NodeId) {
    let (address, taken) = ("192.0.2.10".parse().unwrap(), Some("02:00:00:00:00:01".into()));
    world.push(world.now, id, Event::Probed { endpoint: www(), address, taken });
}

#[test]
fn a_node_that_comes_back_does_not_take_the_holder_for_a_stranger() {
    let (mut world, holder) = settled(3);
    world.uplink = Uplink::Asked;
    let back = other_than(&[holder]);
    world.crash(back);
    world.boot(back);
    for _ in 0..2 {
        answer_probe(&mut world, back);
        world.run_ms(10);
    }
    world.run_ms(1_000);
    assert_eq!(status(&world, back).own.unwell, []);
    world.crash(holder);
    world.crash(other_than(&[holder, back]));
    world.boot(other_than(&[holder, back]));
    world.run_ms(5_000);
    assert_eq!(world.holders(), [back], "it may take over, for the address was the mesh's own all the time");
}

#[test]
fn a_move_to_a_dead_node_stays_open_until_it_serves() {
    let (mut world, holder) = settled(3);
    let to = other_than(&[holder]);
    world.leader = Some(other_than(&[to]));
    world.order(Act::Move { endpoint: www(), to });
    world.run_ms(2_000);
    assert_eq!(world.holders(), [to]);
    world.crash(to);
    world.run_ms(5_000);
    let [holder] = world.holders()[..] else { panic!("nobody took over") };
    world.order(Act::Move { endpoint: www(), to });
    world.run_ms(5_000);
    assert_eq!(world.holders(), [holder]);
    let leads = world.leader.unwrap();
    let open = |world: &World| {
        let state =
            &world.nodes[&leads].mesh.as_ref().unwrap().status(Now { at: world.now, unix_ms: 0 }, "").state;
        state.incidents.open(&Matter::Move(www())).is_some()
    };
    assert!(open(&world), "it does not serve: its last report is from before its death");
    world.boot(to);
    world.run_ms(30_000);
    assert_eq!(world.holders(), [to]);
    assert!(!open(&world));
}

#[test]
fn an_address_that_is_no_endpoint_any_more_makes_nobody_unwell() {
    let mut world = World::start(3);
    world.uplink = Uplink::Asked;
    for id in ALL {
        world.crash(id);
        world.boot(id);
        answer_probe(&mut world, id);
    }
    world.leader = Some(NodeId(1));
    world.run_ms(2_000);
    for id in ALL {
        answer_probe(&mut world, id);
    }
    world.run_ms(1_000);
    assert_eq!(status(&world, NodeId(1)).own.unwell, [Unwell::AddressTaken]);
    let mut site = genesis(3).site;
    site.endpoints.clear();
    world.order(Act::Apply { base: 1, site: Box::new(site), text: String::new() });
    world.run_ms(1_000);
    assert_eq!(status(&world, NodeId(1)).own.unwell, []);
}

#[test]
fn a_dead_voter_that_a_restarted_one_never_heard_is_missed_by_it() {
    let (mut world, holder) = settled(3);
    let dead = other_than(&[holder]);
    let restarted = other_than(&[holder, dead]);
    world.crash(dead);
    world.crash(restarted);
    world.run_ms(100);
    world.boot(restarted);
    world.run_ms(5_000);
    let reach = status(&world, restarted).own.reach;
    let seen = reach.iter().find(|(to, _)| *to == dead).map(|(_, reach)| reach.heard_ms_ago);
    assert!(seen.is_some_and(|ms| ms >= 4_000), "{seen:?}");
}

#[test]
fn a_site_with_thousands_of_mistakes_gets_an_answer_that_fits() {
    let mut site = genesis(3).site;
    let unknown: BTreeSet<Name> = (0..3_000).map(|i| format!("service-{i}").parse().unwrap()).collect();
    site.endpoints.get_mut(&www()).unwrap().services = unknown;
    let mut service = site.services[&web()].clone();
    for i in 0..1_000 {
        service.name = format!("other-{i}").parse().unwrap();
        site.services.insert(service.name.clone(), service.clone());
    }
    let outcome = outcome_of(Act::Apply { base: 1, site: Box::new(site), text: String::new() });
    assert!(matches!(outcome, Outcome::Refused(_)));
    assert!(codec::encode(&outcome, COMMAND_FRAME_BYTES_MAX).is_ok());
}

#[test]
fn a_node_with_more_addresses_than_a_snapshot_can_hold_is_not_admitted() {
    let member = |addresses: usize| Member {
        id: NodeId(9),
        name: "n9".parse().unwrap(),
        key: key(9).public(),
        role: Role::Learner,
        addresses: vec!["192.0.2.9:7832".parse().unwrap(); addresses],
        standing: Standing::Active,
    };
    assert_eq!(outcome_of(Act::Admit(Box::new(member(8)))), Outcome::Done);
    assert!(matches!(outcome_of(Act::Admit(Box::new(member(9)))), Outcome::Refused(_)));
}

#[test]
fn a_node_that_reaches_its_peers_late_asks_them_at_once() {
    let (mut world, holder) = settled(3);
    let back = other_than(&[holder]);
    world.crash(back);
    world.isolate(back, true);
    world.boot(back);
    world.run_ms(10);
    world.isolate(back, false);
    world.push(world.now, back, Event::Reached);
    world.run_ms(10);
    assert!(world.nodes[&back].joined, "it waits for its next question instead");
}

#[test]
fn no_order_uses_up_the_numbers_of_those_after_it() {
    let member = Member {
        id: NodeId(u64::MAX - 1),
        name: "d".parse().unwrap(),
        key: key(9).public(),
        role: Role::Learner,
        addresses: Vec::new(),
        standing: Standing::Active,
    };
    assert!(matches!(outcome_of(Act::Admit(Box::new(member))), Outcome::Refused(_)), "no id would be left");
    let genesis = genesis(3);
    let cluster = genesis.cluster().unwrap();
    let act = Act::Drain { node: NodeId(1), drained: true };
    let signed = key(99).sign(cluster, &Order { serial: u64::MAX, act }).unwrap();
    let command = codec::encode(&Command::Order(signed), COMMAND_FRAME_BYTES_MAX).unwrap();
    let outcome = State::begin(cluster, &genesis).apply(1, &command);
    assert!(matches!(outcome, Outcome::Refused(_)), "no serial number would be left");
}

/// Two candidates of one term: the one with the lower number can win it with the third node's vote, and the other
/// one's vote stays above the leader's.
#[test]
fn a_voter_that_campaigned_in_the_leaders_own_term_is_brought_back() {
    let (mut world, holder) = settled(3);
    let leader = NodeId(1);
    world.leader = Some(leader);
    world.run_ms(1_000);
    assert_eq!(world.admitted, [0_u64; 0], "{holder} or not");
    world.node(NodeId(2)).voted_for = Some(NodeId(3));
    world.run_ms(2_000);
    assert!(world.admitted.contains(&1), "a vote for #3 is above one for #1 in the same term");
}
