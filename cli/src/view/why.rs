//! Why an endpoint is where it is, and who would be next.

use super::{endpoint, incident, node_name};
use crate::agreement::Agreement;
use crate::json::{Candidate, Promise, Why};
use stead_proto::id::{Name, NodeId};
use stead_proto::incident::Matter;
use stead_proto::limits::PATIENCE;
use stead_proto::report::{Report, ServiceSeen, Unwell};
use stead_proto::roster::{Member, Role, Standing};
use stead_proto::site::EndpointSpec;
use stead_proto::state::State;

const MOVES_MAX: usize = 5;
const SILENT: &str = "does not answer";

/// The reasons; nothing if there is no such endpoint, or no state to look it up in.
pub(crate) fn why(agreement: &Agreement<'_>, name: &Name) -> Option<Why> {
    let state = agreement.state()?;
    let spec = state.site.endpoints.get(name)?;
    let holding = agreement.holding(name);
    let endpoint = endpoint::endpoint(agreement, name, spec);
    let moves: Vec<_> =
        state.incidents.iter().rev().filter(|i| i.matter == Matter::Move(name.clone())).collect();
    let since = moves.iter().flat_map(|i| &i.lines).map(|line| line.unix_ms).filter(|ms| *ms > 0).max();
    let promises = state.config.voters.iter().map(|voter| {
        let known = holding.promises.get(voter);
        let promise = known.copied().flatten();
        Promise {
            voter: node_name(agreement, *voter),
            to: promise.map(|(to, _)| node_name(agreement, to)),
            epoch: promise.map(|(_, epoch)| epoch.to_string()),
            known: known.is_some(),
        }
    });
    let candidates = candidates(agreement, state, name, spec, holding.holder);
    let mut why = Why {
        since_unix_ms: endpoint.holder.as_ref().and(since),
        plan_index: state.plans.get(name).map(|plan| plan.index),
        moves: moves.into_iter().take(MOVES_MAX).map(|i| incident(state, i)).collect(),
        candidates,
        promises: promises.collect(),
        advice: Vec::new(),
        endpoint,
    };
    why.advice = advice(&why, agreement.quorum);
    Some(why)
}

/// All nodes in the order of succession: those of the plan from the holder on, then the rest.
pub(super) fn candidates(
    agreement: &Agreement<'_>,
    state: &State,
    name: &Name,
    spec: &EndpointSpec,
    holder: Option<NodeId>,
) -> Vec<Candidate> {
    let seats: Vec<NodeId> =
        state.plans.get(name).into_iter().flat_map(|plan| &plan.seats).map(|seat| seat.node).collect();
    let start = seats.iter().position(|node| Some(*node) == holder).unwrap_or(0);
    let mut order: Vec<NodeId> = seats.iter().cycle().skip(start).take(seats.len()).copied().collect();
    order.extend(state.members.keys().filter(|id| !seats.contains(id)));
    let mut next_taken = false;
    let judge = |id: &NodeId| {
        let member = state.members.get(id)?;
        let mut against = against(agreement, member, spec);
        if !seats.is_empty() && !seats.contains(id) && against.is_empty() {
            against.push("is not in the plan yet: the leader adds it shortly".into());
        }
        let verdict = match (Some(*id) == holder, against.is_empty(), next_taken) {
            (true, _, _) => "holds",
            (false, false, _) => "unable",
            (false, true, true) => "able",
            (false, true, false) => {
                next_taken = true;
                "next"
            }
        };
        let reasons =
            if against.is_empty() { vec!["is up, and all its services are healthy".into()] } else { against };
        Some(Candidate { node: member.name.to_string(), verdict, reasons })
    };
    order.iter().filter_map(judge).collect()
}

/// What keeps a node from serving an endpoint, as far as the mesh knows: that it does not answer here counts only
/// if it is silent for the others as well.
pub(crate) fn unfit(agreement: &Agreement<'_>, member: &Member, spec: &EndpointSpec) -> Vec<String> {
    let heard_lately = agreement.report_of(member.id).is_some_and(|(age_ms, _)| age_ms <= PATIENCE.as_ms());
    let mut reasons = against(agreement, member, spec);
    if heard_lately {
        reasons.retain(|reason| !reason.starts_with(SILENT));
    }
    reasons
}

/// Everything that speaks against a node as the holder.
fn against(agreement: &Agreement<'_>, member: &Member, spec: &EndpointSpec) -> Vec<String> {
    let mut reasons = Vec::new();
    if member.role == Role::Witness {
        reasons.push("is a witness: it votes and never holds".into());
        return reasons;
    }
    if agreement.state().is_some_and(|state| state.is_isolated(member.id)) {
        reasons.push("was cut off: `stead cases` says by whom".into());
        return reasons;
    }
    if member.standing == Standing::Drained {
        reasons.push(format!("is drained: `stead undrain {}` lets it hold again", member.name));
    }
    if let Standing::Probation { .. } = member.standing {
        reasons.push(format!("is on probation: `stead undrain {}` ends that", member.name));
    }
    let Some((age_ms, report)) = agreement.report_of(member.id) else {
        reasons.push("is not reached, and nobody has heard of it since the agents started".into());
        return reasons;
    };
    if agreement.status_of(member.id).is_none() {
        reasons.push(format!("{SILENT}; the others heard it {} ago", crate::words::span(age_ms)));
    }
    reasons.extend(spec.services.iter().filter_map(|service| service_reason(report, service)));
    for unwell in &report.unwell {
        match unwell {
            Unwell::UplinkMissing | Unwell::AddressTaken | Unwell::Stalled => {
                reasons.push(format!("is unwell: {}", unwell.as_str()));
            }
            Unwell::DiskFull | Unwell::StoreFailed | Unwell::OutcastLetIn => {}
        }
    }
    reasons
}

fn service_reason(report: &Report, service: &Name) -> Option<String> {
    match report.services.iter().find(|(name, _)| name == service).map(|(_, seen)| seen) {
        Some(ServiceSeen::Healthy) => None,
        Some(ServiceSeen::Ailing(why)) => Some(format!("{service} fails and is being restarted: {why}")),
        Some(ServiceSeen::Down(why)) => Some(format!("{service} is down: {why}")),
        Some(ServiceSeen::Unknown) => Some(format!("{service} was not probed long enough yet")),
        None => Some(format!("it does not report on {service} yet")),
    }
}

fn advice(why: &Why, quorum: bool) -> Vec<String> {
    let name = &why.endpoint.name;
    let mut advice = Vec::new();
    if why.endpoint.state == "contested" {
        advice.push(
            "More than one node says that it serves it: ask again at once; if it stays so, stop all but one."
                .into(),
        );
    }
    if !quorum {
        advice.push("No majority of the voters agrees: bring voters back first (`stead status`).".into());
    }
    if why.endpoint.holder.is_none() && !why.candidates.iter().any(|c| c.verdict == "next") {
        advice.push(format!("No node can take {name}: mend one of the reasons above."));
    } else if !why.candidates.iter().any(|c| c.verdict == "next") {
        advice.push(format!("Nobody could take {name} over now: mend one of the reasons above."));
    }
    advice
}
