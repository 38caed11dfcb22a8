//! How this node sees the mesh, for operators.

use super::reports::promised;
use super::{Mesh, Now};
use crate::admin::{EndpointStatus, PeerStatus, Status, TransportSeen};
use crate::limits::PATIENCE;
use crate::liveness;
use alloc::{string::String, vec::Vec};

impl Mesh {
    /// The answer to `stead status`, but for the transport and the kernel, of which the core knows nothing.
    #[must_use]
    pub fn status(&self, now: Now, version: &str) -> Status {
        Status {
            node: self.me,
            version: String::from(version),
            uptime_ms: now.at.since(self.started).as_ms(),
            waiting: self.waiting(),
            leader_fresh: self.raft.leading || self.election.hears_leader(now.at),
            state: (*self.state).clone(),
            own: self.compose_report(now),
            peers: self.seen_peers(now),
            endpoints: self.endpoints(now),
            transport: TransportSeen::default(),
            rungs: Vec::new(),
            cases: self.judging.cases(now.at),
            evidence: self.judging.evidence(),
        }
    }

    fn seen_peers(&self, now: Now) -> Vec<PeerStatus> {
        let others = self.state.members.keys().filter(|id| **id != self.me);
        others
            .map(|id| {
                let heard = self.heard.get(id).copied();
                let liveness = liveness::judge(*id, self.me, now.at, PATIENCE, heard, &self.rows);
                let since = match self.liveness.get(id) {
                    Some((known, since)) if *known == liveness => *since,
                    Some(_) | None => now.at,
                };
                let report = self.rows.get(id);
                PeerStatus {
                    node: *id,
                    liveness,
                    since_ms: now.at.since(since).as_ms(),
                    heard_ms_ago: heard.map(|at| now.at.since(at).as_ms()),
                    report: report.map(|row| (now.at.since(row.received).as_ms(), row.report.clone())),
                }
            })
            .collect()
    }

    fn endpoints(&self, now: Now) -> Vec<EndpointStatus> {
        let endpoint = |(name, spec): (&crate::id::Name, &crate::site::EndpointSpec)| EndpointStatus {
            name: name.clone(),
            serving: self.serving.get(name).map(|s| (s.epoch, s.until.since(now.at).as_ms())),
            promised: self.leases.get(name).and_then(|lease| promised(lease, now.at)),
            ready: self.is_ready(spec),
            holding_page: self.serving.get(name).is_some_and(|s| s.holding_page),
            trouble: self.trouble(name, spec),
        };
        self.state.site.endpoints.iter().map(endpoint).collect()
    }
}
