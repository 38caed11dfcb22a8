//! What the core wants done that takes time: proposals, elections, membership, the holding page.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use stead_proto::codec;
use stead_proto::command::{Command, Outcome};
use stead_proto::fence::FenceOrder;
use stead_proto::id::NodeId;
use stead_proto::limits::COMMAND_FRAME_BYTES_MAX;
use stead_proto::memory::{Memories, Memory};
use stead_proto::mesh::{Conviction, Effect, Event};
use stead_proto::outside::Look;
use tokio::sync::{mpsc, watch};

use super::pages::Pages;
use crate::consensus::Consensus;
use crate::{outside, service};

const PROPOSAL_DEADLINE: Duration = Duration::from_secs(2);
/// How long the fence command may take: providers are slow, and another node tries a little later.
const FENCE_WITHIN: Duration = Duration::from_secs(60);

/// The hands of the core on the worker runtime.
pub(super) struct Worker {
    pub(super) consensus: Arc<Consensus>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) joined: Arc<AtomicBool>,
    pub(super) pages: Pages,
    /// For the [`keeper`](super::keeper).
    pub(super) memories: watch::Sender<Memories>,
    pub(super) convictions: watch::Sender<Vec<Conviction>>,
}

impl Worker {
    /// Carries out effects until the owner ends, or this node turns out to be a restored image: then what
    /// its peers saw of it.
    pub(super) async fn run(mut self, mut effects: mpsc::Receiver<Effect>) -> Option<Memory> {
        loop {
            self.pages.retry().await;
            let effect = match tokio::time::timeout(self.pages.retry_after(), effects.recv()).await {
                Ok(Some(effect)) => effect,
                Ok(None) => break,
                Err(_) => continue,
            };
            match effect {
                Effect::Propose { ticket, command } => self.propose(ticket, *command),
                Effect::Campaign => self.campaign(),
                Effect::Look(look) => self.look(look),
                Effect::Demoted(nodes) => {
                    if !nodes.is_empty() {
                        tracing::warn!(?nodes, "demoted: nothing is taken from these as leaders for a while");
                    }
                    self.consensus.demote(nodes.into_iter().map(|node| node.0).collect());
                }
                Effect::Fence(order) => self.fence(order),
                Effect::Follow { voters, learners } => {
                    let raw =
                        |ids: std::collections::BTreeSet<NodeId>| ids.into_iter().map(|id| id.0).collect();
                    match self.consensus.set_membership(&raw(voters), &raw(learners)) {
                        Ok(progress) => tracing::debug!(?progress, "membership"),
                        Err(error) => tracing::debug!(%error, "membership"),
                    }
                }
                Effect::Admit { term, node } => {
                    tracing::info!(%node, term, "a voter is stranded above our term: an election will follow");
                    self.consensus.admit(term, node.0);
                }
                Effect::HoldingPage { endpoint, spec, on } => self.pages.set(endpoint, *spec, on).await,
                Effect::KeepMemories(memories) => drop(self.memories.send_replace(memories)),
                Effect::KeepConvictions(convictions) => {
                    drop(self.convictions.send_replace(convictions));
                }
                Effect::Join => {
                    tracing::info!("the others remember nothing that this node forgot: taking part");
                    self.joined.store(true, Ordering::Release);
                }
                Effect::Lost { seen } => return Some(seen),
                Effect::Remember(_)
                | Effect::Send { .. }
                | Effect::Report(_)
                | Effect::Exhibit(_)
                | Effect::Serve { .. }
                | Effect::Extend { .. }
                | Effect::Cease { .. }
                | Effect::CutOff(_)
                | Effect::Quarantine
                | Effect::License => tracing::error!("an effect of the owner's reached the worker"),
            }
        }
        self.pages.clear().await;
        None
    }

    fn propose(&self, ticket: u64, command: Command) {
        let (consensus, events) = (self.consensus.clone(), self.events.clone());
        tokio::spawn(async move {
            let done = match codec::encode(&command, COMMAND_FRAME_BYTES_MAX) {
                Err(error) => {
                    tracing::error!(%error, "a proposal is too long");
                    false
                }
                Ok(bytes) => match consensus.propose(bytes, PROPOSAL_DEADLINE).await {
                    Ok((index, outcome)) => is_carried_out(index, &command, &outcome),
                    Err(error) => {
                        tracing::debug!(%error, "a proposal failed");
                        false
                    }
                },
            };
            let _ = events.send(Event::Proposed { ticket, done }).await;
        });
    }

    fn look(&self, look: Look) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let _ = events.send(Event::Saw(outside::look(look).await)).await;
        });
    }

    fn fence(&self, order: FenceOrder) {
        let events = self.events.clone();
        tokio::spawn(async move {
            let FenceOrder { node, epoch, command } = order;
            tracing::warn!(%node, epoch, ?command, "fencing a node that was cut off");
            let failed = service::run_to_end(&command, FENCE_WITHIN).await.err();
            if let Some(why) = &failed {
                tracing::error!(%node, epoch, why, "the fence command failed");
            }
            let _ = events.send(Event::Fenced { node, epoch, failed }).await;
        });
    }

    fn campaign(&self) {
        let consensus = self.consensus.clone();
        tokio::spawn(async move {
            tracing::info!("a majority misses the leader: campaigning");
            if let Err(error) = consensus.campaign().await {
                tracing::error!(%error, "cannot campaign");
            }
        });
    }
}

fn is_carried_out(index: u64, command: &Command, outcome: &[u8]) -> bool {
    match codec::decode::<Outcome>(outcome, COMMAND_FRAME_BYTES_MAX) {
        Ok(Outcome::Done | Outcome::Site(_)) => {
            tracing::debug!(index, ?command, "committed");
            true
        }
        Ok(Outcome::Refused(refusal)) => {
            tracing::warn!(index, %refusal, ?command, "refused by the state");
            false
        }
        Err(error) => {
            tracing::error!(index, %error, "unreadable outcome");
            false
        }
    }
}
