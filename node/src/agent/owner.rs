//! The owner of the mesh core: one thread, one loop, nothing in it that waits for a disk, a name or a check.
//!
//! It runs on a real-time thread together with the QUIC endpoint, so that a busy machine does not cost the
//! lease. What takes time is handed to the endpoint driver's thread and to the worker runtime.
//!
//! **Invariant.** Effects are carried out in their order. While the lease records cannot be written, nothing
//! is sent, served or extended: nothing is promised that a restarted agent would not know. And nothing
//! behind a [`Effect::Cease`] is sent before the gate is closed, if need be by waiting for its lease to end.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use stead_proto::id::{Name, NodeId};
use stead_proto::mesh::{Effect, Event, Mesh, Now, Records, Serving};
use stead_proto::report::Unwell;
use stead_proto::roster::Member;
use stead_proto::site::{Driver, EndpointSpec};
use stead_proto::state::State;
use stead_proto::time::Instant;
use tokio::sync::{mpsc, watch};

use super::gating::Gating;
use super::inlets::{Inlets, Work};
use super::licence::Leave;
use super::orders::{Drive, DriverHandle};
use super::outbox::{self, Outbox};
use super::records_file::RecordsFile;
use crate::clock;
use crate::transport::{Directory, Transport};

/// The version that a status shows.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// The core and its hands.
pub(super) struct Owner {
    pub(super) me: NodeId,
    pub(super) mesh: Mesh,
    pub(super) records: RecordsFile,
    pub(super) gate: Gating,
    pub(super) driver: DriverHandle,
    pub(super) transport: Transport,
    /// For what takes time.
    pub(super) worker: Outbox,
    pub(super) peers: Vec<NodeId>,
    /// The newest lease records, if they could not be written yet.
    pub(super) unwritten: Option<Records>,
    /// Endpoints that wait for them.
    pub(super) withheld: BTreeSet<Name>,
    /// For the lookout, which renews the licence.
    pub(super) leave: Leave,
    /// Who may talk to this node.
    pub(super) directory: Directory,
    /// Who was cut off, for the firewall.
    pub(super) outcasts: watch::Sender<BTreeSet<NodeId>>,
}

impl Owner {
    /// Runs until the agent was told to stop and has given back what it held.
    pub(super) async fn run(mut self, mut inlets: Inlets) {
        let mut effects = Vec::new();
        loop {
            // Whatever else happens: what waits does not wait for a quiet moment.
            self.worker.retry();
            let again = self.worker.waits().then_some(outbox::RETRY_AFTER);
            let event = match inlets.next(self.mesh.deadline(), again).await {
                Work::Event(event) => event,
                Work::Query(query) => {
                    let status = self.mesh.status(now(), VERSION);
                    let _ = query.reply.send(Box::new(status));
                    continue;
                }
                Work::Retry => continue,
            };
            if let Event::State(state) = &event {
                self.follow(state);
            }
            let stops = matches!(event, Event::Stop);
            self.mesh.handle(now(), event, &mut effects);
            let mut news = VecDeque::from(self.carry_out(&mut effects));
            while let Some(event) = news.pop_front() {
                self.mesh.handle(now(), event, &mut effects);
                news.extend(self.carry_out(&mut effects));
            }
            if stops {
                return;
            }
        }
    }

    /// The gate guards every address of the site, also those that others hold.
    fn follow(&mut self, state: &State) {
        let outcasts = self.outcasts.borrow();
        self.peers = state.trusted().filter(|id| *id != self.me && !outcasts.contains(id)).collect();
        drop(outcasts);
        let wanted: Vec<IpAddr> = vips(state).values().copied().collect();
        let serving = self.mesh.serving();
        self.gate.follow(&wanted, |address| serving.values().any(|s| s.spec.address == address));
    }

    /// Carries out effects in their order; says what the core has to know of it at once.
    fn carry_out(&mut self, effects: &mut Vec<Effect>) -> Vec<Event> {
        let mut news = Vec::new();
        self.gate.forget_troubles(clock::now(), &mut news);
        if let Some(records) = self.unwritten.clone() {
            self.remember(records);
        }
        for effect in effects.drain(..) {
            match effect {
                Effect::Remember(records) => self.remember(records),
                Effect::Serve { endpoint, .. } if self.unwritten.is_some() => {
                    self.withheld.insert(endpoint);
                }
                Effect::Send { .. } | Effect::Report(_) | Effect::Exhibit(_) | Effect::Extend { .. }
                    if self.unwritten.is_some() => {}
                Effect::Send { to, bytes } => {
                    if let Err(error) = self.transport.send_datagram(to, bytes.into()) {
                        tracing::trace!(%to, %error, "datagram not sent");
                    }
                }
                Effect::Report(bytes) => self.report(&Bytes::from(bytes)),
                Effect::Exhibit(bytes) => self.exhibit(&Bytes::from(bytes)),
                Effect::Serve { endpoint, serving } => self.serve(endpoint, *serving, &mut news),
                Effect::Extend { endpoint, until } => self.extend(&endpoint, until, &mut news),
                Effect::Cease { endpoint, serving } => self.cease(endpoint, *serving),
                Effect::License => self.leave.give(clock::now()),
                Effect::CutOff(member) => self.cut_off(&member),
                Effect::Quarantine => {
                    tracing::error!(
                        "this node was cut off by its peers: it takes part in nothing any more, and nothing leaves this \
                         host but to the guard's friends; ask `stead incidents` on one of them why"
                    );
                    self.leave.end();
                }
                effect @ (Effect::HoldingPage { .. }
                | Effect::Look(_)
                | Effect::Demoted(_)
                | Effect::Fence(_)
                | Effect::Campaign
                | Effect::Propose { .. }
                | Effect::Follow { .. }
                | Effect::Admit { .. }
                | Effect::KeepMemories(_)
                | Effect::KeepConvictions(_)
                | Effect::Join
                | Effect::Lost { .. }) => {
                    let dropped = self.worker.give(effect);
                    news.extend(dropped.map(|ticket| Event::Proposed { ticket, done: false }));
                }
            }
        }
        self.serve_withheld(&mut news);
        news
    }

    /// Closes what is open with a node and refuses its key, from now on; the firewall follows a moment later.
    fn cut_off(&mut self, member: &Member) {
        tracing::warn!(node = %member.id, name = %member.name, "cut off: it was convicted by its peers or an operator");
        self.directory.ban(member.key);
        self.peers.retain(|peer| *peer != member.id);
        self.outcasts.send_modify(|outcasts| {
            outcasts.insert(member.id);
        });
    }

    fn remember(&mut self, records: Records) {
        match self.records.write(&records) {
            Ok(()) => self.unwritten = None,
            Err(error) => {
                if self.unwritten.replace(records).is_none() {
                    tracing::error!(
                        %error,
                        "nothing is promised or served until the lease records can be written: make room \
                         in the run directory"
                    );
                }
            }
        }
    }

    fn serve_withheld(&mut self, news: &mut Vec<Event>) {
        if self.unwritten.is_some() {
            return;
        }
        for endpoint in std::mem::take(&mut self.withheld) {
            if let Some(serving) = self.mesh.serving().get(&endpoint).cloned() {
                self.serve(endpoint, serving, news);
            }
        }
    }

    fn report(&self, bytes: &Bytes) {
        for peer in &self.peers {
            if let Err(error) = self.transport.send_report(*peer, bytes.clone()) {
                tracing::trace!(%peer, %error, "report not sent");
            }
        }
    }

    fn exhibit(&self, bytes: &Bytes) {
        for peer in &self.peers {
            if let Err(error) = self.transport.send_exhibit(*peer, bytes.clone()) {
                tracing::trace!(%peer, %error, "exhibit not sent");
            }
        }
    }

    fn serve(&mut self, endpoint: Name, serving: Serving, news: &mut Vec<Event>) {
        // Before the gate: the journal's time is never later than the first frame.
        let at_ns = clock::now().as_ns();
        tracing::info!(%endpoint, address = %serving.spec.address, epoch = %serving.epoch, at_ns, "the gate opens");
        if self.gate.open(&endpoint, &serving, clock::now(), news) {
            self.driver.tell(Drive::Serve { endpoint, serving: Box::new(serving) });
        }
    }

    fn extend(&mut self, endpoint: &Name, until: Instant, news: &mut Vec<Event>) {
        let Some(serving) = self.mesh.serving().get(endpoint) else { return };
        if self.gate.extend(endpoint, serving, until, clock::now(), news) {
            let serving = Box::new(serving.clone());
            self.driver.tell(Drive::Serve { endpoint: endpoint.clone(), serving });
        }
        self.driver.extend(endpoint, until);
    }

    fn cease(&mut self, endpoint: Name, serving: Serving) {
        // The driver repairs what disappears: not this.
        self.driver.extend(&endpoint, Instant::ZERO);
        if let Some(left) = self.gate.close(&endpoint, &serving, clock::now()) {
            // What follows tells the others that this gate is closed: it has to be true by then.
            std::thread::sleep(Duration::from_nanos(left.as_ns()));
        }
        self.driver.tell(Drive::Cease { endpoint, serving: Box::new(serving) });
    }
}

/// The addresses that the `vip` driver moves.
pub(super) fn vips(state: &State) -> BTreeMap<Name, IpAddr> {
    let endpoints = state.site.endpoints.iter();
    endpoints.filter(|(_, spec)| is_vip(spec)).map(|(name, spec)| (name.clone(), spec.address)).collect()
}

/// Whether the kernel's gate is what ends it.
pub(super) fn is_vip(spec: &EndpointSpec) -> bool {
    match spec.driver {
        Driver::Vip => true,
        Driver::Exec(_) => false,
    }
}

/// Both clocks.
pub(super) fn now() -> Now {
    let unix = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Now { at: clock::now(), unix_ms: u64::try_from(unix.as_millis()).unwrap_or(u64::MAX) }
}

/// Tells the owner that something is wrong with this node, or is not any more.
pub(super) async fn tell_unwell(events: &mpsc::Sender<Event>, what: Unwell, on: bool) {
    let _ = events.send(Event::Unwell { what, on }).await;
}

/// The state as an event.
pub(super) fn state_event(state: &Arc<State>) -> Event {
    Event::State(state.clone())
}
