//! The endpoint goes where it should, in time, and comes back.

use crate::world::{World, settled, www};
use stead_proto::id::NodeId;
use stead_proto::mesh::{Event, Uplink};
use stead_proto::order::Act;

#[test]
fn a_new_mesh_serves_its_endpoint_within_a_second() {
    let mut world = World::start(3);
    let (_, ms) = world.until_served(None, 5_000);
    assert!(ms < 1_000, "{ms} ms");
}

#[test]
fn a_lost_holder_is_succeeded_after_one_lease_whether_it_led_or_not() {
    for leader in 1..=3 {
        let (mut world, holder) = settled(3);
        world.leader = Some(NodeId(leader));
        world.run_ms(1_000);
        world.crash(holder);
        let (_, ms) = world.until_served(Some(holder), 3_000);
        assert!(ms <= 450, "{ms} ms with leader {leader}");
        world.run_ms(5_000);
        assert_eq!(world.holders().len(), 1);
    }
}

#[test]
fn a_dead_application_moves_the_endpoint_in_a_few_messages() {
    let (mut world, holder) = settled(3);
    world.service(holder, false);
    let (successor, ms) = world.until_served(Some(holder), 1_000);
    assert!(ms <= 10, "{ms} ms");
    world.run_ms(3_000);
    assert_eq!(world.holders(), [successor]);
    world.service(holder, true);
    world.run_ms(3_000);
    assert_eq!(world.holders(), [successor], "a recovered node does not snatch it back");
}

#[test]
fn when_no_application_is_left_the_holder_shows_the_page_and_gives_it_to_the_first_that_recovers() {
    let (mut world, holder) = settled(3);
    for id in 1..=3 {
        world.service(NodeId(id), false);
    }
    world.run_ms(2_000);
    let last = world.holders()[0];
    assert!(world.nodes[&last].holding_page, "holder {holder}, now {last}");
    let other = (1..=3).map(NodeId).find(|id| *id != last).unwrap();
    world.service(other, true);
    world.run_ms(500);
    assert_eq!(world.holders(), [other]);
    assert!(!world.nodes[&other].holding_page && !world.nodes[&last].holding_page);
}

#[test]
fn an_ordered_move_takes_a_few_messages() {
    let (mut world, holder) = settled(3);
    let to = (1..=3).map(NodeId).find(|id| *id != holder).unwrap();
    world.order(Act::Move { endpoint: www(), to });
    let (now, ms) = world.until_served(Some(holder), 1_000);
    assert_eq!(now, to);
    assert!(ms <= 10, "{ms} ms");
    world.run_ms(3_000);
    assert_eq!(world.holders(), [to]);
}

#[test]
fn a_drained_holder_gives_its_endpoint_away() {
    let (mut world, holder) = settled(3);
    world.order(Act::Drain { node: holder, drained: true });
    let (successor, ms) = world.until_served(Some(holder), 1_000);
    assert!(ms <= 50, "{ms} ms");
    world.run_ms(2_000);
    assert_eq!(world.holders(), [successor]);
}

#[test]
fn an_isolated_holder_stops_before_another_starts_and_does_not_come_back_as_holder() {
    let (mut world, holder) = settled(3);
    world.isolate(holder, true);
    let (successor, ms) = world.until_served(Some(holder), 2_000);
    assert!(ms <= 450, "{ms} ms");
    world.run_ms(5_000);
    world.isolate(holder, false);
    world.run_ms(5_000);
    assert_eq!(world.holders(), [successor]);
}

#[test]
fn without_a_majority_nobody_serves_and_with_one_somebody_does_again() {
    let (mut world, _) = settled(3);
    for id in 1..=3 {
        world.isolate(NodeId(id), true);
    }
    world.run_ms(2_000);
    assert_eq!(world.holders(), []);
    for id in 1..=3 {
        world.isolate(NodeId(id), false);
    }
    world.until_served(None, 4_000);
}

#[test]
fn an_agent_that_restarts_within_its_lease_goes_on_serving() {
    let (mut world, holder) = settled(3);
    world.crash(holder);
    world.run_ms(50);
    world.boot(holder);
    world.run_ms(2_000);
    assert_eq!(world.holders(), [holder]);
}

#[test]
fn after_all_hosts_rebooted_the_site_comes_back_by_itself() {
    let (mut world, _) = settled(3);
    for id in (1..=3).map(NodeId) {
        world.crash(id);
        world.node(id).records = None;
    }
    world.run_ms(1_000);
    for id in (1..=3).map(NodeId) {
        world.boot(id);
    }
    let (_, ms) = world.until_served(None, 15_000);
    assert!(ms < 8_000, "{ms} ms");
}

#[test]
fn what_happened_is_written_into_incidents() {
    let (mut world, holder) = settled(3);
    world.crash(holder);
    world.until_served(Some(holder), 3_000);
    world.run_ms(6_000);
    let state = world.state_at(world.log.len());
    let texts: Vec<String> = state.incidents.iter().map(|i| format!("{}: {:?}", i.matter, i.lines)).collect();
    assert!(
        texts.iter().any(|t| t.contains("endpoint www moved") && t.contains("fell silent")),
        "{texts:#?}"
    );
    assert!(texts.iter().any(|t| t.contains("lost")), "{texts:#?}");
    world.boot(holder);
    world.run_ms(6_000);
    let state = world.state_at(world.log.len());
    assert!(state.incidents.iter().all(|i| i.closed_unix_ms.is_some()), "{:#?}", state.incidents);
}

#[test]
fn a_restored_image_is_found_out_at_start() {
    let (mut world, holder) = settled(3);
    let other = (1..=3).map(NodeId).find(|id| *id != holder).unwrap();
    world.crash(other);
    let node = world.node(other);
    (node.incarnation, node.applied) = (0, 0);
    world.boot(other);
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_ms(1_000)));
    assert!(lost.is_err());
}

#[test]
fn an_image_that_forgot_a_vote_is_found_out_by_peers_that_were_restarted_too() {
    let (mut world, holder) = settled(3);
    let other = (1..=3).map(NodeId).find(|id| *id != holder).unwrap();
    world.node(other).term = 2;
    world.run_ms(2_000);
    // All lose power; its disk is set back to before that vote, by which it was in the same incarnation.
    for id in (1..=3).map(NodeId) {
        world.crash(id);
    }
    for id in (1..=3).map(NodeId) {
        world.boot(id);
    }
    let lost = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| world.run_ms(1_000)));
    let said = lost.expect_err("it has to be found out");
    assert_eq!(
        said.downcast_ref::<String>().map(|said| said.starts_with(&format!("{other} lost"))),
        Some(true)
    );
}

#[test]
fn an_address_is_claimed_only_once_the_network_was_asked_and_never_while_another_host_has_it() {
    let (mut world, _) = settled(3);
    let address = "192.0.2.10".parse().unwrap();
    world.uplink = Uplink::Asked;
    for id in [1, 2, 3].map(NodeId) {
        world.crash(id);
    }
    world.run_ms(10_000);
    for id in [1, 2, 3].map(NodeId) {
        world.boot(id);
    }
    world.leader = Some(NodeId(1));
    world.tell_raft();
    world.run_ms(10_000);
    assert_eq!(world.holders(), [], "nobody has asked");
    for taken in [Some("02:00:00:00:00:01".to_string()), None] {
        for id in [1, 2, 3].map(NodeId) {
            world.push(world.now, id, Event::Probed { endpoint: www(), address, taken: taken.clone() });
        }
        world.run_ms(5_000);
        assert_eq!(world.holders().len(), usize::from(taken.is_none()), "{taken:?}");
    }
}

#[test]
fn a_node_that_cannot_serve_votes_and_gives_a_move_to_it_on() {
    let (mut world, holder) = settled(3);
    let useless = [1, 2, 3].map(NodeId).into_iter().find(|id| *id != holder).unwrap();
    world.crash(useless);
    world.uplink = Uplink::Useless("no right to".into());
    world.boot(useless);
    world.run_ms(5_000);
    world.order(Act::Move { endpoint: www(), to: useless });
    world.run_ms(5_000);
    let holders = world.holders();
    assert!(holders.len() == 1 && holders != [useless], "{holders:?}");
}
