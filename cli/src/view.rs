//! From everybody's answers to the values of [`crate::json`]: what is shown, before it is rendered.
//!
//! **Invariant.** Pure: the same answers give the same view.

mod advice;
mod cases;
mod doctor;
mod endpoint;
mod facts;
mod incident;
mod node;
mod service;
mod traces;
mod traffic;
mod transport;
mod why;

pub(crate) use cases::cases;
pub(crate) use doctor::doctor;
pub(crate) use facts::{changes, facts};
pub(crate) use incident::{incident, incidents};
pub(crate) use traces::{SAMPLES_MAX, Trace, Traces};
pub(crate) use traffic::{moods, syn};
pub(crate) use why::{unfit, why};

use crate::agreement::Agreement;
use crate::json::{Endpoint, Health, Mesh, Node, Service};
use stead_proto::id::NodeId;

/// The mesh as a whole.
pub(crate) fn mesh(agreement: &Agreement<'_>) -> Mesh {
    let state = agreement.state();
    let voters = state.map_or(0, |state| state.config.voters.len());
    let (nodes, endpoints, services) = (nodes(agreement), endpoints(agreement), services(agreement));
    let open = state.map(|state| incidents(state).into_iter().filter(|i| i.open).collect());
    let leader = agreement.leader;
    let mut mesh = Mesh {
        cluster: state.map(|state| state.cluster.to_string()),
        health: Health::Ok,
        voters,
        majority: voters / 2 + 1,
        agreeing: agreement.agreeing.len(),
        leader: leader.map(|node| node_name(agreement, node)),
        term: leader.and(agreement.basis).map(|status| status.own.log.term),
        site_version: state.map(|state| state.site_version),
        applied: state.map(|state| state.applied),
        nodes,
        endpoints,
        services,
        incidents: open.unwrap_or_default(),
        advice: Vec::new(),
    };
    (mesh.health, mesh.advice) = advice::mesh(&mesh, agreement.quorum);
    mesh
}

/// All nodes, by id.
pub(crate) fn nodes(agreement: &Agreement<'_>) -> Vec<Node> {
    agreement.answers.iter().map(|(id, heard)| node::node(agreement, *id, heard)).collect()
}

/// All endpoints, by name.
pub(crate) fn endpoints(agreement: &Agreement<'_>) -> Vec<Endpoint> {
    let specs = agreement.state().into_iter().flat_map(|state| &state.site.endpoints);
    specs.map(|(name, spec)| endpoint::endpoint(agreement, name, spec)).collect()
}

/// All services, by name.
pub(crate) fn services(agreement: &Agreement<'_>) -> Vec<Service> {
    let services = agreement.state().into_iter().flat_map(|state| state.site.services.values());
    services.map(|service| service::service(agreement, service)).collect()
}

/// What people call a node.
fn node_name(agreement: &Agreement<'_>, node: NodeId) -> String {
    match (agreement.state(), agreement.answers.get(&node)) {
        (Some(state), _) if state.members.contains_key(&node) => state.name_of(node),
        (_, Some(heard)) => heard.name.to_string(),
        (_, None) => node.to_string(),
    }
}
