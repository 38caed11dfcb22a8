//! The voter's side: one promise at a time, kept whatever happens.
//!
//! **Invariant.** While a promise runs, nothing but its own holder's release ends it or gives it to another
//! node. Epochs that were agreed to only ever rise, but for renewals of the promise that stands.
//!
//! A node without a vote runs the same code and keeps quiet: it then knows who holds, and should it become
//! a voter, its promises already bind.

use super::record::{BootId, Promise, Record};
use super::span::{OUTLIVED, promise_span};
use super::{Rules, Verdict, View};
use crate::id::NodeId;
use crate::plan::Epoch;
use crate::time::{Instant, Span};

/// When to ask again after a refusal that no clock decides (a log entry has to arrive).
pub(crate) const RETRY: Span = Span::from_ms(25);

/// How far above everything known a rank may be, so that one hostile seat cannot use up all ranks of a plan.
pub(crate) const RANK_JUMP_MAX: u32 = 65_536;

#[derive(Clone, Debug)]
pub(crate) struct Voter {
    rules: Rules,
    boot_id: BootId,
    highest: Epoch,
    spent: bool,
    promise: Option<Promise>,
    config_index: u64,
    config_since: Instant,
    silent_until: Instant,
}

impl Voter {
    /// A voter that remembers `record`, or, without one of this boot, one that has forgotten.
    pub(crate) fn start(
        rules: Rules,
        boot_id: BootId,
        record: Option<&Record>,
        durable_index: u64,
        now: Instant,
    ) -> Self {
        if let Some(record) = record.filter(|record| record.boot_id == boot_id) {
            return Self {
                rules,
                boot_id,
                highest: record.highest,
                spent: record.spent,
                promise: record.promise,
                config_index: record.config_index,
                config_since: Instant::from_ns(record.config_since_ns),
                silent_until: Instant::from_ns(record.silent_until_ns),
            };
        }
        let (highest, silent_until) = if rules.silence {
            (Epoch::last_of(durable_index), now.after(OUTLIVED))
        } else {
            (Epoch::default(), Instant::ZERO)
        };
        let (config_index, config_since) = (0, now);
        Self { rules, boot_id, highest, spent: true, promise: None, config_index, config_since, silent_until }
    }

    pub(crate) const fn highest(&self) -> Epoch {
        self.highest
    }

    pub(crate) const fn promise(&self) -> Option<&Promise> {
        self.promise.as_ref()
    }

    pub(crate) const fn silent_until(&self) -> Instant {
        self.silent_until
    }

    /// The newest configuration seen, and since when.
    pub(crate) const fn config(&self) -> (u64, Instant) {
        (self.config_index, self.config_since)
    }

    /// A promise to another node than `me` that runs at `now`.
    pub(crate) fn bound(&self, me: NodeId, now: Instant) -> Option<&Promise> {
        self.promise.as_ref().filter(|promise| promise.binds_against(me, now))
    }

    /// The last epoch that is used up here: a new claim has to be above it.
    pub(crate) fn floor(&self) -> Option<Epoch> {
        match self.highest.rank.checked_sub(1) {
            _ if self.rules.burning || self.spent => Some(self.highest),
            Some(rank) => Some(Epoch { rank, ..self.highest }),
            None => None,
        }
    }

    pub(crate) fn record(&self) -> Record {
        Record {
            boot_id: self.boot_id,
            highest: self.highest,
            spent: self.spent,
            promise: self.promise,
            config_index: self.config_index,
            config_since_ns: self.config_since.as_ns(),
            silent_until_ns: self.silent_until.as_ns(),
            held: None,
        }
    }

    /// Takes note of a newly applied configuration; true if it was one.
    pub(crate) fn observe(&mut self, config_index: u64, now: Instant) -> bool {
        let newer = config_index > self.config_index;
        if newer {
            (self.config_index, self.config_since) = (config_index, now);
        }
        newer
    }

    /// Decides about an ask; an agreement is in force at once and must be recorded before it is told.
    pub(crate) fn judge(
        &mut self,
        now: Instant,
        view: &View<'_>,
        asker: NodeId,
        epoch: Epoch,
        config_index: u64,
    ) -> Verdict {
        match self.objection(now, view, asker, epoch, config_index) {
            Some(retry_after) => self.refusal(now, retry_after),
            None => {
                self.agree(now, view, asker, epoch);
                Verdict::Agreed
            }
        }
    }

    /// Whether [`Voter::judge`] would agree.
    pub(crate) fn would_agree(&self, now: Instant, view: &View<'_>, asker: NodeId, epoch: Epoch) -> bool {
        self.objection(now, view, asker, epoch, view.config.index).is_none()
    }

    /// The refusal that this voter gives now.
    pub(crate) fn refusal(&self, now: Instant, retry_after: Span) -> Verdict {
        let promised_to = self.promise.as_ref().filter(|promise| promise.runs(now)).map(|promise| promise.to);
        let retry_after_ms = u32::try_from(retry_after.as_ns().div_ceil(1_000_000)).unwrap_or(u32::MAX);
        Verdict::Refused { highest: self.highest, retry_after_ms, promised_to }
    }

    /// Whether `epoch` renews the promise that stands: to the same node, without a break, or so that nothing
    /// was agreed or burned since it ran out.
    pub(crate) fn renews(&self, now: Instant, asker: NodeId, epoch: Epoch) -> bool {
        self.promise.as_ref().is_some_and(|promise| {
            promise.to == asker
                && promise.first <= epoch
                && epoch <= promise.epoch
                && (promise.runs(now) || (promise.epoch == self.highest && !self.spent))
        })
    }

    /// What speaks against agreeing: when to ask again.
    fn objection(
        &self,
        now: Instant,
        view: &View<'_>,
        asker: NodeId,
        epoch: Epoch,
        config_index: u64,
    ) -> Option<Span> {
        if now < self.silent_until {
            return Some(self.silent_until.since(now));
        }
        if self.rules.membership && view.config.index < self.config_index {
            return Some(RETRY);
        }
        if let Some(promise) = self.bound(asker, now) {
            return Some(promise.end().since(now));
        }
        if self.renews(now, asker, epoch) {
            return None;
        }
        let seat = view.sound_plan().and_then(|plan| plan.seat_of(epoch));
        if seat.is_none_or(|seat| seat.node != asker) {
            return Some(RETRY);
        }
        let admitted = config_index == view.config.index && view.config.admits(epoch.plan);
        if self.rules.membership && !admitted {
            return Some(RETRY);
        }
        let used_up = epoch < self.highest || (epoch == self.highest && self.spent);
        let known = if self.highest.plan == epoch.plan { self.highest.rank } else { 0 };
        let too_far = epoch.rank > known.saturating_add(RANK_JUMP_MAX);
        if used_up || too_far { Some(Span::ZERO) } else { None }
    }

    fn agree(&mut self, now: Instant, view: &View<'_>, asker: NodeId, epoch: Epoch) {
        if self.renews(now, asker, epoch) {
            let Some(promise) = self.promise.as_mut() else { return };
            let earlier = if epoch < promise.epoch { promise.length_before } else { Span::ZERO };
            let end = now.after(promise.length.max(earlier));
            promise.end_ns = promise.end_ns.max(end.as_ns());
            return;
        }
        let Some((plan, seat)) = view.sound_plan().and_then(|plan| Some((plan, plan.seat_of(epoch)?))) else {
            return;
        };
        let length = promise_span(plan.lease(), seat.slack());
        let end_ns = now.after(length).as_ns();
        let fresh = Promise { to: asker, epoch, first: epoch, end_ns, length, length_before: Span::ZERO };
        // A promise that runs can only be the asker's own here: the new epoch continues it.
        self.promise = Some(match self.promise.filter(|promise| promise.runs(now)) {
            Some(old) => Promise {
                first: old.first,
                end_ns: end_ns.max(old.end_ns),
                length_before: old.length.max(old.length_before),
                ..fresh
            },
            None => fresh,
        });
        (self.highest, self.spent) = (epoch, false);
    }

    /// The holder `from` gave back `epoch` and all its earlier ones. True if that changed anything.
    pub(crate) fn release(&mut self, from: NodeId, epoch: Epoch) -> bool {
        let Some(promise) = self.promise.filter(|promise| promise.to == from && promise.epoch <= epoch)
        else {
            return false;
        };
        self.promise = None;
        if self.rules.burning && self.highest == promise.epoch {
            self.spent = true;
        }
        true
    }

    /// This node will never ask for `epoch`, nor for anything below, again.
    pub(crate) fn burn(&mut self, epoch: Epoch) {
        if self.rules.burning && epoch >= self.highest {
            (self.highest, self.spent) = (epoch, true);
        }
    }

    /// This node uses `epoch` itself, whether or not it has a vote.
    pub(crate) fn use_up(&mut self, epoch: Epoch) {
        if epoch > self.highest {
            (self.highest, self.spent) = (epoch, false);
        }
    }
}
