//! The inventory: what the mesh looks like right now, drawn from everybody's reports.
//!
//! Input of the planner. Where the state says what shall be, the inventory says what is.

use crate::id::{Name, NodeId};
use crate::liveness::Liveness;
use crate::report::{Report, ServiceSeen};
use crate::sign::Signed;
use crate::site::{EndpointSpec, Site};
use crate::time::Span;
use alloc::collections::{BTreeMap, BTreeSet};

/// One node as it is.
#[derive(Clone, Debug)]
pub struct NodeNow {
    /// What the others make of it, and for how long already.
    pub liveness: Liveness,
    /// For how long it has been so.
    pub since: Span,
    /// Its latest report, verified.
    pub report: Report,
    /// The same with its signature, as evidence.
    pub signed: Signed<Report>,
}

/// All nodes as they are. A node that never reported is missing.
#[derive(Clone, Debug, Default)]
pub struct Inventory {
    /// By id.
    pub nodes: BTreeMap<NodeId, NodeNow>,
}

impl Inventory {
    /// Whether a node is up and all services of `spec` are healthy on it.
    #[must_use]
    pub fn is_ready(&self, node: NodeId, spec: &EndpointSpec) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.liveness == Liveness::Up && serves(&n.report, spec))
    }

    /// Whether most others reach it.
    #[must_use]
    pub fn is_up(&self, node: NodeId) -> bool {
        self.nodes.get(&node).is_some_and(|n| n.liveness == Liveness::Up)
    }

    /// The signed reports of nodes that are up, as evidence.
    #[must_use]
    pub fn evidence(&self, of: &BTreeSet<NodeId>) -> alloc::vec::Vec<Signed<Report>> {
        self.nodes
            .iter()
            .filter(|(id, node)| of.contains(id) && node.liveness == Liveness::Up)
            .map(|(_, node)| node.signed.clone())
            .collect()
    }

    /// The reports of all nodes that are up.
    pub fn live_reports(&self) -> impl Iterator<Item = &Report> {
        self.nodes.values().filter(|n| n.liveness == Liveness::Up).map(|n| &n.report)
    }

    /// The reports of those of `nodes` that are up.
    pub fn reports_of_live<'a>(&'a self, nodes: &'a BTreeSet<NodeId>) -> impl Iterator<Item = &'a Report> {
        self.live_reports().filter(|r| nodes.contains(&r.from))
    }

    /// The services that a node reports as failing for good, with the reason.
    pub fn down<'a>(&'a self, node: NodeId, site: &'a Site) -> impl Iterator<Item = (&'a Name, &'a str)> {
        let report = self.nodes.get(&node).filter(|n| n.liveness == Liveness::Up).map(|n| &n.report);
        report.into_iter().flat_map(|r| &r.services).filter_map(|(name, seen)| match seen {
            ServiceSeen::Down(reason) if site.services.contains_key(name) => Some((name, reason.as_str())),
            ServiceSeen::Down(_) | ServiceSeen::Unknown | ServiceSeen::Healthy | ServiceSeen::Ailing(_) => {
                None
            }
        })
    }
}

/// Whether a report calls all services of an endpoint healthy.
#[must_use]
pub fn serves(report: &Report, spec: &EndpointSpec) -> bool {
    spec.services.iter().all(|wanted| {
        report.services.iter().any(|(name, seen)| name == wanted && *seen == ServiceSeen::Healthy)
    })
}
