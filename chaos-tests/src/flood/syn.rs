//! SYNs as bytes: made by hand for the flooder, recognised by the victim.
//!
//! **Invariant.** A packet made here has right checksums: a listener would answer it. Deliberately absent: IPv6
//! (`node/tests/telemetry.rs` and `--bin sensors` show that the sensors treat both alike).

use std::net::{Ipv4Addr, SocketAddrV4};

use socket2::SockFilter;
use stead_deploy::lab::Place;

const ETHERTYPE_IP4: [u8; 2] = [0x08, 0x00];
const PROTOCOL_TCP: u8 = 6;
const FLAGS_SYN: u8 = 2;
/// How much of a frame the victim takes: up to the end of a TCP header.
const TAKEN_BYTES: u32 = 64;

/// An IPv4 packet with a SYN and a payload, which only TCP Fast Open has a use for.
pub(super) fn packet(from: SocketAddrV4, to: SocketAddrV4, sequence: u32, payload: &[u8]) -> Vec<u8> {
    let words = 5_u8;
    let mut tcp = [
        &from.port().to_be_bytes()[..],
        &to.port().to_be_bytes(),
        &sequence.to_be_bytes(),
        &[0; 4],
        &[words << 4, FLAGS_SYN, 0xff, 0xff],
        &[0; 4],
        payload,
    ]
    .concat();
    let length = u16::try_from(tcp.len()).expect("a payload fits a packet");
    let addresses = [from.ip().octets(), to.ip().octets()].concat();
    let sum = checksum(&[&addresses[..], &[0, PROTOCOL_TCP], &length.to_be_bytes(), &tcp].concat());
    put(&mut tcp, 16, sum);
    let whole = (length + 20).to_be_bytes();
    let mut header = [&[0x45, 0], &whole[..], &[0, 0, 0x40, 0, 64, PROTOCOL_TCP, 0, 0], &addresses].concat();
    let sum = checksum(&header);
    put(&mut header, 10, sum);
    [header, tcp].concat()
}

/// The same as a frame from one place of the lab to another.
pub(super) fn frame(from: [u8; 6], to: [u8; 6], packet: &[u8]) -> Vec<u8> {
    [&to[..], &from, &ETHERTYPE_IP4, packet].concat()
}

/// The MAC address of who has this address in the lab: the last byte is the place.
pub(super) const fn mac_of(address: Ipv4Addr) -> [u8; 6] {
    let [_, _, _, host] = address.octets();
    let [a, b, c, d, e, _] = Place::Visitor.mac();
    [a, b, c, d, e, host]
}

/// The sum of RFC 1071 over whole words.
fn checksum(bytes: &[u8]) -> [u8; 2] {
    let words = bytes.chunks(2).map(|pair| match pair {
        [high, low] => u32::from(u16::from_be_bytes([*high, *low])),
        _ => 0,
    });
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    let [_, _, high, low] = (!sum).to_be_bytes();
    [high, low]
}

fn put(bytes: &mut [u8], at: usize, value: [u8; 2]) {
    if let Some(place) = bytes.get_mut(at..at + 2) {
        place.copy_from_slice(&value);
    }
}

/// Takes SYNs without ACK over IPv4 to one of these ports (Documentation/networking/filter.rst).
pub(super) fn filter(ports: &[u16]) -> Vec<SockFilter> {
    let load = |size: u16, offset| SockFilter::new(0x20 | size, 0, 0, offset);
    let (half, byte) = (0x08_u16, 0x10_u16);
    // Every jump goes to the last instruction, which refuses, but the ones from the ports, which go before it.
    let count = u8::try_from(ports.len()).expect("a victim has a few ports");
    let mut program = Vec::new();
    let mut unless = |size, offset, value: u32, rest: u8| {
        program.push(load(size, offset));
        program.push(SockFilter::new(0x15, 0, rest + count, value));
    };
    unless(half, 12, u32::from(u16::from_be_bytes(ETHERTYPE_IP4)), 5);
    unless(byte, 14 + 9, u32::from(PROTOCOL_TCP), 3);
    unless(byte, 14 + 20 + 13, u32::from(FLAGS_SYN), 1);
    program.push(load(half, 14 + 20 + 2));
    for (at, port) in (0_u8..).zip(ports) {
        program.push(SockFilter::new(0x15, count - at, 0, u32::from(*port)));
    }
    program.push(SockFilter::new(0x06, 0, 0, 0));
    program.push(SockFilter::new(0x06, 0, 0, TAKEN_BYTES));
    program
}

/// Who sent a frame that [`filter`] took, and to which port.
pub(super) fn sender(frame: &[u8]) -> Option<(Ipv4Addr, u16)> {
    let from: [u8; 4] = *frame.get(26..)?.first_chunk()?;
    let port: [u8; 2] = *frame.get(36..)?.first_chunk()?;
    Some((from.into(), u16::from_be_bytes(port)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_sums_up_to_nothing_and_tells_its_sender() {
        let from = "10.83.0.11:4711".parse().expect("an address");
        let to = "10.83.0.13:7".parse().expect("an address");
        let packet = packet(from, to, 0xdead_beef, &[7; 10]);
        let (header, tcp) = packet.split_at(20);
        assert_eq!((checksum(header), usize::from(header[3])), ([0, 0], packet.len()));
        let pseudo = [&header[12..], &[0, 6, 0, 30], tcp].concat();
        assert_eq!(checksum(&pseudo), [0, 0]);
        let frame = frame(mac_of(*from.ip()), mac_of(*to.ip()), &packet);
        assert_eq!(sender(&frame), Some((*from.ip(), 7)));
        assert_eq!(mac_of("10.83.0.11".parse().expect("an address")), Place::Node(1).mac());
    }
}
