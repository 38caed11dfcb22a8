//! Listening sockets, also on addresses that are not there yet.

use std::io;
use std::net::SocketAddr;

use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::TcpListener;

/// Connections that wait to be accepted; beyond it the kernel answers with SYN cookies or not at all.
const BACKLOG: i32 = 1_024;

/// Listens on `at`, whether the address is on this node already or not (`IP_FREEBIND`, `ip(7)`).
pub(super) fn listen(at: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(at), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    // Connections that linger after we are gone must not keep the application from binding.
    socket.set_reuse_address(true)?;
    if at.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_only_v6(true)?;
        socket.set_freebind_v6(true)?;
    }
    socket.bind(&at.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}
