//! The operator of a mesh on the stage: asks its agents over their local sockets, and signs orders.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use anyhow::{anyhow, bail};
use stead_node::identity::Identity;
use stead_proto::admin::{Answer, Request, Status};
use stead_proto::id::ClusterId;
use stead_proto::order::{Act, Order};

use super::socket;

/// An operator with the role `admin`. Clones are the same person.
#[derive(Clone)]
pub struct Director {
    pub(super) sockets: Vec<PathBuf>,
    pub(super) operator: Arc<Identity>,
    pub(super) cluster: ClusterId,
}

impl std::fmt::Debug for Director {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Director").field("sockets", &self.sockets).finish_non_exhaustive()
    }
}

impl Director {
    /// How many nodes there are.
    #[must_use]
    pub const fn nodes(&self) -> usize {
        self.sockets.len()
    }

    /// How node `i` sees the mesh.
    ///
    /// # Errors
    /// That it does not answer.
    pub fn status(&self, i: usize) -> anyhow::Result<Status> {
        let answer = self.ask(i, &Request::Status)?;
        let Answer::Status(status) = answer else { bail!("no status: {answer:?}") };
        Ok(*status)
    }

    /// Signs an order and gives it to node `i`.
    ///
    /// # Errors
    /// That the node does not answer.
    pub fn order(&self, i: usize, act: Act) -> anyhow::Result<Answer> {
        let unix = SystemTime::now().duration_since(UNIX_EPOCH)?;
        let order = Order { serial: u64::try_from(unix.as_micros())?, act };
        let signed = self.operator.key().sign(self.cluster, &order)?;
        self.ask(i, &Request::Submit(signed))
    }

    fn ask(&self, i: usize, request: &Request) -> anyhow::Result<Answer> {
        let agent = self.sockets.get(i).ok_or_else(|| anyhow!("no node {i}"))?;
        socket::ask(agent, request)
    }
}
