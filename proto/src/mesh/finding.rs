//! What this node finds against others by itself; what others say is only a reason to look.
//!
//! | ground | found in |
//! |---|---|
//! | confession, at home | its reports, on its own session ([`super::confessions`]) |
//! | contradiction | two reports of one place, one of them perhaps shown by a peer ([`super::chains`]) |
//! | silence | lease messages without reports ([`super::silence`]) |
//! | host key, content | what anybody sees from outside ([`super::outside`]) |
//!
//! Deliberately absent: how the tribunal weighs them.

use super::chains::Chains;
use super::confessions::{Confessions, confesses};
use super::silence::Silence;
use super::{Effect, Mesh};
use crate::codec;
use crate::id::NodeId;
use crate::limits::{PATIENCE, REPORT_FRAME_BYTES_MAX};
use crate::report::{Head, Report};
use crate::sign::Signed;
use crate::time::Instant;
use crate::tribunal::Ground;
use alloc::vec::Vec;
use core::net::IpAddr;

/// Everything that this node has seen of others that may speak against them.
#[derive(Debug, Default)]
pub(super) struct Findings {
    pub(super) confessions: Confessions,
    pub(super) chains: Chains,
    pub(super) silence: Silence,
}

impl Findings {
    /// A verified report of its author, and where its session was opened from; whether there is a ground now that was
    /// not there before.
    pub(super) fn hear(
        &mut self,
        now: Instant,
        report: &Report,
        at: Option<IpAddr>,
        signed: &Signed<Report>,
    ) -> bool {
        self.silence.reports(now, report.from);
        self.confessions.note(now, report, at, signed)
    }

    /// What a conviction of this node would rest on, as signed reports of its own.
    pub(super) fn evidence(&self, node: NodeId) -> Vec<Signed<Report>> {
        let both = self.chains.proof(node).into_iter().flatten();
        self.confessions.sworn(node).into_iter().chain(both).cloned().collect()
    }

    pub(super) fn retain(&mut self, belongs: impl Fn(NodeId) -> bool + Copy) {
        self.confessions.retain(belongs);
        self.chains.retain(belongs);
        self.silence.retain(belongs);
    }
}

impl Mesh {
    /// What this node finds against each of the others; nothing against most of them. If half of the mesh begins to
    /// confess at once, this one perhaps among them, it is rather what they look with that is wrong: that is known
    /// before the first of them has confessed for long.
    pub(super) fn findings(&self, now: Instant) -> Vec<(NodeId, Vec<Ground>)> {
        let bad = self.findings.confessions.count(now) + usize::from(confesses(&self.traffic));
        let many = bad >= 2 && 2 * bad >= self.state.electorate().voters.len();
        let grounds = |peer| {
            let mut grounds = match many {
                true => Vec::new(),
                false => self.findings.confessions.grounds(now, &self.state, peer),
            };
            grounds.extend(self.findings.chains.ground(peer));
            grounds.extend(self.findings.silence.is_silent(now, peer).then_some(Ground::Silence));
            grounds.extend(self.sights(now, peer));
            grounds
        };
        self.peers().map(|peer| (peer, grounds(peer))).collect()
    }

    /// Whether there is anything to look at again soon.
    pub(super) fn finds_anything(&self, now: Instant) -> bool {
        self.findings.confessions.count(now) > 0
            || self.outside.finds_anything(now)
            || self.peers().any(|peer| {
                self.findings.silence.is_silent(now, peer) || self.findings.chains.proof(peer).is_some()
            })
    }

    /// Whether this node trusts what it sees: it was not stalled, and hears at least half of the other voters.
    pub(super) fn is_well(&self, now: Instant) -> bool {
        let others =
            || self.state.config.voters.iter().filter(|voter| **voter != self.me && self.trusts(**voter));
        let heard = others().filter(|voter| self.hears(now, **voter)).count();
        now >= self.stalled_until && 2 * heard >= others().count()
    }

    pub(super) fn hears(&self, now: Instant, peer: NodeId) -> bool {
        self.heard.get(&peer).is_some_and(|at| now.since(*at) < PATIENCE)
    }

    /// A peer names the last reports that it heard of the others: where this node heard another one, it shows it.
    pub(super) fn compare_heads(&mut self, now: Instant, report: &Report, out: &mut Vec<Effect>) {
        for (author, head) in report.reach.iter().filter_map(|(author, reach)| Some((*author, reach.head?))) {
            self.object(now, author, head, out);
        }
    }

    fn object(&mut self, now: Instant, author: NodeId, head: Head, out: &mut Vec<Effect>) {
        if author != self.me && self.trusts(author) {
            let other = self.findings.chains.objects(now, author, head);
            out.extend(other.map(|signed| exhibit(&signed)));
        }
    }

    /// A report that a peer shows, of somebody else: of interest only if it goes against one that this node has.
    pub(super) fn take_exhibit(&mut self, now: Instant, from: NodeId, signed: &Signed<Report>) {
        let key = signed.claimed_signer();
        let author = self.state.members.values().find(|member| member.key == key).map(|member| member.id);
        let Some(author) = author.filter(|author| *author != self.me && self.trusts(*author)) else { return };
        if self.findings.chains.knows(author, signed) || !self.judging.may_bring(now, from) {
            return;
        }
        let report = crate::evidence::verify(&self.state, signed).filter(|report| report.from == author);
        if report.is_some_and(|report| self.findings.chains.see(&report, signed)) {
            self.judging.hurry(now);
        }
    }

    /// Both halves of each proof, for those who have not seen both.
    pub(super) fn show_proofs(&self, out: &mut Vec<Effect>) {
        let open = self.findings.chains.proven().filter(|(author, _)| self.trusts(*author));
        out.extend(open.flat_map(|(_, both)| both).map(exhibit));
    }
}

fn exhibit(signed: &Signed<Report>) -> Effect {
    let bytes = codec::encode(signed, REPORT_FRAME_BYTES_MAX);
    Effect::Exhibit(bytes.expect("a report that was received fits its frame"))
}
