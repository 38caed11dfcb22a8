//! The mesh on the wire: QUIC with mutual TLS over raw public keys, one UDP port for everything.
//!
//! [`Transport`] keeps one connection per peer and plane, dialled by whoever gets through first and used
//! in both directions. Keys are identity; addresses are hints that may all change at once. What arrives
//! comes out of [`Inboxes`], with the name of the peer that TLS proved.
//!
//! **Invariant.** Who is not in the [`Directory`] has no connection: not a new one, and within a moment of
//! [`Directory::replace`] no old one either. Everything here is bounded: connections, streams, frames,
//! queues, and every wait on the network.
//!
//! Deliberately absent: what the frames mean, and any decision about peers. See `stead_proto`.

mod client;
mod core;
mod counters;
mod dial;
mod directory;
mod endpoint;
mod error;
mod inbound;
mod links;
mod mesh_name;
mod plane;
mod profile;
mod send;
mod serve;
mod supervise;
mod tls;
mod whereabouts;
mod wire;

pub use client::{AdminClient, ClientError};
pub use counters::{Counters, Refusal};
pub use directory::{Directory, Standing, Who};
pub use error::{CallError, SendError, TransportError};
pub use inbound::{Datagram, Inbound, Inboxes, Reply};
pub use plane::Plane;
pub use profile::Profile;

use self::core::Core;
use crate::identity::Identity;
use bytes::Bytes;
use links::Links;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use stead_proto::id::{ClusterId, NodeId};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};

/// How often it is looked whether everything has left before the end.
const UNSENT_POLL: Duration = Duration::from_millis(1);

/// A node's connections to its mesh. Clones share them; when the last clone is gone they are closed.
///
/// All methods may be called from any thread and any Tokio runtime. The work is done on the runtime on which
/// [`Transport::start`] was called, and nothing there blocks or computes for long.
#[derive(Clone, Debug)]
pub struct Transport {
    core: Arc<Core>,
    tasks: Arc<Tasks>,
}

/// Bytes on the wire with one peer, over its live connections, without IP and UDP headers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    /// Bytes sent.
    pub sent_bytes: u64,
    /// Packets sent.
    pub sent_packets: u64,
    /// Bytes received.
    pub received_bytes: u64,
    /// Packets received.
    pub received_packets: u64,
}

#[derive(Debug)]
struct Tasks {
    core: Arc<Core>,
    handles: Vec<JoinHandle<()>>,
}

impl Drop for Tasks {
    fn drop(&mut self) {
        self.core.endpoint.close(error::Close::Shutdown.code(), &[]);
        self.handles.iter().for_each(JoinHandle::abort);
    }
}

impl Transport {
    /// Listens on `bind` and starts dialling the nodes in `directory`, on the current Tokio runtime.
    ///
    /// # Errors
    /// [`TransportError`] if the port is taken or the profile does not fit together.
    ///
    /// # Panics
    /// Outside of a Tokio runtime.
    pub fn start(
        identity: &Identity,
        (cluster, me): (ClusterId, NodeId),
        bind: SocketAddr,
        directory: Directory,
        profile: Profile,
        inboxes: Inboxes,
    ) -> Result<Self, TransportError> {
        let name = mesh_name::mesh_name(cluster);
        let endpoint = endpoint::open(identity, &name, bind, &directory, &profile)?;
        let dialling = supervise::Dialling::new(identity, &directory, &profile)?;
        let links = Links::new(me, directory.clone(), &profile);
        let core = Arc::new(Core { me, name, profile, endpoint, links, inboxes });
        let handles = vec![
            tokio::spawn(endpoint::accept(core.clone())),
            tokio::spawn(supervise::enforce(core.clone(), directory, dialling)),
            tokio::spawn(supervise::announce(core.clone())),
        ];
        Ok(Self { tasks: Arc::new(Tasks { core: core.clone(), handles }), core })
    }

    /// The address that the socket is bound to.
    ///
    /// # Errors
    /// Those of `getsockname(2)`.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.core.endpoint.local_addr()
    }

    /// Replaces the addresses under which `peer` may be reached. At most
    /// [`stead_proto::limits::ADDRESSES_MAX`] of them count.
    pub fn set_hints(&self, peer: NodeId, addresses: &[SocketAddr]) {
        self.core.links.set_hints(peer, addresses);
        self.poke(peer);
    }

    /// Ends the pause before the next attempt to reach `peer`.
    pub fn poke(&self, peer: NodeId) {
        self.core.links.poke(peer);
    }

    /// Sends a lease message at once, or not at all. Never waits; when the path is congested the oldest
    /// unsent ones are dropped.
    ///
    /// # Errors
    /// [`SendError`]; nothing was sent.
    pub fn send_datagram(&self, to: NodeId, bytes: Bytes) -> Result<(), SendError> {
        send::datagram(&self.core, to, bytes)
    }

    /// Sends a report as soon as there is a stream for it; takes the place of one that still waits. Never waits.
    ///
    /// # Errors
    /// [`SendError`]; nothing was queued.
    pub fn send_report(&self, to: NodeId, bytes: Bytes) -> Result<(), SendError> {
        send::report(&self.core, to, bytes)
    }

    /// Sends somebody else's report, beside this node's own; the oldest that wait make room. Never waits.
    ///
    /// # Errors
    /// [`SendError`]; nothing was queued.
    pub fn send_exhibit(&self, to: NodeId, bytes: Bytes) -> Result<(), SendError> {
        send::exhibit(&self.core, to, bytes)
    }

    /// Sends a frame of consensus and waits for the answer, at most `deadline`. A connection on which two
    /// calls in a row time out is closed and dialled again.
    ///
    /// # Errors
    /// [`CallError`]; unless it is [`CallError::Send`], the peer may have acted.
    pub async fn call(
        &self,
        to: NodeId,
        frame: Bytes,
        deadline: Duration,
        answer_bytes_max: usize,
    ) -> Result<Vec<u8>, CallError> {
        send::call(&self.core, to, frame, deadline, answer_bytes_max).await
    }

    /// The smoothed round-trip time to `peer`.
    #[must_use]
    pub fn rtt(&self, peer: NodeId) -> Option<Duration> {
        self.core.links.best(peer, Plane::Report).map(|live| live.connection.rtt())
    }

    /// The peers whose report plane stands.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        self.core.links.connected().into_keys().collect()
    }

    /// Live connections with `peer` on `plane`; more than one only while a newer one takes over.
    #[must_use]
    pub fn connections(&self, peer: NodeId, plane: Plane) -> usize {
        self.core.links.all(peer).iter().filter(|live| live.plane == plane).count()
    }

    /// What the live connections with `peer` have cost so far.
    #[must_use]
    pub fn traffic(&self, peer: NodeId) -> Traffic {
        self.core.links.all(peer).iter().fold(Traffic::default(), |sum, live| {
            let stats = live.connection.stats();
            Traffic {
                sent_bytes: sum.sent_bytes + stats.udp_tx.bytes,
                sent_packets: sum.sent_packets + stats.udp_tx.datagrams,
                received_bytes: sum.received_bytes + stats.udp_rx.bytes,
                received_packets: sum.received_packets + stats.udp_rx.datagrams,
            }
        })
    }

    /// What was refused, dropped and given up since the start.
    #[must_use]
    pub fn counters(&self) -> Counters {
        self.core.links.tally.read()
    }

    /// Lets what was said last leave, tells all peers that this node goes, and waits until they know: each at
    /// most half of `deadline`.
    pub async fn close(self, deadline: Duration) {
        let core = &self.core;
        // A closed connection sends nothing more, and a lease that is given back must not be lost with it.
        let _ = timeout(deadline / 2, async {
            while core.links.has_unsent() {
                sleep(UNSENT_POLL).await;
            }
        })
        .await;
        core.endpoint.close(error::Close::Shutdown.code(), &[]);
        // A peer that does not answer any more finds out by itself.
        let _ = timeout(deadline / 2, core.endpoint.wait_idle()).await;
        drop(self.tasks);
    }
}
