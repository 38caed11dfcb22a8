//! Nodes that are admitted, removed, and admitted again under their old name.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::world::{World, genesis, key, member, settled, www};
use stead_proto::codec;
use stead_proto::command::{Command, Outcome, Refusal};
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::incident::Matter;
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, FORMER_KEYS_MAX, VOTERS_MAX};
use stead_proto::order::{Act, Order};
use stead_proto::roster::{Member, Role};
use stead_proto::seed::{Seed, SeedError};
use stead_proto::state::State;

/// The charter's default of 30 s, and time to settle before and after.
const PROMOTED_WITHIN_MS: u64 = 60_000;

/// A mesh on paper: orders applied to its state, one after another.
struct Paper {
    state: State,
}

impl Paper {
    fn new(nodes: u64) -> Self {
        let genesis = genesis(nodes);
        Self { state: State::begin(genesis.cluster().unwrap(), &genesis) }
    }

    fn order(&mut self, act: Act) -> Outcome {
        let index = self.state.applied + 1;
        let signed = key(99).sign(self.state.cluster, &Order { serial: index, act }).unwrap();
        let command = codec::encode(&Command::Order(signed), COMMAND_FRAME_BYTES_MAX).unwrap();
        self.state.apply(index, &command)
    }

    fn admit(&mut self, member: Member) -> Outcome {
        self.order(Act::Admit(Box::new(member)))
    }

    #[track_caller]
    fn refuses(&mut self, member: Member, because: &str) {
        let before = self.state.members.clone();
        let Outcome::Refused(Refusal::Forbidden(why)) = self.admit(member) else { panic!("not refused") };
        assert!(why.contains(because), "{why}");
        assert_eq!(self.state.members, before);
    }
}

fn learner(id: u64) -> Member {
    Member { role: Role::Learner, ..member(id) }
}

fn voters(world: &World) -> BTreeSet<NodeId> {
    world.state_at(world.log.len()).config.voters
}

fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
    ids.iter().copied().map(NodeId).collect()
}

/// Runs until exactly these vote.
#[track_caller]
fn until_voters(world: &mut World, wanted: &[u64], within_ms: u64) {
    for _ in 0..within_ms / 100 {
        if voters(world) == ids(wanted) {
            return;
        }
        world.run_ms(100);
    }
    panic!("{:?} vote after {within_ms} ms: {:#?}", voters(world), world.explain());
}

fn removed(world: &mut World, id: u64, rest: &[u64]) {
    world.order(Act::SetRole { node: NodeId(id), role: Role::Learner });
    until_voters(world, rest, 20_000);
    world.order(Act::Remove(NodeId(id)));
}

/// Admits a node and starts it with the seed that its operator would give it.
fn admitted(world: &mut World, member: Member) {
    let id = member.id;
    world.order(Act::Admit(Box::new(member)));
    let seed = Seed::of(&world.state_at(world.log.len()), 1);
    world.join(id, Some(seed));
}

#[test]
fn a_removed_nodes_name_is_free_again_and_its_id_and_key_never_are() {
    let mut paper = Paper::new(3);
    assert_eq!(paper.admit(learner(4)), Outcome::Done);
    assert_eq!(paper.order(Act::Remove(NodeId(4))), Outcome::Done);
    let again = |id, key: PublicKey| Member { id: NodeId(id), key, ..learner(4) };
    paper.refuses(again(4, key(44).public()), "never used twice");
    paper.refuses(again(5, key(4).public()), "was removed");
    assert_eq!(paper.admit(again(5, key(44).public())), Outcome::Done);
    assert_eq!(paper.state.member_named("n4").unwrap().id, NodeId(5));
    paper.refuses(again(6, key(45).public()), "is there already");
    assert!(paper.state.incidents.open(&Matter::Roster).is_some_and(|i| i.lines.len() == 3));
}

#[test]
fn the_memory_of_removed_keys_is_bounded() {
    let mut paper = Paper::new(1);
    let secret = |i: u64| {
        let mut seed = [7; 32];
        seed[..8].copy_from_slice(&i.to_le_bytes());
        stead_proto::sign::SecretKey::from_seed(&zeroize::Zeroizing::new(seed))
    };
    for id in 2..FORMER_KEYS_MAX as u64 + 5 {
        let node = Member { key: secret(id).public(), ..learner(id) };
        assert_eq!(paper.admit(node), Outcome::Done);
        assert_eq!(paper.order(Act::Remove(NodeId(id))), Outcome::Done);
    }
    assert_eq!(paper.state.former_keys.len(), FORMER_KEYS_MAX);
}

#[test]
fn a_key_that_is_an_operators_or_none_at_all_is_refused() {
    let mut paper = Paper::new(3);
    let operator = paper.state.operators.keys().copied().next().unwrap();
    paper.refuses(Member { key: operator, ..learner(4) }, "operator's key");
    // All zeros is a point of small order: anybody could sign for it.
    paper.refuses(Member { key: PublicKey([0; 32]), ..learner(4) }, "no public key");
}

#[test]
fn more_voters_than_there_can_be_are_refused_at_once_instead_of_waiting_for_ever() {
    let mut paper = Paper::new(VOTERS_MAX as u64);
    paper.refuses(member(20), "make it a learner");
    assert_eq!(paper.admit(learner(21)), Outcome::Done);
    let promote = |role| Act::SetRole { node: NodeId(21), role };
    assert!(matches!(paper.order(promote(Role::Witness)), Outcome::Refused(_)));
    assert_eq!(paper.order(Act::SetRole { node: NodeId(1), role: Role::Learner }), Outcome::Done);
    assert_eq!(paper.order(promote(Role::Voter)), Outcome::Done);
}

#[test]
fn a_node_that_still_votes_is_not_removed() {
    let mut paper = Paper::new(3);
    let Outcome::Refused(refusal) = paper.order(Act::Remove(NodeId(2))) else { panic!("removed") };
    assert!(refusal.to_string().contains("still votes"), "{refusal}");
    assert_eq!(paper.order(Act::SetRole { node: NodeId(2), role: Role::Learner }), Outcome::Done);
    assert!(
        matches!(paper.order(Act::Remove(NodeId(2))), Outcome::Refused(_)),
        "it votes until that is safe"
    );
}

#[test]
fn a_seed_is_looked_at_until_the_log_has_come_as_far() {
    let mut paper = Paper::new(3);
    let begun = Arc::new(paper.state.clone());
    paper.admit(learner(4));
    let seed = Seed::of(&paper.state, 70);
    assert_eq!(seed.id_of(&learner(4).name, &key(4).public()), Some(NodeId(4)));
    assert_eq!(seed.id_of(&learner(4).name, &key(5).public()), None);
    let view = seed.view(begun.clone());
    assert_eq!(view.members, paper.state.members);
    assert_eq!((view.applied, view.digest), (0, begun.digest), "it claims nothing that it has not applied");
    paper.order(Act::Remove(NodeId(4)));
    let later = Arc::new(paper.state.clone());
    assert_eq!(seed.view(later.clone()), later);
    let bytes = seed.encode().unwrap();
    assert_eq!(Seed::decode(&bytes, seed.cluster), Ok(seed));
    let other = stead_proto::id::ClusterId([9; 32]);
    assert!(matches!(Seed::decode(&bytes, other), Err(SeedError::Foreign { .. })));
}

#[test]
fn an_admitted_node_is_promoted_when_the_charter_says_so_and_may_then_hold() {
    let (mut world, holder) = settled(3);
    admitted(&mut world, member(4));
    world.run_ms(20_000);
    assert_eq!(voters(&world), ids(&[1, 2, 3]), "not before the charter's time");
    until_voters(&mut world, &[1, 2, 3, 4], PROMOTED_WITHIN_MS);
    world.run_ms(2_000);
    world.order(Act::Move { endpoint: www(), to: NodeId(4) });
    let (now, _) = world.until_served(Some(holder), 2_000);
    assert_eq!(now, NodeId(4));
}

#[test]
fn a_lost_node_comes_back_under_its_name_with_a_new_id_and_takes_over_like_any_other() {
    let (mut world, holder) = settled(3);
    let lost = (1..=3).find(|id| NodeId(*id) != holder && Some(NodeId(*id)) != world.leader).unwrap();
    let rest: Vec<u64> = (1..=3).filter(|id| *id != lost).collect();
    world.crash(NodeId(lost));
    removed(&mut world, lost, &rest);
    world.nodes.remove(&NodeId(lost));
    world.run_ms(2_000);
    admitted(&mut world, Member { name: member(lost).name, ..member(4) });
    until_voters(&mut world, &[&rest[..], &[4]].concat(), PROMOTED_WITHIN_MS);
    world.run_ms(5_000);
    world.crash(holder);
    world.leader = Some(NodeId(4));
    let (_, ms) = world.until_served(Some(holder), 2_000);
    assert!(ms <= 450, "{ms} ms");
}

#[test]
fn a_node_with_a_seed_joins_a_mesh_in_which_nobody_of_the_genesis_is_left() {
    let (mut world, _) = settled(1);
    for id in [2, 3] {
        admitted(&mut world, member(id));
        until_voters(&mut world, &(1..=id).collect::<Vec<_>>(), PROMOTED_WITHIN_MS);
        world.run_ms(5_000);
    }
    world.leader = Some(NodeId(2));
    removed(&mut world, 1, &[2, 3]);
    world.nodes.remove(&NodeId(1));
    world.run_ms(2_000);
    world.order(Act::Admit(Box::new(member(4))));
    let state = world.state_at(world.log.len());
    // Nobody leads, so nobody tells it more than it was given.
    world.leader = None;
    for (seed, joins) in [(None, false), (Some(Seed::of(&state, 1)), true)] {
        world.join(NodeId(4), seed);
        world.run_ms(300);
        assert_eq!(world.nodes[&NodeId(4)].joined, joins, "it asks those whom it knows");
    }
    until_voters(&mut world, &[2, 3, 4], PROMOTED_WITHIN_MS);
}

#[test]
fn what_a_removed_holder_held_is_served_by_another_one_and_it_is_planned_nowhere() {
    let (mut world, holder) = settled(4);
    let rest: Vec<u64> = (1..=4).filter(|id| NodeId(*id) != holder).collect();
    world.leader = Some(NodeId(rest[0]));
    world.run_ms(1_000);
    // A learner may hold, and it is not drained before: the hard way.
    removed(&mut world, holder.0, &rest);
    let (next, ms) = world.until_served(Some(holder), 3_000);
    assert!(ms <= 450 && next != holder, "{next} after {ms} ms");
    world.run_ms(3_000);
    let state = world.state_at(world.log.len());
    assert!(state.plans[&www()].seats.iter().all(|seat| seat.node != holder));
    let now = stead_proto::mesh::Now { at: world.now, unix_ms: 0 };
    let status = world.nodes[&next].mesh.as_ref().unwrap().status(now, "test");
    assert!(status.peers.iter().all(|peer| peer.node != holder), "nothing is kept of it");
    assert!(status.own.reach.iter().all(|(to, _)| *to != holder));
}

#[test]
fn no_voter_is_given_up_whom_the_rest_could_not_do_without() {
    let (mut world, _) = settled(3);
    let leader = world.leader.unwrap();
    let [dead, leaving] =
        [1, 2, 3].map(NodeId).into_iter().filter(|id| *id != leader).collect::<Vec<_>>()[..]
    else {
        panic!("three nodes")
    };
    world.crash(dead);
    world.order(Act::SetRole { node: leaving, role: Role::Learner });
    world.run_ms(30_000);
    assert_eq!(voters(&world).len(), 3, "two voters with one dead decide nothing");
    world.boot(dead);
    until_voters(&mut world, &[leader.0.min(dead.0), leader.0.max(dead.0)], 20_000);
}
