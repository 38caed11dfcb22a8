//! Keeping one connection per peer and plane, for ever.
//!
//! **Invariant.** While a plane has no connection, an attempt is under way or a pause of at most
//! `backoff_max` is; while it has one, nothing is sent for its sake. Both sides do this, so that it takes
//! one working address on either of them.

use super::core::Core;
use super::directory::Who;
use super::error::{Close, Refused, refusal};
use super::links::Live;
use super::plane::Plane;
use super::serve::serve;
use super::{tls, wire};
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use quinn::{ClientConfig, Connection, ConnectionError, Side};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};
use stead_proto::id::NodeId;
use stead_proto::limits::ADDRESSES_MAX;
use tokio::sync::Notify;
use tokio::time::{sleep, timeout};
use tracing::debug;

/// A connection that ended sooner than this does not count as a success: its peer may refuse us.
const PROVEN_AFTER: Duration = Duration::from_secs(1);
/// From this many addresses on, new ones wait for the next attempt.
const TRIED_MAX: usize = 2 * ADDRESSES_MAX;

/// Dials `peer` whenever there is no connection, until aborted.
pub(super) async fn keep(core: Arc<Core>, peer: NodeId, plane: Plane, config: ClientConfig) {
    let bells = core.links.bells(peer, plane);
    let (mut failures, mut turn) = (0_u32, 0_usize);
    let mut up_since = None;
    loop {
        if core.links.best(peer, plane).is_some() {
            up_since.get_or_insert_with(Instant::now);
            bells.changed.notified().await;
            continue;
        }
        if let Some(since) = up_since.take() {
            failures = if since.elapsed() < PROVEN_AFTER { failures + 1 } else { 0 };
        }
        if failures > 0 {
            tokio::select! {
                () = sleep(core.profile.backoff(failures, peer.0)) => {}
                () = bells.poke.notified() => {}
                // Whoever came may be gone again, so this pause is over but not forgotten.
                () = bells.changed.notified() => if core.links.best(peer, plane).is_some() { continue },
            }
        }
        turn = turn.wrapping_add(1);
        let Some(connection) = dial(&core, peer, turn, &config, &bells.poke).await else {
            failures = failures.saturating_add(1);
            continue;
        };
        up_since = Some(Instant::now());
        receive(&core, peer, plane, connection).await;
    }
}

/// Tries all addresses, each a little after the one before, until one of them leads to the peer. A poke
/// brings in addresses that became known meanwhile, and stops nothing.
async fn dial(
    core: &Core,
    peer: NodeId,
    turn: usize,
    config: &ClientConfig,
    poke: &Notify,
) -> Option<Connection> {
    let mut rest = VecDeque::from(core.links.candidates(peer, turn));
    let (mut tried, mut under_way) = (Vec::new(), FuturesUnordered::new());
    let first_to_succeed = async {
        loop {
            if let Some(address) = rest.pop_front() {
                tried.push(address);
                under_way.push(reach(core, peer, address, config.clone()));
            } else if under_way.is_empty() {
                return None;
            }
            tokio::select! {
                reached = under_way.next() => if let Some(Some(connection)) = reached { return Some(connection) },
                () = sleep(core.profile.dial_stagger), if !rest.is_empty() => {}
                () = poke.notified(), if tried.len() < TRIED_MAX => {
                    rest = core.links.candidates(peer, turn).into();
                    rest.retain(|address| !tried.contains(address));
                }
            }
        }
    };
    timeout(core.profile.dial_max, first_to_succeed).await.ok().flatten()
}

/// A connection to whoever is expected, at this address, if he lets us in.
async fn reach(core: &Core, peer: NodeId, address: SocketAddr, config: ClientConfig) -> Option<Connection> {
    let connecting = core.endpoint.connect_with(config, address, &core.name).ok()?;
    match shake_hands(connecting).await {
        Ok(connection) => Some(connection),
        Err(error) => {
            debug!(%address, %error, "not reached");
            match refusal(&error, Side::Client) {
                Some(Refused::ByUs(why)) => core.links.tally.refuse(why, address.ip()),
                Some(Refused::ByPeer(why)) => core.links.tally.refused_by_peer(why, Some(peer)),
                None => {}
            }
            None
        }
    }
}

/// In TLS 1.3 a client is done before the server has judged it, hence the word of welcome.
async fn shake_hands(connecting: quinn::Connecting) -> Result<Connection, ConnectionError> {
    let connection = connecting.await?;
    wire::welcomed(&connection).await?;
    Ok(connection)
}

async fn receive(core: &Arc<Core>, peer: NodeId, plane: Plane, connection: Connection) {
    let Some(key) = tls::peer_key(&connection) else {
        return Close::Evicted.close(&connection);
    };
    let live = Arc::new(Live::new(connection, key, Who::Node(peer), plane, core.me));
    match core.links.admit(&live) {
        Ok(admitted) => serve(core, &live, admitted).await,
        Err(close) => close.close(&live.connection),
    }
}
