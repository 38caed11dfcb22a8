//! The victim: a host of the lab that notes every SYN that arrives, and answers as the flood's plot wants it.
//!
//! **Invariant.** What is noted carries the kernel's stamp; what the kernel could not keep is counted as lost, so
//! that the two together are all that arrived.

use std::net::{Ipv4Addr, SocketAddrV4, TcpListener};
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use anyhow::{Context as _, ensure};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use stead_deploy::lab::namespace::Namespace;
use stead_deploy::lab::stamped::StampedSocket;
use stead_deploy::lab::{Lab, Place};
use stead_proto::time::Instant;

use super::syn;

/// The port whose SYNs are dropped without a word.
pub(crate) const SILENT: u16 = 7;
/// The port on which nobody listens.
pub(super) const CLOSED: u16 = 9;
/// The port on which somebody does.
pub(super) const OPEN: u16 = 80;
/// The most SYNs noted.
const SYNS_MAX: usize = 4_000_000;

/// One SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Arrived {
    pub(super) at: Instant,
    pub(super) from: Ipv4Addr,
    pub(super) port: u16,
}

#[derive(Debug, Default)]
struct Book {
    arrived: Vec<Arrived>,
    lost: u64,
    beyond: u64,
    failed: Option<String>,
}

/// A host that is flooded. It notes until it is dropped.
#[derive(Debug)]
pub(crate) struct Victim {
    address: Ipv4Addr,
    book: Arc<Mutex<Book>>,
    stop: OwnedFd,
    thread: Option<JoinHandle<()>>,
}

impl Victim {
    /// Prepares a place of the lab, and begins to note.
    pub(crate) fn start(lab: &Lab, place: Place) -> anyhow::Result<Self> {
        let namespace = lab.namespace(place)?;
        drop_silently(namespace, SILENT)?;
        let listener = listen(namespace)?;
        let socket = StampedSocket::open(lab, place, &syn::filter(&[SILENT, CLOSED, OPEN]))?;
        let book = Arc::new(Mutex::new(Book::default()));
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK)?;
        let (noted, stopped) = (Arc::clone(&book), stop.try_clone()?);
        let thread = std::thread::Builder::new().name("victim".into()).spawn(move || {
            if let Err(error) = (Watch { socket, listener }).until(&noted, &stopped) {
                noted.lock().unwrap_or_else(PoisonError::into_inner).failed = Some(format!("{error:#}"));
            }
        })?;
        Ok(Self { address: lab.ip4(place), book, stop, thread: Some(thread) })
    }

    /// Where to flood it.
    pub(crate) const fn at(&self, port: u16) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, port)
    }

    /// The SYNs of some senders to one port since a moment, in the order of time, and how many were lost since the
    /// victim began.
    pub(crate) fn record(
        &self,
        is_from: impl Fn(Ipv4Addr) -> bool,
        port: u16,
        since: Instant,
    ) -> anyhow::Result<(Vec<Instant>, u64)> {
        let book = self.book.lock().unwrap_or_else(PoisonError::into_inner);
        ensure!(book.failed.is_none(), "the victim sees nothing any more: {:?}", book.failed);
        let fits = |arrived: &&Arrived| arrived.port == port && arrived.at >= since && is_from(arrived.from);
        let mut syns: Vec<Instant> = book.arrived.iter().filter(fits).map(|arrived| arrived.at).collect();
        syns.sort_unstable();
        Ok((syns, book.lost))
    }

    /// Forgets everything, so that long benches stay small.
    pub(super) fn forget(&self) {
        self.book.lock().unwrap_or_else(PoisonError::into_inner).arrived.clear();
    }
}

impl Drop for Victim {
    fn drop(&mut self) {
        // An event descriptor takes this until its count is full, which one write cannot make it.
        let _told = rustix::io::write(&self.stop, &1_u64.to_ne_bytes());
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}

struct Watch {
    socket: StampedSocket,
    listener: TcpListener,
}

impl Watch {
    fn until(mut self, book: &Mutex<Book>, stopped: &OwnedFd) -> anyhow::Result<()> {
        loop {
            let mut ready = [
                PollFd::new(&self.socket, PollFlags::IN),
                PollFd::new(&self.listener, PollFlags::IN),
                PollFd::new(stopped, PollFlags::IN),
            ];
            match poll(&mut ready, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(errno.into()),
            }
            let [_, _, end] = &ready;
            let ending = !end.revents().is_empty();
            self.note(&mut book.lock().unwrap_or_else(PoisonError::into_inner))?;
            // Accepted and closed: all that a client of ours wants.
            while self.listener.accept().is_ok() {}
            if ending {
                return Ok(());
            }
        }
    }

    fn note(&mut self, book: &mut Book) -> anyhow::Result<()> {
        let mut frame = [0; 64];
        while let Some((length, at)) = self.socket.next(&mut frame)? {
            let sender = frame.get(..length).and_then(syn::sender);
            let Some((from, port)) = sender.filter(|_| book.arrived.len() < SYNS_MAX) else {
                book.beyond += 1;
                continue;
            };
            book.arrived.push(Arrived { at, from, port });
        }
        book.lost = self.socket.lost()? + book.beyond;
        Ok(())
    }
}

/// Drops SYNs to a port, as a host does that is overwhelmed, or gone.
fn drop_silently(namespace: &Namespace, port: u16) -> anyhow::Result<()> {
    let rules = format!(
        "add table ip victim; add chain ip victim in {{ type filter hook input priority 0; }}; \
         add rule ip victim in tcp dport {port} drop"
    );
    let nft = || {
        let mut command = Command::new("nft");
        command.arg(&rules).stdin(Stdio::null()).output()
    };
    let done = namespace.run(nft)?.context("start nft: apt-get install nftables")?;
    ensure!(done.status.success(), "nft: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

fn listen(namespace: &Namespace) -> anyhow::Result<TcpListener> {
    let listener = namespace.run(|| TcpListener::bind((Ipv4Addr::UNSPECIFIED, OPEN)))?;
    let listener = listener.context("listen at the victim")?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}
