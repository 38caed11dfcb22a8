//! Reading a frame: does it answer for a watched address, and how?
//!
//! Pure: bytes in, [`Answer`] out. Frames too short for what they claim to be answer for nothing.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// How a frame answers for an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// ARP with the address as the sender's (RFC 826).
    Arp {
        /// Whom it asks for or answers to.
        target_ip: Ipv4Addr,
        /// A reply, not a request.
        reply: bool,
        /// Sender and target address are the same: an announcement (RFC 5227).
        gratuitous: bool,
    },
    /// A neighbour advertisement for the address (RFC 4861 §4.4).
    NeighbourAdvert {
        /// Nobody asked: an announcement.
        unsolicited: bool,
    },
    /// An IP packet with the address as its source.
    Ip {
        /// Where to.
        destination: IpAddr,
        /// The IANA protocol number.
        protocol: u8,
        /// Source and destination port, of TCP and UDP.
        ports: Option<(u16, u16)>,
        /// The flags byte of a TCP header: FIN 1, SYN 2, RST 4, PSH 8, ACK 16.
        tcp_flags: Option<u8>,
    },
}

impl Answer {
    /// Whether this frame tells everybody that its sender has the address now.
    #[must_use]
    pub const fn announces(self) -> bool {
        match self {
            Self::Arp { gratuitous, .. } => gratuitous,
            Self::NeighbourAdvert { unsolicited } => unsolicited,
            Self::Ip { .. } => false,
        }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Arp { gratuitous: true, .. } => f.write_str("gratuitous ARP"),
            Self::Arp { target_ip, reply: true, .. } => write!(f, "ARP reply to {target_ip}"),
            Self::Arp { target_ip, reply: false, .. } => write!(f, "ARP request for {target_ip}"),
            Self::NeighbourAdvert { unsolicited: true } => f.write_str("unsolicited neighbour advertisement"),
            Self::NeighbourAdvert { unsolicited: false } => f.write_str("neighbour advertisement"),
            Self::Ip { destination, protocol, ports, tcp_flags } => {
                write!(f, "IP to {destination}, protocol {protocol}")?;
                if let Some((from, to)) = ports {
                    write!(f, ", port {from} to {to}")?;
                }
                tcp_flags.map_or(Ok(()), |flags| write!(f, ", TCP flags {flags:#04x}"))
            }
        }
    }
}

/// The watched address that an Ethernet frame answers for, and how; `None` if it does not.
#[must_use]
pub(crate) fn answer(frame: &[u8], watched: &[IpAddr]) -> Option<(IpAddr, Answer)> {
    let (address, answer) = match u16::from_be_bytes(bytes(frame, 12)?) {
        0x0806 => arp(frame.get(14..)?)?,
        0x0800 => ip4(frame.get(14..)?)?,
        0x86dd => ip6(frame.get(14..)?, watched)?,
        _ => return None,
    };
    watched.contains(&address).then_some((address, answer))
}

fn arp(packet: &[u8]) -> Option<(IpAddr, Answer)> {
    let (sender, target_ip) =
        (Ipv4Addr::from(bytes::<4>(packet, 14)?), Ipv4Addr::from(bytes::<4>(packet, 24)?));
    let reply = u16::from_be_bytes(bytes(packet, 6)?) == 2;
    Some((IpAddr::V4(sender), Answer::Arp { target_ip, reply, gratuitous: sender == target_ip }))
}

fn ip4(packet: &[u8]) -> Option<(IpAddr, Answer)> {
    let [first] = bytes(packet, 0)?;
    let [protocol] = bytes(packet, 9)?;
    let source = IpAddr::V4(bytes::<4>(packet, 12)?.into());
    let destination = IpAddr::V4(bytes::<4>(packet, 16)?.into());
    let first_fragment = u16::from_be_bytes(bytes(packet, 6)?).trailing_zeros() >= 13;
    let segment = packet.get(usize::from(first & 0x0f) * 4..).filter(|_| first_fragment);
    Some((source, ip(destination, protocol, segment.unwrap_or_default())))
}

fn ip6(packet: &[u8], watched: &[IpAddr]) -> Option<(IpAddr, Answer)> {
    let [protocol] = bytes(packet, 6)?;
    let source = IpAddr::V6(bytes::<16>(packet, 8)?.into());
    let destination = IpAddr::V6(bytes::<16>(packet, 24)?.into());
    let segment = packet.get(40..).unwrap_or_default();
    if let (58, Some([136]), Some(target)) = (protocol, bytes(segment, 0), bytes::<16>(segment, 8)) {
        let target = IpAddr::V6(Ipv6Addr::from(target));
        let [flags] = bytes(segment, 4)?;
        // An advertisement for another address still answers for its own source.
        if watched.contains(&target) {
            return Some((target, Answer::NeighbourAdvert { unsolicited: flags & 0x40 == 0 }));
        }
    }
    Some((source, ip(destination, protocol, segment)))
}

fn ip(destination: IpAddr, protocol: u8, segment: &[u8]) -> Answer {
    let ports = match protocol {
        6 | 17 => bytes(segment, 0)
            .zip(bytes(segment, 2))
            .map(|(from, to)| (u16::from_be_bytes(from), u16::from_be_bytes(to))),
        _ => None,
    };
    let tcp_flags = if protocol == 6 { bytes(segment, 13).map(|[flags]| flags) } else { None };
    Answer::Ip { destination, protocol, ports, tcp_flags }
}

fn bytes<const N: usize>(from: &[u8], at: usize) -> Option<[u8; N]> {
    from.get(at..)?.first_chunk().copied()
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) const VIP4: Ipv4Addr = Ipv4Addr::new(10, 83, 0, 100);
    pub(crate) const OTHER4: Ipv4Addr = Ipv4Addr::new(10, 83, 0, 200);

    pub(crate) fn vip6() -> Ipv6Addr {
        "fd83::100".parse().unwrap()
    }

    fn ethernet(kind: u16, payload: &[&[u8]]) -> Vec<u8> {
        let mut frame = vec![2; 12];
        frame.extend(kind.to_be_bytes());
        frame.extend(payload.concat());
        frame
    }

    pub(crate) fn arp_frame(operation: u8, sender: Ipv4Addr, target: Ipv4Addr) -> Vec<u8> {
        let head = [0, 1, 8, 0, 6, 4, 0, operation];
        ethernet(0x0806, &[&head, &[2; 6], &sender.octets(), &[0; 6], &target.octets()])
    }

    pub(crate) fn tcp4_frame(source: Ipv4Addr, destination: Ipv4Addr) -> Vec<u8> {
        let head = [0x45, 0, 0, 40, 0, 0, 0x40, 0, 64, 6, 0, 0];
        let mut tcp = [0; 20];
        tcp[..4].copy_from_slice(&[0, 80, 0x9c, 0x40]);
        tcp[13] = 0x12;
        ethernet(0x0800, &[&head, &source.octets(), &destination.octets(), &tcp])
    }

    pub(crate) fn advert_frame(source: Ipv6Addr, target: Ipv6Addr, flags: u8) -> Vec<u8> {
        let head = [0x60, 0, 0, 0, 0, 24, 58, 255];
        let all = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
        let icmp = [136, 0, 0, 0, flags, 0, 0, 0];
        ethernet(0x86dd, &[&head, &source.octets(), &all.octets(), &icmp, &target.octets()])
    }

    #[test]
    fn an_arp_reply_and_an_announcement_are_told_apart() {
        let watched = [IpAddr::V4(VIP4)];
        let reply = answer(&arp_frame(2, VIP4, OTHER4), &watched).unwrap();
        let expected = Answer::Arp { target_ip: OTHER4, reply: true, gratuitous: false };
        assert_eq!(reply, (IpAddr::V4(VIP4), expected));
        assert!(answer(&arp_frame(1, VIP4, VIP4), &watched).unwrap().1.announces());
        assert_eq!(answer(&arp_frame(1, OTHER4, VIP4), &watched), None, "asking is not answering");
    }

    #[test]
    fn a_tcp_segment_tells_its_ports_and_flags() {
        let (address, answer) = answer(&tcp4_frame(VIP4, OTHER4), &[IpAddr::V4(VIP4)]).unwrap();
        assert_eq!(address, IpAddr::V4(VIP4));
        let Answer::Ip { ports, tcp_flags, .. } = answer else { panic!("{answer:?}") };
        assert_eq!((ports, tcp_flags), (Some((80, 40_000)), Some(0x12)));
    }

    #[test]
    fn an_advertisement_counts_for_its_target_whoever_sends_it() {
        let watched = [IpAddr::V6(vip6())];
        let from = "fe80::1".parse().unwrap();
        let unsolicited = answer(&advert_frame(from, vip6(), 0x20), &watched).unwrap();
        assert_eq!(unsolicited, (IpAddr::V6(vip6()), Answer::NeighbourAdvert { unsolicited: true }));
        assert!(!answer(&advert_frame(from, vip6(), 0x60), &watched).unwrap().1.announces());
        assert_eq!(answer(&advert_frame(from, from, 0x20), &watched), None);
    }

    #[test]
    fn a_cut_off_frame_answers_for_nothing_or_for_the_same_and_never_panics() {
        let watched = [IpAddr::V4(VIP4), IpAddr::V6(vip6())];
        for frame in [arp_frame(2, VIP4, OTHER4), tcp4_frame(VIP4, OTHER4), advert_frame(vip6(), vip6(), 0)] {
            let whole = answer(&frame, &watched).unwrap().0;
            for length in 0..frame.len() {
                let told = answer(&frame[..length], &watched).map(|(address, _)| address);
                assert!(told.is_none_or(|address| address == whole), "{length}");
            }
        }
    }
}
