//! The leases of this node's endpoints: feeding them, and turning what they decide into effects.

use super::{Effect, Mesh, Phase, Serving, Uplink, send};
use crate::config::Confirmation;
use crate::id::{Name, NodeId};
use crate::inventory;
use crate::lease::{self, Lease, Output, Readiness, View};
use crate::limits::PATIENCE;
use crate::message::Message;
use crate::plan::Epoch;
use crate::report::{ConfigSeen, ServiceSeen, Unwell};
use crate::roster::Standing;
use crate::site::{Driver, EndpointSpec};
use crate::state::State;
use crate::time::Instant;
use alloc::{boxed::Box, collections::BTreeMap, string::String, vec::Vec};

impl Mesh {
    /// One lease for each endpoint of the site, and for none besides.
    pub(super) fn match_leases_to_state(&mut self, now: Instant) {
        let wanted = &self.state.site.endpoints;
        self.leases.retain(|name, _| wanted.contains_key(name) || self.serving.contains_key(name));
        self.records.retain(now, |name| wanted.contains_key(name));
        for name in wanted.keys() {
            if !self.leases.contains_key(name) {
                let record = self.records.of(name, now);
                let lease = Lease::start(self.records.boot_id(), Some(&record), 0, now);
                self.leases.insert(name.clone(), lease);
            }
        }
    }

    /// An endpoint that took over another one's address waits until nobody can serve it under the old name: its
    /// holder may not know yet, but each majority that backs him shares a voter with each that backs a new one.
    pub(super) fn free_addresses(&mut self, now: Instant, before: &State) {
        let (old, new) = (&before.site.endpoints, &self.state.site.endpoints);
        self.given_up.retain(|_, until| *until > now);
        for (name, spec) in old {
            let kept = new.get(name).is_some_and(|s| s.address == spec.address);
            let promise = self.leases.get(name).and_then(Lease::promise).filter(|p| p.runs(now));
            if let Some(promise) = promise.filter(|_| !kept) {
                self.given_up.insert(spec.address, promise.end());
            }
        }
        for (name, spec) in new {
            let taken_over = old.get(name).is_none_or(|s| s.address != spec.address);
            if let Some(until) = self.given_up.get(&spec.address).filter(|_| taken_over) {
                self.records.silence(name, now, *until);
                self.leases.remove(name);
            }
        }
    }

    /// Serves what the last agent of this boot left behind: whatever ends it then closes the gate, which is
    /// open, before anybody hears of it.
    pub(super) fn adopt_tenures(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let tenure = |(name, lease): (&Name, &Lease)| Some((name.clone(), lease.holding()?));
        let held: Vec<(Name, (Epoch, Instant))> = self.leases.iter().filter_map(tenure).collect();
        for (name, (epoch, until)) in held {
            if self.serving.contains_key(&name) {
                continue;
            }
            if until > now {
                self.serve(&name, epoch, until, out);
            } else if let Some(spec) = self.state.site.endpoints.get(&name).cloned() {
                // It has run out and is closed for good at the next tick.
                self.serving.insert(name, Serving { epoch, until, spec, holding_page: false });
            }
        }
    }

    pub(super) fn tick_leases(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let due: Vec<Name> =
            self.leases.iter().filter(|(_, l)| l.deadline() <= now).map(|(name, _)| name.clone()).collect();
        for name in due {
            self.with_lease(&name, out, |lease, view, outputs| lease.tick(now, view, outputs));
        }
    }

    /// Somebody was heard, which may be all that a lease waits for.
    pub(super) fn tell_waiting_leases(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        let waiting = self.leases.iter().filter(|(_, lease)| lease.awaits_word());
        let waiting: Vec<Name> = waiting.map(|(name, _)| name.clone()).collect();
        for name in waiting {
            self.with_lease(&name, out, |lease, view, outputs| lease.tick(now, view, outputs));
        }
    }

    pub(super) fn lease_message(
        &mut self,
        now: Instant,
        endpoint: &Name,
        from: NodeId,
        message: lease::Message,
        out: &mut Vec<Effect>,
    ) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.with_lease(endpoint, out, |lease, view, outputs| {
            lease.receive(now, view, from, message, outputs);
        });
    }

    fn with_lease(
        &mut self,
        name: &Name,
        out: &mut Vec<Effect>,
        act: impl FnOnce(&mut Lease, &View<'_>, &mut Vec<Output>),
    ) {
        let readiness = self.readiness(name);
        let (pair_confirmed, heard) = (self.pair_confirmed(), self.heard_a_voter());
        let Some(lease) = self.leases.get_mut(name) else { return };
        let view = View {
            me: self.me,
            config: &self.state.config,
            plan: self.state.plans.get(name),
            readiness,
            pair_confirmed,
            heard,
        };
        let mut outputs = Vec::new();
        let before = (lease.highest(), lease.holding().is_some());
        act(lease, &view, &mut outputs);
        if before != (lease.highest(), lease.holding().is_some()) {
            self.reporter.hurry();
        }
        for output in outputs {
            self.carry_lease(name, output, out);
        }
    }

    fn carry_lease(&mut self, name: &Name, output: Output, out: &mut Vec<Effect>) {
        match output {
            Output::Remember(record) => {
                self.records.set(name, record);
                out.push(Effect::Remember(self.records.clone()));
            }
            Output::Send { to, message } => send(out, to, &Message::Lease(name.clone(), message)),
            Output::Open { epoch, until } => self.serve(name, epoch, until, out),
            Output::Extend { epoch, until } => {
                let Some(serving) = self.serving.get_mut(name) else { return };
                (serving.epoch, serving.until) = (epoch, until);
                out.push(Effect::Extend { endpoint: name.clone(), until });
            }
            Output::Close { .. } => self.cease(name, out),
        }
    }

    fn serve(&mut self, name: &Name, epoch: Epoch, until: Instant, out: &mut Vec<Effect>) {
        let Some(spec) = self.state.site.endpoints.get(name).cloned() else { return };
        let serving = Serving { epoch, until, spec, holding_page: false };
        self.serving.insert(name.clone(), serving.clone());
        out.push(Effect::Serve { endpoint: name.clone(), serving: Box::new(serving) });
        self.reporter.hurry();
        self.settle_holding_page(name, out);
    }

    fn cease(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let Some(serving) = self.serving.remove(name) else { return };
        self.reporter.hurry();
        if serving.holding_page {
            let spec = Box::new(serving.spec.clone());
            out.push(Effect::HoldingPage { endpoint: name.clone(), spec, on: false });
        }
        out.push(Effect::Cease { endpoint: name.clone(), serving: Box::new(serving) });
    }

    /// Whether this node's own services would do for an endpoint.
    pub(super) fn is_ready(&self, spec: &EndpointSpec) -> bool {
        spec.services.iter().all(|name| self.services.get(name) == Some(&ServiceSeen::Healthy))
    }

    fn readiness(&self, name: &Name) -> Readiness {
        let Some((spec, plan)) = self.state.endpoint(name) else { return Readiness::Never };
        let may = self
            .state
            .members
            .get(&self.me)
            .is_some_and(|m| m.role.serves() && m.standing == Standing::Active);
        let may = may && !self.judging.demoted().contains(&self.me) && !self.state.is_isolated(self.me);
        let slack =
            |plan: &crate::plan::Plan| plan.seats.iter().find(|s| s.node == self.me).map(|s| s.slack_ms);
        // A plan that credits this node's gate with more speed than it has must not be acted upon.
        let gate_fits = plan.and_then(slack).is_none_or(|slack| slack >= self.gate.slack_ms);
        let able = !self.stopping && self.trouble(name, spec).is_none() && self.has_asked(name, spec);
        if !may || !gate_fits || !able {
            Readiness::Never
        } else if self.is_ready(spec) {
            Readiness::Ready
        } else {
            Readiness::Reluctant
        }
    }

    /// Why this node cannot serve an endpoint, if something is in the way.
    pub(super) fn trouble(&self, name: &Name, spec: &EndpointSpec) -> Option<String> {
        let uplink = match (&self.uplink, &spec.driver) {
            (Uplink::Useless(why), Driver::Vip) => Some(why.clone()),
            // The nodes may hear one another over another interface than the one that visitors come in by.
            (Uplink::Trusted | Uplink::Asked, Driver::Vip)
                if self.unwell.contains(&Unwell::UplinkMissing) =>
            {
                Some(Unwell::UplinkMissing.as_str().into())
            }
            (Uplink::Useless(_) | Uplink::Trusted | Uplink::Asked, Driver::Vip | Driver::Exec(_)) => None,
        };
        uplink.or_else(|| self.probes.trouble(name)).or_else(|| self.troubles.get(name).cloned())
    }

    /// Whether nobody else had the address when it was asked. A tenure that the last agent of this boot left
    /// behind goes on unasked: it is ours.
    fn has_asked(&self, name: &Name, spec: &EndpointSpec) -> bool {
        let asks = self.uplink == Uplink::Asked && spec.driver == Driver::Vip;
        let holds = self.leases.get(name).is_some_and(|lease| lease.holding().is_some());
        !asks || holds || self.probes.found_free(name, spec.address)
    }

    /// Looks at every endpoint again, because something that readiness depends on has changed: a lease that
    /// waits for nothing else is not woken by itself.
    pub(super) fn reconsider_all(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if !matches!(self.phase, Phase::Running) {
            return;
        }
        self.improve_placement(now, out);
        let names: Vec<Name> = self.leases.keys().cloned().collect();
        for name in names {
            self.with_lease(&name, out, |lease, view, outputs| lease.tick(now, view, outputs));
        }
    }

    /// Gives endpoints away that others could serve better, and sees to the holding page.
    pub(super) fn improve_placement(&mut self, now: Instant, out: &mut Vec<Effect>) {
        let names: Vec<Name> = self.serving.keys().cloned().collect();
        for name in names {
            if let Some(to) = self.better_holder(now, &name) {
                self.with_lease(&name, out, |lease, view, outputs| lease.hand_over(now, view, to, outputs));
            }
            self.settle_holding_page(&name, out);
        }
    }

    /// The next in line that is ready, if this node is not and will not be in a moment.
    fn better_holder(&self, now: Instant, name: &Name) -> Option<NodeId> {
        let (spec, plan) = self.state.endpoint(name)?;
        let must_go = match self.readiness(name) {
            Readiness::Ready => false,
            Readiness::Reluctant => self.has_failed(spec),
            Readiness::Never => true,
        };
        if !must_go {
            return None;
        }
        let others =
            || plan.into_iter().flat_map(|p| &p.seats).map(|s| s.node).filter(|node| *node != self.me);
        let fresh = |node: &NodeId| self.rows.get(node).filter(|row| now.since(row.received) < PATIENCE);
        let ready = |node: &NodeId| fresh(node).is_some_and(|row| inventory::serves(&row.report, spec));
        let leaving = self.readiness(name) == Readiness::Never;
        others().find(ready).or_else(|| others().find(|node| leaving && fresh(node).is_some()))
    }

    /// Whether a service of the endpoint has failed for good here (not: is being brought back).
    fn has_failed(&self, spec: &EndpointSpec) -> bool {
        spec.services.iter().any(|name| matches!(self.services.get(name), Some(ServiceSeen::Down(_))))
    }

    fn settle_holding_page(&mut self, name: &Name, out: &mut Vec<Effect>) {
        let Some(spec) = self.serving.get(name).map(|s| s.spec.clone()) else { return };
        let on = self.has_failed(&spec);
        let Some(serving) = self.serving.get_mut(name).filter(|s| s.holding_page != on) else { return };
        serving.holding_page = on;
        out.push(Effect::HoldingPage { endpoint: name.clone(), spec: Box::new(spec), on });
    }

    /// An endpoint that was removed, or got another address or driver, is not what the lease was for.
    pub(super) fn cease_what_changed(&mut self, now: Instant, out: &mut Vec<Effect>) {
        if matches!(self.phase, Phase::Running) {
            self.adopt_tenures(now, out);
        }
        let changed = |(name, serving): (&Name, &Serving)| {
            let spec = self.state.site.endpoints.get(name);
            let same =
                spec.is_some_and(|s| s.address == serving.spec.address && s.driver == serving.spec.driver);
            (!same).then(|| name.clone())
        };
        let changed: Vec<Name> = self.serving.iter().filter_map(changed).collect();
        for name in changed {
            self.with_lease(&name, out, |lease, view, outputs| lease.release(now, view, outputs));
            self.cease(&name, out);
        }
        for (name, spec) in &self.state.site.endpoints {
            let Some(serving) = self.serving.get_mut(name).filter(|serving| serving.spec != *spec) else {
                continue;
            };
            serving.spec = spec.clone();
            if serving.holding_page {
                // Its words or ports may have changed.
                let spec = Box::new(spec.clone());
                out.push(Effect::HoldingPage { endpoint: name.clone(), spec, on: true });
            }
        }
        self.match_leases_to_state(now);
        // A new plan or configuration may want something at once.
        self.reconsider_all(now, out);
    }

    /// Stops in good order: gives each endpoint to who can take it, or just gives it back.
    pub(super) fn stop(&mut self, now: Instant, out: &mut Vec<Effect>) {
        self.stopping = true;
        self.improve_placement(now, out);
        let rest: Vec<Name> = self.serving.keys().cloned().collect();
        for name in rest {
            self.with_lease(&name, out, |lease, view, outputs| lease.release(now, view, outputs));
            self.cease(&name, out);
        }
        // Whatever is being asked for is given back too.
        self.reconsider_all(now, out);
    }

    /// What this node's report says about the configuration: the least of what its leases say.
    pub(super) fn config_seen(&self, now: Instant) -> ConfigSeen {
        let config = &self.state.config;
        let age_ms = now.since(self.config_since).as_ms();
        let idle = ConfigSeen { index: config.index, age_ms, pair_left: config.pair != Some(self.me) };
        let said = self.leases.iter().map(|(name, lease)| {
            let plan = self.state.plans.get(name);
            let (me, readiness, pair_confirmed) = (self.me, Readiness::Never, false);
            let heard = Instant::ZERO;
            lease.confirmation(now, &View { me, config, plan, readiness, pair_confirmed, heard })
        });
        said.fold(idle, |least, said| ConfigSeen {
            index: least.index.min(said.config_index),
            age_ms: least.age_ms.min(said.age_ms),
            pair_left: least.pair_left && said.pair_left,
        })
    }

    /// When any other voter was heard last.
    fn heard_a_voter(&self) -> Instant {
        let voters = self.state.config.voters.iter();
        voters.filter_map(|voter| self.heard.get(voter)).max().copied().unwrap_or(Instant::ZERO)
    }

    /// Whether every voter has confirmed the two-voter mode (DESIGN §11 P1).
    fn pair_confirmed(&self) -> bool {
        if self.state.config.pair != Some(self.me) {
            return false;
        }
        let said: Vec<Confirmation> = self.rows.values().map(|row| row.report.confirmation()).collect();
        self.state.config.pair_confirmed(&said)
    }

    /// For the planner and the status: who holds what here.
    #[must_use]
    pub fn serving(&self) -> &BTreeMap<Name, Serving> {
        &self.serving
    }
}
