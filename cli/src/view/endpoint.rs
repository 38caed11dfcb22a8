//! One endpoint.

use super::node_name;
use super::why::candidates;
use crate::agreement::Agreement;
use crate::json::{Endpoint, Trouble};
use stead_proto::id::Name;
use stead_proto::site::{Driver, EndpointSpec};

pub(super) fn endpoint(agreement: &Agreement<'_>, name: &Name, spec: &EndpointSpec) -> Endpoint {
    let holding = agreement.holding(name);
    let state = agreement.state();
    let plan = state.and_then(|state| state.plans.get(name));
    let named = |node| node_name(agreement, node);
    let holding_page = holding
        .serving
        .iter()
        .any(|node| agreement.endpoint_at(*node, name).is_some_and(|endpoint| endpoint.holding_page));
    let word = match (holding.serving.len(), holding.agreed) {
        (0, true) => "unsure",
        (0, false) => "vacant",
        (1, true) if holding_page => "holding-page",
        (1, true) => "served",
        (1, false) => "unsure",
        (_, _) => "contested",
    };
    let promised = |to| holding.promises.values().flatten().filter(|(node, _)| Some(*node) == to).count();
    let troubles = agreement.answers.keys().filter_map(|node| {
        let text = agreement.endpoint_at(*node, name)?.trouble.clone()?;
        Some(Trouble { node: named(*node), text })
    });
    let candidates = state.map(|state| candidates(agreement, state, name, spec, holding.holder));
    let next = candidates.into_iter().flatten().find(|candidate| candidate.verdict == "next");
    Endpoint {
        name: name.to_string(),
        address: spec.address.to_string(),
        ports: spec.ports.clone(),
        driver: match &spec.driver {
            Driver::Vip => "vip",
            Driver::Exec(_) => "exec",
        },
        services: spec.services.iter().map(ToString::to_string).collect(),
        lease_ms: spec.lease_ms,
        state: word,
        holder: holding.holder.map(named),
        epoch: holding.epoch.map(|epoch| epoch.to_string()),
        promises: promised(holding.holder),
        voters: state.map_or(0, |state| state.config.voters.len()),
        serving: holding.serving.iter().map(|node| named(*node)).collect(),
        plan: plan.into_iter().flat_map(|plan| &plan.seats).map(|seat| named(seat.node)).collect(),
        next: next.map(|candidate| candidate.node),
        troubles: troubles.collect(),
    }
}
