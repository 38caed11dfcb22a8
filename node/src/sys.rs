//! System calls and kernel structures that no library of the tree offers safely.
//!
//! **Invariant.** The crate's only unsafe code is here, each block with the argument why it is sound.
#![allow(unsafe_code)]

use socket2::SockAddr;
use std::io;

/// `AF_PACKET` of `linux/socket.h`.
const AF_PACKET: u16 = 17;
/// Bytes of `struct sockaddr_ll` (`linux/if_packet.h`).
const SOCKADDR_LL_BYTES: usize = 20;

/// The address of a packet socket (packet(7)): one interface, one ethertype.
#[must_use]
pub fn packet_address(ifindex: u32, ethertype: u16) -> SockAddr {
    let mut raw = [0u8; SOCKADDR_LL_BYTES];
    let fields =
        AF_PACKET.to_ne_bytes().into_iter().chain(ethertype.to_be_bytes()).chain(ifindex.to_ne_bytes());
    for (slot, byte) in raw.iter_mut().zip(fields) {
        *slot = byte;
    }
    // SAFETY: the storage is valid, zeroed, larger than `raw` (128 bytes) and does not overlap it; the
    // length says how many bytes were written, and they form a complete `sockaddr_ll`.
    let (_, address) = unsafe {
        SockAddr::try_init(|storage, length| {
            core::ptr::copy_nonoverlapping(raw.as_ptr(), storage.cast::<u8>(), raw.len());
            *length = 20;
            Ok(())
        })
    }
    .expect("the closure cannot fail");
    address
}

/// Gives the calling thread real-time priority (`SCHED_FIFO`, 1 to 99). Threads and processes that it
/// starts have none (`SCHED_RESET_ON_FORK`).
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE` (or `RLIMIT_RTPRIO`); `EINVAL` for another priority. The thread then runs
/// on as before.
pub fn become_realtime(priority: u8) -> io::Result<()> {
    // The kernel's `struct sched_param` is this one field.
    let parameters = libc::c_int::from(priority);
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // The system call itself: musl's function of this name refuses everything, and glibc's does no more.
    // SAFETY: thread 0 is the caller. The kernel reads one `int` through the pointer, which is valid until
    // the call returns, and writes no memory of ours.
    let result = unsafe { libc::syscall(libc::SYS_sched_setscheduler, 0, policy, &raw const parameters) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_address_has_the_kernels_layout() {
        let address = packet_address(0x0102_0304, 0x0806);
        assert_eq!((address.len(), address.family()), (20, AF_PACKET));
        // SAFETY: as long as the address is, and bytes have no alignment.
        let raw = unsafe { core::slice::from_raw_parts(address.as_ptr().cast::<u8>(), 20) };
        assert_eq!(raw[2..4], [0x08, 0x06], "the ethertype is in network order");
        assert_eq!(raw[4..8], 0x0102_0304_u32.to_ne_bytes());
    }

    #[test]
    fn an_impossible_priority_is_refused_and_changes_nothing() {
        assert_eq!(become_realtime(100).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
}
