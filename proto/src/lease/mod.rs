//! The lease of one endpoint: at most one node holds it at any instant, without an election and without a
//! disk. A diskless majority lease (PaxosLease; Gray & Cheriton, SOSP 1989, for the arithmetic).
//!
//! One [`Lease`] per endpoint and node plays both sides. As a *voter* it promises to agree to nobody else for a
//! while; as a *holder* it serves until the majority-th latest send time of its own questions plus the lease.
//! It performs nothing: it appends [`Output`]s, which the caller carries out **in order**, and it wants
//! [`Lease::tick`] at [`Lease::deadline`] and after every change of its [`View`].
//!
//! # Why there are never two
//!
//! Let A be open at the true instant t under an epoch e. A majority Q of A's configuration agreed to A.
//!
//! 1. **A promise covers the gate.** Each v in Q received the question after A sent it and promised from receipt for
//!    `(L+s)(1+ρ)/(1−ρ)+guard` on its own clock; A's gate is shut `L+s` after *sending* on A's clock
//!    (`span.rs`). So at t every promise of Q still runs, unless A released it; A closes before it says so, and
//!    closes before it even records so, because its own vote may be part of Q.
//! 2. **A promise binds.** While it runs, v agrees to nobody but A. An agent restart reads the promise back,
//!    since it was recorded before it was told (P8). A reboot forgets it, but v is then silent for as long as
//!    any promise can last (P7).
//! 3. **A release is final.** A release is delayed and doubled by the network. It frees only promises under
//!    epochs up to its own, and A never asks for those again (P8), so it cannot free a promise that backs
//!    anything later. After a reboot A may have forgotten what it released: it treats every epoch of every
//!    plan that it can have known, that is up to its last durable log index, as burned (P7).
//! 4. **Majorities meet.** A second holder B at t needs a majority Q'. In the same configuration Q and Q' share
//!    a voter, which contradicts 2. In adjacent configurations they do too. A and B cannot be further apart
//!    (P2): agreements count only in the configuration of both voter and holder, and a configuration c+2 is
//!    committed only after a majority M of c+1 applied it (and never speaks for c again: the newest
//!    configuration seen is part of the record, and a voter that lost its record agrees to nothing before it
//!    applied a plan above its durable log) longer ago than any lease lasts. M meets every majority of c, so
//!    leases of c are over.
//! 5. **Alone.** In two-voter mode the chosen node's own agreement is enough. It is part of each majority of two,
//!    so 2 still holds within that configuration and towards its neighbours of the same two voters; and no
//!    configuration in which the others have a majority is accepted until it said that it left (P1).
//!
//! Epochs also rise in the order of tenures. In the same or in adjacent configurations the shared voter agreed to e
//! before e', and agrees only upwards. Across more changes nobody need know e, but e' belongs to a plan that is
//! younger than the configuration between, and e to an older one ([`Config::admits`]): so **every change of the
//! configuration wants a fresh plan soon after**, or nobody can succeed after the next change.
//!
//! **Invariant.** Time enters as arguments only; an agreement is recorded before it is told; `Close` comes
//! before `Release`; a lapsed or released epoch never opens again.
//!
//! Deliberately absent: who should hold (the plan), whom to believe (the caller drops messages of isolated
//! nodes: their promises run out by themselves and are never shortened), and the kernel gate.

mod bid;
mod claiming;
mod course;
mod holding;
mod message;
mod record;
mod rules;
mod span;
#[cfg(test)]
mod tests;
mod voter;

pub use message::{Message, Verdict};
pub use record::{BootId, Held, Promise, Record};
#[cfg(feature = "weaken")]
pub use rules::Rule;
pub use rules::Rules;
pub use span::OUTLIVED;

use crate::config::{Config, Confirmation};
use crate::id::NodeId;
use crate::plan::{Epoch, Plan};
use crate::time::Instant;
use alloc::vec::Vec;
use bid::Bid;
use course::Course;
use holding::{Parting, Tenure};
use voter::Voter;

/// Whether this node wants an endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Readiness {
    /// Its own services are healthy.
    Ready,
    /// Alive but unhealthy: asks two leases later, so that somebody serves the 503 page.
    Reluctant,
    /// Drained, a witness, or unwell: does not ask. What it holds it keeps until it is told otherwise.
    Never,
}

/// What this node knows besides the lease itself, at the moment of a call.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// This node.
    pub me: NodeId,
    /// The configuration that it applied last.
    pub config: &'a Config,
    /// The plan of the endpoint that it applied last.
    pub plan: Option<&'a Plan>,
    /// Whether it wants to hold.
    pub readiness: Readiness,
    /// [`Config::pair_confirmed`] for `config`, by the reports that this node has.
    pub pair_confirmed: bool,
    /// When it last heard another voter of `config`, by whatever message.
    pub heard: Instant,
}

/// What the caller has to do, in this order and one after the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Output {
    /// Replace the record of this endpoint (tmpfs) before anything that follows, and before any report that
    /// is made from this lease.
    Remember(Record),
    /// Send a datagram.
    Send {
        /// To whom.
        to: NodeId,
        /// What.
        message: Message,
    },
    /// Claim the endpoint: open the gate until then, announce.
    Open {
        /// Under this fencing token.
        epoch: Epoch,
        /// Until when, on this node's clock.
        until: Instant,
    },
    /// The gate stays open for longer. A higher epoch than the last one means that a newer plan confirmed this
    /// holder: nothing needs to be announced.
    Extend {
        /// Under this fencing token.
        epoch: Epoch,
        /// Until when, on this node's clock.
        until: Instant,
    },
    /// Shut the gate now, before anything that follows.
    Close {
        /// Of this fencing token.
        epoch: Epoch,
    },
}

/// Both sides of one endpoint's lease on one node.
#[derive(Clone, Debug)]
pub struct Lease {
    rules: Rules,
    voter: Voter,
    course: Course,
    tenure: Option<Tenure>,
    bid: Option<Bid>,
    parting: Option<Parting>,
    /// The highest epoch that this node asked for since its start.
    asked: Epoch,
    wake: Instant,
}

impl Lease {
    /// Starts with what the last agent left behind. `durable_index` is the last log index in this node's own
    /// store, applied or not: nothing that it ever applied may be above. A record of another boot, or none,
    /// means silence for [`OUTLIVED`], and the caller shuts the gate before anything else.
    #[must_use]
    pub fn start(boot_id: BootId, record: Option<&Record>, durable_index: u64, now: Instant) -> Self {
        Self::start_under(Rules::SOUND, boot_id, record, durable_index, now)
    }

    /// [`Lease::start`] under other rules, which only a test can make.
    #[must_use]
    pub fn start_under(
        rules: Rules,
        boot_id: BootId,
        record: Option<&Record>,
        durable_index: u64,
        now: Instant,
    ) -> Self {
        let record = record.filter(|record| record.boot_id == boot_id);
        // What ran out meanwhile is resumed too: it lapses at the first call, which shuts the gate for sure.
        let tenure = record.and_then(|record| record.held).map(|held| Tenure::resume(&held, now));
        Self {
            rules,
            voter: Voter::start(rules, boot_id, record, durable_index, now),
            course: Course::start(now),
            asked: tenure.as_ref().map_or(Epoch::default(), |tenure| tenure.asked),
            tenure,
            bid: None,
            parting: None,
            wake: now,
        }
    }

    /// Does what is due. To be called at [`Lease::deadline`], and at once when anything in the view changed.
    pub fn tick(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        self.begin(now, view, out);
        self.pursue(now, view, out);
    }

    /// Takes a message of `from`, who was proven by the transport and is not isolated.
    pub fn receive(
        &mut self,
        now: Instant,
        view: &View<'_>,
        from: NodeId,
        message: Message,
        out: &mut Vec<Output>,
    ) {
        self.begin(now, view, out);
        if from != view.me {
            match message {
                Message::Ask { epoch, config_index, seq } => {
                    self.on_ask(now, view, from, Question { epoch, config_index, seq }, out);
                }
                Message::Answer { epoch, config_index, seq, verdict: Verdict::Agreed } => {
                    self.on_agreed(now, view, from, Question { epoch, config_index, seq }, out);
                }
                Message::Answer {
                    epoch,
                    seq,
                    verdict: Verdict::Refused { highest, retry_after_ms, promised_to },
                    ..
                } => {
                    let refusal = Refused { epoch, seq, highest, retry_after_ms, promised_to };
                    self.on_refused(now, view, from, refusal, out);
                }
                Message::Release { epoch, next } => self.on_release(now, view, from, epoch, next, out),
            }
        }
        self.pursue(now, view, out);
    }

    /// Gives the endpoint to `to` at once, if this node holds it and `to` sits in the plan: its application
    /// died. Without effect otherwise.
    pub fn hand_over(&mut self, now: Instant, view: &View<'_>, to: NodeId, out: &mut Vec<Output>) {
        self.begin(now, view, out);
        let seated = view.sound_plan().is_some_and(|plan| plan.rank_from(to, 0).is_some());
        if self.tenure.is_some() && to != view.me && seated {
            self.let_go(now, view, Some(to), out);
        }
        self.pursue(now, view, out);
    }

    /// Gives the endpoint back, if this node holds it: it stops, or the endpoint is gone. Without effect
    /// otherwise.
    pub fn release(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        self.begin(now, view, out);
        if self.tenure.is_some() {
            self.let_go(now, view, None, out);
        }
        self.wake = self.next_wake(now, view);
    }

    /// When [`Lease::tick`] is wanted next.
    #[must_use]
    pub const fn deadline(&self) -> Instant {
        self.wake
    }

    /// Whether [`Lease::tick`] is wanted as soon as any voter is heard: what was asked met with silence.
    #[must_use]
    pub const fn awaits_word(&self) -> bool {
        self.course.awaits_word()
    }

    /// What this node holds, and until when on its own clock. The time may have passed since the last call.
    #[must_use]
    pub fn holding(&self) -> Option<(Epoch, Instant)> {
        self.tenure.as_ref().map(|tenure| (tenure.bid.epoch, tenure.until))
    }

    /// The last promise, also when it has run out.
    #[must_use]
    pub const fn promise(&self) -> Option<&Promise> {
        self.voter.promise()
    }

    /// The highest epoch that this node is done with. A plan that shall be agreed to needs an index above the
    /// [`Epoch::plan`] of a majority of these, wherever the rank is `u32::MAX`.
    #[must_use]
    pub const fn highest(&self) -> Epoch {
        self.voter.highest()
    }

    /// What this node's report says about the configuration. With several endpoints: the least of them. True
    /// only if the outputs before it were carried out.
    #[must_use]
    pub fn confirmation(&self, now: Instant, view: &View<'_>) -> Confirmation {
        let (config_index, since) = self.voter.config();
        let age = now.since(since);
        let pair_left =
            view.config.index == config_index && view.config.pair != Some(view.me) && age > OUTLIVED;
        Confirmation { node: view.me, config_index, age_ms: age.as_ms(), pair_left }
    }

    fn begin(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        if let Some(plan) = view.plan {
            self.course.observe(plan.index, now);
        }
        if self.voter.observe(view.config.index, now) {
            if let Some(tenure) = &mut self.tenure {
                tenure.bid.ask_at = now;
            }
            self.remember(out);
        }
        self.lapse(now, view, out);
        self.course.listen(self.rules, view);
        self.drop_outdated_bid(view, out);
    }

    fn pursue(&mut self, now: Instant, view: &View<'_>, out: &mut Vec<Output>) {
        self.repeat_release(now, out);
        self.hold(now, view, out);
        self.claim(now, view);
        self.press(now, view, out);
        self.wake = self.next_wake(now, view);
    }

    fn next_wake(&self, now: Instant, view: &View<'_>) -> Instant {
        let mut wake = Instant::NEVER;
        if let Some(tenure) = &self.tenure {
            wake = wake.min(tenure.until).min(tenure.bid.ask_at);
        }
        if let Some(parting) = &self.parting {
            wake = wake.min(parting.at);
        }
        match &self.bid {
            Some(bid) => wake.min(bid.ask_at),
            None if self.tenure.is_some() => wake,
            None => {
                let claim = self.course.claim(self.rules, view, &self.voter, now);
                claim.map_or(wake, |claim| wake.min(claim.at))
            }
        }
    }

    fn remember(&self, out: &mut Vec<Output>) {
        if self.rules.recording {
            let held = self.tenure.as_ref().map(Tenure::to_held);
            out.push(Output::Remember(Record { held, ..self.voter.record() }));
        }
    }
}

impl<'a> View<'a> {
    /// The plan, if voters may agree to it.
    fn sound_plan(&self) -> Option<&'a Plan> {
        self.plan.filter(|plan| plan.check().is_ok())
    }

    /// Whether this node has a vote.
    fn votes(&self) -> bool {
        self.config.voters.contains(&self.me)
    }

    /// P1, the permission.
    fn may_hold_alone(&self, rules: Rules) -> bool {
        self.config.pair == Some(self.me) && (self.pair_confirmed || !rules.pair)
    }

    /// Whether this node's own vote is all that it takes.
    fn is_enough(&self, rules: Rules) -> bool {
        self.votes() && (self.config.majority() == 1 || self.may_hold_alone(rules))
    }

    /// P1, the restriction: who alone may hold, if it is another node.
    fn reserved_for(&self, rules: Rules) -> Option<NodeId> {
        self.config.pair.filter(|&alone| alone != self.me && rules.pair)
    }
}

/// An ask, or the part of an answer that repeats it.
#[derive(Clone, Copy, Debug)]
struct Question {
    epoch: Epoch,
    config_index: u64,
    seq: u64,
}

/// An answer that says no.
#[derive(Clone, Copy, Debug)]
struct Refused {
    epoch: Epoch,
    seq: u64,
    highest: Epoch,
    retry_after_ms: u32,
    promised_to: Option<NodeId>,
}
