//! Who should be fenced next, and what came of it.

use crate::command::Command;
use crate::id::NodeId;
use crate::inventory::Inventory;
use crate::state::State;
use alloc::vec::Vec;

/// What `apply` is going to agree with.
pub(super) fn plan(state: &State, inventory: &Inventory, unix_ms: u64) -> Vec<Command> {
    let told = state.fences.iter().filter_map(|(node, fencing)| {
        let by = inventory.nodes.get(&fencing.by)?;
        state.fencing_told(*node, &by.report)?;
        Some(Command::Fenced { node: *node, report: by.signed.clone(), unix_ms })
    });
    let index = state.applied.saturating_add(1);
    let due = |node: &&NodeId| state.next_fencing(index, **node, inventory.live_reports()).is_ok();
    let orders = state.isolations.keys().filter(due).map(|node| {
        let reports = inventory.evidence(&state.config.voters);
        Command::Fence { node: *node, reports, unix_ms }
    });
    told.chain(orders).collect()
}
