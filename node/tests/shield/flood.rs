//! A SYN flood from invented sources, at a steady rate.
#![allow(unsafe_code, unreachable_pub, clippy::as_conversions)]

use super::common::{Bench, HERE_MAC, PEER_MAC, VIP4, VIP6, link_named};
use socket2::{Domain, Protocol, Socket, Type};
use std::{
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};
use stead_node::sys::packet_address;

/// SYNs a second.
pub const RATE: u64 = 20_000;
const TICK: Duration = Duration::from_millis(1);
/// What the tests recognize invented IPv4 sources by.
pub const SOURCES: &str = "10.200.0.0/16";
pub const SOURCES6: &str = "fd99::/64";

/// No flood repeats what an earlier one sent.
static SENT: AtomicU64 = AtomicU64::new(1);

/// What the receiver's network card says of the checksums.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Card {
    /// That they are right.
    Verifies,
    /// Nothing, so that the kernel has to look.
    IsPlain,
}

/// A flood that goes on until it is stopped or dropped.
pub struct Flood {
    stop: Arc<AtomicBool>,
    thread: Option<JoinHandle<u64>>,
}

impl Flood {
    pub fn start(bench: &Bench, ipv6: bool, port: u16) -> Self {
        Self::through(Card::Verifies, bench, ipv6, port)
    }

    pub fn through(card: Card, bench: &Bench, ipv6: bool, port: u16) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = bench.at_peer(|| thread::spawn(move || flood(card, ipv6, port, &stopped)));
        Self { stop, thread: Some(thread) }
    }

    /// How many SYNs were sent, and at which rate.
    pub fn stop(mut self) -> u64 {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.take().unwrap().join().unwrap()
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
    }
}

/// What one SYN costs from the sender to the answer's end, all of it on one processor: the least of some rounds.
pub fn cost_of_a_syn(bench: &Bench, ipv6: bool, port: u16) -> Duration {
    const ROUNDS: u32 = 10;
    const SYNS: u32 = 5_000;
    let frames = |_| -> Vec<_> {
        (0..SYNS).map(|_| frame(Card::Verifies, ipv6, port, SENT.fetch_add(1, Ordering::Relaxed))).collect()
    };
    let rounds: Vec<_> = (0..ROUNDS).map(frames).collect();
    bench.at_peer(|| {
        let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>).unwrap();
        let to = packet_address(link_named("wire").ifindex, 0);
        add_virtio_headers(&socket);
        let send = |frames: &Vec<Vec<u8>>| {
            let start = Instant::now();
            frames.iter().for_each(|frame| {
                socket.send_to(frame, &to).unwrap();
            });
            start.elapsed() / SYNS
        };
        rounds.iter().map(send).min().unwrap()
    })
}

fn flood(card: Card, ipv6: bool, port: u16, stopped: &AtomicBool) -> u64 {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>).unwrap();
    let to = packet_address(link_named("wire").ifindex, 0);
    if card == Card::Verifies {
        add_virtio_headers(&socket);
    }
    let (start, mut sent) = (Instant::now(), 0u64);
    while !stopped.load(Ordering::Relaxed) {
        let due = start.elapsed().as_micros() as u64 * RATE / 1_000_000;
        while sent < due {
            // A full queue of the device is a SYN less, no more.
            let _ = socket.send_to(&frame(card, ipv6, port, SENT.fetch_add(1, Ordering::Relaxed)), &to);
            sent += 1;
        }
        thread::sleep(TICK);
    }
    sent
}

fn add_virtio_headers(socket: &Socket) {
    const PACKET_VNET_HDR: libc::c_int = 15;
    let on: libc::c_int = 1;
    // SAFETY: the pointer and length describe `on`, which outlives the call.
    let result = unsafe {
        libc::setsockopt(socket.as_raw_fd(), libc::SOL_PACKET, PACKET_VNET_HDR, (&raw const on).cast(), 4)
    };
    assert_eq!(result, 0);
}

/// `struct virtio_net_hdr`: the checksum is still to be made, from the TCP header on.
fn virtio_header(ipv6: bool) -> Vec<u8> {
    const NEEDS_CHECKSUM: u8 = 1;
    let start: u16 = if ipv6 { 54 } else { 34 };
    [&[NEEDS_CHECKSUM, 0, 0, 0, 0, 0][..], &start.to_ne_bytes(), &16u16.to_ne_bytes()].concat()
}

/// A different source each time, with the options of an ordinary visitor.
fn frame(card: Card, ipv6: bool, port: u16, number: u64) -> Vec<u8> {
    // Any odd factor: neighbours in time are far apart in sources.
    let mixed = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    let options = [2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 16, 0, 0, 0, 0, 0, 1, 3, 3, 7];
    let length = 20 + options.len() as u8;
    let mut tcp = [
        &[mixed[0] | 0x40, mixed[1]][..],
        &port.to_be_bytes(),
        &mixed[2..6],
        &[0; 4],
        &[(length / 4) << 4, 2, 0xff, 0xff, 0, 0, 0, 0],
        &options,
    ]
    .concat();
    let (from, to) = if ipv6 {
        let from = [&[0xfd, 0x99, 0, 0, 0, 0, 0, 0][..], &mixed].concat();
        (from, VIP6.octets().to_vec())
    } else {
        (vec![10, 200, mixed[6], mixed[7]], VIP4.octets().to_vec())
    };
    let pseudo = [&from[..], &to, &[0, 6, 0, length]].concat();
    let sum = match card {
        Card::Verifies => !checksum(&pseudo),
        Card::IsPlain => checksum(&[&pseudo[..], &tcp].concat()),
    };
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    let header = if ipv6 {
        [&[0x60, 0, 0, 0, 0, length, 6, 64][..], &from, &to].concat()
    } else {
        let mut header = [&[0x45, 0, 0, 20 + length, 0, 0, 0x40, 0, 64, 6, 0, 0][..], &from, &to].concat();
        let sum = checksum(&header);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    };
    let kind: [u8; 2] = if ipv6 { [0x86, 0xdd] } else { [0x08, 0x00] };
    let said = if card == Card::Verifies { virtio_header(ipv6) } else { vec![] };
    [&said[..], &HERE_MAC, &PEER_MAC, &kind, &header, &tcp].concat()
}

fn checksum(bytes: &[u8]) -> u16 {
    let mut sum: u32 = bytes.chunks(2).map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]]))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}
