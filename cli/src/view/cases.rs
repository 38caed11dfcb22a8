//! Cases and isolations, with names instead of numbers.

use super::node_name;
use crate::agreement::Agreement;
use crate::json::{Accused, Cases, CutOff, Fence, Testimony};
use crate::words::harmless;
use std::collections::{BTreeMap, BTreeSet};
use stead_proto::fence::Fencing;
use stead_proto::id::NodeId;
use stead_proto::state::{Authority, State};
use stead_proto::tribunal::{self, Sanction};

/// Everything that is said against anybody.
pub(crate) fn cases(agreement: &Agreement<'_>, state: &State) -> Cases {
    let electorate = state.electorate();
    Cases {
        needed: electorate.threshold(Sanction::Isolate),
        without_operator: electorate.judges,
        open: open(agreement, state),
        isolated: state.isolations.keys().filter_map(|node| cut_off(state, *node)).collect(),
    }
}

/// On whose word a node was cut off, if it was.
pub(crate) fn cut_off(state: &State, node: NodeId) -> Option<CutOff> {
    let isolation = state.isolations.get(&node)?;
    let (by, reason, testimonies) = match &isolation.by {
        Authority::Operator { name, reason } => (vec![name.to_string()], Some(harmless(reason)), Vec::new()),
        Authority::Peers(certificate) => {
            // The log holds only what was verified.
            let signed = certificate.testimonies().iter();
            let all: Vec<_> = signed.filter_map(|signed| signed.verify(state.cluster).ok()).collect();
            let by = all.iter().map(|testimony| state.name_of(testimony.by)).collect();
            (by, None, all.iter().map(|testimony| view(testimony, state.name_of(testimony.by))).collect())
        }
    };
    let fence = state.fences.get(&node).map(|fencing| fence(state, fencing));
    let (node, unix_ms, incident) = (state.name_of(node), isolation.unix_ms, isolation.index);
    Some(CutOff { node, by, reason, testimonies, unix_ms, fence, incident })
}

fn fence(state: &State, fencing: &Fencing) -> Fence {
    let (word, why) = match fencing.outcome.as_ref().map(|outcome| &outcome.failed) {
        None => ("running", None),
        Some(None) => ("done", None),
        Some(Some(why)) => ("failed", Some(harmless(why))),
    };
    let (by, attempt, epoch) = (state.name_of(fencing.by), fencing.attempt, fencing.epoch);
    Fence { by, attempt, epoch, state: word, why }
}

/// What the nodes that answered have open, laid together; who is cut off already is no open case.
fn open(agreement: &Agreement<'_>, state: &State) -> Vec<Accused> {
    let statuses = agreement.answers.keys().filter_map(|node| agreement.status_of(*node));
    let mut open: BTreeMap<NodeId, (u64, bool, BTreeSet<Testimony>)> = BTreeMap::new();
    for case in statuses.flat_map(|status| &status.cases).filter(|case| !state.is_isolated(case.subject)) {
        let (open_ms, demoted, testimonies) = open.entry(case.subject).or_default();
        *open_ms = (*open_ms).max(case.open_ms);
        *demoted |= case.demoted;
        testimonies.extend(case.testimonies.iter().map(|t| view(t, node_name(agreement, t.by))));
    }
    let accused = |(node, (open_ms, demoted, testimonies)): (NodeId, (u64, bool, BTreeSet<Testimony>))| {
        let node = node_name(agreement, node);
        Accused { node, open_ms, demoted, testimonies: testimonies.into_iter().collect() }
    };
    open.into_iter().map(accused).collect()
}

fn view(testimony: &tribunal::Testimony, by: String) -> Testimony {
    Testimony {
        by,
        sanction: match testimony.sanction {
            Sanction::Demote => "demote",
            Sanction::Isolate => "isolate",
        },
        grounds: testimony.grounds.iter().map(ToString::to_string).collect(),
        unix_ms: testimony.unix_ms,
    }
}
