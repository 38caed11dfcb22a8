//! The commands that only look.

use super::session::{Session, state};
use crate::agreement::Agreement;
use crate::exit::{Exit, Failure};
use crate::json::{Endpoints, Health, Incidents, Nodes, Services};
use crate::words::now_unix_ms;
use crate::{render, view};
use stead_proto::id::Name;

pub(super) async fn status(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let mesh = view::mesh(&Agreement::of(&answers));
    session.output.document(&mesh, |mesh| render::status(mesh, session.output.paint, now_unix_ms()))?;
    Ok(match mesh.health {
        Health::Ok => Exit::Ok,
        Health::Degraded | Health::NoQuorum => Exit::Degraded,
    })
}

pub(super) async fn nodes(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (_, exit) = state(&agreement)?;
    let nodes = Nodes { nodes: view::nodes(&agreement) };
    session.output.document(&nodes, |all| render::nodes(&all.nodes, session.output.paint))?;
    Ok(exit)
}

pub(super) async fn endpoints(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (_, exit) = state(&agreement)?;
    let endpoints = Endpoints { endpoints: view::endpoints(&agreement) };
    session.output.document(&endpoints, |all| render::endpoints(&all.endpoints, session.output.paint))?;
    Ok(exit)
}

pub(super) async fn services(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (_, exit) = state(&agreement)?;
    let services = Services { services: view::services(&agreement) };
    session.output.document(&services, |all| render::services(&all.services, session.output.paint))?;
    Ok(exit)
}

pub(super) async fn incidents(session: &Session, only_open: bool) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let (state, exit) = state(&Agreement::of(&answers))?;
    let mut incidents = view::incidents(state);
    incidents.retain(|incident| incident.open || !only_open);
    let incidents = Incidents { incidents };
    let paint = session.output.paint;
    session.output.document(&incidents, |all| render::incidents(&all.incidents, paint, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn incident(session: &Session, id: u64) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let (state, exit) = state(&Agreement::of(&answers))?;
    let found = state.incidents.get(id).ok_or_else(|| {
        Failure::Failed(format!("there is no incident {id}: `stead incidents` lists those on record"))
    })?;
    let incident = view::incident(state, found);
    let paint = session.output.paint;
    session.output.document(&incident, |incident| render::incident(incident, paint, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn why(session: &Session, endpoint: &Name) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (state, exit) = state(&agreement)?;
    let why = view::why(&agreement, endpoint).ok_or_else(|| no_such_endpoint(state, endpoint))?;
    let paint = session.output.paint;
    session.output.document(&why, |why| render::why(why, paint, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn doctor(session: &Session, only: Option<&Name>) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let known = || answers.values().map(|heard| heard.name.as_str());
    let doctor = view::doctor(&agreement, only).ok_or_else(|| {
        let name = only.map(Name::as_str).unwrap_or_default();
        Failure::Usage(unknown("node", name, &known().collect::<Vec<_>>()))
    })?;
    session.output.document(&doctor, |doctor| render::doctor(doctor, session.output.paint))?;
    Ok(if doctor.sound { Exit::Ok } else { Exit::Degraded })
}

/// The failure for an endpoint that is not in the site.
pub(super) fn no_such_endpoint(state: &stead_proto::state::State, endpoint: &Name) -> Failure {
    let known: Vec<&str> = state.site.endpoints.keys().map(Name::as_str).collect();
    Failure::Usage(unknown("endpoint", endpoint.as_str(), &known))
}

/// The failure for a node that is not in the roster.
pub(super) fn no_such_node(state: &stead_proto::state::State, node: &Name) -> Failure {
    let known: Vec<&str> = state.members.values().map(|member| member.name.as_str()).collect();
    Failure::Usage(unknown("node", node.as_str(), &known))
}

fn unknown(kind: &str, name: &str, known: &[&str]) -> String {
    if known.is_empty() {
        return format!("there is no {kind} {name}, and no other");
    }
    match crate::document::nearest(name, &known.iter().copied().collect()) {
        Some(near) => format!("there is no {kind} {name}; did you mean {near}?"),
        None => format!("there is no {kind} {name}; there are: {}", known.join(", ")),
    }
}
