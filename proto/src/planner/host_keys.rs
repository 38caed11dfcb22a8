//! The host keys of the nodes' SSH servers: the first ones that are seen, and those that are not what they were.

use crate::command::Command;
use crate::id::NodeId;
use crate::incident::Matter;
use crate::inventory::Inventory;
use crate::outside::HostKey;
use crate::state::State;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    format,
    string::String,
    vec::Vec,
};

/// How many nodes have to see another key before it is told.
const WITNESSES_MIN: usize = 2;

/// The first keys that enough of the others see.
pub(super) fn plan(state: &State, inventory: &Inventory) -> Vec<Command> {
    let unknown =
        state.members.keys().filter(|node| !state.host_keys.contains_key(node) && !state.is_isolated(**node));
    let first = |node: &NodeId| {
        let keys: BTreeSet<HostKey> = seen(inventory, *node).map(|(_, key)| key).collect();
        let enough =
            |key: &HostKey| state.seen_with(inventory.live_reports(), *node, *key) >= state.sights_needed();
        let key = keys.into_iter().find(enough)?;
        let witnesses = seen(inventory, *node).filter(|(_, seen)| *seen == key).map(|(witness, _)| witness);
        let reports = inventory.evidence(&witnesses.collect());
        Some(Command::HostKey { node: *node, key, reports })
    };
    unknown.filter_map(first).collect()
}

/// What there is to tell of one node: that its key is another one.
pub(super) fn current(state: &State, inventory: &Inventory, node: NodeId) -> Option<(Matter, String)> {
    let known = state.host_keys.get(&node)?;
    let mut others: BTreeMap<HostKey, usize> = BTreeMap::new();
    for (_, key) in seen(inventory, node).filter(|(_, key)| key != known) {
        *others.entry(key).or_default() += 1;
    }
    let (key, _) = others.into_iter().find(|(_, witnesses)| *witnesses >= WITNESSES_MIN)?;
    let name = state.name_of(node);
    let text = format!(
        "the SSH host key of {name} is {key}, and was {known}: if you changed it, `stead accept {name}`; if not, somebody \
         else has that server"
    );
    Some((Matter::HostKey(node), text))
}

/// How it ended, or nothing if it has not.
pub(super) fn ending(state: &State, inventory: &Inventory, node: NodeId) -> Option<String> {
    let known = state.host_keys.get(&node);
    let mut seen = seen(inventory, node).map(|(_, key)| key).peekable();
    let as_known = seen.peek().is_some() && seen.all(|key| Some(&key) == known);
    as_known.then(|| format!("{} has the host key that the mesh knows", state.name_of(node)))
}

/// Who sees which key.
fn seen(inventory: &Inventory, node: NodeId) -> impl Iterator<Item = (NodeId, HostKey)> {
    inventory.live_reports().filter(move |report| report.from != node).filter_map(move |report| {
        let (_, reach) = report.reach.iter().find(|(peer, _)| *peer == node)?;
        Some((report.from, reach.host_key?))
    })
}
