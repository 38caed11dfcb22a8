//! The world: nodes with a gate each, a network, a log that is given, and virtual time.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, BinaryHeap};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use stead_proto::codec;
use stead_proto::command::Command;
use stead_proto::fence::FenceOrder;
use stead_proto::genesis::Genesis;
use stead_proto::id::{ClusterId, Name, NodeId};
use stead_proto::lease::BootId;
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, REPORT_FRAME_BYTES_MAX};
use stead_proto::memory::{Memories, Memory};
use stead_proto::mesh::{Conviction, Effect, Event, Mesh, Now, RaftFacts, Records, Start, Uplink};
use stead_proto::order::{Act, Order};
use stead_proto::outside::{HostKey, Look, Page, Sight};
use stead_proto::report::{self, GateSeen, Report, ServiceSeen};
use stead_proto::roster::{Member, Operator, OperatorRole, Role, Standing};
use stead_proto::seed::Seed;
use stead_proto::service::{Check, Service, StatusRange};
use stead_proto::sign::{SecretKey, Signed};
use stead_proto::site::{Driver, EndpointSpec, HoldingText, Site};
use stead_proto::state::State;
use stead_proto::time::{Instant, Span};
use zeroize::Zeroizing;

pub(crate) const LEASE_MS: u32 = 350;
pub(crate) const HOP: Span = Span::from_ms(1);

pub(crate) fn key(seed: u8) -> SecretKey {
    SecretKey::from_seed(&Zeroizing::new([seed; 32]))
}

/// Where a node is, by the roster.
pub(crate) fn home(id: NodeId) -> IpAddr {
    IpAddr::from([198, 51, 100, id.0 as u8])
}

pub(crate) fn www() -> Name {
    "www".parse().unwrap()
}

pub(crate) fn web() -> Name {
    "web".parse().unwrap()
}

pub(crate) fn member(id: u64) -> Member {
    Member {
        id: NodeId(id),
        name: format!("n{id}").parse().unwrap(),
        key: key(id as u8).public(),
        role: Role::Voter,
        addresses: vec![SocketAddr::new(home(NodeId(id)), 7832)],
        standing: Standing::Active,
    }
}

pub(crate) fn genesis(nodes: u64) -> Genesis {
    let mut site = Site::default();
    let expect = StatusRange { from: 200, to: 299 };
    let check = Check::Http { port: 80, path: "/".into(), host: None, expect };
    site.services.insert(web(), Service::new(web(), check));
    let spec = EndpointSpec {
        address: "192.0.2.10".parse().unwrap(),
        ports: vec![80],
        services: BTreeSet::from([web()]),
        driver: Driver::Vip,
        lease_ms: LEASE_MS,
        prefer: Vec::new(),
        holding: HoldingText::default(),
    };
    site.endpoints.insert(www(), spec);
    let operator = Operator { name: "ann".parse().unwrap(), role: OperatorRole::Admin, serial: 0 };
    Genesis {
        nonce: [0; 16],
        members: (1..=nodes).map(member).collect(),
        operators: BTreeMap::from([(key(99).public(), operator)]),
        site,
    }
}

pub(crate) struct Node {
    pub(crate) mesh: Option<Mesh>,
    pub(crate) records: Option<Records>,
    pub(crate) incarnation: u64,
    pub(crate) applied: usize,
    pub(crate) memories: Memories,
    pub(crate) convictions: Vec<Conviction>,
    /// Whom its agent refuses and has no connection with.
    pub(crate) refused: BTreeSet<NodeId>,
    pub(crate) quarantined: bool,
    pub(crate) healthy: bool,
    pub(crate) holding_page: bool,
    pub(crate) joined: bool,
    /// The term of its vote.
    pub(crate) term: u64,
    /// Whom it voted for, if not for the leader.
    pub(crate) voted_for: Option<NodeId>,
    /// The kernel's gate: open until.
    pub(crate) gate: Instant,
    /// What it was given when it was admitted.
    pub(crate) seed: Option<Seed>,
    /// How slow it is, by what the node says from its next boot on.
    pub(crate) slack_ms: u32,
}

pub(crate) struct World {
    pub(crate) now: Instant,
    pub(crate) cluster: ClusterId,
    pub(crate) genesis: Genesis,
    pub(crate) nodes: BTreeMap<NodeId, Node>,
    pub(crate) queue: BinaryHeap<Reverse<(Instant, u64, NodeId)>>,
    pub(crate) events: BTreeMap<u64, Event>,
    pub(crate) sequence: u64,
    pub(crate) log: Vec<Vec<u8>>,
    pub(crate) leader: Option<NodeId>,
    pub(crate) uplink: Uplink,
    /// The terms of peers that a leader let count.
    pub(crate) admitted: Vec<u64>,
    pub(crate) cut: BTreeSet<(NodeId, NodeId)>,
    /// Where the sessions of a node come from, if not from its home.
    pub(crate) elsewhere: BTreeMap<NodeId, IpAddr>,
    /// Who takes in no datagrams: what is said to it changes nothing.
    pub(crate) deaf: BTreeSet<NodeId>,
    /// Reports that anybody made.
    pub(crate) reports: usize,
    /// Reports of others that anybody showed.
    pub(crate) exhibits: usize,
    /// The SSH host key that a server shows, if one answers there.
    pub(crate) host_keys: BTreeMap<NodeId, HostKey>,
    /// What a holder shows visitors, if it is not what it should be.
    pub(crate) pages: BTreeMap<NodeId, Page>,
    /// Fence commands that were run: by whom, and which.
    pub(crate) fenced: Vec<(NodeId, FenceOrder)>,
    /// Whose fence commands fail, and who never ends one.
    pub(crate) fence_fails: BTreeSet<NodeId>,
    pub(crate) fence_hangs: BTreeSet<NodeId>,
    /// Looks from outside.
    pub(crate) looks: usize,
    /// Whose reports go nowhere.
    pub(crate) mute: BTreeSet<NodeId>,
    /// Who tells every second node something else: the last link of that other chain.
    pub(crate) two_faced: BTreeMap<NodeId, [u8; 32]>,
}

impl World {
    pub(crate) fn start(nodes: u64) -> Self {
        let genesis = genesis(nodes);
        let cluster = genesis.cluster().unwrap();
        let mut world = Self {
            now: Instant::from_ns(1_000_000_000_000),
            cluster,
            genesis,
            nodes: BTreeMap::new(),
            queue: BinaryHeap::new(),
            events: BTreeMap::new(),
            sequence: 0,
            log: Vec::new(),
            leader: Some(NodeId(1)),
            uplink: Uplink::Trusted,
            admitted: Vec::new(),
            cut: BTreeSet::new(),
            elsewhere: BTreeMap::new(),
            deaf: BTreeSet::new(),
            reports: 0,
            exhibits: 0,
            host_keys: BTreeMap::new(),
            pages: BTreeMap::new(),
            looks: 0,
            fenced: Vec::new(),
            fence_fails: BTreeSet::new(),
            fence_hangs: BTreeSet::new(),
            mute: BTreeSet::new(),
            two_faced: BTreeMap::new(),
        };
        for id in (1..=nodes).map(NodeId) {
            world.join(id, None);
        }
        world
    }

    /// The very first start of a node.
    pub(crate) fn join(&mut self, id: NodeId, seed: Option<Seed>) {
        let node = Node {
            mesh: None,
            records: None,
            incarnation: 0,
            applied: 0,
            memories: Memories::default(),
            convictions: Vec::new(),
            refused: BTreeSet::new(),
            quarantined: false,
            healthy: true,
            holding_page: false,
            joined: false,
            term: 1,
            voted_for: None,
            gate: Instant::ZERO,
            slack_ms: 0,
            seed,
        };
        self.nodes.insert(id, node);
        self.boot(id);
    }

    pub(crate) fn state_at(&self, applied: usize) -> State {
        let mut state = State::begin(self.cluster, &self.genesis);
        for (i, command) in self.log.iter().take(applied).enumerate() {
            state.apply(i as u64 + 1, command);
        }
        state
    }

    pub(crate) fn boot(&mut self, id: NodeId) {
        let (now, applied) = (self.now, self.nodes[&id].applied);
        let state = Arc::new(self.state_at(applied));
        let node = self.nodes.get_mut(&id).unwrap();
        let state = node.seed.as_ref().map_or(state.clone(), |seed| seed.view(state));
        let own = Memory { incarnation: node.incarnation, term: 1, durable: (1, applied as u64) };
        let newborn = node.incarnation == 0;
        let records = Records::resume(node.records.clone(), BootId([1; 16]), applied as u64, newborn, now);
        node.incarnation += 1;
        node.joined = false;
        node.refused = BTreeSet::new();
        let start = Start {
            me: id,
            key: key(id.0 as u8),
            state,
            records,
            own,
            incarnation: node.incarnation,
            memories: node.memories.clone(),
            convictions: node.convictions.clone(),
            election_timeout: Span::from_ms(1_000),
            seed: id.0,
            gate: GateSeen { rung: "test".into(), slack_ms: node.slack_ms, shortfalls: Vec::new() },
            uplink: self.uplink.clone(),
        };
        node.mesh = Some(Mesh::new(now, start));
        let seen = if node.healthy { ServiceSeen::Healthy } else { ServiceSeen::Down("test".into()) };
        self.push(now, id, Event::Service { name: web(), seen: Some(seen) });
        self.tell_raft();
        self.push(now, id, Event::Timer);
    }

    pub(crate) fn crash(&mut self, id: NodeId) {
        self.nodes.get_mut(&id).unwrap().mesh = None;
        if self.leader == Some(id) {
            self.leader = None;
        }
        self.tell_raft();
    }

    pub(crate) fn service(&mut self, id: NodeId, healthy: bool) {
        self.nodes.get_mut(&id).unwrap().healthy = healthy;
        let seen = if healthy { ServiceSeen::Healthy } else { ServiceSeen::Down("test".into()) };
        self.push(self.now, id, Event::Service { name: web(), seen: Some(seen) });
    }

    pub(crate) fn isolate(&mut self, id: NodeId, cut: bool) {
        let others: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
        for other in others {
            for pair in [(id, other), (other, id)] {
                if cut {
                    self.cut.insert(pair)
                } else {
                    self.cut.remove(&pair)
                };
            }
        }
        if cut && self.leader == Some(id) {
            self.leader = None;
        }
        self.tell_raft();
    }

    pub(crate) fn order(&mut self, act: Act) {
        let order = Order { serial: self.now.as_ns(), act };
        let signed = key(99).sign(self.cluster, &order).unwrap();
        self.commit(&Command::Order(signed));
    }

    pub(crate) fn commit(&mut self, command: &Command) {
        self.log.push(codec::encode(command, COMMAND_FRAME_BYTES_MAX).unwrap());
        self.publish();
    }

    /// Everybody who can reach the leader learns the state.
    pub(crate) fn publish(&mut self) {
        if self.leader.is_none() {
            return;
        }
        let state = Arc::new(self.state_at(self.log.len()));
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let member = state.members.contains_key(&id);
            if member && self.nodes[&id].mesh.is_some() && self.follows(id) {
                self.nodes.get_mut(&id).unwrap().applied = self.log.len();
                self.push(self.now.after(HOP), id, Event::State(state.clone()));
            }
        }
        self.tell_raft();
    }

    pub(crate) fn tell_raft(&mut self) {
        let voters: BTreeSet<NodeId> = self.nodes.keys().copied().collect();
        let ids: Vec<NodeId> = self.nodes.keys().copied().collect();
        for id in ids {
            let reaches = self.follows(id);
            let index = self.nodes[&id].applied as u64;
            let facts = RaftFacts {
                term: self.nodes[&id].term,
                voted_for: self.nodes[&id].voted_for.or(self.leader).unwrap_or_default(),
                last: (1, index),
                durable: (1, index),
                leader: self.leader.filter(|_| reaches),
                leading: self.leader == Some(id),
                able: true,
                voters: voters.clone(),
                learners: BTreeSet::new(),
            };
            self.push(self.now, id, Event::Raft(facts));
            if reaches && self.leader != Some(id) {
                self.push(self.now, id, Event::LeaderHeard);
            }
        }
    }

    /// Whether a node hears the leader, and listens to it.
    pub(crate) fn follows(&self, id: NodeId) -> bool {
        self.leader.is_some_and(|l| {
            l == id || !(self.cut.contains(&(l, id)) || self.nodes[&id].refused.contains(&l))
        })
    }

    pub(crate) fn push(&mut self, at: Instant, to: NodeId, event: Event) {
        self.sequence += 1;
        self.events.insert(self.sequence, event);
        self.queue.push(Reverse((at, self.sequence, to)));
    }

    pub(crate) fn run_ms(&mut self, ms: u64) {
        let end = self.now.after(Span::from_ms(ms));
        let mut beat = self.now;
        while self.now < end {
            if self.now >= beat {
                self.tell_raft();
                beat = self.now.after(Span::from_ms(250));
            }
            self.step(end.min(beat));
        }
    }

    pub(crate) fn step(&mut self, end: Instant) {
        let timer = self
            .nodes
            .iter()
            .filter_map(|(id, node)| Some((node.mesh.as_ref()?.deadline().max(self.now), *id)))
            .min();
        let event = self.queue.peek().map(|Reverse((at, ..))| *at);
        let (at, is_timer) = match (timer, event) {
            (Some((t, _)), Some(e)) if t < e => (t, true),
            (Some((t, _)), None) => (t, true),
            (_, Some(e)) => (e, false),
            (None, None) => (end, false),
        };
        if at >= end {
            self.now = end;
            return;
        }
        self.now = self.now.max(at);
        if is_timer {
            self.handle(timer.unwrap().1, Event::Timer);
        } else if let Some(Reverse((_, sequence, to))) = self.queue.pop() {
            let event = self.events.remove(&sequence).unwrap();
            self.handle(to, event);
        }
        self.check_one_holder();
    }

    pub(crate) fn handle(&mut self, id: NodeId, event: Event) {
        let now = Now { at: self.now, unix_ms: self.now.as_ns() / 1_000_000 };
        let Some(mesh) = self.nodes.get_mut(&id).and_then(|n| n.mesh.as_mut()) else { return };
        let mut effects = Vec::new();
        mesh.handle(now, event, &mut effects);
        for effect in effects {
            self.carry_out(id, effect);
        }
    }

    pub(crate) fn carry_out(&mut self, id: NodeId, effect: Effect) {
        let arrival = self.now.after(HOP);
        match effect {
            Effect::Remember(records) => self.node(id).records = Some(records),
            Effect::Send { to, bytes } => {
                if !self.cut.contains(&(id, to)) && !self.deaf.contains(&to) {
                    self.push(arrival, to, Event::Datagram { from: id, bytes });
                }
            }
            Effect::Report(bytes) => {
                self.reports += 1;
                let others: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
                let other_face = self.other_face(id, &bytes);
                for (i, to) in others.into_iter().enumerate() {
                    let at = Some(self.elsewhere.get(&id).copied().unwrap_or(home(id)));
                    let bytes = other_face.as_ref().filter(|_| i % 2 == 0).unwrap_or(&bytes).clone();
                    if !self.mute.contains(&id) && !self.cut.contains(&(id, to)) {
                        self.push(arrival, to, Event::Report { from: id, at, bytes });
                    }
                }
            }
            Effect::Exhibit(bytes) => {
                self.exhibits += 1;
                let others: Vec<NodeId> = self.nodes.keys().copied().filter(|n| *n != id).collect();
                for to in others.into_iter().filter(|to| !self.cut.contains(&(id, *to))).collect::<Vec<_>>() {
                    self.push(arrival, to, Event::Report { from: id, at: None, bytes: bytes.clone() });
                }
            }
            Effect::Serve { serving, .. } => self.node(id).gate = serving.until,
            Effect::Extend { until, .. } => self.node(id).gate = until,
            Effect::Cease { .. } => self.node(id).gate = Instant::ZERO,
            Effect::HoldingPage { on, .. } => self.node(id).holding_page = on,
            Effect::Campaign => {
                self.leader = Some(id);
                self.tell_raft();
                self.publish();
            }
            Effect::Propose { ticket, command } => {
                let following = self.nodes.keys().filter(|node| self.follows(**node)).count();
                let done = self.leader == Some(id) && 2 * following > self.nodes.len();
                if done {
                    self.commit(&command);
                }
                self.push(arrival, id, Event::Proposed { ticket, done });
            }
            Effect::Look(look) => {
                self.looks += 1;
                let seen = self.seen(look);
                self.push(arrival, id, Event::Saw(seen));
            }
            Effect::Fence(order) => {
                let (node, epoch) = (order.node, order.epoch);
                self.fenced.push((id, order));
                let failed =
                    self.fence_fails.contains(&id).then(|| "status 1: no route to the provider".to_string());
                if !self.fence_hangs.contains(&id) {
                    self.push(
                        self.now.after(Span::from_ms(3_000)),
                        id,
                        Event::Fenced { node, epoch, failed },
                    );
                }
            }
            Effect::Demoted(nodes) => {
                if self.leader.is_some_and(|leader| nodes.contains(&leader)) {
                    self.leader = None;
                    self.tell_raft();
                }
            }
            Effect::Follow { .. } | Effect::License => {}
            Effect::Admit { term, .. } => self.admitted.push(term),
            Effect::KeepMemories(memories) => self.node(id).memories = memories,
            Effect::CutOff(member) => drop(self.node(id).refused.insert(member.id)),
            Effect::KeepConvictions(convictions) => self.node(id).convictions = convictions,
            Effect::Quarantine => self.node(id).quarantined = true,
            Effect::Join => self.node(id).joined = true,
            Effect::Lost { seen } => panic!("{id} lost: {seen:?}"),
        }
    }

    fn seen(&self, look: Look) -> Sight {
        match look {
            Look::HostKey { node, at } => {
                assert_eq!(at, [SocketAddr::new(home(node), 22)]);
                Sight::HostKey { node, key: self.host_keys.get(&node).copied() }
            }
            Look::Page { endpoint, holder, at, path, .. } => {
                assert!(at.to_string() == "192.0.2.10:80" && path.starts_with('/'));
                let page = self.pages.get(&holder.0).cloned().unwrap_or(Page::AsExpected);
                Sight::Page { endpoint, holder, page }
            }
        }
    }

    /// The report that a two-faced node makes for the others: another wall clock, in a chain of its own.
    fn other_face(&mut self, id: NodeId, bytes: &[u8]) -> Option<Vec<u8>> {
        let previous = self.two_faced.get_mut(&id)?;
        let signed: Signed<Report> = codec::decode(bytes, REPORT_FRAME_BYTES_MAX).unwrap();
        let report = signed.verify(self.cluster).unwrap();
        let unix_ms = report.unix_ms + 1;
        let other = key(id.0 as u8).sign(self.cluster, &Report { unix_ms, previous: *previous, ..report });
        let other = other.unwrap();
        *previous = report::link(&other);
        Some(codec::encode(&other, REPORT_FRAME_BYTES_MAX).unwrap())
    }

    pub(crate) fn node(&mut self, id: NodeId) -> &mut Node {
        self.nodes.get_mut(&id).unwrap()
    }

    pub(crate) fn holders(&self) -> Vec<NodeId> {
        self.nodes.iter().filter(|(_, n)| n.gate > self.now).map(|(id, _)| *id).collect()
    }

    pub(crate) fn check_one_holder(&self) {
        let holders = self.holders();
        assert!(holders.len() <= 1, "{holders:?} at once at {:?}", self.now);
    }

    /// Runs until somebody other than `not` serves; returns who, and after how many ms.
    pub(crate) fn until_served(&mut self, not: Option<NodeId>, within_ms: u64) -> (NodeId, u64) {
        let start = self.now;
        for _ in 0..within_ms {
            if let Some(holder) = self.holders().first().filter(|h| Some(**h) != not) {
                return (*holder, self.now.since(start).as_ms());
            }
            self.run_ms(1);
        }
        panic!("nobody serves after {within_ms} ms: {:#?}", self.explain());
    }

    pub(crate) fn explain(&self) -> Vec<String> {
        let now = Now { at: self.now, unix_ms: 0 };
        let status = |(id, node): (&NodeId, &Node)| {
            let Some(mesh) = &node.mesh else { return format!("{id} down") };
            let status = mesh.status(now, "test");
            format!("{id}: {:?} {:?} plans {:?}", status.waiting, status.endpoints, status.state.plans)
        };
        self.nodes.iter().map(status).collect()
    }
}

pub(crate) fn settled(nodes: u64) -> (World, NodeId) {
    let mut world = World::start(nodes);
    let (holder, _) = world.until_served(None, 5_000);
    world.run_ms(3_000);
    assert_eq!(world.holders(), [holder]);
    (world, holder)
}

/// The same in a mesh that leaves judging to its operators.
pub(crate) fn unjudged(nodes: u64) -> (World, NodeId) {
    let (mut world, holder) = settled(nodes);
    let state = world.state_at(world.log.len());
    let mut site = state.site.clone();
    site.charter.isolate = false;
    world.order(Act::Apply { base: state.site_version, site: Box::new(site), text: String::new() });
    world.run_ms(1_000);
    (world, holder)
}
