//! Who is cut off, and by whose word: peers with a certificate, or an operator.
//!
//! An isolated node stays in the roster, so that the number of those who judge never shrinks by itself (DESIGN §11
//! P5), until an operator removes it. It never comes back under its key.
//!
//! **Invariant.** An isolation is never taken back here, and none is accepted that would leave no majority of the
//! voters, or more than the charter's judges may convict.

use super::State;
use crate::command::{Outcome, Refusal, no_such_node};
use crate::id::{Name, NodeId};
use crate::incident::Matter;
use crate::roster::{Operator, bounded_text};
use crate::tribunal::{Certificate, Court, Electorate, Rules, Sanction, Testimony, Verdict};
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};
use serde::{Deserialize, Serialize};

/// One isolation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Isolation {
    /// The log index at which it was recorded; the peers may have acted earlier.
    pub index: u64,
    /// When it was recorded, in milliseconds since 1970.
    pub unix_ms: u64,
    /// By whose word.
    pub by: Authority,
}

/// Whose word isolated a node.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Authority {
    /// So many of its peers'.
    Peers(Certificate),
    /// An operator's.
    Operator {
        /// Whose.
        name: Name,
        /// Why, as he wrote it.
        reason: String,
    },
}

impl State {
    /// Whether a node is cut off.
    #[must_use]
    pub fn is_isolated(&self, node: NodeId) -> bool {
        self.isolations.contains_key(&node)
    }

    /// The nodes of the roster that are not cut off.
    pub fn trusted(&self) -> impl Iterator<Item = NodeId> {
        self.members.keys().copied().filter(|node| !self.is_isolated(*node))
    }

    /// Who shall vote in Raft and who shall only follow.
    #[must_use]
    pub fn wanted_members(&self) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
        let voters = self.config.voters.clone();
        let learners = self.trusted().filter(|node| !voters.contains(node)).collect();
        (voters, learners)
    }

    /// Who judges, and who can be judged: as the operators said last.
    #[must_use]
    pub fn electorate(&self) -> Electorate {
        let key = |voters: bool| {
            let members = self.members.values().filter(move |m| m.role.votes() == voters);
            members.map(|m| (m.id, m.key)).collect()
        };
        Electorate {
            index: self.roster_index,
            voters: key(true),
            others: key(false),
            judges: self.site.charter.isolate,
        }
    }

    /// What a certificate comes to, if it may be recorded now.
    ///
    /// # Errors
    /// The [`Refusal`] that `apply` would come to.
    pub fn check_certificate(&self, certificate: &Certificate) -> Result<Verdict, Refusal> {
        let electorate = self.electorate();
        let isolated: BTreeSet<NodeId> = self.isolations.keys().copied().collect();
        let court = Court {
            cluster: self.cluster,
            electorate: &electorate,
            isolated: &isolated,
            rules: Rules::SOUND,
        };
        let verdict = certificate.verify(&court).map_err(|error| Refusal::Forbidden(error.to_string()))?;
        if verdict.sanction != Sanction::Isolate {
            return Err(Refusal::Forbidden("this certificate isolates nobody".into()));
        }
        self.check_isolable(verdict.subject.node)?;
        Ok(verdict)
    }

    pub(super) fn isolate_convicted(
        &mut self,
        index: u64,
        certificate: Certificate,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let verdict = self.check_certificate(&certificate)?;
        let node = verdict.subject.node;
        let (name, matter) = (self.name_of(node), Matter::Isolated(node));
        self.incidents.note(index, &matter, unix_ms, &format!("{name} was cut off by its peers"));
        for testimony in &verdict.testimonies {
            self.incidents.note(index, &matter, testimony.unix_ms, &self.sentence(testimony));
        }
        self.isolations.insert(node, Isolation { index, unix_ms, by: Authority::Peers(certificate) });
        Ok(Outcome::Done)
    }

    pub(super) fn isolate_ordered(
        &mut self,
        index: u64,
        node: NodeId,
        reason: &str,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        self.check_isolable(node)?;
        let voters = &self.config.voters;
        let stay = voters.iter().filter(|voter| **voter != node && !self.is_isolated(**voter)).count();
        if voters.contains(&node) && 2 * stay <= voters.len() {
            return Err(Refusal::Forbidden(format!(
                "without {} too few voters are left to go on: admit another node first, or wait until the last \
                 isolated one does not vote any more",
                self.name_of(node)
            )));
        }
        let reason = bounded_text(reason);
        let text = format!("{} cut {} off: {reason}", by.name, self.name_of(node));
        self.incidents.note(index, &Matter::Isolated(node), unix_ms, &text);
        let by = Authority::Operator { name: by.name.clone(), reason };
        self.isolations.insert(node, Isolation { index, unix_ms, by });
        Ok(Outcome::Done)
    }

    fn check_isolable(&self, node: NodeId) -> Result<(), Refusal> {
        if !self.members.contains_key(&node) {
            return Err(no_such_node(node));
        }
        if self.is_isolated(node) {
            return Err(Refusal::Forbidden(format!("{} is isolated already", self.name_of(node))));
        }
        Ok(())
    }

    /// "b testifies: its own detectors convict it; it said so from an address of its own".
    pub(crate) fn sentence(&self, testimony: &Testimony) -> String {
        let grounds: Vec<String> = testimony.grounds.iter().map(ToString::to_string).collect();
        format!("{} testifies: {}", self.name_of(testimony.by), grounds.join("; "))
    }
}
