//! One open route netlink socket: a request, its answer, nothing in between.
//!
//! The kernel does the work of a request inside `sendto` and has queued the answer when that returns, so a
//! call takes one round trip (some 20 µs) and never waits for another task. That is why it is synchronous
//! and does without a connection task.
//!
//! **Invariant.** A socket has one request under way; answers to another sequence number are passed over.
#![expect(clippy::wildcard_enum_match_arm, reason = "netlink's enums are foreign and open-ended")]

use netlink_packet_route::{
    AddressFamily, RouteNetlinkMessage,
    address::{AddressAttribute, AddressMessage},
    link::{LinkAttribute, LinkFlags, LinkLayerType, LinkMessage},
};
use rtnetlink::{
    packet_core::{
        NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_REPLACE, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage,
        NetlinkPayload,
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};
use rustix::io::Errno;
use std::{io, net::IpAddr, os::fd::AsFd as _, time::Duration};

/// An answer of the kernel is there at once; this only bounds the case that it never comes.
const ANSWER_WAIT: Duration = Duration::from_secs(1);
/// What the kernel puts into one part of a dump, at most.
const DATAGRAM_BYTES_MAX: usize = 64 * 1024;
/// Interfaces and addresses read in one dump; a host with more of them is not a server of ours.
const DUMP_MAX: usize = 65_536;

/// Why a netlink request failed, and what to do about it.
#[derive(Debug, thiserror::Error)]
pub enum RtnlError {
    /// `CAP_NET_ADMIN` is missing.
    #[error(
        "not permitted: without CAP_NET_ADMIN this node can hold no `vip` endpoint; \
         run the agent as root or give its unit AmbientCapabilities=CAP_NET_ADMIN CAP_NET_RAW"
    )]
    NotPermitted,
    /// The interface does not exist (any more).
    #[error(
        "there is no such interface: this node can hold no endpoint on it; check `ip link` and the node's uplink setting"
    )]
    NoInterface,
    /// IPv6 is off on this interface.
    #[error(
        "IPv6 is disabled there: this node can hold no IPv6 endpoint; set net.ipv6.conf.<interface>.disable_ipv6=0"
    )]
    NoIpv6,
    /// Anything else the kernel said.
    #[error("netlink {doing}: {source}")]
    Kernel {
        /// What was asked for.
        doing: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
}

/// What matters about an interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// Its index.
    pub ifindex: u32,
    /// Its name.
    pub name: String,
    /// Its hardware address, zero if it has none of six bytes.
    pub mac: [u8; 6],
    /// Whether its frames have an Ethernet header.
    pub ethernet: bool,
    /// Whether it is up and has a carrier.
    pub running: bool,
}

/// An open connection to the kernel's tables of interfaces and addresses.
#[derive(Debug)]
pub struct Rtnl {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Rtnl {
    /// Opens a socket in this thread's network namespace, where it then stays.
    ///
    /// # Errors
    /// [`RtnlError::Kernel`] if the kernel has no netlink, or no descriptor is left.
    pub fn open() -> Result<Self, RtnlError> {
        let failed = |source| RtnlError::Kernel { doing: "socket", source };
        let mut socket = Socket::new(NETLINK_ROUTE).map_err(failed)?;
        socket.bind_auto().map_err(failed)?;
        socket.connect(&SocketAddr::new(0, 0)).map_err(failed)?;
        rustix::net::sockopt::set_socket_timeout(
            socket.as_fd(),
            rustix::net::sockopt::Timeout::Recv,
            Some(ANSWER_WAIT),
        )
        .map_err(|error| failed(error.into()))?;
        Ok(Self { socket, sequence: 0, buffer: Vec::with_capacity(DATAGRAM_BYTES_MAX) })
    }

    /// One interface.
    ///
    /// # Errors
    /// [`RtnlError::NoInterface`] if there is none of that index.
    pub fn link(&mut self, ifindex: u32) -> Result<Link, RtnlError> {
        let mut ask = LinkMessage::default();
        ask.header.index = ifindex;
        let answers = self.request("get link", RouteNetlinkMessage::GetLink(ask), 0)?;
        let found = answers.into_iter().find_map(|answer| match answer {
            RouteNetlinkMessage::NewLink(link) => Some(Link::from(&link)),
            _ => None,
        });
        found.ok_or(RtnlError::NoInterface)
    }

    /// All interfaces.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn links(&mut self) -> Result<Vec<Link>, RtnlError> {
        let ask = RouteNetlinkMessage::GetLink(LinkMessage::default());
        let answers = self.request("list interfaces", ask, NLM_F_DUMP)?;
        Ok(answers
            .iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewLink(link) => Some(Link::from(link)),
                _ => None,
            })
            .collect())
    }

    /// All addresses of one family on all interfaces, or of both families.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn addresses(&mut self, family: AddressFamily) -> Result<Vec<AddressMessage>, RtnlError> {
        let mut ask = AddressMessage::default();
        ask.header.family = family;
        let answers = self.request("list addresses", RouteNetlinkMessage::GetAddress(ask), NLM_F_DUMP)?;
        Ok(answers
            .into_iter()
            .filter_map(|answer| match answer {
                RouteNetlinkMessage::NewAddress(address) => Some(address),
                _ => None,
            })
            .collect())
    }

    /// Adds an address, or gives an existing one the lifetimes and flags of `message`.
    ///
    /// # Errors
    /// What the kernel said.
    pub fn put_address(&mut self, message: AddressMessage) -> Result<(), RtnlError> {
        let flags = NLM_F_ACK | NLM_F_CREATE | NLM_F_REPLACE;
        self.request("add address", RouteNetlinkMessage::NewAddress(message), flags).map(drop)
    }

    /// Removes an address; says whether it was there.
    ///
    /// # Errors
    /// What the kernel said, other than that the address is not there.
    pub fn remove_address(&mut self, address: IpAddr, ifindex: u32) -> Result<bool, RtnlError> {
        let mut message = AddressMessage::default();
        message.header.family = family(address);
        message.header.prefix_len = if address.is_ipv4() { 32 } else { 128 };
        message.header.index = ifindex;
        message.attributes.push(AddressAttribute::Local(address));
        message.attributes.push(AddressAttribute::Address(address));
        match self.request("remove address", RouteNetlinkMessage::DelAddress(message), NLM_F_ACK) {
            Ok(_) => Ok(true),
            Err(RtnlError::Kernel { source, .. }) if is(&source, Errno::ADDRNOTAVAIL) => Ok(false),
            // With its interface, the address is gone too.
            Err(RtnlError::NoInterface) => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn request(
        &mut self,
        doing: &'static str,
        message: RouteNetlinkMessage,
        flags: u16,
    ) -> Result<Vec<RouteNetlinkMessage>, RtnlError> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | flags;
        header.sequence_number = self.sequence;
        let mut request = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(message));
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let answers = self.socket.send(&bytes, 0).and_then(|_| self.answers(flags != 0));
        answers.map_err(|source| explain(doing, source))
    }

    /// Reads until the acknowledgement or the end of the dump; without either, the first answer is all.
    fn answers(&mut self, until_end: bool) -> io::Result<Vec<RouteNetlinkMessage>> {
        let mut answers = Vec::new();
        loop {
            self.buffer.clear();
            self.socket.recv(&mut self.buffer, 0)?;
            for message in datagram(&self.buffer) {
                let (header, payload) = message?.into_parts();
                if header.sequence_number != self.sequence {
                    continue;
                }
                match payload {
                    NetlinkPayload::InnerMessage(answer) if answers.len() < DUMP_MAX => answers.push(answer),
                    NetlinkPayload::Error(error) if error.code.is_some() => return Err(error.to_io()),
                    NetlinkPayload::Overrun(_) => return Err(Errno::NOBUFS.into()),
                    NetlinkPayload::Done(_) | NetlinkPayload::Error(_) => return Ok(answers),
                    _ => {}
                }
                if !until_end {
                    return Ok(answers);
                }
            }
        }
    }
}

/// The messages of one datagram.
pub(super) fn datagram(
    bytes: &[u8],
) -> impl Iterator<Item = io::Result<NetlinkMessage<RouteNetlinkMessage>>> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let parsed = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest);
        let length = rest.first_chunk().map_or(0, |length| u32::from_ne_bytes(*length));
        let length = usize::try_from(length).unwrap_or(0).next_multiple_of(4);
        rest = if length == 0 { &[] } else { rest.get(length..).unwrap_or(&[]) };
        Some(parsed.map_err(io::Error::other))
    })
}

impl From<&LinkMessage> for Link {
    fn from(message: &LinkMessage) -> Self {
        let up = LinkFlags::Up | LinkFlags::LowerUp;
        let mut link = Self {
            ifindex: message.header.index,
            name: String::new(),
            mac: [0; 6],
            ethernet: message.header.link_layer_type == LinkLayerType::Ether,
            running: message.header.flags.contains(up),
        };
        for attribute in &message.attributes {
            match attribute {
                LinkAttribute::IfName(name) => link.name.clone_from(name),
                LinkAttribute::Address(mac) => link.mac = mac.as_slice().try_into().unwrap_or_default(),
                _ => {}
            }
        }
        link
    }
}

/// The address family of an address.
pub(super) const fn family(address: IpAddr) -> AddressFamily {
    match address {
        IpAddr::V4(_) => AddressFamily::Inet,
        IpAddr::V6(_) => AddressFamily::Inet6,
    }
}

fn explain(doing: &'static str, source: io::Error) -> RtnlError {
    if is(&source, Errno::PERM) {
        RtnlError::NotPermitted
    } else if is(&source, Errno::NODEV) {
        RtnlError::NoInterface
    } else if doing == "add address" && is(&source, Errno::ACCESS) {
        RtnlError::NoIpv6
    } else {
        RtnlError::Kernel { doing, source }
    }
}

fn is(error: &io::Error, errno: Errno) -> bool {
    error.raw_os_error() == Some(errno.raw_os_error())
}
