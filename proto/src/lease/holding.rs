//! The holder's side once the gate is open: renew, confirm under a newer plan, let go, lapse.
//!
//! **Invariant.** `Close`, then `Remember`, then `Release`: the gate is shut before this node's own vote is
//! free, and before anybody hears of it.

use super::bid::Bid;
use super::record::Held;
use super::{Lease, Message, Output, Verdict, View};
use crate::id::NodeId;
use crate::plan::Epoch;
use crate::time::{Instant, Span};
use alloc::{collections::BTreeSet, vec::Vec};

/// A release is repeated this often, for a lost one costs a whole lease.
const RELEASE_REPEATS: u8 = 2;

/// What this node holds.
#[derive(Clone, Debug)]
pub(super) struct Tenure {
    pub(super) bid: Bid,
    pub(super) until: Instant,
    /// The highest epoch asked for meanwhile.
    pub(super) asked: Epoch,
}

impl Tenure {
    /// Goes on with what the agent held before it restarted.
    pub(super) fn resume(held: &Held, now: Instant) -> Self {
        let bid = Bid::new(held.epoch, held.lease, now, false);
        Self { bid, until: Instant::from_ns(held.until_ns), asked: held.asked }
    }

    pub(super) fn to_held(&self) -> Held {
        let Self { bid, until, asked } = self;
        Held { epoch: bid.epoch, asked: *asked, lease: bid.lease, until_ns: until.as_ns() }
    }
}

/// A release that is being repeated.
#[derive(Clone, Debug)]
pub(super) struct Parting {
    pub(super) at: Instant,
    every: Span,
    left: u8,
    audience: BTreeSet<NodeId>,
    message: Message,
}

impl Lease {
    /// The lease ran out: this epoch never opens again. Who was not heard by this node may hear it still, and is
    /// bound by what it went on asking: so it says that it has shut the gate.
    pub(super) fn lapse(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        if self.tenure.as_ref().is_some_and(|tenure| tenure.until <= now) {
            self.let_go(now, view, None, out);
            self.course.lapsed(now);
        }
    }

    /// Asks for what this node holds, if that is due.
    pub(super) fn hold(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        if let (Some(_), Some(alone)) = (&self.tenure, view.reserved_for(self.rules)) {
            return self.let_go(now, view, Some(alone), out);
        }
        self.refresh(now, view);
        let Some(tenure) = self.tenure.as_mut().filter(|tenure| tenure.bid.ask_at <= now) else { return };
        let epoch = tenure.bid.epoch;
        tenure.bid.asked_at = Some(now);
        // Sooner than it is due if nobody answers: a lost message must not cost a third of the lease.
        tenure.bid.ask_at = now.after(tenure.bid.lease.part(8));
        let config_index = view.config.index;
        if view.votes() && self.voter.judge(now, view, view.me, epoch, config_index) == Verdict::Agreed {
            tenure.bid.agreed(view.config, view.me, config_index, now);
        }
        self.remember(out);
        self.extend(view, out);
        send_all(&audience(view, None), Message::Ask { epoch, config_index, seq: now.as_ns() }, out);
    }

    /// A newer plan wants the same holder: asks under its epoch too, beside the renewals.
    fn refresh(&mut self, now: Instant, view: &View<'_>) {
        let (Some(tenure), None, Some(plan)) = (&mut self.tenure, &self.bid, view.sound_plan()) else {
            return;
        };
        let epoch = plan.epoch(0);
        let newer = epoch > tenure.bid.epoch && epoch.plan > tenure.bid.epoch.plan;
        let unused = self.voter.floor().is_none_or(|floor| epoch > floor);
        if newer && unused && plan.seat(0).is_some_and(|seat| seat.node == view.me) {
            tenure.asked = tenure.asked.max(epoch);
            self.bid = Some(Bid::new(epoch, plan.lease(), now, false));
        }
    }

    /// Serves for as long as the agreements allow by now.
    pub(super) fn extend(&mut self, view: &View<'_>, out: &mut Vec<Output>) {
        let Some(tenure) = &mut self.tenure else { return };
        let Some(until) = tenure.bid.backed_until(self.rules, view).filter(|&until| until > tenure.until)
        else {
            return;
        };
        tenure.until = until;
        let answered = until.before(tenure.bid.lease);
        tenure.bid.ask_at = tenure.bid.ask_at.max(answered.after(tenure.bid.lease.part(3)));
        out.push(Output::Extend { epoch: tenure.bid.epoch, until });
    }

    /// Whether the asker is the one that a newer plan wants in this node's place.
    pub(super) fn is_wanted(&self, view: &View<'_>, asker: NodeId, epoch: Epoch) -> bool {
        let (Some(tenure), Some(plan)) = (&self.tenure, view.sound_plan()) else { return false };
        let newer = plan.index > tenure.bid.epoch.plan;
        newer && epoch == plan.epoch(0) && plan.seat(0).is_some_and(|seat| seat.node == asker)
    }

    /// Shuts the gate, burns what was asked for, and tells everybody.
    pub(super) fn let_go(
        &mut self,
        now: Instant,
        view: &View<'_>,
        next: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let Some(tenure) = self.tenure.take() else { return };
        self.bid = None;
        out.push(Output::Close { epoch: tenure.bid.epoch });
        self.voter.release(view.me, tenure.asked);
        self.voter.burn(tenure.asked);
        self.course.released(view.me, next, now);
        self.remember(out);
        let message = Message::Release { epoch: tenure.asked, next };
        let audience = audience(view, next);
        send_all(&audience, message, out);
        let every = tenure.bid.lease.part(8);
        self.parting =
            Some(Parting { at: now.after(every), every, left: RELEASE_REPEATS, audience, message });
    }

    pub(super) fn repeat_release(&mut self, now: Instant, out: &mut Vec<Output>) {
        let Some(parting) = self.parting.as_mut().filter(|parting| parting.at <= now) else { return };
        send_all(&parting.audience, parting.message, out);
        parting.at = now.after(parting.every);
        parting.left = parting.left.saturating_sub(1);
        if parting.left == 0 {
            self.parting = None;
        }
    }
}

/// Everybody whom a lease concerns but this node: the voters, those in the plan, and `also`.
pub(super) fn audience(view: &View<'_>, also: Option<NodeId>) -> BTreeSet<NodeId> {
    let seated = view.sound_plan().into_iter().flat_map(|plan| plan.seats.iter().map(|seat| seat.node));
    let mut nodes: BTreeSet<NodeId> = view.config.voters.iter().copied().chain(seated).chain(also).collect();
    nodes.remove(&view.me);
    nodes
}

pub(super) fn send_all(to: &BTreeSet<NodeId>, message: Message, out: &mut Vec<Output>) {
    out.extend(to.iter().map(|&to| Output::Send { to, message }));
}
