//! Whole cases, on a mesh whose messages all arrive at once.

use super::*;
use alloc::{collections::VecDeque, vec};
use zeroize::Zeroizing;

const CLUSTER: ClusterId = ClusterId([7; 32]);
const KEY: Ground = Ground::Probed(Probe::HostKey);
const CONTENT: Ground = Ground::Probed(Probe::Content);

fn key(node: u64) -> SecretKey {
    let [low, ..] = node.to_le_bytes();
    SecretKey::from_seed(&Zeroizing::new([low; 32]))
}

/// What an observer finds when it looks at a node.
type Eyes = dyn Fn(u64, u64) -> Vec<Ground>;

struct World {
    now: Instant,
    nodes: BTreeMap<u64, Tribunal>,
    liars: BTreeSet<u64>,
    unwell: BTreeSet<u64>,
    /// How far wall clocks are off, in ms.
    clocks: BTreeMap<u64, i64>,
    leader: Option<NodeId>,
    answers: bool,
    looks: usize,
    enforced: BTreeMap<u64, Vec<(u64, Sanction)>>,
}

impl World {
    fn of(n: u64) -> Self {
        let voters = (1..=n).map(|node| (NodeId(node), key(node).public())).collect();
        let electorate = Electorate { index: 1, voters, others: BTreeMap::new(), judges: true };
        let node = |id| (id, Tribunal::new(NodeId(id), CLUSTER, electorate.clone(), Rules::SOUND));
        Self {
            now: Instant::ZERO.after(Span::from_ms(1_000)),
            nodes: (1..=n).map(node).collect(),
            liars: BTreeSet::new(),
            unwell: BTreeSet::new(),
            clocks: BTreeMap::new(),
            leader: None,
            answers: true,
            looks: 0,
            enforced: BTreeMap::new(),
        }
    }

    fn with<T>(
        &mut self,
        node: u64,
        act: impl FnOnce(&mut Tribunal, &Facts<'_>, &mut Vec<Output>) -> T,
    ) -> (T, Vec<Output>) {
        let key = key(node);
        let voters = self.nodes.keys().copied().map(NodeId).collect();
        let unix_ms = self.now.as_ns() / 1_000_000;
        let place = Place { incarnation: 1, sequence: unix_ms / 200 };
        let facts = Facts {
            heard: &|_| Some(place),
            voters: &voters,
            now: self.now,
            unix_ms: unix_ms.saturating_add_signed(self.clocks.get(&node).copied().unwrap_or_default()),
            well: !self.unwell.contains(&node),
            leader: self.leader,
            key: &key,
        };
        let mut out = Vec::new();
        let done = act(self.nodes.get_mut(&node).expect("a node of this world"), &facts, &mut out);
        (done, out)
    }

    /// Carries out everything that follows from it; liars look away, and pass nothing on.
    fn carry(&mut self, node: u64, out: Vec<Output>, eyes: &Eyes) {
        let mut queue: VecDeque<_> = out.into_iter().map(|output| (node, output)).collect();
        while let Some((from, output)) = queue.pop_front() {
            let honest: Vec<u64> = self.nodes.keys().copied().filter(|n| !self.liars.contains(n)).collect();
            match output {
                Output::Look => {
                    self.looks += 1;
                    let others = self.nodes.keys().copied().filter(|node| *node != from);
                    let found: Vec<_> = others.map(|node| (NodeId(node), eyes(from, node))).collect();
                    let ((), more) = self.with(from, |t, facts, out| t.found(facts, found, out));
                    queue.extend(more.into_iter().map(|o| (from, o)));
                }
                Output::Challenge(subject) if self.answers => {
                    self.with(from, |t, _, _| t.rebutted(subject));
                }
                Output::Challenge(_) => {}
                Output::Tell(signed) => {
                    for to in honest.into_iter().filter(|to| *to != from) {
                        let (heard, more) =
                            self.with(to, |t, facts, out| t.heard(facts, signed.clone(), out));
                        heard.expect("an honest word counts");
                        queue.extend(more.into_iter().map(|o| (to, o)));
                    }
                }
                Output::Publish(certificate) => {
                    for to in honest.into_iter().filter(|to| *to != from) {
                        let (_, more) =
                            self.with(to, |t, facts, out| t.certified(facts, certificate.clone(), out));
                        queue.extend(more.into_iter().map(|o| (to, o)));
                    }
                }
                Output::Enforce(verdict) => {
                    self.enforced.entry(from).or_default().push((verdict.subject.node.0, verdict.sanction));
                }
            }
        }
    }

    fn found(&mut self, node: u64, subject: u64, grounds: &[Ground], eyes: &Eyes) {
        let ((), out) =
            self.with(node, |t, facts, out| t.found(facts, [(NodeId(subject), grounds.to_vec())], out));
        self.carry(node, out, eyes);
    }

    /// A liar swears to whatever serves him.
    fn lie(&mut self, liar: u64, subject: u64, eyes: &Eyes) {
        self.liars.insert(liar);
        let testimony = Testimony {
            subject: Subject { node: NodeId(subject), key: key(subject).public() },
            sanction: Sanction::Isolate,
            electorate: 1,
            by: NodeId(liar),
            grounds: vec![KEY, CONTENT],
            unix_ms: self.now.as_ns() / 1_000_000,
            heard: None,
        };
        let signed = key(liar).sign(CLUSTER, &testimony).unwrap();
        self.carry(liar, vec![Output::Tell(signed)], eyes);
    }

    fn pass(&mut self, ms: u64, eyes: &Eyes) {
        for _ in 0..ms / 500 {
            self.now = self.now.after(Span::from_ms(500));
            for node in self.nodes.keys().copied().collect::<Vec<_>>() {
                let ((), out) = self.with(node, |t, facts, out| t.tick(facts, out));
                self.carry(node, out, eyes);
            }
        }
    }

    fn isolated_by(&self, node: u64) -> Vec<u64> {
        self.nodes[&node].isolated().into_iter().map(|node| node.0).collect()
    }
}

fn all_see(bad: u64) -> impl Fn(u64, u64) -> Vec<Ground> {
    move |_, subject| if subject == bad { vec![KEY, CONTENT] } else { vec![] }
}

const fn nobody_sees(_: u64, _: u64) -> Vec<Ground> {
    Vec::new()
}

#[test]
fn who_is_seen_by_all_is_out_everywhere_at_once_also_when_it_leads() {
    for n in [3, 4, 5, 7, 9] {
        let mut world = World::of(n);
        world.liars.insert(1);
        world.leader = Some(NodeId(1));
        world.found(2, 1, &[KEY, CONTENT], &all_see(1));
        for node in 2..=n {
            assert_eq!(world.isolated_by(node), [1], "n = {n}, node {node}");
            assert_eq!(world.enforced[&node], [(1, Sanction::Isolate)], "once");
        }
    }
}

#[test]
fn a_liar_finds_no_second_and_after_three_tries_nobody_looks() {
    let mut world = World::of(3);
    for _ in 0..3 {
        world.lie(1, 2, &nobody_sees);
        world.pass(LASTS.as_ms() + 11_000, &nobody_sees);
    }
    let looks = world.looks;
    assert!(looks > 0);
    world.lie(1, 2, &nobody_sees);
    world.pass(30_000, &nobody_sees);
    assert_eq!(world.looks, looks, "nobody looks any more");
    assert_eq!(world.enforced, BTreeMap::new());
    // What an honest node finds is followed all the same, and the liar's own isolation, too.
    world.found(2, 1, &[KEY, CONTENT], &all_see(1));
    assert_eq!((world.isolated_by(2), world.isolated_by(3)), (vec![1], vec![1]));
}

#[test]
fn a_liar_and_one_mistake_convict_nobody() {
    let mut world = World::of(3);
    let mistaken = |observer, subject| if (observer, subject) == (3, 2) { vec![KEY] } else { vec![] };
    world.lie(1, 2, &mistaken);
    world.pass(5_000, &mistaken);
    assert!(world.enforced.values().flatten().all(|(_, sanction)| *sanction == Sanction::Demote));
}

#[test]
fn silence_may_be_explained_and_counts_if_it_is_not() {
    let silent = |_, subject| if subject == 1 { vec![KEY, Ground::Silence] } else { vec![] };
    for answers in [true, false] {
        let mut world = World::of(3);
        world.liars.insert(1);
        world.answers = answers;
        world.found(2, 1, &[KEY, Ground::Silence], &silent);
        assert_eq!(world.isolated_by(2), [], "not before it could answer");
        world.pass(1_500, &silent);
        assert_eq!(world.isolated_by(3), []);
        world.pass(1_500, &silent);
        assert_eq!(world.isolated_by(3) == [1], !answers);
    }
}

#[test]
fn who_is_unwell_or_sees_half_of_the_mesh_fail_holds_his_tongue() {
    let mut world = World::of(3);
    world.unwell.insert(2);
    world.found(2, 1, &[KEY, CONTENT], &nobody_sees);
    assert_eq!(world.looks, 0, "it said nothing");

    let mut world = World::of(4);
    let all_bad = |_, _| vec![KEY, CONTENT];
    world.carry(1, vec![Output::Look], &all_bad);
    world.lie(4, 2, &all_bad);
    world.pass(5_000, &all_bad);
    assert_eq!(world.enforced, BTreeMap::new(), "a site that is wrong everywhere is nobody's crime");
}

#[test]
fn one_after_the_other_but_for_the_leader() {
    let bad = |_, subject| if subject <= 2 { vec![KEY, CONTENT] } else { vec![] };
    for (leads, at_once) in [(None, 1), (Some(NodeId(2)), 2)] {
        let mut world = World::of(7);
        world.liars.extend([1, 2]);
        world.leader = leads;
        world.found(3, 1, &[KEY, CONTENT], &bad);
        world.found(3, 2, &[KEY, CONTENT], &bad);
        let first = world.isolated_by(5);
        assert_eq!(first.len(), at_once);
        for node in 3..=7 {
            world.with(node, |t, _, _| t.recorded(first.iter().copied().map(NodeId).collect()));
        }
        world.pass(1_000, &bad);
        let both: BTreeSet<u64> = world.isolated_by(5).into_iter().collect();
        assert_eq!(both, [1, 2].into(), "once the roster has followed");
    }
}

#[test]
fn two_hostile_nodes_do_not_shield_each_other() {
    let mut world = World::of(5);
    world.liars.extend([1, 2]);
    // It takes all three honest nodes, and at first one of them sees another one than the others see.
    let split =
        |by, subject| if subject == (if by == 5 { 2 } else { 1 }) { vec![KEY, CONTENT] } else { vec![] };
    world.found(3, 1, &[KEY, CONTENT], &split);
    assert_eq!(world.enforced.values().flatten().filter(|(_, s)| *s == Sanction::Isolate).count(), 0);
    let bad = |_, subject| if subject <= 2 { vec![KEY, CONTENT] } else { vec![] };
    let mut out = BTreeSet::new();
    for _ in 0..150 {
        world.pass(2_000, &bad);
        for node in 3..=5 {
            world.carry(node, vec![Output::Look], &bad);
        }
        let before = out.len();
        out.extend((3..=5).flat_map(|node| world.isolated_by(node)));
        assert!(out.len() <= before + 1, "one after the other");
        for node in 3..=5 {
            world.with(node, |t, _, _| t.recorded(out.iter().copied().map(NodeId).collect()));
        }
    }
    assert_eq!(out, [1, 2].into(), "within five minutes");
}

#[test]
fn clocks_that_are_hours_apart_do_not_save_the_guilty() {
    let mut world = World::of(3);
    world.now = Instant::ZERO.after(Span::from_ms(100_000_000));
    world.liars.insert(1);
    world.clocks = BTreeMap::from([(2, -7_200_000), (3, 3_600_000)]);
    world.found(2, 1, &[KEY, CONTENT], &all_see(1));
    assert_eq!(world.isolated_by(3), [1]);
}

#[test]
fn a_certificate_convinces_who_saw_nothing_and_lives_on() {
    let mut world = World::of(5);
    world.liars.extend([1, 5]);
    world.found(2, 1, &[KEY, CONTENT], &all_see(1));
    let certificate = world.nodes[&2].certificates().next().unwrap().clone();
    world.liars.remove(&5);
    let (done, out) = world.with(5, |t, facts, out| t.certified(facts, certificate.clone(), out));
    assert_eq!((done, out.len()), (Ok(()), 2), "it acts and tells");
    let (done, out) = world.with(5, |t, facts, out| t.certified(facts, certificate, out));
    assert_eq!((done, out), (Ok(()), vec![]), "the same once more is no news");
}

#[test]
fn never_so_many_that_too_few_are_left() {
    let mut world = World::of(5);
    let bad = |_, subject| if subject <= 3 { vec![KEY, CONTENT] } else { vec![] };
    for subject in 1..=3 {
        world.liars.insert(subject);
        world.found(4, subject, &[KEY, CONTENT], &bad);
        let recorded: BTreeSet<NodeId> = world.isolated_by(4).into_iter().map(NodeId).collect();
        for node in 4..=5 {
            world.with(node, |t, _, _| t.recorded(recorded.clone()));
        }
    }
    assert!(world.isolated_by(4).len() <= 2);
}
