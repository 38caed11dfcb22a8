//! One TCP stream from the router to the sink, as a download: data segments are nearly every packet of a web server.
//!
//! Twice: as the kernel sends (packets of up to 64 KiB, which hardware cuts up later), and segment by segment, as much as
//! an uplink without offloads has to look at. Writer and reader share one processor: then the work bounds what comes through,
//! and not where the scheduler puts the two.
//!
//! **Invariant.** What counts is what the reader got. The limit has no part in it: it looks at SYNs.

use super::figure::{Figure, processor};
use super::fitted::{Fitted, Fitting};
use super::road::{Road, SINK, UPLINK, ip};
use anyhow::Context as _;
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};
use serde::Serialize;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::{Duration, Instant};

/// One write, and one read at most.
const CHUNK_BYTES: usize = 64 << 10;
/// For the reader to give up when the writer is gone.
const PATIENCE: Duration = Duration::from_secs(5);

/// One stream through one fitting.
#[derive(Debug, Serialize)]
pub struct Streamed {
    /// Whether packets are one segment each.
    pub segment_by_segment: bool,
    /// What the router was fitted with.
    pub fitted: Fitted,
    /// What the reader got, in 10^6 bits a second.
    pub mbit_per_s: Figure,
    /// Processor time of writer and reader, in microseconds for 10^6 bytes; without what a kernel with
    /// `IRQ_TIME_ACCOUNTING` does for arriving packets.
    pub cpu_us_per_mb: Figure,
    /// How much more than with nothing in the same round.
    pub added_us_per_mb: Option<Figure>,
}

#[derive(Clone, Copy)]
struct Round {
    mbit_per_s: f64,
    cpu_us_per_mb: f64,
}

pub(super) fn measure(road: &Road, rounds: u32, time: Duration) -> anyhow::Result<Vec<Streamed>> {
    let mut all = Vec::new();
    for (segment_by_segment, segments_max) in [(false, 65_535), (true, 1)] {
        road.router.run(|| ip(&format!("link set {UPLINK} gso_max_segs {segments_max}")))??;
        let fittings = [Fitted::Nothing, Fitted::Sensors, Fitted::Limit];
        let mut played: [Vec<Round>; 3] = fittings.map(|_| Vec::new());
        // Not counted: the kernel remembers between streams how a destination is reached.
        road.router.run(|| play(road, Fitted::Nothing, time))?.context("a first stream")?;
        for _ in 0..rounds {
            for (fitted, played) in fittings.iter().zip(&mut played) {
                let round = road.router.run(|| play(road, *fitted, time))?;
                played.push(round.with_context(|| format!("a stream through {fitted}"))?);
            }
        }
        let bare: Vec<f64> = played.first().into_iter().flatten().map(|round| round.cpu_us_per_mb).collect();
        for (fitted, played) in fittings.into_iter().zip(&played) {
            let added = played.iter().zip(&bare).map(|(round, bare)| round.cpu_us_per_mb - bare);
            all.push(Streamed {
                segment_by_segment,
                fitted,
                mbit_per_s: Figure::of(played.iter().map(|round| round.mbit_per_s))?,
                cpu_us_per_mb: Figure::of(played.iter().map(|round| round.cpu_us_per_mb))?,
                added_us_per_mb: (fitted != Fitted::Nothing).then(|| Figure::of(added)).transpose()?,
            });
        }
    }
    Ok(all)
}

/// One round, by a thread in the router's namespace.
fn play(road: &Road, fitted: Fitted, time: Duration) -> anyhow::Result<Round> {
    let fitting = Fitting::put(fitted, road.uplink)?;
    let listener = road.sink.run(|| TcpListener::bind((SINK, 0)))??;
    let mut stream = TcpStream::connect(listener.local_addr()?)?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (reader, _) = listener.accept()?;
    reader.set_read_timeout(Some(PATIENCE))?;
    stay_on_one_processor()?;
    let begun = Instant::now();
    let reading = thread::spawn(move || drain(reader));
    let before = processor();
    let chunk = vec![b'x'; CHUNK_BYTES];
    while begun.elapsed() < time {
        stream.write_all(&chunk).context("write to the stream")?;
    }
    stream.shutdown(Shutdown::Write)?;
    let written = processor() - before;
    let (bytes, read) =
        reading.join().map_err(|_| anyhow::anyhow!("the reader is gone"))?.context("read the stream")?;
    let took = begun.elapsed();
    fitting.take_out()?;
    let mb = f64::from(u32::try_from(bytes / 1_000)?) / 1e3;
    anyhow::ensure!(mb > 0.0, "nothing came through");
    Ok(Round {
        mbit_per_s: mb * 8.0 / took.as_secs_f64(),
        cpu_us_per_mb: (written + read).as_secs_f64() * 1e6 / mb,
    })
}

/// For this thread, and those that it starts.
fn stay_on_one_processor() -> anyhow::Result<()> {
    let may = sched_getaffinity(None)?;
    let last = (0..CpuSet::MAX_CPU).rev().find(|cpu| may.is_set(*cpu)).context("no processor for this")?;
    let mut one = CpuSet::new();
    one.set(last);
    sched_setaffinity(None, &one).context("stay on one processor")
}

/// Bytes until the end, and the processor time for them.
fn drain(mut stream: TcpStream) -> std::io::Result<(usize, Duration)> {
    let (mut bytes, mut buffer) = (0, vec![0; CHUNK_BYTES]);
    loop {
        match stream.read(&mut buffer) {
            Ok(0) => return Ok((bytes, processor())),
            Ok(read) => bytes += read,
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}
