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
    /// How far it is fenced; `null` if nothing was ordered.
    pub fence: Option<Fence>,
    /// The number of its incident.
    pub incident: u64,
}

/// How far a node is fenced.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Fence {
    /// Who runs or ran the command.
    pub by: String,
    /// Which attempt it is.
    pub attempt: u32,
    /// The epoch that the command was given.
    pub epoch: u64,
    /// `running`, `done` or `failed`.
    pub state: &'static str,
    /// Why it failed.
    pub why: Option<String>,
}

/// `evidence`: what speaks against a node that was cut off, verified by another path than the nodes took.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Evidence {
    /// The mesh, 64 hexadecimal digits.
    pub cluster: String,
    /// Who was cut off.
    pub node: String,
    /// How many witnesses it takes.
    pub needed: usize,
    /// Who testified.
    pub witnesses: Vec<Witness>,
    /// What the node's own reports said, a sentence each.
    pub reports: Vec<String>,
    /// Reports that testimonies name and that no node had any more, or the file does not hold.
    pub missing: usize,
    /// Whose keys the genesis does not name: they were admitted later, and are known from the roster alone.
    pub unanchored: Vec<String>,
    /// Who judges by the genesis and not by this roster: unless an operator took their vote, it takes more witnesses.
    pub absent: Vec<String>,
    /// The file that was written, if one was.
    pub exported: Option<String>,
}

/// One who testified.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Witness {
    /// Who.
    pub node: String,
    /// What he found.
    pub grounds: Vec<String>,
}
