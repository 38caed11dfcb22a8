//! Classic BPF programs (Documentation/networking/filter.rst): what a port lets out, what the tap takes in.
//!
//! **Invariant.** Programs are short and loop-free by construction; a jump that would not fit is a bug here.

use socket2::SockFilter;
use std::net::IpAddr;

/// `TC_ACT_OK` and `TC_ACT_SHOT` (linux/pkt_cls.h).
const PASS: u32 = 0;
const DROP: u32 = 2;
/// How much of a frame the tap takes: whole headers, no matter which.
pub(crate) const SNAPSHOT_BYTES: u32 = 256;
/// `SKF_AD_OFF + SKF_AD_PKTTYPE`, and the type of frames that this machine sends (linux/filter.h,
/// linux/if_packet.h).
const PACKET_TYPE: u32 = 0xffff_f000 + 4;
const PACKET_OUTGOING: u32 = 4;

/// One `struct sock_filter` (linux/filter.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Instruction {
    code: u16,
    when_true: u8,
    when_false: u8,
    operand: u32,
}

impl Instruction {
    const fn new(code: u16, when_true: u8, when_false: u8, operand: u32) -> Self {
        Self { code, when_true, when_false, operand }
    }

    /// As a socket option wants it.
    pub(crate) const fn for_socket(self) -> SockFilter {
        SockFilter::new(self.code, self.when_true, self.when_false, self.operand)
    }

    /// As a netlink attribute wants it: the structure's bytes.
    pub(crate) fn bytes(self) -> [u8; 8] {
        let [c0, c1] = self.code.to_ne_bytes();
        let [k0, k1, k2, k3] = self.operand.to_ne_bytes();
        [c0, c1, self.when_true, self.when_false, k0, k1, k2, k3]
    }
}

const MAC_SOURCE: u32 = 6;
const ETHERTYPE: u32 = 12;
const ETHERTYPE_IP4: u32 = 0x0800;
const ETHERTYPE_ARP: u32 = 0x0806;
const ETHERTYPE_IP6: u32 = 0x86dd;
const ARP_SENDER: u32 = 14 + 14;
const IP4_SOURCE: u32 = 14 + 12;
const IP6_NEXT_HEADER: u32 = 14 + 6;
const IP6_SOURCE: u32 = 14 + 8;
const ICMP6: u32 = 58;
const ICMP6_TYPE: u32 = 14 + 40;
const NEIGHBOUR_ADVERT: u32 = 136;
const NEIGHBOUR_ADVERT_TARGET: u32 = 14 + 40 + 8;

/// Drops the frames of these senders, passes all others. For the egress hook of a port, with direct action.
pub(crate) fn drop_from(senders: &[[u8; 6]]) -> Vec<Instruction> {
    let mut program = Program::default();
    let dropped = program.label();
    for [a, b, c, d, e, f] in senders {
        let next = program.label();
        program.load32(MAC_SOURCE);
        program.unless(u32::from_be_bytes([*a, *b, *c, *d]), next);
        program.load16(MAC_SOURCE + 4);
        program.when(u32::from_be_bytes([0, 0, *e, *f]), dropped);
        program.place(next);
    }
    program.give_back(PASS);
    program.place(dropped);
    program.give_back(DROP);
    program.assemble()
}

/// Takes the received frames that answer for one of `addresses`: ARP with it as the sender, IP with it as
/// the source, neighbour advertisements with it as the target. Frames that leave by the port are not taken.
pub(crate) fn answers_for(addresses: &[IpAddr]) -> Vec<Instruction> {
    let mut program = Program::default();
    let [taken, refused, arp, ip4, ip6] = std::array::from_fn(|_| program.label());
    program.load(Load::Word, PACKET_TYPE);
    program.when(PACKET_OUTGOING, refused);
    program.load16(ETHERTYPE);
    program.when(ETHERTYPE_ARP, arp);
    program.when(ETHERTYPE_IP4, ip4);
    program.when(ETHERTYPE_IP6, ip6);
    program.give_back(0);
    for (start, offset) in [(arp, ARP_SENDER), (ip4, IP4_SOURCE)] {
        program.place(start);
        program.load32(offset);
        for address in addresses {
            if let IpAddr::V4(address) = address {
                program.when(u32::from(*address), taken);
            }
        }
        program.give_back(0);
    }
    program.place(ip6);
    program.when_any_ip6(IP6_SOURCE, addresses, taken);
    program.load8(IP6_NEXT_HEADER);
    program.unless(ICMP6, refused);
    program.load8(ICMP6_TYPE);
    program.unless(NEIGHBOUR_ADVERT, refused);
    program.when_any_ip6(NEIGHBOUR_ADVERT_TARGET, addresses, taken);
    program.place(refused);
    program.give_back(0);
    program.place(taken);
    program.give_back(SNAPSHOT_BYTES);
    program.assemble()
}

#[derive(Clone, Copy, PartialEq, Eq)]
struct Label(usize);

#[derive(Clone, Copy)]
enum Load {
    Word,
    Half,
    Byte,
}

enum Step {
    Load(Load, u32),
    When(u32, Label),
    Unless(u32, Label),
    Return(u32),
    Place(Label),
}

/// A program whose jumps go to labels placed further down.
#[derive(Default)]
struct Program {
    steps: Vec<Step>,
    labels: usize,
}

impl Program {
    fn label(&mut self) -> Label {
        self.labels += 1;
        Label(self.labels)
    }

    fn load(&mut self, size: Load, offset: u32) {
        self.steps.push(Step::Load(size, offset));
    }

    fn load32(&mut self, offset: u32) {
        self.load(Load::Word, offset);
    }

    fn load16(&mut self, offset: u32) {
        self.load(Load::Half, offset);
    }

    fn load8(&mut self, offset: u32) {
        self.load(Load::Byte, offset);
    }

    fn when(&mut self, equal: u32, to: Label) {
        self.steps.push(Step::When(equal, to));
    }

    fn unless(&mut self, equal: u32, to: Label) {
        self.steps.push(Step::Unless(equal, to));
    }

    fn place(&mut self, label: Label) {
        self.steps.push(Step::Place(label));
    }

    fn give_back(&mut self, value: u32) {
        self.steps.push(Step::Return(value));
    }

    fn when_any_ip6(&mut self, offset: u32, addresses: &[IpAddr], to: Label) {
        for address in addresses {
            let IpAddr::V6(address) = address else { continue };
            let next = self.label();
            let value = address.to_bits();
            let words = [value >> 96, value >> 64, value >> 32, value];
            let words = words.map(|word| u32::try_from(word & 0xffff_ffff).expect("masked to 32 bits"));
            let [first, second, third, last] = words;
            for (at, word) in [(0, first), (4, second), (8, third)] {
                self.load32(offset + at);
                self.unless(word, next);
            }
            self.load32(offset + 12);
            self.when(last, to);
            self.place(next);
        }
    }

    /// The instructions: `code, jt, jf, k` as in linux/bpf_common.h.
    fn assemble(&self) -> Vec<Instruction> {
        let jump = |from: usize, to: Label| {
            let between = self
                .steps
                .iter()
                .skip(from + 1)
                .take_while(|step| !matches!(step, Step::Place(l) if *l == to));
            let distance = between.filter(|step| !matches!(step, Step::Place(_))).count();
            u8::try_from(distance).expect("programs are short: see the limits on nodes and addresses")
        };
        let instruction = |(at, step): (usize, &Step)| match step {
            Step::Load(Load::Word, offset) => Some(Instruction::new(0x20, 0, 0, *offset)),
            Step::Load(Load::Half, offset) => Some(Instruction::new(0x28, 0, 0, *offset)),
            Step::Load(Load::Byte, offset) => Some(Instruction::new(0x30, 0, 0, *offset)),
            Step::When(equal, to) => Some(Instruction::new(0x15, jump(at, *to), 0, *equal)),
            Step::Unless(equal, to) => Some(Instruction::new(0x15, 0, jump(at, *to), *equal)),
            Step::Return(value) => Some(Instruction::new(0x06, 0, 0, *value)),
            Step::Place(_) => None,
        };
        self.steps.iter().enumerate().filter_map(instruction).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lab::frame::tests::{OTHER4, VIP4, advert_frame, arp_frame, tcp4_frame, vip6};
    use crate::lab::topology::{NODES_MAX, Place};

    /// What the kernel would do: load, compare, return; a load beyond the frame returns 0.
    fn run(program: &[Instruction], frame: &[u8], packet_type: u32) -> u32 {
        let (mut at, mut accumulator) = (0, 0);
        loop {
            let Instruction { code, when_true, when_false, operand } = program[at];
            at += 1;
            let offset = usize::try_from(operand).unwrap();
            let load = |size: usize| {
                let bytes = frame.get(offset..offset + size)?;
                Some(bytes.iter().fold(0, |value, byte| value << 8 | u32::from(*byte)))
            };
            let loaded = match code {
                0x20 if operand == PACKET_TYPE => Some(packet_type),
                0x20 => load(4),
                0x28 => load(2),
                0x30 => load(1),
                0x15 => {
                    at += usize::from(if accumulator == operand { when_true } else { when_false });
                    continue;
                }
                0x06 => return operand,
                _ => panic!("{code:#x}"),
            };
            let Some(value) = loaded else { return 0 };
            accumulator = value;
        }
    }

    fn from(mac: [u8; 6]) -> Vec<u8> {
        [[0xff; 6], mac].concat()
    }

    #[test]
    fn frames_of_the_cut_senders_are_dropped_and_no_others() {
        let all: Vec<Place> = (0..NODES_MAX).map(Place::Node).chain([Place::Visitor]).collect();
        let (cut, rest): (Vec<Place>, Vec<Place>) = all.iter().partition(|place| place.port() % 3 == 0);
        let macs: Vec<[u8; 6]> = cut.iter().map(|place| place.mac()).collect();
        let program = drop_from(&macs);
        assert!(cut.iter().all(|place| run(&program, &from(place.mac()), 0) == DROP));
        assert!(rest.iter().all(|place| run(&program, &from(place.mac()), 0) == PASS));
        let everybody: Vec<[u8; 6]> = all.iter().map(|place| place.mac()).collect();
        assert_eq!(run(&drop_from(&everybody), &from([9; 6]), 0), PASS);
        assert_eq!(run(&drop_from(&[]), &from(Place::Visitor.mac()), 0), PASS);
    }

    #[test]
    fn the_kernel_takes_what_the_parser_reads_and_nothing_else() {
        let watched = [IpAddr::V4(OTHER4), IpAddr::V6("fd83::1".parse().unwrap())];
        let both: Vec<IpAddr> = watched.into_iter().chain([IpAddr::V4(VIP4), IpAddr::V6(vip6())]).collect();
        let far = "fd84::9".parse().unwrap();
        let frames = [
            arp_frame(1, VIP4, OTHER4),
            arp_frame(2, VIP4, VIP4),
            tcp4_frame(VIP4, OTHER4),
            tcp4_frame(OTHER4, VIP4),
            advert_frame(far, vip6(), 0),
            advert_frame(vip6(), far, 0),
            advert_frame(far, far, 0),
            vec![0; 60],
        ];
        for addresses in [&watched[..], &both[..], &both[2..]] {
            let program = answers_for(addresses);
            for frame in &frames {
                let taken = run(&program, frame, 0) > 0;
                assert_eq!(taken, crate::lab::frame::answer(frame, addresses).is_some(), "{frame:?}");
                assert_eq!(
                    run(&program, frame, PACKET_OUTGOING),
                    0,
                    "what leaves by the port is not an answer"
                );
            }
        }
    }

    #[test]
    fn the_most_addresses_fit_into_one_program() {
        let addresses: Vec<IpAddr> = (0..u128::try_from(crate::lab::tap::ADDRESSES_MAX).unwrap())
            .map(|n| IpAddr::V6(std::net::Ipv6Addr::from_bits(n)))
            .collect();
        assert!(answers_for(&addresses).len() < 255);
    }
}
