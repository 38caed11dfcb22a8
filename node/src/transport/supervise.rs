//! The tasks that follow the directory: evict, dial, and tell the agent who came and went.

use super::core::Core;
use super::directory::Directory;
use super::inbound::Inbound;
use super::plane::Plane;
use super::profile::Profile;
use super::tls::Accept;
use super::{TransportError, dial, send, tls};
use crate::identity::Identity;
use quinn::{ClientConfig, Side, TransportConfig};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use stead_proto::id::NodeId;
use tokio::task::{AbortHandle, JoinSet};

/// What is needed to dial anybody: our key for TLS, without the identity itself.
pub(super) struct Dialling {
    shown: tls::Shown,
    directory: Directory,
    transport: Arc<TransportConfig>,
}

impl Dialling {
    pub(super) fn new(
        identity: &Identity,
        directory: &Directory,
        profile: &Profile,
    ) -> Result<Self, TransportError> {
        let shown = tls::Shown::new(identity)?;
        Ok(Self { shown, directory: directory.clone(), transport: profile.quinn(Side::Client)? })
    }

    fn config(&self, peer: NodeId, plane: Plane) -> Result<ClientConfig, rustls::Error> {
        let accept = Accept::Node(self.directory.clone(), peer);
        let mut config = ClientConfig::new(Arc::new(tls::client_config(&self.shown, accept, plane)?));
        config.transport_config(self.transport.clone());
        Ok(config)
    }
}

/// Closes the connections of keys that leave the directory, and dials the nodes that are in it.
pub(super) async fn enforce(core: Arc<Core>, directory: Directory, dialling: Dialling) {
    let mut tables = directory.subscribe();
    let (mut tasks, mut diallers) = (JoinSet::new(), BTreeMap::<NodeId, Vec<AbortHandle>>::new());
    loop {
        tables.mark_unchanged();
        let table = core.links.enforce();
        let peers: BTreeSet<NodeId> = table.peers(core.me).collect();
        diallers.retain(|peer, handles| {
            let stays = peers.contains(peer);
            if !stays {
                handles.iter().for_each(AbortHandle::abort);
            }
            stays
        });
        for peer in peers {
            diallers.entry(peer).or_insert_with(|| start(&core, &mut tasks, &dialling, peer));
        }
        while tasks.try_join_next().is_some() {}
        // Fails only without a sender, and `directory` is one.
        let _ = tables.changed().await;
    }
}

fn start(core: &Arc<Core>, tasks: &mut JoinSet<()>, dialling: &Dialling, peer: NodeId) -> Vec<AbortHandle> {
    let mut handles = vec![tasks.spawn(send::reports(core.clone(), peer))];
    for plane in Plane::BETWEEN_NODES {
        match dialling.config(peer, plane) {
            Ok(config) => handles.push(tasks.spawn(dial::keep(core.clone(), peer, plane, config))),
            Err(error) => tracing::error!(%peer, ?plane, %error, "cannot dial; report this as a bug"),
        }
    }
    handles
}

/// Tells the agent who came and went, in order, even if the inbox is full for a while.
pub(super) async fn announce(core: Arc<Core>) {
    let mut told = BTreeMap::new();
    loop {
        core.links.changed.notified().await;
        let now = core.links.connected();
        let news = told.iter().filter(|(peer, times)| now.get(peer) != Some(times));
        let lost = news.map(|(peer, _)| Inbound::Lost { peer: *peer });
        let new = now.iter().filter(|(peer, times)| told.get(peer) != Some(times));
        let came = new.map(|(peer, _)| Inbound::Connected { peer: *peer });
        for message in lost.chain(came).collect::<Vec<_>>() {
            if core.inboxes.messages.send(message).await.is_err() {
                return;
            }
        }
        told = now;
    }
}
