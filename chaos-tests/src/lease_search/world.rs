//! One schedule: a mesh of hosts in true time, with the real [`Lease`] on each, a network that does what
//! datagrams do, a committed log that everybody applies when it pleases, and the oracle.
//!
//! **Invariant.** Everything follows from the seed: one queue, ordered by time and then by sequence.
//!
//! Deliberately absent: Raft. The log is simply there; that nodes apply it with arbitrary lag, and go back after
//! a restart, is harsher than Raft would be.

use super::host::{Agent, Clock, Host, boot_id, draw_rate};
use super::mix::{Fault, Mix};
use super::oracle::{Heed, Oracle, Seen, Violation};
use super::rng::Rng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap, VecDeque};
use stead_proto::config::{Change, Config, Confirmation};
use stead_proto::id::NodeId;
use stead_proto::lease::{Lease, Message, Output, Readiness, Record, Rules, View};
use stead_proto::plan::{Epoch, Plan, Seat};
use stead_proto::time::Instant;

const MS: u64 = 1_000_000;
/// How long there may be no holder once all faults are over and the planner is awake.
const PATIENCE: u64 = 25_000 * MS;
const REPORTS_EVERY: u64 = 200 * MS;
const PLANNER_EVERY: u64 = 500 * MS;

/// How a schedule went.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// Figures.
    pub seen: Seen,
    /// A digest of every event and output: the same seed has the same.
    pub digest: u64,
    /// What was broken, if something was.
    pub violation: Option<Violation>,
    /// One line per step, if asked for.
    pub trace: Vec<String>,
}

/// Whether a schedule is told step by step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Telling {
    /// Figures only.
    Quiet,
    /// A line per step.
    Steps,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Event {
    Deliver { to: usize, from: NodeId, packet: usize },
    Tick { host: usize, timer: u64 },
    Start { host: usize, life: u64 },
    Resume { host: usize, life: u64 },
    Apply { host: usize, upto: usize },
    Fault,
    Reports,
    Calm,
    Planner,
}

/// The state after a log entry.
#[derive(Clone, Copy, Debug)]
struct Entry {
    index: u64,
    config: usize,
    plan: usize,
}

struct World {
    rng: Rng,
    rules: Rules,
    mix: Mix,
    hosts: Vec<Host>,
    log: Vec<Entry>,
    configs: Vec<Config>,
    plans: Vec<Plan>,
    queue: BinaryHeap<Reverse<(u64, u64, Event)>>,
    packets: Vec<Message>,
    sequence: u64,
    now: u64,
    /// Directed links that are cut.
    cuts: BTreeSet<(NodeId, NodeId)>,
    reports: BTreeMap<NodeId, Confirmation>,
    calm_since: Option<u64>,
    served_since: Option<u64>,
    oracle: Oracle,
    heed: Heed,
    digest: u64,
    telling: Telling,
    trace: Vec<String>,
}

/// Runs the schedule of `seed` to its end, or to the first violation.
#[must_use]
pub fn run(seed: u64, rules: Rules, heed: Heed, telling: Telling) -> Outcome {
    let mut world = World::new(seed, rules, heed, telling);
    let violation = world.run().err();
    if let Some(violation) = violation {
        world.tell(|| format!("VIOLATION: {violation}"));
    }
    Outcome { seen: world.oracle.seen, digest: world.digest, violation, trace: world.trace }
}

impl World {
    fn new(seed: u64, rules: Rules, heed: Heed, telling: Telling) -> Self {
        let mut rng = Rng::new(seed);
        let mix = Mix::draw(&mut rng);
        let nodes = mix.voters + mix.learners;
        let config = Config::founding(5, (0..mix.voters).map(NodeId).collect());
        let hosts: Vec<Host> = (0..nodes).map(|node| new_host(NodeId(node), rules, &mix, &mut rng)).collect();
        let oracle = Oracle::new(hosts.len(), heed);
        let mut world = Self {
            rng,
            rules,
            mix,
            hosts,
            log: Vec::new(),
            configs: vec![config],
            plans: Vec::new(),
            queue: BinaryHeap::new(),
            packets: Vec::new(),
            sequence: 0,
            now: 0,
            cuts: BTreeSet::new(),
            reports: BTreeMap::new(),
            calm_since: None,
            served_since: None,
            oracle,
            heed,
            digest: 0xcbf2_9ce4_8422_2325,
            telling,
            trace: Vec::new(),
        };
        let plan = world.draw_plan(7);
        world.plans.push(plan);
        world.log.push(Entry { index: 7, config: 0, plan: 0 });
        world
    }

    fn run(&mut self) -> Result<(), Violation> {
        let mix = format!("{:?}", self.mix);
        self.tell(|| mix);
        self.after(0, Event::Reports);
        let first = self.rng.below(self.mix.fault_every * 2);
        self.after(first, Event::Fault);
        self.after(self.mix.horizon, Event::Calm);
        for host in 0..self.hosts.len() {
            self.set_timer(host);
        }
        while let Some(Reverse((at, _, event))) = self.queue.pop() {
            self.now = at;
            self.oracle.seen.events += 1;
            self.fold(at);
            self.step(event)?;
            if self.is_over()? {
                break;
            }
        }
        Ok(())
    }

    fn step(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Deliver { to, from, packet } => self.deliver(to, from, packet),
            Event::Tick { host, timer } => {
                let due = self.hosts.get(host).is_some_and(|host| host.timer == timer);
                if due { self.tick(host) } else { Ok(()) }
            }
            Event::Start { host, life } => self.start(host, life),
            Event::Resume { host, life } => self.resume(host, life),
            Event::Apply { host, upto } => self.apply(host, upto),
            Event::Fault => {
                if self.calm_since.is_none() {
                    let next = self.rng.below(self.mix.fault_every * 2) + 1;
                    self.after(next, Event::Fault);
                    let faults = std::mem::take(&mut self.mix.faults);
                    let fault = self.rng.pick(&faults);
                    self.mix.faults = faults;
                    self.inflict(fault)?;
                }
                Ok(())
            }
            Event::Reports => self.exchange_reports(),
            Event::Calm => self.calm_down(),
            Event::Planner => self.plan_if_unserved(),
        }
    }

    /// Over once somebody served for a whole lease after the faults; a violation if nobody does for too long.
    fn is_over(&self) -> Result<bool, Violation> {
        let Some(calm) = self.calm_since else { return Ok(false) };
        let longest = self.longest_lease();
        let serves = (0..self.hosts.len()).any(|host| self.oracle.is_open(host, self.now));
        if serves && self.served_since.is_some_and(|since| self.now > since + longest + longest / 2) {
            return Ok(true);
        }
        let waited = self.now - calm;
        match (waited > PATIENCE, self.heed) {
            (false, _) => Ok(false),
            (true, Heed::Everything) => Err(Violation::NobodyHolds { waited_ms: waited / MS }),
            (true, Heed::TwoHolders) => Ok(true),
        }
    }

    // ---- the agent ----

    fn tick(&mut self, host: usize) -> Result<(), Violation> {
        self.call(host, |lease, now, view, out| lease.tick(now, view, out))
    }

    fn call(
        &mut self,
        host: usize,
        call: impl FnOnce(&mut Lease, Instant, &View<'_>, &mut Vec<Output>),
    ) -> Result<(), Violation> {
        let Some(it) = self.hosts.get_mut(host).filter(|it| it.agent == Agent::Up) else { return Ok(()) };
        let Some(entry) = it.applied.checked_sub(1).and_then(|last| self.log.get(last)) else {
            return Ok(());
        };
        let Some(config) = self.configs.get(entry.config) else { return Ok(()) };
        let said: Vec<Confirmation> =
            if config.pair == Some(it.id) { it.reports.values().copied().collect() } else { Vec::new() };
        let view = View {
            me: it.id,
            config,
            plan: self.plans.get(entry.plan),
            readiness: it.readiness,
            pair_confirmed: config.pair_confirmed(&said),
            heard: it.heard,
        };
        let mut out = Vec::new();
        call(&mut it.lease, it.clock.local(self.now), &view, &mut out);
        self.carry_out_torn(host, out.into())
    }

    /// Carries out what a call wants, unless the agent is stopped or killed in the middle of it.
    fn carry_out_torn(&mut self, host: usize, mut out: VecDeque<Output>) -> Result<(), Violation> {
        let torn = self.calm_since.is_none() && !out.is_empty() && self.rng.chance(self.mix.torn_ppm);
        if !torn {
            self.carry_out(host, out)?;
            self.set_timer(host);
            return Ok(());
        }
        let rest = out.split_off(self.rng.place(out.len() + 1));
        self.carry_out(host, out)?;
        if self.rng.chance(500_000) {
            self.tell(|| format!("#{host} stops before {} outputs", rest.len()));
            self.pause(host, rest);
        } else {
            self.tell(|| format!("#{host} is killed before {} outputs", rest.len()));
            self.kill(host);
        }
        Ok(())
    }

    fn carry_out(&mut self, host: usize, out: VecDeque<Output>) -> Result<(), Violation> {
        for output in out {
            let now = self.now;
            let Some(it) = self.hosts.get_mut(host) else { return Ok(()) };
            let local = it.clock.local(now);
            match output {
                Output::Remember(record) => it.record = Some(record),
                Output::Send { to, message } => {
                    let from = it.id;
                    self.send(from, to, message);
                }
                Output::Open { epoch, until } | Output::Extend { epoch, until } => {
                    let slack = u64::from(it.slack_ms) * MS;
                    let end = it.clock.truly(until.after(stead_proto::time::Span::from_ns(slack)));
                    let alone =
                        self.log.get(it.applied.saturating_sub(1)).and_then(|e| self.configs.get(e.config));
                    let alone = alone.is_some_and(|config| config.pair == Some(it.id));
                    self.tell(|| format!("#{host} {output:?} until {end} in truth"));
                    self.fold(end);
                    if until > local {
                        self.oracle.open(host, epoch, now, end)?;
                        self.served(matches!(output, Output::Open { .. }), alone);
                    }
                }
                Output::Close { epoch } => {
                    self.tell(|| format!("#{host} closes {epoch}"));
                    self.oracle.close(host, now);
                }
            }
        }
        Ok(())
    }

    fn served(&mut self, opened: bool, alone: bool) {
        if opened {
            self.oracle.seen.opens += 1;
            self.oracle.seen.alone += u64::from(alone);
        }
        if let (Some(calm), None) = (self.calm_since, self.served_since) {
            self.served_since = Some(self.now);
            self.oracle.seen.wait_ns_max = self.now - calm;
        }
    }

    fn set_timer(&mut self, host: usize) {
        let Some(it) = self.hosts.get_mut(host) else { return };
        it.timer += 1;
        let (deadline, timer) = (it.lease.deadline(), it.timer);
        if deadline < Instant::NEVER {
            let at = it.clock.truly(deadline).max(self.now);
            let slip = if self.calm_since.is_none() { self.rng.below(self.mix.slip_max + 1) } else { 0 };
            self.after(at - self.now + slip, Event::Tick { host, timer });
        }
    }

    fn kill(&mut self, host: usize) {
        let delay = self.rng.below(self.lease() + self.lease() / 2);
        let Some(it) = self.hosts.get_mut(host) else { return };
        it.agent = Agent::Down;
        it.life += 1;
        it.backlog.clear();
        let life = it.life;
        self.after(delay, Event::Start { host, life });
    }

    fn reboot(&mut self, host: usize) {
        let (base, rate) = (self.rng.below(2_000 * MS), draw_rate(&mut self.rng, self.mix.extreme_clocks));
        self.oracle.close(host, self.now);
        if let Some(it) = self.hosts.get_mut(host) {
            it.record = None;
            it.boot = it.boot.wrapping_add(1);
            it.clock = Clock { rate, since: self.now, base };
            it.reports.clear();
            it.heard = Instant::ZERO;
        }
        self.kill(host);
    }

    /// The agent comes up. Its state machine may have gone back to what its snapshot and log can prove.
    fn start(&mut self, host: usize, life: u64) -> Result<(), Violation> {
        let back = if self.rng.chance(500_000) { self.rng.place(4) } else { 0 };
        let ahead = self.rng.place(4);
        let beyond = if self.rng.chance(200_000) { self.rng.below(3) } else { 0 };
        let lag = self.draw_lag();
        let upto = self.log.len();
        let Some(it) = self.hosts.get_mut(host).filter(|it| it.life == life) else { return Ok(()) };
        let durable = it.applied_max.saturating_add(ahead).min(upto);
        let durable = self.log.get(durable.saturating_sub(1)).map_or(0, |entry| entry.index) + beyond;
        it.applied = it.applied.saturating_sub(back).max(1);
        let local = it.clock.local(self.now);
        it.lease = Lease::start_under(self.rules, boot_id(it.boot), it.record.as_ref(), durable, local);
        it.agent = Agent::Up;
        let applied = it.applied;
        self.tell(|| format!("#{host} starts, {applied} of {upto} entries applied, durable {durable}"));
        self.after(lag, Event::Apply { host, upto });
        self.tick(host)
    }

    fn pause(&mut self, host: usize, rest: VecDeque<Output>) {
        let length = self.rng.below(self.lease() * 3);
        let Some(it) = self.hosts.get_mut(host) else { return };
        it.agent = Agent::Paused(rest);
        it.life += 1;
        let life = it.life;
        self.after(length, Event::Resume { host, life });
    }

    fn resume(&mut self, host: usize, life: u64) -> Result<(), Violation> {
        let upto = self.log.len();
        let lag = self.draw_lag();
        let Some(it) = self.hosts.get_mut(host).filter(|it| it.life == life) else { return Ok(()) };
        let Agent::Paused(rest) = &mut it.agent else { return Ok(()) };
        let rest = std::mem::take(rest);
        it.agent = Agent::Up;
        let backlog = std::mem::take(&mut it.backlog);
        self.tell(|| format!("#{host} goes on"));
        self.after(lag, Event::Apply { host, upto });
        self.carry_out(host, rest)?;
        self.set_timer(host);
        for (from, message) in backlog {
            self.call(host, |lease, now, view, out| lease.receive(now, view, from, message, out))?;
        }
        self.tick(host)
    }

    // ---- the network ----

    fn send(&mut self, from: NodeId, to: NodeId, message: Message) {
        let calm = self.calm_since.is_some();
        if !calm && (self.cuts.contains(&(from, to)) || self.rng.chance(self.mix.loss_ppm)) {
            return;
        }
        let copies = if !calm && self.rng.chance(self.mix.double_ppm) { 2 } else { 1 };
        let Some(host) = self.hosts.iter().position(|host| host.id == to) else { return };
        let packet = self.packets.len();
        self.packets.push(message);
        for _ in 0..copies {
            let late = !calm && self.rng.chance(self.mix.late_ppm);
            let usual = if calm { self.shortest_lease() / 10 } else { self.mix.delay_max };
            let most = if late { self.mix.late_max } else { self.mix.delay_max.min(usual) };
            let delay = self.rng.between(20_000, most.max(20_000));
            self.after(delay, Event::Deliver { to: host, from, packet });
        }
    }

    fn deliver(&mut self, to: usize, from: NodeId, packet: usize) -> Result<(), Violation> {
        let Some(&message) = self.packets.get(packet) else { return Ok(()) };
        let Some(it) = self.hosts.get_mut(to) else { return Ok(()) };
        match it.agent {
            Agent::Down => return Ok(()),
            Agent::Paused(_) => {
                if it.backlog.len() < 1_000 {
                    it.backlog.push_back((from, message));
                }
                return Ok(());
            }
            Agent::Up => it.heard = it.clock.local(self.now),
        }
        self.tell(|| format!("{from} -> #{to} {message:?}"));
        self.call(to, |lease, now, view, out| lease.receive(now, view, from, message, out))
    }

    // ---- the log ----

    fn commit(&mut self, index: u64, config: usize, plan: usize) {
        self.log.push(Entry { index, config, plan });
        let upto = self.log.len();
        for host in 0..self.hosts.len() {
            let lag = self.draw_lag();
            self.after(lag, Event::Apply { host, upto });
        }
    }

    fn draw_lag(&mut self) -> u64 {
        let usual = self.calm_since.is_some() || self.rng.chance(500_000);
        let most = if usual { MS.min(self.mix.lag_max) } else { self.mix.lag_max };
        self.rng.below(most + 1)
    }

    fn apply(&mut self, host: usize, upto: usize) -> Result<(), Violation> {
        let Some(it) = self.hosts.get_mut(host) else { return Ok(()) };
        if it.agent != Agent::Up || it.applied >= upto {
            return Ok(());
        }
        it.applied = upto;
        it.applied_max = it.applied_max.max(upto);
        self.tell(|| format!("#{host} applied {upto} entries"));
        self.tick(host)
    }

    fn last(&self) -> Entry {
        self.log.last().copied().unwrap_or(Entry { index: 7, config: 0, plan: 0 })
    }

    fn draw_plan(&mut self, index: u64) -> Plan {
        let lease_ms = if self.rng.chance(700_000) { 0 } else { 1 };
        let lease_ms = self.mix.leases_ms.get(lease_ms).copied().unwrap_or(1_000);
        let mut seats: Vec<Seat> =
            self.hosts.iter().map(|host| Seat { node: host.id, slack_ms: host.slack_ms }).collect();
        self.rng.shuffle(&mut seats);
        if self.calm_since.is_none() && self.rng.chance(300_000) {
            seats.truncate(1 + self.rng.place(seats.len()));
        }
        Plan { index, lease_ms, seats }
    }

    fn commit_plan(&mut self, above: u64) {
        let last = self.last();
        let index = last.index.max(above) + self.rng.between(1, 3);
        let mut plan = self.draw_plan(index);
        let holder = self.hosts.iter().find(|host| host.lease.holding().is_some()).map(|host| host.id);
        if let (Some(holder), true) = (holder, self.rng.chance(400_000)) {
            // A refresh: the plan wants the one who holds.
            plan.seats.sort_by_key(|seat| seat.node != holder);
        }
        self.tell(|| format!("commit {plan:?}"));
        self.plans.push(plan);
        self.commit(index, last.config, self.plans.len() - 1);
    }

    fn commit_config(&mut self) {
        let last = self.last();
        let Some(config) = self.configs.get(last.config) else { return };
        let node = self.hosts.get(self.rng.place(self.hosts.len())).map(|host| host.id).unwrap_or_default();
        let change = match self.rng.below(4) {
            0 => Change::EnterPair(node),
            1 => Change::LeavePair,
            _ if config.voters.contains(&node) => Change::Remove(node),
            _ => Change::Add(node),
        };
        let index = last.index + self.rng.between(1, 3);
        let said: Vec<Confirmation> = self.reports.values().copied().collect();
        let Ok(next) = config.next_under(self.rules, index, change, &said) else { return };
        self.tell(|| format!("commit {change:?}: {next:?}"));
        self.oracle.seen.configs += 1;
        self.configs.push(next);
        self.commit(index, self.configs.len() - 1, last.plan);
        if self.rng.chance(600_000) {
            self.commit_plan(0);
        }
    }

    fn exchange_reports(&mut self) -> Result<(), Violation> {
        self.after(REPORTS_EVERY, Event::Reports);
        for host in 0..self.hosts.len() {
            let Some(said) = self.report_of(host) else { continue };
            if self.rng.chance(800_000) {
                self.reports.insert(said.node, said);
            }
            for other in 0..self.hosts.len() {
                let arrives = self.rng.chance(800_000);
                let Some(other) = self.hosts.get_mut(other).filter(|_| arrives) else { continue };
                other.reports.insert(said.node, said);
                if other.id != said.node && !self.cuts.contains(&(said.node, other.id)) {
                    other.heard = other.clock.local(self.now);
                }
            }
        }
        for host in 0..self.hosts.len() {
            self.tick(host)?;
        }
        Ok(())
    }

    fn report_of(&self, host: usize) -> Option<Confirmation> {
        let it = self.hosts.get(host).filter(|it| it.agent == Agent::Up)?;
        let config = self.configs.get(self.log.get(it.applied.checked_sub(1)?)?.config)?;
        let (me, readiness) = (it.id, it.readiness);
        let (pair_confirmed, heard) = (false, Instant::ZERO);
        let view = View { me, config, plan: None, readiness, pair_confirmed, heard };
        Some(it.lease.confirmation(it.clock.local(self.now), &view))
    }

    // ---- the faults, and the end of them ----

    fn inflict(&mut self, fault: Fault) -> Result<(), Violation> {
        let host = self.rng.place(self.hosts.len());
        self.tell(|| format!("{fault:?} #{host}"));
        match fault {
            Fault::Cut => self.cut(host),
            Fault::Heal => self.cuts.clear(),
            Fault::Restart => self.kill(host),
            Fault::Reboot => self.reboot(host),
            Fault::Pause => {
                if self.hosts.get(host).is_some_and(|it| it.agent == Agent::Up) {
                    self.pause(host, VecDeque::new());
                }
            }
            Fault::Plan => self.commit_plan(0),
            Fault::Config => self.commit_config(),
            Fault::Readiness => {
                let readiness = match self.rng.below(4) {
                    0 => Readiness::Never,
                    1 => Readiness::Reluctant,
                    _ => Readiness::Ready,
                };
                if let Some(it) = self.hosts.get_mut(host) {
                    it.readiness = readiness;
                }
                self.tick(host)?;
            }
            Fault::HandOver => {
                let to = self.hosts.get(host).map(|host| host.id).unwrap_or_default();
                for host in 0..self.hosts.len() {
                    if self.hosts.get(host).is_some_and(|it| it.lease.holding().is_some()) {
                        self.call(host, |lease, now, view, out| lease.hand_over(now, view, to, out))?;
                    }
                }
            }
        }
        Ok(())
    }

    /// One host alone, or two halves, or a few links; sometimes in one direction only.
    fn cut(&mut self, host: usize) {
        let ids: Vec<NodeId> = self.hosts.iter().map(|host| host.id).collect();
        let shape = self.rng.below(3);
        let one_way = self.rng.chance(300_000);
        let side: BTreeSet<NodeId> = match shape {
            0 => ids.get(host).copied().into_iter().collect(),
            _ => ids.iter().copied().filter(|_| self.rng.chance(500_000)).collect(),
        };
        for &from in &ids {
            for &to in &ids {
                let crosses = side.contains(&from) != side.contains(&to);
                let cut = if shape == 2 { self.rng.chance(300_000) } else { crosses };
                if cut && !(one_way && side.contains(&from)) {
                    self.cuts.insert((from, to));
                }
            }
        }
    }

    fn calm_down(&mut self) -> Result<(), Violation> {
        self.tell(|| "all faults are over".to_owned());
        self.calm_since = Some(self.now);
        self.cuts.clear();
        let upto = self.log.len();
        for host in 0..self.hosts.len() {
            let Some(it) = self.hosts.get_mut(host) else { continue };
            it.readiness = Readiness::Ready;
            let life = it.life;
            self.after(MS, Event::Apply { host, upto });
            self.resume(host, life)?;
            self.tick(host)?;
        }
        self.after(PLANNER_EVERY, Event::Planner);
        Ok(())
    }

    /// The leader: a fresh plan, above everything that is burned, while nobody serves.
    fn plan_if_unserved(&mut self) -> Result<(), Violation> {
        self.after(PLANNER_EVERY.max(self.longest_lease() * 2), Event::Planner);
        if !(0..self.hosts.len()).any(|host| self.oracle.is_open(host, self.now)) {
            let highest = self.hosts.iter().map(|host| host.lease.highest()).max();
            self.commit_plan(highest.unwrap_or(Epoch::default()).plan);
        }
        Ok(())
    }

    fn shortest_lease(&self) -> u64 {
        u64::from(self.mix.leases_ms.into_iter().min().unwrap_or(0)) * MS
    }

    fn longest_lease(&self) -> u64 {
        u64::from(self.mix.leases_ms.into_iter().max().unwrap_or(0)) * MS
    }

    fn lease(&self) -> u64 {
        u64::from(self.mix.leases_ms.first().copied().unwrap_or(1_000)) * MS
    }

    fn after(&mut self, span: u64, event: Event) {
        self.sequence += 1;
        self.queue.push(Reverse((self.now + span, self.sequence, event)));
    }

    fn fold(&mut self, value: u64) {
        self.digest = (self.digest ^ value).wrapping_mul(0x0000_0100_0000_01b3);
    }

    fn tell(&mut self, line: impl FnOnce() -> String) {
        if self.telling == Telling::Steps {
            let line = line();
            self.trace.push(format!("{:>14.6} ms  {line}", Millis(self.now)));
        }
    }
}

struct Millis(u64);

impl std::fmt::Display for Millis {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&format!("{}.{:06}", self.0 / MS, self.0 % MS))
    }
}

/// A host that has been up for long, with an empty record of its boot.
fn new_host(id: NodeId, rules: Rules, mix: &Mix, rng: &mut Rng) -> Host {
    let rate = draw_rate(rng, mix.extreme_clocks);
    let clock = Clock { rate, since: 0, base: rng.between(10_000 * MS, 1_000_000 * MS) };
    let record = Record {
        boot_id: boot_id(0),
        highest: Epoch::default(),
        spent: true,
        promise: None,
        config_index: 5,
        config_since_ns: 0,
        silent_until_ns: 0,
        held: None,
    };
    let slack_ms = u32::try_from(rng.below(mix.slack_ms_max + 1)).unwrap_or(0);
    let witness = id.0 < mix.voters && rng.chance(100_000);
    Host {
        id,
        clock,
        slack_ms,
        boot: 0,
        record: Some(record),
        lease: Lease::start_under(rules, boot_id(0), Some(&record), 0, clock.local(0)),
        agent: Agent::Up,
        life: 0,
        timer: 0,
        applied: 1,
        applied_max: 1,
        readiness: if witness { Readiness::Never } else { Readiness::Ready },
        reports: BTreeMap::new(),
        heard: Instant::ZERO,
        backlog: VecDeque::new(),
    }
}
