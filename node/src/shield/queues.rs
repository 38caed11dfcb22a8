//! How full the accept queues of the endpoint's ports are: the connections that wait for the application.
//!
//! A full queue of a calm network is a slow application; a flood does not fill it, because what floods never
//! completes a handshake.
//!
//! **Invariant.** Reading changes nothing and walks listeners only, so that it may be done every second.

use super::diag::{Diag, DiagError};

/// The accept queue of one listening socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Queue {
    /// The port; workers of one service may each have a listener and so a queue of their own.
    pub port: u16,
    /// Connections that wait to be accepted.
    pub used: u32,
    /// How many may: `listen`'s backlog, cut to `net.core.somaxconn`. The kernel takes one more.
    pub max: u32,
}

/// The queues of these ports, in the order of the ports; a port without a listener has none.
///
/// # Errors
/// [`DiagError`] if the kernel does not tell.
pub fn queues(ports: &[u16]) -> Result<Vec<Queue>, DiagError> {
    let mut diag = Diag::open()?;
    let mut queues = Vec::new();
    for port in ports {
        let listeners = diag.listeners(*port)?;
        queues.extend(listeners.iter().map(|entry| Queue {
            port: *port,
            used: entry.queue.0,
            max: entry.queue.1,
        }));
    }
    Ok(queues)
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Socket, Type};
    use std::net::TcpStream;

    #[test]
    fn connections_that_nobody_accepts_are_counted_against_the_backlog() {
        let listener = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        listener.bind(&"127.0.0.1:0".parse::<std::net::SocketAddr>().unwrap().into()).unwrap();
        listener.listen(8).unwrap();
        let to = listener.local_addr().unwrap().as_socket().unwrap();
        let waiting: Vec<_> = (0..5).map(|_| TcpStream::connect(to).unwrap()).collect();
        assert_eq!(queues(&[to.port()]).unwrap(), [Queue { port: to.port(), used: 5, max: 8 }]);
        drop((waiting, listener));
        assert_eq!(queues(&[to.port()]).unwrap(), []);
    }
}
