//! Operators' orders, verified and carried out.

use super::{SiteVersion, State};
use crate::command::{Outcome, Refusal, no_such_node};
use crate::id::{Name, NodeId};
use crate::incident::Matter;
use crate::limits::{COMPLAINTS_MAX, SERIAL_MAX, SITE_HISTORY_MAX};
use crate::order::{Act, Order};
use crate::plan::Plan;
use crate::roster::{Operator, OperatorRole, Standing, bounded_text};
use crate::sign::Signed;
use crate::site::{Complaint, Site};
use alloc::{
    format,
    string::{String, ToString},
    vec::Vec,
};

impl State {
    /// Says whether an order would be carried out now, without doing it.
    ///
    /// # Errors
    /// The [`Refusal`] that `apply` would come to.
    pub fn check_order(&self, signed: &Signed<Order>) -> Result<(), Refusal> {
        self.clone().carry_out_order(self.applied.saturating_add(1), signed).map(drop)
    }

    pub(super) fn order(&mut self, index: u64, signed: &Signed<Order>) -> Result<Outcome, Refusal> {
        let before = self.operators.clone();
        let outcome = self.carry_out_order(index, signed);
        if let Err(refusal) = &outcome
            && self.operators == before
        {
            let matter = Matter::OrderRefused(signed.claimed_signer());
            let unix_ms = signed.verify(self.cluster).map_or(0, |order| order.serial / 1_000);
            self.incidents.note(index, &matter, unix_ms, &refusal.to_string());
        }
        outcome
    }

    fn carry_out_order(&mut self, index: u64, signed: &Signed<Order>) -> Result<Outcome, Refusal> {
        let key = signed.claimed_signer();
        let operator = self.operators.get(&key).ok_or(Refusal::UnknownOperator)?.clone();
        let order = signed.verify(self.cluster).map_err(|_| Refusal::Signature)?;
        check_role(&operator, &order.act)?;
        if order.serial <= operator.serial {
            return Err(Refusal::Replayed);
        }
        if order.serial > SERIAL_MAX {
            return Err(Refusal::Forbidden("its serial number would leave no room for later orders".into()));
        }
        let unix_ms = order.serial / 1_000;
        let outcome = match order.act {
            Act::Apply { base, site, text } => self.replace_site(base, *site, text, &operator, unix_ms)?,
            Act::Rollback { base, to } => self.roll_back(base, to, &operator, unix_ms)?,
            Act::Move { endpoint, to } => self.move_to(index, &endpoint, to, &operator, unix_ms)?,
            Act::Drain { node, drained } => self.set_standing(index, node, drained, &operator, unix_ms)?,
            Act::Admit(member) => self.admit(index, *member, &operator, unix_ms)?,
            Act::Readmit { old, member } => self.readmit(index, old, *member, &operator, unix_ms)?,
            Act::SetRole { node, role } => self.set_role(index, node, role, &operator, unix_ms)?,
            Act::Remove(node) => self.remove(index, node, &operator, unix_ms)?,
            Act::AcceptHostKey { node, key } => self.accept_host_key(index, node, key, &operator, unix_ms)?,
            Act::Isolate { node, reason } => {
                self.isolate_ordered(index, node, &reason, &operator, unix_ms)?
            }
        };
        if let Some(operator) = self.operators.get_mut(&key) {
            operator.serial = order.serial;
        }
        Ok(outcome)
    }

    fn replace_site(
        &mut self,
        base: u64,
        site: Site,
        text: String,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let newest = self.site_version;
        if base != newest {
            return Err(Refusal::Stale { base, newest });
        }
        let complaints = site.check();
        if !complaints.is_empty() {
            return Err(Refusal::Site(first_complaints(complaints)));
        }
        self.drop_plans_that_do_not_fit(&site);
        if site.fence != self.site.fence {
            self.fences_spent = 0;
        }
        let version = newest.saturating_add(1);
        let by = by.name.to_string();
        self.site_history.push(SiteVersion { version, by, unix_ms, text, site: site.clone() });
        let excess = self.site_history.len().saturating_sub(SITE_HISTORY_MAX);
        self.site_history.drain(..excess);
        (self.site, self.site_version) = (site, version);
        Ok(Outcome::Site(version))
    }

    /// A plan speaks of one address moved in one way; for another one it means nothing.
    fn drop_plans_that_do_not_fit(&mut self, next: &Site) {
        let now = &self.site;
        self.plans.retain(|name, _| match (now.endpoints.get(name), next.endpoints.get(name)) {
            (Some(old), Some(new)) => old.address == new.address && old.driver == new.driver,
            (None, _) | (_, None) => false,
        });
    }

    fn roll_back(&mut self, base: u64, to: u64, by: &Operator, unix_ms: u64) -> Result<Outcome, Refusal> {
        let earlier = self.site_history.iter().find(|v| v.version == to);
        let earlier =
            earlier.ok_or_else(|| Refusal::Unknown(format!("version {to} in the history")))?.clone();
        self.replace_site(base, earlier.site, earlier.text, by, unix_ms)
    }

    fn move_to(
        &mut self,
        index: u64,
        endpoint: &Name,
        to: NodeId,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        if !self.members.contains_key(&to) {
            return Err(no_such_node(to));
        }
        if !self.site.endpoints.contains_key(endpoint) {
            return Err(Refusal::Unknown(format!("endpoint {endpoint}")));
        }
        let plan = self.plans.get(endpoint).ok_or_else(|| {
            Refusal::Forbidden(format!("{endpoint} has no plan yet: try again in a moment"))
        })?;
        let (mut first, rest): (Vec<_>, Vec<_>) =
            plan.seats.iter().cloned().partition(|seat| seat.node == to);
        if first.is_empty() || !self.candidates().contains(&to) {
            return Err(Refusal::Forbidden(format!(
                "{} may not hold {endpoint} (drained, a witness, or not planned yet): undrain it or choose another",
                self.name_of(to)
            )));
        }
        first.extend(rest);
        let plan = Plan { index, lease_ms: plan.lease_ms, seats: first };
        self.plans.insert(endpoint.clone(), plan);
        let text = format!("{} ordered it to {}", by.name, self.name_of(to));
        self.incidents.note(index, &Matter::Move(endpoint.clone()), unix_ms, &text);
        Ok(Outcome::Done)
    }

    fn set_standing(
        &mut self,
        index: u64,
        node: NodeId,
        drained: bool,
        by: &Operator,
        unix_ms: u64,
    ) -> Result<Outcome, Refusal> {
        let member = self.members.get_mut(&node).ok_or_else(|| no_such_node(node))?;
        match member.standing {
            Standing::Probation { .. } if drained => {
                return Err(Refusal::Forbidden(format!("{} is on probation: it holds nothing", member.name)));
            }
            Standing::Probation { .. } if by.role < OperatorRole::Admin => {
                return Err(Refusal::Role {
                    name: by.name.clone(),
                    has: by.role.as_str().into(),
                    needed: OperatorRole::Admin.as_str().into(),
                });
            }
            Standing::Probation { .. } => {
                let text = format!("{} ended the probation of {}", by.name, member.name);
                return self.trust_again(index, node, &text, unix_ms);
            }
            Standing::Active | Standing::Drained => {}
        }
        member.standing = if drained { Standing::Drained } else { Standing::Active };
        Ok(Outcome::Done)
    }
}

/// As many as an outcome can hold; each may list everything that is defined.
fn first_complaints(complaints: Vec<Complaint>) -> Vec<String> {
    let more = complaints.len().saturating_sub(COMPLAINTS_MAX);
    let text = |c: Complaint| bounded_text(&format!("{}: {}", c.key, c.text));
    let mut texts: Vec<String> = complaints.into_iter().take(COMPLAINTS_MAX).map(text).collect();
    if more > 0 {
        texts.push(format!("and {more} more"));
    }
    texts
}

fn check_role(operator: &Operator, act: &Act) -> Result<(), Refusal> {
    let needed = act.role_min();
    if operator.role >= needed {
        return Ok(());
    }
    Err(Refusal::Role {
        name: operator.name.clone(),
        has: operator.role.as_str().into(),
        needed: needed.as_str().into(),
    })
}
