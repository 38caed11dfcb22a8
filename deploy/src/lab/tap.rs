//! The wire tap: every frame with which a node answers for a watched address, as it comes out of that
//! node's cable, before the switch forwards it.
//!
//! One packet socket per port, so the port proves the sender whatever the frame says. The kernel stamps a
//! frame when the node's side hands it over; the stamps of all ports come from one clock.
//!
//! **Invariant.** A frame that was lost, by the kernel or because the record is full, is counted in
//! [`Capture::lost`]. Absent on purpose: payloads.

use super::error::LabError;
use super::filter::{self, Instruction};
use super::frame;
pub use super::frame::Answer;
use super::namespace::Namespace;
use super::ready;
use super::topology::{Lab, Place};
use crate::sys;
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};
use rustix::time::{ClockId, clock_gettime};
use socket2::{Domain, SockFilter, Socket, Type};
use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::{io, thread};
use stead_proto::time::Instant;

/// The most addresses one tap watches.
pub const ADDRESSES_MAX: usize = 8;
/// The most records one tap keeps unless told otherwise: an hour of a busy site.
pub const RECORDS_MAX: usize = 1 << 20;

const RECEIVE_BUFFER_BYTES: usize = 4 << 20;
/// A change of the distance of two clocks below this is the noise of reading them one after the other.
const CLOCK_STEP_NS: i128 = 200_000;

/// One frame that answered for a watched address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Record {
    /// When the node's side handed it over, on the clock of [`super::now`].
    pub at: Instant,
    /// Whose cable it came out of.
    pub node: u8,
    /// Which address it answered for.
    pub address: IpAddr,
    /// How.
    pub answer: Answer,
}

/// What a tap saw.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Capture {
    /// The frames, in order per node; not in order across nodes.
    pub records: Vec<Record>,
    /// How many frames are missing.
    pub lost: u64,
}

/// A running tap. It ends when dropped.
#[derive(Debug)]
pub struct Tap {
    seen: Arc<Mutex<Capture>>,
    stop: OwnedFd,
    thread: Option<thread::JoinHandle<Result<Result<(), LabError>, LabError>>>,
}

impl Tap {
    /// Starts watching these addresses at the ports of all nodes; at return every port is watched and every
    /// frame is stamped when it is sent.
    ///
    /// # Errors
    /// [`LabError`] if there are too many addresses or the kernel refuses a packet socket.
    pub fn start(lab: &Lab, addresses: &[IpAddr], records_max: usize) -> Result<Self, LabError> {
        if addresses.is_empty() || addresses.len() > ADDRESSES_MAX {
            return Err(LabError::WatchedAddresses { asked: addresses.len(), max: ADDRESSES_MAX });
        }
        let ports = listen(lab.switch(), lab.shape().nodes, addresses)?;
        ready::until_stamping(lab.switch())?;
        // What came before that may carry the time of its reading.
        ports.iter().try_for_each(|(_, socket)| forget(socket)).map_err(LabError::system("read frames"))?;
        let seen = Arc::new(Mutex::new(Capture::default()));
        let stop = eventfd(0, EventfdFlags::CLOEXEC | EventfdFlags::NONBLOCK);
        let stop = stop.map_err(LabError::system("make an event descriptor"))?;
        let stopped = stop.try_clone().map_err(LabError::system("duplicate an event descriptor"))?;
        let watch = Watch { ports, addresses: addresses.into(), records_max, seen: Arc::clone(&seen) };
        let thread = lab.switch().start_thread("lab-tap", move || watch.until(&stopped))?;
        Ok(Self { seen, stop, thread: Some(thread) })
    }

    /// What was seen so far.
    #[must_use]
    pub fn so_far(&self) -> Capture {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Reads what is still queued, ends, and gives out everything.
    ///
    /// # Errors
    /// [`LabError`] if watching failed at some moment: the capture would prove nothing.
    pub fn stop(mut self) -> Result<Capture, LabError> {
        self.end()?;
        Ok(std::mem::take(&mut *self.seen.lock().unwrap_or_else(PoisonError::into_inner)))
    }

    fn end(&mut self) -> Result<(), LabError> {
        let Some(thread) = self.thread.take() else { return Ok(()) };
        rustix::io::write(&self.stop, &1_u64.to_ne_bytes()).map_err(LabError::system("stop the tap"))?;
        thread.join().map_err(|_| LabError::Panicked("tap"))??
    }
}

impl Drop for Tap {
    fn drop(&mut self) {
        if let Err(error) = self.end() {
            tracing::warn!(%error, "the tap ended badly");
        }
    }
}

fn listen(switch: &Namespace, nodes: u8, addresses: &[IpAddr]) -> Result<Vec<(u8, Socket)>, LabError> {
    let program: Vec<SockFilter> =
        filter::answers_for(addresses).into_iter().map(Instruction::for_socket).collect();
    let open = |node: u8| -> io::Result<(u8, Socket)> {
        // Protocol 0 receives nothing before the bind, which comes after the filter.
        let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
        socket.set_nonblocking(true)?;
        // The kernel caps it silently; what is lost in spite of it is counted.
        socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
        socket.attach_filter(&program)?;
        sys::stamp_frames(socket.as_fd())?;
        sys::bind_packet(socket.as_fd(), Place::Node(node).port())?;
        Ok((node, socket))
    };
    let sockets = switch.run(|| (0..nodes).map(open).collect::<io::Result<Vec<_>>>())?;
    sockets.map_err(LabError::system("listen at the switch's ports"))
}

fn forget(socket: &Socket) -> io::Result<()> {
    loop {
        match sys::receive(socket.as_fd(), &mut [0; 1]) {
            Ok(_) => {}
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
            Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
            Err(error) => return Err(error),
        }
    }
}

struct Watch {
    ports: Vec<(u8, Socket)>,
    addresses: Vec<IpAddr>,
    records_max: usize,
    seen: Arc<Mutex<Capture>>,
}

impl Watch {
    fn until(self, stopped: &OwnedFd) -> Result<(), LabError> {
        let mut clock = Clock::read();
        loop {
            let sockets = self.ports.iter().map(|(_, socket)| PollFd::new(socket, PollFlags::IN));
            let mut ready: Vec<PollFd<'_>> = sockets.chain([PollFd::new(stopped, PollFlags::IN)]).collect();
            match poll(&mut ready, None) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(errno) => return Err(LabError::system("wait for frames")(errno)),
            }
            let ending = ready.last().is_some_and(|stop| !stop.revents().is_empty());
            clock.follow();
            for (node, socket) in &self.ports {
                self.drain(*node, socket, &clock).map_err(LabError::system("read frames"))?;
            }
            if ending {
                return Ok(());
            }
        }
    }

    fn drain(&self, node: u8, socket: &Socket, clock: &Clock) -> io::Result<()> {
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        seen.lost += u64::from(sys::frames_dropped(socket.as_fd())?);
        let mut buffer = [0; 512];
        loop {
            let (length, stamp) = match sys::receive(socket.as_fd(), &mut buffer) {
                Ok(received) => received,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(()),
                // A pulled cable is told once on each packet socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => continue,
                Err(error) => return Err(error),
            };
            let told = frame::answer(buffer.get(..length).unwrap_or_default(), &self.addresses);
            match (told, stamp) {
                (Some((address, answer)), Some(stamp)) if seen.records.len() < self.records_max => {
                    seen.records.push(Record { at: clock.convert(stamp), node, address, answer });
                }
                _ => seen.lost += 1,
            }
        }
    }
}

/// Carries the kernel's stamps (`CLOCK_REALTIME`) over to `CLOCK_BOOTTIME`. Both run at the same rate, also
/// under adjustment (adjtimex(2)); only a step changes their distance.
pub(super) struct Clock {
    boot_minus_real_ns: i128,
}

impl Clock {
    pub(super) fn read() -> Self {
        // The reading that took the shortest is the one that was not interrupted.
        let readings = (0..16).map(|_| Self::read_once());
        let best = readings.min_by_key(|(took, _)| *took).map_or(0, |(_, distance)| distance);
        Self { boot_minus_real_ns: best }
    }

    fn read_once() -> (u64, i128) {
        let read = |clock| super::nanoseconds(clock_gettime(clock));
        let (before, boot, after) =
            (read(ClockId::Realtime), read(ClockId::Boottime), read(ClockId::Realtime));
        (after.saturating_sub(before), i128::from(boot) - i128::from(before))
    }

    /// Takes over a step of the wall clock; what is below a step is the noise of reading.
    fn follow(&mut self) {
        let (took, distance) = Self::read_once();
        let stepped = (distance - self.boot_minus_real_ns).abs() > CLOCK_STEP_NS;
        if stepped && i128::from(took) < CLOCK_STEP_NS {
            *self = Self::read();
        }
    }

    pub(super) fn convert(&self, real_ns: u64) -> Instant {
        let boot = i128::from(real_ns) + self.boot_minus_real_ns;
        Instant::from_ns(u64::try_from(boot.max(0)).unwrap_or(u64::MAX))
    }
}
