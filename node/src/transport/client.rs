//! The operator's side of the admin plane. Portable: nothing here is Linux.

use super::error::{CallError, Close, Refused, refusal};
use super::mesh_name::mesh_name;
use super::plane::Plane;
use super::profile::Profile;
use super::send::exchange;
use super::tls::Accept;
use super::{Refusal, TransportError, tls, wire};
use crate::identity::Identity;
use bytes::Bytes;
use quinn::{ClientConfig, Connection, Endpoint, Side};
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;
use stead_proto::id::{ClusterId, PublicKey};
use stead_proto::limits::ADMIN_FRAME_BYTES_MAX;
use tokio::time::timeout;

/// Why a node could not be asked.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// This machine has no socket to offer.
    #[error("cannot open a UDP socket: {0}")]
    Socket(#[source] io::Error),
    /// A bug, or a key that is none.
    #[error(transparent)]
    Setup(#[from] TransportError),
    /// Not an address to connect to.
    #[error("{0} is not an address that this machine can connect to")]
    Address(SocketAddr),
    /// Nobody answered.
    #[error("no answer from {0} in time: is the agent running, and UDP to it allowed?")]
    Unreachable(SocketAddr),
    /// Somebody else answered, or the node does not want us.
    #[error("{address}: {}", advice(.why))]
    Refused {
        /// The node's address.
        address: SocketAddr,
        /// Why.
        why: Refusal,
    },
    /// The request got no answer.
    #[error("request failed: {0}")]
    Request(#[from] CallError),
}

const fn advice(refusal: &Refusal) -> &'static str {
    match refusal {
        Refusal::UnknownKey => "the node does not know your key: ask an admin to add you as an operator",
        Refusal::EvictedKey => "the node knew your key once and refuses it now: ask an admin",
        Refusal::WrongNode => "another node answers at this address: check the address and the node's key",
        Refusal::WrongMesh => {
            "the node belongs to another mesh: check the address, or take that mesh's context"
        }
        Refusal::WrongPlane => "the node speaks another protocol version: use the `stead` that it runs",
        Refusal::Malformed => "what answers there is not a stead agent",
        Refusal::Crowded => "too many connections: try again in a moment",
    }
}

/// An operator's connection to one node.
#[derive(Debug)]
pub struct AdminClient {
    endpoint: Endpoint,
    connection: Connection,
}

impl AdminClient {
    /// Connects to the node of the mesh that holds `node_key`, at `address`, within `deadline`.
    ///
    /// # Errors
    /// [`ClientError`], which says what to do.
    pub async fn connect(
        identity: &Identity,
        cluster: ClusterId,
        node_key: PublicKey,
        address: SocketAddr,
        deadline: Duration,
    ) -> Result<Self, ClientError> {
        let endpoint = Endpoint::client((Ipv6Addr::UNSPECIFIED, 0).into())
            .or_else(|_| Endpoint::client((Ipv4Addr::UNSPECIFIED, 0).into()))
            .map_err(ClientError::Socket)?;
        let shown = tls::Shown::new(identity).map_err(TransportError::Tls)?;
        let crypto =
            tls::client_config(&shown, Accept::Key(node_key), Plane::Admin).map_err(TransportError::Tls)?;
        let mut config = ClientConfig::new(Arc::new(crypto));
        config.transport_config(Profile::default().quinn(Side::Client)?);
        let connecting = endpoint
            .connect_with(config, address, &mesh_name(cluster))
            .map_err(|_| ClientError::Address(address))?;
        let welcomed = async {
            let connection = connecting.await?;
            wire::welcomed(&connection).await?;
            Ok(connection)
        };
        match timeout(deadline, welcomed).await {
            Ok(Ok(connection)) => Ok(Self { endpoint, connection }),
            Ok(Err(error)) => Err(match refusal(&error, Side::Client) {
                Some(Refused::ByUs(why) | Refused::ByPeer(why)) => ClientError::Refused { address, why },
                None => ClientError::Unreachable(address),
            }),
            Err(_) => Err(ClientError::Unreachable(address)),
        }
    }

    /// Sends one request and waits for its answer, at most `deadline`.
    ///
    /// # Errors
    /// [`ClientError::Request`]; unless it is [`CallError::Send`], the node may have acted.
    pub async fn request(&self, request: Bytes, deadline: Duration) -> Result<Vec<u8>, ClientError> {
        super::send::check(request.len(), ADMIN_FRAME_BYTES_MAX).map_err(CallError::Send)?;
        let answer = timeout(deadline, exchange(&self.connection, request, ADMIN_FRAME_BYTES_MAX)).await;
        Ok(answer.unwrap_or(Err(CallError::TimedOut))?)
    }

    /// Says good-bye, so that the node frees the place at once.
    pub async fn close(self, deadline: Duration) {
        self.endpoint.close(Close::Shutdown.code(), &[]);
        // The node finds out by itself otherwise.
        let _ = timeout(deadline, self.endpoint.wait_idle()).await;
    }
}
