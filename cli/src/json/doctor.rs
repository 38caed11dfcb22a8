//! What `stead doctor` prints.

use serde::Serialize;

/// `doctor`: what every node's machine lets it do, and what else is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Doctor {
    /// Whether all parts stand on their best rung, everybody answered, and there is nothing to do.
    pub sound: bool,
    /// The nodes, by id; only one if one was asked for.
    pub nodes: Vec<Checkup>,
    /// What to do, the most urgent first.
    pub todo: Vec<String>,
}

/// One node's parts, and what else is wrong with it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Checkup {
    /// What people call it.
    pub node: String,
    /// `agrees`, `behind`, `differs` or `silent`.
    pub opinion: &'static str,
    /// Its parts; none if it did not answer.
    pub parts: Vec<Part>,
    /// What else is wrong with it, in sentences.
    pub wrong: Vec<String>,
}

/// A part of an agent that does what its machine allows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Part {
    /// Which: `lease gate`, `SYN limit`, …
    pub part: String,
    /// The rung of its ladder on which it stands; `none` if it has none.
    pub rung: String,
    /// Whether that is the best there is.
    pub best: bool,
    /// What it therefore cannot see or do; `null` if nothing.
    pub cost: Option<String>,
    /// Why it stands no higher, and what would help; `null` if nothing would.
    pub remedy: Option<String>,
}
