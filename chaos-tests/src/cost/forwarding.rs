//! Small packets through the router, as fast as one sender can push them, with and without the sensors on its uplink.
//!
//! The kernel carries a packet all the way (sender, router, sink) on the thread that sends it, or, when that gets too
//! much, on a `ksoftirqd`. Their time on a processor over the packets is what one packet costs; what others do on the
//! machine meanwhile only makes caches colder. The variants take turns, so that a slow minute hits all of them.
//!
//! The sender never sleeps, so its time on a processor is all time but what it waited for one. A thread's processor time
//! would not do: many kernels (`IRQ_TIME_ACCOUNTING`) leave out what they do for packets.
//!
//! **Invariant.** A round in which packets were lost, or sensors did not see them, is an error and no figure.

use super::figure::{Figure, nanoseconds};
use super::fitted::{Fitted, Fitting};
use super::frames::{ACK, SYN};
use super::road::Road;
use anyhow::{Context as _, ensure};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::path::PathBuf;
use std::time::{Duration, Instant};
use stead_node::sys::packet_address;

/// Looks at the clock, in packets.
const BATCH: u32 = 64;
const THIS_THREAD: &str = "/proc/thread-self/schedstat";
/// Until all packets have gone through.
const SETTLE_MAX: Duration = Duration::from_secs(2);

/// What is pushed through.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Load {
    /// Datagrams of 18 bytes.
    Udp,
    /// TCP segments of an established connection, six bytes each: as long a frame.
    Data,
    /// SYNs, each of a connection that was never seen.
    Syn,
}

/// One kind of packets through one fitting of the router.
#[derive(Debug, Serialize)]
pub struct Forwarded {
    /// What was pushed through.
    pub load: Load,
    /// What the router was fitted with.
    pub fitted: Fitted,
    /// Packets a second at the sink.
    pub arrived_per_s: Figure,
    /// Processor time of a packet from the sender to where it ends.
    pub cpu_ns: Figure,
    /// How much more than with nothing in the same round.
    pub added_ns: Option<Figure>,
}

/// How long and how often.
#[derive(Clone, Copy, Debug)]
pub(super) struct Extent {
    pub(super) rounds: u32,
    pub(super) time: Duration,
    pub(super) packets_max: u32,
}

struct Round {
    arrived_per_s: f64,
    cpu_ns: f64,
}

pub(super) fn measure(road: &Road, extent: Extent) -> anyhow::Result<Vec<Forwarded>> {
    let mut all = Vec::new();
    for (load, fittings) in [
        (Load::Udp, &[Fitted::Nothing, Fitted::Sensors, Fitted::Limit][..]),
        (Load::Data, &[Fitted::Nothing, Fitted::Sensors, Fitted::Limit]),
        (Load::Syn, &[Fitted::Nothing, Fitted::Sensors, Fitted::Limit, Fitted::Cut]),
    ] {
        let mut rounds: Vec<Vec<Round>> = fittings.iter().map(|_| Vec::new()).collect();
        for _ in 0..extent.rounds {
            for (fitted, rounds) in fittings.iter().zip(&mut rounds) {
                let played = road.router.run(|| play(road, load, *fitted, extent))?;
                rounds.push(played.with_context(|| format!("{load:?} through {fitted}"))?);
            }
        }
        let bare: Vec<f64> = rounds.first().into_iter().flatten().map(|round| round.cpu_ns).collect();
        for (fitted, rounds) in fittings.iter().zip(&rounds) {
            let added = rounds.iter().zip(&bare).map(|(round, bare)| round.cpu_ns - bare);
            all.push(Forwarded {
                load,
                fitted: *fitted,
                arrived_per_s: Figure::of(rounds.iter().map(|round| round.arrived_per_s))?,
                cpu_ns: Figure::of(rounds.iter().map(|round| round.cpu_ns))?,
                added_ns: (*fitted != Fitted::Nothing).then(|| Figure::of(added)).transpose()?,
            });
        }
    }
    Ok(all)
}

/// One round, by a thread in the router's namespace.
fn play(road: &Road, load: Load, fitted: Fitted, extent: Extent) -> anyhow::Result<Round> {
    let mut fitting = Fitting::put(fitted, road.uplink)?;
    fitting.seen()?;
    let (before, softirqs) = (road.arrived()?, Softirqs::find()?);
    let softirqs_before = softirqs.ns()?;
    let pushed = road.sender.run(|| push(road, load, extent))??;
    let sent = u64::from(pushed.packets);
    let end = Instant::now() + SETTLE_MAX;
    let arrived = loop {
        let arrived = road.arrived()? - before;
        if arrived + fitting.dropped()? >= sent {
            break arrived;
        }
        ensure!(Instant::now() < end, "of {sent} packets {arrived} arrived: the rest was lost on the way");
        std::thread::yield_now();
    };
    let cpu_ns = pushed.processor_ns + softirqs.ns()? - softirqs_before;
    match (fitted, fitting.seen()?) {
        (Fitted::Nothing, seen) => ensure!(seen.is_none(), "nothing should look"),
        (Fitted::Sensors | Fitted::Limit, Some((segments, syns))) => {
            ensure!(segments >= sent, "the sensors saw {segments} of {sent} packets");
            ensure!(load != Load::Syn || syns >= sent, "the sensors saw {syns} of {sent} SYNs");
        }
        (Fitted::Cut, Some(_)) => ensure!(arrived < sent / 2, "{arrived} of {sent} SYNs passed the limit"),
        (Fitted::Sensors | Fitted::Limit | Fitted::Cut, None) => anyhow::bail!("the sensors are not there"),
    }
    fitting.take_out()?;
    Ok(Round {
        arrived_per_s: f64::from(u32::try_from(arrived)?) / pushed.time.as_secs_f64(),
        cpu_ns: cpu_ns / f64::from(pushed.packets),
    })
}

struct Pushed {
    packets: u32,
    time: Duration,
    processor_ns: f64,
}

fn push(road: &Road, load: Load, extent: Extent) -> anyhow::Result<Pushed> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
    socket.bind(&packet_address(road.way_out, 0))?;
    // It would rather fail than sleep.
    socket.set_nonblocking(true)?;
    let mut frame = match load {
        Load::Udp => road.path().udp(18),
        Load::Data => road.path().tcp(ACK, 6, 0),
        Load::Syn => road.path().tcp(SYN, 0, 0),
    };
    let (begun, waited_before) = (Instant::now(), schedstat(THIS_THREAD.as_ref(), 1)?);
    let mut packets = 0;
    while packets < extent.packets_max && begun.elapsed() < extent.time {
        for number in packets..packets + BATCH {
            if load == Load::Syn {
                another_connection(&mut frame, number);
            }
            socket.send(&frame)?;
        }
        packets += BATCH;
    }
    let time = begun.elapsed();
    let waited_ns = schedstat(THIS_THREAD.as_ref(), 1)? - waited_before;
    Ok(Pushed { packets, time, processor_ns: nanoseconds(time) - waited_ns })
}

/// Other ports for each number: behind the headers of Ethernet and IPv4.
fn another_connection(frame: &mut [u8], number: u32) {
    if let Some(ports) = frame.get_mut(34..38) {
        ports.copy_from_slice(&number.to_be_bytes());
    }
}

/// The kernel's threads for packets that waited too long for a sender to carry them.
struct Softirqs(Vec<PathBuf>);

impl Softirqs {
    fn find() -> anyhow::Result<Self> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc")? {
            let path = entry?.path();
            let name = std::fs::read_to_string(path.join("comm")).unwrap_or_default();
            if name.starts_with("ksoftirqd/") {
                found.push(path.join("schedstat"));
            }
        }
        ensure!(!found.is_empty(), "no ksoftirqd in /proc: run this outside of a container");
        Ok(Self(found))
    }

    fn ns(&self) -> anyhow::Result<f64> {
        self.0.iter().map(|file| schedstat(file, 0)).sum()
    }
}

/// A thread's nanoseconds on a processor (0), or waiting for one (1): Documentation/scheduler/sched-stats.rst.
fn schedstat(file: &std::path::Path, field: usize) -> anyhow::Result<f64> {
    let text = std::fs::read_to_string(file)?;
    Ok(text.split_whitespace().nth(field).context("too short a schedstat")?.parse()?)
}
