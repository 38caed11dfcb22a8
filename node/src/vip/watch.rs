//! Says when addresses or interfaces change behind our back: DHCP clients, network managers and operators
//! delete addresses, and cables come out.
//!
//! **Invariant.** No news gets lost silently: if the receiver or this thread cannot keep up,
//! [`LinkNews::Missed`] says so. The thread ends when [`Watch`] is dropped or the receiver is gone.
//!
//! Deliberately absent: what to do about it, and whose change it was. Our own removals are news, too.

use super::{
    address_of,
    rtnl::{DATAGRAM_BYTES_MAX, Link, Rtnl, RtnlError, datagram},
};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::{
    packet_core::NetlinkPayload,
    sys::{Socket, protocols::NETLINK_ROUTE},
};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};
use std::{
    collections::BTreeMap,
    io,
    net::IpAddr,
    os::{fd::AsFd as _, unix::net::UnixStream},
    sync::mpsc::{SyncSender, TrySendError},
    thread,
};

/// `RTNLGRP_*` of `linux/rtnetlink.h`: links, IPv4 addresses, IPv6 addresses.
const GROUPS: [u32; 3] = [1, 5, 9];
/// While the receiver owes us room for [`LinkNews::Missed`]: how often to try again.
const RETRY_EVERY: Timespec = Timespec { tv_sec: 0, tv_nsec: 10_000_000 };

/// Something changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LinkNews {
    /// An address left an interface: removed, or its lifetime ended.
    AddressGone {
        /// Which one.
        address: IpAddr,
        /// From which interface.
        ifindex: u32,
    },
    /// An interface went up or got its carrier back: neighbours should be told again.
    LinkUp {
        /// Which one.
        ifindex: u32,
    },
    /// An interface went down or lost its carrier.
    LinkDown {
        /// Which one.
        ifindex: u32,
    },
    /// An interface was removed, or moved to another network namespace.
    LinkGone {
        /// Which one.
        ifindex: u32,
    },
    /// News got lost because nobody read them in time: look at everything again.
    Missed,
}

/// A running watch; dropping it ends its thread.
#[derive(Debug)]
#[must_use = "the watch ends when this is dropped"]
pub struct Watch {
    _until_closed: UnixStream,
}

impl Watch {
    /// Starts to watch this thread's network namespace.
    ///
    /// # Errors
    /// [`RtnlError::Kernel`] if there is no descriptor or thread left.
    pub fn start(news: SyncSender<LinkNews>) -> Result<Self, RtnlError> {
        let failed = |doing| move |source| RtnlError::Kernel { doing, source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed("socket"))?;
        socket.bind_auto().map_err(failed("socket"))?;
        socket.set_non_blocking(true).map_err(failed("socket"))?;
        for group in GROUPS {
            socket.add_membership(group).map_err(failed("watch"))?;
        }
        let (ours, theirs) = UnixStream::pair().map_err(failed("watch"))?;
        // Only now, so that a change in between is heard.
        let mut watcher = Watcher { socket, links: BTreeMap::new(), news, missed: false };
        watcher.links = running()?;
        thread::Builder::new()
            .name("stead-watch".into())
            .spawn(move || watcher.run(&theirs))
            .map_err(failed("start a thread to watch"))?;
        Ok(Self { _until_closed: ours })
    }
}

struct Watcher {
    socket: Socket,
    /// Each interface, and whether it was running when last heard of.
    links: BTreeMap<u32, bool>,
    news: SyncSender<LinkNews>,
    missed: bool,
}

/// Nobody listens any more.
struct Over;

impl Watcher {
    fn run(mut self, closed: &UnixStream) {
        let mut buffer = Vec::with_capacity(DATAGRAM_BYTES_MAX);
        loop {
            match self.wait(closed).and_then(|()| self.read(&mut buffer)) {
                Ok(()) => {}
                Err(Over) => return,
            }
        }
    }

    fn wait(&mut self, closed: &UnixStream) -> Result<(), Over> {
        let mut waiting = [
            PollFd::from_borrowed_fd(self.socket.as_fd(), PollFlags::IN),
            PollFd::from_borrowed_fd(closed.as_fd(), PollFlags::IN),
        ];
        let timeout = self.missed.then_some(&RETRY_EVERY);
        match poll(&mut waiting, timeout) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(error) => {
                tracing::warn!(%error, "addresses and interfaces are no longer watched");
                return Err(Over);
            }
        }
        let [_, end] = &waiting;
        if end.revents().is_empty() { Ok(()) } else { Err(Over) }
    }

    /// Reads and passes on everything that is there.
    fn read(&mut self, buffer: &mut Vec<u8>) -> Result<(), Over> {
        if self.missed {
            self.say(LinkNews::Missed)?;
        }
        loop {
            buffer.clear();
            match self.socket.recv(buffer, 0) {
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                // ENOBUFS: the kernel dropped news for us. Whatever else it is, nothing can be trusted.
                Err(error) => {
                    tracing::debug!(%error, "news of addresses and interfaces got lost");
                    self.resynchronize();
                    return self.say(LinkNews::Missed);
                }
            }
            for message in datagram(buffer) {
                let Ok(message) = message else { continue };
                if let NetlinkPayload::InnerMessage(message) = message.payload
                    && let Some(news) = self.translate(&message)
                {
                    self.say(news)?;
                }
            }
        }
    }

    fn resynchronize(&mut self) {
        if let Ok(links) = running() {
            self.links = links;
        }
    }

    fn translate(&mut self, message: &RouteNetlinkMessage) -> Option<LinkNews> {
        match message {
            RouteNetlinkMessage::DelAddress(gone) => {
                Some(LinkNews::AddressGone { address: address_of(gone)?, ifindex: gone.header.index })
            }
            // A bridge tells about its ports with messages of the same type and another family.
            RouteNetlinkMessage::NewLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                let Link { ifindex, running, .. } = Link::from(link);
                let before = self.links.insert(ifindex, running);
                match (before.unwrap_or(false), running) {
                    (false, true) => Some(LinkNews::LinkUp { ifindex }),
                    (true, false) => Some(LinkNews::LinkDown { ifindex }),
                    (true, true) | (false, false) => None,
                }
            }
            RouteNetlinkMessage::DelLink(link) if link.header.interface_family == AddressFamily::Unspec => {
                let ifindex = link.header.index;
                self.links.remove(&ifindex);
                Some(LinkNews::LinkGone { ifindex })
            }
            _ => None,
        }
    }

    fn say(&mut self, news: LinkNews) -> Result<(), Over> {
        match self.news.try_send(news) {
            Ok(()) => {
                self.missed &= news != LinkNews::Missed;
                Ok(())
            }
            Err(TrySendError::Full(_)) => {
                self.missed = true;
                Ok(())
            }
            Err(TrySendError::Disconnected(_)) => Err(Over),
        }
    }
}

/// All interfaces, and whether each is running.
fn running() -> Result<BTreeMap<u32, bool>, RtnlError> {
    let links = Rtnl::open()?.links()?;
    Ok(links.into_iter().map(|link| (link.ifindex, link.running)).collect())
}
