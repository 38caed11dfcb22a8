//! The four frames of the `vip` driver, as bytes: announcement and probe, for ARP and for IPv6.
//!
//! **Invariant.** Pure, and nothing that a neighbour sends can make it panic or read past the frame.
//!
//! Deliberately absent: VLAN tags (the interface adds its own) and IPv6 extension headers, which RFC 4861
//! and RFC 6980 keep out of these messages in practice.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// An Ethernet address.
pub(super) type Mac = [u8; 6];

/// `ETH_P_ARP` and `ETH_P_IPV6` of `linux/if_ether.h`.
pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

/// Where, in a frame without VLAN tag, the IPv6 header names what follows, and where an ICMPv6 type is.
pub(super) const NEXT_HEADER_AT: u32 = 20;
pub(super) const ICMPV6_TYPE_AT: u32 = 54;
pub(super) const ICMPV6: u8 = 58;
pub(super) const ADVERTISEMENT: u8 = 136;

const SOLICITATION: u8 = 135;
const ARP_REQUEST: u16 = 1;
const ARP_REPLY: u16 = 2;
const BROADCAST: Mac = [0xff; 6];
const NOBODY: Mac = [0; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
/// Anything less was forwarded by a router and is not from this link (RFC 4861, 7.1).
const HOP_LIMIT: u8 = 255;
const OVERRIDE: u8 = 0x20;
const OPTION_TARGET_LINK_ADDRESS: u8 = 2;
/// Ethernet over IPv4: hardware type, protocol, and their lengths (RFC 826).
const ARP_KIND: [u8; 6] = [0, 1, 8, 0, 6, 4];

/// The ethertype that messages about `address` have.
pub(super) const fn ethertype(address: IpAddr) -> u16 {
    match address {
        IpAddr::V4(_) => ETHERTYPE_ARP,
        IpAddr::V6(_) => ETHERTYPE_IPV6,
    }
}

/// "`address` is at `mac`": as ARP request *and* reply, because some hosts learn only from the one and some
/// only from the other (RFC 5227, 3), or as an unsolicited, overriding neighbour advertisement (RFC 4861, 7.2.6).
pub(super) fn announcements(mac: Mac, address: IpAddr) -> Vec<Vec<u8>> {
    match address {
        IpAddr::V4(v4) => vec![arp(mac, ARP_REQUEST, v4, NOBODY, v4), arp(mac, ARP_REPLY, v4, mac, v4)],
        IpAddr::V6(v6) => vec![advertisement(mac, v6)],
    }
}

/// "Who has `address`?", asked without an address of one's own, so that no neighbour learns anything
/// (RFC 5227, 2.1.1; RFC 4862, 5.4.2).
pub(super) fn probe(mac: Mac, address: IpAddr) -> Vec<u8> {
    match address {
        IpAddr::V4(v4) => arp(mac, ARP_REQUEST, Ipv4Addr::UNSPECIFIED, NOBODY, v4),
        IpAddr::V6(v6) => {
            let group = solicited_node(v6);
            let mut body = vec![SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
            body.extend(v6.octets());
            icmpv6(mac, Ipv6Addr::UNSPECIFIED, group, body)
        }
    }
}

/// Who says in this frame that it has `address`.
pub(super) fn holder(frame: &[u8], address: IpAddr) -> Option<Mac> {
    let (header, body) = frame.split_at_checked(14)?;
    let source = mac_at(header, 6)?;
    if header.get(12..)? != ethertype(address).to_be_bytes() {
        return None;
    }
    match address {
        IpAddr::V4(v4) => {
            let claims = body.get(..6)? == ARP_KIND && body.get(14..18)? == v4.octets();
            if claims { mac_at(body, 8) } else { None }
        }
        IpAddr::V6(v6) => {
            let from_this_link = *body.get(6)? == ICMPV6 && *body.get(7)? == HOP_LIMIT;
            let (kind, target) = (*body.get(40)?, body.get(48..64)?);
            if !from_this_link || kind != ADVERTISEMENT || target != v6.octets() {
                return None;
            }
            let option =
                body.get(64..72).filter(|option| option.starts_with(&[OPTION_TARGET_LINK_ADDRESS, 1]));
            option.and_then(|option| mac_at(option, 2)).or(Some(source))
        }
    }
}

fn mac_at(bytes: &[u8], at: usize) -> Option<Mac> {
    bytes.get(at..)?.first_chunk().copied()
}

fn arp(mac: Mac, operation: u16, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend(ARP_KIND);
    frame.extend(operation.to_be_bytes());
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame
}

fn advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![ADVERTISEMENT, 0, 0, 0, OVERRIDE, 0, 0, 0];
    body.extend(address.octets());
    body.extend([OPTION_TARGET_LINK_ADDRESS, 1]);
    body.extend(mac);
    icmpv6(mac, address, ALL_NODES, body)
}

/// An ICMPv6 message to a multicast group, its checksum (at offset 2) filled in.
fn icmpv6(mac: Mac, source: Ipv6Addr, group: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("these messages have at most 32 bytes");
    let mut pseudo = Vec::from(source.octets());
    pseudo.extend(group.octets());
    pseudo.extend(u32::from(length).to_be_bytes());
    pseudo.extend([0, 0, 0, ICMPV6]);
    pseudo.extend(&body);
    body.splice(2..4, checksum(&pseudo).to_be_bytes());

    let [.., a, b, c, d] = group.octets();
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([ICMPV6, HOP_LIMIT]);
    frame.extend(source.octets());
    frame.extend(group.octets());
    frame.extend(body);
    frame
}

fn ethernet(destination: Mac, source: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(96);
    frame.extend(destination);
    frame.extend(source);
    frame.extend(ethertype.to_be_bytes());
    frame
}

/// The group that every host with `address` listens to (RFC 4291, 2.7.1).
const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// The Internet checksum (RFC 1071) of an even number of bytes.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.as_chunks::<2>().0.iter().map(|word| u32::from(u16::from_be_bytes(*word)));
    let sum: u32 = words.sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let folded = (folded & 0xffff) + (folded >> 16);
    !u16::try_from(folded).expect("folded twice, fewer than 65536 words fit 16 bits")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [0x02, 0, 0, 0, 0, 0x0a];

    fn v4() -> IpAddr {
        "192.0.2.7".parse().unwrap()
    }

    fn v6() -> IpAddr {
        "2001:db8::5:7".parse().unwrap()
    }

    fn hex(frame: &[u8]) -> String {
        frame.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn an_ipv4_announcement_is_a_request_and_a_reply() {
        let frames: Vec<_> = announcements(MAC, v4()).iter().map(|frame| hex(frame)).collect();
        let request =
            "ffffffffffff02000000000a0806_0001080006040001_02000000000ac0000207_000000000000c0000207";
        let reply = "ffffffffffff02000000000a0806_0001080006040002_02000000000ac0000207_02000000000ac0000207";
        assert_eq!(frames, [request.replace('_', ""), reply.replace('_', "")]);
    }

    #[test]
    fn an_ipv4_probe_names_no_sender() {
        let expected =
            "ffffffffffff02000000000a0806_0001080006040001_02000000000a00000000_000000000000c0000207";
        assert_eq!(hex(&probe(MAC, v4())), expected.replace('_', ""));
    }

    #[test]
    fn an_ipv6_announcement_is_an_overriding_advertisement_to_all_nodes() {
        let frames: Vec<_> = announcements(MAC, v6()).iter().map(|frame| hex(frame)).collect();
        let expected = "33330000000102000000000a86dd_6000000000203aff_20010db8000000000000000000050007\
                        _ff020000000000000000000000000001_8800f90b20000000_20010db8000000000000000000050007\
                        _020102000000000a";
        assert_eq!(frames, [expected.replace('_', "")]);
    }

    #[test]
    fn an_ipv6_probe_goes_to_the_solicited_node_group() {
        let expected = "3333ff05000702000000000a86dd_6000000000183aff_00000000000000000000000000000000\
                        _ff0200000000000000000001ff050007_87004cd700000000_20010db8000000000000000000050007";
        assert_eq!(hex(&probe(MAC, v6())), expected.replace('_', ""));
    }

    #[test]
    fn an_announcement_says_who_the_holder_is_and_a_probe_does_not() {
        for address in [v4(), v6()] {
            for frame in announcements(MAC, address) {
                assert_eq!(holder(&frame, address), Some(MAC));
            }
            assert_eq!(holder(&probe(MAC, address), address), None);
        }
        let other = "192.0.2.8".parse().unwrap();
        assert_eq!(holder(&announcements(MAC, v4())[0], other), None);
    }

    #[test]
    fn an_advertisement_that_came_through_a_router_counts_for_nothing() {
        let mut frame = announcements(MAC, v6()).remove(0);
        frame[14 + 7] = 254;
        assert_eq!(holder(&frame, v6()), None);
    }

    #[test]
    fn no_prefix_of_a_frame_makes_the_reader_panic() {
        for address in [v4(), v6()] {
            for frame in announcements(MAC, address) {
                let needed = if address.is_ipv4() { 32 } else { 78 };
                for length in 0..needed {
                    assert_eq!(holder(&frame[..length], address), None, "{length} bytes of {}", hex(&frame));
                }
            }
        }
    }
}
