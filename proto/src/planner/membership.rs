//! Who should vote: voters that nobody reaches stop counting, those that are back count again.

use crate::command::Command;
use crate::config::{Change, Confirmation};
use crate::id::NodeId;
use crate::inventory::Inventory;
use crate::report::Report;
use crate::state::State;
use crate::time::Span;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::String,
    vec::Vec,
};

/// At most one change, and only one that `apply` is going to accept.
pub(super) fn plan(state: &State, inventory: &Inventory, unix_ms: u64) -> Option<Command> {
    let reports: BTreeMap<NodeId, Report> =
        inventory.live_reports().map(|report| (report.from, report.clone())).collect();
    let confirmations: Vec<Confirmation> = reports.values().map(Report::confirmation).collect();
    let acceptable = |change: &Change| {
        let index = state.applied.saturating_add(1);
        state.check_change(*change, &reports).is_ok()
            && state.config.next(index, *change, &confirmations).is_ok()
    };
    let (change, reason) = wanted(state, inventory).into_iter().find(|(change, _)| acceptable(change))?;
    // The judges and who is judged, as far as the latter speaks: more of them may not fit one command.
    let subject = match change {
        Change::Add(node) | Change::Remove(node) | Change::EnterPair(node) => Some(node),
        Change::LeavePair => None,
    };
    let heard: BTreeSet<NodeId> = state.config.voters.iter().copied().chain(subject).collect();
    let reports = inventory.evidence(&heard);
    Some(Command::Voters { change, reports, reason: String::from(reason), unix_ms })
}

/// What would be good, the most wanted first.
fn wanted(state: &State, inventory: &Inventory) -> Vec<(Change, &'static str)> {
    let config = &state.config;
    let mut changes = Vec::new();
    for node in config.voters.iter().filter(|node| !state.wants_vote(**node)) {
        let why = if state.is_isolated(*node) { "it is cut off" } else { "an operator took its vote" };
        changes.push((Change::Remove(*node), why));
    }
    let settled = Span::from_ms(state.site.charter.promote_after_ms.into());
    let returned = |node: &NodeId| {
        let up = inventory.is_up(*node);
        up && inventory.nodes.get(node).is_some_and(|n| n.since >= settled)
    };
    let missing: Vec<NodeId> = state
        .members
        .keys()
        .copied()
        .filter(|node| state.wants_vote(*node) && !config.voters.contains(node) && returned(node))
        .collect();
    changes.extend(missing.iter().map(|node| (Change::Add(*node), "it is there and caught up")));
    changes.extend(pair(state, !missing.is_empty()));
    let gone = config.voters.iter().filter(|node| !inventory.is_up(**node));
    changes.extend(gone.map(|node| (Change::Remove(*node), "nobody has reached it for long")));
    changes
}

/// Two-voter mode: on while exactly two vote and one of them is first everywhere; off when that changes.
fn pair(state: &State, growing: bool) -> Option<(Change, &'static str)> {
    let holders: BTreeSet<NodeId> =
        state.plans.values().filter_map(|plan| plan.seats.first()).map(|seat| seat.node).collect();
    let only = (holders.len() == 1).then(|| holders.first().copied()).flatten();
    match state.config.pair {
        Some(_) if growing => Some((Change::LeavePair, "a third voter is coming")),
        Some(alone) if only != Some(alone) => Some((Change::LeavePair, "the endpoint moves")),
        None if state.config.voters.len() == 2 && !growing => {
            let holder = only.filter(|node| state.config.voters.contains(node))?;
            Some((Change::EnterPair(holder), "there are two voters"))
        }
        Some(_) | None => None,
    }
}
