//! What `stead cases` prints.

use serde::Serialize;

/// `cases`: who is accused of what, and who was cut off on whose word.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Cases {
    /// How many have to agree before a node is cut off.
    pub needed: usize,
    /// Whether the nodes may do it without an operator.
    pub without_operator: bool,
    /// Open cases, by node.
    pub open: Vec<Accused>,
    /// Who was cut off, by node.
    pub isolated: Vec<CutOff>,
}

/// One open case, as all nodes that answered have it together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Accused {
    /// Against whom.
    pub node: String,
    /// For how long it has been open.
    pub open_ms: u64,
    /// Whether it may hold and lead nothing for the time being.
    pub demoted: bool,
    /// Who said what.
    pub testimonies: Vec<Testimony>,
}

/// What one node found against another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Testimony {
    /// Who.
    pub by: String,
    /// What it asks for: `demote` or `isolate`.
    pub sanction: &'static str,
    /// What it found, in sentences.
    pub grounds: Vec<String>,
    /// When, by its clock.
    pub unix_ms: u64,
}

/// That a node was cut off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CutOff {
    /// Whom.
    pub node: String,
    /// On whose word: its peers', or one operator's.
    pub by: Vec<String>,
    /// What the operator gave as his reason; `null` if its peers did it.
    pub reason: Option<String>,
    /// What each of its peers testified; none if an operator did it.
    pub testimonies: Vec<Testimony>,
    /// When it was recorded.
    pub unix_ms: u64,
    /// The number of its incident.
    pub incident: u64,
}
