//! The kernel's TCP sockets, asked over netlink (`sock_diag(7)`): no process, no text, one port at a time.
//!
//! **Invariant.** Every wait for the kernel has a deadline, and no dump grows beyond [`SOCKETS_MAX`]: what was cut
//! off is an error, never a shorter list.

use rtnetlink::sys::{Socket, SocketAddr as NetlinkAddr, protocols::NETLINK_SOCK_DIAG};
use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    os::fd::AsFd as _,
    time::{Duration, Instant},
};

/// Sockets of one port that are looked at.
pub(super) const SOCKETS_MAX: usize = 1 << 18;
/// For one answer of the kernel; it has it at once.
const ANSWER_WAIT: Duration = Duration::from_millis(500);
/// For one dump.
const DUMP_WAIT: Duration = Duration::from_secs(2);
const ANSWER_BYTES_MAX: usize = 64 * 1024;

/// Numbers of `linux/netlink.h`, `linux/sock_diag.h`, `linux/inet_diag.h` and `net/tcp_states.h`.
const SOCK_DIAG_BY_FAMILY: u16 = 20;
const NLM_F_REQUEST_DUMP: u16 = 0x301;
const NLM_F_DUMP_INTR: u16 = 0x10;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const HEADER_BYTES: usize = 16;
const MESSAGE_BYTES: usize = 72;
const AF_INET: u8 = 2;
const AF_INET6: u8 = 10;
const IPPROTO_TCP: u8 = 6;
const WANT_INFO: u8 = 1 << 1;
const INET_DIAG_INFO: u16 = 2;
const TIME_WAIT: u32 = 1 << 6;
const CLOSE: u32 = 1 << 7;
const LISTEN: u32 = 1 << 10;
const BOUND_INACTIVE: u32 = 1 << 13;
const ALL: u32 = (1 << 14) - 1;
/// Bits of `tcpi_options`.
const OPTION_TIMESTAMPS: u8 = 1;
const OPTION_SACK: u8 = 2;
const OPTION_WSCALE: u8 = 4;

/// The kernel did not say which sockets it has.
#[derive(Debug, thiserror::Error)]
pub enum DiagError {
    /// No socket, or no answer.
    #[error("the kernel does not list its TCP sockets ({0}); this needs inet_diag (modprobe tcp_diag)")]
    Kernel(#[from] io::Error),
    /// The list kept changing, or did not end in time.
    #[error("the kernel's list of TCP sockets did not end in {}s; try again when there is less load", DUMP_WAIT.as_secs())]
    Slow,
    /// More than can be looked at.
    #[error("port {0} has more than {SOCKETS_MAX} connections")]
    Many(u16),
}

/// One connection, seen from here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Flow {
    /// The visitor.
    pub remote: SocketAddr,
    /// The address and port that it came to.
    pub local: SocketAddr,
}

/// What a connection's own socket offered in its SYN-ACK.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Offered {
    pub(super) timestamps: bool,
    pub(super) sack: bool,
    /// The shift of our window; `None` if the visitor did not want any.
    pub(super) wscale: Option<u8>,
}

/// One socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Entry {
    pub(super) flow: Flow,
    /// Of a listener: connections that wait for the application, and how many may.
    pub(super) queue: (u32, u32),
    pub(super) offered: Option<Offered>,
}

/// An open socket to the kernel, in the network namespace of the thread that opened it.
#[derive(Debug)]
pub(super) struct Diag {
    socket: Socket,
    sequence: u32,
}

impl Diag {
    pub(super) fn open() -> Result<Self, DiagError> {
        let mut socket = Socket::new(NETLINK_SOCK_DIAG)?;
        socket.bind_auto()?;
        socket.connect(&NetlinkAddr::new(0, 0))?;
        let wait = rustix::net::sockopt::Timeout::Recv;
        rustix::net::sockopt::set_socket_timeout(socket.as_fd(), wait, Some(ANSWER_WAIT))
            .map_err(io::Error::from)?;
        Ok(Self { socket, sequence: 0 })
    }

    /// The listeners of a port.
    pub(super) fn listeners(&mut self, port: u16) -> Result<Vec<Entry>, DiagError> {
        self.both_families(port, LISTEN, 0)
    }

    /// The connections of a port, also half-open and half-closed ones, without those in `TIME_WAIT`.
    pub(super) fn connections(&mut self, port: u16) -> Result<Vec<Entry>, DiagError> {
        let states = ALL & !(LISTEN | CLOSE | TIME_WAIT | BOUND_INACTIVE);
        self.both_families(port, states, WANT_INFO)
    }

    fn both_families(&mut self, port: u16, states: u32, extensions: u8) -> Result<Vec<Entry>, DiagError> {
        let mut found = Vec::new();
        for family in [AF_INET, AF_INET6] {
            self.dump(family, port, states, extensions, &mut found)?;
        }
        Ok(found)
    }

    /// Appends what one family has.
    fn dump(
        &mut self,
        family: u8,
        port: u16,
        states: u32,
        extensions: u8,
        found: &mut Vec<Entry>,
    ) -> Result<(), DiagError> {
        self.sequence = self.sequence.wrapping_add(1);
        self.socket.send(&request(self.sequence, family, port, states, extensions), 0)?;
        let end = Instant::now() + DUMP_WAIT;
        let mut answer = Vec::with_capacity(ANSWER_BYTES_MAX);
        loop {
            if Instant::now() > end {
                return Err(DiagError::Slow);
            }
            answer.clear();
            self.socket.recv(&mut answer, 0)?;
            for message in Messages(&answer) {
                // What an earlier dump was answered after its deadline.
                if number(message, 8) != Some(self.sequence) {
                    continue;
                }
                if half(message, 6).unwrap_or(0) & NLM_F_DUMP_INTR != 0 {
                    return Err(DiagError::Slow);
                }
                match half(message, 4) {
                    Some(NLMSG_DONE) => return Ok(()),
                    Some(NLMSG_ERROR) => {
                        let code = number(message, HEADER_BYTES).map_or(0, u32::cast_signed);
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()).into());
                    }
                    _ => found.extend(entry(message)),
                }
                if found.len() > SOCKETS_MAX {
                    // What the kernel still sends belongs to an old sequence number.
                    return Err(DiagError::Many(port));
                }
            }
        }
    }
}

/// `struct inet_diag_req_v2`: every socket of a family whose local port is this one.
fn request(sequence: u32, family: u8, port: u16, states: u32, extensions: u8) -> Vec<u8> {
    const ID_BYTES_AFTER_PORT: usize = 46;
    let body = [
        &[family, IPPROTO_TCP, extensions, 0][..],
        &states.to_ne_bytes(),
        &port.to_be_bytes(),
        &[0; ID_BYTES_AFTER_PORT],
    ]
    .concat();
    let length = u32::try_from(HEADER_BYTES + body.len()).expect("a request has 72 bytes");
    [
        &length.to_ne_bytes()[..],
        &SOCK_DIAG_BY_FAMILY.to_ne_bytes(),
        &NLM_F_REQUEST_DUMP.to_ne_bytes(),
        &sequence.to_ne_bytes(),
        &[0; 4],
        &body,
    ]
    .concat()
}

/// The netlink messages of one datagram.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let length = usize::try_from(number(self.0, 0)?).ok()?;
        let message = self.0.get(..length).filter(|message| message.len() >= HEADER_BYTES)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    }
}

/// `struct inet_diag_msg`, and the attributes behind it.
fn entry(message: &[u8]) -> Option<Entry> {
    let body = message.get(HEADER_BYTES..)?;
    let (fixed, attributes) = body.split_at_checked(MESSAGE_BYTES)?;
    let family = *fixed.first()?;
    let port = |at: usize| fixed.get(at..)?.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
    let address = |at: usize| address(family, fixed.get(at..)?);
    let flow = Flow {
        local: SocketAddr::new(address(8)?, port(4)?),
        remote: SocketAddr::new(address(24)?, port(6)?),
    };
    let queue = (number(fixed, 56)?, number(fixed, 60)?);
    Some(Entry { flow, queue, offered: find(attributes, INET_DIAG_INFO).and_then(offered) })
}

/// An address in the form in which its packets carry it.
fn address(family: u8, bytes: &[u8]) -> Option<IpAddr> {
    if family == AF_INET {
        return Some(Ipv4Addr::from(*bytes.first_chunk::<4>()?).into());
    }
    Some(IpAddr::V6(Ipv6Addr::from(*bytes.first_chunk::<16>()?)).to_canonical())
}

/// The options of `struct tcp_info`; nothing of a socket whose handshake is not done.
fn offered(info: &[u8]) -> Option<Offered> {
    const SYN_SENT: u8 = 2;
    const SYN_RECV: u8 = 3;
    let (state, options, scales) = (*info.first()?, *info.get(5)?, *info.get(6)?);
    if state == SYN_SENT || state == SYN_RECV {
        return None;
    }
    // Two bit fields of four bits: theirs, then ours.
    let ours = if cfg!(target_endian = "little") { scales >> 4 } else { scales & 0xf };
    Some(Offered {
        timestamps: options & OPTION_TIMESTAMPS != 0,
        sack: options & OPTION_SACK != 0,
        wscale: (options & OPTION_WSCALE != 0).then_some(ours),
    })
}

/// The value of the first attribute of a kind.
fn find(mut attributes: &[u8], wanted: u16) -> Option<&[u8]> {
    loop {
        let length = usize::from(half(attributes, 0)?);
        if half(attributes, 2)? == wanted {
            return attributes.get(4..length);
        }
        attributes = attributes.get(length.max(4).next_multiple_of(4)..)?;
    }
}

fn number(bytes: &[u8], at: usize) -> Option<u32> {
    bytes.get(at..)?.first_chunk().map(|bytes| u32::from_ne_bytes(*bytes))
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    bytes.get(at..)?.first_chunk().map(|bytes| u16::from_ne_bytes(*bytes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn a_request_is_as_long_as_it_says() {
        let request = request(7, AF_INET, 443, LISTEN, WANT_INFO);
        assert_eq!((request.len(), number(&request, 0), number(&request, 8)), (72, Some(72), Some(7)));
        assert_eq!(request[24..26], 443u16.to_be_bytes());
    }

    #[test]
    fn an_answer_that_is_cut_off_anywhere_is_no_entry() {
        let mut body = vec![0; MESSAGE_BYTES];
        body[..4].copy_from_slice(&[AF_INET6, 1, 0, 0]);
        body[4..6].copy_from_slice(&443u16.to_be_bytes());
        body[6..8].copy_from_slice(&50_000u16.to_be_bytes());
        body[8..24].copy_from_slice(&Ipv4Addr::new(192, 0, 2, 1).to_ipv6_mapped().octets());
        body[24..40].copy_from_slice(&Ipv4Addr::new(198, 51, 100, 7).to_ipv6_mapped().octets());
        let ours = if cfg!(target_endian = "little") { 0x75 } else { 0x57 };
        let info = [&12u16.to_ne_bytes()[..], &INET_DIAG_INFO.to_ne_bytes(), &[1, 0, 0, 0, 0, 7, ours, 0]];
        let message = [vec![0; HEADER_BYTES], body, info.concat()].concat();
        let told = entry(&message).unwrap();
        assert_eq!(told.flow.local, "192.0.2.1:443".parse().unwrap());
        assert_eq!(told.flow.remote, "198.51.100.7:50000".parse().unwrap());
        assert_eq!(told.offered, Some(Offered { timestamps: true, sack: true, wscale: Some(7) }));
        for length in 0..HEADER_BYTES + MESSAGE_BYTES {
            assert_eq!(entry(&message[..length]), None, "{length} bytes");
        }
    }

    #[test]
    fn a_length_of_nothing_ends_the_messages_and_the_attributes() {
        assert_eq!(Messages(&[0; 64]).count(), 0);
        assert_eq!(find(&[0; 64], INET_DIAG_INFO), None);
    }

    #[test]
    fn a_connection_on_loopback_is_found_from_both_families_of_listener() {
        let mut diag = Diag::open().unwrap();
        for (listen, dial) in [("127.0.0.1:0", "127.0.0.1"), ("[::]:0", "127.0.0.1"), ("[::]:0", "::1")] {
            let listener = TcpListener::bind(listen).unwrap();
            let port = listener.local_addr().unwrap().port();
            let visitor = TcpStream::connect((dial, port)).unwrap();
            let flow = Flow {
                remote: visitor.local_addr().unwrap(),
                local: SocketAddr::new(dial.parse().unwrap(), port),
            };
            let found = diag.connections(port).unwrap();
            assert_eq!(found.iter().map(|entry| entry.flow).collect::<Vec<_>>(), [flow]);
            assert!(found[0].offered.is_some());
            let queue: Vec<_> = diag.listeners(port).unwrap().iter().map(|entry| entry.queue.0).collect();
            assert_eq!(queue, [1]);
        }
    }
}
