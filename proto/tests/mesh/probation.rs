//! Who was cut off comes back by an operator's word, as another node, and on probation.

use stead_proto::command::{Command, Outcome};
use stead_proto::id::NodeId;
use stead_proto::mesh::Now;
use stead_proto::order::{Act, Order};
use stead_proto::report::{Reach, Report};
use stead_proto::roster::{Member, OperatorRole, Role, Standing};
use stead_proto::seed::Seed;
use stead_proto::sign::Signed;
use stead_proto::state::State;
use stead_proto::time::Span;

use crate::world::{World, key, member, settled};

const OLD: NodeId = NodeId(3);
const NEW: NodeId = NodeId(4);

/// The wall clock of this world.
fn unix_ms(world: &World) -> u64 {
    world.now.as_ns() / 1_000_000
}

fn newcomer(until_unix_ms: u64) -> Member {
    let standing = Standing::Probation { until_unix_ms, then: Role::Voter };
    Member { role: Role::Learner, standing, name: "n3".parse().unwrap(), ..member(NEW.0) }
}

fn state(world: &World) -> State {
    world.state_at(world.log.len())
}

/// A mesh that has cut one node off, and taken its vote.
fn after_the_night() -> World {
    let (mut world, _) = settled(3);
    world.order(Act::Isolate { node: OLD, reason: "sshd was replaced".into() });
    world.crash(OLD);
    world.run_ms(15_000);
    assert!(state(&world).is_isolated(OLD) && !state(&world).config.voters.contains(&OLD));
    world
}

fn readmit(world: &mut World, lasts: Span) {
    let member = newcomer(unix_ms(world) + lasts.as_ms());
    world.order(Act::Readmit { old: OLD, member: Box::new(member) });
    assert!(state(world).members.contains_key(&NEW), "{:?}", state(world).members.keys());
    world.join(NEW, Some(Seed::of(&state(world), 1)));
}

#[test]
fn it_follows_without_vote_and_endpoint_until_the_others_clocks_say_that_it_is_over() {
    let mut world = after_the_night();
    readmit(&mut world, Span::from_ms(300_000));
    let back = state(&world);
    assert!(!back.members.contains_key(&OLD) && back.isolations.is_empty());
    assert!(back.former_keys.contains(&key(3).public()));
    world.run_ms(290_000);
    let proving = state(&world);
    assert!(!proving.candidates().contains(&NEW) && !proving.config.voters.contains(&NEW));
    assert!(proving.wants_vote(NodeId(1)) && !proving.wants_vote(NEW));
    world.run_ms(60_000);
    let over = state(&world);
    assert_eq!(over.members[&NEW].standing, Standing::Active);
    assert_eq!(over.members[&NEW].role, Role::Voter);
    assert!(over.config.voters.contains(&NEW) && over.candidates().contains(&NEW), "{:?}", over.config);
}

#[test]
fn while_it_is_not_there_its_time_does_not_end() {
    let mut world = after_the_night();
    readmit(&mut world, Span::from_ms(100_000));
    world.run_ms(10_000);
    world.crash(NEW);
    world.run_ms(600_000);
    assert!(matches!(state(&world).members[&NEW].standing, Standing::Probation { .. }));
    world.boot(NEW);
    world.run_ms(60_000);
    assert_eq!(state(&world).members[&NEW].standing, Standing::Active);
}

#[test]
fn an_operator_ends_it_sooner_and_gives_it_nothing_else_meanwhile() {
    let mut world = after_the_night();
    readmit(&mut world, Span::from_ms(86_400_000));
    world.run_ms(5_000);
    let refused = |world: &World, act: Act| {
        let serial = 1 << 60;
        let order = key(99).sign(world.cluster, &Order { serial, act }).unwrap();
        state(world).check_order(&order).unwrap_err().to_string()
    };
    assert!(refused(&world, Act::SetRole { node: NEW, role: Role::Voter }).contains("on probation"));
    assert!(refused(&world, Act::Drain { node: NEW, drained: true }).contains("on probation"));
    let mut caretaken = state(&world);
    caretaken.operators.values_mut().for_each(|operator| operator.role = OperatorRole::Caretaker);
    let order = Order { serial: 1 << 60, act: Act::Drain { node: NEW, drained: false } };
    let refusal = caretaken.check_order(&key(99).sign(world.cluster, &order).unwrap()).unwrap_err();
    assert!(refusal.to_string().contains("takes the role admin"), "{refusal}");
    world.order(Act::Drain { node: NEW, drained: false });
    assert_eq!(state(&world).members[&NEW].role, Role::Voter);
    world.run_ms(60_000);
    assert!(state(&world).config.voters.contains(&NEW));
}

#[test]
fn whoever_is_not_cut_off_or_comes_back_as_it_was_is_refused_and_nothing_changes() {
    let world = after_the_night();
    let check = |old: NodeId, member: Member| {
        let act = Act::Readmit { old, member: Box::new(member) };
        let order = key(99).sign(world.cluster, &Order { serial: 1 << 60, act }).unwrap();
        state(&world).check_order(&order).map_err(|refusal| refusal.to_string())
    };
    let good = newcomer(unix_ms(&world) + 1_000);
    assert_eq!(check(OLD, good.clone()), Ok(()));
    for (old, member, why) in [
        (NodeId(2), good.clone(), "not cut off"),
        (NodeId(9), good.clone(), "no node"),
        (OLD, Member { standing: Standing::Active, ..good.clone() }, "on probation, or not at all"),
        (OLD, Member { role: Role::Voter, ..good.clone() }, "as a learner"),
        (OLD, Member { name: "x".parse().unwrap(), ..good.clone() }, "under its name"),
        (OLD, Member { key: key(3).public(), ..good.clone() }, "keys are never used twice"),
        (OLD, Member { id: OLD, ..good.clone() }, "ids are never used twice"),
    ] {
        let refused = check(old, member).unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}

#[test]
fn no_leader_ends_it_by_itself() {
    let mut world = after_the_night();
    readmit(&mut world, Span::from_ms(86_400_000));
    world.run_ms(5_000);
    let report = |world: &World, by: u64, ahead_ms: u64, heard_ms_ago: u32| -> Signed<Report> {
        let now = Now { at: world.now, unix_ms: 0 };
        let own = world.nodes[&NodeId(by)].mesh.as_ref().unwrap().status(now, "").own;
        let reach = vec![(NEW, Reach { heard_ms_ago, rtt_us: 1, head: None, host_key: None })];
        let unix_ms = unix_ms(world) + ahead_ms;
        key(by as u8).sign(world.cluster, &Report { reach, unix_ms, ..own }).unwrap()
    };
    let day = 86_500_000;
    for reports in [
        vec![],
        vec![report(&world, 1, day, 10)],
        vec![report(&world, 1, day, 10), report(&world, 1, day + 1, 10)],
        vec![report(&world, 1, day, 10), report(&world, 2, 0, 10)],
        vec![report(&world, 1, day, 10), report(&world, 2, day, 60_000)],
    ] {
        let command = Command::EndProbation { node: NEW, reports, unix_ms: 0 };
        let mut state = state(&world);
        let bytes = stead_proto::codec::encode(&command, 1 << 18).unwrap();
        let outcome = state.apply(state.applied + 1, &bytes);
        assert!(matches!(outcome, Outcome::Refused(_)), "{outcome:?}");
    }
    let both = vec![report(&world, 1, day, 10), report(&world, 2, day, 10)];
    let command = Command::EndProbation { node: NEW, reports: both, unix_ms: 0 };
    world.commit(&command);
    assert_eq!(state(&world).members[&NEW].standing, Standing::Active);
}
