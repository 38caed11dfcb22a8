//! The eight honest profiles, played for real: a client process on a node opens the connections that the simulator's
//! parameters say, to a host that answers, one port that refuses and one that is silent.
//!
//! **Invariant.** Only `connect`: nothing is forged. A connection to a dead host is tried for as long as the profile
//! is played, so that the kernel repeats its SYNs as it would. What the simulator has and a lab has not: round-trip
//! times and loss; this is the milder half.

use std::ffi::OsString;
use std::net::SocketAddrV4;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use clap::Parser;
use rustix::process::{Resource, getrlimit, setrlimit};
use serde::{Deserialize, Serialize};
use stead_deploy::lab::now;
use stead_deploy::lab::process::Process;
use stead_proto::admin::Status;
use stead_proto::detect::{Detector, Level};
use stead_proto::lookout::Posture;
use stead_proto::time::{Instant, Span};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant as Deadline, timeout_at};

use super::scene::Scene;
use super::victim::{CLOSED, OPEN, SILENT};
use crate::lease_search::rng::Rng;
use crate::traffic::chance;
use crate::traffic::profile::PROFILES;

/// Hosts that answer with a RST, of a million: as the simulator has it.
const REFUSED_PPM: u64 = 10_000;
/// How long an answer may take of a host that is there.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Connections that may wait at once.
const WAITING_MAX: usize = 20_000;
/// How long the client may go on beyond its time.
const OVERTIME: Duration = Duration::from_secs(15);
const TICK_MS: u64 = 10;

/// What to play.
#[derive(Clone, Debug, Parser)]
#[command(name = "honest-client", about = "opens honest connections inside a namespace of the lab")]
struct Order {
    #[arg(long)]
    profile: usize,
    #[arg(long)]
    seconds: u64,
    #[arg(long)]
    seed: u64,
    /// The host that answers on one port, refuses on another and is silent on a third.
    #[arg(long)]
    to: SocketAddrV4,
}

/// What the client says at its end.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Connections begun.
    pub begun: u64,
    /// Of these, those to a host that is there.
    pub living: u64,
    /// Of these, those that were not answered in time, or not at all.
    pub unanswered: u64,
    /// Of the living, those that took a second or more: the limit had cut a SYN off.
    pub late: u64,
}

/// What one profile came to. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct HonestRun {
    /// Which profile.
    pub profile: &'static str,
    /// For how many seconds it was played.
    pub seconds: u64,
    /// What its client did.
    pub opened: Opened,
    /// Every detector that was not calm, and the worst that it said.
    pub alarms: Vec<(&'static str, String)>,
    /// For how long the node was throttled.
    pub throttled_ms: u64,
    /// How often it began to be.
    pub throttles: u64,
    /// The most SYNs in a second, by the node's own word.
    pub peak: u32,
    /// Whether any detector convicted it.
    pub convicted: bool,
}

/// A client's process.
#[must_use]
pub(super) fn main(arguments: &[OsString]) -> ExitCode {
    let order = Order::try_parse_from(arguments.iter().skip(1)).map_err(anyhow::Error::from);
    match order.and_then(|order| Ok(serde_json::to_string(&open(&order)?)?)) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Plays profiles, one on each node at the same time, for so many seconds.
///
/// # Errors
/// What could not be played, with the nodes' logs; that there are more profiles than nodes.
pub fn play_honest(
    scene: &mut Scene,
    profiles: &[usize],
    seconds: u64,
    seed: u64,
) -> anyhow::Result<Vec<HonestRun>> {
    ensure!(profiles.len() <= scene.stage.players.len(), "one profile on each node");
    let mut parts = Vec::new();
    for (i, profile) in profiles.iter().enumerate() {
        scene.until_free(i)?;
        let profile_of = PROFILES.get(*profile).context("there are eight profiles")?;
        let argv = [
            scene.program().as_os_str().to_owned(),
            super::CLIENT.into(),
            "--profile".into(),
            profile.to_string().into(),
            "--seconds".into(),
            seconds.to_string().into(),
            "--seed".into(),
            seed.to_string().into(),
            "--to".into(),
            scene.victim.at(OPEN).to_string().into(),
        ];
        let log = scene.stage.directory.join(format!("client-{profile}.log"));
        let namespace = scene.stage.lab.namespace(scene.stage.player(i)?.place)?;
        let client = Process::start(namespace, &argv, &[], &log)?;
        parts.push(Part { i, client, run: HonestRun::of(profile_of.name, seconds), throttled: None });
    }
    let patience = Duration::from_secs(seconds) + OVERTIME;
    scene.stage.until("the clients have ended", patience, |stage| {
        let mut running = false;
        for part in &mut parts {
            if let Ok(status) = stage.status(part.i) {
                part.take(&status);
            }
            running |= part.client.is_running().unwrap_or(false);
        }
        (!running).then_some(())
    })?;
    parts.into_iter().map(Part::end).collect()
}

struct Part {
    i: usize,
    client: Process,
    run: HonestRun,
    throttled: Option<Instant>,
}

impl Part {
    fn take(&mut self, status: &Status) {
        let (seen, at) = (&status.own.traffic, now());
        self.run.peak = self.run.peak.max(seen.out.syn);
        for (detector, level) in &seen.alarms {
            self.run.alarm(*detector, *level);
        }
        self.run.convicted |= seen.flood.as_ref().is_some_and(|flood| flood.worst == Level::Convict);
        match (seen.posture == Posture::Throttled, self.throttled) {
            (true, None) => {
                self.throttled = Some(at);
                self.run.throttles += 1;
            }
            (false, Some(began)) => {
                self.run.throttled_ms += at.since(began).as_ms();
                self.throttled = None;
            }
            (true, Some(_)) | (false, None) => {}
        }
    }

    fn end(mut self) -> anyhow::Result<HonestRun> {
        let status = self.client.wait(OVERTIME)?;
        ensure!(status.success(), "the client failed: {}", self.client.log_tail());
        self.run.throttled_ms += self.throttled.map_or(Span::ZERO, |began| now().since(began)).as_ms();
        let text = std::fs::read_to_string(self.client.log())?;
        self.run.opened = serde_json::from_str(text.lines().next_back().unwrap_or_default())?;
        Ok(self.run)
    }
}

impl HonestRun {
    fn of(profile: &'static str, seconds: u64) -> Self {
        Self {
            profile,
            seconds,
            opened: Opened::default(),
            alarms: Vec::new(),
            throttled_ms: 0,
            throttles: 0,
            peak: 0,
            convicted: false,
        }
    }

    fn alarm(&mut self, detector: Detector, level: Level) {
        if level <= Level::Calm {
            return;
        }
        self.convicted |= level == Level::Convict;
        let (code, level) = (detector.code(), format!("{level:?}"));
        match self.alarms.iter_mut().find(|(known, _)| *known == code) {
            // `Convict` stays, whatever comes after it.
            Some((_, known)) if level == "Convict" => *known = level,
            Some(_) => {}
            None => self.alarms.push((code, level)),
        }
    }
}

fn open(order: &Order) -> anyhow::Result<Opened> {
    let mut files = getrlimit(Resource::Nofile);
    files.current = files.maximum;
    setrlimit(Resource::Nofile, files).context("raise the limit on open files")?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(connect_all(order))
}

#[derive(Debug, Default)]
struct Counts {
    unanswered: AtomicU64,
    late: AtomicU64,
}

async fn connect_all(order: &Order) -> anyhow::Result<Opened> {
    let profile = PROFILES.get(order.profile).context("there are eight profiles")?;
    let mut rng = Rng::new(order.seed);
    let (began, counts) = (Deadline::now(), Arc::new(Counts::default()));
    let ends = began + Duration::from_secs(order.seconds);
    let (mut opened, mut tasks) = (Opened::default(), JoinSet::new());
    let (mut tick, mut until_next_ppm) = (0_u64, chance::gap_ppm(&mut rng));
    let mut ticks = tokio::time::interval(Duration::from_millis(TICK_MS));
    while Deadline::now() < ends {
        ticks.tick().await;
        let load = profile.at(tick * TICK_MS / 1_000);
        // A rate of one per 1000 s makes ten millionths of a connection in ten milliseconds.
        let mut budget_ppm = load.per_1000_s * TICK_MS;
        tick += 1;
        while until_next_ppm <= budget_ppm {
            budget_ppm -= until_next_ppm;
            until_next_ppm = chance::gap_ppm(&mut rng);
            let fate = rng.below(1_000_000);
            opened.begun += 1;
            ensure!(tasks.len() < WAITING_MAX, "too many connections wait");
            if fate < load.dead_ppm {
                tasks.spawn(in_vain(SocketAddrV4::new(*order.to.ip(), SILENT), ends));
                continue;
            }
            let refuses = fate - load.dead_ppm < REFUSED_PPM;
            let port = if refuses { CLOSED } else { order.to.port() };
            opened.living += 1;
            tasks.spawn(in_time(SocketAddrV4::new(*order.to.ip(), port), Arc::clone(&counts)));
        }
        until_next_ppm -= budget_ppm;
        while tasks.try_join_next().is_some() {}
    }
    while tasks.join_next().await.is_some() {}
    opened.unanswered = counts.unanswered.load(Ordering::Relaxed);
    opened.late = counts.late.load(Ordering::Relaxed);
    Ok(opened)
}

async fn in_vain(to: SocketAddrV4, ends: Deadline) {
    // Nobody answers: the connection waits until the play is over.
    let _waited = timeout_at(ends, TcpStream::connect(to)).await;
}

async fn in_time(to: SocketAddrV4, counts: Arc<Counts>) {
    let began = Deadline::now();
    // A refusal is an answer.
    if timeout_at(began + ANSWER_WITHIN, TcpStream::connect(to)).await.is_err() {
        counts.unanswered.fetch_add(1, Ordering::Relaxed);
    } else if began.elapsed() >= Duration::from_millis(900) {
        counts.late.fetch_add(1, Ordering::Relaxed);
    }
}
