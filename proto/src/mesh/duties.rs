//! What this node owes the mesh while it leads: plans, membership, incidents.

use super::{Effect, Mesh, Now};
use crate::id::NodeId;
use crate::inventory::{Inventory, NodeNow};
use crate::limits::{DUTIES_EVERY, DUTIES_GAP_MIN, PATIENCE, RETRY_AFTER, TERM_JUMP_MAX};
use crate::liveness::{self, Liveness};
use crate::planner;
use crate::time::Instant;
use alloc::{
    boxed::Box,
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};

/// Proposals under way, and when to look again.
#[derive(Debug, Default)]
pub(super) struct Duties {
    tickets: BTreeSet<u64>,
    next_ticket: u64,
    due: Instant,
    last: Instant,
    not_before: Instant,
}

impl Duties {
    pub(super) fn deadline(&self) -> Instant {
        self.due.max(self.not_before)
    }

    /// Something changed: look soon.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now.max(self.last.after(DUTIES_GAP_MIN)));
    }

    pub(super) fn ended(&mut self, now: Instant, ticket: u64, done: bool) {
        self.tickets.remove(&ticket);
        if done {
            self.hurry(now);
        } else {
            self.not_before = now.after(RETRY_AFTER);
        }
    }
}

impl Mesh {
    pub(super) fn do_duties(&mut self, now: Now, out: &mut Vec<Effect>) {
        if now.at < self.duties.deadline() {
            return;
        }
        (self.duties.last, self.duties.due) = (now.at, now.at.after(DUTIES_EVERY));
        self.judge_all(now.at);
        // Who is demoted leads no more: what it proposed would keep it in the lead.
        if !self.raft.leading || self.judging.demoted().contains(&self.me) {
            self.duties.tickets.clear();
            return;
        }
        self.follow_membership(out);
        self.admit_stranded(out);
        if !self.duties.tickets.is_empty() {
            return;
        }
        let mut judged = self.unrecorded(now.unix_ms);
        judged.extend(self.demotions_untold(now));
        let commands = planner::plan(&self.state, &self.inventory(now.at), now.unix_ms);
        for command in judged.into_iter().chain(commands) {
            self.duties.next_ticket += 1;
            let ticket = self.duties.next_ticket;
            self.duties.tickets.insert(ticket);
            out.push(Effect::Propose { ticket, command: Box::new(command) });
        }
    }

    /// Raft's membership follows the roster and the configuration of the lease protocol.
    fn follow_membership(&self, out: &mut Vec<Effect>) {
        let (voters, learners) = self.state.wanted_members();
        if self.raft.voters != voters || self.raft.learners != learners {
            out.push(Effect::Follow { voters, learners });
        }
    }

    /// A voter whose vote is above the leader's follows nobody until it is beaten: it campaigned in vain, or voted
    /// for somebody who did. Within a term the higher number is above, as openraft has it.
    ///
    /// Nothing but its own word says how far above: one that claims more than honest campaigns can have added
    /// is not believed, for the highest term of all would end the mesh.
    fn admit_stranded(&self, out: &mut Vec<Effect>) {
        let (ours, within) =
            ((self.raft.term, self.raft.voted_for), self.raft.term.saturating_add(TERM_JUMP_MAX));
        for voter in self.state.config.voters.iter().filter(|voter| **voter != self.me) {
            let Some(log) = self.rows.get(voter).map(|row| row.report.log) else { continue };
            if (log.term, log.voted_for) > ours && log.term <= within {
                out.push(Effect::Admit { term: log.term, node: log.voted_for });
            }
        }
    }

    fn judge_all(&mut self, now: Instant) {
        let all: Vec<NodeId> = self.peers().chain([self.me]).collect();
        for id in all {
            let heard = self.heard.get(&id).copied();
            let judged = liveness::judge(id, self.me, now, PATIENCE, heard, &self.rows);
            match self.liveness.get(&id) {
                Some((known, _)) if *known == judged => {}
                Some(_) | None => drop(self.liveness.insert(id, (judged, now))),
            }
        }
    }

    pub(super) fn inventory(&self, now: Instant) -> Inventory {
        let node = |id: NodeId| {
            let (liveness, since) = self.liveness.get(&id).copied().unwrap_or((Liveness::Lost, now));
            let report = self.rows.get(&id)?.report.clone();
            let signed = self.signed.get(&id)?.clone();
            Some((id, NodeNow { liveness, since: now.since(since), report, signed }))
        };
        let nodes: BTreeMap<NodeId, NodeNow> = self.peers().chain([self.me]).filter_map(node).collect();
        Inventory { nodes }
    }
}
