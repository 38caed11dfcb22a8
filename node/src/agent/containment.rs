//! What holds floods in this node's kernel, as the lookout wants it: the limit on what goes out, and the shield
//! in front of what comes in.
//!
//! **Invariant.** What cannot be done is tried again with the next tick, and told once. The limit stays when
//! the agent goes: a killed agent closes the tap. The shield goes with it.

use std::net::IpAddr;

use stead_proto::admin::RungSeen;
use stead_proto::guard::GuardPolicy;
use stead_proto::lookout::QueueSeen;
use stead_proto::state::State;
use stead_proto::time::{Instant, Span};

use super::shielding::{Shielding, Wish};
use crate::guard::limiter::{Counters, Found, Guard, GuardError};
use crate::guard::rules::Rung;

/// The limit and the shield of one uplink.
pub(super) struct Containment {
    guard: Option<Guard>,
    shortfalls: Vec<String>,
    policy: GuardPolicy,
    counters: Counters,
    renewed_at: Instant,
    shielding: Shielding,
    wish: Wish,
    failed: bool,
}

impl Containment {
    pub(super) fn open(uplink: &str, ifindex: Option<u32>, state: &State) -> Self {
        let policy = state.site.guard.clone();
        let (mut guard, shortfalls) =
            match ifindex.map(|ifindex| Guard::open(uplink, ifindex, policy.clone())) {
                Some(Ok((guard, shortfalls))) => (Some(guard), shortfalls),
                Some(Err(error)) => (None, vec![error.to_string()]),
                None => (None, vec![format!("the uplink {uplink} does not exist")]),
            };
        for shortfall in &shortfalls {
            tracing::warn!("SYN limit: {shortfall}");
        }
        let counters = guard.as_mut().and_then(|guard| guard.counters().ok()).unwrap_or_default();
        Self {
            guard,
            shortfalls,
            policy,
            counters,
            renewed_at: Instant::ZERO,
            shielding: Shielding::start(uplink),
            wish: Wish { raised: false, endpoints: endpoints(state) },
            failed: false,
        }
    }

    /// Whether there is a limit at all.
    pub(super) fn limits(&self) -> bool {
        self.guard.as_ref().is_some_and(|guard| guard.rung() != Rung::None)
    }

    pub(super) fn is_throttled(&self) -> bool {
        self.guard.as_ref().is_some_and(Guard::is_throttled)
    }

    /// Whether a SYN proxy stands, and the fullest accept queue of the endpoints' ports.
    pub(super) fn inbound(&self) -> (bool, Option<QueueSeen>) {
        let told = self.shielding.told();
        (told.raised, told.fullest)
    }

    /// The site may have changed.
    pub(super) fn follow(&mut self, state: &State) {
        self.wish.endpoints = endpoints(state);
        if state.site.guard != self.policy {
            self.policy = state.site.guard.clone();
            let followed = self.guard.as_mut().map(|guard| guard.follow(state.site.guard.clone()));
            self.told(followed, "the site's limit is not in place");
        }
    }

    /// What went through the limit and what it cut off, since its table was made, as of the last [`Self::cut`].
    pub(super) const fn counters(&self) -> Counters {
        self.counters
    }

    /// SYNs that the limit cut off since it was asked last; `None` without one.
    pub(super) fn cut(&mut self) -> Option<u64> {
        let guard = self.guard.as_mut().filter(|guard| guard.rung() != Rung::None)?;
        let now = guard.counters().ok()?;
        // A counter that went back was reset and counts from zero.
        let since = |now: u64, then: u64| now.checked_sub(then).unwrap_or(now);
        let cut = since(now.dropped, self.counters.dropped)
            .saturating_add(since(now.refused, self.counters.refused));
        self.counters = now;
        Some(cut)
    }

    /// Compares the limit with what it should be; a sentence if somebody had changed it.
    pub(super) fn verify(&mut self) -> Option<String> {
        match self.guard.as_mut()?.verify() {
            Ok(Found::Intact) => None,
            Ok(Found::Restored) => Some("somebody changed the SYN limit's rules; they are restored".into()),
            Err(error) => {
                self.told(Some(Err(error)), "the SYN limit cannot be verified");
                None
            }
        }
    }

    pub(super) fn throttle(&mut self, on: bool) {
        let Some(guard) = &mut self.guard else { return };
        let done = match (on, guard.is_throttled()) {
            (true, false) => {
                tracing::warn!("this node throttles itself: it opens more connections than it should");
                guard.throttle()
            }
            (false, true) => {
                tracing::info!("the throttle is lifted");
                guard.lift()
            }
            (true, true) | (false, false) => return,
        };
        self.told(Some(done), "the limit could not be switched");
    }

    /// Shuts this host in, but for the site's friends and what others begin; or lets it out again.
    pub(super) fn quarantine(&mut self, on: bool) {
        let Some(guard) = &mut self.guard else { return };
        let done = match (on, guard.is_quarantined()) {
            (true, false) => guard.quarantine(&[]),
            (false, true) => {
                tracing::info!(
                    "the quarantine is lifted: this node is trusted under the key that it has now"
                );
                guard.release()
            }
            (true, true) | (false, false) => return,
        };
        self.told(Some(done), "the quarantine could not be switched");
    }

    /// Renews the licence when that is due.
    pub(super) fn renew(&mut self, at: Instant) {
        let every = Span::from_ms(self.policy.renew_every_ms.into());
        let due = at.since(self.renewed_at) >= every;
        let Some(guard) = self.guard.as_mut().filter(|guard| due && !guard.is_throttled()) else { return };
        self.renewed_at = at;
        let done = guard.renew();
        self.told(Some(done), "the licence could not be renewed: new connections fall to the limit");
    }

    /// Wants the shield up in front of the endpoints, or down.
    pub(super) fn shield(&mut self, on: bool) {
        self.wish.raised = on;
        self.shielding.wish(&self.wish);
    }

    pub(super) fn rungs(&self) -> Vec<RungSeen> {
        let rung = self.guard.as_ref().map_or(Rung::None, Guard::rung);
        let limit = RungSeen {
            part: "SYN limit".into(),
            rung: rung.to_string(),
            best: rung == Rung::NetdevEgress,
            cost: rung.cost().into(),
            remedy: stead_proto::roster::bounded_text(&self.shortfalls.join("; ")),
        };
        vec![limit, self.shielding.told().rung]
    }

    /// What the agent's end leaves behind: the limit, on purpose.
    pub(super) fn leave(self) {
        let (limits, per_second) = (self.limits(), self.policy.limit.per_second);
        self.shielding.end();
        if limits {
            tracing::info!(
                per_second,
                "the SYN limit stays in the kernel: from now on this host opens only so many connections a second; \
                 `nft delete table` removes it (`nft list tables` names it), and deleting /sys/fs/bpf/stead what holds SYNs \
                 made by hand"
            );
        }
    }

    /// Says that something does not work when it begins not to.
    fn told(&mut self, done: Option<Result<(), GuardError>>, what: &str) {
        match done {
            Some(Err(error)) if !self.failed => {
                self.failed = true;
                tracing::error!(%error, "{what}");
            }
            Some(Ok(())) => self.failed = false,
            Some(Err(_)) | None => {}
        }
    }
}

fn endpoints(state: &State) -> Vec<(IpAddr, Vec<u16>)> {
    state.site.endpoints.values().map(|spec| (spec.address, spec.ports.clone())).collect()
}
