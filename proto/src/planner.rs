//! The planner: from what shall be (state) and what is (inventory) to what has to be committed.
//!
//! Level-triggered: it looks at everything each time and remembers nothing, so that the next leader goes on
//! where the last one stopped. It never moves an endpoint: takeovers happen by lease and are recorded here
//! afterwards, orders carry themselves out in `apply`. So a wrong plan costs a little order, not the site.

mod alarms;
mod fences;
mod host_keys;
mod membership;
mod notes;
mod probation;
mod seats;

use crate::command::Command;
use crate::inventory::Inventory;
use crate::limits::PROPOSALS_MAX;
use crate::state::State;
use alloc::vec::Vec;

/// Everything that a leader should propose now, the most urgent first, at most [`PROPOSALS_MAX`].
#[must_use]
pub fn plan(state: &State, inventory: &Inventory, unix_ms: u64) -> Vec<Command> {
    let mut commands = seats::plan(state, inventory, unix_ms);
    commands.extend(membership::plan(state, inventory, unix_ms));
    commands.extend(fences::plan(state, inventory, unix_ms));
    commands.extend(host_keys::plan(state, inventory));
    commands.extend(probation::plan(state, inventory, unix_ms));
    commands.extend(notes::plan(state, inventory, unix_ms));
    commands.truncate(PROPOSALS_MAX);
    commands
}
