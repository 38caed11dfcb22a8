//! The holding page: what visitors get when nothing healthy is left behind an endpoint.
//!
//! Every HTTP request to the endpoint's address is answered `503 Service Unavailable` with `Retry-After`:
//! for a search engine that means "come back later", where a refused connection or a 404 means "forget it".
//!
//! | the application | with BPF | without |
//! |---|---|---|
//! | is gone, its port is free | steered | bound |
//! | hangs and holds its port | steered | [`HoldingError::PortTaken`] |
//! | wants its port again | takes it | cannot, until [`Holding::stop`] |
//!
//! *Steered*: a program in the kernel's socket lookup hands the connections to a socket of ours on the loopback
//! address; the port itself is never touched. It is tried first, always, since a restarted application that
//! finds its port taken would never come back. *Bound*: we listen on the address and port ourselves; stop it
//! before the application is restarted.
//!
//! **TLS.** There is no certificate here, so there is no page on ports that speak TLS
//! ([`TLS_PORTS`]): they are closed (refused when steered, left alone when bound) while the page stands, and a TLS
//! handshake on any other port is hung up on. A site that is only reached through `https://` shows its visitors
//! their browser's own message until its certificate can be used here.
//!
//! **Invariant.** The page can be prepared on a node that does not have the address: it is answered from the
//! moment on that the address is there, and kept from the application not a moment after `stop`.

mod page;
mod server;
mod steer;

pub use page::{Page, RETRY_AFTER_S};
pub use server::{CLIENT_TIME_MAX, CLIENTS_MAX, HEAD_BYTES_MAX};

use page::Answer;
use server::Listener;
use socket2::{Domain, Protocol, Socket, Type};
use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;
use steer::{Fate, Steering};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

/// Ports of one address that may be held.
pub const PORTS_MAX: usize = 16;
/// Ports that are known to speak TLS: without a certificate, nothing can be said there.
pub const TLS_PORTS: [u16; 2] = [443, 8443];

/// Connections that wait for being accepted.
const BACKLOG: i32 = 1_024;
/// Loading a program takes milliseconds; a kernel that takes longer is not waited for.
const STEER_TIME_MAX: Duration = Duration::from_secs(2);

/// How the connections come to the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Means {
    /// By the kernel's socket lookup; the ports stay free for the application.
    Steered,
    /// By listening on them; the application cannot have them before [`Holding::stop`].
    Bound,
}

/// Why the page cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum HoldingError {
    /// No port that the page could be shown on.
    #[error("no port for the holding page: give the endpoint a port other than {TLS_PORTS:?}, such as 80")]
    NoPort,
    /// More than [`PORTS_MAX`].
    #[error("{0} ports, where at most {PORTS_MAX} can be held: leave some out")]
    TooManyPorts(usize),
    /// The application holds the port, and the connections cannot be steered around it.
    #[error(
        "port {port} is taken by another program, and connections cannot be steered past it because BPF is not \
         available ({why}): run the agent with CAP_BPF and CAP_NET_ADMIN on Linux 5.9 or newer, or stop that program"
    )]
    PortTaken {
        /// Which port.
        port: u16,
        /// What the kernel said to the BPF program.
        why: String,
    },
    /// Something else about sockets.
    #[error("cannot listen on {at}: {source}")]
    Listen {
        /// The address and port.
        at: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// The network namespace cannot be named.
    #[error("cannot open /proc/thread-self/ns/net: {0}: mount /proc for the agent")]
    Namespace(io::Error),
}

/// A holding page that stands. Dropping it takes it away soon, [`Holding::stop`] at once.
#[derive(Debug)]
pub struct Holding {
    steering: Option<Steering>,
    servers: JoinSet<()>,
    served: Arc<AtomicU64>,
}

/// Shows `page` on `ports` of `address`, which need not be on this node yet. Works in the network namespace of
/// the calling thread.
///
/// # Errors
/// [`HoldingError`], and nothing is held.
pub async fn serve(address: IpAddr, ports: &[u16], page: &Page) -> Result<Holding, HoldingError> {
    let address = address.to_canonical();
    let ports: BTreeSet<u16> = ports.iter().copied().collect();
    if ports.len() > PORTS_MAX {
        return Err(HoldingError::TooManyPorts(ports.len()));
    }
    if ports.iter().all(|port| TLS_PORTS.contains(port)) {
        return Err(HoldingError::NoPort);
    }
    let (steering, listeners) = match steer(address, &ports).await? {
        Ok((steering, listener)) => (Some(steering), vec![listener]),
        Err(why) => {
            tracing::warn!(%address, why, "cannot steer connections to the holding page: binding its ports");
            (None, bind(address, &ports, &why)?)
        }
    };
    let mut holding = Holding { steering, servers: JoinSet::new(), served: Arc::default() };
    let answer = Arc::new(Answer::new(page));
    for listener in listeners {
        let (answer, served) = (answer.clone(), holding.served.clone());
        holding.servers.spawn(server::serve(listener, answer, served));
    }
    tracing::info!(%address, ?ports, means = ?holding.means(), "the holding page stands");
    Ok(holding)
}

impl Holding {
    /// How the connections come to the page.
    #[must_use]
    pub const fn means(&self) -> Means {
        if self.steering.is_some() { Means::Steered } else { Means::Bound }
    }

    /// How many visits were answered.
    #[must_use]
    pub fn served(&self) -> u64 {
        self.served.load(Ordering::Relaxed)
    }

    /// Takes the page away. When this returns, connections go to the application again and all ports are free.
    pub async fn stop(mut self) {
        drop(self.steering.take());
        self.servers.shutdown().await;
    }
}

type Steered = Result<(Steering, Listener), String>;

/// The outer error ends the attempt to hold, the inner one only this way of doing it.
async fn steer(address: IpAddr, ports: &BTreeSet<u16>) -> Result<Steered, HoldingError> {
    let loopback: IpAddr = match address {
        IpAddr::V4(_) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(_) => Ipv6Addr::LOCALHOST.into(),
    };
    let namespace = File::open("/proc/thread-self/ns/net").map_err(HoldingError::Namespace)?;
    let listener = match listen(SocketAddr::new(loopback, 0)) {
        Ok(listener) => listener,
        Err(error) => return Ok(Err(format!("cannot listen on {loopback}: {error}"))),
    };
    let fate = |port: &u16| (*port, if TLS_PORTS.contains(port) { Fate::Refuse } else { Fate::Steer });
    let fates: Vec<(u16, Fate)> = ports.iter().map(fate).collect();
    let loading = spawn_blocking(move || {
        let steering = Steering::attach(address, &fates, &listener, &namespace)?;
        Ok::<_, String>((steering, listener))
    });
    let steered = match timeout(STEER_TIME_MAX, loading).await {
        Ok(Ok(steered)) => steered,
        Ok(Err(error)) => Err(error.to_string()),
        Err(_) => Err("the kernel did not load the program in time".into()),
    };
    Ok(steered.and_then(|(steering, listener)| {
        let listener = Listener::new(listener).map_err(|error| error.to_string())?;
        Ok((steering, listener))
    }))
}

fn bind(address: IpAddr, ports: &BTreeSet<u16>, why: &str) -> Result<Vec<Listener>, HoldingError> {
    let bind_one = |port: &u16| {
        let at = SocketAddr::new(address, *port);
        let listener = listen(at).and_then(Listener::new);
        listener.map_err(|source| {
            if source.kind() == io::ErrorKind::AddrInUse {
                HoldingError::PortTaken { port: *port, why: why.to_owned() }
            } else {
                HoldingError::Listen { at, source }
            }
        })
    };
    ports.iter().filter(|port| !TLS_PORTS.contains(port)).map(bind_one).collect()
}

/// A listening socket whose address need not be there (`IP_FREEBIND`), and whose finished connections do
/// not keep the application from taking its port (`SO_REUSEADDR`).
fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    match at {
        SocketAddr::V4(_) => socket.set_freebind_v4(true)?,
        SocketAddr::V6(_) => {
            socket.set_only_v6(true)?;
            socket.set_freebind_v6(true)?;
        }
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}
