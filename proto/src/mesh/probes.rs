//! Whether another host has an endpoint's address: what the probes found, and what to make of it.
//!
//! **Invariant.** An address that anybody answers for is not claimed, unless the mesh's own holder is known to
//! have it. A first answer calls nobody a stranger yet: after a start, the holder answers before he is heard.

use super::{Mesh, Row};
use crate::id::Name;
use crate::limits::PATIENCE;
use crate::report::Unwell;
use crate::time::Instant;
use alloc::{collections::BTreeMap, format, string::String};
use core::net::IpAddr;

/// What was found out about each endpoint's address.
#[derive(Debug, Default)]
pub(super) struct Probes {
    found: BTreeMap<Name, Found>,
}

#[derive(Debug)]
struct Found {
    address: IpAddr,
    by: Answered,
}

#[derive(Debug, PartialEq, Eq)]
enum Answered {
    /// By nobody, or by the mesh's own holder.
    Nobody,
    /// By somebody who may turn out to be the holder, since then.
    Lately(Instant),
    /// By this MAC address, for so long that a holder would have been heard.
    Stranger(String),
}

impl Probes {
    /// Whether nobody but the mesh had this address when it was asked.
    pub(super) fn found_free(&self, endpoint: &Name, address: IpAddr) -> bool {
        self.found.get(endpoint).is_some_and(|found| found.address == address && found.by == Answered::Nobody)
    }

    /// Who else has the address, as a sentence.
    pub(super) fn trouble(&self, endpoint: &Name) -> Option<String> {
        match &self.found.get(endpoint)?.by {
            Answered::Nobody | Answered::Lately(_) => None,
            Answered::Stranger(mac) => Some(format!(
                "another host ({mac}) has this address already: free it there or choose another"
            )),
        }
    }

    pub(super) fn retain(&mut self, wanted: impl Fn(&Name) -> bool) {
        self.found.retain(|name, _| wanted(name));
    }

    pub(super) fn any_taken(&self) -> bool {
        self.found.values().any(|found| matches!(found.by, Answered::Stranger(_)))
    }

    fn note(&mut self, now: Instant, endpoint: Name, address: IpAddr, mac: Option<String>) {
        let before = self.found.get(&endpoint).filter(|found| found.address == address);
        let by = match (mac, before.map(|found| &found.by)) {
            (None, _) => Answered::Nobody,
            (Some(mac), Some(Answered::Stranger(_))) => Answered::Stranger(mac),
            (Some(mac), Some(Answered::Lately(since))) if now.since(*since) >= PATIENCE => {
                Answered::Stranger(mac)
            }
            (Some(_), Some(Answered::Lately(since))) => Answered::Lately(*since),
            (Some(_), Some(Answered::Nobody) | None) => Answered::Lately(now),
        };
        self.found.insert(endpoint, Found { address, by });
    }
}

impl Mesh {
    pub(super) fn take_probe(&mut self, now: Instant, endpoint: &Name, address: IpAddr, mac: Option<String>) {
        let stranger = mac.filter(|_| !self.is_ours(now, endpoint, address));
        self.probes.note(now, endpoint.clone(), address, stranger);
        self.take_unwell(Unwell::AddressTaken, self.probes.any_taken());
    }

    /// A report may name the holder who answered.
    pub(super) fn judge_probes(&mut self, now: Instant) {
        let doubtful = self.probes.found.iter().filter(|(_, found)| found.by != Answered::Nobody);
        let ours = doubtful.filter(|(name, found)| self.is_ours(now, name, found.address));
        let ours: BTreeMap<Name, IpAddr> = ours.map(|(name, found)| (name.clone(), found.address)).collect();
        for (name, address) in ours {
            self.take_probe(now, &name, address, None);
        }
    }

    /// Whether this node, or one that was heard lately, serves the endpoint under this address.
    fn is_ours(&self, now: Instant, endpoint: &Name, address: IpAddr) -> bool {
        let since = self.readdressed.get(endpoint).copied().unwrap_or_default();
        let held = |row: &Row| {
            now.since(row.received) < PATIENCE
                && row.report.log.applied >= since
                && row.report.leases.iter().any(|l| l.endpoint == *endpoint && l.holding.is_some())
        };
        self.serving.get(endpoint).is_some_and(|serving| serving.spec.address == address)
            || self.rows.values().any(held)
    }
}
