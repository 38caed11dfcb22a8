//! Whoever has the server of a node that was cut off tries to come back with all that is on it.
//!
//! The host's own quarantine is swept away first, as root does. What no mesh can prevent is left out: on the same
//! Ethernet such a host can answer for any address; that ends when it is fenced.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use serde::Serialize;
use stead::agent_file::PORT;
use stead::demo::stage::Stage;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::{Place, now};
use stead_node::transport::Plane;
use stead_proto::time::Span;

use super::audience::Audience;
use crate::bad_input::intruder::Intruder;

/// How long each attempt may go on.
const TRIES_FOR: Span = Span::from_ms(2_500);
/// How far the address is to which it moves.
const DISTANCE: u8 = 50;
/// How long an honest host may take to put its rules back.
const RULES_BACK_WITHIN: Duration = Duration::from_secs(15);

/// What it tries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attempt {
    /// Its agent starts again, as it was.
    Again,
    /// Its agent starts with an empty store, as on a new server.
    Newborn,
    /// From an address that no firewall knows.
    Elsewhere,
    /// With a new key of its own.
    NewKey,
    /// Two hundred handshakes at each honest node, one after the other.
    Storm,
}

impl Attempt {
    /// All of them, in the order in which they build on each other.
    pub const ALL: [Self; 5] = [Self::Again, Self::Newborn, Self::NewKey, Self::Storm, Self::Elsewhere];
}

/// What came of one attempt.
#[derive(Clone, Debug, Serialize)]
pub struct Tried {
    /// Which.
    pub attempt: Attempt,
    /// Honest nodes that heard it, or let a connection of its stand.
    pub let_in: usize,
    /// Honest nodes that no longer have it as cut off.
    pub forgiven: usize,
    /// Honest nodes that did not answer their operator at the end.
    pub silent: usize,
}

impl Tried {
    /// Whether it failed.
    #[must_use]
    pub const fn failed(&self) -> bool {
        self.let_in == 0 && self.forgiven == 0 && self.silent == 0
    }
}

/// What came of all of them.
#[derive(Clone, Debug, Serialize)]
pub struct Comeback {
    /// Each attempt.
    pub tried: Vec<Tried>,
    /// The longest time for which visitors were not served.
    pub outage_ms: u64,
}

/// Tries everything with the node that all others have cut off.
///
/// # Errors
/// What could not be played, with the nodes' logs.
pub fn come_back(stage: &mut Stage, program: &Path) -> anyhow::Result<Comeback> {
    let out = |i: usize| stage.status(i).ok()?.own.isolated.first().copied();
    let id = (0..stage.players.len()).find_map(out).context("nobody is cut off")?;
    let bad = stage.players.iter().position(|player| player.id == id).context("a node of this mesh")?;
    let audience = Audience::seated(stage)?;
    let mut tried = Vec::new();
    for attempt in Attempt::ALL {
        tried.push(attempt.play(stage, program, bad)?);
    }
    Ok(Comeback { tried, outage_ms: audience.dismissed()?.as_ms() })
}

impl Attempt {
    fn play(self, stage: &mut Stage, program: &Path, bad: usize) -> anyhow::Result<Tried> {
        let place = stage.player(bad)?.place;
        // It may run, have ended, or never have started: all that counts is that it does not any more.
        let _ = stage.kill_agent(bad);
        sweep(stage, place)?;
        let begun = now();
        let mut entered = 0;
        let agent = match self {
            Self::Again => Some(start(stage, program, bad)?),
            Self::Newborn => {
                let directory = stage.player(bad)?.directory().to_owned();
                std::fs::remove_dir_all(directory.join("data")).context("empty its store")?;
                Some(start(stage, program, bad)?)
            }
            Self::Elsewhere => {
                let [a, b, c, d] = stage.lab.ip4(place).octets();
                let new = std::net::Ipv4Addr::new(a, b, c, d.saturating_add(DISTANCE));
                stage.lab.set_address(place, new.into())?;
                Some(start(stage, program, bad)?)
            }
            Self::NewKey | Self::Storm => {
                entered = self.knock(stage, bad)?;
                None
            }
        };
        while now().since(begun) < TRIES_FOR {
            std::thread::sleep(Duration::from_millis(100)); // while it tries
        }
        let tried = self.judge(stage, bad, now().since(begun), entered);
        if let Some(mut agent) = agent {
            // One that gave up by itself would have tried nothing.
            ensure!(agent.is_running()?, "{self:?}: its agent has ended: {}", agent.log_tail());
            agent.kill_9()?;
        }
        tried
    }

    /// Handshakes with each honest node; how many were let in.
    fn knock(self, stage: &Stage, bad: usize) -> anyhow::Result<usize> {
        let (place, id) = (stage.player(bad)?.place, stage.player(bad)?.id);
        let cluster = stage.status((bad + 1) % stage.players.len())?.state.cluster;
        // Without the storm, one for each plane.
        let times = if self == Self::Storm { 200 } else { 3 };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        runtime.block_on(async {
            let mut entered = 0;
            for other in stage.players.iter().filter(|other| other.id != id) {
                let to = SocketAddr::new(stage.lab.ip4(other.place).into(), PORT);
                for time in 0..times {
                    let seed = [u8::try_from(time % 200)?.wrapping_add(7); 32];
                    let intruder = Intruder::at(&stage.lab, place, seed, cluster)?;
                    let plane = [Plane::Report, Plane::Raft, Plane::Admin].get(time % 3).copied();
                    let alpn = plane.unwrap_or(Plane::Report).alpn();
                    if self == Self::Storm {
                        // It does not wait for the answer: that is what makes it a storm.
                        let knocked = intruder.connect(to, alpn);
                        let _ = tokio::time::timeout(Duration::from_millis(5), knocked).await;
                    } else {
                        entered += usize::from(intruder.is_let_in(to, alpn).await);
                    }
                }
            }
            Ok(entered)
        })
    }

    fn judge(self, stage: &Stage, bad: usize, tried_for: Span, entered: usize) -> anyhow::Result<Tried> {
        let id = stage.player(bad)?.id;
        let mut tried = Tried { attempt: self, let_in: entered, forgiven: 0, silent: 0 };
        for i in (0..stage.players.len()).filter(|i| *i != bad) {
            let Ok(status) = stage.status(i) else {
                tried.silent += 1;
                continue;
            };
            let heard = status.peers.iter().find(|peer| peer.node == id).and_then(|peer| peer.heard_ms_ago);
            tried.let_in += usize::from(heard.is_some_and(|ago| ago < tried_for.as_ms()));
            let out = status.own.isolated.contains(&id) && status.state.is_isolated(id);
            tried.forgiven += usize::from(!out);
        }
        Ok(tried)
    }
}

/// Takes the rules against the node that was cut off away on an honest host; whether they come back by themselves.
///
/// # Errors
/// That they do not, with the nodes' logs.
pub fn rules_come_back(stage: &mut Stage, honest: usize) -> anyhow::Result<()> {
    let place = stage.player(honest)?.place;
    let rules = |stage: &Stage| -> anyhow::Result<String> {
        let list = || Command::new("nft").args(["list", "tables"]).stdin(Stdio::null()).output();
        Ok(String::from_utf8_lossy(&stage.lab.namespace(place)?.run(list)??.stdout).into_owned())
    };
    let listed = rules(stage)?;
    let table = listed.lines().find(|line| line.contains("stead_outcasts")).context("no rules stand")?;
    let delete = || Command::new("nft").arg(format!("delete {table}")).stdin(Stdio::null()).status();
    ensure!(stage.lab.namespace(place)?.run(delete)??.success(), "nft does not delete {table}");
    ensure!(!rules(stage)?.contains("stead_outcasts"), "they stand still");
    stage.until("the rules are back", RULES_BACK_WITHIN, |stage| {
        rules(stage).ok().filter(|rules| rules.contains("stead_outcasts")).map(drop)
    })
}

/// Root on a host keeps no rule that its agent made.
fn sweep(stage: &Stage, place: Place) -> anyhow::Result<()> {
    let flush = || Command::new("nft").args(["flush", "ruleset"]).stdin(Stdio::null()).status();
    ensure!(stage.lab.namespace(place)?.run(flush)??.success(), "nft cannot flush the rules of {place}");
    Ok(())
}

fn start(stage: &Stage, program: &Path, bad: usize) -> anyhow::Result<Process> {
    let player = stage.player(bad)?;
    let config = player.directory().join("agent.toml");
    let argv =
        [program.as_os_str(), "agent".as_ref(), "--config".as_ref(), config.as_ref(), "--create".as_ref()];
    let log = player.directory().join("come-back.log");
    Ok(Process::start(stage.lab.namespace(player.place)?, &argv, &[], &log)?)
}
