//! The tribunal: how a mesh convicts one of its own without a leader (DESIGN §8).
//!
//! ```text
//! what a node finds by itself ─▶ Testimony ─▶ every peer, which looks for itself ─▶ Testimony …
//!                                                 A of them, in any order ─▶ Certificate ─▶ every peer acts
//! ```
//!
//! A = ⌊n/2⌋ + 1 of the electorate that the operators signed; the accused is among the n and never among the A. Nothing
//! here is ordered and nothing goes through Raft, so a hostile leader cannot hold up its own conviction.
//!
//! | this node | hears or finds | does |
//! |---|---|---|
//! | has nothing against X | a testimony against X, of one who is not struck out | looks for itself |
//! | is looking | nothing, for ten seconds, and there is no certificate | strikes the accusers |
//! | is looking | enough | testifies |
//! | found only silence beside it | | asks X; testifies if it has no answer in two seconds |
//! | is unwell, or half of the mesh looks bad, or it is another one's turn | enough | waits |
//! | has A testimonies | | certificate: acts, and tells everybody |
//! | hears a certificate | | verifies: acts, and tells everybody |
//!
//! **Invariant.** Pure and deterministic. This node never swears to what it has not seen itself. Isolations are never
//! taken back here: who returns has another id and another key.
//!
//! Deliberately absent: how to look, and how to act.

mod case;
pub mod certificate;
pub mod rules;
mod strikes;
pub mod testimony;
mod turn;

pub use case::{LASTS, REBUTTAL};
pub use certificate::{Certificate, Court, Disbelief, Electorate, Verdict};
pub use rules::Rules;
pub use testimony::{Ground, Place, Probe, Sanction, Subject, Testimony};

use crate::id::{ClusterId, NodeId};
use crate::sign::{SecretKey, Signed};
use crate::time::{Instant, Span};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use case::Case;
use strikes::Strikes;

/// How often a node looks for itself while others accuse.
pub const LOOK_EVERY: Span = Span::from_ms(1_000);
/// How long accusers may wait for a node that finds nothing.
const IN_VAIN: Span = Span::from_ms(10_000);
/// How long a demotion lasts unless it is testified to again.
pub const DEMOTED: Span = Span::from_ms(600_000);
/// After how long this node says again what it still sees.
const AGAIN: Span = Span::from_ms(30_000);

/// What the tribunal has to know of the rest of the node.
#[derive(Clone, Copy)]
pub struct Facts<'a> {
    /// The time.
    pub now: Instant,
    /// The wall clock, for what is signed.
    pub unix_ms: u64,
    /// Whether this node trusts itself: not stalled, not starved, not cut off from most of the others.
    pub well: bool,
    /// Who leads.
    pub leader: Option<NodeId>,
    /// Who votes in the log now: more than half of them have to stay.
    pub voters: &'a BTreeSet<NodeId>,
    /// The last report that this node heard of each.
    pub heard: &'a dyn Fn(NodeId) -> Option<Place>,
    /// What this node signs with.
    pub key: &'a SecretKey,
}

/// What the tribunal wants done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Look at everybody, by every probe there is, and say what was [found](Tribunal::found): who looks at the accused
    /// alone cannot tell a bad node from a bad network.
    Look,
    /// Ask this node on its own session why it is silent.
    Challenge(NodeId),
    /// Tell everybody.
    Tell(Signed<Testimony>),
    /// Tell everybody, for ever.
    Publish(Certificate),
    /// Act on this.
    Enforce(Verdict),
}

/// One node's part in the tribunal.
#[derive(Clone, Debug)]
pub struct Tribunal {
    me: NodeId,
    cluster: ClusterId,
    electorate: Electorate,
    rules: Rules,
    cases: BTreeMap<Subject, Case>,
    isolated: BTreeMap<Subject, Certificate>,
    /// Whose isolation is in the log, by a certificate or by an operator's word.
    recorded: BTreeSet<NodeId>,
    demoted: BTreeMap<Subject, Instant>,
    strikes: Strikes,
    /// The last words in cases that are over: said again by whoever was later to close them, they open none.
    spent: BTreeMap<(Subject, NodeId, Sanction), (u64, Instant)>,
    /// Against whom this node swore that they belong out, and when last.
    sworn: BTreeMap<Subject, Instant>,
    /// When this node was told to look last.
    looked: Option<Instant>,
}

impl Tribunal {
    /// A tribunal that knows of no case. Certificates of before are [heard](Self::certified) anew.
    #[must_use]
    pub fn new(me: NodeId, cluster: ClusterId, electorate: Electorate, rules: Rules) -> Self {
        Self {
            me,
            cluster,
            electorate,
            rules,
            cases: BTreeMap::new(),
            isolated: BTreeMap::new(),
            recorded: BTreeSet::new(),
            demoted: BTreeMap::new(),
            strikes: Strikes::default(),
            spent: BTreeMap::new(),
            sworn: BTreeMap::new(),
            looked: None,
        }
    }

    /// Who is isolated.
    #[must_use]
    pub fn isolated(&self) -> BTreeSet<NodeId> {
        self.isolated.keys().map(|subject| subject.node).chain(self.recorded.iter().copied()).collect()
    }

    /// The certificate against a node, if there is one.
    #[must_use]
    pub fn certificate(&self, node: NodeId) -> Option<&Certificate> {
        self.isolated.iter().find(|(subject, _)| subject.node == node).map(|(_, certificate)| certificate)
    }

    /// Whether a node is demoted at present.
    #[must_use]
    pub fn is_demoted(&self, now: Instant, node: NodeId) -> bool {
        self.demoted.iter().any(|(subject, until)| subject.node == node && now < *until)
    }

    /// Every isolation, for whoever does not know of it, and for memory that survives the agent.
    pub fn certificates(&self) -> impl Iterator<Item = &Certificate> {
        self.isolated.values()
    }

    /// The open cases: against whom, since when, and who said what.
    pub fn cases(&self) -> impl Iterator<Item = (Subject, Instant, impl Iterator<Item = &Testimony>)> {
        self.cases.iter().map(|(subject, case)| {
            (*subject, case.opened, case.testimonies.values().map(|(testimony, _)| testimony))
        })
    }

    /// Every testimony of an open case, for whoever missed one.
    pub fn testimonies(&self) -> impl Iterator<Item = &Signed<Testimony>> {
        self.cases.values().flat_map(|case| case.testimonies.values().map(|(_, signed)| signed))
    }

    /// The operators changed who judges. What was said under another electorate is void; whom they took out of the roster
    /// counts for nothing any more, not even as isolated.
    pub fn elect(&mut self, electorate: Electorate) {
        if electorate != self.electorate {
            self.electorate = electorate;
            self.cases.clear();
            self.spent.clear();
            let electorate = &self.electorate;
            let stays = |subject: &Subject| electorate.subject(subject.node) == Some(*subject);
            self.isolated.retain(|subject, _| stays(subject));
            self.demoted.retain(|subject, _| stays(subject));
        }
    }

    /// This node has looked: at everybody, with nothing for those with whom nothing is wrong.
    pub fn found(
        &mut self,
        facts: &Facts<'_>,
        findings: impl IntoIterator<Item = (NodeId, Vec<Ground>)>,
        out: &mut Vec<Output>,
    ) {
        if self.rules.abstain && !facts.well {
            // What it saw it may have seen wrong, also once it is well again.
            return;
        }
        let mut seen = Vec::new();
        for (node, grounds) in findings {
            let subject = self.electorate.subject(node).filter(|subject| self.may_judge(subject));
            if let Some(subject) = subject.filter(|s| !grounds.is_empty() || self.cases.contains_key(s)) {
                self.finds(facts.now, subject, grounds, out);
                seen.push(subject);
            }
        }
        // Only now is known whether it is one of them or most of them.
        self.line_up(facts.now);
        for subject in seen {
            self.speak(facts, subject, out);
        }
    }

    fn finds(&mut self, now: Instant, subject: Subject, grounds: Vec<Ground>, out: &mut Vec<Output>) {
        let case = self.cases.entry(subject).or_insert_with(|| Case::opened(now, self.me));
        if !grounds.contains(&Ground::Silence) {
            case.challenged = None;
        } else if case.challenged.is_none() {
            case.challenged = Some(now);
            out.push(Output::Challenge(subject.node));
        }
        if !grounds.is_empty() {
            case.stirred = now;
        }
        case.found = Some((now, grounds));
    }

    /// A node answered, on its own session, why it had been silent.
    pub fn rebutted(&mut self, node: NodeId) {
        for (_, case) in self.cases.iter_mut().filter(|(subject, _)| subject.node == node) {
            case.challenged = None;
            if let Some((_, found)) = &mut case.found {
                found.retain(|ground| *ground != Ground::Silence);
            }
        }
    }

    /// A testimony came in.
    ///
    /// # Errors
    /// [`Disbelief`] if it does not count; the sender is broken or hostile, or knows another electorate.
    pub fn heard(
        &mut self,
        facts: &Facts<'_>,
        signed: Signed<Testimony>,
        out: &mut Vec<Output>,
    ) -> Result<(), Disbelief> {
        // Everybody repeats what others may have missed: what is known costs no signature.
        let mut concluded = self.isolated.values().flat_map(Certificate::testimonies);
        if self.testimonies().any(|known| *known == signed) || concluded.any(|known| *known == signed) {
            return Ok(());
        }
        let isolated = self.isolated();
        let testimony = self.court(&isolated).hear(&signed)?;
        let subject = testimony.subject;
        if self.is_out(subject.node) || testimony.by == self.me || !self.follows(facts.now, &testimony) {
            return Ok(());
        }
        let by = testimony.by;
        let spent = self.spent.get(&(subject, by, testimony.sanction));
        if spent.is_some_and(|(last, _)| testimony.unix_ms <= *last) {
            return Ok(());
        }
        let grounds = testimony.grounds.clone();
        let case = self.cases.entry(subject).or_insert_with(|| Case::opened(facts.now, by));
        let joins = case.testimonies.keys().all(|(known, _)| *known != by);
        if !case.hear(facts.now, testimony, signed) {
            return Ok(());
        }
        let looks = joins || !case.struck;
        if !self.rules.look {
            case.found = Some((facts.now, grounds));
        }
        // A charge against this node itself: its word would not count, but it wants to know when it is convicted.
        if looks && subject.node != self.me {
            self.look(facts.now, out);
        }
        self.speak(facts, subject, out);
        self.conclude(facts, subject, out);
        Ok(())
    }

    /// A certificate came in.
    ///
    /// # Errors
    /// [`Disbelief`] if it does not hold.
    pub fn certified(
        &mut self,
        facts: &Facts<'_>,
        certificate: Certificate,
        out: &mut Vec<Output>,
    ) -> Result<(), Disbelief> {
        if self.isolated.values().any(|known| *known == certificate) {
            return Ok(());
        }
        // What the log has on record was verified there, whoever was isolated since.
        let isolated = self.isolated();
        let verdict = certificate.verify(&self.court(&isolated))?;
        self.convict(facts, verdict, certificate, out);
        Ok(())
    }

    /// The log follows: these are all whose isolation is on record. It may be said before a certificate is heard of.
    pub fn recorded(&mut self, nodes: BTreeSet<NodeId>) {
        self.recorded = nodes;
        let recorded = &self.recorded;
        self.cases.retain(|subject, _| !recorded.contains(&subject.node));
    }

    /// Time passes: answers are overdue, accusers stay alone, cases end.
    pub fn tick(&mut self, facts: &Facts<'_>, out: &mut Vec<Output>) {
        let now = facts.now;
        self.close(now);
        let rules = self.rules;
        let subjects: Vec<_> = self.cases.keys().copied().collect();
        let mut open = false;
        for subject in subjects {
            let Some(case) = self.cases.get_mut(&subject) else { continue };
            let in_vain = case.found.as_ref().is_some_and(|(_, found)| found.is_empty());
            if rules.strikes && in_vain && !case.struck && now.since(case.opened) >= IN_VAIN {
                case.struck = true;
                let accusers: BTreeSet<_> = case.testimonies.keys().map(|(by, _)| *by).collect();
                accusers.into_iter().for_each(|accuser| self.strikes.add(now, accuser));
            }
            let speaks = case.testimonies.keys().any(|(by, _)| *by == self.me);
            open |= subject.node != self.me && case.accuser != self.me && !speaks && !case.struck;
            self.speak(facts, subject, out);
        }
        if open {
            self.look(now, out);
        }
    }

    /// Ends what is over. Words of before are remembered for as long as others may still say them again, and no longer:
    /// their author's clock may be set back.
    fn close(&mut self, now: Instant) {
        self.spent.retain(|_, (_, at)| now.since(*at) <= LASTS);
        for (subject, case) in self.cases.iter().filter(|(_, case)| case.is_over(now)) {
            for ((by, sanction), (said, _)) in &case.testimonies {
                self.spent.insert((*subject, *by, *sanction), (said.unix_ms, now));
            }
        }
        self.cases.retain(|_, case| !case.is_over(now));
    }

    fn look(&mut self, now: Instant, out: &mut Vec<Output>) {
        if self.looked.is_none_or(|last| now.since(last) >= LOOK_EVERY) {
            self.looked = Some(now);
            out.push(Output::Look);
        }
    }

    fn court<'a>(&'a self, isolated: &'a BTreeSet<NodeId>) -> Court<'a> {
        Court { cluster: self.cluster, electorate: &self.electorate, isolated, rules: self.rules }
    }

    fn may_judge(&self, subject: &Subject) -> bool {
        subject.node != self.me && !self.is_out(subject.node)
    }

    fn is_out(&self, node: NodeId) -> bool {
        self.recorded.contains(&node) || self.isolated.keys().any(|subject| subject.node == node)
    }

    /// Whether a testimony is worth a look: not that of one who was wrong too often, if nobody else speaks.
    fn follows(&self, now: Instant, testimony: &Testimony) -> bool {
        let others = self.cases.get(&testimony.subject).is_some_and(|case| {
            case.testimonies.keys().any(|(by, _)| *by != testimony.by && !self.strikes.is_out(now, *by))
        });
        !self.rules.strikes || others || !self.strikes.is_out(now, testimony.by)
    }

    /// Testifies, if what this node found is enough and nothing holds it back.
    fn speak(&mut self, facts: &Facts<'_>, subject: Subject, out: &mut Vec<Output>) {
        let Some(case) = self.cases.get(&subject) else { return };
        let votes = self.electorate.judges && self.electorate.voters.contains_key(&self.me);
        if !votes
            || subject.node == self.me
            || (self.rules.abstain && !facts.well)
            || self.blames_the_network(facts.now)
        {
            return;
        }
        let grounds = case.grounds(facts.now, self.rules.rebuttal);
        let enough = |sanction| match self.rules.conclusive {
            true => testimony::suffices(sanction, &grounds),
            false => !grounds.is_empty(),
        };
        let sanction = if enough(Sanction::Isolate) && self.may_isolate(facts, subject) {
            Sanction::Isolate
        } else if enough(Sanction::Demote) {
            Sanction::Demote
        } else {
            return;
        };
        let said = case.testimonies.get(&(self.me, sanction));
        if said.is_some_and(|(said, _)| facts.unix_ms < said.unix_ms.saturating_add(AGAIN.as_ms())) {
            return;
        }
        let testimony = Testimony {
            subject,
            sanction,
            electorate: self.electorate.index,
            by: self.me,
            grounds,
            unix_ms: facts.unix_ms,
            heard: (facts.heard)(subject.node),
        };
        // It cannot be too long: its grounds are bounded by what there is to find.
        let Ok(signed) = facts.key.sign(self.cluster, &testimony) else { return };
        if let Some(case) = self.cases.get_mut(&subject) {
            case.hear(facts.now, testimony, signed.clone());
        }
        if sanction == Sanction::Isolate {
            self.swore(facts.now, subject);
        }
        out.push(Output::Tell(signed));
        self.conclude(facts, subject, out);
    }

    /// Whether so many look bad that it is rather the network, or this node.
    fn blames_the_network(&self, now: Instant) -> bool {
        let bad = self.cases.values().filter(|case| !case.grounds(now, false).is_empty()).count();
        self.rules.group && bad >= 2 && 2 * bad >= self.electorate.voters.len()
    }

    /// Puts a certificate together if there are enough testimonies of one time.
    fn conclude(&mut self, facts: &Facts<'_>, subject: Subject, out: &mut Vec<Output>) {
        for sanction in [Sanction::Isolate, Sanction::Demote] {
            let Some(case) = self.cases.get(&subject) else { return };
            let mut said: Vec<_> =
                case.testimonies.values().filter(|(t, _)| t.sanction == sanction).collect();
            said.sort_by_key(|(testimony, _)| testimony.unix_ms);
            let needed = if self.rules.threshold { self.electorate.threshold(sanction) } else { 1 };
            let certificates: Vec<_> = said
                .windows(needed)
                .map(|together| Certificate::of(together.iter().map(|(_, signed)| signed.clone()).collect()))
                .collect();
            let isolated = self.isolated();
            let believed = certificates.into_iter().find_map(|certificate| {
                let verdict = certificate.verify(&self.court(&isolated)).ok()?;
                Some((verdict, certificate))
            });
            if let Some((verdict, certificate)) = believed {
                self.convict(facts, verdict, certificate, out);
            }
        }
    }

    fn convict(
        &mut self,
        facts: &Facts<'_>,
        verdict: Verdict,
        certificate: Certificate,
        out: &mut Vec<Output>,
    ) {
        let subject = verdict.subject;
        match verdict.sanction {
            Sanction::Isolate => {
                if self.isolated.contains_key(&subject) {
                    return;
                }
                self.cases.remove(&subject);
                for case in self.cases.values_mut() {
                    case.testimonies.retain(|(by, _), _| !self.rules.void || *by != subject.node);
                }
                self.isolated.insert(subject, certificate.clone());
            }
            Sanction::Demote => {
                let new = !self.is_demoted(facts.now, subject.node);
                let demoted = self.demoted.values().filter(|until| facts.now < **until).count();
                // So many have to stay that they can lead and serve.
                if new && self.rules.budget && demoted >= self.electorate.budget() {
                    return;
                }
                self.demoted.insert(subject, facts.now.after(DEMOTED));
                if !new {
                    return;
                }
            }
        }
        out.push(Output::Publish(certificate));
        out.push(Output::Enforce(verdict));
    }
}

#[cfg(test)]
mod tests;
