//! Certificates: so many testimonies against one node that it is not one liar's word.
//!
//! Anybody may put one together, and anybody verifies it alone, from its bytes and the electorate: no leader, no
//! order, no clock of one's own. Certificates make a grow-only set.
//!
//! **Invariant.** With at most ⌊(n−1)/2⌋ liars, each certificate that [`Certificate::verify`] believes holds the word
//! of an honest node that has looked for itself.

use super::{
    rules::Rules,
    testimony::{Sanction, Subject, Testimony},
};
use crate::id::{ClusterId, NodeId, PublicKey};
use crate::limits::VOTERS_MAX;
use crate::sign::{SignError, Signed};
use alloc::{
    collections::{BTreeMap, BTreeSet},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// How far apart testimonies may be that count together: rare mistakes of months must not add up.
pub const SPREAD_MS_MAX: u64 = 60_000;
/// The same by the subject's own reports, for judges whose clocks differ: a minute's worth of them.
pub const SPREAD_REPORTS_MAX: u64 = 300;
/// How far apart clocks may be for that: a subject that is silent for long has no such time.
pub const CLOCKS_APART_MS_MAX: u64 = 86_400_000;

/// Who may judge whom: what the operators signed, never what was left of it by demotions (DESIGN §11 P5).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Electorate {
    /// The log index of the operators' last word on it.
    pub index: u64,
    /// The voters and witnesses that they named, with their keys.
    pub voters: BTreeMap<NodeId, PublicKey>,
    /// Everybody else in the roster: may be judged, does not judge.
    pub others: BTreeMap<NodeId, PublicKey>,
    /// Whether the charter lets them judge at all.
    pub judges: bool,
}

impl Electorate {
    /// How many have to agree for a sanction: always one more than there may be liars, and never one alone.
    #[must_use]
    pub fn threshold(&self, sanction: Sanction) -> usize {
        match sanction {
            Sanction::Isolate => self.voters.len() / 2 + 1,
            Sanction::Demote => (self.budget() + 1).max(2),
        }
    }

    /// How many may be isolated at once, and how many demoted.
    #[must_use]
    pub fn budget(&self) -> usize {
        self.voters.len().saturating_sub(1) / 2
    }

    /// The node as it stands in the roster.
    #[must_use]
    pub fn subject(&self, node: NodeId) -> Option<Subject> {
        let key = self.voters.get(&node).or_else(|| self.others.get(&node))?;
        Some(Subject { node, key: *key })
    }
}

/// Why a testimony or a certificate was not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Disbelief {
    /// Forged, altered, of another mesh, or unreadable.
    #[error("{0}")]
    Signature(#[from] SignError),
    /// Not by a voter, or signed with another key than his.
    #[error("node #{0} does not judge here, or not with this key")]
    Witness(NodeId),
    /// By the accused, or by a node that is isolated itself.
    #[error("the word of node #{0} does not count")]
    Void(NodeId),
    /// Against nobody in this roster.
    #[error("against node #{0}, which is not in the roster under this key")]
    Stranger(NodeId),
    /// Of another electorate than ours.
    #[error("of the electorate at {theirs}, ours is at {ours}")]
    Electorate {
        /// Theirs.
        theirs: u64,
        /// Ours.
        ours: u64,
    },
    /// What the witness found does not carry the sanction.
    #[error("what node #{0} found does not carry the sanction")]
    Grounds(NodeId),
    /// The testimonies are not about one thing.
    #[error("its testimonies do not belong together")]
    Mixed,
    /// The operators keep judging to themselves.
    #[error("the charter lets nobody be judged without an operator")]
    Charter,
    /// Somebody testifies twice.
    #[error("node #{0} testifies twice")]
    Twice(NodeId),
    /// More than a minute apart, by clocks and by the subject's reports.
    #[error("its testimonies are more than a minute apart")]
    Spread,
    /// Too few witnesses, or more than there can be.
    #[error("{given} witnesses where it takes {needed}")]
    Witnesses {
        /// How many.
        given: usize,
        /// How many it takes.
        needed: usize,
    },
    /// As many nodes are isolated as may be.
    #[error("{0} nodes are isolated already; one more and too few would be left")]
    Budget(usize),
}

/// What testimonies are judged against.
#[derive(Clone, Copy, Debug)]
pub struct Court<'a> {
    /// Which mesh.
    pub cluster: ClusterId,
    /// Who judges.
    pub electorate: &'a Electorate,
    /// Whose word does not count any more.
    pub isolated: &'a BTreeSet<NodeId>,
    /// The rules in force.
    pub rules: Rules,
}

impl Court<'_> {
    /// One testimony of today, if it counts.
    ///
    /// # Errors
    /// [`Disbelief`] says why not.
    pub fn hear(&self, signed: &Signed<Testimony>) -> Result<Testimony, Disbelief> {
        let testimony = self.weigh(signed)?;
        if testimony.electorate != self.electorate.index {
            let (theirs, ours) = (testimony.electorate, self.electorate.index);
            return Err(Disbelief::Electorate { theirs, ours });
        }
        Ok(testimony)
    }

    /// One testimony, if it counts, of whichever electorate.
    fn weigh(&self, signed: &Signed<Testimony>) -> Result<Testimony, Disbelief> {
        if !self.electorate.judges {
            return Err(Disbelief::Charter);
        }
        let testimony = signed.verify(self.cluster)?;
        let by = testimony.by;
        if self.electorate.voters.get(&by) != Some(&signed.claimed_signer()) {
            return Err(Disbelief::Witness(by));
        }
        if self.electorate.subject(testimony.subject.node) != Some(testimony.subject) {
            return Err(Disbelief::Stranger(testimony.subject.node));
        }
        if by == testimony.subject.node || (self.rules.void && self.isolated.contains(&by)) {
            return Err(Disbelief::Void(by));
        }
        if self.rules.conclusive && !testimony.suffices() {
            return Err(Disbelief::Grounds(by));
        }
        Ok(testimony)
    }
}

/// Testimonies that together convict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Certificate {
    testimonies: Vec<Signed<Testimony>>,
}

/// What a believed certificate says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// Who is convicted.
    pub subject: Subject,
    /// To what.
    pub sanction: Sanction,
    /// By whom, and what each found.
    pub testimonies: Vec<Testimony>,
}

impl Certificate {
    /// Puts testimonies together; nothing is verified.
    #[must_use]
    pub const fn of(testimonies: Vec<Signed<Testimony>>) -> Self {
        Self { testimonies }
    }

    /// The testimonies, as they came.
    #[must_use]
    pub fn testimonies(&self) -> &[Signed<Testimony>] {
        &self.testimonies
    }

    /// Verifies every signature and every rule. All testimonies have to be of one electorate; it takes as many of
    /// today's judges as today's electorate asks for, so that an operator who changes the roster meanwhile neither
    /// frees the convicted nor convicts anybody.
    ///
    /// # Errors
    /// [`Disbelief`] says what the first fault is.
    pub fn verify(&self, court: &Court<'_>) -> Result<Verdict, Disbelief> {
        let given = self.testimonies.len();
        // The bound first: verifying signatures is what costs.
        if given > VOTERS_MAX {
            return Err(Disbelief::Witnesses { given, needed: VOTERS_MAX });
        }
        let heard: Result<Vec<_>, _> = self.testimonies.iter().map(|signed| court.weigh(signed)).collect();
        let testimonies = heard?;
        let first = testimonies.first().ok_or(Disbelief::Witnesses { given, needed: 1 })?;
        let (subject, sanction) = (first.subject, first.sanction);
        let electorate = first.electorate;
        if testimonies
            .iter()
            .any(|t| (t.subject, t.sanction, t.electorate) != (subject, sanction, electorate))
        {
            return Err(Disbelief::Mixed);
        }
        let mut witnesses = BTreeSet::new();
        if let Some(twice) = testimonies.iter().find(|t| !witnesses.insert(t.by)) {
            return Err(Disbelief::Twice(twice.by));
        }
        if court.rules.spread && !is_of_one_time(&testimonies) {
            return Err(Disbelief::Spread);
        }
        let needed = if court.rules.threshold { court.electorate.threshold(sanction) } else { 1 };
        if given < needed {
            return Err(Disbelief::Witnesses { given, needed });
        }
        let isolated = court.isolated.len();
        let new = !court.isolated.contains(&subject.node);
        if court.rules.budget && sanction == Sanction::Isolate && new && isolated >= court.electorate.budget()
        {
            return Err(Disbelief::Budget(isolated));
        }
        Ok(Verdict { subject, sanction, testimonies })
    }
}

/// Within a minute by the witnesses' clocks; or, if those are wrong, by the subject's reports. It can hold the second up
/// by skipping numbers, never the first.
fn is_of_one_time(testimonies: &[Testimony]) -> bool {
    let spread = |of: &mut dyn Iterator<Item = u64>| {
        let (least, most) = of.fold((u64::MAX, 0), |(least, most), one| (least.min(one), most.max(one)));
        most.saturating_sub(least)
    };
    let clocks = spread(&mut testimonies.iter().map(|testimony| testimony.unix_ms));
    let heard: Option<Vec<_>> = testimonies.iter().map(|testimony| testimony.heard).collect();
    let by_reports = heard.is_some_and(|heard| {
        let incarnation = heard.first().map(|place| place.incarnation);
        heard.iter().all(|place| Some(place.incarnation) == incarnation)
            && spread(&mut heard.iter().map(|place| place.sequence)) <= SPREAD_REPORTS_MAX
    });
    clocks <= SPREAD_MS_MAX || (clocks <= CLOCKS_APART_MS_MAX && by_reports)
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
