//! Tells the neighbours where an address is now: gratuitous ARP, or an unsolicited neighbour advertisement.
//!
//! **Invariant.** The frame goes out of the interface that was named, whatever the routes say, from the
//! hardware address that the interface has at this moment. While the lease gate is closed it is dropped.
//!
//! Deliberately absent: repetition. When to say it again is the caller's decision.

use super::{
    frame,
    rtnl::{Link, Rtnl, RtnlError},
};
use crate::sys::packet_address;
use rustix::io::Errno;
use socket2::{Domain, Socket, Type};
use std::{io, net::IpAddr};

/// Why the neighbours were not told.
#[derive(Debug, thiserror::Error)]
pub enum AnnounceError {
    /// The interface could not be looked up.
    #[error("cannot announce from interface {ifindex}: {source}")]
    Link {
        /// The interface asked for.
        ifindex: u32,
        /// What the kernel said.
        source: RtnlError,
    },
    /// Neighbours are found in another way there.
    #[error("{0} is not an Ethernet interface: a `vip` endpoint cannot move there; name another uplink")]
    NotEthernet(String),
    /// The interface is down. It is announced again when it comes back.
    #[error("{0} is down: nobody hears an announcement until it is up again")]
    Down(String),
    /// `CAP_NET_RAW` is missing.
    #[error(
        "not permitted: without CAP_NET_RAW the neighbours cannot be told that an address moved; \
         run the agent as root or give its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
    )]
    NotPermitted,
    /// Anything else the kernel said.
    #[error("cannot {doing} {name}: {source}")]
    Kernel {
        /// What was tried.
        doing: &'static str,
        /// At which interface.
        name: String,
        /// What the kernel said.
        source: io::Error,
    },
}

/// Announces `address` once: two broadcasts for IPv4 (request and reply form), one multicast for IPv6.
/// Takes some 100 µs and does not wait.
///
/// # Errors
/// [`AnnounceError`]; the neighbours may go on sending to the previous holder.
pub fn once(ifindex: u32, address: IpAddr) -> Result<(), AnnounceError> {
    let link = ethernet(ifindex)?;
    // Protocol 0: this socket receives nothing.
    let socket = packet_socket(&link)?;
    for bytes in frame::announcements(link.mac, address) {
        send(&socket, &link, address, &bytes)?;
    }
    Ok(())
}

/// Looks the interface up and refuses one without neighbours.
pub(super) fn ethernet(ifindex: u32) -> Result<Link, AnnounceError> {
    let link = Rtnl::open().and_then(|mut rtnl| rtnl.link(ifindex));
    let link = link.map_err(|source| AnnounceError::Link { ifindex, source })?;
    if link.ethernet { Ok(link) } else { Err(AnnounceError::NotEthernet(link.name)) }
}

/// A packet socket that hears nothing before it is bound.
pub(super) fn packet_socket(link: &Link) -> Result<Socket, AnnounceError> {
    Socket::new(Domain::PACKET, Type::RAW, None)
        .map_err(|error| explain("open a packet socket on", link, error))
}

/// Sends one whole frame about `address`.
pub(super) fn send(socket: &Socket, link: &Link, address: IpAddr, bytes: &[u8]) -> Result<(), AnnounceError> {
    let to = packet_address(link.ifindex, frame::ethertype(address));
    socket.send_to(bytes, &to).map(drop).map_err(|error| explain("send from", link, error))
}

/// A kernel error at an interface in the operator's words.
pub(super) fn explain(doing: &'static str, link: &Link, source: io::Error) -> AnnounceError {
    let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    let name = link.name.clone();
    if is(Errno::PERM) || is(Errno::ACCESS) {
        AnnounceError::NotPermitted
    } else if is(Errno::NETDOWN) {
        AnnounceError::Down(name)
    } else if is(Errno::NXIO) || is(Errno::NODEV) {
        AnnounceError::Link { ifindex: link.ifindex, source: RtnlError::NoInterface }
    } else {
        AnnounceError::Kernel { doing, name, source }
    }
}
