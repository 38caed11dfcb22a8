//! Sending by AF_XDP in copy mode: the one way around every hook, up to the driver.
//!
//! One frame is under way at a time. Layouts and numbers: `linux/if_xdp.h`.
#![allow(unsafe_code, unreachable_pub, clippy::as_conversions)]

use std::{
    mem::{size_of, zeroed},
    os::fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
    ptr,
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};

const ENTRIES: u32 = 64;
const CHUNK: usize = 2048;

/// One of the rings that are shared with the kernel.
struct Ring {
    /// Where the rest points to.
    #[allow(dead_code)]
    mapping: Mapping,
    producer: *const AtomicU32,
    consumer: *const AtomicU32,
    entries: *mut u8,
}

/// A socket that sends frames on queue 0 of an interface. One at a time: the kernel gives the queue back late.
pub struct Xdp {
    socket: OwnedFd,
    frames: Mapping,
    sending: Ring,
    completed: Ring,
}

impl Xdp {
    pub fn open(ifindex: u32) -> Self {
        // SAFETY: a system call without pointers; the descriptor is new and nobody else's.
        let socket = unsafe {
            let fd = libc::socket(libc::AF_XDP, libc::SOCK_RAW | libc::SOCK_CLOEXEC, 0);
            assert!(fd >= 0, "AF_XDP: {}", std::io::Error::last_os_error());
            OwnedFd::from_raw_fd(fd)
        };
        let length = CHUNK * ENTRIES as usize;
        let frames = map(length, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS, -1, 0);
        // SAFETY: a struct of integers, for which all-zero is a value.
        let mut area: libc::xdp_umem_reg = unsafe { zeroed() };
        area.addr = frames.start as u64;
        area.len = length as u64;
        area.chunk_size = CHUNK as u32;
        set(&socket, libc::XDP_UMEM_REG, &area);
        for ring in [libc::XDP_UMEM_FILL_RING, libc::XDP_UMEM_COMPLETION_RING, libc::XDP_TX_RING] {
            set(&socket, ring, &ENTRIES);
        }
        // SAFETY: as above.
        let mut offsets: libc::xdp_mmap_offsets = unsafe { zeroed() };
        let mut size = size_of::<libc::xdp_mmap_offsets>() as libc::socklen_t;
        // SAFETY: the pointers describe `offsets` and `size`, which outlive the call.
        check(unsafe {
            libc::getsockopt(
                socket.as_raw_fd(),
                libc::SOL_XDP,
                libc::XDP_MMAP_OFFSETS,
                (&raw mut offsets).cast(),
                &raw mut size,
            )
        });
        let sending =
            ring(&socket, &offsets.tx, size_of::<libc::xdp_desc>(), libc::XDP_PGOFF_TX_RING as libc::off_t);
        let completed =
            ring(&socket, &offsets.cr, size_of::<u64>(), libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t);
        // SAFETY: as above.
        let mut address: libc::sockaddr_xdp = unsafe { zeroed() };
        address.sxdp_family = libc::AF_XDP as u16;
        address.sxdp_flags = libc::XDP_COPY;
        address.sxdp_ifindex = ifindex;
        // SAFETY: the pointer and length describe `address`, which outlives the call.
        check(unsafe {
            libc::bind(
                socket.as_raw_fd(),
                (&raw const address).cast(),
                size_of::<libc::sockaddr_xdp>() as libc::socklen_t,
            )
        });
        Self { socket, frames, sending, completed }
    }

    /// Sends one frame and waits until the kernel has it.
    pub fn send(&self, frame: &[u8]) {
        assert!(frame.len() <= CHUNK);
        // SAFETY: the ring and the frames are mapped for as long as `self` lives; only this thread uses
        // them here, and the kernel has completed the frame before, so that chunk 0 is ours.
        unsafe {
            ptr::copy_nonoverlapping(frame.as_ptr(), self.frames.start, frame.len());
            let at = (*self.sending.producer).load(Ordering::Relaxed);
            let slot = self.sending.entries.cast::<libc::xdp_desc>().add((at % ENTRIES) as usize);
            slot.write(libc::xdp_desc { addr: 0, len: frame.len() as u32, options: 0 });
            (*self.sending.producer).store(at.wrapping_add(1), Ordering::Release);
        }
        let deadline = Instant::now() + Duration::from_secs(5);
        loop {
            // SAFETY: no data is passed, only the wish to send what is in the ring.
            unsafe {
                libc::sendto(self.socket.as_raw_fd(), ptr::null(), 0, libc::MSG_DONTWAIT, ptr::null(), 0)
            };
            // SAFETY: as above.
            unsafe {
                let done = (*self.completed.consumer).load(Ordering::Relaxed);
                if (*self.completed.producer).load(Ordering::Acquire) != done {
                    (*self.completed.consumer).store(done.wrapping_add(1), Ordering::Release);
                    return;
                }
            }
            assert!(Instant::now() < deadline, "the kernel does not send");
        }
    }
}

fn ring(socket: &OwnedFd, at: &libc::xdp_ring_offset, entry: usize, place: libc::off_t) -> Ring {
    let length = at.desc as usize + entry * ENTRIES as usize;
    let mapping = map(length, libc::MAP_SHARED | libc::MAP_POPULATE, socket.as_raw_fd(), place);
    let base = mapping.start;
    // SAFETY: the kernel says that these offsets lie inside the ring, and the mapping covers all of it.
    unsafe {
        Ring {
            producer: base.add(at.producer as usize).cast(),
            consumer: base.add(at.consumer as usize).cast(),
            entries: base.add(at.desc as usize),
            mapping,
        }
    }
}

/// Memory of this process, given back when it is dropped: a mapped ring keeps its socket, and so the namespace.
struct Mapping {
    start: *mut u8,
    length: usize,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: it was mapped with this length, and whoever owns it has no other pointer into it in use.
        unsafe { libc::munmap(self.start.cast(), self.length) };
    }
}

fn map(length: usize, flags: libc::c_int, fd: libc::c_int, offset: libc::off_t) -> Mapping {
    // SAFETY: a new mapping at a place that the kernel chooses.
    let start =
        unsafe { libc::mmap(ptr::null_mut(), length, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset) };
    assert_ne!(start, libc::MAP_FAILED, "mmap: {}", std::io::Error::last_os_error());
    Mapping { start: start.cast(), length }
}

fn set<T>(socket: &OwnedFd, option: libc::c_int, value: &T) {
    // SAFETY: the pointer and length describe `value`, which outlives the call.
    check(unsafe {
        libc::setsockopt(
            socket.as_raw_fd(),
            libc::SOL_XDP,
            option,
            ptr::from_ref(value).cast(),
            size_of::<T>() as libc::socklen_t,
        )
    });
}

fn check(result: libc::c_int) {
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
}
