//! What the agent's thread spends in the kernel ten times a second: reading the sensors, and keeping the limit.
//!
//! It ticks in real time, for a loop without pauses would find every cache warm; somebody sends meanwhile, so that
//! there is something to tell.
//!
//! **Invariant.** A tick whose sample lacks a sensor, or a limit that was not as it should be, is an error.

use super::figure::{Figure, processor};
use super::fitted::{Fitted, Fitting};
use super::frames::SYN;
use super::road::Road;
use anyhow::{Context as _, ensure};
use serde::Serialize;
use socket2::{Domain, Protocol, Socket, Type};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};
use stead_node::guard::limiter::Found;
use stead_node::sys::packet_address;

/// Connections that are begun through the router meanwhile.
const SYNS_PER_S: u32 = 200;

/// One thing that the thread does.
#[derive(Debug, Serialize)]
pub struct Chore {
    /// What.
    pub what: &'static str,
    /// How often an agent does it.
    pub per_s: f64,
    /// From beginning to end.
    pub took_us: Figure,
    /// The thread's processor time.
    pub cpu_us: Figure,
    /// The mean of that, at the agent's pace, in percent of one core.
    pub cpu_percent: f64,
}

#[derive(Default)]
struct Spent {
    took: Vec<f64>,
    cpu: Vec<f64>,
}

impl Spent {
    fn time<T>(&mut self, work: impl FnOnce() -> T) -> T {
        let (begun, before) = (Instant::now(), processor());
        let result = work();
        let (cpu, took) = (processor() - before, begun.elapsed());
        self.took.push(took.as_secs_f64() * 1e6);
        self.cpu.push(cpu.as_secs_f64() * 1e6);
        result
    }

    fn told(self, what: &'static str, per_s: f64) -> anyhow::Result<Chore> {
        let count = f64::from(u32::try_from(self.cpu.len())?);
        Ok(Chore {
            what,
            per_s,
            cpu_percent: self.cpu.iter().sum::<f64>() / count * per_s / 1e6 * 100.0,
            took_us: Figure::of(self.took)?,
            cpu_us: Figure::of(self.cpu)?,
        })
    }
}

/// So many ticks, the first one not counted: it loads what the others find loaded.
pub(super) fn measure(road: &Road, ticks: u32, tick: Duration) -> anyhow::Result<Vec<Chore>> {
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let sending = scope.spawn(|| road.sender.run(|| send_until(road, &over)));
        let chores = road.router.run(|| keep(road, ticks, tick));
        over.store(true, Ordering::Relaxed);
        sending.join().map_err(|_| anyhow::anyhow!("the sender is gone"))???;
        chores?
    })
}

fn keep(road: &Road, ticks: u32, tick: Duration) -> anyhow::Result<Vec<Chore>> {
    let mut fitting = Fitting::put(Fitted::Limit, road.uplink)?;
    let (mut reading, mut counting, mut verifying, mut renewing) =
        (Spent::default(), Spent::default(), Spent::default(), Spent::default());
    let sensors = fitting.sensors.as_mut().context("no sensors")?;
    let guard = fitting.guard.as_mut().context("no limit")?;
    let mut told = 0;
    let mut next = Instant::now();
    for number in 0..=ticks {
        thread::sleep(next.saturating_duration_since(Instant::now()));
        next += tick;
        if number == 0 {
            sensors.read();
            continue;
        }
        let sample = reading.time(|| sensors.read());
        ensure!(
            sample.netdev_syn.is_some() && sample.kernel.is_some() && sample.uplink.is_some(),
            "a sensor went blind: {:?}",
            sensors.missing()
        );
        told += sample.egress.context("the egress sensor went blind")?.syn.forwarded;
        counting.time(|| guard.counters())?;
        // As often as an agent does: each half second, and each second.
        if number % 5 == 0 {
            renewing.time(|| guard.renew())?;
        }
        if number % 10 == 0 {
            let found = verifying.time(|| guard.verify())?;
            ensure!(found == Found::Intact, "somebody else changed the limit");
        }
    }
    ensure!(told > 0, "there was nothing to tell");
    fitting.take_out()?;
    Ok(vec![
        reading.told("sensors: read", 10.0)?,
        counting.told("limit: counters", 10.0)?,
        renewing.told("limit: renew", 2.0)?,
        verifying.told("limit: verify", 1.0)?,
    ])
}

fn send_until(road: &Road, over: &AtomicBool) -> anyhow::Result<()> {
    let socket = Socket::new(Domain::PACKET, Type::RAW, None::<Protocol>)?;
    socket.bind(&packet_address(road.way_out, 0))?;
    let mut path = road.path();
    while !over.load(Ordering::Relaxed) {
        path.ports.0 = path.ports.0.wrapping_add(1);
        socket.send(&path.tcp(SYN, 0, 0))?;
        thread::sleep(Duration::from_secs(1) / SYNS_PER_S);
    }
    Ok(())
}
