//! Changes of the voters that the charter permits and signed reports justify (DESIGN §11 P1, P2, P5).

use super::State;
use crate::command::{Outcome, Refusal};
use crate::config::{Change, Confirmation};
use crate::evidence;
use crate::id::NodeId;
use crate::incident::Matter;
use crate::limits::{CAUGHT_UP_ENTRIES, PATIENCE};
use crate::report::{Reach, Report};
use crate::sign::Signed;
use alloc::{collections::BTreeMap, format, string::ToString, vec::Vec};

impl State {
    pub(super) fn voters(
        &mut self,
        index: u64,
        change: Change,
        reports: &[Signed<Report>],
        reason: &str,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let reports = evidence::verified(self, reports);
        self.check_change(change, &reports)?;
        let confirmations: Vec<Confirmation> = reports.values().map(Report::confirmation).collect();
        let next = self.config.next(index, change, &confirmations);
        self.config = next.map_err(|error| Refusal::Forbidden(error.to_string()))?;
        let text = format!("{}: {reason}", self.describe(change));
        self.incidents.note(index, &Matter::Voters, unix_ms, &text);
        Ok(Outcome::Done)
    }

    /// Whether operator and charter permit a change, given these verified reports.
    ///
    /// # Errors
    /// [`Refusal::Forbidden`], which says what is missing.
    pub fn check_change(&self, change: Change, reports: &BTreeMap<NodeId, Report>) -> Result<(), Refusal> {
        let forbid = |why: &str| Err(Refusal::Forbidden(format!("{}: {why}", self.describe(change))));
        let charter = &self.site.charter;
        if let Change::Remove(node) = change
            && !self.can_do_without(node, reports)
        {
            return forbid("too few of the others answer to go on without it");
        }
        match change {
            Change::Remove(node) if !self.wants_vote(node) => Ok(()),
            Change::Remove(node) => {
                let silent =
                    |r: &Reach| charter.demote_after_ms > 0 && r.heard_ms_ago >= charter.demote_after_ms;
                if self.config.voters.len() <= usize::from(charter.voters_min) {
                    forbid("the charter keeps at least as many voters as there are")
                } else if self.observers(node, reports, silent) < self.config.majority() {
                    forbid("no majority has missed it for as long as the charter asks")
                } else {
                    Ok(())
                }
            }
            Change::Add(node) if !self.wants_vote(node) => forbid("no operator gave it a vote"),
            Change::Add(node) => {
                let present = |r: &Reach| u64::from(r.heard_ms_ago) < PATIENCE.as_ms();
                let caught_up = reports
                    .get(&node)
                    .is_some_and(|r| r.log.applied.saturating_add(CAUGHT_UP_ENTRIES) >= self.applied);
                if caught_up && self.observers(node, reports, present) >= self.config.majority() {
                    Ok(())
                } else {
                    forbid("it is not back and caught up in the eyes of a majority")
                }
            }
            Change::EnterPair(_) if !charter.pair => forbid("the charter does not allow it"),
            Change::EnterPair(_) | Change::LeavePair => Ok(()),
        }
    }

    /// Whether the operators gave a node a vote, and nobody took it for good.
    #[must_use]
    pub fn wants_vote(&self, node: NodeId) -> bool {
        self.members.get(&node).is_some_and(|m| m.role.votes()) && !self.is_isolated(node)
    }

    /// Whether those who report would be a majority if `node` did not vote any more.
    fn can_do_without(&self, node: NodeId, reports: &BTreeMap<NodeId, Report>) -> bool {
        let staying = || self.config.voters.iter().filter(|voter| **voter != node);
        let answering = staying().filter(|voter| reports.contains_key(voter)).count();
        answering > staying().count() / 2
    }

    fn observers(
        &self,
        node: NodeId,
        reports: &BTreeMap<NodeId, Report>,
        sees: impl Fn(&Reach) -> bool,
    ) -> usize {
        let others = reports.values().filter(|r| r.from != node && self.config.voters.contains(&r.from));
        others.filter(|r| r.reach.iter().any(|(to, reach)| *to == node && sees(reach))).count()
    }

    fn describe(&self, change: Change) -> alloc::string::String {
        match change {
            Change::Add(node) => format!("{} votes now", self.name_of(node)),
            Change::Remove(node) => format!("{} does not vote any more", self.name_of(node)),
            Change::EnterPair(node) => format!("{} may go on alone", self.name_of(node)),
            Change::LeavePair => "nobody may go on alone any more".into(),
        }
    }
}
