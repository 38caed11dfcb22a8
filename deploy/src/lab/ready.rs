//! What the kernel does later than it says so, waited for.
//!
//! It acknowledges a new IPv6 address before it listens to the address's solicited-node group (a work item of
//! addrconf joins it), so the first neighbour solicitation would be lost and a second be cost. It acknowledges
//! SO_TIMESTAMPNS before it stamps frames on arrival (net_enable_timestamp, a work item too) and stamps them
//! when they are read until then, so the first frames would seem later than they were.
//!
//! **Invariant.** Each wait is on the state itself, with a deadline.

use super::error::LabError;
use super::namespace::Namespace;
use super::now_real_ns;
use crate::sys;
use std::io;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};
use std::{fs, thread};

const READY_WITHIN: Duration = Duration::from_secs(5);
const READY_POLL: Duration = Duration::from_micros(500);

/// Waits until a place listens to neighbour solicitations for these of its addresses.
pub(crate) fn until_solicitable(namespace: &Namespace, addresses: &[IpAddr]) -> Result<(), LabError> {
    let groups: Vec<String> = addresses.iter().filter_map(solicited_group).collect();
    namespace.run(|| {
        until(|| {
            let joined = fs::read_to_string("/proc/thread-self/net/igmp6")?;
            Ok(groups.iter().all(|group| joined.contains(group)))
        })
    })?
}

/// The solicited-node group of an IPv6 address (RFC 4291 §2.7.1), written as in `/proc/net/igmp6`.
fn solicited_group(address: &IpAddr) -> Option<String> {
    let IpAddr::V6(address) = address else { return None };
    Some(format!("ff0200000000000000000001ff{:06x}", address.to_bits() & 0xff_ffff))
}

/// Waits until the kernel stamps frames on arrival, given that some socket has asked for stamps; the
/// namespace's loopback interface must be up.
pub(crate) fn until_stamping(namespace: &Namespace) -> Result<(), LabError> {
    namespace.run(|| {
        let probe = || -> io::Result<UdpSocket> {
            let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))?;
            socket.connect(socket.local_addr()?)?;
            sys::stamp_frames(socket.as_fd())?;
            Ok(socket)
        };
        let probe = probe().map_err(LabError::system("open a socket on the switch's loopback"))?;
        until(|| {
            probe.send(&[0])?;
            let sent_ns = now_real_ns();
            // Loopback delivers within the send; a frame stamped on reading is stamped after `sent_ns`.
            let (_, stamp) = sys::receive(probe.as_fd(), &mut [0; 1])?;
            Ok(stamp.is_some_and(|stamp| stamp <= sent_ns))
        })
    })?
}

fn until(mut done: impl FnMut() -> io::Result<bool>) -> Result<(), LabError> {
    let began = Instant::now();
    loop {
        match done() {
            Ok(true) => return Ok(()),
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => {
                return Err(LabError::system("look whether the kernel is ready")(error));
            }
            Ok(false) | Err(_) if began.elapsed() > READY_WITHIN => {
                return Err(LabError::NotReady { waited_ms: READY_WITHIN.as_millis() });
            }
            Ok(false) | Err(_) => thread::sleep(READY_POLL),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_solicited_group_is_written_as_the_kernel_writes_it() {
        let address = "fd83::12:3456".parse().unwrap();
        assert_eq!(solicited_group(&address).unwrap(), "ff0200000000000000000001ff123456");
        assert_eq!(solicited_group(&"10.83.0.1".parse().unwrap()), None);
    }
}
