//! What changes behind our back: addresses that a DHCP client deletes, interfaces that go down or vanish.
//!
//! **Invariant.** Nothing is lost silently: the kernel's bounded socket buffer is the queue, and when it
//! overflows the next event is [`Event::Missed`], after which the reader has to look for itself.
//! Deliberately absent: repair. [`Watch::next`] only tells.
#![expect(clippy::wildcard_enum_match_arm, reason = "netlink's enums are foreign and open-ended")]

use super::{
    address_of, is_ours,
    rtnl::{self, Rtnl},
};
use crate::sys::await_reads;
use netlink_packet_route::RouteNetlinkMessage;
use rtnetlink::{
    packet_core::NetlinkPayload,
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use rustix::io::Errno;
use std::{
    collections::{BTreeMap, VecDeque},
    io,
    net::IpAddr,
    os::fd::{AsFd as _, OwnedFd},
};
use tokio::io::{Interest, unix::AsyncFd};

/// `RTNLGRP_LINK`, `RTNLGRP_IPV4_IFADDR`, `RTNLGRP_IPV6_IFADDR` of `linux/rtnetlink.h`.
const GROUPS: [u32; 3] = [1, 5, 9];
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Interfaces whose state is remembered; of more, every message is reported as a change.
const LINKS_MAX: usize = 1_024;

/// A change in the kernel's tables.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// An address is on an interface now, or got another lifetime.
    AddressPut {
        /// The address.
        address: IpAddr,
        /// Where.
        ifindex: u32,
        /// Whether it carries stead's mark.
        ours: bool,
    },
    /// An address was taken off an interface, by anybody, or its lifetime ended.
    AddressGone {
        /// The address.
        address: IpAddr,
        /// Where it was.
        ifindex: u32,
    },
    /// An interface is up and has a carrier.
    LinkUp {
        /// Its index.
        ifindex: u32,
        /// Its name.
        name: String,
    },
    /// An interface is down or lost its carrier.
    LinkDown {
        /// Its index.
        ifindex: u32,
        /// Its name.
        name: String,
    },
    /// An interface got another name.
    LinkRenamed {
        /// Its index.
        ifindex: u32,
        /// The name it had.
        from: String,
        /// The name it has.
        to: String,
    },
    /// An interface does not exist any more.
    LinkGone {
        /// The index it had.
        ifindex: u32,
        /// The name it had.
        name: String,
    },
    /// More happened than the queue could hold: look for yourself.
    Missed,
}

/// A subscription to the kernel's changes, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub struct Watch {
    socket: AsyncFd<OwnedFd>,
    buffer: Vec<u8>,
    links: BTreeMap<u32, rtnl::Link>,
    pending: VecDeque<Event>,
}

impl Watch {
    /// Subscribes: every change from now on is reported.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn open() -> io::Result<Self> {
        let mut socket = Socket::new(NETLINK_ROUTE)?;
        socket.set_non_blocking(true)?;
        socket.bind(&SocketAddr::new(0, 0))?;
        for group in GROUPS {
            socket.add_membership(group)?;
        }
        // After subscribing, so that no change falls between the two.
        let links = Rtnl::open().and_then(|mut rtnl| rtnl.links()).map_err(io::Error::other)?;
        Ok(Self {
            socket: await_reads(socket.as_fd().try_clone_to_owned()?)?,
            buffer: vec![0; DATAGRAM_BYTES_MAX],
            links: links.into_iter().take(LINKS_MAX).map(|link| (link.ifindex, link)).collect(),
            pending: VecDeque::new(),
        })
    }

    /// The next change. Cancelling it loses nothing.
    ///
    /// # Errors
    /// What the kernel said; the subscription is of no use any more.
    pub async fn next(&mut self) -> io::Result<Event> {
        loop {
            if let Some(event) = self.pending.pop_front() {
                return Ok(event);
            }
            let buffer = &mut self.buffer;
            let read = |socket: &OwnedFd| Ok(rustix::io::read(socket, buffer.as_mut_slice())?);
            match self.socket.async_io(Interest::READABLE, read).await {
                Ok(length) => self.read_datagram(length),
                Err(error) if error.raw_os_error() == Some(Errno::NOBUFS.raw_os_error()) => {
                    return Ok(Event::Missed);
                }
                Err(error) => return Err(error),
            }
        }
    }

    fn read_datagram(&mut self, length: usize) {
        for message in rtnl::datagram(self.buffer.get(..length).unwrap_or(&[])) {
            match message.map(|message| message.into_parts().1) {
                Ok(NetlinkPayload::InnerMessage(change)) => {
                    self.pending.extend(event(&mut self.links, &change));
                }
                Ok(_) => {}
                // A message that cannot be read may have been one that matters.
                Err(_) => self.pending.push_back(Event::Missed),
            }
        }
    }
}

fn event(links: &mut BTreeMap<u32, rtnl::Link>, change: &RouteNetlinkMessage) -> Option<Event> {
    match change {
        RouteNetlinkMessage::NewAddress(message) => {
            let (address, ifindex) = (address_of(message)?, message.header.index);
            Some(Event::AddressPut { address, ifindex, ours: is_ours(message) })
        }
        RouteNetlinkMessage::DelAddress(message) => {
            Some(Event::AddressGone { address: address_of(message)?, ifindex: message.header.index })
        }
        RouteNetlinkMessage::NewLink(message) => link_event(links, rtnl::Link::from(message)),
        RouteNetlinkMessage::DelLink(message) => {
            let link = rtnl::Link::from(message);
            links.remove(&link.ifindex);
            Some(Event::LinkGone { ifindex: link.ifindex, name: link.name })
        }
        _ => None,
    }
}

/// What is new about an interface; `None` if it is nothing that matters here.
fn link_event(links: &mut BTreeMap<u32, rtnl::Link>, link: rtnl::Link) -> Option<Event> {
    let known = links.get(&link.ifindex).cloned();
    if known.is_some() || links.len() < LINKS_MAX {
        links.insert(link.ifindex, link.clone());
    }
    let rtnl::Link { ifindex, name, running, .. } = link;
    match known {
        Some(known) if known.name != name => Some(Event::LinkRenamed { ifindex, from: known.name, to: name }),
        Some(known) if known.running == running => None,
        _ if running => Some(Event::LinkUp { ifindex, name }),
        _ => Some(Event::LinkDown { ifindex, name }),
    }
}
