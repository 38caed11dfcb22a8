//! Waiting for the end of a child without reaping it, through its pidfd (`pidfd_open(2)`).

use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::io;
use std::os::fd::OwnedFd;
use tokio::io::Interest;
use tokio::io::unix::AsyncFd;

/// Becomes readable when the process ends. `child` must not be reaped yet.
pub(super) fn watch(child: Pid) -> io::Result<AsyncFd<OwnedFd>> {
    let pidfd = pidfd_open(child, PidfdFlags::NONBLOCK)?;
    #[expect(unsafe_code, reason = "tokio offers no safe registration of a descriptor")]
    // SAFETY: an `OwnedFd` names one open descriptor for as long as it lives, and nobody replaces the one
    // that the `AsyncFd` owns from here on.
    let watched = unsafe { AsyncFd::register_with_interest(pidfd, Interest::READABLE) };
    Ok(watched?)
}
