//! The host keys that the nodes' SSH servers should have.
//!
//! The first one is the one that peers see (trust on first use, like `ssh` itself does); from then on it changes by an
//! operator's word alone.
//!
//! **Invariant.** So many peers have signed that they saw a first key that one of them at least is honest.

use super::State;
use crate::command::{Outcome, Refusal, no_such_node};
use crate::evidence;
use crate::id::NodeId;
use crate::incident::Matter;
use crate::outside::HostKey;
use crate::report::Report;
use crate::roster::Operator;
use crate::sign::Signed;
use crate::tribunal::Sanction;
use alloc::format;

impl State {
    /// How many of `reports` show `key` as a node's, of those who judge here and are not that node.
    #[must_use]
    pub fn seen_with<'a>(
        &self,
        reports: impl IntoIterator<Item = &'a Report>,
        node: NodeId,
        key: HostKey,
    ) -> usize {
        let judges = self.electorate().voters;
        let sees = |report: &&Report| {
            let mut reach = report.reach.iter();
            report.from != node
                && judges.contains_key(&report.from)
                && reach.any(|(peer, reach)| *peer == node && reach.host_key == Some(key))
        };
        reports.into_iter().filter(sees).count()
    }

    /// How many have to see a first key.
    #[must_use]
    pub fn sights_needed(&self) -> usize {
        self.electorate().threshold(Sanction::Isolate)
    }

    pub(super) fn learn_host_key(
        &mut self,
        node: NodeId,
        key: HostKey,
        reports: &[Signed<Report>],
    ) -> Result<Outcome, Refusal> {
        if !self.members.contains_key(&node) {
            return Err(no_such_node(node));
        }
        if self.host_keys.contains_key(&node) {
            let name = self.name_of(node);
            return Err(Refusal::Forbidden(format!(
                "the host key of {name} is known: an operator may change it"
            )));
        }
        let verified = evidence::verified(self, reports);
        let (seen, needed) = (self.seen_with(verified.values(), node, key), self.sights_needed());
        if seen < needed {
            return Err(Refusal::Forbidden(format!(
                "{seen} nodes saw this host key where it takes {needed}"
            )));
        }
        self.host_keys.insert(node, key);
        Ok(Outcome::Done)
    }

    pub(super) fn accept_host_key(
        &mut self,
        index: u64,
        node: NodeId,
        key: HostKey,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        if !self.members.contains_key(&node) {
            return Err(no_such_node(node));
        }
        self.host_keys.insert(node, key);
        let text = format!("{} accepted {key} as the host key of {}", by.name, self.name_of(node));
        self.incidents.note(index, &Matter::HostKey(node), unix_ms, &text);
        Ok(Outcome::Done)
    }
}
