//! The shield on a thread of its own: raising it looks at every connection of the endpoint, which may take seconds on
//! a busy host, and no licence waits for that.
//!
//! **Invariant.** The newest wish is the one that is carried out. A shield that cannot be moved is tried again, and
//! told once.

use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use stead_proto::admin::RungSeen;
use stead_proto::lookout::QueueSeen;
use stead_proto::roster::bounded_text;

use crate::shield::proxy::{Shield, State};
use crate::shield::queues::queues;
use crate::shield::{Notice, ShieldError};

/// How often it is looked after, and the listeners' queues are read.
const ROUND: Duration = Duration::from_secs(1);

/// What shall stand in front of what.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) raised: bool,
    pub(super) endpoints: Vec<(IpAddr, Vec<u16>)>,
}

/// What the thread says of itself.
#[derive(Clone, Debug, Default)]
pub(super) struct Told {
    pub(super) raised: bool,
    pub(super) fullest: Option<QueueSeen>,
    pub(super) rung: RungSeen,
}

/// The thread, as the lookout sees it.
#[derive(Debug)]
pub(super) struct Shielding {
    wishes: Option<SyncSender<Wish>>,
    last: Wish,
    told: Arc<Mutex<Told>>,
    thread: Option<JoinHandle<()>>,
}

impl Shielding {
    pub(super) fn start(uplink: &str) -> Self {
        let (wishes, orders) = sync_channel(1);
        let told = Arc::new(Mutex::new(Told::default()));
        let (uplink, teller) = (uplink.to_owned(), told.clone());
        let spawned = std::thread::Builder::new()
            .name("stead-shield".into())
            .spawn(move || Guardsman::open(&uplink, teller).run(&orders));
        let thread = spawned.inspect_err(|error| tracing::error!(%error, "no shield")).ok();
        Self { wishes: Some(wishes), last: Wish::default(), told, thread }
    }

    /// Carried out as soon as possible; nothing waits for it.
    pub(super) fn wish(&mut self, wish: &Wish) {
        let sent = |wishes: &SyncSender<Wish>| wishes.try_send(wish.clone()).is_ok();
        if *wish != self.last && self.wishes.as_ref().is_some_and(sent) {
            self.last = wish.clone();
        }
    }

    pub(super) fn told(&self) -> Told {
        self.told.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Lowers the shield and ends.
    pub(super) fn end(mut self) {
        self.wishes = None;
        if self.thread.take().is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the shield's thread ended in a panic: see nft list table inet stead_shield");
        }
    }
}

struct Guardsman {
    shield: Shield,
    notices: Vec<Notice>,
    wish: Wish,
    complaint: Option<String>,
    told: Arc<Mutex<Told>>,
}

impl Guardsman {
    fn open(uplink: &str, told: Arc<Mutex<Told>>) -> Self {
        let (shield, notices) = Shield::open(uplink);
        for notice in &notices {
            tracing::warn!("{notice}");
        }
        Self { shield, notices, wish: Wish::default(), complaint: None, told }
    }

    fn run(mut self, wishes: &Receiver<Wish>) {
        loop {
            self.tell();
            match wishes.recv_timeout(ROUND) {
                Ok(wish) => self.wish = wish,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break,
            }
            let moved = self.obey();
            self.hear(moved);
            let tended = self.shield.tend().map(drop);
            self.hear(tended);
        }
        match self.shield.close() {
            Ok(State::Draining { connections }) => {
                tracing::info!(connections, "the shield drains: the next start takes it away");
            }
            Ok(State::Lowered | State::Raised) => {}
            Err(error) => tracing::warn!(%error, "the shield is left behind"),
        }
    }

    fn obey(&mut self) -> Result<(), ShieldError> {
        match (self.wish.raised, self.shield.is_raised()) {
            (true, was) => {
                self.shield.raise(&self.wish.endpoints)?;
                if !was {
                    tracing::warn!("an inbound flood: a SYN proxy stands in front of the endpoints");
                }
            }
            (false, true) => {
                self.shield.lower()?;
                tracing::info!("the SYN proxy is taken away");
            }
            (false, false) => {}
        }
        Ok(())
    }

    fn hear(&mut self, done: Result<(), ShieldError>) {
        match done {
            Ok(()) => self.complaint = None,
            Err(error) => {
                let text = error.to_string();
                if self.complaint.as_ref() != Some(&text) {
                    tracing::warn!("{text}");
                    self.complaint = Some(text);
                }
            }
        }
    }

    fn tell(&self) {
        let mut ports: Vec<u16> = self.wish.endpoints.iter().flat_map(|(_, ports)| ports.clone()).collect();
        ports.sort_unstable();
        ports.dedup();
        let queues = queues(&ports).unwrap_or_default();
        let fullest =
            queues.iter().max_by_key(|queue| u64::from(queue.used) * 1_000 / u64::from(queue.max.max(1)));
        let fullest = fullest.map(|queue| QueueSeen { port: queue.port, used: queue.used, max: queue.max });
        let told = Told { raised: self.shield.is_raised(), fullest, rung: self.rung() };
        *self.told.lock().unwrap_or_else(PoisonError::into_inner) = told;
    }

    fn rung(&self) -> RungSeen {
        let lacking: Vec<String> = self
            .notices
            .iter()
            .filter(|notice| !matches!(notice, Notice::Abandoned { .. }))
            .map(ToString::to_string)
            .chain(self.complaint.clone())
            .collect();
        let proxy = !self.notices.iter().any(|notice| matches!(notice, Notice::NoProxy { .. }));
        RungSeen {
            part: "inbound shield".into(),
            rung: if proxy { "SYN cookies and nft synproxy" } else { "SYN cookies" }.into(),
            best: proxy && lacking.is_empty(),
            cost: String::new(),
            remedy: bounded_text(&lacking.join("; ")),
        }
    }
}
