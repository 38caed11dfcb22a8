//! Every way to send a SYN: from an honest `connect` to a frame that goes around the queueing discipline.
#![allow(unsafe_code, unreachable_pub, clippy::as_conversions)]

use super::common::{Bench, HERE_MAC, HERE4, HERE6, PEER_MAC, PEER4, PEER6, ip};
use rustix::thread::{LinkNameSpaceType, UnshareFlags, gettid, move_into_link_name_space, unshare_unsafe};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    fs::File,
    net::{IpAddr, SocketAddr, TcpStream},
    os::fd::{AsFd as _, AsRawFd as _},
    thread,
    time::{Duration, Instant},
};
use stead_node::sys::packet_address;

/// A port on which nobody listens.
pub const CLOSED: u16 = 9;
/// Between two packets.
const PAUSE: Duration = Duration::from_micros(100);

/// A SYN made by hand.
#[derive(Clone)]
pub struct Syn {
    pub from: IpAddr,
    pub to: IpAddr,
    pub port: u16,
    pub sequence: u32,
    pub options: Vec<u8>,
    pub payload: Vec<u8>,
}

impl Syn {
    pub fn new(ipv6: bool, port: u16) -> Self {
        let (from, to) = if ipv6 {
            (IpAddr::V6(HERE6), IpAddr::V6(PEER6))
        } else {
            (IpAddr::V4(HERE4), IpAddr::V4(PEER4))
        };
        Self { from, to, port, sequence: u32::from(port) << 8, options: vec![], payload: vec![] }
    }

    /// Header, options and payload, with the right checksum: the peer answers them.
    pub fn tcp(&self) -> Vec<u8> {
        let words = 5 + u8::try_from(self.options.len() / 4).unwrap();
        let mut tcp = [
            &self.port.to_be_bytes()[..],
            &CLOSED.to_be_bytes(),
            &self.sequence.to_be_bytes(),
            &[0; 4],
            &[words << 4, 2, 0xff, 0xff, 0, 0, 0, 0],
            &self.options,
            &self.payload,
        ]
        .concat();
        let addresses = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => [from.octets(), to.octets()].concat(),
            (IpAddr::V6(from), IpAddr::V6(to)) => [from.octets(), to.octets()].concat(),
            _ => panic!("mixed families"),
        };
        let length = u16::try_from(tcp.len()).unwrap();
        let sum = checksum(&[&addresses[..], &[0, 6], &length.to_be_bytes(), &tcp].concat());
        tcp[16..18].copy_from_slice(&sum.to_be_bytes());
        tcp
    }

    /// With its IP header.
    pub fn packet(&self) -> Vec<u8> {
        ip_packet(self.from, self.to, 6, &self.tcp())
    }

    /// With its Ethernet header.
    pub fn frame(&self) -> Vec<u8> {
        ethernet(self.to, &self.packet())
    }
}

/// An IP packet of any protocol.
pub fn ip_packet(from: IpAddr, to: IpAddr, protocol: u8, body: &[u8]) -> Vec<u8> {
    match (from, to) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            let length = u16::try_from(20 + body.len()).unwrap().to_be_bytes();
            let mut header = [
                &[0x45, 0, length[0], length[1], 0, 0, 0x40, 0, 64, protocol, 0, 0][..],
                &from.octets(),
                &to.octets(),
            ]
            .concat();
            let sum = checksum(&header);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            [&header, body].concat()
        }
        (IpAddr::V6(from), IpAddr::V6(to)) => {
            let length = u16::try_from(body.len()).unwrap().to_be_bytes();
            let head = [0x60, 0, 0, 0, length[0], length[1], protocol, 64];
            [&head[..], &from.octets(), &to.octets(), body].concat()
        }
        _ => panic!("mixed families"),
    }
}

/// The frame of a packet to the peer.
pub fn ethernet(to: IpAddr, packet: &[u8]) -> Vec<u8> {
    let kind: [u8; 2] = if to.is_ipv4() { [0x08, 0x00] } else { [0x86, 0xdd] };
    [&PEER_MAC[..], &HERE_MAC, &kind, packet].concat()
}

/// The frame behind VLAN tags.
pub fn tagged(tags: &[u16], frame: &[u8]) -> Vec<u8> {
    let tags: Vec<u8> = tags.iter().flat_map(|tag| [tag.to_be_bytes(), [0, 7]].concat()).collect();
    [&frame[..12], &tags, &frame[12..]].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum = 0u32;
    for pair in bytes.chunks(2) {
        sum += u32::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap()
}

fn paced(count: u16, mut send: impl FnMut(u16)) {
    for number in 0..count {
        let next = Instant::now() + PAUSE;
        send(number);
        while Instant::now() < next {
            std::hint::spin_loop();
        }
    }
}

/// Ordinary connections to an address, one after the other.
pub fn connect(to: SocketAddr, count: u16) {
    paced(count, |_| {
        // Refused or not: the SYN was sent, and answered.
        let _ = TcpStream::connect_timeout(&to, Duration::from_secs(2));
    });
}

/// Connections that nobody answers, left waiting. They end when the sockets are dropped.
pub fn ask_in_vain(to: SocketAddr, count: u16) -> Vec<Socket> {
    let any: IpAddr = if to.is_ipv4() {
        std::net::Ipv4Addr::UNSPECIFIED.into()
    } else {
        std::net::Ipv6Addr::UNSPECIFIED.into()
    };
    ask_from(any, to, count)
}

/// The same from an address of one's choice.
pub fn ask_from(from: IpAddr, to: SocketAddr, count: u16) -> Vec<Socket> {
    let mut sockets = vec![];
    paced(count, |_| {
        let socket = Socket::new(Domain::for_address(to), Type::STREAM, None).unwrap();
        socket.set_nonblocking(true).unwrap();
        socket.bind(&SocketAddr::new(from, 0).into()).unwrap();
        let started = socket.connect(&to.into());
        assert_eq!(started.unwrap_err().raw_os_error(), Some(libc::EINPROGRESS));
        sockets.push(socket);
    });
    sockets
}

/// A raw socket that takes whole IP packets.
pub fn raw_socket(ipv6: bool) -> Socket {
    let domain = if ipv6 { Domain::IPV6 } else { Domain::IPV4 };
    Socket::new(domain, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW))).unwrap()
}

pub fn send_raw(packets: impl Fn(u16) -> (IpAddr, Vec<u8>), count: u16) {
    let socket = raw_socket(packets(0).0.is_ipv6());
    paced(count, |number| {
        let (to, packet) = packets(number);
        socket.send_to(&packet, &SocketAddr::new(to, 0).into()).unwrap();
    });
}

pub fn send_frames(ifindex: u32, bypass: bool, frames: impl Fn(u16) -> Vec<u8>, count: u16) {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>).unwrap();
    if bypass {
        let on: libc::c_int = 1;
        // SAFETY: the pointer and length describe `on`, which outlives the call.
        let result = unsafe {
            libc::setsockopt(
                socket.as_raw_fd(),
                libc::SOL_PACKET,
                libc::PACKET_QDISC_BYPASS,
                (&raw const on).cast(),
                4,
            )
        };
        assert_eq!(result, 0);
    }
    let to = packet_address(ifindex, 0);
    paced(count, |number| match socket.send_to(&frames(number), &to) {
        Ok(_) => {}
        // What tc drops a packet socket is told of.
        Err(error) => assert_eq!(error.raw_os_error(), Some(libc::ENOBUFS)),
    });
}

/// One more network namespace, which lives as long as this.
pub struct Inner(File);

impl Inner {
    /// A container's namespace behind this host, which forwards for it.
    pub fn behind(bench: &Bench) -> Self {
        let inner = Self::create();
        let (_handle, path) = inner.handle();
        ip("link add inside type veth peer name door");
        ip(&format!("link set door netns {path}"));
        ip("link set inside up");
        ip("addr add 10.78.0.1/24 dev inside");
        ip("addr add fd78::1/64 dev inside nodad");
        for name in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
            std::fs::write(format!("/proc/sys/{name}"), "1").unwrap();
        }
        inner.run(|| {
            for command in [
                "link set lo up",
                "link set door up",
                "addr add 10.78.0.2/24 dev door",
                "addr add fd78::2/64 dev door nodad",
                "route add default via 10.78.0.1",
                "-6 route add default via fd78::1",
            ] {
                ip(command);
            }
        });
        bench.at_peer(|| {
            ip("route add 10.78.0.0/24 via 10.77.0.1");
            ip("-6 route add fd78::/64 via fd77::1");
        });
        inner
    }

    /// A guest's namespace on the same wire, behind another port of the bridge `uplink`.
    pub fn beside() -> Self {
        let inner = Self::create();
        let (_handle, path) = inner.handle();
        ip("link add guest type veth peer name door");
        ip(&format!("link set door netns {path}"));
        ip("link set guest master uplink");
        ip("link set guest up");
        inner.run(|| {
            for command in ["link set lo up", "link set door up", "addr add 10.77.0.30/24 dev door"] {
                ip(command);
            }
        });
        inner
    }

    fn create() -> Self {
        let made = thread::spawn(|| {
            // SAFETY: a network namespace only; the descriptor table stays shared.
            unsafe { unshare_unsafe(UnshareFlags::NEWNET) }.unwrap();
            File::open(format!("/proc/self/task/{}/ns/net", gettid().as_raw_nonzero())).unwrap()
        });
        Self(made.join().unwrap())
    }

    /// A path by which a child process may find it.
    fn handle(&self) -> (std::os::fd::OwnedFd, String) {
        let fd = rustix::io::dup(&self.0).unwrap();
        rustix::io::fcntl_setfd(&fd, rustix::io::FdFlags::empty()).unwrap();
        let path = format!("/proc/self/fd/{}", fd.as_raw_fd());
        (fd, path)
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let inside = scope.spawn(|| {
                move_into_link_name_space(self.0.as_fd(), Some(LinkNameSpaceType::Network)).unwrap();
                work()
            });
            inside.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

/// A tap device of which this is the guest's end, as a virtual machine monitor has it.
pub fn tap_device(name: &str) -> File {
    const TUNSETIFF: libc::c_ulong = 0x4004_54ca;
    let file = File::options().read(true).write(true).open("/dev/net/tun").unwrap();
    let mut request = [0_u8; 40];
    request[..name.len()].copy_from_slice(name.as_bytes());
    let flags = u16::try_from(libc::IFF_TAP | libc::IFF_NO_PI).unwrap();
    request[16..18].copy_from_slice(&flags.to_ne_bytes());
    // SAFETY: the kernel reads and writes an ifreq of 40 bytes, which outlives the call.
    let result = unsafe { libc::ioctl(file.as_raw_fd(), TUNSETIFF, request.as_mut_ptr()) };
    assert_eq!(result, 0, "{}", std::io::Error::last_os_error());
    file
}
