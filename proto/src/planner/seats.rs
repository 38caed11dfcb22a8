//! Who may hold an endpoint, in which order.

use crate::command::{Command, Ground};
use crate::evidence;
use crate::id::{Name, NodeId};
use crate::inventory::Inventory;
use crate::limits::{GATE_SLACK_MAX, REORDER_AFTER};
use crate::plan::{Plan, Seat};
use crate::report::{LeaseSeen, Report};
use crate::site::EndpointSpec;
use crate::state::State;
use alloc::{collections::BTreeSet, format, string::String, vec::Vec};

/// The plans that are missing, outdated, or overtaken by a succession.
pub(super) fn plan(state: &State, inventory: &Inventory, unix_ms: u64) -> Vec<Command> {
    let propose = |(name, spec): (&Name, &EndpointSpec)| {
        let (parent, seats, ground) = match state.plans.get(name) {
            None => (0, first(state, inventory, spec)?, Ground::First),
            Some(plan) => succeed(state, inventory, name, spec, plan)
                .or_else(|| refresh(state, inventory, name, spec, plan))
                .map(|(seats, ground)| (plan.index, seats, ground))?,
        };
        Some(Command::Plan { endpoint: name.clone(), parent, seats, ground, unix_ms })
    };
    state.site.endpoints.iter().filter_map(propose).collect()
}

/// The first plan waits until its holder has been heard.
fn first(state: &State, inventory: &Inventory, spec: &EndpointSpec) -> Option<Vec<Seat>> {
    let seats = order(state, inventory, spec, None);
    let holder = seats.first()?.node;
    inventory.is_up(holder).then_some(seats)
}

/// Records a succession that a majority of the voters has signed.
fn succeed(
    state: &State,
    inventory: &Inventory,
    name: &Name,
    spec: &EndpointSpec,
    plan: &Plan,
) -> Option<(Vec<Seat>, Ground)> {
    let witnesses = |node: NodeId| {
        let voters = inventory.reports_of_live(&state.config.voters);
        evidence::promised_to(voters, name, plan.index, node)
    };
    let successor =
        state.candidates().into_iter().find(|node| witnesses(*node).len() >= state.config.majority())?;
    let witnesses: BTreeSet<NodeId> = witnesses(successor).into_iter().collect();
    let because = cause(state, inventory, spec, plan);
    let ground = Ground::Witnessed { reports: inventory.evidence(&witnesses), because };
    Some((order(state, inventory, spec, Some(successor)), ground))
}

fn cause(state: &State, inventory: &Inventory, spec: &EndpointSpec, plan: &Plan) -> String {
    let Some(old) = plan.seats.first().map(|s| s.node) else { return String::new() };
    let name = state.name_of(old);
    let failed = inventory.down(old, &state.site).find(|(service, _)| spec.services.contains(*service));
    match failed {
        _ if state.is_isolated(old) => format!("{name} was cut off"),
        _ if is_silent(inventory, old, plan) => format!("{name} fell silent"),
        _ if !state.members.contains_key(&old) => format!("{name} was removed"),
        _ if !state.candidates().contains(&old) => format!("{name} was drained"),
        Some((service, reason)) => format!("{service} failed on {name} ({reason})"),
        None => format!("{name} let its lease run out, or gave it back"),
    }
}

/// Whether most of those who report have not heard a node for as long as its lease.
fn is_silent(inventory: &Inventory, node: NodeId, plan: &Plan) -> bool {
    let others = || inventory.live_reports().filter(|report| report.from != node);
    let misses = |report: &&Report| {
        let reach = report.reach.iter().find(|(to, _)| *to == node);
        reach.is_none_or(|(_, reach)| reach.heard_ms_ago >= plan.lease_ms)
    };
    2 * others().filter(misses).count() > others().count()
}

/// Renews a plan whose seats, lease or epochs do not fit any more, with the same node first.
fn refresh(
    state: &State,
    inventory: &Inventory,
    name: &Name,
    spec: &EndpointSpec,
    plan: &Plan,
) -> Option<(Vec<Seat>, Ground)> {
    let keep = plan.seats.first().map(|s| s.node).filter(|node| state.candidates().contains(node));
    let wanted = order(state, inventory, spec, keep);
    let nodes = |seats: &[Seat]| seats.iter().map(|s| s.node).collect::<BTreeSet<_>>();
    let slower = |seat: &Seat| wanted.iter().any(|w| w.node == seat.node && w.slack_ms > seat.slack_ms);
    let outdated = nodes(&plan.seats) != nodes(&wanted)
        || plan.lease_ms != spec.lease_ms
        // Only plans younger than the configuration before are agreed to anew (`Config::admits`).
        || plan.index < state.config.index
        || plan.seats.iter().any(slower)
        || is_burned(state, inventory, name, plan)
        || successor_is_useless(inventory, spec, plan, &wanted);
    (outdated && !is_contested(inventory, name, plan) && !wanted.is_empty())
        .then_some((wanted, Ground::Refresh))
}

/// Whether a succession is under way: it gets recorded, never overwritten.
fn is_contested(inventory: &Inventory, name: &Name, plan: &Plan) -> bool {
    let succeeded = |lease: &LeaseSeen| {
        lease.endpoint == *name && lease.promised.is_some_and(|(_, e)| e.plan == plan.index && e.rank > 0)
    };
    inventory.live_reports().any(|report| report.leases.iter().any(succeeded))
}

/// Whether a voter cannot agree to this plan any more, because it lost its memory of it.
fn is_burned(state: &State, inventory: &Inventory, name: &Name, plan: &Plan) -> bool {
    let burned = |lease: &LeaseSeen| {
        lease.endpoint == *name && lease.highest.plan >= plan.index && lease.highest.rank == u32::MAX
    };
    let mut voters = inventory.reports_of_live(&state.config.voters);
    voters.any(|report: &Report| report.leases.iter().any(burned))
}

/// Whether the next in line has been unable for a while, and somebody else is able.
fn successor_is_useless(inventory: &Inventory, spec: &EndpointSpec, plan: &Plan, wanted: &[Seat]) -> bool {
    let (Some(next), Some(better)) = (plan.seats.get(1), wanted.get(1)) else { return false };
    let settled = inventory.nodes.get(&next.node).is_none_or(|n| n.since >= REORDER_AFTER);
    next.node != better.node
        && settled
        && !inventory.is_ready(next.node, spec)
        && inventory.is_ready(better.node, spec)
}

/// All candidates: the one to keep, then those that are ready, those that are up, the rest; within each
/// group by the operator's preference, then by number.
fn order(state: &State, inventory: &Inventory, spec: &EndpointSpec, keep: Option<NodeId>) -> Vec<Seat> {
    let mut nodes: Vec<NodeId> = state.candidates().into_iter().collect();
    let preference = |node: NodeId| {
        let name = state.members.get(&node).map(|m| &m.name);
        spec.prefer.iter().position(|wanted| Some(wanted) == name).unwrap_or(usize::MAX)
    };
    nodes.sort_by_key(|node| {
        let (unready, down) = (!inventory.is_ready(*node, spec), !inventory.is_up(*node));
        (Some(*node) != keep, down, unready, preference(*node), *node)
    });
    // More than the most is no plan; a node whose gate really needs more does not act upon it.
    let most = u32::try_from(GATE_SLACK_MAX.as_ms()).unwrap_or(u32::MAX);
    let slack = |node: NodeId| inventory.nodes.get(&node).map_or(0, |n| n.report.gate.slack_ms.min(most));
    nodes.into_iter().map(|node| Seat { node, slack_ms: slack(node) }).collect()
}
