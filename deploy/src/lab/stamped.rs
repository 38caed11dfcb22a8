//! A packet socket at one place whose frames carry the kernel's stamp of their arrival: for records of what
//! arrives there, made by whoever measures.
//!
//! **Invariant.** Frames that the kernel could not keep are counted in [`StampedSocket::lost`], and stamps are on
//! the clock of [`super::now`]. Absent on purpose: reading what is in a frame.

use super::error::LabError;
use super::namespace::Namespace;
use super::ready;
use super::tap::Clock;
use super::topology::{Lab, Place, UPLINK};
use crate::sys;
use socket2::{Domain, SockFilter, Socket, Type};
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use stead_proto::time::Instant;

/// The kernel caps it silently at `net.core.rmem_max`.
const RECEIVE_BUFFER_BYTES: usize = 4 << 20;

/// The frames that pass `eth0` of a place and a filter.
pub struct StampedSocket {
    socket: Socket,
    clock: Clock,
    lost: u64,
}

impl StampedSocket {
    /// Listens at a place; `filter` is a classic BPF program over whole frames.
    ///
    /// # Errors
    /// [`LabError`] if there is no such place, or the kernel refuses the socket or the filter.
    pub fn open(lab: &Lab, place: Place, filter: &[SockFilter]) -> Result<Self, LabError> {
        let namespace: &Namespace = lab.namespace(place)?;
        let open = || -> io::Result<Socket> {
            // Protocol 0 receives nothing before the bind, which comes after the filter.
            let socket = Socket::new(Domain::PACKET, Type::RAW, None)?;
            socket.set_nonblocking(true)?;
            socket.set_recv_buffer_size(RECEIVE_BUFFER_BYTES)?;
            socket.attach_filter(filter)?;
            sys::stamp_frames(socket.as_fd())?;
            sys::bind_packet(socket.as_fd(), UPLINK)?;
            Ok(socket)
        };
        let socket = namespace.run(open)?.map_err(LabError::system("listen at a place"))?;
        ready::until_stamping(namespace)?;
        Ok(Self { socket, clock: Clock::read(), lost: 0 })
    }

    /// The next frame that waits: how many of its bytes are in `frame`, and when it arrived; `None` if none waits.
    ///
    /// # Errors
    /// [`LabError::System`] if the socket cannot be read any more.
    pub fn next(&mut self, frame: &mut [u8]) -> Result<Option<(usize, Instant)>, LabError> {
        loop {
            match sys::receive(self.socket.as_fd(), frame) {
                Ok((length, Some(stamp))) => return Ok(Some((length, self.clock.convert(stamp)))),
                Ok((_, None)) => self.lost += 1,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(None),
                // A pulled cable is told once on each packet socket.
                Err(error) if error.raw_os_error() == Some(libc::ENETDOWN) => {}
                Err(source) => return Err(LabError::system("read frames")(source)),
            }
        }
    }

    /// How many frames are missing since the socket was opened.
    ///
    /// # Errors
    /// [`LabError::System`] if the kernel does not tell.
    pub fn lost(&mut self) -> Result<u64, LabError> {
        let dropped = sys::frames_dropped(self.socket.as_fd()).map_err(LabError::system("count frames"))?;
        self.lost += u64::from(dropped);
        Ok(self.lost)
    }
}

impl AsFd for StampedSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl std::fmt::Debug for StampedSocket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("StampedSocket").field("lost", &self.lost).finish_non_exhaustive()
    }
}
