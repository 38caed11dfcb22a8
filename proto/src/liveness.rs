//! Failure detection over the matrix of who reaches whom.
//!
//! A node is judged by everybody whose report is fresh, not by one observer: a broken link between two
//! nodes is a broken link, and a node that nobody reaches is lost. (The idea of several observers is that
//! of Rapid, USENIX ATC 2018.) The endpoint does not wait for this judgement: its lease runs out by itself.

use crate::id::NodeId;
use crate::report::Report;
use crate::time::{Instant, Span};
use alloc::collections::BTreeMap;
use serde::{Deserialize, Serialize};

/// The latest report of a node, and when it came in.
#[derive(Clone, Debug)]
pub struct Row {
    /// When it came in.
    pub received: Instant,
    /// What it says.
    pub report: Report,
}

/// What the others together make of a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Liveness {
    /// Most of those who can tell reach it.
    Up,
    /// Some reach it, most do not.
    Cut,
    /// Nobody reaches it.
    Lost,
}

/// Judges `node` from `me`'s point of view at `now`. A sign is fresh for `patience`.
#[must_use]
pub fn judge(
    node: NodeId,
    me: NodeId,
    now: Instant,
    patience: Span,
    heard_by_me: Option<Instant>,
    rows: &BTreeMap<NodeId, Row>,
) -> Liveness {
    let mine = node == me || heard_by_me.is_some_and(|at| now.since(at) < patience);
    let others = rows
        .iter()
        .filter(|(observer, row)| {
            **observer != node && **observer != me && now.since(row.received) < patience
        })
        .map(|(_, row)| reaches(row, node, now, patience));
    let (mut observers, mut reached) = (1_usize, usize::from(mine));
    for reaches in others {
        observers += 1;
        reached += usize::from(reaches);
    }
    match reached {
        0 => Liveness::Lost,
        n if 2 * n > observers || node == me => Liveness::Up,
        // Two observers that disagree: believe the one that hears it.
        n if 2 * n == observers => Liveness::Up,
        _ => Liveness::Cut,
    }
}

fn reaches(row: &Row, node: NodeId, now: Instant, patience: Span) -> bool {
    let age = now.since(row.received);
    row.report
        .reach
        .iter()
        .any(|(to, reach)| *to == node && age.plus(Span::from_ms(reach.heard_ms_ago.into())) < patience)
}
