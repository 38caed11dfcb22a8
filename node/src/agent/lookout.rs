//! The lookout's thread: reads the sensors ten times a second, and carries out what the lookout decides.
//!
//! It has ordinary priority and shares nothing with the lease but a queue that it never waits for: what the
//! core is told twice a second, or at once when it matters, ends up in this node's reports.
//!
//! **Invariant.** The limit acts before anybody is told. The licence is renewed only while the core gives its
//! [`Leave`], and only while the lookout does not throttle.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, TryRecvError, channel};
use std::thread::JoinHandle;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use stead_proto::admin::RungSeen;
use stead_proto::lookout::{Flood, Lookout, Orders, Resumed, Watched};
use stead_proto::mesh::Event;
use stead_proto::state::State;
use stead_proto::telemetry::TICK;
use stead_proto::time::{Instant, Span};
use tokio::sync::{mpsc, oneshot, watch};

use super::containment::Containment;
use super::licence::Leave;
use super::owner::now;
use super::records_file::RecordsFile;
use super::vigil::Vigil;
use crate::clock;
use crate::guard::limiter::Counters;
use crate::telemetry::sockets;

/// How often the core is told when there is no news; it is also what keeps the licence alive.
const TELL_EVERY: Span = Span::from_ms(500);
/// How often who sends is looked for, and a flood's record is kept.
const SLOW_EVERY: Span = Span::from_ms(1_000);
/// How often the ladders are told anew, for operators.
const RUNGS_EVERY: Span = Span::from_ms(5_000);

/// What the thread needs.
pub(super) struct Post {
    pub(super) uplink: String,
    /// The name of this agent in the kernel.
    pub(super) instance: String,
    pub(super) ifindex: Option<u32>,
    pub(super) run_dir: PathBuf,
    pub(super) states: watch::Receiver<Arc<State>>,
    pub(super) events: mpsc::Sender<Event>,
    pub(super) leave: Leave,
    /// How the lease gate stands, for whoever asks.
    pub(super) gate_rung: RungSeen,
    pub(super) rungs: watch::Sender<Vec<RungSeen>>,
}

/// A flood's record, and what the limit had counted when it was written: the kernel goes on counting without us.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    flood: Flood,
    passed: u64,
    cut: u64,
}

impl Kept {
    /// The record with what came about since then, until `now`.
    fn until_now(self, now: Counters) -> Flood {
        let mut flood = self.flood;
        let passed = (now.licensed + now.allowed + now.limited).saturating_sub(self.passed);
        let cut = (now.dropped + now.refused).saturating_sub(self.cut);
        flood.sent = flood.sent.saturating_add(passed).saturating_add(cut);
        flood.escaped = flood.escaped.saturating_add(passed);
        flood
    }
}

/// The running thread; dropping it does not end it.
#[derive(Debug)]
pub(super) struct LookoutThread {
    ends: Arc<AtomicBool>,
    thread: JoinHandle<()>,
}

impl LookoutThread {
    /// Ends the thread, which takes the shield out of the kernel, and leaves the limits.
    pub(super) fn join(self) {
        self.ends.store(true, Ordering::Release);
        if self.thread.join().is_err() {
            tracing::error!("the lookout's thread ended in a panic");
        }
    }
}

/// Starts the thread. The last part of what it gives back ends with the thread: an agent without its lookout would
/// let its licence run out, and nobody would know why.
///
/// # Errors
/// What the system says about a new thread.
pub(super) fn start(post: Post) -> std::io::Result<(LookoutThread, impl Future<Output = ()> + use<>)> {
    let ends = Arc::new(AtomicBool::new(false));
    let end = ends.clone();
    let (alive, ended) = oneshot::channel::<()>();
    let thread = std::thread::Builder::new().name("stead-lookout".into()).spawn(move || {
        let _alive = alive;
        Watch::open(post).run(&end);
    })?;
    Ok((LookoutThread { ends, thread }, async { drop(ended.await) }))
}

struct Watch {
    post: Post,
    vigil: Vigil,
    containment: Containment,
    lookout: Lookout,
    /// Where a flood's record outlives the agent; without it a restart begins a new record.
    kept: Option<RecordsFile>,
    kept_last: Option<Flood>,
    search: Option<Receiver<Vec<String>>>,
    urgent: bool,
    told_at: Instant,
    slow_at: Instant,
    rungs_at: Instant,
}

impl Watch {
    fn open(mut post: Post) -> Self {
        let state = post.states.borrow_and_update().clone();
        let vigil = Vigil::open(&post.uplink, &post.instance, &state.site.guard);
        let containment = Containment::open(&post.uplink, post.ifindex, &state);
        let opened = RecordsFile::open::<Kept>(&post.run_dir.join("flood"));
        let (kept, found) = match opened {
            Ok((file, found)) => (Some(file), found),
            Err(error) => {
                tracing::warn!(%error, "a flood's record will not outlive this agent");
                (None, None)
            }
        };
        let throttled = containment.is_throttled();
        let flood = found.filter(|_| throttled).map(|kept| kept.until_now(containment.counters()));
        let resumed = Resumed { limited: containment.limits(), throttled, flood };
        let lookout = Lookout::new(resumed);
        // The agent is about to run for months on what it has now.
        crate::sys::give_back_memory();
        let (told_at, slow_at, rungs_at) = (Instant::ZERO, Instant::ZERO, Instant::ZERO);
        Self {
            post,
            vigil,
            containment,
            lookout,
            kept,
            kept_last: None,
            search: None,
            urgent: false,
            told_at,
            slow_at,
            rungs_at,
        }
    }

    fn run(mut self, ends: &AtomicBool) {
        let mut next = clock::now();
        while !ends.load(Ordering::Acquire) {
            self.tick();
            // After a pause the ticks go on from now: what was counted meanwhile is in the next sample.
            next = next.after(TICK).max(clock::now());
            let pause = next.since(clock::now());
            std::thread::sleep(Duration::from_nanos(pause.as_ns()));
        }
        self.vigil.leave();
        self.containment.leave();
    }

    fn tick(&mut self) {
        let at = clock::now();
        if self.post.states.has_changed().unwrap_or(false) {
            let state = self.post.states.borrow_and_update().clone();
            self.vigil.follow(&state.site.guard);
            self.containment.follow(&state);
        }
        let slow = at.since(self.slow_at) >= SLOW_EVERY;
        let watched = self.watch(slow);
        let orders = self.lookout.tick(at, now().unix_ms, &watched);
        self.act(at, orders);
        if slow {
            self.slow_at = at;
            self.keep();
        }
        self.tell(at, orders.urgent);
    }

    fn watch(&mut self, slow: bool) -> Watched {
        let mut watched = self.vigil.watch(slow);
        watched.cut = self.containment.cut();
        if slow && let Some(text) = self.containment.verify() {
            watched.integrity = Some(stead_proto::detect::Integrity::Changed);
            watched.meddled.get_or_insert(text);
        }
        (watched.shielded, watched.fullest) = self.containment.inbound();
        watched
    }

    fn act(&mut self, at: Instant, orders: Orders) {
        self.containment.throttle(orders.throttle);
        if self.post.leave.has_ended() {
            self.containment.quarantine(true);
        } else if self.post.leave.lasts(at) {
            // Under another key than the one that was convicted, or nobody would have given leave.
            self.containment.quarantine(false);
            self.containment.renew(at);
        }
        self.containment.shield(orders.shield);
        if orders.search && self.search.is_none() {
            self.search = search();
        }
        match self.search.as_ref().map(Receiver::try_recv) {
            Some(Ok(senders)) => {
                self.lookout.accuse(&senders);
                self.search = None;
            }
            Some(Err(TryRecvError::Disconnected)) => self.search = None,
            Some(Err(TryRecvError::Empty)) | None => {}
        }
    }

    /// Keeps the record of a flood where the next agent finds it.
    fn keep(&mut self) {
        let flood = self.lookout.flood();
        if self.kept_last.as_ref() == flood {
            return;
        }
        if let (Some(file), Some(flood)) = (&mut self.kept, flood) {
            let Counters { licensed, allowed, limited, dropped, refused } = self.containment.counters();
            let kept =
                Kept { flood: flood.clone(), passed: licensed + allowed + limited, cut: dropped + refused };
            if let Err(error) = file.write(&kept) {
                tracing::debug!(%error, "a flood's record was not kept");
            }
        }
        self.kept_last = flood.cloned();
    }

    fn tell(&mut self, at: Instant, urgent: bool) {
        self.urgent |= urgent;
        if at.since(self.rungs_at) >= RUNGS_EVERY {
            self.rungs_at = at;
            let mut rungs = vec![self.post.gate_rung.clone()];
            rungs.extend(self.vigil.rungs());
            rungs.extend(self.containment.rungs());
            self.post.rungs.send_replace(rungs);
        }
        if !self.urgent && at.since(self.told_at) < TELL_EVERY {
            return;
        }
        let seen = Box::new(self.lookout.seen().clone());
        // A queue that is full is tried again with the next tick.
        if self.post.events.try_send(Event::Traffic { seen, urgent: self.urgent }).is_ok() {
            (self.urgent, self.told_at) = (false, at);
        }
    }
}

/// Looks for who has raw and packet sockets open, beside the ticks: a machine may have many descriptors.
fn search() -> Option<Receiver<Vec<String>>> {
    let (found, answer) = channel();
    let thread = std::thread::Builder::new().name("stead-search".into()).spawn(move || {
        let sockets = sockets::open_sockets().unwrap_or_default();
        let own = std::process::id();
        let owners = sockets.into_iter().filter_map(|socket| socket.owner).filter(|owner| owner.pid != own);
        let mut named: Vec<String> = owners
            .map(|owner| {
                let program = owner.program.unwrap_or_default();
                format!("{}[{}] {program}", owner.command, owner.pid).trim_end().to_owned()
            })
            .collect();
        named.sort();
        named.dedup();
        let _ = found.send(named);
    });
    thread.inspect_err(|error| tracing::debug!(%error, "no search for senders")).ok().map(|_| answer)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_counted_without_an_agent_is_added_to_the_record() {
        let flood = Flood { sent: 100, escaped: 30, ..Flood::default() };
        let kept = Kept { flood, passed: 1_000, cut: 70 };
        let now = Counters { licensed: 990, allowed: 5, limited: 15, dropped: 2_060, refused: 10 };
        let flood = kept.until_now(now);
        assert_eq!((flood.sent, flood.escaped), (2_110, 40));
    }

    #[test]
    fn a_table_that_was_made_anew_takes_nothing_back() {
        let flood = Flood { sent: 100, escaped: 30, ..Flood::default() };
        let kept = Kept { flood, passed: 1_000, cut: 70 };
        let flood = kept.until_now(Counters::default());
        assert_eq!((flood.sent, flood.escaped), (100, 30));
    }
}
