//! Fencing a node that is cut off, as far as the operator's warrant goes.
//!
//! **Invariant.** It takes the signed reports of most voters: that they have cut the node off, that the warrant has not run
//! out by their clocks, and that the attempt before has had its time. So no minority fences anybody, hurries a retry,
//! or uses a warrant that is over; and a budget that is spent is spent for all.

use super::State;
use crate::command::{Outcome, Refusal, no_such_node};
use crate::evidence;
use crate::fence::{ATTEMPT_MS, ATTEMPTS_MAX, Fenced, Fencing};
use crate::id::NodeId;
use crate::incident::Matter;
use crate::report::Report;
use crate::sign::Signed;
use alloc::{format, vec::Vec};

impl State {
    /// The attempt that these reports allow, as it would be ordered at `index`.
    ///
    /// # Errors
    /// [`Refusal`] says what is missing.
    pub fn next_fencing<'a>(
        &self,
        index: u64,
        node: NodeId,
        reports: impl IntoIterator<Item = &'a Report>,
    ) -> Result<Fencing, Refusal> {
        let forbid = |why: &str| Err(Refusal::Forbidden(format!("fencing {}: {why}", self.name_of(node))));
        let Some(policy) = &self.site.fence else { return forbid("no operator gave a warrant for it") };
        if !self.is_isolated(node) {
            return forbid("it is not cut off");
        }
        let before = self.fences.get(&node);
        if before.is_none() && self.fences_spent >= policy.nodes_max {
            return forbid("the warrant allows no more nodes");
        }
        let attempt = before.map_or(1, |before| before.attempt.saturating_add(1));
        if attempt > ATTEMPTS_MAX {
            return forbid("enough have tried; it is left to an operator");
        }
        let failed =
            |before: &Fencing| before.outcome.as_ref().is_some_and(|outcome| outcome.failed.is_some());
        if before.is_some_and(|before| before.outcome.is_some() && !failed(before)) {
            return forbid("it is done");
        }
        let running = before.filter(|before| !failed(before));
        let not_before = running.map_or(0, |before| before.since_unix_ms.saturating_add(ATTEMPT_MS));
        let agrees = |report: &&Report| {
            self.config.voters.contains(&report.from)
                && report.isolated.contains(&node)
                && (not_before..policy.until_unix_ms).contains(&report.unix_ms)
        };
        let mut clocks: Vec<u64> = reports.into_iter().filter(agrees).map(|report| report.unix_ms).collect();
        if clocks.len() < self.config.majority() {
            return forbid("most voters do not say that they have cut it off, and that it is time");
        }
        let Some(by) = self.fencer(node, attempt) else { return forbid("nobody is left to do it") };
        // The middle one: no single clock makes the next attempt wait.
        clocks.sort_unstable();
        let since_unix_ms = clocks.get((clocks.len() - 1) / 2).copied().unwrap_or_default();
        Ok(Fencing { attempt, epoch: index, by, since_unix_ms, outcome: None })
    }

    /// Who makes an attempt: each voter in turn, beginning where nobody chooses.
    fn fencer(&self, node: NodeId, attempt: u32) -> Option<NodeId> {
        let able: Vec<NodeId> =
            self.config.voters.iter().copied().filter(|voter| !self.is_isolated(*voter)).collect();
        let turn = node.0.wrapping_add(attempt.into()).checked_rem(u64::try_from(able.len()).ok()?)?;
        able.get(usize::try_from(turn).ok()?).copied()
    }

    pub(super) fn order_fencing(
        &mut self,
        index: u64,
        node: NodeId,
        reports: &[Signed<Report>],
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let verified = evidence::verified(self, reports);
        let fencing = self.next_fencing(index, node, verified.values())?;
        let (by, attempt) = (self.name_of(fencing.by), fencing.attempt);
        let text = format!("{by} runs the fence command against {} (attempt {attempt})", self.name_of(node));
        self.incidents.note(index, &Matter::Isolated(node), unix_ms, &text);
        if self.fences.insert(node, fencing).is_none() {
            self.fences_spent = self.fences_spent.saturating_add(1);
        }
        Ok(Outcome::Done)
    }

    /// What an executor's report says of the attempt that is his, if that is news.
    #[must_use]
    pub fn fencing_told<'a>(&self, node: NodeId, report: &'a Report) -> Option<&'a Fenced> {
        let fencing = self.fences.get(&node).filter(|fencing| fencing.by == report.from)?;
        let told = report.fenced.iter().find(|told| told.node == node && told.epoch == fencing.epoch);
        told.filter(|_| fencing.outcome.is_none())
    }

    pub(super) fn record_fencing(
        &mut self,
        index: u64,
        node: NodeId,
        report: &Signed<Report>,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let report = evidence::verify(self, report).ok_or(Refusal::Signature)?;
        let Some(told) = self.fencing_told(node, &report).cloned() else {
            return Err(Refusal::Forbidden(format!("nothing new of the fencing of {}", self.name_of(node))));
        };
        let text = match &told.failed {
            None => format!(
                "the fence command of {} ended well: {} is fenced",
                self.name_of(report.from),
                self.name_of(node)
            ),
            Some(why) => format!("the fence command of {} failed: {why}", self.name_of(report.from)),
        };
        self.incidents.note(index, &Matter::Isolated(node), unix_ms, &text);
        let fencing = self.fences.get_mut(&node).ok_or_else(|| no_such_node(node))?;
        fencing.outcome = Some(told);
        Ok(Outcome::Done)
    }
}
