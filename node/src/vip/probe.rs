//! Asking, before an address is claimed for the first time, whether another host has it already.
//!
//! An operator may have typed an address that a printer uses. Moves within the mesh need no probe: there
//! the lease says who holds.
//!
//! **Invariant.** A probe changes nobody's neighbour cache: it comes from the unspecified address
//! (RFC 5227 §2.1.1, RFC 4862 §5.4). Only somebody who *claims* the address counts as its owner, not
//! another host that asks for it, too.

use super::{
    frame::{
        ETHERTYPE_ARP, ETHERTYPE_IPV6, Mac, address_solicitation, advertisement_claim, arp_claim, arp_probe,
    },
    packet::{PacketError, PacketSocket},
    rtnl::Link,
};
use crate::sys::await_reads;
use std::{io, net::IpAddr, os::fd::OwnedFd, time::Duration};
use tokio::{
    io::{Interest, unix::AsyncFd},
    time,
};

/// Questions asked within the deadline.
const QUESTIONS: u32 = 3;
/// Enough of a frame to see who claims what.
const FRAME_BYTES_MAX: usize = 2_048;

/// What a probe found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody answered within the deadline.
    Free,
    /// The host with this hardware address has it: claiming it would break both. Choose another address,
    /// or take it off that host.
    TakenBy(Mac),
}

/// Asks on `link` for `address` until somebody claims it or `deadline` has passed.
///
/// # Errors
/// [`PacketError`]: nothing is known then.
pub async fn probe(link: &Link, address: IpAddr, deadline: Duration) -> Result<Probe, PacketError> {
    let ethertype = if address.is_ipv4() { ETHERTYPE_ARP } else { ETHERTYPE_IPV6 };
    let packets = PacketSocket::open(link, ethertype)?;
    let question = match address {
        IpAddr::V4(address) => arp_probe(packets.mac, address),
        IpAddr::V6(address) => address_solicitation(packets.mac, address),
    };
    let ears = ears(&packets.socket).map_err(|error| packets.explain(error))?;
    for _ in 0..QUESTIONS {
        packets.send(&question)?;
        match time::timeout(deadline / QUESTIONS, claim(&ears, address, packets.mac)).await {
            Ok(Ok(mac)) => return Ok(Probe::TakenBy(mac)),
            Ok(Err(error)) => return Err(packets.explain(error)),
            Err(_) => {}
        }
    }
    Ok(Probe::Free)
}

fn ears(socket: &socket2::Socket) -> io::Result<AsyncFd<OwnedFd>> {
    await_reads(socket.try_clone()?.into())
}

/// Waits for a frame in which another host claims `address`.
async fn claim(ears: &AsyncFd<OwnedFd>, address: IpAddr, own: Mac) -> io::Result<Mac> {
    let mut buffer = [0; FRAME_BYTES_MAX];
    loop {
        let length =
            ears.async_io(Interest::READABLE, |socket| Ok(rustix::io::read(socket, &mut buffer)?)).await?;
        let frame = buffer.get(..length).unwrap_or(&[]);
        let claimed = match address {
            IpAddr::V4(address) => arp_claim(frame, address),
            IpAddr::V6(address) => advertisement_claim(frame, address),
        };
        if let Some(mac) = claimed.filter(|mac| *mac != own) {
            return Ok(mac);
        }
    }
}
