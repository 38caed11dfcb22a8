//! System calls and kernel structures that no library of the tree offers safely.
//!
//! **Invariant.** The crate's only unsafe code is here, each block with the argument why it is sound.
#![allow(unsafe_code)]

use rustix::time::{ClockId, clock_gettime};
use socket2::SockAddr;
use std::{
    io,
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
};
use stead_proto::time::Instant;
use tokio::io::{Interest, unix::AsyncFd};

/// `AF_PACKET` of `linux/socket.h`.
const AF_PACKET: u16 = 17;
/// Bytes of `struct sockaddr_ll` (`linux/if_packet.h`).
const SOCKADDR_LL_BYTES: usize = 20;

/// This node's clock: `CLOCK_BOOTTIME`, which the lease gate in the kernel compares with.
#[must_use]
pub fn now() -> Instant {
    let time = clock_gettime(ClockId::Boottime);
    let (s, ns) = (u64::try_from(time.tv_sec).unwrap_or(0), u64::try_from(time.tv_nsec).unwrap_or(0));
    Instant::from_ns(s.saturating_mul(1_000_000_000).saturating_add(ns))
}

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

/// Gives memory that was used and is free again back to the system, where the C library keeps it (glibc:
/// malloc_trim(3)): loading a kernel program takes ten times what it leaves.
pub fn give_back_memory() {
    // SAFETY: it takes no pointer, and locks the allocator's arenas by itself.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::malloc_trim(0);
    }
}

/// Puts the calling thread before every ordinary one (`SCHED_FIFO`, sched(7)); threads it starts are ordinary.
///
/// # Errors
/// `EPERM` without `CAP_SYS_NICE`, `EINVAL` outside of 1 to 99.
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

/// A descriptor whose readability tokio can wait for. It has to be non-blocking; needs a tokio runtime.
///
/// # Errors
/// What the reactor said.
pub fn await_reads(fd: OwnedFd) -> io::Result<AsyncFd<OwnedFd>> {
    // SAFETY: an `OwnedFd` is open and keeps its number until it is dropped, and `AsyncFd` owns it.
    let registered = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
    registered.map_err(|error| error.into_parts().1)
}

/// Who began to listen at the other end of a Unix socket: the process as this one can see it, and the user.
///
/// # Errors
/// What getsockopt(2) said.
pub fn listener_of(socket: &impl AsFd) -> io::Result<(Option<u32>, u32)> {
    let mut peer = libc::ucred { pid: 0, uid: 0, gid: 0 };
    let mut size: libc::socklen_t = size_of::<libc::ucred>().try_into().map_err(io::Error::other)?;
    let fd = socket.as_fd().as_raw_fd();
    // SAFETY: the pointers describe `peer` and `size`, which outlive the call.
    let result = unsafe {
        libc::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEERCRED, (&raw mut peer).cast(), &raw mut size)
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok((u32::try_from(peer.pid).ok().filter(|pid| *pid != 0), peer.uid))
}
