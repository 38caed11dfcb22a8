//! The way to the lease: answering others, asking for oneself, giving up in time.
//!
//! **Invariant.** A candidate casts its own vote last, together with opening, so that it stays free to support
//! others for as long as it cannot win.

use super::bid::{Bid, Outlook, Refusal};
use super::holding::{Tenure, audience, send_all};
use super::{Lease, Message, Output, Question, Refused, Verdict, View};
use crate::id::NodeId;
use crate::plan::Epoch;
use crate::time::{Instant, Span};
use alloc::vec::Vec;

/// No two rounds of asking follow each other faster.
const ASK_AGAIN_MIN: Span = Span::from_ms(4);

impl Lease {
    /// Somebody asks for this node's agreement.
    pub(super) fn on_ask(
        &mut self,
        now: Instant,
        view: &View<'_>,
        from: NodeId,
        ask: Question,
        out: &mut Vec<Output>,
    ) {
        if self.is_wanted(view, from, ask.epoch) {
            self.let_go(now, view, Some(from), out);
        }
        let seated = view.sound_plan().and_then(|plan| plan.seat_of(ask.epoch));
        if seated.is_some_and(|seat| seat.node == from) {
            self.course.hear(view, &self.voter, ask.epoch);
            self.course.hold_back(view, now);
        }
        let verdict = self.verdict(now, view, from, ask, out);
        if verdict == Verdict::Agreed {
            self.course.settle();
            self.remember(out);
        }
        if view.votes() {
            let Question { epoch, seq, .. } = ask;
            let message = Message::Answer { epoch, config_index: view.config.index, seq, verdict };
            out.push(Output::Send { to: from, message });
        }
    }

    /// The voter's verdict, after the candidate on the same node stood back or insisted.
    fn verdict(
        &mut self,
        now: Instant,
        view: &View<'_>,
        from: NodeId,
        ask: Question,
        out: &mut Vec<Output>,
    ) -> Verdict {
        let Question { epoch, config_index, .. } = ask;
        let bids = self.bid.as_ref().filter(|bid| self.tenure.is_none() && !bid.knocks);
        if let Some(bid) = bids {
            // The holder is alive after all, or a higher claim: two candidates may not split the votes.
            let gives_way = if self.voter.renews(now, from, epoch) {
                !bid.has_supporters(view.me)
            } else {
                epoch > bid.epoch
            };
            if !gives_way {
                return insist(self.voter.refusal(now, bid.period()), bid.epoch);
            }
            if self.voter.would_agree(now, view, from, epoch) {
                self.withdraw(view, out);
            }
        }
        self.voter.judge(now, view, from, epoch, config_index)
    }

    /// A voter agreed.
    pub(super) fn on_agreed(
        &mut self,
        now: Instant,
        view: &View<'_>,
        from: NodeId,
        answer: Question,
        out: &mut Vec<Output>,
    ) {
        let Question { epoch, config_index, seq } = answer;
        let sent = Instant::from_ns(seq);
        let asked = |bid: &&mut Bid| bid.epoch == epoch && bid.asked_at.is_some_and(|asked| sent <= asked);
        if let Some(bid) = self.tenure.as_mut().map(|tenure| &mut tenure.bid).filter(asked) {
            bid.agreed(view.config, from, config_index, sent);
            self.extend(view, out);
        } else if let Some(bid) = self.bid.as_mut().filter(asked) {
            bid.agreed(view.config, from, config_index, sent);
            if bid.knocks {
                // He agrees, so he does not hold.
                bid.press_on(now);
            }
            self.open(now, view, out);
        } else if self.tenure.is_none() && self.bid.is_none() && epoch <= self.asked.max(self.voter.highest())
        {
            // Nobody needs this promise any more: burned first, given back then.
            self.voter.burn(epoch);
            self.remember(out);
            out.push(Output::Send { to: from, message: Message::Release { epoch, next: None } });
        }
    }

    /// A voter refused: learn from it, and give up in time.
    pub(super) fn on_refused(
        &mut self,
        now: Instant,
        view: &View<'_>,
        from: NodeId,
        refused: Refused,
        out: &mut Vec<Output>,
    ) {
        let Refused { epoch, seq, highest, retry_after_ms, promised_to } = refused;
        self.course.hear(view, &self.voter, highest);
        let own_ready_at = self.own_ready_at(view, now);
        let candidate = self.tenure.is_none();
        let asked = |bid: &&mut Bid| candidate && bid.epoch == epoch && bid.heeds(Instant::from_ns(seq));
        let Some(bid) = self.bid.as_mut().filter(asked) else { return };
        let ready_at = now.after(Span::from_ms(retry_after_ms.into()));
        bid.refused(view.config, from, Refusal { highest, ready_at, promised_to });
        if bid.knocks {
            return;
        }
        match bid.outlook(view, own_ready_at, now, now.after(bid.lease.part(2))) {
            Outlook::Open => {
                let soonest = bid.asked_at.map_or(now, |asked| asked.after(ASK_AGAIN_MIN));
                bid.ask_at = bid.ask_at.min(ready_at.max(soonest));
            }
            Outlook::UsedUp => self.give_up(view, now, out),
            Outlook::Bound(at) => {
                if let Some(holder) = bid.named_holder(view.me) {
                    self.course.hear_holder(holder, at);
                }
                self.give_up(view, at, out);
            }
        }
    }

    /// Somebody gave back what he held or asked for.
    pub(super) fn on_release(
        &mut self,
        now: Instant,
        view: &View<'_>,
        from: NodeId,
        epoch: Epoch,
        next: Option<NodeId>,
        out: &mut Vec<Output>,
    ) {
        let freed = self.voter.release(from, epoch);
        if freed {
            self.remember(out);
        }
        let called = next == Some(view.me);
        if freed || called || self.course.believes_holder(from) {
            self.course.released(from, next, now);
        }
        if let Some(bid) = self.bid.as_mut().filter(|_| freed || called) {
            bid.press_on(now);
        }
    }

    /// Starts to ask, if it is this node's turn.
    pub(super) fn claim(&mut self, now: Instant, view: &View<'_>) {
        if self.tenure.is_some() || self.bid.is_some() {
            return;
        }
        let Some(plan) = view.sound_plan() else { return };
        let claim = self.course.claim(self.rules, view, &self.voter, now);
        if let Some(claim) = claim.filter(|claim| claim.at <= now) {
            self.bid = Some(Bid::new(claim.epoch, plan.lease(), now, claim.knocks));
        }
    }

    /// Asks under the bid, if that is due.
    pub(super) fn press(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        let Some(bid) = self.bid.as_mut().filter(|bid| bid.ask_at <= now) else { return };
        let knock = if bid.knocks { self.course.knock(view, &self.voter, bid.epoch, now) } else { None };
        if bid.knocks && knock.is_none() {
            bid.press_on(now);
        }
        if self.tenure.is_none() && !bid.knocks && now >= bid.begun.after(bid.lease) {
            let later = now.after(bid.period());
            return self.give_up(view, later, out);
        }
        if self.tenure.is_none() && now >= bid.begun.after(bid.period()) && bid.is_outbid(view.me) {
            return self.give_up(view, now, out);
        }
        bid.asked_at = Some(now);
        bid.ask_at = now.after(bid.period());
        let epoch = bid.epoch;
        self.asked = self.asked.max(epoch);
        let message = Message::Ask { epoch, config_index: view.config.index, seq: now.as_ns() };
        match knock {
            Some(to) => out.push(Output::Send { to, message }),
            None => send_all(&audience(view, None), message, out),
        }
        self.open(now, view, out);
    }

    /// Opens, or goes on under a newer epoch, once the bid has a majority with this node's own vote.
    fn open(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        let Some(bid) = self.bid.as_ref().filter(|bid| !bid.knocks) else { return };
        let epoch = bid.epoch;
        let own = (view.votes() && self.voter.would_agree(now, view, view.me, epoch)).then_some(now);
        let Some(until) = bid.backed_with(self.rules, view, own).filter(|&until| until > now) else { return };
        let Some(mut bid) = self.bid.take() else { return };
        if own.is_some() {
            self.voter.judge(now, view, view.me, epoch, view.config.index);
            bid.agreed(view.config, view.me, view.config.index, now);
        }
        self.voter.use_up(epoch);
        self.course.settle();
        let earlier = self.tenure.take();
        let until = earlier.as_ref().map_or(until, |tenure| tenure.until.max(until));
        self.tenure = Some(Tenure { bid, until, asked: epoch });
        self.parting = None;
        self.remember(out);
        out.push(match earlier {
            Some(_) => Output::Extend { epoch, until },
            None => Output::Open { epoch, until },
        });
    }

    /// A bid ends with its plan, and with the wish to hold.
    pub(super) fn drop_outdated_bid(&mut self, view: &View<'_>, out: &mut Vec<Output>) {
        let Some(bid) = &self.bid else { return };
        let current = view.sound_plan().is_some_and(|plan| plan.index == bid.epoch.plan);
        let wanted = view.readiness != super::Readiness::Never && view.reserved_for(self.rules).is_none();
        if self.tenure.is_some() && !current {
            self.bid = None;
        } else if self.tenure.is_none() && !(current && wanted) {
            self.withdraw(view, out);
        }
    }

    fn give_up(&mut self, view: &View<'_>, again_at: Instant, out: &mut Vec<Output>) {
        if let Some(bid) = self.bid.as_ref().filter(|bid| !bid.was_answered(view.me)) {
            self.course.met_with_silence(bid.begun);
        }
        self.withdraw(view, out);
        self.course.failed(view, again_at);
    }

    /// Gives back what the bid got. An epoch that nobody agreed to stays usable.
    fn withdraw(&mut self, view: &View<'_>, out: &mut Vec<Output>) {
        let Some(bid) = self.bid.take() else { return };
        if !bid.has_supporters(view.me) {
            return;
        }
        self.voter.burn(bid.epoch);
        self.remember(out);
        send_all(&audience(view, None), Message::Release { epoch: bid.epoch, next: None }, out);
    }

    /// When this node's own vote is free for itself.
    fn own_ready_at(&self, view: &View<'_>, now: Instant) -> Instant {
        let bound = self.voter.bound(view.me, now).map_or(now, |promise| promise.end());
        bound.max(self.voter.silent_until())
    }
}

/// A refusal that tells the asker to go above this node's own bid.
fn insist(refusal: Verdict, bid: Epoch) -> Verdict {
    match refusal {
        Verdict::Agreed => Verdict::Agreed,
        Verdict::Refused { highest, retry_after_ms, promised_to } => {
            Verdict::Refused { highest: highest.max(bid), retry_after_ms, promised_to }
        }
    }
}
