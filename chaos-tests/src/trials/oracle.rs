//! What no trial may end in.

use super::scene::Scene;
use std::collections::{BTreeMap, BTreeSet};

/// How often liars may make an honest node look in one trial: three strikes of each cost it a dozen looks, and an
/// hour's silence follows.
const LOOKS_MAX: u32 = 150;

/// What went wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Two liars and a mistake were enough.
    #[error("node {subject} is honest, and was isolated after {ms} ms")]
    Framed {
        /// Who.
        subject: u64,
        /// When.
        ms: u64,
    },
    /// It is still in the mesh, for at least one honest node.
    #[error("node {subject} is hostile, and node {by} never isolated it")]
    Spared {
        /// Who.
        subject: u64,
        /// By whom.
        by: u64,
    },
    /// A second isolation began before the roster had followed the first.
    #[error("node {subject} was isolated while another one's isolation was not done")]
    TwoAtOnce {
        /// Who.
        subject: u64,
    },
    /// Too few are left to go on.
    #[error("{0} nodes are isolated")]
    TooMany(usize),
    /// Liars keep honest nodes busy.
    #[error("node {0} was made to look more than {LOOKS_MAX} times")]
    Busy(u64),
}

/// Watches one trial.
#[derive(Clone, Debug)]
pub struct Oracle {
    hostile: BTreeMap<u64, u64>,
    liars: BTreeSet<u64>,
    leader: u64,
    budget: usize,
    honest: Vec<u64>,
    out: BTreeMap<u64, BTreeSet<u64>>,
    pending: BTreeSet<u64>,
    looks: BTreeMap<u64, u32>,
    /// How long each isolation took until the last honest node knew, in ms.
    pub took_ms: Vec<u64>,
}

impl Oracle {
    /// Knows what is true.
    #[must_use]
    pub fn new(scene: &Scene) -> Self {
        let liars: BTreeSet<u64> = scene.liars.iter().map(|(node, _)| *node).collect();
        Self {
            hostile: scene.hostile.iter().copied().collect(),
            leader: scene.leader,
            budget: usize::try_from((scene.n - 1) / 2).unwrap_or_default(),
            honest: (1..=scene.n).filter(|node| !liars.contains(node)).collect(),
            liars,
            out: BTreeMap::new(),
            pending: BTreeSet::new(),
            looks: BTreeMap::new(),
            took_ms: Vec::new(),
        }
    }

    pub(super) fn isolated(&mut self, by: u64, subject: u64, ms: u64) -> Result<(), Fault> {
        if !self.liars.contains(&subject) {
            return Err(Fault::Framed { subject, ms });
        }
        let known = self.out.contains_key(&subject);
        if !known
            && !self.pending.is_empty()
            && subject != self.leader
            && !self.pending.contains(&self.leader)
        {
            return Err(Fault::TwoAtOnce { subject });
        }
        if !known {
            self.pending.insert(subject);
        }
        let who = self.out.entry(subject).or_default();
        who.insert(by);
        if who.len() == self.honest.len()
            && let Some(from) = self.hostile.get(&subject)
        {
            self.took_ms.push(ms.saturating_sub(*from));
        }
        if self.out.len() > self.budget {
            return Err(Fault::TooMany(self.out.len()));
        }
        Ok(())
    }

    pub(super) fn removed(&mut self, subject: u64) {
        self.pending.remove(&subject);
    }

    pub(super) fn looked(&mut self, node: u64) -> Result<(), Fault> {
        let looks = self.looks.entry(node).or_default();
        *looks += 1;
        if *looks > LOOKS_MAX { Err(Fault::Busy(node)) } else { Ok(()) }
    }

    pub(super) fn end(&self) -> Result<(), Fault> {
        for subject in self.hostile.keys() {
            for by in &self.honest {
                if !self.out.get(subject).is_some_and(|who| who.contains(by)) {
                    return Err(Fault::Spared { subject: *subject, by: *by });
                }
            }
        }
        Ok(())
    }
}
