//! The mesh core of one node: events in, effects out.
//!
//! [`Mesh::handle`] is the one place where decisions meet: leases, elections, reports, recall, and what a
//! leader proposes. The same value runs in the agent and in simulations.
//!
//! **Invariant.** No effect happens before what it depends on: effects are carried out in their order, and
//! [`Effect::Remember`] precedes every answer that it makes binding. Before the recall is complete
//! (DESIGN §11 P3) this node promises nothing, votes for nobody and reports nothing.

mod chains;
mod confessions;
mod duties;
mod event;
mod fencing;
mod finding;
mod judging;
mod leases;
mod outside;
mod probes;
mod recall;
mod records;
mod reports;
mod silence;
mod status;

pub use event::{Effect, Event, Now, RaftFacts, Serving, Uplink};
pub use judging::Conviction;
pub use records::Records;

use crate::election::{self, Election};
use crate::id::{Name, NodeId};
use crate::lease::{self, Lease};
use crate::limits::STALL_MIN;
use crate::liveness::{Liveness, Row};
use crate::lookout::TrafficSeen;
use crate::memory::{Memories, Memory, Recall};
use crate::message::Message;
use crate::report::{GateSeen, Report, ServiceSeen, Unwell};
use crate::sign::{SecretKey, Signed};
use crate::state::State;
use crate::time::{Instant, Span};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    sync::Arc,
    vec::Vec,
};
use core::net::IpAddr;
use duties::Duties;
use fencing::Fences;
use finding::Findings;
use judging::Judging;
use outside::Outside;
use probes::Probes;
use recall::Phase;
use reports::Reporter;

/// What a mesh core starts from.
#[derive(Debug)]
pub struct Start {
    /// This node.
    pub me: NodeId,
    /// Its key, for reports.
    pub key: SecretKey,
    /// The replicated state as it was applied last.
    pub state: Arc<State>,
    /// The lease records of this boot.
    pub records: Records,
    /// What the own store knew before this start.
    pub own: Memory,
    /// The number of this start, durable already.
    pub incarnation: u64,
    /// What this node saw of the others before.
    pub memories: Memories,
    /// The convictions that it kept.
    pub convictions: Vec<Conviction>,
    /// How long to wait for a leader.
    pub election_timeout: Span,
    /// A random number.
    pub seed: u64,
    /// How the kernel enforces leases here.
    pub gate: GateSeen,
    /// Whether endpoint addresses can be put on the uplink, and what comes before.
    pub uplink: Uplink,
}

/// The mesh core of one node.
#[derive(Debug)]
pub struct Mesh {
    me: NodeId,
    started: Instant,
    state: Arc<State>,
    config_since: Instant,
    raft: RaftFacts,
    leases: BTreeMap<Name, Lease>,
    records: Records,
    serving: BTreeMap<Name, Serving>,
    troubles: BTreeMap<Name, String>,
    /// The entry up to which an endpoint had another address.
    readdressed: BTreeMap<Name, u64>,
    /// Addresses that an endpoint gave up, and until when its last holder may not know.
    given_up: BTreeMap<IpAddr, Instant>,
    probes: Probes,
    uplink: Uplink,
    services: BTreeMap<Name, ServiceSeen>,
    gate: GateSeen,
    unwell: BTreeSet<Unwell>,
    traffic: TrafficSeen,
    stalled_until: Instant,
    rows: BTreeMap<NodeId, Row>,
    signed: BTreeMap<NodeId, Signed<Report>>,
    heard: BTreeMap<NodeId, Instant>,
    rtt_us: BTreeMap<NodeId, u32>,
    liveness: BTreeMap<NodeId, (Liveness, Instant)>,
    memories: Memories,
    phase: Phase,
    election: Election,
    reporter: Reporter,
    findings: Findings,
    outside: Outside,
    fences: Fences,
    judging: Judging,
    duties: Duties,
    stopping: bool,
}

impl Mesh {
    /// A core that has just started and takes part in nothing yet.
    #[must_use]
    pub fn new(now: Instant, start: Start) -> Self {
        let recall = Recall::new(start.own);
        let judging = Judging::new(start.me, &start.state, start.convictions, &start.key);
        let mut mesh = Self {
            me: start.me,
            started: now,
            state: start.state,
            config_since: now,
            raft: RaftFacts::default(),
            leases: BTreeMap::new(),
            records: start.records,
            serving: BTreeMap::new(),
            troubles: BTreeMap::new(),
            readdressed: BTreeMap::new(),
            given_up: BTreeMap::new(),
            probes: Probes::default(),
            uplink: start.uplink,
            services: BTreeMap::new(),
            gate: start.gate,
            unwell: BTreeSet::new(),
            traffic: TrafficSeen::default(),
            stalled_until: Instant::ZERO,
            rows: BTreeMap::new(),
            signed: BTreeMap::new(),
            heard: BTreeMap::new(),
            rtt_us: BTreeMap::new(),
            liveness: BTreeMap::new(),
            memories: start.memories,
            phase: Phase::Recalling { recall, ask_at: now },
            election: Election::new(now, start.election_timeout, start.seed),
            reporter: Reporter::new(start.key, start.incarnation),
            findings: Findings::default(),
            outside: Outside::default(),
            fences: Fences::default(),
            judging,
            duties: Duties::default(),
            stopping: false,
        };
        mesh.match_leases_to_state(now);
        mesh.keep_watch(now);
        mesh
    }

    /// When the core wants [`Event::Timer`] next.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        let leases = self.leases.values().map(Lease::deadline).min().unwrap_or(Instant::NEVER);
        match &self.phase {
            Phase::Recalling { ask_at, .. } => *ask_at,
            Phase::Lost | Phase::CutOff => Instant::NEVER,
            Phase::Running => leases
                .min(self.election.deadline())
                .min(self.reporter.deadline())
                .min(self.judging.deadline())
                .min(self.outside.deadline())
                .min(self.duties.deadline()),
        }
    }

    /// Takes in one event and says what has to happen.
    pub fn handle(&mut self, now: Now, event: Event, out: &mut Vec<Effect>) {
        self.notice_stall(now.at);
        // What an event of the isolated, or of an isolated one, would do must not happen first.
        self.cut_off_the_isolated(now.at, out);
        match event {
            Event::Timer => {}
            Event::Datagram { from, bytes } => self.datagram(now, from, &bytes, out),
            Event::Report { from, at, bytes } => self.take_report(now.at, (from, at), &bytes, out),
            Event::RoundTrip { peer, rtt_us } => drop(self.rtt_us.insert(peer, rtt_us)),
            Event::State(state) => self.take_state(now.at, state, out),
            Event::Raft(facts) => self.take_raft(now.at, facts),
            Event::Reached => self.greet(),
            // What was on its way when he was demoted.
            Event::LeaderHeard if self.raft.leader.is_some_and(|l| self.judging.demoted().contains(&l)) => {}
            Event::LeaderHeard => self.election.leader_heard(now.at),
            Event::Service { name, seen } => self.take_service(now.at, name, seen, out),
            Event::Traffic { seen, urgent } => {
                self.traffic = *seen;
                if !matches!(self.phase, Phase::CutOff) {
                    out.push(Effect::License);
                }
                if urgent {
                    self.reporter.hurry();
                }
            }
            Event::Unwell { what, on } => {
                self.take_unwell(what, on);
                self.reconsider_all(now.at, out);
            }
            Event::Trouble { endpoint, text } => {
                self.take_trouble(endpoint, text);
                self.reconsider_all(now.at, out);
            }
            Event::Probed { endpoint, address, taken } => {
                self.take_probe(now.at, &endpoint, address, taken);
                self.reconsider_all(now.at, out);
            }
            Event::Fenced { node, epoch, failed } => self.take_fenced(node, epoch, failed),
            Event::Saw(sight) => self.take_sight(now.at, sight),
            Event::Proposed { ticket, done } => self.duties.ended(now.at, ticket, done),
            Event::Stop => self.stop(now.at, out),
        }
        self.settle(now, out);
    }

    /// Whatever is due by now.
    fn settle(&mut self, now: Now, out: &mut Vec<Effect>) {
        self.cut_off_the_isolated(now.at, out);
        self.recall_if_due(now.at, out);
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.tick_leases(now.at, out);
        self.tick_election(now.at, out);
        self.look_if_due(now.at, out);
        self.judge_if_due(now, out);
        self.report_if_due(now, out);
        self.do_duties(now, out);
    }

    fn datagram(&mut self, now: Now, from: NodeId, bytes: &[u8], out: &mut Vec<Effect>) {
        let Ok(message) = Message::decode(bytes) else { return };
        if !self.trusts(from) || from == self.me {
            return;
        }
        self.hear(now.at, from, out);
        if matches!(message, Message::Lease(..)) {
            self.findings.silence.talks(now.at, from);
        }
        match message {
            Message::Recall => self.answer_recall(from, out),
            Message::Recalled(memory) => self.take_recalled(from, memory),
            // Who is demoted gets neither an endpoint nor the lead; what it grants others counts.
            Message::Lease(_, lease::Message::Ask { .. })
            | Message::Election(election::Message::Ask { .. })
                if self.is_demoted(now.at, from) => {}
            Message::Lease(endpoint, message) => self.lease_message(now.at, &endpoint, from, message, out),
            Message::Election(message) => self.election_message(now.at, from, &message, out),
            Message::Testimony(signed) => self.hear_testimony(now, from, signed, out),
            Message::Challenge => self.take_challenge(now.at),
        }
    }

    fn hear(&mut self, now: Instant, from: NodeId, out: &mut Vec<Effect>) {
        self.heard.insert(from, now);
        self.tell_waiting_leases(now, out);
        if self.liveness.get(&from).is_none_or(|(liveness, _)| *liveness != Liveness::Up) {
            self.duties.hurry(now);
        }
    }

    fn take_state(&mut self, now: Instant, state: Arc<State>, out: &mut Vec<Effect>) {
        if state.config.index != self.state.config.index {
            self.config_since = now;
        }
        for (name, spec) in &state.site.endpoints {
            if self.state.site.endpoints.get(name).is_none_or(|before| before.address != spec.address) {
                self.readdressed.insert(name.clone(), state.applied);
            }
        }
        let before = core::mem::replace(&mut self.state, state);
        self.free_addresses(now, &before);
        self.judging.follow(&self.state);
        self.readdressed.retain(|name, _| self.state.site.endpoints.contains_key(name));
        self.services.retain(|name, _| self.state.site.services.contains_key(name));
        self.probes.retain(|name| self.state.site.endpoints.contains_key(name));
        self.forget_strangers();
        self.take_unwell(Unwell::AddressTaken, self.probes.any_taken());
        self.keep_watch(now);
        self.fence_if_it_is_our_turn(out);
        self.match_leases_to_state(now);
        self.cease_what_changed(now, out);
        self.reporter.hurry();
        self.duties.hurry(now);
    }

    /// Whoever is not in the roster any more, or is cut off, is forgotten.
    fn forget_strangers(&mut self) {
        let trusted: BTreeSet<NodeId> = self.peers().chain([self.me]).collect();
        self.memories.retain(|node| trusted.contains(&node));
        self.heard.retain(|node, _| trusted.contains(node));
        self.rtt_us.retain(|node, _| trusted.contains(node));
        self.rows.retain(|node, _| trusted.contains(node));
        self.signed.retain(|node, _| trusted.contains(node));
        self.liveness.retain(|node, _| trusted.contains(node));
        self.findings.retain(|node| trusted.contains(&node));
    }

    fn take_raft(&mut self, now: Instant, facts: RaftFacts) {
        if facts.leader != self.raft.leader || facts.leading != self.raft.leading {
            self.reporter.hurry();
            self.duties.hurry(now);
        }
        self.raft = facts;
    }

    fn take_unwell(&mut self, what: Unwell, on: bool) {
        let changed = if on { self.unwell.insert(what) } else { self.unwell.remove(&what) };
        if changed {
            self.reporter.hurry();
        }
    }

    fn take_trouble(&mut self, endpoint: Name, text: Option<String>) {
        match text {
            Some(text) => drop(self.troubles.insert(endpoint, text)),
            None => drop(self.troubles.remove(&endpoint)),
        }
    }

    /// A core that is called long after it wanted to be was stopped or starved, and says so.
    fn notice_stall(&mut self, now: Instant) {
        // Before the recall nothing depends on it, and a start may take its time.
        if matches!(self.phase, Phase::Running) && now.since(self.deadline()) >= STALL_MIN {
            self.stalled_until = now.after(Span::from_ms(5_000));
            self.reporter.hurry();
        }
    }

    fn election_message(
        &mut self,
        now: Instant,
        from: NodeId,
        message: &election::Message,
        out: &mut Vec<Effect>,
    ) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let mut wanted = Vec::new();
        let facts = election_facts(self.me, &self.state, &self.raft, !self.is_demoted(now, self.me));
        self.election.message(now, &facts, from, message, &mut wanted);
        carry(wanted, out);
    }

    fn tick_election(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let mut wanted = Vec::new();
        let facts = election_facts(self.me, &self.state, &self.raft, !self.is_demoted(now, self.me));
        self.election.tick(now, &facts, &mut wanted);
        carry(wanted, out);
    }
}

fn election_facts<'a>(me: NodeId, state: &'a State, raft: &RaftFacts, may: bool) -> election::Facts<'a> {
    election::Facts {
        me,
        voters: &state.config.voters,
        last: raft.last,
        leading: raft.leading,
        able: raft.able && may,
    }
}

fn carry(wanted: Vec<election::Output>, out: &mut Vec<Effect>) {
    for output in wanted {
        match output {
            election::Output::Campaign => out.push(Effect::Campaign),
            election::Output::Send(to, message) => send(out, to, &Message::Election(message)),
        }
    }
}

/// Sends a message that is known to fit.
fn send(out: &mut Vec<Effect>, to: NodeId, message: &Message) {
    let bytes = message.encode().expect("every message fits a datagram: names and epochs are bounded");
    out.push(Effect::Send { to, bytes });
}
