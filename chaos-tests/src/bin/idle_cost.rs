//! What an agent costs when nothing happens: memory, processor and traffic in a mesh of three.
//!
//! `cargo run --release -p chaos-tests --bin idle_cost -- --seconds 30`. Needs root for the exact gate.
//!
//! Processors differ, and a virtual one differs from hour to hour. So the table ends with a yardstick: what a bare loop
//! that wakes up as often as an agent's lease thread, and exchanges a datagram each time, costs on this machine now.

use std::net::UdpSocket;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, anyhow};
use clap::Parser;
use serde::Serialize;
use stead::demo::stage::{Cast, Stage, scratch};
use stead_deploy::lab::Family;

/// Clock ticks a second in /proc/PID/stat: `USER_HZ`, 100 on every Linux that Rust runs on.
const TICKS_PER_SECOND: f64 = 100.0;

#[derive(Debug, Parser)]
struct Options {
    /// How long to watch.
    #[arg(long, default_value_t = 30)]
    seconds: u64,
    /// The lease in milliseconds.
    #[arg(long, default_value_t = 350)]
    lease: u32,
    /// Print JSON lines besides the table.
    #[arg(long)]
    json: bool,
}

/// About as often as the lease thread of an agent in a mesh of three wakes up (measured with `perf`).
const EXCHANGES_PER_S: u32 = 90;

/// One node, over the time watched.
#[derive(Debug, Serialize)]
struct Cost {
    node: String,
    holds: bool,
    leads: bool,
    /// Resident memory at the end, in MB of 10^6 bytes.
    rss_mb: f64,
    /// Of one core.
    cpu_percent: f64,
    /// With all headers, both directions, for each of the two peers, in 10^3 bytes a second.
    sent_kb_per_s_and_peer: f64,
    received_kb_per_s_and_peer: f64,
}

/// A moment of one agent.
#[derive(Clone, Copy, Debug)]
struct Sample {
    ticks: f64,
    sent: f64,
    received: f64,
    rss_kib: f64,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // The nodes of the lab are this very program.
    if arguments.get(1).is_some_and(|word| word == "agent" || word == "sample-site") {
        return Ok(stead::run(arguments).into());
    }
    let options = Options::parse();
    let directory = scratch(&std::env::temp_dir())?;
    let program = std::env::current_exe().context("find this program")?;
    let cast = Cast {
        nodes: 3,
        lease_ms: options.lease,
        program,
        directory: directory.clone(),
        gate: None,
        family: Family::Ip4,
        judges: true,
    };
    let mut stage = Stage::raise(&cast)?;
    let holder = stage.until_served()?;
    let leader = stage.until("somebody leads", Duration::from_secs(10), |stage| stage.leader())?;
    eprintln!("watching for {} s", options.seconds);
    std::thread::sleep(Duration::from_secs(5));
    let before = samples(&mut stage)?;
    std::thread::sleep(Duration::from_secs(options.seconds));
    let after = samples(&mut stage)?;
    let seconds = Duration::from_secs(options.seconds).as_secs_f64();
    println!(
        "{:<6} {:>6} {:>6} {:>8} {:>7} {:>14} {:>14}",
        "node", "holds", "leads", "RSS", "CPU", "sent/peer", "recv/peer"
    );
    for (i, (before, after)) in before.iter().zip(&after).enumerate() {
        let kb_per_s_and_peer = |bytes: f64| bytes / seconds / 2.0 / 1_000.0;
        let cost = Cost {
            node: stage.player(i)?.name.to_string(),
            holds: i == holder,
            leads: i == leader,
            rss_mb: after.rss_kib * 1_024.0 / 1e6,
            cpu_percent: (after.ticks - before.ticks) / TICKS_PER_SECOND / seconds * 100.0,
            sent_kb_per_s_and_peer: kb_per_s_and_peer(after.sent - before.sent),
            received_kb_per_s_and_peer: kb_per_s_and_peer(after.received - before.received),
        };
        println!(
            "{:<6} {:>6} {:>6} {:>5.1} MB {:>5.2} % {:>9.2} kB/s {:>9.2} kB/s",
            cost.node,
            cost.holds,
            cost.leads,
            cost.rss_mb,
            cost.cpu_percent,
            cost.sent_kb_per_s_and_peer,
            cost.received_kb_per_s_and_peer
        );
        if options.json {
            println!("{}", serde_json::to_string(&cost)?);
        }
    }
    drop(stage);
    std::fs::remove_dir_all(directory)?;
    let bare = yardstick(Duration::from_secs(options.seconds.min(10)))?;
    println!(
        "yardstick: a bare loop of {EXCHANGES_PER_S} exchanged datagrams a second costs {bare:.2} % here"
    );
    if options.json {
        println!("{}", serde_json::json!({ "yardstick_cpu_percent": bare }));
    }
    Ok(ExitCode::SUCCESS)
}

/// The processor time of one thread, in percent of a core, that sends a datagram over the loopback device
/// [`EXCHANGES_PER_S`] times a second and waits for its echo.
fn yardstick(time: Duration) -> anyhow::Result<f64> {
    let (here, there) = (UdpSocket::bind("127.0.0.1:0")?, UdpSocket::bind("127.0.0.1:0")?);
    here.connect(there.local_addr()?)?;
    there.connect(here.local_addr()?)?;
    there.set_read_timeout(Some(Duration::from_secs(1)))?;
    here.set_read_timeout(Some(Duration::from_secs(1)))?;
    let echo = std::thread::spawn(move || {
        let mut bytes = [0; 64];
        while there.recv(&mut bytes).is_ok_and(|length| length > 0) && there.send(&bytes).is_ok() {}
    });
    let processor_ns = || -> anyhow::Result<f64> {
        let text = std::fs::read_to_string("/proc/thread-self/schedstat")?;
        Ok(text.split(' ').next().context("an empty schedstat")?.parse()?)
    };
    let (began, before) = (Instant::now(), processor_ns()?);
    let mut bytes = [0; 64];
    while began.elapsed() < time {
        here.send(&bytes)?;
        here.recv(&mut bytes)?;
        std::thread::sleep(Duration::from_secs(1) / EXCHANGES_PER_S);
    }
    let spent_ns = processor_ns()? - before;
    here.send(&[])?;
    drop(echo.join());
    Ok(spent_ns / 1e9 / began.elapsed().as_secs_f64() * 100.0)
}

fn samples(stage: &mut Stage) -> anyhow::Result<Vec<Sample>> {
    (0..stage.players.len()).map(|i| sample(stage.agent(i)?.pid())).collect()
}

fn sample(pid: u32) -> anyhow::Result<Sample> {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{pid}/{file}"));
    let stat = read("stat")?;
    // Fields 14 and 15 of proc(5), counted behind the name in brackets.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let number = |words: &[&str], at: usize| -> anyhow::Result<f64> {
        Ok(words.get(at).ok_or_else(|| anyhow!("field {at} is missing"))?.parse()?)
    };
    let status = read("status")?;
    let rss = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
    let devices = read("net/dev")?;
    let uplink = devices.lines().find_map(|line| line.trim().strip_prefix("eth0:")).context("no eth0")?;
    let counters: Vec<&str> = uplink.split_whitespace().collect();
    Ok(Sample {
        ticks: number(&fields, 11)? + number(&fields, 12)?,
        received: number(&counters, 0)?,
        sent: number(&counters, 8)?,
        rss_kib: rss.trim().trim_end_matches(" kB").parse()?,
    })
}
