//! Root on one server who knows of the agent, and keeps it from telling: as in the night that stead was made for.
//!
//! Real servers in the lab: OpenSSH on every node, and on the bad one a web server that answers its own checks as they
//! should be, and strangers with 404.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stead::demo::stage::{SITE_PORT, Stage};
use stead_deploy::lab::Place;
use stead_deploy::lab::now;
use stead_deploy::lab::process::Process;
use stead_proto::id::{Name, NodeId};
use stead_proto::order::Act;
use stead_proto::time::Span;

use super::audience::Audience;

const SSHD: &str = "/usr/sbin/sshd";
/// How long the peers may take to see, to be sure, and to act.
const PATIENCE: Duration = Duration::from_secs(200);

/// Whether this machine has what the servers need; `.ci/run` sees to it.
#[must_use]
pub fn has_sshd() -> bool {
    Path::new(SSHD).exists()
}

/// What came of it.
#[derive(Clone, Copy, Debug)]
pub struct Found {
    /// How long it took.
    pub after: Span,
    /// The longest time for which visitors were not served.
    pub outage: Span,
    /// Honest nodes that somebody cut off or demoted.
    pub wronged: usize,
}

/// The SSH servers of the mesh, one for each node.
#[derive(Debug)]
pub struct Servers(Vec<Process>);

impl Servers {
    /// Starts them, restarts the agents, so that these look soon, and waits until the mesh knows every host key.
    ///
    /// # Errors
    /// What could not be started, or that a key was not learned.
    pub fn start(stage: &mut Stage) -> anyhow::Result<Self> {
        let all = 0..stage.players.len();
        let servers = all.clone().map(|i| sshd(stage, i, "first")).collect::<anyhow::Result<_>>()?;
        for i in all {
            stage.kill_agent(i)?;
            stage.start_agent(i)?;
        }
        stage.until("the mesh knows every host key", PATIENCE, |stage| {
            let status = stage.status(0).ok()?;
            (status.state.host_keys.len() == stage.players.len()).then_some(())
        })?;
        stage.until_served()?;
        Ok(Self(servers))
    }

    /// Kills the agent of the node `bad`, and puts another SSH server in the place of its own.
    ///
    /// # Errors
    /// What could not be played, or that it was not cut off, with the nodes' logs.
    pub fn replace(&mut self, stage: &mut Stage, bad: usize) -> anyhow::Result<Found> {
        let audience = Audience::seated(stage)?;
        let begun = now();
        stage.kill_agent(bad)?;
        let server = self.0.get_mut(bad).context("no such server")?;
        server.kill_9()?;
        *server = sshd(stage, bad, "other")?;
        let id = stage.player(bad)?.id;
        stage.until("its peers cut it off", PATIENCE, |stage| {
            let honest = (0..stage.players.len()).filter(|i| *i != bad);
            honest.into_iter().all(|i| stage.status(i).is_ok_and(|s| s.state.is_isolated(id))).then_some(())
        })?;
        let after = now().since(begun);
        Ok(Found { after, outage: audience.dismissed()?, wronged: wronged(stage, id) })
    }
}

/// Lets the holder show strangers another page than its own checks.
///
/// # Errors
/// What could not be played, or that the site was not served elsewhere, with the nodes' logs.
pub fn deface(stage: &mut Stage) -> anyhow::Result<Found> {
    let bad = stage.holder().context("nobody serves")?;
    let id = stage.player(bad)?.id;
    stage.kill_site(bad)?;
    let defaced = Defaced::start(stage, stage.player(bad)?.place)?;
    // The way back to the holder that it was: only who serves can deface.
    let (endpoint, leader): (Name, _) = ("www".parse()?, stage.leader().context("nobody leads")?);
    stage.until("the defaced one serves", PATIENCE, |stage| {
        if stage.holder() == Some(bad) {
            return Some(());
        }
        let _ = stage.order(leader, Act::Move { endpoint: endpoint.clone(), to: id });
        std::thread::sleep(Duration::from_millis(300)); // an order takes its time, and one is enough
        None
    })?;
    let begun = now();
    stage.until("the site is served elsewhere", PATIENCE, |stage| {
        stage.holder().filter(|holder| *holder != bad)
    })?;
    let after = now().since(begun);
    let audience = Audience::seated(stage)?;
    std::thread::sleep(Duration::from_secs(15)); // one more round of looks, at the new holder
    ensure!(stage.holder() != Some(bad), "it serves again");
    drop(defaced);
    Ok(Found { after, outage: audience.dismissed()?, wronged: wronged(stage, id) })
}

/// Honest nodes against whom anything was done.
fn wronged(stage: &Stage, bad: NodeId) -> usize {
    let statuses = (0..stage.players.len()).filter_map(|i| stage.status(i).ok());
    let of = |status: stead_proto::admin::Status| {
        let isolated = status.state.isolations.keys().filter(|node| **node != bad).count();
        isolated + status.cases.iter().filter(|case| case.demoted && case.subject != bad).count()
    };
    statuses.map(of).sum()
}

/// An sshd on the address of a node, with a host key of its own.
fn sshd(stage: &Stage, i: usize, which: &str) -> anyhow::Result<Process> {
    let player = stage.player(i)?;
    let key = player.directory().join(format!("host-key-{which}"));
    let made = Command::new("ssh-keygen").args(["-q", "-N", "", "-t", "ed25519", "-f"]).arg(&key).status()?;
    ensure!(made.success(), "ssh-keygen makes no key");
    // Debian's sshd wants the directory, and the lab's processes have a /run of their own.
    let script = "mkdir -p /run/sshd && exec \"$0\" -D -e -f /dev/null -o PidFile=none -o \"$1\" -o \"$2\"";
    let listen = format!("ListenAddress={}", stage.lab.ip4(player.place));
    let key = format!("HostKey={}", key.display());
    let argv = ["/bin/sh", "-c", script, SSHD, &listen, &key];
    let log = player.directory().join(format!("sshd-{which}.log"));
    Ok(Process::start(stage.lab.namespace(player.place)?, &argv, &[], &log)?)
}

/// A web server that knows who asks.
struct Defaced {
    ends: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Defaced {
    fn start(stage: &Stage, place: Place) -> anyhow::Result<Self> {
        let ends = Arc::new(AtomicBool::new(false));
        let bind = || TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, SITE_PORT)));
        let deadline = std::time::Instant::now() + Duration::from_secs(5);
        // The port is free once the killed one is gone altogether.
        let listener = loop {
            match stage.lab.namespace(place)?.run(bind)? {
                Ok(listener) => break listener,
                Err(error) => ensure!(std::time::Instant::now() < deadline, "{error}"),
            }
        };
        listener.set_nonblocking(true)?;
        let over = ends.clone();
        let thread = std::thread::spawn(move || {
            while !over.load(Ordering::Relaxed) {
                match listener.accept() {
                    Ok((stream, from)) => drop(answer(stream, from)),
                    Err(_) => std::thread::sleep(Duration::from_millis(2)),
                }
            }
        });
        Ok(Self { ends, thread: Some(thread) })
    }
}

impl Drop for Defaced {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn answer(mut stream: std::net::TcpStream, from: SocketAddr) -> std::io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(Duration::from_millis(300)))?;
    let _ = stream.read(&mut [0; 1_024])?;
    let status = if from.ip().is_loopback() { "200 OK" } else { "404 Not Found" };
    write!(stream, "HTTP/1.1 {status}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
}
