//! The page that an endpoint's holder shows when nothing healthy is left behind it: an honest `503` with
//! `Retry-After`, so that visitors know and search engines wait.
//!
//! **Invariant.** While a page is off, nothing of it listens on the endpoint's ports.
//!
//! Deliberately absent: port 443. Without the site's certificate there is no way to answer there that would
//! not frighten visitors.

mod bound;
mod page;
mod serve;
mod socket;

use page::Page;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use stead_proto::id::Name;
use stead_proto::site::{EndpointSpec, HoldingText};
use tokio::sync::watch;
use tokio::task::JoinSet;

const HTTPS: u16 = 443;

/// The pages of all endpoints on this node.
#[derive(Debug, Default)]
pub struct HoldingPages {
    shown: BTreeMap<Name, Shown>,
}

/// How one port of a page that is on stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PortState {
    /// Visitors get the page; the agent listens on the port.
    Bound,
    /// The port is left to the application for a moment, so that it can come back.
    Lent,
    /// Another program listens there and visitors get what it gives them. Tried again several times a second.
    PortTaken,
    /// The agent cannot listen there; the log says why. Tried again several times a second.
    Failed,
}

/// Why visitors do not get the page.
#[derive(Debug, thiserror::Error)]
pub enum HoldingError {
    /// Somebody else listens there.
    #[error(
        "{0} is taken by another program, and visitors cannot be steered past it: stop that program \
         (`ss -ltnp` names it)"
    )]
    PortTaken(SocketAddr),
    /// The port cannot be had for another reason.
    #[error("cannot listen on {at}: {source}; ports below 1024 need CAP_NET_BIND_SERVICE")]
    Listen {
        /// Where.
        at: SocketAddr,
        /// What the kernel said.
        source: io::Error,
    },
}

/// What of an endpoint its page depends on.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Plan {
    address: IpAddr,
    ports: BTreeSet<u16>,
    text: HoldingText,
}

#[derive(Debug)]
struct Shown {
    plan: Plan,
    states: BTreeMap<SocketAddr, watch::Receiver<PortState>>,
    tasks: JoinSet<()>,
}

impl HoldingPages {
    /// No pages yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts the page in front of visitors of `spec` (its address and ports, port 443 excepted), or takes it
    /// away. Idempotent. Failures are logged with what to do, and tried again.
    pub async fn set(&mut self, endpoint: Name, spec: EndpointSpec, on: bool) {
        let wanted = on.then(|| Plan::of(spec));
        if self.shown.get(&endpoint).map(|shown| &shown.plan) == wanted.as_ref() {
            return;
        }
        if let Some(shown) = self.shown.remove(&endpoint) {
            shown.end().await;
            tracing::info!(%endpoint, "holding page off");
        }
        if let Some(plan) = wanted {
            tracing::info!(%endpoint, address = %plan.address, ports = ?plan.ports, "holding page on");
            self.shown.insert(endpoint, Shown::begin(plan));
        }
    }

    /// Takes all pages away.
    pub async fn clear(&mut self) {
        while let Some((_, shown)) = self.shown.pop_first() {
            shown.end().await;
        }
    }

    /// How each port of the pages that are on stands.
    #[must_use]
    pub fn states(&self) -> BTreeMap<SocketAddr, PortState> {
        let states = self.shown.values().flat_map(|shown| &shown.states);
        states.map(|(at, state)| (*at, *state.borrow())).collect()
    }
}

impl Plan {
    fn of(spec: EndpointSpec) -> Self {
        let ports = spec.ports.into_iter().filter(|port| *port != HTTPS).collect();
        Self { address: spec.address, ports, text: spec.holding }
    }
}

impl Shown {
    fn begin(plan: Plan) -> Self {
        let page = Arc::new(Page::new(&plan.text));
        let (mut states, mut tasks) = (BTreeMap::new(), JoinSet::new());
        for port in &plan.ports {
            let at = SocketAddr::new(plan.address, *port);
            let (sender, state) = watch::channel(PortState::Lent);
            tasks.spawn(bound::run(at, page.clone(), sender));
            states.insert(at, state);
        }
        Self { plan, states, tasks }
    }

    /// When this is over, the ports are free.
    async fn end(mut self) {
        self.tasks.shutdown().await;
    }
}
