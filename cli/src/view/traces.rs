//! The last rates of each node, for pictures of them.
//!
//! **Invariant.** At most [`SAMPLES_MAX`] of each node, and none of a node that is not shown any more. What is
//! not known is a gap, never zero.

use crate::json::Syn;
use std::collections::BTreeMap;
use stead_proto::limits::PATIENCE;

/// Samples that are kept of each node.
pub(crate) const SAMPLES_MAX: usize = 60;

/// The rates of one node, the oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trace {
    /// What people call it.
    pub(crate) node: String,
    /// SYNs out, per second.
    pub(crate) out: Vec<Option<u32>>,
    /// SYNs in, per second.
    pub(crate) inbound: Vec<Option<u32>>,
}

/// Those of all nodes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Traces(BTreeMap<String, Trace>);

impl Traces {
    /// Adds what was just heard. What a silent node said long ago is no sample.
    pub(crate) fn add(&mut self, syn: &Syn) {
        self.0.retain(|name, _| syn.nodes.iter().any(|node| node.node == *name));
        for node in &syn.nodes {
            let is_now = node.age_ms.is_none_or(|age| age <= PATIENCE.as_ms());
            let new = || Trace { node: node.node.clone(), ..Trace::default() };
            let trace = self.0.entry(node.node.clone()).or_insert_with(new);
            push(&mut trace.out, node.out.as_ref().filter(|_| is_now).map(|out| out.syn));
            push(&mut trace.inbound, node.inbound.as_ref().filter(|_| is_now).map(|inbound| inbound.syn));
        }
    }

    /// In the order of the nodes of `syn`.
    pub(crate) fn of(&self, syn: &Syn) -> Vec<Trace> {
        syn.nodes.iter().filter_map(|node| self.0.get(&node.node)).cloned().collect()
    }
}

fn push(samples: &mut Vec<Option<u32>>, sample: Option<u32>) {
    if samples.len() >= SAMPLES_MAX {
        samples.remove(0);
    }
    samples.push(sample);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::agreement::Agreement;
    use crate::{sample, view};

    #[test]
    fn samples_are_bounded_gaps_stay_gaps_and_who_is_gone_is_forgotten() {
        let shown = |answers| view::syn(&Agreement::of(&answers));
        let (healthy, silent) = (shown(sample::healthy()), shown(sample::silent(&[2])));
        let mut traces = Traces::default();
        for _ in 0..SAMPLES_MAX + 9 {
            traces.add(&healthy);
        }
        traces.add(&silent);
        let all = traces.of(&silent);
        assert_eq!(all.len(), 3);
        assert!(all.iter().all(|t| t.out.len() == SAMPLES_MAX && t.inbound.len() == SAMPLES_MAX));
        assert_eq!((all[0].out.last(), all[1].out.last()), (Some(&Some(12)), Some(&None)));
        let mut fewer = healthy.clone();
        fewer.nodes.truncate(1);
        traces.add(&fewer);
        assert_eq!(traces.of(&healthy).len(), 1);
    }
}
