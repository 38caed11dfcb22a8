//! Who is connected: every live connection, the addresses to try, and which of two connections to keep.
//!
//! **Invariant.** At most [`LIVE_MAX`] connections per peer and plane; the first of them is the one that is
//! sent on, all are read from. A connection is listed only if its key is in the directory; both are
//! compared under one lock, so that an eviction can never slip between.
//!
//! Deliberately absent: tasks and waiting. Every function here returns at once.

use super::counters::Tally;
use super::directory::{Directory, Standing, Table, Who};
use super::error::Close;
use super::plane::Plane;
use super::profile::{CALLS_AT_ONCE_MAX, OPERATOR_CALLS_AT_ONCE_MAX, OPERATOR_CONNECTIONS_MAX, Profile};
use super::whereabouts::Whereabouts;
use bytes::Bytes;
use quinn::Connection;
use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use stead_proto::id::{NodeId, PublicKey};
use stead_proto::limits::NODES_MAX;
use tokio::sync::{Notify, Semaphore};

/// Two of a simultaneous dial, and one that is being replaced.
const LIVE_MAX: usize = 3;
/// Exhibits that wait for one peer.
const EXHIBITS_MAX: usize = 4;

/// Peers with known addresses from which on those that are not in the directory are forgotten.
const HINTS_MAX: usize = 2 * NODES_MAX;

/// One authenticated connection.
#[derive(Debug)]
pub(super) struct Live {
    pub(super) connection: Connection,
    pub(super) key: PublicKey,
    pub(super) who: Who,
    pub(super) plane: Plane,
    pub(super) dialled_by: NodeId,
    /// Where the peer was when the handshake was done, which takes its answer: nobody gets that far from an address
    /// that is not his.
    opened_at: IpAddr,
    pub(super) since: Instant,
    /// Calls in a row that timed out.
    pub(super) timeouts: AtomicU32,
    /// The room for datagrams while none waits.
    room_bytes: usize,
}

impl Live {
    pub(super) fn new(
        connection: Connection,
        key: PublicKey,
        who: Who,
        plane: Plane,
        dialled_by: NodeId,
    ) -> Self {
        let room_bytes = connection.datagram_send_buffer_space();
        let (since, timeouts) = (Instant::now(), AtomicU32::new(0));
        let opened_at = connection.remote_address().ip().to_canonical();
        Self { connection, key, who, plane, dialled_by, opened_at, since, timeouts, room_bytes }
    }

    /// Where the peer has been from the handshake on; nothing if it has moved: where it moved to may be made up for
    /// as long as the new path is not validated (RFC 9000, section 9.3).
    pub(super) fn at(&self) -> Option<IpAddr> {
        let here = self.connection.remote_address().ip().to_canonical();
        (here == self.opened_at).then_some(here)
    }

    fn has_unsent(&self) -> bool {
        let waits = self.connection.datagram_send_buffer_space() < self.room_bytes;
        waits && self.connection.close_reason().is_none()
    }
}

/// What became of a new connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admitted {
    /// It is the only one of its peer and plane.
    Alone,
    /// There is another one; after a while this side has to close the worse.
    Contested,
}

/// The wake-up calls of one peer's tasks.
#[derive(Clone, Debug, Default)]
pub(super) struct Bells {
    /// Connections came or went.
    pub(super) changed: Arc<Notify>,
    /// Dial now.
    pub(super) poke: Arc<Notify>,
    /// A report waits.
    pub(super) report: Arc<Notify>,
}

#[derive(Debug, Default)]
struct Slot {
    live: Vec<Arc<Live>>,
    /// How many times it went from none to some.
    generation: u64,
    bells: Bells,
    /// The newest report that was not sent yet.
    report: Option<Bytes>,
    /// Reports of others that shall be shown beside it.
    exhibits: VecDeque<Bytes>,
}

#[derive(Debug, Default)]
struct State {
    slots: BTreeMap<(NodeId, Plane), Slot>,
    /// Connections on the admin plane.
    guests: Vec<Arc<Live>>,
    hints: BTreeMap<NodeId, Whereabouts>,
    permits: BTreeMap<PublicKey, Arc<Semaphore>>,
}

/// All connections of one node.
#[derive(Debug)]
pub(super) struct Links {
    me: NodeId,
    pub(super) directory: Directory,
    /// Older connections than this cannot be twins of a new one.
    twin_age_max: Duration,
    pub(super) tally: Tally,
    /// Someone came or went.
    pub(super) changed: Notify,
    state: Mutex<State>,
}

impl Links {
    pub(super) fn new(me: NodeId, directory: Directory, profile: &Profile) -> Self {
        Self {
            me,
            directory,
            twin_age_max: profile.dial_max.saturating_add(profile.idle_timeout / 2),
            tally: Tally::default(),
            changed: Notify::new(),
            state: Mutex::default(),
        }
    }

    /// Lists a new connection, or says with which code to close it.
    pub(super) fn admit(&self, live: &Arc<Live>) -> Result<Admitted, Close> {
        let mut state = self.lock();
        if self.directory.standing(&live.key) != Standing::Accepted(live.who) {
            return Err(Close::Evicted);
        }
        match (live.plane, live.who) {
            (Plane::Admin, _) => state.admit_guest(live),
            (Plane::Raft | Plane::Report, Who::Operator) => Err(Close::WrongPlane),
            (Plane::Raft | Plane::Report, Who::Node(id)) if id == self.me => Err(Close::WrongPlane),
            (Plane::Raft | Plane::Report, Who::Node(id)) => {
                state.hints.entry(id).or_default().see(live.connection.remote_address());
                let admitted = self.admit_node(state.slots.entry((id, live.plane)).or_default(), live);
                self.changed.notify_one();
                Ok(admitted)
            }
        }
    }

    fn admit_node(&self, slot: &mut Slot, live: &Arc<Live>) -> Admitted {
        let place = match slot.live.first() {
            None => {
                slot.generation += 1;
                0
            }
            Some(old) => usize::from(!self.better(old, live)),
        };
        slot.live.insert(place, live.clone());
        for worst in slot.live.drain(slot.live.len().min(LIVE_MAX)..) {
            self.tally.duplicates.add();
            Close::Duplicate.close(&worst.connection);
        }
        slot.bells.changed.notify_one();
        if slot.live.len() > 1 { Admitted::Contested } else { Admitted::Alone }
    }

    /// Whether `new` takes over from `old`. A peer dials only while it has no connection. So a second one
    /// by the same peer, or one that comes long after the first, means that the first is dead over there;
    /// else both dialled at once, and both sides keep the one that the lower id dialled.
    fn better(&self, old: &Live, new: &Live) -> bool {
        old.dialled_by == new.dialled_by
            || new.since.saturating_duration_since(old.since) > self.twin_age_max
            || new.dialled_by < old.dialled_by
    }

    /// Forgets a connection that has ended.
    pub(super) fn remove(&self, live: &Arc<Live>) {
        let mut state = self.lock();
        state.guests.retain(|other| !Arc::ptr_eq(other, live));
        let Who::Node(id) = live.who else { return };
        let State { slots, hints, .. } = &mut *state;
        let Some(slot) = slots.get_mut(&(id, live.plane)) else { return };
        slot.live.retain(|other| !Arc::ptr_eq(other, live));
        slot.bells.changed.notify_one();
        // Not where it was admitted: a connection follows its client to another address.
        hints.entry(id).or_default().see(live.connection.remote_address());
        self.changed.notify_one();
    }

    /// Closes what lost against a twin. Only the lower id of the two does, or each might close another one.
    pub(super) fn settle(&self, live: &Live) {
        let Who::Node(id) = live.who else { return };
        if id < self.me {
            return;
        }
        let state = self.lock();
        for worse in state.slots.get(&(id, live.plane)).iter().flat_map(|slot| slot.live.iter().skip(1)) {
            self.tally.duplicates.add();
            Close::Duplicate.close(&worse.connection);
        }
    }

    /// Closes and forgets everything that the directory does not accept any more. Returns the table that
    /// this was judged by.
    pub(super) fn enforce(&self) -> Arc<Table> {
        let mut state = self.lock();
        // Under the lock, or a connection that a newer table admits would be judged by an older one.
        let table = self.directory.table();
        let stays = |live: &Arc<Live>| {
            let stays = table.standing(&live.key) == Standing::Accepted(live.who);
            if !stays {
                self.tally.evicted.add();
                Close::Evicted.close(&live.connection);
            }
            stays
        };
        state.guests.retain(stays);
        for slot in state.slots.values_mut() {
            slot.live.retain(stays);
            slot.bells.changed.notify_one();
        }
        state.slots.retain(|(id, _), _| table.peers(self.me).any(|peer| peer == *id));
        state.permits.retain(|key, _| matches!(table.standing(key), Standing::Accepted(_)));
        self.changed.notify_one();
        table
    }

    /// The connection to send on.
    pub(super) fn best(&self, peer: NodeId, plane: Plane) -> Option<Arc<Live>> {
        self.lock().slots.get(&(peer, plane))?.live.first().cloned()
    }

    /// All connections with a peer.
    pub(super) fn all(&self, peer: NodeId) -> Vec<Arc<Live>> {
        let state = self.lock();
        Plane::BETWEEN_NODES
            .iter()
            .filter_map(|plane| state.slots.get(&(peer, *plane)))
            .flat_map(|slot| slot.live.iter().cloned())
            .collect()
    }

    /// Whether datagrams wait to be sent, on any connection.
    pub(super) fn has_unsent(&self) -> bool {
        let state = self.lock();
        state.slots.values().flat_map(|slot| &slot.live).any(|live| live.has_unsent())
    }

    /// The peers with a live report plane, and how many times each came back.
    pub(super) fn connected(&self) -> BTreeMap<NodeId, u64> {
        let up = |((id, plane), slot): (&(NodeId, Plane), &Slot)| {
            (*plane == Plane::Report && !slot.live.is_empty()).then_some((*id, slot.generation))
        };
        self.lock().slots.iter().filter_map(up).collect()
    }

    /// The bells of a peer's plane.
    pub(super) fn bells(&self, peer: NodeId, plane: Plane) -> Bells {
        self.lock().slots.entry((peer, plane)).or_default().bells.clone()
    }

    /// Makes the diallers of `peer` try at once.
    pub(super) fn poke(&self, peer: NodeId) {
        let state = self.lock();
        for slot in Plane::BETWEEN_NODES.iter().filter_map(|plane| state.slots.get(&(peer, *plane))) {
            slot.bells.poke.notify_one();
        }
    }

    /// Puts `report` in the place of the one that was not sent yet. False if there is no connection.
    pub(super) fn queue_report(&self, peer: NodeId, report: Bytes) -> bool {
        let mut state = self.lock();
        let slot = state.slots.get_mut(&(peer, Plane::Report)).filter(|slot| !slot.live.is_empty());
        let Some(slot) = slot else { return false };
        if slot.report.replace(report).is_some() {
            self.tally.reports_dropped.add();
        }
        slot.bells.report.notify_one();
        true
    }

    /// Puts somebody else's report beside it; the oldest one makes room.
    pub(super) fn queue_exhibit(&self, peer: NodeId, exhibit: Bytes) -> bool {
        let mut state = self.lock();
        let slot = state.slots.get_mut(&(peer, Plane::Report)).filter(|slot| !slot.live.is_empty());
        let Some(slot) = slot else { return false };
        slot.exhibits.push_back(exhibit);
        let excess = slot.exhibits.len().saturating_sub(EXHIBITS_MAX);
        slot.exhibits.drain(..excess);
        slot.bells.report.notify_one();
        true
    }

    /// Takes the report that waits, or the next exhibit.
    pub(super) fn take_report(&self, peer: NodeId) -> Option<Bytes> {
        let mut state = self.lock();
        let slot = state.slots.get_mut(&(peer, Plane::Report))?;
        slot.report.take().or_else(|| slot.exhibits.pop_front())
    }

    /// Whether anything waits that [`take_report`](Self::take_report) would take.
    pub(super) fn report_waits(&self, peer: NodeId) -> bool {
        let state = self.lock();
        let slot = state.slots.get(&(peer, Plane::Report));
        slot.is_some_and(|slot| slot.report.is_some() || !slot.exhibits.is_empty())
    }

    /// Replaces the addresses to try.
    pub(super) fn set_hints(&self, peer: NodeId, addresses: &[SocketAddr]) {
        let State { hints, slots, .. } = &mut *self.lock();
        if hints.len() >= HINTS_MAX {
            hints.retain(|known, _| slots.contains_key(&(*known, Plane::Report)));
        }
        hints.entry(peer).or_default().set_candidates(addresses);
    }

    /// The addresses to try, the best first.
    pub(super) fn candidates(&self, peer: NodeId, turn: usize) -> Vec<SocketAddr> {
        self.lock().hints.get(&peer).map(|hints| hints.in_order(turn)).unwrap_or_default()
    }

    /// Whether a peer might be at this address.
    pub(super) fn may_be_a_peer(&self, ip: IpAddr) -> bool {
        self.lock().hints.values().any(|hints| hints.contains(ip))
    }

    /// The places for calls of this key, over all of its connections.
    pub(super) fn permits(&self, live: &Live) -> Arc<Semaphore> {
        let at_once = match live.who {
            Who::Node(_) => CALLS_AT_ONCE_MAX,
            Who::Operator => OPERATOR_CALLS_AT_ONCE_MAX,
        };
        let new = || Arc::new(Semaphore::new(usize::from(at_once)));
        self.lock().permits.entry(live.key).or_insert_with(new).clone()
    }

    /// The lock is held for map operations only, so a panic cannot leave anything half done.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn admit_guest(&mut self, live: &Arc<Live>) -> Result<Admitted, Close> {
        if self.guests.iter().filter(|guest| guest.key == live.key).count() >= OPERATOR_CONNECTIONS_MAX {
            return Err(Close::Crowded);
        }
        self.guests.push(live.clone());
        Ok(Admitted::Alone)
    }
}
