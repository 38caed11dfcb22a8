//! Acting on what was judged: cutting off, demoting, and what the log and the incidents should have of it.
//!
//! **Invariant.** Nothing here asks whether a verdict is right: it was verified before it came here.

use super::{Effect, JUDGE_EVERY, Mesh, Now, Phase};
use crate::command::Command;
use crate::id::NodeId;
use crate::incident::Matter;
use crate::roster::Member;
use crate::time::Instant;
use alloc::{boxed::Box, collections::BTreeSet, format, vec::Vec};

impl Mesh {
    /// Cuts off everybody whose isolation this node has come to know of, by a certificate or by the log.
    pub(in crate::mesh) fn cut_off_the_isolated(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let isolated = self.judging.tribunal.isolated();
        let new = isolated.difference(&self.judging.outcasts).filter_map(|node| self.state.members.get(node));
        let new: Vec<Member> = new.cloned().collect();
        let any = !new.is_empty();
        for member in new {
            let node = member.id;
            self.judging.outcasts.insert(node);
            let evidence = self.findings.evidence(node);
            if !evidence.is_empty() {
                self.judging.kept.insert(node, evidence);
            }
            if node == self.me {
                self.stop(now, out);
                self.phase = Phase::CutOff;
                out.push(Effect::Quarantine);
                continue;
            }
            out.push(Effect::CutOff(Box::new(member)));
            if self.raft.leader == Some(node) {
                self.election.forsake_leader(now);
            }
        }
        if any {
            self.forget_strangers();
            self.keep_watch(now);
            self.reporter.hurry();
            self.duties.hurry(now);
            self.judging.due = self.judging.due.min(now.after(JUDGE_EVERY));
            self.reconsider_all(now, out);
        }
    }

    /// Isolations that are not in the log yet, and can be.
    pub(in crate::mesh) fn unrecorded(&self, unix_ms: u64) -> Vec<Command> {
        let certificates = self.judging.tribunal.certificates();
        certificates
            .filter(|certificate| self.state.check_certificate(certificate).is_ok())
            .map(|certificate| Command::Isolate { certificate: certificate.clone(), unix_ms })
            .collect()
    }

    /// What the incidents should say of demotions: why they are, and that they are over.
    pub(in crate::mesh) fn demotions_untold(&self, now: Now) -> Vec<Command> {
        let unix_ms = now.unix_ms;
        let told = |node| self.state.incidents.open(&Matter::Demoted(node));
        let note =
            |node, text, closes| Command::Note { matter: Matter::Demoted(node), text, closes, unix_ms };
        let mut notes = Vec::new();
        for (subject, _, testimonies) in self.judging.tribunal.cases() {
            let node = subject.node;
            if self.is_demoted(now.at, node) && told(node).is_none() {
                let name = self.state.name_of(node);
                let first =
                    format!("{name} may neither lead nor serve for now: enough of its peers ask for it");
                notes.push(note(node, first, false));
                notes.extend(testimonies.map(|testimony| note(node, self.state.sentence(testimony), false)));
            }
        }
        let over = self
            .state
            .members
            .keys()
            .filter(|node| told(**node).is_some() && !self.is_demoted(now.at, **node));
        let text = |node: &NodeId| format!("{} may lead and serve again", self.state.name_of(*node));
        notes.extend(over.map(|node| note(*node, text(node), true)));
        notes
    }

    pub(in crate::mesh) fn demote(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let all = self.state.members.keys().copied();
        let demoted: BTreeSet<NodeId> = all.filter(|node| self.is_demoted(now, *node)).collect();
        if demoted == self.judging.demoted {
            return;
        }
        if self.raft.leader.is_some_and(|leader| demoted.contains(&leader)) {
            self.election.forsake_leader(now);
        }
        let me = |set: &BTreeSet<NodeId>| set.contains(&self.me);
        let changed = me(&demoted) != me(&self.judging.demoted);
        self.judging.demoted.clone_from(&demoted);
        out.push(Effect::Demoted(demoted));
        if changed {
            self.reporter.hurry();
            self.reconsider_all(now, out);
        }
    }
}
