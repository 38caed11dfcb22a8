//! The replicated state: roster, site, plans and incidents, the same on every node at the same index.
//!
//! **Invariant.** A pure function of genesis and the log: integers, ordered maps, no clock. Each applied
//! entry folds into [`State::digest`], so that two nodes can tell by 32 bytes whether they agree.

mod apply;
mod fences;
mod host_keys;
mod isolations;
mod members;
mod orders;
mod plans;
mod probation;
mod voters;

pub use isolations::{Authority, Isolation};

use crate::config::Config;
use crate::fence::Fencing;
use crate::genesis::Genesis;
use crate::id::{ClusterId, Name, NodeId, PublicKey};
use crate::incident::Incidents;
use crate::outside::HostKey;
use crate::plan::Plan;
use crate::roster::{Member, Operator, Standing};
use crate::site::{EndpointSpec, Site};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// Everything that the mesh agrees on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    /// Which mesh.
    pub cluster: ClusterId,
    /// The last entry that went in.
    pub applied: u64,
    /// A running hash over all of them.
    pub digest: [u8; 32],
    /// The nodes.
    pub members: BTreeMap<NodeId, Member>,
    /// The entry with the operators' last word on who belongs to the mesh, and as what.
    pub roster_index: u64,
    /// Those of the nodes that are cut off: nobody counts on them, serves them or believes them.
    pub isolations: BTreeMap<NodeId, Isolation>,
    /// How far each of those is fenced.
    pub fences: BTreeMap<NodeId, Fencing>,
    /// How many nodes were fenced under the warrant of this site.
    pub fences_spent: u8,
    /// The highest node id that ever was; new ones are above it.
    pub node_id_max: NodeId,
    /// The keys of nodes that were removed, the latest last: none of them is ever admitted again.
    pub former_keys: Vec<PublicKey>,
    /// The operators.
    pub operators: BTreeMap<PublicKey, Operator>,
    /// Who votes now.
    pub config: Config,
    /// The newest site.
    pub site: Site,
    /// Its version: 1 in genesis, +1 with each change.
    pub site_version: u64,
    /// The latest versions, the oldest first, the newest among them.
    pub site_history: Vec<SiteVersion>,
    /// The SSH host keys of the nodes, as their peers first saw them or an operator accepted them.
    pub host_keys: BTreeMap<NodeId, HostKey>,
    /// The plan of each endpoint that has one.
    pub plans: BTreeMap<Name, Plan>,
    /// What happened.
    pub incidents: Incidents,
}

/// One version of the site.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SiteVersion {
    /// Its number.
    pub version: u64,
    /// Who signed it.
    pub by: String,
    /// When, by his clock, in milliseconds since 1970.
    pub unix_ms: u64,
    /// The file as he wrote it.
    pub text: String,
    /// What it says.
    pub site: Site,
}

impl State {
    /// The state before the first entry.
    #[must_use]
    pub fn begin(cluster: ClusterId, genesis: &Genesis) -> Self {
        let first = SiteVersion {
            version: 1,
            by: "genesis".into(),
            unix_ms: 0,
            text: String::new(),
            site: genesis.site.clone(),
        };
        Self {
            cluster,
            applied: 0,
            digest: cluster.0,
            members: genesis.members.iter().map(|m| (m.id, m.clone())).collect(),
            roster_index: 0,
            isolations: BTreeMap::new(),
            fences: BTreeMap::new(),
            fences_spent: 0,
            node_id_max: genesis.members.iter().map(|m| m.id).max().unwrap_or_default(),
            former_keys: Vec::new(),
            operators: genesis.operators.clone(),
            config: Config::founding(0, genesis.voters()),
            site: genesis.site.clone(),
            site_version: 1,
            site_history: alloc::vec![first],
            host_keys: BTreeMap::new(),
            plans: BTreeMap::new(),
            incidents: Incidents::default(),
        }
    }

    /// The nodes that may hold an endpoint at all.
    #[must_use]
    pub fn candidates(&self) -> BTreeSet<NodeId> {
        self.members
            .values()
            .filter(|m| m.role.serves() && m.standing == Standing::Active && !self.is_isolated(m.id))
            .map(|m| m.id)
            .collect()
    }

    /// A node's name, or its number if the roster does not know it.
    #[must_use]
    pub fn name_of(&self, node: NodeId) -> String {
        self.members.get(&node).map_or_else(|| alloc::format!("{node}"), |m| m.name.as_str().into())
    }

    /// The node of that name.
    #[must_use]
    pub fn member_named(&self, name: &str) -> Option<&Member> {
        self.members.values().find(|m| m.name.as_str() == name)
    }

    /// An endpoint's specification and its plan.
    #[must_use]
    pub fn endpoint(&self, name: &Name) -> Option<(&EndpointSpec, Option<&Plan>)> {
        Some((self.site.endpoints.get(name)?, self.plans.get(name)))
    }
}
