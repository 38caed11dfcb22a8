//! A connection to one agent: over QUIC with the operator's key, or over its local socket.
//!
//! A frame on the socket is a little-endian `u32` length and that many bytes of codec.

use super::{Way, contact_of};
use crate::context::Contact;
use futures_util::future::select_ok;
use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stead_node::identity::Identity;
use stead_node::transport::{AdminClient, ClientError};
use stead_proto::admin::{Answer, Request};
use stead_proto::codec::{self, CodecError};
use stead_proto::id::{ClusterId, NodeId};
use stead_proto::limits::ADMIN_FRAME_BYTES_MAX;
use stead_proto::roster::Member;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::Mutex;
use tokio::task::JoinSet;
use tokio::time::timeout;

/// Enough to send the good-bye; the other end finds out by itself otherwise.
const CLOSE_WITHIN: Duration = Duration::from_millis(5);
/// Addresses that one name may stand for.
const LOOKED_UP_MAX: usize = 8;

/// Why a node was not asked, or did not answer.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// The name server knows no such name, or does not answer.
    #[error("{address}: {source}; check the name, or write the IP address into the context file")]
    Lookup {
        /// What was looked up.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The context has no way to it.
    #[error("no address is known for it: add one to its [[node]] in the context file")]
    NoAddress,
    /// Over the network. Nothing was asked.
    #[error(transparent)]
    Connect(ClientError),
    /// Over the network. The request may have arrived.
    #[error(transparent)]
    Request(ClientError),
    /// The socket is not there, or not for us. Nothing was asked.
    #[error("{path}: {source}; is the agent running (`systemctl status stead`), and are you root?")]
    Socket {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The socket broke. The request may have arrived.
    #[error("the agent hung up: {0}; see its log (`journalctl -u stead`)")]
    HungUp(#[source] io::Error),
    /// Not in time. The request may have arrived.
    #[error("no answer within {} ms", .0.as_millis())]
    Late(Duration),
    /// Another version, or not an agent.
    #[error("unreadable answer: {0}")]
    Codec(#[from] CodecError),
}

impl LinkError {
    /// Whether the agent may have acted on the request.
    pub(crate) const fn may_have_arrived(&self) -> bool {
        match self {
            Self::Lookup { .. } | Self::NoAddress | Self::Connect(_) | Self::Socket { .. } => false,
            Self::Request(_) | Self::HungUp(_) | Self::Late(_) | Self::Codec(_) => true,
        }
    }
}

/// A connection to one agent.
#[derive(Debug)]
pub(crate) enum Link {
    /// Over the network.
    Quic(AdminClient),
    /// On this machine.
    Socket(Mutex<UnixStream>),
}

impl Link {
    /// Connects to `node` in whichever way there is: the context's addresses first, then the roster's; the
    /// local socket leads to the agent of this machine, whoever is asked for.
    pub(crate) async fn to_node(
        way: &Way,
        node: NodeId,
        members: &BTreeMap<NodeId, Member>,
        deadline: Duration,
    ) -> Result<Self, LinkError> {
        match way {
            Way::Socket(path) => Self::to_socket(path).await,
            Way::Network { context, operator } => {
                let known = context.nodes.iter().find(|contact| contact.id == node).cloned();
                let contact =
                    known.or_else(|| members.get(&node).map(contact_of)).ok_or(LinkError::NoAddress)?;
                Self::to(&contact, context.cluster, operator, deadline).await
            }
        }
    }

    /// Connects to the first address of a node that answers; all are tried at once.
    pub(crate) async fn to(
        contact: &Contact,
        cluster: ClusterId,
        operator: &Identity,
        deadline: Duration,
    ) -> Result<Self, LinkError> {
        let (addresses, failure) = look_up(&contact.addresses, deadline).await;
        if addresses.is_empty() {
            return Err(failure);
        }
        let connect =
            |address| Box::pin(AdminClient::connect(operator, cluster, contact.key, address, deadline));
        let (client, _) = select_ok(addresses.into_iter().map(connect)).await.map_err(LinkError::Connect)?;
        Ok(Self::Quic(client))
    }

    /// Connects to the agent of this machine.
    pub(crate) async fn to_socket(path: &Path) -> Result<Self, LinkError> {
        let stream = UnixStream::connect(path).await;
        let stream = stream.map_err(|source| LinkError::Socket { path: path.into(), source })?;
        Ok(Self::Socket(Mutex::new(stream)))
    }

    /// Asks, and waits for the answer for at most `deadline`.
    pub(crate) async fn ask(&self, request: &Request, deadline: Duration) -> Result<Answer, LinkError> {
        let frame = codec::encode(request, ADMIN_FRAME_BYTES_MAX)?;
        let answer = match self {
            Self::Quic(client) => client.request(frame.into(), deadline).await.map_err(LinkError::Request)?,
            Self::Socket(stream) => {
                let mut stream = stream.lock().await;
                let answer = timeout(deadline, exchange(&mut stream, &frame)).await;
                answer.map_err(|_| LinkError::Late(deadline))?.map_err(LinkError::HungUp)?
            }
        };
        Ok(codec::decode(&answer, ADMIN_FRAME_BYTES_MAX)?)
    }

    /// Frees the place at the other end.
    pub(crate) async fn close(self) {
        match self {
            Self::Quic(client) => client.close(CLOSE_WITHIN).await,
            Self::Socket(_) => {}
        }
    }
}

/// The addresses that these texts stand for, and the reason if there is none.
async fn look_up(texts: &[String], deadline: Duration) -> (Vec<SocketAddr>, LinkError) {
    let mut tasks = JoinSet::new();
    for text in texts.iter().cloned() {
        tasks.spawn(async move {
            let found = timeout(deadline, tokio::net::lookup_host(text.clone())).await;
            let found = found.unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()));
            found.map(|all| all.take(LOOKED_UP_MAX).collect::<Vec<_>>()).map_err(|source| (text, source))
        });
    }
    let (mut addresses, mut failure) = (Vec::new(), LinkError::NoAddress);
    for found in tasks.join_all().await {
        match found {
            Ok(found) => addresses.extend(found),
            Err((address, source)) => failure = LinkError::Lookup { address, source },
        }
    }
    (addresses, failure)
}

async fn exchange(stream: &mut UnixStream, frame: &[u8]) -> io::Result<Vec<u8>> {
    let length = u32::try_from(frame.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes()).await?;
    stream.write_all(frame).await?;
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_le_bytes(length)).map_err(io::Error::other)?;
    if length > ADMIN_FRAME_BYTES_MAX {
        return Err(io::Error::other("it answers with more than an answer may hold"));
    }
    let mut answer = vec![0; length];
    stream.read_exact(&mut answer).await?;
    Ok(answer)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stead_proto::command::Refusal;
    use tokio::net::UnixListener;

    #[tokio::test]
    async fn the_socket_speaks_frames_of_a_length_and_the_codec() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("agent.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let agent = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut length = [0; 4];
            stream.read_exact(&mut length).await.unwrap();
            let mut frame = vec![0; usize::try_from(u32::from_le_bytes(length)).unwrap()];
            stream.read_exact(&mut frame).await.unwrap();
            let answer = codec::encode(&Answer::Refused(Refusal::Replayed), 1_000).unwrap();
            stream.write_all(&u32::try_from(answer.len()).unwrap().to_le_bytes()).await.unwrap();
            stream.write_all(&answer).await.unwrap();
            codec::decode::<Request>(&frame, 1_000).unwrap()
        });
        let link = Link::to_socket(&path).await.unwrap();
        let answer = link.ask(&Request::StatusOf(NodeId(3)), Duration::from_secs(5)).await.unwrap();
        assert_eq!(answer, Answer::Refused(Refusal::Replayed));
        assert_eq!(agent.await.unwrap(), Request::StatusOf(NodeId(3)));
    }

    #[tokio::test]
    async fn a_missing_socket_says_what_to_look_at() {
        let error = Link::to_socket(Path::new("/nowhere/agent.sock")).await.unwrap_err();
        assert!(!error.may_have_arrived());
        assert!(error.to_string().contains("systemctl status stead"), "{error}");
    }
}
