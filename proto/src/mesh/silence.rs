//! Nodes that go on talking and say nothing of themselves any more: lease messages come, reports do not.
//!
//! An honest node cannot be like that: reports and lease messages come from one loop. Malware may want to be, to go on
//! serving while nobody sees what it sends.
//!
//! **Invariant.** A node that is merely gone, or that asks what others remember of it, is not silent.

use crate::id::NodeId;
use crate::limits::PATIENCE;
use crate::time::{Instant, Span};
use alloc::collections::BTreeMap;

/// How long a node may talk without a report.
const SILENT_AFTER: Span = Span::from_ms(5_000);

/// Who talks, and who reports.
#[derive(Debug, Default)]
pub(super) struct Silence(BTreeMap<NodeId, Talk>);

#[derive(Clone, Copy, Debug)]
struct Talk {
    last: Instant,
    /// The last report, or when it began to talk.
    reported: Instant,
}

impl Silence {
    /// It said something that no node says that does not report.
    pub(super) fn talks(&mut self, now: Instant, node: NodeId) {
        let talk = self.0.entry(node).or_insert(Talk { last: now, reported: now });
        if now.since(talk.last) >= PATIENCE {
            talk.reported = now;
        }
        talk.last = now;
    }

    /// A new report of it came, or one that this version cannot read.
    pub(super) fn reports(&mut self, now: Instant, node: NodeId) {
        if let Some(talk) = self.0.get_mut(&node) {
            talk.reported = now;
        }
    }

    /// Whether it talks and does not report.
    pub(super) fn is_silent(&self, now: Instant, node: NodeId) -> bool {
        self.0
            .get(&node)
            .is_some_and(|talk| now.since(talk.last) < PATIENCE && now.since(talk.reported) >= SILENT_AFTER)
    }

    pub(super) fn retain(&mut self, belongs: impl Fn(NodeId) -> bool) {
        self.0.retain(|node, _| belongs(*node));
    }
}
