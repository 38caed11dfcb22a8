//! Plans: who may hold an endpoint, changed only for a reason that every node can verify.

use super::State;
use crate::command::{Ground, Outcome, Refusal};
use crate::evidence;
use crate::id::Name;
use crate::incident::Matter;
use crate::limits::GATE_SLACK_MAX;
use crate::plan::{Plan, Seat};
use alloc::{
    collections::BTreeSet,
    format,
    string::{String, ToString},
    vec::Vec,
};

impl State {
    pub(super) fn plan(
        &mut self,
        index: u64,
        endpoint: &Name,
        parent: u64,
        seats: Vec<Seat>,
        ground: &Ground,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let spec = self
            .site
            .endpoints
            .get(endpoint)
            .ok_or_else(|| Refusal::Unknown(format!("endpoint {endpoint}")))?;
        let lease_ms = spec.lease_ms;
        let newest = self.plans.get(endpoint).map_or(0, |p| p.index);
        if parent != newest {
            return Err(Refusal::Stale { base: parent, newest });
        }
        self.check_seats(&seats)?;
        let first = seats.first().map(|seat| self.name_of(seat.node)).unwrap_or_default();
        let plan = Plan { index, lease_ms, seats };
        plan.check().map_err(|error| Refusal::Forbidden(error.to_string()))?;
        let text = self.check_ground(endpoint, &plan.seats, ground)?;
        self.plans.insert(endpoint.clone(), plan);
        if let Some(text) = text {
            let matter = Matter::Move(endpoint.clone());
            self.incidents.note(index, &matter, unix_ms, &text);
            self.incidents.close(&matter, unix_ms, &format!("{first} serves it"));
        }
        Ok(Outcome::Done)
    }

    fn check_seats(&self, seats: &[Seat]) -> Result<(), Refusal> {
        let nodes: BTreeSet<_> = seats.iter().map(|s| s.node).collect();
        let candidates = self.candidates();
        if seats.is_empty() || nodes.len() != seats.len() || !nodes.is_subset(&candidates) {
            return Err(Refusal::Forbidden(
                "a plan seats each node once, and only nodes that may serve".into(),
            ));
        }
        if seats.iter().any(|s| u64::from(s.slack_ms) > GATE_SLACK_MAX.as_ms()) {
            return Err(Refusal::Forbidden(format!(
                "a gate that needs longer than {GATE_SLACK_MAX} is no gate"
            )));
        }
        Ok(())
    }

    /// Whether the ground holds; if it tells of a change of holder, the line for the incident.
    fn check_ground(
        &self,
        endpoint: &Name,
        seats: &[Seat],
        ground: &Ground,
    ) -> Result<Option<String>, Refusal> {
        let first = seats.first().map(|s| s.node).unwrap_or_default();
        let Some(parent) = self.plans.get(endpoint) else {
            return match ground {
                Ground::First => Ok(None),
                Ground::Refresh | Ground::Witnessed { .. } => {
                    Err(Refusal::Forbidden("there is no plan yet to refresh or to succeed".into()))
                }
            };
        };
        let holder = parent.seats.first().map(|s| s.node).unwrap_or_default();
        match ground {
            Ground::First => Err(Refusal::Forbidden("there is a plan already".into())),
            Ground::Refresh if first == holder || !self.candidates().contains(&holder) => Ok(None),
            Ground::Refresh => Err(Refusal::Forbidden("a refresh keeps the node that is first".into())),
            Ground::Witnessed { reports, because } => {
                let reports = evidence::verified(self, reports);
                let voters = reports.values().filter(|r| self.config.voters.contains(&r.from));
                let witnesses = evidence::promised_to(voters, endpoint, parent.index, first);
                if witnesses.len() < self.config.majority() {
                    return Err(Refusal::Forbidden(format!(
                        "{} of {} voters have signed that the holder was succeeded; it takes {}",
                        witnesses.len(),
                        self.config.voters.len(),
                        self.config.majority()
                    )));
                }
                Ok(Some(format!("from {} to {}: {because}", self.name_of(holder), self.name_of(first))))
            }
        }
    }
}
