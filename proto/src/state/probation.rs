//! Nodes that come back after they were cut off: by an operator's word alone, as another node, and on probation.
//!
//! | on probation | after it |
//! |---|---|
//! | follows the log, is watched and judged like any other | what the operator said it should be |
//! | holds no endpoint, has no vote | |
//!
//! It ends by an operator's word (`stead undrain`), or when most voters have signed that their clocks say so and that
//! they hear it: nobody has to be there, and no leader can hurry it.

use super::State;
use crate::command::{Outcome, Refusal, no_such_node};
use crate::evidence;
use crate::id::NodeId;
use crate::incident::Matter;
use crate::limits::PATIENCE;
use crate::report::Report;
use crate::roster::{Member, Operator, Role, Standing};
use crate::sign::Signed;
use alloc::format;

impl State {
    pub(super) fn readmit(
        &mut self,
        index: u64,
        old: NodeId,
        member: Member,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let name = &self.members.get(&old).ok_or_else(|| no_such_node(old))?.name;
        if !self.is_isolated(old) {
            return Err(Refusal::Forbidden(format!("{name} is not cut off: there is nothing to readmit")));
        }
        let Standing::Probation { then, .. } = member.standing else {
            return Err(Refusal::Forbidden(format!("{name} comes back on probation, or not at all")));
        };
        if member.role != Role::Learner || member.name != *name {
            return Err(Refusal::Forbidden(format!("{name} comes back under its name, as a learner")));
        }
        // Whatever is refused has to change nothing: the old one goes only if the new one may come.
        let mut next = self.clone();
        next.remove(index, old, by, unix_ms)?;
        next.check_votes(None, then)?;
        next.admit(index, member, by, unix_ms)?;
        *self = next;
        Ok(Outcome::Done)
    }

    pub(super) fn end_probation(
        &mut self,
        index: u64,
        node: NodeId,
        reports: &[Signed<Report>],
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let verified = evidence::verified(self, reports);
        let (agree, needed) = (self.think_probation_over(verified.values(), node), self.config.majority());
        if agree < needed {
            return Err(Refusal::Forbidden(format!(
                "{agree} voters hear {} and say that its probation is over, where it takes {needed}",
                self.name_of(node)
            )));
        }
        let text = format!("the probation of {} is over", self.name_of(node));
        self.trust_again(index, node, &text, unix_ms)
    }

    /// How many voters' reports say that a node's probation is over, and hear it.
    #[must_use]
    pub fn think_probation_over<'a>(
        &self,
        reports: impl IntoIterator<Item = &'a Report>,
        node: NodeId,
    ) -> usize {
        let Some(Standing::Probation { until_unix_ms, .. }) = self.members.get(&node).map(|m| m.standing)
        else {
            return 0;
        };
        let agrees = |report: &&Report| {
            let hears = report
                .reach
                .iter()
                .any(|(peer, reach)| *peer == node && u64::from(reach.heard_ms_ago) < PATIENCE.as_ms());
            hears && report.unix_ms >= until_unix_ms && self.config.voters.contains(&report.from)
        };
        reports.into_iter().filter(agrees).count()
    }

    pub(super) fn trust_again(
        &mut self,
        index: u64,
        node: NodeId,
        text: &str,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let member = self.members.get(&node).ok_or_else(|| no_such_node(node))?;
        let Standing::Probation { then, .. } = member.standing else {
            return Err(Refusal::Forbidden(format!("{} is not on probation", member.name)));
        };
        if self.is_isolated(node) {
            return Err(Refusal::Forbidden(format!("{} was cut off meanwhile", self.name_of(node))));
        }
        // Whoever took its place meanwhile keeps it: then it follows, until an operator says more.
        let then = if self.check_votes(Some(node), then).is_ok() { then } else { Role::Learner };
        if let Some(member) = self.members.get_mut(&node) {
            (member.role, member.standing) = (then, Standing::Active);
        }
        self.roster_index = index;
        self.incidents.note(index, &Matter::Roster, unix_ms, text);
        Ok(Outcome::Done)
    }
}
