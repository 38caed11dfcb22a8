//! The one socket option of the flooder that no library of the tree sets.
//!
//! **Invariant.** All unsafe code of this crate's library is here.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd as _};

/// Lets the frames of a packet socket go around the queueing discipline, and so around tc (packet(7)).
pub(super) fn go_around_tc(socket: impl AsFd) -> io::Result<()> {
    let on: libc::c_int = 1;
    let bytes = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(4);
    // SAFETY: the pointer and length describe `on`, which outlives the call; the descriptor is borrowed for it.
    let result = unsafe {
        libc::setsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_QDISC_BYPASS,
            (&raw const on).cast(),
            bytes,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
