//! Whose probation is over.

use crate::command::Command;
use crate::id::NodeId;
use crate::inventory::Inventory;
use crate::state::State;
use alloc::vec::Vec;

/// Those that `apply` is going to agree with.
pub(super) fn plan(state: &State, inventory: &Inventory, unix_ms: u64) -> Vec<Command> {
    let over = |node: &&NodeId| {
        inventory.is_up(**node)
            && !state.is_isolated(**node)
            && state.think_probation_over(inventory.live_reports(), **node) >= state.config.majority()
    };
    let end = |node: &NodeId| {
        let reports = inventory.evidence(&state.config.voters);
        Command::EndProbation { node: *node, reports, unix_ms }
    };
    state.members.keys().filter(over).map(end).collect()
}
