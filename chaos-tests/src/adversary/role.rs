//! What the hostile node is in the mesh when it turns.

use std::fmt;
use std::time::Duration;

use serde::Serialize;
use stead::demo::stage::Stage;
use stead_deploy::lab::now;
use stead_proto::order::Act;
use stead_proto::time::{Instant, Span};

const PATIENCE: Duration = Duration::from_secs(20);
/// How long an ordered move may take before it is ordered again.
const MOVED_WITHIN: Span = Span::from_ms(2_000);

/// A place in the mesh.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Role {
    /// It neither leads nor serves.
    Follower,
    /// It serves and does not lead.
    Holder,
    /// It leads and serves: all that a mesh has to give.
    Leader,
}

impl Role {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Follower, Self::Holder, Self::Leader];

    /// Whether visitors are served by it.
    #[must_use]
    pub const fn holds(self) -> bool {
        matches!(self, Self::Holder | Self::Leader)
    }

    /// Moves the endpoint until some node has this role; which one.
    ///
    /// # Errors
    /// That it does not come about, with the nodes' logs.
    pub fn cast(self, stage: &mut Stage) -> anyhow::Result<usize> {
        let mut ordered: Option<Instant> = None;
        stage.until("holder and leader are where they are wanted", PATIENCE, |stage| {
            let (holder, leader) = (stage.holder()?, stage.leader()?);
            let all = || 0..stage.players.len();
            let found = match self {
                Self::Follower => all().find(|i| *i != holder && *i != leader),
                Self::Holder => Some(holder).filter(|holder| *holder != leader),
                Self::Leader => Some(holder).filter(|holder| *holder == leader),
            };
            if found.is_some() {
                return found;
            }
            if ordered.is_none_or(|at| now().since(at) >= MOVED_WITHIN) {
                let to = match self {
                    Self::Leader => leader,
                    Self::Follower | Self::Holder => all().find(|i| *i != leader)?,
                };
                let (endpoint, to) = ("www".parse().ok()?, stage.player(to).ok()?.id);
                ordered = stage.order(leader, Act::Move { endpoint, to }).ok().map(|_| now());
            }
            None
        })
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Follower => "follower",
            Self::Holder => "holder",
            Self::Leader => "leader",
        })
    }
}
