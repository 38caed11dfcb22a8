//! One trial in virtual time: the real tribunal on every honest node, liars as [`Lie`] says, a network that delays,
//! loses and reorders.
//!
//! **Invariant.** Fixed by its seed.

use super::oracle::{Fault, Oracle};
use super::scene::{LASTS_MS, Lie, Scene, Trouble};
use crate::lease_search::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use stead_proto::id::{ClusterId, NodeId};
use stead_proto::sign::{SecretKey, Signed};
use stead_proto::time::{Instant, Span};
use stead_proto::tribunal::{
    Certificate, Electorate, Facts, Ground, Output, Place, Probe, Rules, Sanction, Subject, Testimony,
    Tribunal,
};
use zeroize::Zeroizing;

const CLUSTER: ClusterId = ClusterId([9; 32]);
/// How often a node looks of its own accord, and repeats what others may have missed, in ms.
const ROUND_MS: u64 = 2_000;
const TICK_MS: u64 = 500;
/// How long the roster needs to follow an isolation, in ms.
const REMOVAL_MS: u64 = 700;

enum Event {
    Tick(u64),
    Round(u64),
    Look(u64),
    Lie(u64),
    Answer { asker: u64, subject: u64 },
    Testimony(u64, Signed<Testimony>),
    Certificate(u64, Certificate),
    Removed(u64),
}

struct World {
    scene: Scene,
    rng: Rng,
    keys: BTreeMap<u64, SecretKey>,
    nodes: BTreeMap<u64, Tribunal>,
    /// Who was isolated by anybody, and whose isolation everybody has on record.
    removed: BTreeSet<u64>,
    recorded: BTreeSet<NodeId>,
    now_ms: u64,
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    events: BTreeMap<u64, Event>,
    number: u64,
    oracle: Oracle,
}

/// Plays the trial of `seed` with `n` nodes.
///
/// # Errors
/// What the oracle found fault with.
pub fn run(seed: u64, n: u64, rules: Rules) -> Result<Oracle, Fault> {
    let mut rng = Rng::new(seed);
    let scene = Scene::draw(&mut rng, n);
    let key = |node: u64| {
        let [low, ..] = node.to_le_bytes();
        SecretKey::from_seed(&Zeroizing::new([low; 32]))
    };
    let keys: BTreeMap<u64, SecretKey> = (1..=n).map(|node| (node, key(node))).collect();
    let voters = keys.iter().map(|(node, key)| (NodeId(*node), key.public())).collect();
    let electorate = Electorate { index: 1, voters, others: BTreeMap::new(), judges: true };
    let liars: BTreeSet<u64> = scene.liars.iter().map(|(liar, _)| *liar).collect();
    let honest = (1..=n).filter(|node| !liars.contains(node));
    let nodes: BTreeMap<u64, Tribunal> =
        honest.map(|node| (node, Tribunal::new(NodeId(node), CLUSTER, electorate.clone(), rules))).collect();
    let oracle = Oracle::new(&scene);
    let mut world = World {
        scene,
        rng,
        keys,
        nodes,
        removed: BTreeSet::new(),
        recorded: BTreeSet::new(),
        now_ms: 0,
        queue: BinaryHeap::new(),
        events: BTreeMap::new(),
        number: 0,
        oracle,
    };
    world.begin();
    world.play()?;
    world.oracle.end()?;
    Ok(world.oracle)
}

impl World {
    fn begin(&mut self) {
        for node in self.nodes.keys().copied().collect::<Vec<_>>() {
            let (tick, round) = (self.rng.below(TICK_MS), self.rng.below(ROUND_MS));
            self.at(tick, Event::Tick(node));
            self.at(round, Event::Round(node));
        }
        for (liar, _) in self.scene.liars.clone() {
            let first = self.rng.below(10_000);
            self.at(first, Event::Lie(liar));
        }
    }

    fn at(&mut self, in_ms: u64, event: Event) {
        self.number += 1;
        self.queue.push(Reverse((self.now_ms + in_ms, self.number)));
        self.events.insert(self.number, event);
    }

    fn play(&mut self) -> Result<(), Fault> {
        while let Some(Reverse((ms, number))) = self.queue.pop() {
            if ms > LASTS_MS {
                break;
            }
            self.now_ms = ms;
            if let Some(event) = self.events.remove(&number) {
                self.happen(event)?;
            }
        }
        Ok(())
    }

    fn happen(&mut self, event: Event) -> Result<(), Fault> {
        match event {
            Event::Tick(node) => {
                self.at(TICK_MS, Event::Tick(node));
                self.with(node, |tribunal, facts, out| tribunal.tick(facts, out))?;
            }
            Event::Round(node) => {
                self.at(ROUND_MS, Event::Round(node));
                self.look(node)?;
                self.repeat(node);
            }
            Event::Look(node) => {
                self.oracle.looked(node)?;
                self.look(node)?;
            }
            Event::Lie(liar) => self.lie(liar),
            Event::Answer { asker, subject } => {
                if let Some(tribunal) = self.nodes.get_mut(&asker) {
                    tribunal.rebutted(NodeId(subject));
                }
            }
            Event::Testimony(to, signed) => {
                // Whether it counts is the tribunal's matter.
                self.with(to, |tribunal, facts, out| {
                    let _ = tribunal.heard(facts, signed, out);
                })?;
            }
            Event::Certificate(to, certificate) => {
                self.with(to, |tribunal, facts, out| {
                    let _ = tribunal.certified(facts, certificate, out);
                })?;
            }
            Event::Removed(subject) => {
                self.recorded.insert(NodeId(subject));
                for tribunal in self.nodes.values_mut() {
                    tribunal.recorded(self.recorded.clone());
                }
                self.oracle.removed(subject);
            }
        }
        Ok(())
    }

    /// What an observer finds at this moment when it looks at everybody.
    fn look(&mut self, observer: u64) -> Result<(), Fault> {
        let trouble = self.scene.trouble(self.now_ms);
        let mut found = Vec::new();
        for subject in (1..=self.scene.n).filter(|subject| *subject != observer) {
            let mut grounds = Vec::new();
            let shows =
                self.scene.hostile.iter().any(|(node, from)| *node == subject && self.now_ms >= *from);
            for probe in [Probe::HostKey, Probe::Ports] {
                // A probe may time out.
                if shows && self.rng.chance(950_000) {
                    grounds.push(Ground::Probed(probe));
                }
            }
            grounds.extend(mistaken(trouble, observer, subject));
            grounds.sort_unstable();
            grounds.dedup();
            found.push((NodeId(subject), grounds));
        }
        self.with(observer, |tribunal, facts, out| tribunal.found(facts, found, out))
    }

    /// Says again what others may have missed.
    fn repeat(&mut self, node: u64) {
        let Some(tribunal) = self.nodes.get(&node) else { return };
        let testimonies: Vec<_> = tribunal.testimonies().cloned().collect();
        let certificates: Vec<_> = tribunal.certificates().cloned().collect();
        testimonies.into_iter().for_each(|signed| self.tell(node, &signed));
        certificates.into_iter().for_each(|certificate| self.publish(node, &certificate));
    }

    fn with(
        &mut self,
        node: u64,
        act: impl FnOnce(&mut Tribunal, &Facts<'_>, &mut Vec<Output>),
    ) -> Result<(), Fault> {
        let unwell = matches!(self.scene.trouble(self.now_ms), Some(Trouble::Unwell { observer, .. }) if observer == node);
        let (Some(tribunal), Some(key)) = (self.nodes.get_mut(&node), self.keys.get(&node)) else {
            return Ok(());
        };
        let voters = (1..=self.scene.n).map(NodeId).filter(|voter| !self.recorded.contains(voter)).collect();
        let place = Place { incarnation: 1, sequence: self.now_ms / 200 };
        let facts = Facts {
            heard: &|_| Some(place),
            voters: &voters,
            now: Instant::ZERO.after(Span::from_ms(self.now_ms)),
            unix_ms: 1_700_000_000_000 + self.now_ms,
            well: !unwell,
            leader: Some(NodeId(self.scene.leader)),
            key,
        };
        let mut out = Vec::new();
        act(tribunal, &facts, &mut out);
        out.into_iter().try_for_each(|output| self.carry(node, output))
    }

    fn carry(&mut self, node: u64, output: Output) -> Result<(), Fault> {
        match output {
            Output::Look => {
                let takes = self.rng.between(50, 600);
                self.at(takes, Event::Look(node));
            }
            Output::Challenge(subject) => {
                // Hostile nodes do not answer; an honest one does, also when its reports are late.
                if self.nodes.contains_key(&subject.0) {
                    let takes = self.rng.between(5, 1_500);
                    self.at(takes, Event::Answer { asker: node, subject: subject.0 });
                }
            }
            Output::Tell(signed) => self.tell(node, &signed),
            Output::Publish(certificate) => self.publish(node, &certificate),
            Output::Enforce(verdict) => {
                let subject = verdict.subject.node.0;
                if verdict.sanction == Sanction::Isolate {
                    self.oracle.isolated(node, subject, self.now_ms)?;
                    if self.removed.insert(subject) {
                        self.at(REMOVAL_MS, Event::Removed(subject));
                    }
                }
            }
        }
        Ok(())
    }

    fn tell(&mut self, from: u64, signed: &Signed<Testimony>) {
        for to in (1..=self.scene.n).filter(|to| *to != from) {
            if let Some(in_ms) = self.transit() {
                self.at(in_ms, Event::Testimony(to, signed.clone()));
            }
        }
    }

    fn publish(&mut self, from: u64, certificate: &Certificate) {
        for to in (1..=self.scene.n).filter(|to| *to != from) {
            if let Some(in_ms) = self.transit() {
                self.at(in_ms, Event::Certificate(to, certificate.clone()));
            }
        }
    }

    fn transit(&mut self) -> Option<u64> {
        let lost = self.rng.chance(self.scene.loss_ppm);
        (!lost).then(|| self.rng.between(1, 200))
    }

    fn lie(&mut self, liar: u64) {
        let how = self.scene.liars.iter().find(|(node, _)| *node == liar).map(|(_, how)| *how);
        let honest: Vec<u64> = self.nodes.keys().copied().collect();
        let victim = honest.first().copied().unwrap_or_default();
        let (victims, next_ms) = match how.unwrap_or_default() {
            Lie::Mute => return,
            Lie::Slander | Lie::Equivocate => (vec![victim], 5_000),
            Lie::Spam => (honest.clone(), 500),
            Lie::Lurk => (self.in_trouble(), 500),
        };
        self.at(next_ms, Event::Lie(liar));
        for (place, to) in honest.iter().enumerate() {
            for victim in victims.iter().filter(|victim| *victim != to) {
                let target = if how == Some(Lie::Equivocate) {
                    honest.get(place + 1).unwrap_or(victim)
                } else {
                    victim
                };
                if let Some(signed) = self.slander(liar, *target) {
                    self.at(1, Event::Testimony(*to, signed));
                }
            }
        }
    }

    fn in_trouble(&self) -> Vec<u64> {
        match self.scene.trouble(self.now_ms) {
            Some(
                Trouble::Mistake { subject, .. }
                | Trouble::Coincidence { subject, .. }
                | Trouble::Unwell { subject, .. }
                | Trouble::Slow { subject, .. },
            ) => vec![subject],
            Some(Trouble::BadSite) => self.nodes.keys().copied().take(1).collect(),
            None => Vec::new(),
        }
    }

    fn slander(&self, liar: u64, victim: u64) -> Option<Signed<Testimony>> {
        let testimony = Testimony {
            subject: Subject { node: NodeId(victim), key: self.keys.get(&victim)?.public() },
            sanction: Sanction::Isolate,
            electorate: 1,
            by: NodeId(liar),
            grounds: vec![Ground::Probed(Probe::HostKey), Ground::Probed(Probe::Content)],
            unix_ms: 1_700_000_000_000 + self.now_ms,
            heard: Some(Place { incarnation: 1, sequence: self.now_ms / 200 }),
        };
        self.keys.get(&liar)?.sign(CLUSTER, &testimony).ok()
    }
}

fn mistaken(trouble: Option<Trouble>, observer: u64, subject: u64) -> Vec<Ground> {
    let it = (observer, subject);
    match trouble {
        Some(Trouble::Mistake { observer, subject, probe }) if it == (observer, subject) => {
            vec![Ground::Probed(probe)]
        }
        Some(Trouble::Coincidence { observer, subject } | Trouble::Unwell { observer, subject })
            if it == (observer, subject) =>
        {
            vec![Ground::Probed(Probe::HostKey), Ground::Probed(Probe::Content)]
        }
        Some(Trouble::Slow { subject: slow, observer }) if subject == slow => {
            let mut grounds = vec![Ground::Silence];
            if it.0 == observer {
                grounds.push(Ground::Probed(Probe::Content));
            }
            grounds
        }
        Some(Trouble::BadSite) => vec![Ground::Probed(Probe::Content), Ground::Probed(Probe::Certificate)],
        _ => Vec::new(),
    }
}
