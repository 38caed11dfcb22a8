//! The system calls that neither std, rustix nor socket2 offer safely.
//!
//! **Invariant.** All unsafe code of this crate is here, each use with its argument. What runs between
//! `fork` and `exec` makes system calls only: no allocation, no lock, no panic.
#![allow(unsafe_code)]

use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use rustix::mount::{MountFlags, MountPropagationFlags};
use rustix::process::{Pid, Signal};
use rustix::thread::{LinkNameSpaceType, UnshareFlags};
use std::ffi::CStr;
use std::io;
use std::mem::{MaybeUninit, size_of};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;

/// Gives the calling thread, and only it, a new network namespace.
pub(crate) fn unshare_network() -> io::Result<()> {
    // SAFETY: only CLONE_NEWNET is passed; file descriptors stay shared, which is what `unshare_unsafe`
    // asks of its caller.
    Ok(unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNET) }?)
}

/// Makes `command` start inside the network namespace `network`, die with the thread that starts it,
/// and see an empty `/run` of its own where the kernel permits that.
pub(crate) fn start_inside(command: &mut Command, network: OwnedFd) {
    let parent = rustix::process::getpid();
    let hook = move || {
        die_with(parent)?;
        rustix::thread::move_into_link_name_space(network.as_fd(), Some(LinkNameSpaceType::Network))?;
        match private_run() {
            Err(Errno::PERM | Errno::ACCESS) | Ok(()) => Ok(()),
            Err(errno) => Err(errno.into()),
        }
    };
    // SAFETY: the hook makes system calls through rustix (linux_raw backend) with borrowed, prepared
    // arguments; it neither allocates nor locks, so it may run in the child of a multi-threaded parent.
    unsafe { command.pre_exec(hook) };
}

fn die_with(parent: Pid) -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    // The parent may have died before the call above took effect.
    if rustix::process::getppid() == Some(parent) { Ok(()) } else { Err(Errno::SRCH.into()) }
}

fn private_run() -> rustix::io::Result<()> {
    // SAFETY: only CLONE_NEWNS is passed; file descriptors stay shared.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }?;
    rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
    rustix::mount::mount(
        c"tmpfs",
        c"/run",
        c"tmpfs",
        MountFlags::NOSUID | MountFlags::NODEV,
        Some(c"mode=755,size=16m"),
    )
}

/// Makes `command` start as root of a new user namespace, with a network and a mount namespace of its
/// own. The identity outside stays what it is.
pub(crate) fn start_enclosed(command: &mut Command) {
    let uid_map = format!("0 {} 1\n", rustix::process::geteuid().as_raw());
    let gid_map = format!("0 {} 1\n", rustix::process::getegid().as_raw());
    let hook = move || {
        let spaces = UnshareFlags::NEWUSER | UnshareFlags::NEWNET | UnshareFlags::NEWNS;
        // SAFETY: CLONE_FILES is not passed; file descriptors stay shared.
        unsafe { rustix::thread::unshare_unsafe(spaces) }?;
        write_whole(c"/proc/self/setgroups", b"deny")?;
        write_whole(c"/proc/self/uid_map", uid_map.as_bytes())?;
        write_whole(c"/proc/self/gid_map", gid_map.as_bytes())?;
        rustix::mount::mount_change(c"/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC)?;
        Ok(())
    };
    // SAFETY: as in `start_inside`: system calls on prepared arguments, no allocation, no lock.
    unsafe { command.pre_exec(hook) };
}

fn write_whole(path: &CStr, text: &[u8]) -> rustix::io::Result<()> {
    let file = rustix::fs::open(path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    let written = rustix::io::write(&file, text)?;
    if written == text.len() { Ok(()) } else { Err(Errno::IO) }
}

/// Binds a packet socket to one interface, for all protocols (packet(7)).
pub(crate) fn bind_packet(socket: BorrowedFd<'_>, interface: u32) -> io::Result<()> {
    let too_large = |_| io::Error::from(io::ErrorKind::InvalidInput);
    // SAFETY: sockaddr_ll is plain integers, for which all-zero is a value.
    let mut address: libc::sockaddr_ll = unsafe { MaybeUninit::zeroed().assume_init() };
    address.sll_family = u16::try_from(libc::AF_PACKET).map_err(too_large)?;
    address.sll_protocol = u16::try_from(libc::ETH_P_ALL).map_err(too_large)?.to_be();
    address.sll_ifindex = i32::try_from(interface).map_err(too_large)?;
    // SAFETY: the pointer and length describe `address`, which outlives the call.
    check(unsafe {
        libc::bind(socket.as_raw_fd(), (&raw const address).cast(), length_of::<libc::sockaddr_ll>())
    })
}

/// Asks the kernel to stamp each received frame (SO_TIMESTAMPNS, socket(7)).
pub(crate) fn stamp_frames(socket: BorrowedFd<'_>) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_SOCKET,
            libc::SO_TIMESTAMPNS,
            (&raw const on).cast(),
            length_of::<libc::c_int>(),
        )
    })
}

/// How many frames the kernel dropped on a packet socket since the last call (PACKET_STATISTICS).
pub(crate) fn frames_dropped(socket: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: tpacket_stats is two integers, for which all-zero is a value.
    let mut stats: libc::tpacket_stats = unsafe { MaybeUninit::zeroed().assume_init() };
    let mut length = length_of::<libc::tpacket_stats>();
    // SAFETY: the pointers describe `stats` and `length`, which outlive the call.
    check(unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::SOL_PACKET,
            libc::PACKET_STATISTICS,
            (&raw mut stats).cast(),
            &raw mut length,
        )
    })?;
    Ok(stats.tp_drops)
}

/// One frame into `frame`; its length, and its kernel stamp in nanoseconds of `CLOCK_REALTIME`.
pub(crate) fn receive(socket: BorrowedFd<'_>, frame: &mut [u8]) -> io::Result<(usize, Option<u64>)> {
    /// Room for a few control messages, aligned as their headers must be.
    #[repr(C, align(8))]
    struct Control([u8; 128]);
    let mut control = Control([0; 128]);
    let mut part = libc::iovec { iov_base: frame.as_mut_ptr().cast(), iov_len: frame.len() };
    // SAFETY: msghdr is integers and pointers, for which all-zero is a value.
    let mut header: libc::msghdr = unsafe { MaybeUninit::zeroed().assume_init() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.0.as_mut_ptr().cast();
    header.msg_controllen = control.0.len();
    // SAFETY: `header` points at `part`, `frame` and `control`, all alive and of the lengths given.
    let received = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let Ok(length) = usize::try_from(received) else { return Err(io::Error::last_os_error()) };
    // SAFETY: recvmsg has filled in `header`; the macros walk within msg_controllen.
    let mut message = unsafe { libc::CMSG_FIRSTHDR(&raw const header) };
    // SAFETY: a non-null result of the CMSG macros points at a whole cmsghdr inside `control`.
    while let Some(found) = unsafe { message.as_ref() } {
        if (found.cmsg_level, found.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_TIMESTAMPNS) {
            // SAFETY: a message of this type holds one timespec; it is read unaligned.
            let stamp: libc::timespec = unsafe { std::ptr::read_unaligned(libc::CMSG_DATA(message).cast()) };
            return Ok((length, nanoseconds(stamp)));
        }
        // SAFETY: as for CMSG_FIRSTHDR.
        message = unsafe { libc::CMSG_NXTHDR(&raw const header, message) };
    }
    Ok((length, None))
}

fn nanoseconds(stamp: libc::timespec) -> Option<u64> {
    let seconds = u64::try_from(stamp.tv_sec).ok()?;
    seconds.checked_mul(1_000_000_000)?.checked_add(u64::try_from(stamp.tv_nsec).ok()?)
}

fn length_of<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(size_of::<T>()).expect("kernel structures are small")
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
