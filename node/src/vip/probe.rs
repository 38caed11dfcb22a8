//! Asks the link whether another host has an address (RFC 5227 for IPv4, RFC 4862 for IPv6).
//!
//! **Invariant.** "Free" is said only after the interface was able to ask and listen until the deadline;
//! asking changes no neighbour's table.
//!
//! Deliberately absent: another host's *probe* for the same address is no conflict here. Two nodes of a
//! mesh may ask at the same time, and which of them may have the address is decided by the lease.

use super::{
    announce::{self, AnnounceError},
    frame,
    rtnl::Link,
};
use crate::sys::packet_address;
use socket2::{SockFilter, Socket};
use std::{
    io::{self, Read as _},
    net::IpAddr,
    time::{Duration, Instant},
};

/// Questions asked within the deadline; the first or its answer may get lost.
const QUESTIONS: u32 = 3;
/// Enough for all that is read of a frame.
const FRAME_BYTES: usize = 128;

/// What the link answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Probe {
    /// Nobody answered in time.
    Free,
    /// The host with this hardware address has it.
    TakenBy([u8; 6]),
}

/// Why the question could not be asked: nothing is known then.
#[derive(Debug, thiserror::Error)]
#[error("whether another host has {address} is unknown: {source}")]
pub struct ProbeError {
    /// The address asked about.
    pub address: IpAddr,
    /// What went wrong.
    pub source: AnnounceError,
}

/// Asks who has `address` and waits for at most `deadline`. Blocks: call it on a thread of its own.
///
/// # Errors
/// [`ProbeError`] if the interface cannot ask (any more): down, gone, not Ethernet, not permitted.
pub fn probe(ifindex: u32, address: IpAddr, deadline: Duration) -> Result<Probe, ProbeError> {
    ask(ifindex, address, deadline).map_err(|source| ProbeError { address, source })
}

fn ask(ifindex: u32, address: IpAddr, deadline: Duration) -> Result<Probe, AnnounceError> {
    let start = Instant::now();
    let link = announce::ethernet(ifindex)?;
    if !link.running {
        return Err(AnnounceError::Down(link.name));
    }
    let socket = listen(&link, address)?;
    let question = frame::probe(link.mac, address);
    for turn in 1..=QUESTIONS {
        announce::send(&socket, &link, address, &question)?;
        let until = start + deadline * turn / QUESTIONS;
        if let Some(mac) = answer(&socket, &link, address, until)? {
            return Ok(Probe::TakenBy(mac));
        }
    }
    Ok(Probe::Free)
}

/// A socket that hears the interface's ARP messages, or its neighbour advertisements and no other IPv6.
fn listen(link: &Link, address: IpAddr) -> Result<Socket, AnnounceError> {
    let socket = announce::packet_socket(link)?;
    let filtered = if address.is_ipv6() { socket.attach_filter(&only_advertisements()) } else { Ok(()) };
    filtered
        .and_then(|()| socket.bind(&packet_address(link.ifindex, frame::ethertype(address))))
        .map_err(|error| announce::explain("listen on", link, error))?;
    Ok(socket)
}

/// A classic BPF program: the busy host's other IPv6 traffic must not push an answer out of the queue.
fn only_advertisements() -> [SockFilter; 6] {
    const LOAD_BYTE: u16 = 0x30;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    [
        SockFilter::new(LOAD_BYTE, 0, 0, frame::NEXT_HEADER_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 3, frame::ICMPV6.into()),
        SockFilter::new(LOAD_BYTE, 0, 0, frame::ICMPV6_TYPE_AT),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, frame::ADVERTISEMENT.into()),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// Reads until somebody else claims the address, or until the time is over.
fn answer(
    socket: &Socket,
    link: &Link,
    address: IpAddr,
    until: Instant,
) -> Result<Option<[u8; 6]>, AnnounceError> {
    let failed = |error| announce::explain("listen on", link, error);
    let mut bytes = [0; FRAME_BYTES];
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        // The kernel counts in microseconds, and none at all would mean for ever.
        socket.set_read_timeout(Some(left.max(Duration::from_millis(1)))).map_err(failed)?;
        let read = match (&*socket).read(&mut bytes) {
            Ok(read) => read,
            Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted) => {
                continue;
            }
            Err(error) => return Err(failed(error)),
        };
        let claimed_by = bytes.get(..read).and_then(|frame| frame::holder(frame, address));
        if let Some(mac) = claimed_by.filter(|mac| *mac != link.mac) {
            return Ok(Some(mac));
        }
    }
}
