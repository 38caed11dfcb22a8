//! A seat: what only one agent at a time may do in a network namespace.
//!
//! It is an abstract Unix socket (unix(7)): the kernel has one of a name in each network namespace, and takes it
//! back when its process ends, in whatever way. It needs no file and leaves none behind.
//!
//! **Invariant.** Only who could be an agent keeps an agent from its seat. Anybody may take such a name; if it is
//! neither root's nor our own user's, the seat counts as taken by us.

use crate::sys::listener_of;
use socket2::{Domain, SockAddr, Socket, Type};
use std::{fmt, io, thread, time::Duration};

/// An agent that is just ending, or whose child has not begun to be another program yet, has the seat for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_millis(10);
/// Nobody ever accepts: who asks whose seat it is stays in the queue until the seat is free.
const ASKED_MAX: i32 = 4_096;

/// As long as this lives, the seat is ours.
#[derive(Debug)]
pub(crate) struct Seat {
    /// Nothing, if somebody has the name who is no agent.
    _socket: Option<Socket>,
}

/// Another agent has the seat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Taken {
    process: Option<u32>,
}

impl fmt::Display for Taken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.process {
            Some(process) => write!(f, "another agent (process {process})"),
            None => f.write_str("another agent (in another container)"),
        }
    }
}

impl Seat {
    /// Takes a seat of this thread's network namespace. Waits for it for a moment, at most [`TRIES`] × [`PAUSE`].
    pub(crate) fn take(name: &str) -> Result<Self, Taken> {
        for _ in 1..TRIES {
            if let Some(seat) = Self::take_over(name) {
                return Ok(seat);
            }
            thread::sleep(PAUSE);
        }
        match listen(name) {
            Ok(socket) => Ok(Self { _socket: Some(socket) }),
            Err(error) => match holder(name) {
                Some(taken) => Err(taken),
                None => {
                    tracing::warn!(name, %error, "another agent would not be noticed: its name is not to be had");
                    Ok(Self { _socket: None })
                }
            },
        }
    }

    /// Takes a seat that was another agent's, if it is free now. Asks nobody.
    pub(crate) fn take_over(name: &str) -> Option<Self> {
        listen(name).ok().map(|socket| Self { _socket: Some(socket) })
    }
}

fn address(name: &str) -> io::Result<SockAddr> {
    SockAddr::unix(format!("\0{name}"))
}

fn listen(name: &str) -> io::Result<Socket> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM, None)?;
    socket.bind(&address(name)?)?;
    socket.listen(ASKED_MAX)?;
    Ok(socket)
}

/// Who listens at the name, if it may be an agent.
fn holder(name: &str) -> Option<Taken> {
    let socket = Socket::new(Domain::UNIX, Type::STREAM.nonblocking(), None).ok()?;
    socket.connect(&address(name).ok()?).ok()?;
    let (process, user) = listener_of(&socket).ok()?;
    let own = rustix::process::geteuid().as_raw();
    [0, own].contains(&user).then_some(Taken { process })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seat_is_for_one_and_free_again_when_he_goes() {
        let name = format!("stead_seat_test_{}", std::process::id());
        let first = Seat::take(&name).unwrap();
        for _ in 0..3 {
            let taken = Seat::take(&name).unwrap_err();
            assert_eq!(taken, Taken { process: Some(std::process::id()) });
        }
        assert!(Seat::take_over(&name).is_none());
        drop(first);
        assert!(Seat::take(&name).is_ok());
    }

    #[test]
    fn who_takes_the_name_and_does_not_listen_is_no_agent() {
        let name = format!("stead_seat_squatter_{}", std::process::id());
        let squatter = Socket::new(Domain::UNIX, Type::STREAM, None).unwrap();
        squatter.bind(&address(&name).unwrap()).unwrap();
        assert!(Seat::take(&name).is_ok());
    }
}
