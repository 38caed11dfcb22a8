//! One behaviour of the lease per test, on a small mesh in lock-step: equal clocks, 1 ms per message.

use super::*;
use crate::codec::{decode, encode};
use crate::limits::{HANDOVER_GUARD, LEASE_FRAME_BYTES_MAX};
use crate::plan::Seat;
use crate::time::Span;
use alloc::collections::{BTreeMap, BTreeSet};
use span::promise_span;

const BOOT: BootId = BootId([1; 16]);
const LEASE: Span = Span::from_ms(400);
const DELAY: Span = Span::from_ms(1);
const START: Instant = Instant::from_ns(100_000_000_000);

fn node(id: u64) -> NodeId {
    NodeId(id)
}

fn ms(ms: u64) -> Instant {
    START.after(Span::from_ms(ms))
}

fn config(voters: u64) -> Config {
    Config::founding(1, (1..=voters).map(NodeId).collect())
}

fn plan(index: u64, nodes: &[u64]) -> Plan {
    let seats = nodes.iter().map(|&id| Seat { node: node(id), slack_ms: 0 }).collect();
    Plan { index, lease_ms: 400, seats }
}

fn epoch(plan: u64, rank: u32) -> Epoch {
    Epoch { plan, rank }
}

fn blank() -> Record {
    Record {
        boot_id: BOOT,
        highest: Epoch::default(),
        spent: true,
        promise: None,
        config_index: 1,
        config_since_ns: 0,
        silent_until_ns: 0,
        held: None,
    }
}

fn ask(epoch: Epoch, seq: Instant) -> Message {
    Message::Ask { epoch, config_index: 1, seq: seq.as_ns() }
}

fn agreed(epoch: Epoch, seq: Instant) -> Message {
    Message::Answer { epoch, config_index: 1, seq: seq.as_ns(), verdict: Verdict::Agreed }
}

struct Peer {
    lease: Lease,
    config: Config,
    plan: Plan,
    readiness: Readiness,
    pair_confirmed: bool,
    alive: bool,
    record: Record,
    heard: Instant,
}

/// What happened: (when, who, what).
type Log = Vec<(Instant, NodeId, Output)>;

struct Mesh {
    now: Instant,
    peers: BTreeMap<NodeId, Peer>,
    /// Under way: due, order of sending, sender, receiver.
    mail: BTreeMap<(Instant, u64), (NodeId, NodeId, Message)>,
    sent: u64,
    cut: BTreeSet<(NodeId, NodeId)>,
    log: Log,
}

impl Mesh {
    fn new(nodes: u64, config: &Config, plan: &Plan) -> Self {
        let peer = |id| {
            let lease = Lease::start(BOOT, Some(&blank()), 0, START);
            let (config, plan) = (config.clone(), plan.clone());
            let readiness = Readiness::Ready;
            let (pair_confirmed, alive, record, heard) = (false, true, blank(), Instant::ZERO);
            let peer = Peer { lease, config, plan, readiness, pair_confirmed, alive, record, heard };
            (node(id), peer)
        };
        let peers = (1..=nodes).map(peer).collect();
        Self { now: START, peers, mail: BTreeMap::new(), sent: 0, cut: BTreeSet::new(), log: Vec::new() }
    }

    fn call(&mut self, id: NodeId, call: impl FnOnce(&mut Lease, Instant, &View<'_>, &mut Vec<Output>)) {
        let peer = self.peers.get_mut(&id).unwrap();
        if !peer.alive {
            return;
        }
        let Peer { lease, config, plan, record, .. } = peer;
        let (plan, readiness, pair_confirmed, heard) =
            (Some(&*plan), peer.readiness, peer.pair_confirmed, peer.heard);
        let view = View { me: id, config, plan, readiness, pair_confirmed, heard };
        let mut out = Vec::new();
        call(lease, self.now, &view, &mut out);
        for output in out {
            self.log.push((self.now, id, output));
            match output {
                Output::Remember(newer) => *record = newer,
                Output::Send { to, message } if !self.cut.contains(&(id, to)) => {
                    self.sent += 1;
                    self.mail.insert((self.now.after(DELAY), self.sent), (id, to, message));
                }
                Output::Send { .. } | Output::Open { .. } | Output::Extend { .. } | Output::Close { .. } => {}
            }
        }
    }

    fn tick(&mut self, id: u64) {
        self.call(node(id), |lease, now, view, out| lease.tick(now, view, out));
    }

    fn run_until(&mut self, end: Instant) {
        loop {
            let alive = self.peers.iter().filter(|(_, peer)| peer.alive);
            let timer = alive.map(|(&id, peer)| (peer.lease.deadline(), id)).min();
            let mail = self.mail.keys().next().copied();
            let due =
                timer.map_or(Instant::NEVER, |(at, _)| at).min(mail.map_or(Instant::NEVER, |(at, _)| at));
            if due > end {
                self.now = end;
                return;
            }
            self.now = self.now.max(due);
            match mail.filter(|&(at, _)| at <= due) {
                Some(key) => {
                    let (from, to, message) = self.mail.remove(&key).unwrap();
                    self.peers.get_mut(&to).unwrap().heard = self.now;
                    self.call(to, |lease, now, view, out| lease.receive(now, view, from, message, out));
                }
                None => self.tick(timer.unwrap().1.0),
            }
        }
    }

    fn commit(&mut self, plan: &Plan) {
        for id in self.peers.keys().copied().collect::<Vec<_>>() {
            self.peers.get_mut(&id).unwrap().plan = plan.clone();
            self.tick(id.0);
        }
    }

    fn kill(&mut self, id: u64) {
        self.peers.get_mut(&node(id)).unwrap().alive = false;
    }

    fn holder(&self) -> Option<(u64, Epoch)> {
        let holds = |(id, peer): (&NodeId, &Peer)| {
            let (epoch, until) = peer.lease.holding()?;
            (until > self.now && peer.alive).then_some((id.0, epoch))
        };
        self.peers.iter().find_map(holds)
    }

    /// When `id` opened under `epoch`.
    fn opened(&self, id: u64, epoch: Epoch) -> Option<Instant> {
        let opens = |o: &Output| matches!(o, Output::Open { epoch: opened, .. } if *opened == epoch);
        self.log.iter().find(|(_, who, output)| who.0 == id && opens(output)).map(|&(at, ..)| at)
    }

    fn closed(&self, id: u64, epoch: Epoch) -> Option<Instant> {
        self.log.iter().find(|(_, who, o)| who.0 == id && *o == Output::Close { epoch }).map(|&(at, ..)| at)
    }
}

/// A single voter that is asked by hand.
struct Solo {
    lease: Lease,
    config: Config,
    plan: Plan,
}

impl Solo {
    fn new(record: Option<&Record>, durable_index: u64) -> Self {
        let lease = Lease::start(BOOT, record, durable_index, START);
        Self { lease, config: config(3), plan: plan(5, &[1, 2, 3]) }
    }

    fn receive(&mut self, at: Instant, from: u64, message: Message) -> Vec<Output> {
        let readiness = Readiness::Never;
        let (me, plan) = (node(3), Some(&self.plan));
        let (pair_confirmed, heard) = (false, at);
        let view = View { me, config: &self.config, plan, readiness, pair_confirmed, heard };
        let mut out = Vec::new();
        self.lease.receive(at, &view, node(from), message, &mut out);
        out
    }

    fn agrees(&mut self, at: Instant, from: u64, epoch: Epoch) -> bool {
        let out = self.receive(at, from, ask(epoch, at));
        out.iter().any(|output| matches!(output, Output::Send { message: Message::Answer { verdict, .. }, .. } if *verdict == Verdict::Agreed))
    }
}

#[test]
fn the_first_seat_opens_after_one_round_trip_and_keeps_renewing() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[2, 1, 3]));
    mesh.run_until(ms(5_000));
    assert_eq!(mesh.opened(2, epoch(5, 0)), Some(ms(2)));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 0))));
    assert_eq!(mesh.log.iter().filter(|(.., o)| matches!(o, Output::Open { .. })).count(), 1);
}

#[test]
fn a_dead_holder_is_succeeded_after_its_promise_and_a_round_trip() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.kill(1);
    mesh.run_until(ms(3_000));
    let opened = mesh.opened(2, epoch(5, 1)).unwrap();
    // The last ask arrived at most 1 ms after the death: then one promise, one round trip.
    let bound = ms(1_001).after(promise_span(LEASE, Span::ZERO)).after(DELAY.times(2));
    assert!(opened <= bound, "{} after the death", opened.since(ms(1_000)));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 1))));
}

#[test]
fn a_chain_of_deaths_is_survived_without_a_new_plan() {
    let mut mesh = Mesh::new(5, &config(5), &plan(5, &[1, 2, 3, 4, 5]));
    mesh.run_until(ms(1_000));
    mesh.kill(1);
    mesh.run_until(ms(3_000));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 1))));
    mesh.kill(2);
    mesh.run_until(ms(5_000));
    assert_eq!(mesh.holder(), Some((3, epoch(5, 2))));
    mesh.kill(3);
    mesh.run_until(ms(9_000));
    assert_eq!(mesh.holder(), None, "two of five are no majority");
}

#[test]
fn when_holder_and_first_successor_die_together_the_second_asks_a_stagger_later() {
    let mut mesh = Mesh::new(5, &config(5), &plan(5, &[1, 2, 3, 4, 5]));
    mesh.run_until(ms(1_000));
    mesh.kill(1);
    mesh.kill(2);
    mesh.run_until(ms(3_000));
    let opened = mesh.opened(3, epoch(5, 2)).unwrap();
    let bound = ms(1_001).after(promise_span(LEASE, Span::ZERO)).after(LEASE.part(8)).after(DELAY.times(2));
    assert!(opened <= bound, "{} after the death", opened.since(ms(1_000)));
}

#[test]
fn a_planned_move_closes_here_before_it_opens_there_one_to_three_messages_later() {
    for (voters, messages) in [(3, 1), (5, 3)] {
        let mut mesh = Mesh::new(voters, &config(voters), &plan(5, &[1, 2, 3]));
        mesh.run_until(ms(1_000));
        mesh.commit(&plan(6, &[3, 1, 2]));
        mesh.run_until(ms(2_000));
        let (closed, opened) = (mesh.closed(1, epoch(5, 0)).unwrap(), mesh.opened(3, epoch(6, 0)).unwrap());
        // The old holder's own vote comes with its release; more voters have to be asked again.
        assert_eq!(opened.since(closed), DELAY.times(messages), "among {voters}");
        assert_eq!(mesh.holder(), Some((3, epoch(6, 0))));
    }
}

#[test]
fn a_node_without_a_vote_can_be_moved_to_and_from() {
    let mut mesh = Mesh::new(4, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.commit(&plan(6, &[4, 1, 2]));
    mesh.run_until(ms(2_000));
    assert_eq!(mesh.holder(), Some((4, epoch(6, 0))));
    mesh.commit(&plan(7, &[2, 4]));
    mesh.run_until(ms(3_000));
    assert_eq!(mesh.holder(), Some((2, epoch(7, 0))));
    let gap = mesh.opened(2, epoch(7, 0)).unwrap().since(mesh.closed(4, epoch(6, 0)).unwrap());
    assert_eq!(gap, DELAY.times(3));
}

#[test]
fn a_dead_application_hands_over_within_three_messages() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.peers.get_mut(&node(1)).unwrap().readiness = Readiness::Reluctant;
    mesh.call(node(1), |lease, now, view, out| lease.hand_over(now, view, node(3), out));
    mesh.run_until(ms(2_000));
    assert_eq!(mesh.closed(1, epoch(5, 0)), Some(ms(1_000)));
    assert_eq!(mesh.opened(3, epoch(5, 2)), Some(ms(1_003)));
    assert_eq!(mesh.holder(), Some((3, epoch(5, 2))), "nobody snatches it back");
}

#[test]
fn handing_over_to_oneself_or_to_nobody_in_the_plan_does_nothing() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2]));
    mesh.run_until(ms(1_000));
    for to in [1, 3] {
        mesh.call(node(1), |lease, now, view, out| lease.hand_over(now, view, node(to), out));
    }
    assert_eq!(mesh.holder(), Some((1, epoch(5, 0))));
    assert_eq!(mesh.closed(1, epoch(5, 0)), None);
}

#[test]
fn a_newer_plan_for_the_same_holder_changes_the_epoch_without_closing() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.commit(&Plan { lease_ms: 900, ..plan(6, &[1, 3, 2]) });
    mesh.run_until(ms(2_000));
    assert_eq!(mesh.holder(), Some((1, epoch(6, 0))));
    assert!(!mesh.log.iter().any(|(.., output)| matches!(output, Output::Close { .. })));
    let (_, until) = mesh.peers[&node(1)].lease.holding().unwrap();
    assert!(until.since(ms(2_000)) > LEASE, "and the new lease length");
}

#[test]
fn a_holder_keeps_serving_while_voters_learn_of_the_new_plan_one_by_one() {
    let mut mesh = Mesh::new(5, &config(5), &plan(5, &[1, 2, 3, 4, 5]));
    mesh.run_until(ms(1_000));
    for id in [1, 2, 3, 4, 5] {
        mesh.peers.get_mut(&node(id)).unwrap().plan = plan(6, &[1, 2, 3, 4, 5]);
        mesh.tick(id);
        mesh.run_until(mesh.now.after(Span::from_ms(2_000)));
        assert_eq!(mesh.holder().map(|(id, _)| id), Some(1));
    }
    assert_eq!(mesh.holder(), Some((1, epoch(6, 0))));
    assert_eq!(mesh.closed(1, epoch(5, 0)), None);
}

#[test]
fn a_holder_without_a_majority_stops_before_anybody_else_starts() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    for other in [2, 3] {
        mesh.cut.extend([(node(1), node(other)), (node(other), node(1))]);
    }
    mesh.run_until(ms(3_000));
    let (closed, opened) = (mesh.closed(1, epoch(5, 0)).unwrap(), mesh.opened(2, epoch(5, 1)).unwrap());
    assert!(opened.since(closed) >= HANDOVER_GUARD, "{}", opened.since(closed));
    mesh.cut.clear();
    mesh.run_until(ms(9_000));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 1))), "the old holder does not snatch it back");
}

#[test]
fn a_holder_that_hears_nobody_sets_the_voters_free_and_then_asks_nothing() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.cut = [(node(2), node(1)), (node(3), node(1))].into();
    mesh.run_until(ms(9_000));
    // One lease until it notices, then its release and a round trip.
    let opened = mesh.opened(2, epoch(5, 1)).unwrap();
    assert!(
        opened <= ms(1_002).after(LEASE).after(DELAY.times(3)),
        "{} after the cut",
        opened.since(ms(1_000))
    );
    assert_eq!(mesh.holder(), Some((2, epoch(5, 1))));
    let closed = mesh.closed(1, epoch(5, 0)).unwrap();
    let asks = |o: &Output| matches!(o, Output::Send { message: Message::Ask { .. }, .. });
    let asked_after = mesh.log.iter().filter(|(at, who, o)| *at > closed && who.0 == 1 && asks(o));
    assert_eq!(asked_after.count(), 0);
}

#[test]
fn everybody_cut_off_from_everybody_asks_again_at_the_first_word() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.cut = (1..=3).flat_map(|a| (1..=3).map(move |b| (node(a), node(b)))).collect();
    mesh.run_until(ms(5_000));
    assert!(mesh.holder().is_none() && mesh.peers.values().all(|peer| peer.lease.awaits_word()));
    mesh.cut.clear();
    mesh.peers.get_mut(&node(3)).unwrap().heard = mesh.now;
    mesh.tick(3);
    mesh.run_until(ms(6_000));
    assert!(mesh.holder().is_some());
}

#[test]
fn a_holder_asks_three_times_a_lease_and_more_often_when_nobody_answers() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    let asked = |mesh: &Mesh, from, to| {
        let asks =
            |o: &Output| matches!(o, Output::Send { to, message: Message::Ask { .. } } if *to == node(2));
        mesh.log
            .iter()
            .filter(|(at, who, o)| *at >= ms(from) && *at < ms(to) && who.0 == 1 && asks(o))
            .count()
    };
    mesh.run_until(ms(5_000));
    assert_eq!(asked(&mesh, 1_000, 5_000), 30);
    mesh.cut = [(node(2), node(1)), (node(3), node(1))].into();
    mesh.run_until(ms(6_000));
    let lost = asked(&mesh, 5_000, 6_000);
    assert!(lost >= 6, "only {lost} questions before giving up");
}

#[test]
fn a_reluctant_node_asks_two_leases_later_and_a_drained_one_never() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    for id in [1, 2, 3] {
        mesh.peers.get_mut(&node(id)).unwrap().readiness = Readiness::Never;
    }
    mesh.run_until(ms(3_000));
    assert_eq!(mesh.holder(), None);
    mesh.peers.get_mut(&node(1)).unwrap().readiness = Readiness::Reluctant;
    mesh.commit(&plan(6, &[1, 2, 3]));
    mesh.run_until(ms(5_000));
    assert_eq!(mesh.opened(1, epoch(6, 0)), Some(ms(3_802)));
}

#[test]
fn an_agent_restart_of_the_holder_goes_unnoticed() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    let peer = mesh.peers.get_mut(&node(1)).unwrap();
    peer.lease = Lease::start(BOOT, Some(&peer.record), 5, mesh.now);
    mesh.tick(1);
    mesh.run_until(ms(3_000));
    assert_eq!(mesh.holder(), Some((1, epoch(5, 0))));
    assert_eq!(mesh.closed(1, epoch(5, 0)), None);
}

#[test]
fn a_holder_that_was_down_past_its_lease_shuts_the_gate_first() {
    let mut mesh = Mesh::new(1, &config(1), &plan(5, &[1]));
    mesh.run_until(ms(1_000));
    let record = mesh.peers[&node(1)].record;
    mesh.kill(1);
    mesh.run_until(ms(2_000));
    let peer = mesh.peers.get_mut(&node(1)).unwrap();
    (peer.lease, peer.alive) = (Lease::start(BOOT, Some(&record), 5, ms(2_000)), true);
    mesh.log.clear();
    mesh.tick(1);
    assert_eq!(mesh.log[0].2, Output::Close { epoch: epoch(5, 0) });
    assert_eq!(mesh.holder(), Some((1, epoch(5, 1))), "under a new epoch");
}

#[test]
fn a_voter_promises_to_one_node_only_and_for_the_whole_promise() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(voter.agrees(ms(0), 1, epoch(5, 0)));
    let end = voter.lease.promise().unwrap().end();
    assert_eq!(end, ms(0).after(promise_span(LEASE, Span::ZERO)));
    assert!(!voter.agrees(end.before(Span::from_ns(1)), 2, epoch(5, 1)));
    assert!(voter.agrees(end, 2, epoch(5, 1)));
}

#[test]
fn a_refusal_says_exactly_when_to_ask_again_and_above_what() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(voter.agrees(ms(0), 1, epoch(5, 0)));
    let out = voter.receive(ms(100), 2, ask(epoch(5, 1), ms(100)));
    let left = voter.lease.promise().unwrap().end().since(ms(100));
    let verdict = Verdict::Refused {
        highest: epoch(5, 0),
        retry_after_ms: u32::try_from(left.as_ms()).unwrap() + 1,
        promised_to: Some(node(1)),
    };
    let seq = ms(100).as_ns();
    let message = Message::Answer { epoch: epoch(5, 1), config_index: 1, seq, verdict };
    assert_eq!(out, [Output::Send { to: node(2), message }]);
}

#[test]
fn a_promise_is_recorded_before_it_is_told() {
    let mut voter = Solo::new(Some(&blank()), 0);
    let out = voter.receive(ms(0), 1, ask(epoch(5, 0), ms(0)));
    let [Output::Remember(record), Output::Send { .. }] = out.as_slice() else { panic!("{out:?}") };
    assert_eq!(record.promise.unwrap().to, node(1));
    let mut restarted = Solo::new(Some(record), 5);
    assert!(!restarted.agrees(ms(10), 2, epoch(5, 1)), "an agent restart forgets nothing");
    assert!(restarted.agrees(ms(10), 1, epoch(5, 0)));
}

#[test]
fn a_voter_that_forgot_is_silent_for_the_longest_promise_and_burns_the_plans_it_knew() {
    let elsewhere = Record { boot_id: BootId([2; 16]), ..blank() };
    for record in [None, Some(&elsewhere)] {
        let mut voter = Solo::new(record, 5);
        voter.plan = plan(6, &[1, 2, 3]);
        assert!(!voter.agrees(START.after(OUTLIVED).before(Span::from_ns(1)), 1, epoch(6, 0)));
        assert!(voter.agrees(START.after(OUTLIVED), 1, epoch(6, 0)));
        let mut voter = Solo::new(record, 5);
        assert!(!voter.agrees(START.after(OUTLIVED), 1, epoch(5, 0)));
        assert_eq!(voter.lease.highest(), epoch(5, u32::MAX));
    }
}

#[test]
fn a_released_epoch_is_not_agreed_to_again_when_a_late_ask_arrives() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(voter.agrees(ms(0), 1, epoch(5, 0)));
    voter.receive(ms(10), 1, Message::Release { epoch: epoch(5, 0), next: None });
    assert!(!voter.agrees(ms(11), 1, epoch(5, 0)));
    assert!(voter.agrees(ms(12), 2, epoch(5, 1)));
}

#[test]
fn a_late_release_of_an_earlier_tenure_frees_nothing() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(voter.agrees(ms(0), 1, epoch(5, 3)));
    voter.receive(ms(10), 1, Message::Release { epoch: epoch(5, 0), next: None });
    assert!(!voter.agrees(ms(11), 2, epoch(5, 4)));
}

#[test]
fn nobody_can_release_for_somebody_else() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(voter.agrees(ms(0), 1, epoch(5, 0)));
    voter.receive(ms(10), 2, Message::Release { epoch: epoch(9, 9), next: Some(node(2)) });
    assert!(!voter.agrees(ms(11), 2, epoch(5, 1)));
}

#[test]
fn asks_under_foreign_seats_other_plans_and_absurd_ranks_are_refused() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(!voter.agrees(ms(0), 2, epoch(5, 0)), "the seat of 1");
    assert!(!voter.agrees(ms(0), 1, epoch(6, 0)), "not applied yet");
    assert!(!voter.agrees(ms(0), 1, epoch(4, 0)), "no longer current");
    assert!(!voter.agrees(ms(0), 1, epoch(5, 3_000_000)), "would use up the plan");
    voter.plan = Plan { lease_ms: 60_000, ..plan(5, &[1, 2, 3]) };
    assert!(!voter.agrees(ms(0), 1, epoch(5, 0)), "longer than a restarted voter waits");
}

#[test]
fn a_voter_renews_across_a_plan_that_moves_the_endpoint_so_that_the_move_can_be_prepared() {
    let mut voter = Solo::new(Some(&blank()), 0);
    assert!(voter.agrees(ms(0), 1, epoch(5, 0)));
    voter.plan = plan(6, &[2, 1, 3]);
    assert!(voter.agrees(ms(100), 1, epoch(5, 0)));
    assert!(!voter.agrees(ms(200), 2, epoch(6, 0)));
}

#[test]
fn a_voter_that_saw_a_newer_configuration_never_answers_under_an_older_one() {
    let mut voter = Solo::new(Some(&Record { config_index: 2, ..blank() }), 0);
    assert!(!voter.agrees(ms(0), 1, epoch(5, 0)));
    voter.config.index = 2;
    let Message::Ask { epoch, seq, .. } = ask(epoch(5, 0), ms(1)) else { unreachable!() };
    let out = voter.receive(ms(1), 1, Message::Ask { epoch, config_index: 2, seq });
    assert_eq!(out.len(), 2);
}

#[test]
fn agreements_of_another_configuration_do_not_count() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    for id in [2, 3] {
        mesh.peers.get_mut(&node(id)).unwrap().config.index = 2;
        mesh.peers.get_mut(&node(id)).unwrap().readiness = Readiness::Never;
    }
    mesh.run_until(ms(3_000));
    assert_eq!(mesh.holder(), None);
    mesh.peers.get_mut(&node(1)).unwrap().config.index = 2;
    mesh.run_until(ms(6_000));
    assert_eq!(mesh.holder().map(|(id, _)| id), Some(1));
}

#[test]
fn an_answer_to_what_was_never_asked_does_not_count() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.tick(1);
    let forged = agreed(epoch(5, 0), ms(3_000));
    mesh.call(node(1), |lease, now, view, out| lease.receive(now, view, node(2), forged, out));
    assert_eq!(mesh.holder(), None);
    let foreign = agreed(epoch(5, 0), ms(0));
    mesh.call(node(1), |lease, now, view, out| lease.receive(now, view, node(9), foreign, out));
    assert_eq!(mesh.holder(), None, "9 does not vote");
    mesh.call(node(1), |lease, now, view, out| lease.receive(now, view, node(2), foreign, out));
    assert_eq!(mesh.holder(), Some((1, epoch(5, 0))));
}

#[test]
fn closing_comes_before_remembering_and_remembering_before_releasing() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.log.clear();
    mesh.call(node(1), |lease, now, view, out| lease.hand_over(now, view, node(2), out));
    let outputs: Vec<Output> = mesh.log.iter().map(|&(.., output)| output).collect();
    assert!(matches!(
        outputs[..3],
        [
            Output::Close { .. },
            Output::Remember(Record { spent: true, held: None, promise: None, .. }),
            Output::Send { message: Message::Release { .. }, .. }
        ]
    ));
}

#[test]
fn a_lost_release_is_repeated() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.run_until(ms(1_000));
    mesh.cut.extend([(node(1), node(2)), (node(1), node(3))]);
    mesh.call(node(1), |lease, now, view, out| lease.hand_over(now, view, node(2), out));
    mesh.run_until(ms(1_010));
    mesh.cut.clear();
    mesh.run_until(ms(1_100));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 1))));
}

#[test]
fn in_two_voter_mode_one_node_holds_alone_but_only_once_everybody_confirmed() {
    let paired = Config { pair: Some(node(1)), ..config(2) };
    let mut mesh = Mesh::new(2, &paired, &plan(5, &[1, 2]));
    mesh.kill(2);
    mesh.run_until(ms(2_000));
    assert_eq!(mesh.holder(), None);
    mesh.peers.get_mut(&node(1)).unwrap().pair_confirmed = true;
    mesh.tick(1);
    mesh.run_until(ms(4_000));
    assert_eq!(mesh.holder().map(|(id, _)| id), Some(1));
}

#[test]
fn in_two_voter_mode_the_other_never_asks_and_gives_back_what_it_holds() {
    let mut mesh = Mesh::new(2, &config(2), &plan(5, &[2, 1]));
    mesh.run_until(ms(1_000));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 0))));
    for id in [1, 2] {
        mesh.peers.get_mut(&node(id)).unwrap().config = Config { index: 2, pair: Some(node(1)), ..config(2) };
        mesh.tick(id);
    }
    mesh.run_until(ms(2_000));
    assert_eq!(mesh.holder().map(|(id, _)| id), Some(1));
    mesh.kill(1);
    mesh.run_until(ms(9_000));
    assert_eq!(mesh.holder(), None);
}

#[test]
fn a_lying_voter_does_not_keep_an_honest_majority_from_agreeing() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.kill(3);
    mesh.tick(1);
    for rank in [1, 4_000, 65_000, u32::MAX] {
        let highest = epoch(5, rank);
        let verdict = Verdict::Refused { highest, retry_after_ms: u32::MAX, promised_to: Some(node(9)) };
        let lie = Message::Answer { epoch: epoch(5, 0), config_index: 1, seq: START.as_ns(), verdict };
        mesh.call(node(1), |lease, now, view, out| lease.receive(now, view, node(3), lie, out));
    }
    mesh.run_until(ms(1_000));
    assert_eq!(mesh.holder().map(|(id, _)| id), Some(1));
}

#[test]
fn a_candidate_that_missed_an_epoch_learns_it_and_goes_above() {
    let mut mesh = Mesh::new(3, &config(3), &plan(5, &[1, 2, 3]));
    mesh.kill(1);
    let ahead = Record { highest: epoch(5, 7), ..blank() };
    mesh.peers.get_mut(&node(3)).unwrap().lease = Lease::start(BOOT, Some(&ahead), 0, START);
    mesh.peers.get_mut(&node(3)).unwrap().readiness = Readiness::Never;
    mesh.run_until(ms(1_000));
    assert_eq!(mesh.holder(), Some((2, epoch(5, 10))));
}

#[test]
fn a_confirmation_ages_with_the_configuration_and_survives_an_agent_restart() {
    let mut voter = Solo::new(Some(&blank()), 0);
    voter.config = Config { index: 2, ..config(3) };
    let out = voter.receive(ms(0), 1, ask(epoch(5, 0), ms(0)));
    let Output::Remember(record) = out[0] else { panic!("{out:?}") };
    let restarted = Lease::start(BOOT, Some(&record), 5, ms(500));
    let (me, readiness) = (node(3), Readiness::Never);
    let (config, pair_confirmed, heard) = (&voter.config, false, START);
    let view = View { me, config, plan: None, readiness, pair_confirmed, heard };
    let expected = Confirmation { node: me, config_index: 2, age_ms: 700, pair_left: false };
    assert_eq!(restarted.confirmation(ms(700), &view), expected);
    let later = restarted.confirmation(ms(1).after(OUTLIVED), &view);
    assert!(later.pair_left);
}

#[test]
fn messages_are_golden_bytes_and_fit_a_datagram() {
    let release = Message::Release { epoch: epoch(0x0102, 3), next: Some(node(4)) };
    let bytes = encode(&release, LEASE_FRAME_BYTES_MAX).unwrap();
    let golden = [1, 2, 251, 2, 1, 3, 1, 4];
    assert_eq!(bytes, golden);
    let verdict = Verdict::Refused { highest: epoch(1, 2), retry_after_ms: 3, promised_to: Some(node(4)) };
    let answer = Message::Answer { epoch: epoch(5, 6), config_index: 7, seq: 8, verdict };
    let bytes = encode(&answer, LEASE_FRAME_BYTES_MAX).unwrap();
    assert_eq!(bytes, [1, 1, 5, 6, 7, 8, 1, 1, 2, 3, 1, 4]);
    assert_eq!(decode::<Message>(&bytes, LEASE_FRAME_BYTES_MAX), Ok(answer));
    let asked = encode(&ask(epoch(5, 6), START), LEASE_FRAME_BYTES_MAX).unwrap();
    assert_eq!(decode::<Message>(&asked, LEASE_FRAME_BYTES_MAX), Ok(ask(epoch(5, 6), START)));
}

#[test]
fn a_record_survives_its_file() {
    let mut voter = Solo::new(Some(&blank()), 0);
    let out = voter.receive(ms(0), 1, ask(epoch(5, 0), ms(0)));
    let Output::Remember(record) = out[0] else { panic!("{out:?}") };
    let bytes = encode(&record, LEASE_FRAME_BYTES_MAX).unwrap();
    assert_eq!(decode::<Record>(&bytes, LEASE_FRAME_BYTES_MAX), Ok(record));
}
