//! Fencing who was cut off: once, by one node at a time, as far as the warrant goes, and not at all without one.

use stead_proto::command::{Command, Outcome};
use stead_proto::fence::{ATTEMPTS_MAX, FencePolicy, Fenced};
use stead_proto::id::NodeId;
use stead_proto::incident::Matter;
use stead_proto::mesh::Now;
use stead_proto::order::Act;
use stead_proto::report::Report;
use stead_proto::sign::Signed;
use stead_proto::site::Site;
use stead_proto::state::State;

use crate::world::{World, key, settled};

const BAD: NodeId = NodeId(3);

fn state(world: &World) -> State {
    world.state_at(world.log.len())
}

fn unix_ms(world: &World) -> u64 {
    world.now.as_ns() / 1_000_000
}

/// Gives the warrant: one node, for so long.
fn warrant(world: &mut World, lasts_ms: u64) {
    let (now, before) = (unix_ms(world), state(world));
    let policy = FencePolicy {
        command: vec!["/usr/local/bin/fence".into()],
        nodes_max: 1,
        until_unix_ms: now + lasts_ms,
    };
    let site = Site { fence: Some(policy), ..before.site.clone() };
    world.order(Act::Apply { base: before.site_version, site: Box::new(site), text: String::new() });
    assert!(state(world).site.fence.is_some());
    // No two orders have one serial number.
    world.run_ms(1);
}

fn isolate(world: &mut World, node: NodeId) {
    world.order(Act::Isolate { node, reason: "coins".into() });
}

#[test]
fn who_is_cut_off_is_fenced_once_and_the_incident_says_so() {
    let (mut world, _) = settled(3);
    warrant(&mut world, 10_000_000);
    isolate(&mut world, BAD);
    world.run_ms(10_000);
    let [(by, order)] = &world.fenced[..] else { panic!("{:?}", world.fenced) };
    assert_ne!(*by, BAD);
    let epoch = order.epoch.to_string();
    assert_eq!(order.command, ["/usr/local/bin/fence", "isolate", "n3", "198.51.100.3", &epoch]);
    let fencing = &state(&world).fences[&BAD];
    assert_eq!(fencing.outcome, Some(Fenced { node: BAD, epoch: order.epoch, failed: None }));
    let told = state(&world).incidents.open(&Matter::Isolated(BAD)).cloned().unwrap();
    assert!(told.lines.iter().any(|line| line.text.contains("n3 is fenced")), "{told:#?}");
    world.run_ms(600_000);
    assert_eq!(world.fenced.len(), 1);
}

#[test]
fn without_a_warrant_or_after_it_or_beyond_it_nobody_is_fenced() {
    let (mut world, _) = settled(3);
    isolate(&mut world, BAD);
    world.run_ms(20_000);
    assert_eq!(world.fenced, []);

    let (mut world, _) = settled(3);
    warrant(&mut world, 5_000);
    world.run_ms(6_000);
    isolate(&mut world, BAD);
    world.run_ms(20_000);
    assert_eq!(world.fenced, []);

    let (mut world, _) = settled(7);
    warrant(&mut world, 10_000_000);
    isolate(&mut world, BAD);
    world.run_ms(20_000);
    isolate(&mut world, NodeId(4));
    world.run_ms(60_000);
    assert_eq!(world.fenced.iter().map(|(_, order)| order.node).collect::<Vec<_>>(), [BAD]);
    // The operator is back, has looked, and signs anew.
    warrant(&mut world, 20_000_000);
    world.run_ms(20_000);
    assert_eq!(world.fenced.iter().map(|(_, order)| order.node).collect::<Vec<_>>(), [BAD, NodeId(4)]);
}

#[test]
fn who_fails_or_never_ends_is_followed_by_the_next_one_with_a_higher_epoch_and_not_for_ever() {
    let (mut world, _) = settled(5);
    warrant(&mut world, 100_000_000);
    world.fence_fails = world.nodes.keys().copied().collect();
    isolate(&mut world, BAD);
    world.run_ms(60_000);
    let attempts = u32::try_from(world.fenced.len()).unwrap();
    assert_eq!(attempts, ATTEMPTS_MAX, "{:?}", world.fenced);
    assert!(world.fenced.windows(2).all(|two| two[0].0 != two[1].0 && two[0].1.epoch < two[1].1.epoch));

    let (mut world, _) = settled(5);
    warrant(&mut world, 100_000_000);
    let all: Vec<NodeId> = world.nodes.keys().copied().collect();
    world.fence_hangs = all.iter().copied().collect();
    isolate(&mut world, BAD);
    world.run_ms(60_000);
    assert_eq!(world.fenced.len(), 1, "it has a minute and a half");
    let first = world.fenced[0].0;
    world.fence_hangs.remove(&all.into_iter().find(|node| *node != first && *node != BAD).unwrap());
    world.fence_hangs = [first].into();
    world.run_ms(60_000);
    assert_eq!(world.fenced.len(), 2);
    assert_eq!(
        state(&world).fences[&BAD].outcome.as_ref().map(|outcome| outcome.failed.is_some()),
        Some(false)
    );
}

#[test]
fn a_node_that_restarts_in_the_middle_runs_it_again_under_the_same_epoch() {
    let (mut world, _) = settled(3);
    warrant(&mut world, 10_000_000);
    world.fence_hangs = world.nodes.keys().copied().collect();
    isolate(&mut world, BAD);
    world.run_ms(5_000);
    let (by, epoch) = (world.fenced[0].0, world.fenced[0].1.epoch);
    world.crash(by);
    world.run_ms(500);
    world.fence_hangs.clear();
    world.boot(by);
    world.run_ms(10_000);
    assert_eq!(world.fenced.len(), 2);
    assert_eq!((world.fenced[1].0, world.fenced[1].1.epoch), (by, epoch));
    assert!(state(&world).fences[&BAD].outcome.is_some());
}

/// A report of `by` with other words than it has.
fn said(world: &World, by: u64, change: impl Fn(&mut Report)) -> Signed<Report> {
    let now = Now { at: world.now, unix_ms: unix_ms(world) };
    let mut report = world.nodes[&NodeId(by)].mesh.as_ref().unwrap().status(now, "").own;
    change(&mut report);
    key(by as u8).sign(world.cluster, &report).unwrap()
}

#[test]
fn no_leader_and_no_minority_fences_anybody() {
    let (mut world, _) = settled(5);
    warrant(&mut world, 10_000_000);
    let outcome = |world: &World, command: &Command| {
        let mut state = state(world);
        let bytes = stead_proto::codec::encode(command, 1 << 18).unwrap();
        let outcome = state.apply(state.applied + 1, &bytes);
        (outcome, state)
    };
    let fence = |node: NodeId, reports| Command::Fence { node, reports, unix_ms: 0 };
    let all =
        |world: &World| (1..=5).map(|by| said(world, by, |r| r.isolated = vec![BAD])).collect::<Vec<_>>();
    let refused = |world: &World, command: &Command| matches!(outcome(world, command).0, Outcome::Refused(_));
    assert!(refused(&world, &fence(BAD, all(&world))), "it is not cut off");
    world.fence_hangs = world.nodes.keys().copied().collect();
    isolate(&mut world, BAD);
    let two =
        || vec![said(&world, 1, |r| r.isolated = vec![BAD]), said(&world, 2, |r| r.isolated = vec![BAD])];
    assert!(refused(&world, &fence(BAD, two())));
    assert!(refused(&world, &fence(BAD, [two(), two()].concat())));
    let late =
        (1..=5).map(|by| said(&world, by, |r| (r.isolated, r.unix_ms) = (vec![BAD], u64::MAX))).collect();
    assert!(refused(&world, &fence(BAD, late)), "the warrant is over by these clocks");
    let unaware = (1..=5).map(|by| said(&world, by, |r| r.isolated = Vec::new())).collect();
    assert!(refused(&world, &fence(BAD, unaware)));
    world.run_ms(2_000);
    let fencing = state(&world).fences[&BAD].clone();
    assert_eq!(fencing.outcome, None);
    // Only whose turn it is says how it ended, and only of this epoch.
    let other = (1..=5).find(|by| NodeId(*by) != fencing.by && NodeId(*by) != BAD).unwrap();
    let done = |epoch: u64| move |r: &mut Report| r.fenced = vec![Fenced { node: BAD, epoch, failed: None }];
    let ended = |report| Command::Fenced { node: BAD, report, unix_ms: 0 };
    assert!(refused(&world, &ended(said(&world, other, done(fencing.epoch)))));
    assert!(refused(&world, &ended(said(&world, fencing.by.0, done(fencing.epoch - 1)))));
    let (_, after) = outcome(&world, &ended(said(&world, fencing.by.0, done(fencing.epoch))));
    assert!(after.fences[&BAD].outcome.is_some());
}
