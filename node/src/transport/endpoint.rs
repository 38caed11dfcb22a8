//! The one UDP socket, and who gets in through it.
//!
//! **Invariant.** Reset key and connection-id key grow from the node's secret and so outlive a restart: a
//! restarted node can tell its peers at once that their old connections are gone. With random keys they
//! would wait for the idle timeout (measured: 2 s against 0.2 s).

use super::TransportError;
use super::core::Core;
use super::counters::Refusal;
use super::directory::{Directory, Standing, Who};
use super::error::{Close, Refused, refusal};
use super::links::Live;
use super::profile::Profile;
use super::serve::serve;
use super::whereabouts::canonical;
use super::{tls, wire};
use crate::identity::Identity;
use quinn::{Connection, Endpoint, EndpointConfig, Incoming, ServerConfig, Side, TokioRuntime};
use quinn_proto::HashedConnectionIdGenerator;
use ring::hmac;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Unfinished handshakes from which on a stranger has to prove his address first.
const HANDSHAKES_UNPROVEN_MAX: usize = 16;
/// Unfinished handshakes from which on only the addresses of peers are listened to.
const HANDSHAKES_STRANGERS_MAX: usize = 64;
/// Unfinished handshakes at all.
const HANDSHAKES_MAX: usize = 128;
/// Among equal packets in the queues of this host, ours go first (`TC_PRIO_INTERACTIVE`).
const SOCKET_PRIORITY: u32 = 6;

/// Opens the endpoint on the runtime of the caller.
pub(super) fn open(
    identity: &Identity,
    mesh_name: &str,
    bind: SocketAddr,
    directory: &Directory,
    profile: &Profile,
) -> Result<Endpoint, TransportError> {
    let socket = udp_socket(bind).map_err(|source| TransportError::Bind { address: bind, source })?;
    let crypto = tls::server_config(identity, mesh_name.to_owned(), directory.clone())?;
    let mut server = ServerConfig::with_crypto(Arc::new(crypto));
    server.transport_config(profile.quinn(Side::Server)?).max_incoming(HANDSHAKES_MAX);

    let reset_key = hmac::Key::new(hmac::HMAC_SHA256, identity.derive("quic reset").as_slice());
    let mut config = EndpointConfig::new(Arc::new(reset_key));
    let id_key = identity.derive("quic connection id");
    let id_key = u64::from_le_bytes(*id_key.first_chunk().expect("32 bytes hold 8"));
    config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(id_key)));

    Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime))
        .map_err(|source| TransportError::Bind { address: bind, source })
}

/// A socket for IPv6 and IPv4 alike, where the address allows and the kernel knows IPv6.
fn udp_socket(bind: SocketAddr) -> io::Result<UdpSocket> {
    let open = |bind: SocketAddr| {
        let socket = Socket::new(Domain::for_address(bind), Type::DGRAM, Some(Protocol::UDP))?;
        if bind.is_ipv6() {
            socket.set_only_v6(!bind.ip().is_unspecified())?;
        }
        socket.set_priority(SOCKET_PRIORITY)?;
        socket.bind(&bind.into())?;
        Ok(socket.into())
    };
    match open(bind) {
        Err(error) if bind.is_ipv6() && bind.ip().is_unspecified() && no_ipv6(&error) => {
            open(SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), bind.port()))
        }
        result => result,
    }
}

fn no_ipv6(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw_os_error);
    matches!(errno, Some(Errno::AFNOSUPPORT | Errno::ADDRNOTAVAIL))
}

/// Accepts connections until the endpoint is closed.
pub(super) async fn accept(core: Arc<Core>) {
    let (handshakes, mut tasks) = (Arc::new(()), JoinSet::new());
    while let Some(incoming) = core.endpoint.accept().await {
        while tasks.try_join_next().is_some() {}
        let source = canonical(incoming.remote_address()).ip();
        let under_way = Arc::strong_count(&handshakes) - 1;
        match door(under_way, core.links.may_be_a_peer(source), incoming.remote_address_validated()) {
            Door::Open => {
                let (core, handshake) = (core.clone(), handshakes.clone());
                tasks.spawn(async move {
                    let Some(connection) = shake_hands(&core, incoming, source).await else { return };
                    drop(handshake);
                    receive(&core, connection, source).await;
                });
            }
            // Fails only if the address is proven already, and then the door was not this one.
            Door::ProveAddress => drop(incoming.retry()),
            Door::Shut => {
                core.links.tally.refuse(Refusal::Crowded, source);
                incoming.ignore();
            }
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Door {
    Open,
    ProveAddress,
    Shut,
}

const fn door(under_way: usize, may_be_a_peer: bool, proven: bool) -> Door {
    if under_way >= HANDSHAKES_MAX || (under_way >= HANDSHAKES_STRANGERS_MAX && !may_be_a_peer) {
        Door::Shut
    } else if under_way >= HANDSHAKES_UNPROVEN_MAX && !proven {
        Door::ProveAddress
    } else {
        Door::Open
    }
}

async fn shake_hands(core: &Core, incoming: Incoming, source: IpAddr) -> Option<Connection> {
    // What is wrong with the very first packet, a foreign ALPN name for one, shows in `accept` already.
    let shaken = async { incoming.accept()?.await };
    let error = match timeout(core.profile.dial_max, shaken).await.ok()? {
        Ok(connection) => return Some(connection),
        Err(error) => error,
    };
    match refusal(&error, Side::Server) {
        Some(Refused::ByUs(why)) => core.links.tally.refuse(why, source),
        Some(Refused::ByPeer(why)) => core.links.tally.refused_by_peer(why, None),
        None => {}
    }
    None
}

/// Lists an accepted connection and reads from it until it ends.
async fn receive(core: &Arc<Core>, connection: Connection, source: IpAddr) {
    let live = accepted(core, &connection).ok_or(Close::Evicted);
    let admitted = live.and_then(|live| core.links.admit(&live).map(|admitted| (live, admitted)));
    let (live, admitted) = match admitted {
        Ok(admitted) => admitted,
        Err(close) => {
            core.links.tally.refuse(close.refusal().unwrap_or(Refusal::Malformed), source);
            close.close(&connection);
            return;
        }
    };
    drop(connection);
    tokio::join!(wire::welcome(&live.connection), serve(core, &live, admitted));
}

fn accepted(core: &Core, connection: &Connection) -> Option<Arc<Live>> {
    let (key, plane) = (tls::peer_key(connection)?, tls::plane(connection)?);
    let Standing::Accepted(who) = core.links.directory.standing(&key) else { return None };
    let dialled_by = match who {
        Who::Node(id) => id,
        Who::Operator => core.me,
    };
    Some(Arc::new(Live::new(connection.clone(), key, who, plane, dialled_by)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_of_handshakes_leaves_places_for_peers() {
        assert_eq!(door(0, false, false), Door::Open);
        assert_eq!(door(HANDSHAKES_UNPROVEN_MAX, true, false), Door::ProveAddress, "sources can be forged");
        assert_eq!(door(HANDSHAKES_UNPROVEN_MAX, false, true), Door::Open);
        assert_eq!(door(HANDSHAKES_STRANGERS_MAX, false, true), Door::Shut);
        assert_eq!(door(HANDSHAKES_STRANGERS_MAX, true, true), Door::Open);
        assert_eq!(door(HANDSHAKES_MAX, true, true), Door::Shut);
    }
}
