//! Frames of every kind that the sensor's programs tell apart.
//!
//! **Invariant.** A router forwards them: the IPv4 header's checksum is right. Those of TCP and UDP are not, since nobody
//! on the way looks at them, and nobody is there to answer.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

pub(super) const SYN: u8 = 0x02;
pub(super) const SYN_ACK: u8 = 0x12;
pub(super) const ACK: u8 = 0x10;
pub(super) const UDP: u8 = 17;
const TCP: u8 = 6;
const DESTINATION_OPTIONS: u8 = 60;

/// Where a frame comes from and goes to.
#[derive(Clone, Copy, Debug)]
pub(super) struct Path {
    pub(super) from_mac: [u8; 6],
    pub(super) to_mac: [u8; 6],
    pub(super) from: IpAddr,
    pub(super) to: IpAddr,
    pub(super) ports: (u16, u16),
}

impl Path {
    /// Between two hosts that do not exist, for programs that are run by themselves.
    pub(super) fn example(ipv6: bool) -> Self {
        let (from, to): (IpAddr, IpAddr) = if ipv6 {
            let host = |last| Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last);
            (host(1).into(), host(2).into())
        } else {
            (Ipv4Addr::new(192, 0, 2, 1).into(), Ipv4Addr::new(192, 0, 2, 2).into())
        };
        Self { from_mac: [2, 0, 0, 0, 0, 1], to_mac: [2, 0, 0, 0, 0, 2], from, to, ports: (40_000, 443) }
    }

    /// The way of the answer.
    pub(super) const fn back(self) -> Self {
        Self {
            from_mac: self.to_mac,
            to_mac: self.from_mac,
            from: self.to,
            to: self.from,
            ports: (self.ports.1, self.ports.0),
        }
    }

    /// A segment with these flags and so many bytes, behind so many IPv6 extension headers.
    pub(super) fn tcp(self, flags: u8, bytes: usize, extensions: usize) -> Vec<u8> {
        let segment = [
            &self.ports.0.to_be_bytes()[..],
            &self.ports.1.to_be_bytes(),
            &[0, 0, 1, 0],
            // What acknowledges a SYN of this sequence number.
            &[0, 0, 1, 1],
            &[5 << 4, flags, 0xff, 0xff, 0, 0, 0, 0],
            &vec![0; bytes],
        ]
        .concat();
        let headers = (0..extensions).map(|at| {
            let next = if at + 1 == extensions { TCP } else { DESTINATION_OPTIONS };
            // An option of padding fills it to eight bytes.
            [next, 0, 1, 4, 0, 0, 0, 0]
        });
        let headers = headers.collect::<Vec<_>>().concat();
        let first = if extensions == 0 { TCP } else { DESTINATION_OPTIONS };
        self.frame(first, &[headers, segment].concat())
    }

    /// A datagram of so many bytes.
    pub(super) fn udp(self, bytes: usize) -> Vec<u8> {
        let length = u16::try_from(8 + bytes).unwrap_or(u16::MAX);
        let head = [self.ports.0, self.ports.1, length, 0].map(u16::to_be_bytes).concat();
        self.frame(UDP, &[head, vec![0; bytes]].concat())
    }

    fn frame(self, protocol: u8, body: &[u8]) -> Vec<u8> {
        let (kind, header) = match (self.from, self.to) {
            (IpAddr::V4(from), IpAddr::V4(to)) => ([0x08, 0x00], ip4(protocol, from, to, body.len())),
            (from, to) => ([0x86, 0xdd], ip6(protocol, mapped(from), mapped(to), body.len())),
        };
        [&self.to_mac[..], &self.from_mac, &kind, &header, body].concat()
    }
}

const fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

fn ip4(protocol: u8, from: Ipv4Addr, to: Ipv4Addr, bytes: usize) -> Vec<u8> {
    let length = u16::try_from(20 + bytes).unwrap_or(u16::MAX);
    let words = |address: Ipv4Addr| {
        let [a, b, c, d] = address.octets();
        [u16::from_be_bytes([a, b]), u16::from_be_bytes([c, d])]
    };
    let start = [0x4500, length, 0, 0x4000, u16::from_be_bytes([64, protocol])];
    let addresses = [words(from), words(to)].concat();
    // RFC 1071, over a header that is nothing but these words.
    let mut sum: u32 = start.iter().chain(&addresses).copied().map(u32::from).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    let bytes = |words: &[u16]| words.iter().flat_map(|word| word.to_be_bytes()).collect::<Vec<u8>>();
    [bytes(&start), vec![high, low], bytes(&addresses)].concat()
}

fn ip6(next: u8, from: Ipv6Addr, to: Ipv6Addr, bytes: usize) -> Vec<u8> {
    let [high, low] = u16::try_from(bytes).unwrap_or(u16::MAX).to_be_bytes();
    [&[0x60, 0, 0, 0, high, low, next, 64][..], &from.octets(), &to.octets()].concat()
}
