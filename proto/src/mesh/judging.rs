//! This node's part in the [tribunal](crate::tribunal): what it finds against others, what it says and hears, and
//! cutting off who was convicted.
//!
//! ```text
//! findings (super::finding) ─▶ tribunal ─▶ testimonies, to everybody and again ─▶ certificate ─▶ cut off
//! an operator's order, committed ────────────────────────────────────────────────────────────▶ cut off
//! ```
//!
//! Only testimonies travel between the cores, in datagrams, said again to whoever does not report that he has acted;
//! each node puts the certificate together by itself. The leader records it in the log, for those who come later.
//!
//! **Invariant.** From the event that convicts a node on, nothing that it says counts here: no datagram, no report, no
//! vote. A promise that it was given runs out by itself (DESIGN §11 P7). A confession counts only if it came on a session
//! that was opened from an address of the roster (P11).

mod verdicts;

use super::finding::Findings;
use super::{Effect, Mesh, Now, Phase, send};
use crate::admin::CaseSeen;
use crate::id::NodeId;
use crate::limits::TESTIMONIES_PER_SECOND_MAX;
use crate::message::Message;
use crate::report::Report;
use crate::sign::{SecretKey, Signed};
use crate::state::State;
use crate::time::{Instant, Span};
use crate::tribunal::{Certificate, Facts, Output, Rules, Sanction, Testimony, Tribunal};
use alloc::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// How often this node looks and judges while there is anything to judge.
const JUDGE_EVERY: Span = Span::from_ms(250);
/// How often it says again what others may have missed.
const TELL_EVERY: Span = Span::from_ms(500);
/// How often it may be challenged to report.
const CHALLENGED_EVERY: Span = Span::from_ms(500);

/// What this node has against others, and what came of it.
#[derive(Debug)]
pub(super) struct Judging {
    tribunal: Tribunal,
    /// Who was cut off already.
    outcasts: BTreeSet<NodeId>,
    /// What this node's word against those who were cut off rests on.
    kept: BTreeMap<NodeId, Vec<Signed<Report>>>,
    /// Testimonies and exhibits that each session brought, and since when they are counted.
    brought: BTreeMap<NodeId, (Instant, u32)>,
    /// Who may neither lead nor hold for the time being.
    demoted: BTreeSet<NodeId>,
    due: Instant,
    told: Instant,
    /// When this node was asked last why it does not report.
    challenged: Instant,
}

/// What this node knows again after a restart: a certificate, and what its own word in it rests on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conviction {
    /// The certificate.
    pub certificate: Certificate,
    /// The reports of the convicted that this node swore to: a confession, two that contradict each other, both or
    /// neither.
    pub evidence: Vec<Signed<Report>>,
}

impl Judging {
    pub(super) fn new(me: NodeId, state: &State, convictions: Vec<Conviction>, key: &SecretKey) -> Self {
        let mut tribunal = Tribunal::new(me, state.cluster, state.electorate(), Rules::SOUND);
        tribunal.recorded(state.isolations.keys().copied().collect());
        let voters = &state.config.voters;
        let (now, heard) = (Instant::ZERO, &|_| None);
        let facts = Facts { now, unix_ms: 0, well: false, leader: None, voters, heard, key };
        let mut kept = BTreeMap::new();
        for Conviction { certificate, evidence } in convictions {
            // What does not hold any more is not this node's to enforce; what follows is enforced at the first event.
            let _ = tribunal.certified(&facts, certificate, &mut Vec::new());
            let author = evidence.first().and_then(|signed| signed.verify(state.cluster).ok());
            kept.extend(author.map(|report| (report.from, evidence)));
        }
        Self {
            tribunal,
            outcasts: BTreeSet::new(),
            kept,
            brought: BTreeMap::new(),
            demoted: BTreeSet::new(),
            due: Instant::NEVER,
            told: Instant::ZERO,
            challenged: Instant::ZERO,
        }
    }

    pub(super) const fn deadline(&self) -> Instant {
        self.due
    }

    pub(super) const fn outcasts(&self) -> &BTreeSet<NodeId> {
        &self.outcasts
    }

    /// Who may neither lead nor hold for the time being.
    pub(super) const fn demoted(&self) -> &BTreeSet<NodeId> {
        &self.demoted
    }

    /// The log has come further.
    pub(super) fn follow(&mut self, state: &State) {
        self.tribunal.elect(state.electorate());
        self.tribunal.recorded(state.isolations.keys().copied().collect());
        self.outcasts.retain(|node| state.members.contains_key(node));
        self.brought.retain(|node, _| state.members.contains_key(node));
        self.kept.retain(|node, _| state.members.contains_key(node));
    }

    /// Something was found: judge at once.
    pub(super) fn hurry(&mut self, now: Instant) {
        self.due = self.due.min(now);
    }

    /// A node reports again: it is not silent.
    pub(super) fn rebutted(&mut self, node: NodeId) {
        self.tribunal.rebutted(node);
    }

    /// Everything that has to be known again after a restart.
    fn convictions(&self, findings: &Findings) -> Vec<Conviction> {
        let convictions = self.tribunal.isolated().into_iter().filter_map(|node| {
            let certificate = self.tribunal.certificate(node)?.clone();
            let evidence = self.kept.get(&node).cloned().unwrap_or_else(|| findings.evidence(node));
            Some(Conviction { certificate, evidence })
        });
        convictions.collect()
    }

    /// The reports that this node swore to, of those who were cut off.
    pub(super) fn evidence(&self) -> Vec<Signed<Report>> {
        self.kept.values().flatten().cloned().collect()
    }

    /// The open cases, for operators.
    pub(super) fn cases(&self, now: Instant) -> Vec<CaseSeen> {
        let cases = self.tribunal.cases().map(|(subject, opened, testimonies)| CaseSeen {
            subject: subject.node,
            open_ms: now.since(opened).as_ms(),
            demoted: self.tribunal.is_demoted(now, subject.node),
            testimonies: testimonies.cloned().collect(),
        });
        cases.collect()
    }

    /// Whether one more testimony or exhibit of this session may cost a signature.
    pub(super) fn may_bring(&mut self, now: Instant, from: NodeId) -> bool {
        let (since, count) = self.brought.entry(from).or_insert((now, 0));
        if now.since(*since) >= Span::from_ms(1_000) {
            (*since, *count) = (now, 0);
        }
        *count += 1;
        *count <= TESTIMONIES_PER_SECOND_MAX
    }
}

impl Mesh {
    /// Whether a node is in the roster and not cut off.
    pub(super) fn trusts(&self, node: NodeId) -> bool {
        self.state.members.contains_key(&node)
            && !self.state.is_isolated(node)
            && !self.judging.outcasts.contains(&node)
    }

    /// The others that this node trusts.
    pub(super) fn peers(&self) -> impl Iterator<Item = NodeId> {
        self.state.members.keys().copied().filter(|node| *node != self.me && self.trusts(*node))
    }

    pub(super) fn is_demoted(&self, now: Instant, node: NodeId) -> bool {
        self.judging.tribunal.is_demoted(now, node)
    }

    /// Somebody's word against somebody came in.
    pub(super) fn hear_testimony(
        &mut self,
        now: Now,
        from: NodeId,
        signed: Signed<Testimony>,
        out: &mut Vec<Effect>,
    ) {
        if !matches!(self.phase, Phase::Running) || !self.judging.may_bring(now.at, from) {
            return;
        }
        // What does not count changes nothing; the session's budget bounds what it costs.
        self.with_tribunal(now, out, |tribunal, facts, outputs| {
            let _ = tribunal.heard(facts, signed, outputs);
        });
        self.judging.due = self.judging.due.min(now.at.after(JUDGE_EVERY));
    }

    /// A peer misses this node's reports.
    pub(super) fn take_challenge(&mut self, now: Instant) {
        if now.since(self.judging.challenged) >= CHALLENGED_EVERY {
            self.judging.challenged = now;
            self.reporter.hurry();
        }
    }

    /// Looks at everybody, judges, and says again what others may have missed.
    pub(super) fn judge_if_due(&mut self, now: Now, out: &mut Vec<Effect>) {
        if now.at < self.judging.due {
            return;
        }
        let found = self.findings(now.at);
        self.with_tribunal(now, out, |tribunal, facts, outputs| {
            tribunal.found(facts, found, outputs);
            tribunal.tick(facts, outputs);
        });
        self.tell_again(now.at, out);
        self.demote(now.at, out);
        self.cut_off_the_isolated(now.at, out);
        let judging = &self.judging;
        let busy = !judging.demoted.is_empty()
            || self.finds_anything(now.at)
            || judging.tribunal.cases().next().is_some()
            || self.peers().any(|peer| self.hears(now.at, peer) && !self.has_acted(peer));
        self.judging.due = if busy { now.at.after(JUDGE_EVERY) } else { Instant::NEVER };
    }

    /// A peer reported: if it has not acted on all that this node has, it is told again.
    pub(super) fn tell_if_it_lags(&mut self, now: Instant, peer: NodeId) {
        if !self.has_acted(peer) {
            self.judging.due = self.judging.due.min(now.after(JUDGE_EVERY));
        }
    }

    fn with_tribunal(
        &mut self,
        now: Now,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Tribunal, &Facts<'_>, &mut Vec<Output>),
    ) {
        let mut wanted = self.consult(now, act);
        while let Some(output) = wanted.pop_front() {
            match output {
                // It asks so at most once a second.
                Output::Look => {
                    self.outside.hurry(now.at);
                    let found = self.findings(now.at);
                    wanted.extend(self.consult(now, |tribunal, facts, outputs| {
                        tribunal.found(facts, found, outputs);
                    }));
                }
                Output::Tell(signed) => self.tell(&signed, out),
                Output::Publish(_) => {
                    out.push(Effect::KeepConvictions(self.judging.convictions(&self.findings)));
                }
                Output::Enforce(verdict) if verdict.sanction == Sanction::Demote => {
                    self.judging.due = self.judging.due.min(now.at.after(JUDGE_EVERY));
                    self.demote(now.at, out);
                }
                // It is carried out with whatever else is due.
                Output::Enforce(_) => {}
                Output::Challenge(node) => send(out, node, &Message::Challenge),
            }
        }
    }

    fn consult(
        &mut self,
        now: Now,
        act: impl FnOnce(&mut Tribunal, &Facts<'_>, &mut Vec<Output>),
    ) -> VecDeque<Output> {
        let well = self.is_well(now.at);
        let rows = &self.rows;
        let heard = |node| rows.get(&node).map(|row| row.report.place());
        let facts = Facts {
            heard: &heard,
            now: now.at,
            unix_ms: now.unix_ms,
            well,
            leader: self.raft.leader,
            voters: &self.state.config.voters,
            key: &self.reporter.key,
        };
        let mut outputs = Vec::new();
        act(&mut self.judging.tribunal, &facts, &mut outputs);
        outputs.into()
    }

    /// To everybody, the accused among them: what he knows by himself costs no certificate's way to him.
    fn tell(&self, signed: &Signed<Testimony>, out: &mut Vec<Effect>) {
        for peer in self.peers() {
            send(out, peer, &Message::Testimony(signed.clone()));
        }
    }

    /// Says again what is said in open cases; and to those who have not acted, what convicts whom.
    fn tell_again(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if now.since(self.judging.told) < TELL_EVERY {
            return;
        }
        self.judging.told = now;
        for signed in self.judging.tribunal.testimonies() {
            self.tell(signed, out);
        }
        self.show_proofs(out);
        for peer in self.peers().filter(|peer| !self.has_acted(*peer)) {
            let missing =
                self.judging.outcasts.iter().filter(|outcast| !self.reports_outcast(peer, **outcast));
            let certificates = missing.filter_map(|outcast| self.judging.tribunal.certificate(*outcast));
            for signed in certificates.flat_map(Certificate::testimonies) {
                send(out, peer, &Message::Testimony(signed.clone()));
            }
        }
    }

    /// Whether a peer says that it has cut off all whom this node has.
    fn has_acted(&self, peer: NodeId) -> bool {
        self.judging.outcasts.iter().all(|outcast| self.reports_outcast(peer, *outcast))
    }

    fn reports_outcast(&self, peer: NodeId, outcast: NodeId) -> bool {
        self.rows.get(&peer).is_some_and(|row| row.report.isolated.contains(&outcast))
    }
}
