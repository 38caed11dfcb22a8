//! Evidence: signed reports counted inside `apply`.
//!
//! **Invariant.** One node counts once, only if it is in the roster under the key that signed and not cut off, and
//! only with a signature that holds in this mesh.

use crate::id::{Name, NodeId};
use crate::plan::Epoch;
use crate::report::Report;
use crate::sign::Signed;
use crate::state::State;
use alloc::{collections::BTreeMap, vec::Vec};

/// The reports among `signed` that hold, one for each node (the latest).
#[must_use]
pub fn verified(state: &State, signed: &[Signed<Report>]) -> BTreeMap<NodeId, Report> {
    let mut reports: BTreeMap<NodeId, Report> = BTreeMap::new();
    for report in signed.iter().filter_map(|s| verify(state, s)) {
        let newer =
            |known: &Report| (report.incarnation, report.sequence) > (known.incarnation, known.sequence);
        if reports.get(&report.from).is_none_or(newer) {
            reports.insert(report.from, report);
        }
    }
    reports
}

/// One report, if its signature holds and its signer is the node that it speaks for.
#[must_use]
pub fn verify(state: &State, signed: &Signed<Report>) -> Option<Report> {
    let report = signed.verify(state.cluster).ok()?;
    let member = state.members.get(&report.from).filter(|member| !state.is_isolated(member.id))?;
    (member.key == signed.claimed_signer()).then_some(report)
}

/// The voters whose promise for `endpoint` runs to `node` under a later epoch of the plan `parent`.
#[must_use]
pub fn promised_to<'a>(
    reports: impl IntoIterator<Item = &'a Report>,
    endpoint: &Name,
    parent: u64,
    node: NodeId,
) -> Vec<NodeId> {
    let later = |epoch: Epoch| epoch.plan == parent && epoch.rank > 0;
    reports
        .into_iter()
        .filter(|r| {
            r.leases.iter().any(|l| {
                l.endpoint == *endpoint && l.promised.is_some_and(|(to, epoch)| to == node && later(epoch))
            })
        })
        .map(|r| r.from)
        .collect()
}
