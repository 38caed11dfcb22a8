//! Commands: what goes into the replicated log, and what applying one came to.
//!
//! **Invariant.** Authority is in the entry, not in the leader: what adds trust carries an operator's
//! signature, what the mesh does on its own carries the signed reports that justify it, and
//! [`crate::state::State::apply`] checks both on every node.

use crate::config::Change;
use crate::id::{Name, NodeId};
use crate::incident::Matter;
use crate::order::Order;
use crate::outside::HostKey;
use crate::plan::Seat;
use crate::report::Report;
use crate::sign::Signed;
use crate::tribunal::Certificate;
use alloc::{string::String, vec::Vec};
use serde::{Deserialize, Serialize};

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Command {
    /// An operator's order.
    Order(Signed<Order>),
    /// Who may hold an endpoint from now on, in which order.
    Plan {
        /// Which endpoint.
        endpoint: Name,
        /// The index of the plan that it replaces; 0 if there is none. Refused if that is no longer so.
        parent: u64,
        /// The new order.
        seats: Vec<Seat>,
        /// Why that is allowed.
        ground: Ground,
        /// When, by the leader's wall clock, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// A change of the voters that the charter permits.
    Voters {
        /// Which one.
        change: Change,
        /// The signed reports that allow it.
        reports: Vec<Signed<Report>>,
        /// Why, for people.
        reason: String,
        /// When, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// A line for an incident.
    Note {
        /// What it is about.
        matter: Matter,
        /// What happened.
        text: String,
        /// Whether the matter is closed with it.
        closes: bool,
        /// When, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// Nothing: proves that its proposer can commit.
    Probe,
    /// What the nodes have done already: one of them is cut off. Its certificate is the authority.
    Isolate {
        /// The testimonies of enough of its peers.
        certificate: Certificate,
        /// When it was proposed, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// Have a node that is cut off fenced, by whoever's turn it is.
    Fence {
        /// Which node.
        node: NodeId,
        /// Signed reports of most voters: that they have cut it off, and their clocks.
        reports: Vec<Signed<Report>>,
        /// When it was proposed, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// What came of that.
    Fenced {
        /// Which node.
        node: NodeId,
        /// The signed report of whose turn it was.
        report: Signed<Report>,
        /// When it was proposed, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// The probation of a node is over.
    EndProbation {
        /// Which node.
        node: NodeId,
        /// Signed reports of most voters, whose clocks say so and who hear it.
        reports: Vec<Signed<Report>>,
        /// When it was proposed, in milliseconds since 1970.
        unix_ms: u64,
    },
    /// The first host key of a node's SSH server that its peers see.
    HostKey {
        /// Which node.
        node: NodeId,
        /// Its key.
        key: HostKey,
        /// Their signed reports, which show it.
        reports: Vec<Signed<Report>>,
    },
}

/// Why a plan may replace its parent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ground {
    /// There was none.
    First,
    /// The same node stays first; only successors, lease or epochs change.
    Refresh,
    /// The parent's holder was succeeded already: a majority of the voters signed that their promise runs
    /// to this node under a later epoch of the parent.
    Witnessed {
        /// Those reports.
        reports: Vec<Signed<Report>>,
        /// What led to it, for people.
        because: String,
    },
}

/// What applying a command came to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Done.
    Done,
    /// Done, and a new version of the site.
    Site(u64),
    /// Nothing changed, and why.
    Refused(Refusal),
}

/// Why a command changed nothing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
pub enum Refusal {
    /// Not readable by this version.
    #[error("unreadable command")]
    Unreadable,
    /// The signature does not hold.
    #[error("the signature does not hold")]
    Signature,
    /// Signed by nobody whom the mesh knows.
    #[error("this key belongs to no operator of this mesh")]
    UnknownOperator,
    /// The operator may not do that.
    #[error("this takes the role {needed}, and {name} is {has}: ask an operator with that role")]
    Role {
        /// Whose order it was.
        name: Name,
        /// The role that he has.
        has: String,
        /// The role that it takes.
        needed: String,
    },
    /// Already done, or older than an order that was.
    #[error("an order with this or a later serial number was carried out already: try again")]
    Replayed,
    /// Written against something that has changed since.
    #[error(
        "written against version {base}, but version {newest} is the newest: look at the difference and apply again"
    )]
    Stale {
        /// The version it was written against.
        base: u64,
        /// The version that there is.
        newest: u64,
    },
    /// The site cannot be served.
    #[error("{}", .0.join("; "))]
    Site(Vec<String>),
    /// Something it names is not there.
    #[error("there is no {0}")]
    Unknown(String),
    /// A rule forbids it.
    #[error("{0}")]
    Forbidden(String),
}

/// A node by its name in the roster, for messages.
#[must_use]
pub fn no_such_node(node: NodeId) -> Refusal {
    Refusal::Unknown(alloc::format!("node {node}"))
}
