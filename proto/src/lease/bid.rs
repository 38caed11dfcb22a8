//! One epoch that this node asks for, and what the voters said: the arithmetic of a majority.
//!
//! **Invariant.** Only agreements of the configuration that this node applied count, and each counts from the
//! moment its question was sent. Bounded by the number of voters.

use super::{Rules, View};
use crate::config::Config;
use crate::id::NodeId;
use crate::plan::Epoch;
use crate::time::{Instant, Span};
use alloc::{collections::BTreeMap, vec::Vec};

#[derive(Clone, Debug)]
pub(crate) struct Bid {
    pub(crate) epoch: Epoch,
    pub(crate) lease: Span,
    pub(crate) begun: Instant,
    pub(crate) ask_at: Instant,
    pub(crate) asked_at: Option<Instant>,
    /// Only the present holder is asked: to step aside, as the newer plan wants.
    pub(crate) knocks: bool,
    /// Refusals of what was asked before no longer matter.
    refused_from: Instant,
    agreed: BTreeMap<NodeId, Agreement>,
    refused: BTreeMap<NodeId, Refusal>,
}

#[derive(Clone, Copy, Debug)]
struct Agreement {
    config_index: u64,
    sent: Instant,
}

/// What a voter that refused said.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refusal {
    pub(crate) highest: Epoch,
    pub(crate) ready_at: Instant,
    pub(crate) promised_to: Option<NodeId>,
}

/// What a candidate can still hope for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outlook {
    /// A majority may agree soon.
    Open,
    /// Too many are done with this epoch for ever.
    UsedUp,
    /// Too many are bound, until about then.
    Bound(Instant),
}

impl Bid {
    pub(crate) const fn new(epoch: Epoch, lease: Span, now: Instant, knocks: bool) -> Self {
        Self {
            epoch,
            lease,
            begun: now,
            ask_at: now,
            asked_at: None,
            knocks,
            refused_from: now,
            agreed: BTreeMap::new(),
            refused: BTreeMap::new(),
        }
    }

    /// How often to ask.
    pub(crate) const fn period(&self) -> Span {
        self.lease.part(4)
    }

    /// Whether another node has agreed.
    pub(crate) fn has_supporters(&self, me: NodeId) -> bool {
        self.agreed.keys().any(|&voter| voter != me)
    }

    /// Whether another node has said anything to it.
    pub(crate) fn was_answered(&self, me: NodeId) -> bool {
        self.has_supporters(me) || self.refused.keys().any(|&voter| voter != me)
    }

    /// A voter agreed to what was asked at `sent`. Others' agreements do not count and are not kept.
    pub(crate) fn agreed(&mut self, config: &Config, voter: NodeId, config_index: u64, sent: Instant) {
        if !config.voters.contains(&voter) {
            return;
        }
        self.refused.remove(&voter);
        self.agreed.retain(|voter, _| config.voters.contains(voter));
        let known = self.agreed.entry(voter).or_insert(Agreement { config_index, sent });
        if config_index > known.config_index || (config_index == known.config_index && sent > known.sent) {
            *known = Agreement { config_index, sent };
        }
    }

    /// Whether a refusal of what was asked at `sent` still means something.
    pub(crate) fn heeds(&self, sent: Instant) -> bool {
        sent >= self.refused_from
    }

    /// A voter refused.
    pub(crate) fn refused(&mut self, config: &Config, voter: NodeId, refusal: Refusal) {
        if config.voters.contains(&voter) {
            self.refused.insert(voter, refusal);
        }
    }

    /// Whether some voter is done with this epoch for ever, and none has agreed.
    pub(crate) fn is_outbid(&self, me: NodeId) -> bool {
        self.refused.values().any(|refusal| refusal.highest > self.epoch) && !self.has_supporters(me)
    }

    /// Whom most of the refusing voters have promised to: a few liars cannot name somebody else.
    pub(crate) fn named_holder(&self, me: NodeId) -> Option<NodeId> {
        let mut votes: BTreeMap<NodeId, usize> = BTreeMap::new();
        for holder in self.refused.values().filter_map(|refusal| refusal.promised_to) {
            *votes.entry(holder).or_default() += 1;
        }
        votes.remove(&me);
        votes.into_iter().max_by_key(|&(_, votes)| votes).map(|(holder, _)| holder)
    }

    /// What stood in the way is gone: asks everybody again, at once.
    pub(crate) fn press_on(&mut self, now: Instant) {
        if self.knocks {
            self.begun = now;
        }
        self.refused.clear();
        (self.knocks, self.ask_at, self.refused_from) = (false, now, now);
    }

    /// Until when the agreements back a lease, if they do.
    pub(crate) fn backed_until(&self, rules: Rules, view: &View<'_>) -> Option<Instant> {
        self.backed_with(rules, view, None)
    }

    /// The same as if this node's own voter agreed at `own`.
    pub(crate) fn backed_with(&self, rules: Rules, view: &View<'_>, own: Option<Instant>) -> Option<Instant> {
        let config = view.config;
        let mut sent: Vec<Instant> = Vec::new();
        let mut alone = own.filter(|_| config.voters.contains(&view.me));
        sent.extend(alone);
        for (&voter, agreement) in &self.agreed {
            let counts = config.voters.contains(&voter)
                && (!rules.membership || agreement.config_index == config.index)
                && !(voter == view.me && own.is_some());
            if counts {
                sent.push(agreement.sent);
                alone = if voter == view.me { Some(agreement.sent) } else { alone };
            }
        }
        sent.sort_unstable_by(|a, b| b.cmp(a));
        let majority = sent.get(config.majority().saturating_sub(1)).copied();
        let alone = alone.filter(|_| view.may_hold_alone(rules));
        majority.max(alone).map(|sent| sent.after(self.lease))
    }

    /// Whether a majority can still agree before `patience`.
    pub(crate) fn outlook(
        &self,
        view: &View<'_>,
        own_ready_at: Instant,
        now: Instant,
        patience: Instant,
    ) -> Outlook {
        let ready = |voter: &NodeId| match self.refused.get(voter) {
            _ if *voter == view.me => own_ready_at,
            Some(refusal) if refusal.highest > self.epoch => Instant::NEVER,
            Some(refusal) => refusal.ready_at,
            None => now,
        };
        let mut times: Vec<Instant> = view.config.voters.iter().map(ready).collect();
        times.sort_unstable();
        match times.get(view.config.majority().saturating_sub(1)) {
            Some(&Instant::NEVER) | None => Outlook::UsedUp,
            Some(&at) if at > patience => Outlook::Bound(at),
            Some(_) => Outlook::Open,
        }
    }
}
