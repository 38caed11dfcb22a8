//! The Ethernet frames that the driver sends and understands: ARP (RFC 826, 5227) and neighbour discovery
//! (RFC 4861). Pure functions over bytes.
//!
//! **Invariant.** Reading never trusts a length: a truncated or foreign frame is `None`.

use std::net::{Ipv4Addr, Ipv6Addr};

/// A hardware address.
pub(super) type Mac = [u8; 6];

pub(super) const ETHERTYPE_ARP: u16 = 0x0806;
pub(super) const ETHERTYPE_IPV6: u16 = 0x86dd;

const BROADCAST: Mac = [0xff; 6];
const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);
const NEXT_ICMPV6: u8 = 58;
const ND_SOLICITATION: u8 = 135;
const ND_ADVERTISEMENT: u8 = 136;
/// "Override": replace what your cache says. Neither router nor solicited.
const OVERRIDE: u32 = 0x2000_0000;

const ETHERNET_BYTES: usize = 14;
const IPV6_BYTES: usize = 40;

/// The two operations of ARP.
#[derive(Clone, Copy)]
pub(super) enum Operation {
    Request,
    Reply,
}

/// "`address` is at `mac`", unasked. Hosts differ in which form they listen to, so both are sent.
pub(super) fn gratuitous_arp(operation: Operation, mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    let target = match operation {
        Operation::Request => [0; 6],
        Operation::Reply => BROADCAST,
    };
    arp(operation, mac, address, target, address)
}

/// "Who has `address`?", from nobody, so that no cache changes (RFC 5227 §2.1.1).
pub(super) fn arp_probe(mac: Mac, address: Ipv4Addr) -> Vec<u8> {
    arp(Operation::Request, mac, Ipv4Addr::UNSPECIFIED, [0; 6], address)
}

/// "`address` is at `mac`", unasked, to all nodes, overriding (RFC 4861 §7.2.6).
pub(super) fn unsolicited_advertisement(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let mut body = vec![ND_ADVERTISEMENT, 0, 0, 0];
    body.extend(OVERRIDE.to_be_bytes());
    body.extend(address.octets());
    body.extend([2, 1]); // target link-layer address, one unit of 8 bytes
    body.extend(mac);
    icmpv6(mac, address, ALL_NODES, body)
}

/// "Does anybody have `address`?", from nobody (RFC 4862 §5.4.2).
pub(super) fn address_solicitation(mac: Mac, address: Ipv6Addr) -> Vec<u8> {
    let [.., a, b, c] = address.octets();
    let group = Ipv6Addr::from([0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c]);
    let mut body = vec![ND_SOLICITATION, 0, 0, 0, 0, 0, 0, 0];
    body.extend(address.octets());
    icmpv6(mac, Ipv6Addr::UNSPECIFIED, group, body)
}

/// Who claims `address` in this ARP frame, if it is one.
pub(super) fn arp_claim(frame: &[u8], address: Ipv4Addr) -> Option<Mac> {
    let arp = frame.get(ETHERNET_BYTES..).filter(|_| ethertype(frame) == Some(ETHERTYPE_ARP))?;
    let claimed = arp.get(4..6) == Some(&[6, 4]) && arp.get(14..18) == Some(&address.octets());
    if claimed { arp.get(8..14)?.try_into().ok() } else { None }
}

/// Who claims `address` in this neighbour advertisement, if it is one.
pub(super) fn advertisement_claim(frame: &[u8], address: Ipv6Addr) -> Option<Mac> {
    let ip = frame.get(ETHERNET_BYTES..).filter(|_| ethertype(frame) == Some(ETHERTYPE_IPV6))?;
    let icmp = ip.get(IPV6_BYTES..).filter(|_| ip.get(6) == Some(&NEXT_ICMPV6))?;
    let claimed = icmp.first() == Some(&ND_ADVERTISEMENT) && icmp.get(8..24) == Some(&address.octets());
    if claimed { frame.get(6..12)?.try_into().ok() } else { None }
}

fn ethertype(frame: &[u8]) -> Option<u16> {
    Some(u16::from_be_bytes(frame.get(12..14)?.try_into().ok()?))
}

fn ethernet(to: Mac, from: Mac, ethertype: u16) -> Vec<u8> {
    let mut frame = Vec::with_capacity(ETHERNET_BYTES + IPV6_BYTES + 32);
    frame.extend(to);
    frame.extend(from);
    frame.extend(ethertype.to_be_bytes());
    frame
}

fn arp(operation: Operation, mac: Mac, sender: Ipv4Addr, target_mac: Mac, target: Ipv4Addr) -> Vec<u8> {
    let operation = match operation {
        Operation::Request => 1,
        Operation::Reply => 2,
    };
    let mut frame = ethernet(BROADCAST, mac, ETHERTYPE_ARP);
    frame.extend([0, 1, 8, 0, 6, 4, 0, operation]);
    frame.extend(mac);
    frame.extend(sender.octets());
    frame.extend(target_mac);
    frame.extend(target.octets());
    frame
}

/// A frame to a multicast group, with the checksum filled in.
fn icmpv6(mac: Mac, from: Ipv6Addr, to: Ipv6Addr, mut body: Vec<u8>) -> Vec<u8> {
    let length = u16::try_from(body.len()).expect("neighbour messages are short");
    let sum = checksum(from, to, length, &body).to_be_bytes();
    if let Some(field) = body.get_mut(2..4) {
        field.copy_from_slice(&sum);
    }
    let [.., a, b, c, d] = to.octets();
    let mut frame = ethernet([0x33, 0x33, a, b, c, d], mac, ETHERTYPE_IPV6);
    frame.extend([0x60, 0, 0, 0]);
    frame.extend(length.to_be_bytes());
    frame.extend([NEXT_ICMPV6, 255]);
    frame.extend(from.octets());
    frame.extend(to.octets());
    frame.extend(body);
    frame
}

/// The Internet checksum over pseudo-header and body (RFC 8200 §8.1).
fn checksum(from: Ipv6Addr, to: Ipv6Addr, length: u16, body: &[u8]) -> u16 {
    let pair = |pair: &[u8]| match *pair {
        [high, low] => u32::from(u16::from_be_bytes([high, low])),
        [high] => u32::from(u16::from_be_bytes([high, 0])),
        _ => 0,
    };
    let words = |bytes: &[u8]| bytes.chunks(2).map(pair).sum::<u32>();
    let mut sum = words(&from.octets())
        + words(&to.octets())
        + u32::from(length)
        + u32::from(NEXT_ICMPV6)
        + words(body);
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).expect("folded above")
}

#[cfg(test)]
mod tests {
    use super::*;

    const MAC: Mac = [2, 0, 0, 0, 0, 0x11];
    const V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 10);
    const V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0xab, 0xcdef);

    fn hex(bytes: &[u8]) -> String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    #[test]
    fn a_gratuitous_request_has_these_bytes() {
        assert_eq!(
            hex(&gratuitous_arp(Operation::Request, MAC, V4)),
            "ffffffffffff0200000000110806\
             0001080006040001020000000011c000020a000000000000c000020a"
        );
    }

    #[test]
    fn a_gratuitous_reply_has_these_bytes() {
        assert_eq!(
            hex(&gratuitous_arp(Operation::Reply, MAC, V4)),
            "ffffffffffff0200000000110806\
             0001080006040002020000000011c000020affffffffffffc000020a"
        );
    }

    #[test]
    fn a_probe_comes_from_nobody() {
        assert_eq!(
            hex(&arp_probe(MAC, V4)),
            "ffffffffffff0200000000110806\
             000108000604000102000000001100000000000000000000c000020a"
        );
    }

    #[test]
    fn an_advertisement_has_these_bytes() {
        assert_eq!(
            hex(&unsolicited_advertisement(MAC, V6)),
            "33330000000102000000001186dd\
             6000000000203aff\
             20010db8000000000000000000abcdef\
             ff020000000000000000000000000001\
             88005be720000000\
             20010db8000000000000000000abcdef\
             0201020000000011"
        );
    }

    #[test]
    fn a_solicitation_goes_to_the_solicited_node_group() {
        assert_eq!(
            hex(&address_solicitation(MAC, V6)),
            "3333ffabcdef02000000001186dd\
             6000000000183aff\
             00000000000000000000000000000000\
             ff0200000000000000000001ffabcdef\
             8700afb900000000\
             20010db8000000000000000000abcdef"
        );
    }

    #[test]
    fn claims_are_read_from_announcements_and_from_nothing_else() {
        let announcement = gratuitous_arp(Operation::Reply, MAC, V4);
        assert_eq!(arp_claim(&announcement, V4), Some(MAC));
        assert_eq!(arp_claim(&announcement, Ipv4Addr::new(192, 0, 2, 11)), None);
        assert_eq!(arp_claim(&arp_probe(MAC, V4), V4), None);
        let advertisement = unsolicited_advertisement(MAC, V6);
        assert_eq!(advertisement_claim(&advertisement, V6), Some(MAC));
        assert_eq!(advertisement_claim(&address_solicitation(MAC, V6), V6), None);
    }

    #[test]
    fn a_frame_cut_anywhere_claims_nothing_that_it_does_not_carry() {
        let (arp, nd) = (gratuitous_arp(Operation::Request, MAC, V4), unsolicited_advertisement(MAC, V6));
        assert!((0..32).all(|length| arp_claim(&arp[..length], V4).is_none()));
        assert!((0..78).all(|length| advertisement_claim(&nd[..length], V6).is_none()));
    }
}
