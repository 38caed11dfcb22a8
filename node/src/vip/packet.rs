//! A packet socket on one interface: whole Ethernet frames, past the kernel's protocol stack.
//!
//! **Invariant.** It never blocks, and it hears at most one ethertype.

use crate::sys::packet_address;
use crate::vip::frame::Mac;
use crate::vip::rtnl::Link;
use rustix::io::Errno;
use socket2::{Domain, Protocol, Socket, Type};
use std::io;

/// What cannot be said or heard on the wire.
#[derive(Debug, thiserror::Error)]
pub enum PacketError {
    /// `CAP_NET_RAW` is missing.
    #[error(
        "not permitted: without CAP_NET_RAW this node can neither announce nor probe an address, and its \
         neighbours keep sending to the old holder until their caches expire; run the agent as root or give \
         its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
    )]
    NotPermitted,
    /// The interface has no Ethernet neighbours.
    #[error(
        "{0} is not an Ethernet interface: nothing to announce, nobody to ask; use another endpoint driver there"
    )]
    NotEthernet(String),
    /// The interface is gone or down.
    #[error("{name} is gone or down: nobody hears us there until it is back; check `ip link`")]
    Down {
        /// The interface.
        name: String,
    },
    /// Anything else the kernel said.
    #[error("packet socket on {name}: {source}")]
    Kernel {
        /// The interface.
        name: String,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// An open packet socket.
#[derive(Debug)]
pub(super) struct PacketSocket {
    pub(super) socket: Socket,
    pub(super) mac: Mac,
    name: String,
}

impl PacketSocket {
    /// Opens a socket that hears `ethertype`, or nothing if that is 0.
    pub(super) fn open(link: &Link, ethertype: u16) -> Result<Self, PacketError> {
        if !link.ethernet {
            return Err(PacketError::NotEthernet(link.name.clone()));
        }
        let opened = || -> io::Result<Socket> {
            // Protocol 0 until it is bound, so that nothing of another interface is heard meanwhile.
            let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
            socket.set_nonblocking(true)?;
            socket.bind(&packet_address(link.ifindex, ethertype))?;
            Ok(socket)
        };
        let socket = opened().map_err(|source| explain(&link.name, source))?;
        Ok(Self { socket, mac: link.mac, name: link.name.clone() })
    }

    pub(super) fn send(&self, frame: &[u8]) -> Result<(), PacketError> {
        self.socket.send(frame).map(drop).map_err(|source| self.explain(source))
    }

    pub(super) fn explain(&self, source: io::Error) -> PacketError {
        explain(&self.name, source)
    }
}

fn explain(name: &str, source: io::Error) -> PacketError {
    let is = |errno: Errno| source.raw_os_error() == Some(errno.raw_os_error());
    let name = name.to_owned();
    if is(Errno::PERM) || is(Errno::ACCESS) {
        PacketError::NotPermitted
    } else if is(Errno::NETDOWN) || is(Errno::NODEV) || is(Errno::NXIO) {
        PacketError::Down { name }
    } else {
        PacketError::Kernel { name, source }
    }
}
