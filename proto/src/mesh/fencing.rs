//! This node's part in fencing: it runs the operator's command when the log says that it is its turn, once for each epoch,
//! and reports what came of it until the log has it.
//!
//! **Invariant.** Nothing is run by a node that is cut off or demoted itself.

use super::{Effect, Mesh};
use crate::fence::{FenceOrder, Fenced};
use crate::id::NodeId;
use crate::limits::FENCED_TOLD_MAX;
use crate::roster::bounded_text;
use alloc::{
    collections::{BTreeMap, BTreeSet},
    string::{String, ToString},
    vec::Vec,
};

/// What was begun, and what came of it.
#[derive(Debug, Default)]
pub(super) struct Fences {
    begun: BTreeSet<u64>,
    ended: BTreeMap<NodeId, Fenced>,
}

impl Fences {
    /// What the log does not have yet, as much as one report takes.
    pub(super) fn told(&self) -> Vec<Fenced> {
        self.ended.values().take(FENCED_TOLD_MAX).cloned().collect()
    }
}

impl Mesh {
    /// The state has changed: it may be this node's turn.
    pub(super) fn fence_if_it_is_our_turn(&mut self, out: &mut Vec<Effect>) {
        let current: BTreeSet<u64> = self.state.fences.values().map(|fencing| fencing.epoch).collect();
        self.fences.begun.retain(|epoch| current.contains(epoch));
        let open =
            |node: &NodeId| self.state.fences.get(node).is_some_and(|fencing| fencing.outcome.is_none());
        self.fences.ended.retain(|node, _| open(node));
        let Some(policy) = &self.state.site.fence else { return };
        if !self.trusts(self.me) || self.judging.demoted().contains(&self.me) {
            return;
        }
        for (node, fencing) in
            self.state.fences.iter().filter(|(_, f)| f.by == self.me && f.outcome.is_none())
        {
            let Some(member) = self.state.members.get(node) else { continue };
            if !self.fences.begun.insert(fencing.epoch) {
                continue;
            }
            let address = member
                .addresses
                .first()
                .map_or_else(|| "-".into(), |home| home.ip().to_canonical().to_string());
            let words = ["isolate".into(), member.name.to_string(), address, fencing.epoch.to_string()];
            let command = policy.command.iter().cloned().chain(words).collect();
            out.push(Effect::Fence(FenceOrder { node: *node, epoch: fencing.epoch, command }));
        }
    }

    /// The command has ended.
    pub(super) fn take_fenced(&mut self, node: NodeId, epoch: u64, failed: Option<String>) {
        let failed = failed.map(|why| bounded_text(&why));
        self.fences.ended.insert(node, Fenced { node, epoch, failed });
        self.reporter.hurry();
    }
}
