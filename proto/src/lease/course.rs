//! When, and under which epoch, a node that does not hold asks for the lease.
//!
//! Pure timing: nothing here can make two holders, it only decides how soon there is one again. The first
//! seat after the last epoch asks as soon as its own promise has run out, each later seat a stagger later, so
//! that they do not split the votes.
//!
//! **Invariant.** A candidate asks only under an epoch of its own seat, above everything that it has agreed
//! to, burned, or heard of.

use super::voter::{RANK_JUMP_MAX, Voter};
use super::{Readiness, Rules, View};
use crate::id::NodeId;
use crate::plan::Epoch;
use crate::time::{Instant, Span};

const STAGGER_MIN: Span = Span::from_ms(20);
/// How many ranks above its own knowledge a node believes; well below what voters accept.
const HEARSAY_MAX: u32 = RANK_JUMP_MAX / 16;
const ATTEMPTS_COUNTED_MAX: u64 = 16;

#[derive(Clone, Debug)]
pub(crate) struct Course {
    plan_index: u64,
    /// Since when nothing but the order of seats keeps this node from asking.
    since: Instant,
    /// The highest epoch of the current plan that anybody was heard to use.
    heard: Epoch,
    /// Not before, as refusals said.
    retry_at: Instant,
    /// Failed attempts in a row.
    attempts: u64,
    /// Whom the last release named.
    named: Option<NodeId>,
    /// Who holds, as voters said, and until when that may be.
    holder: Option<(NodeId, Instant)>,
    /// Somebody else is asking: since when, and until when to let him.
    others_turn: Option<(Instant, Instant)>,
    /// The last attempt met with silence at that time: nothing more is asked before somebody is heard again.
    unanswered: Option<Instant>,
}

/// A claim to make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Claim {
    pub(crate) epoch: Epoch,
    pub(crate) at: Instant,
    /// Ask the holder to step aside instead of asking the voters.
    pub(crate) knocks: bool,
}

impl Course {
    pub(crate) fn start(now: Instant) -> Self {
        Self {
            plan_index: 0,
            since: now,
            heard: Epoch::default(),
            retry_at: Instant::ZERO,
            attempts: 0,
            named: None,
            holder: None,
            others_turn: None,
            unanswered: None,
        }
    }

    /// Takes note of a newly applied plan.
    pub(crate) fn observe(&mut self, plan_index: u64, now: Instant) {
        if plan_index > self.plan_index {
            let Self { holder, unanswered, .. } = *self;
            *self = Self { plan_index, since: now, holder, unanswered, ..Self::start(now) };
        }
    }

    /// Somebody uses `epoch`. Believed only within reach of what this node agreed to itself, so that no liar can
    /// talk the candidates out of the voters' reach.
    pub(crate) fn hear(&mut self, view: &View<'_>, voter: &Voter, epoch: Epoch) {
        let current = view.plan.is_some_and(|plan| plan.index == epoch.plan);
        let own = voter.highest();
        let known = if own.plan == epoch.plan { own.rank } else { 0 };
        if current && epoch > self.heard && epoch.rank <= known.saturating_add(HEARSAY_MAX) {
            self.heard = epoch;
        }
    }

    /// Another seat is asking right now: lets it, for a while, instead of splitting the votes.
    pub(crate) fn hold_back(&mut self, view: &View<'_>, now: Instant) {
        let Some(plan) = view.plan else { return };
        let begun = self.others_turn.filter(|&(_, until)| now <= until).map_or(now, |(begun, _)| begun);
        let until = now.after(plan.lease().part(2)).min(begun.after(plan.lease().times(2)));
        self.others_turn = Some((begun, until));
    }

    /// The voters named the holder, and are bound until then.
    pub(crate) fn hear_holder(&mut self, holder: NodeId, until: Instant) {
        self.holder = Some((holder, until));
    }

    /// Whether `node` is the holder that a refusal named.
    pub(crate) fn believes_holder(&self, node: NodeId) -> bool {
        self.holder.is_some_and(|(holder, _)| holder == node)
    }

    /// This node's own lease ran out, so too few answered.
    pub(crate) fn lapsed(&mut self, now: Instant) {
        (self.since, self.unanswered) = (now, Some(now));
    }

    /// Nobody answered what was asked. Who only sends would bind the voters again and again, and never know.
    pub(crate) fn met_with_silence(&mut self, now: Instant) {
        self.unanswered = Some(now);
    }

    /// Takes note of when another voter was heard last.
    pub(crate) fn listen(&mut self, rules: Rules, view: &View<'_>) {
        self.unanswered = self.unanswered.filter(|&since| view.heard <= since && !view.is_enough(rules));
    }

    /// Whether the word of any voter is what this node waits for.
    pub(crate) const fn awaits_word(&self) -> bool {
        self.unanswered.is_some()
    }

    /// An agreement was given to somebody else: what was tried before no longer matters.
    pub(crate) fn settle(&mut self) {
        (self.attempts, self.named) = (0, None);
        self.retry_at = Instant::ZERO;
    }

    /// Somebody released, and named his successor.
    pub(crate) fn released(&mut self, from: NodeId, next: Option<NodeId>, now: Instant) {
        if self.holder.is_some_and(|(holder, _)| holder == from) {
            self.holder = None;
        }
        (self.since, self.named, self.retry_at, self.others_turn) = (now, next, now, None);
    }

    /// An attempt failed: not again before `at`, and later each time.
    pub(crate) fn failed(&mut self, view: &View<'_>, at: Instant) {
        self.attempts = self.attempts.saturating_add(1).min(ATTEMPTS_COUNTED_MAX);
        let lease = view.plan.map_or(Span::ZERO, |plan| plan.lease());
        self.retry_at = at.after(lease.part(8).times(self.attempts.saturating_sub(1)));
        self.named = None;
    }

    /// The claim that this node would make next, if it would.
    pub(crate) fn claim(&self, rules: Rules, view: &View<'_>, voter: &Voter, now: Instant) -> Option<Claim> {
        let plan = view.sound_plan()?;
        let patience = match view.readiness {
            Readiness::Never => return None,
            Readiness::Ready => Span::ZERO,
            Readiness::Reluctant => plan.lease().times(2),
        };
        if view.reserved_for(rules).is_some() || (rules.membership && !view.config.admits(plan.index)) {
            return None;
        }
        if self.awaits_word() {
            return None;
        }
        let heard = if rules.burning { self.heard } else { Epoch::default() };
        let floor = voter.floor().map_or(heard, |floor| floor.max(heard));
        let first = match floor.plan.cmp(&plan.index) {
            core::cmp::Ordering::Less => 0,
            core::cmp::Ordering::Equal => floor.rank.checked_add(1)?,
            core::cmp::Ordering::Greater => return None,
        };
        let rank = plan.rank_from(view.me, first)?;
        let epoch = plan.epoch(rank);
        if self.knock(view, voter, epoch, now).is_some() {
            return Some(Claim { epoch, at: now, knocks: true });
        }
        let silence = if view.votes() { voter.silent_until() } else { Instant::ZERO };
        let last_promise = voter.promise().filter(|promise| promise.to != view.me);
        let free = last_promise.map_or(Instant::ZERO, |promise| promise.end());
        let turn = self.others_turn.map_or(Instant::ZERO, |(_, until)| until);
        let from = self.since.max(free).max(silence).max(turn);
        let at = match self.named {
            Some(next) if next == view.me => from,
            Some(_) => {
                from.after(self.stagger(plan.lease(), rank - first)).after(patience).after(plan.lease())
            }
            None => from.after(self.stagger(plan.lease(), rank - first)).after(patience),
        };
        Some(Claim { epoch, at: at.max(self.retry_at), knocks: false })
    }

    /// The holder that has to step aside, if the current plan wants this node in his place.
    pub(crate) fn knock(&self, view: &View<'_>, voter: &Voter, epoch: Epoch, now: Instant) -> Option<NodeId> {
        if epoch.rank != 0 || view.readiness != Readiness::Ready {
            return None;
        }
        let promised = voter.bound(view.me, now).map(|promise| promise.to);
        let said = self.holder.filter(|&(holder, until)| holder != view.me && now < until);
        promised.or(said.map(|(holder, _)| holder))
    }

    fn stagger(&self, lease: Span, seats: u32) -> Span {
        lease.part(8).max(STAGGER_MIN).times(u64::from(seats))
    }
}
