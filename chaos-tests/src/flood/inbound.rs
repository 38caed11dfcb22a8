//! A flood of SYNs from invented addresses onto the endpoint, with visitors beside it: on a node of the mesh, and on
//! a host without stead whose kernel has its cookies off.
//!
//! **Invariant.** The attacker is a host of the lab, its invented addresses are those of RFC 2544, and the answers to
//! them end at that host.

use std::net::{IpAddr, SocketAddrV4};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use serde::Serialize;
use stead::demo::stage::SITE_PORT;
use stead_deploy::lab::namespace::Namespace;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::{Place, now, outage};
use stead_proto::admin::Status;
use stead_proto::id::NodeId;
use stead_proto::incident::Matter;
use stead_proto::time::Instant;

use super::figures::Spread;
use super::flooder::{Order, Way};
use super::incident;
use super::scene::{ATTACKER, BARE, PATIENCE, Scene, diary, during};

/// For how long the flood lasts.
const LASTS_MS: u64 = 5_000;
/// After how long the mesh has to call it by its name.
const OPENED_WITHIN: Duration = Duration::from_secs(5);

/// Who serves the site.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Served {
    /// The mesh: cookies, and the shield.
    ByStead,
    /// A host without an agent, cookies off.
    Alone,
}

/// What one inbound flood came to. Times in milliseconds.
#[derive(Clone, Debug, Serialize)]
pub struct InboundRun {
    /// Who was flooded.
    pub served: Served,
    /// Spoofed SYNs sent.
    pub sent: u64,
    /// Requests of visitors meanwhile.
    pub asked: u64,
    /// Of these, those that failed.
    pub failed: u64,
    /// How long those that were served took, in microseconds.
    pub latency_us: Option<Spread>,
    /// The longest time without service, while it lasted.
    pub outage_ms: u64,
    /// From the flood's beginning until the mesh had an incident.
    pub opened_ms: Option<u64>,
    /// From the flood's beginning until a SYN proxy stood in front of the endpoint.
    pub shielded_ms: Option<u64>,
    /// What the incident told in the end: SYNs received, and those that met a full queue.
    pub told: Option<(u64, u64)>,
    /// Whether the same node held the endpoint all the time, and nobody moved, lost or accused anything.
    pub calm: bool,
    /// Whether everything that is asked was reached; nothing is asked of a host alone.
    pub reached: bool,
}

/// Floods the site at `per_s`.
///
/// # Errors
/// What could not be played, with the nodes' logs.
pub fn play_inbound(scene: &mut Scene, served: Served, per_s: u32) -> anyhow::Result<InboundRun> {
    let nodes = u8::try_from(scene.stage.players.len())?;
    for place in (0..nodes).map(Place::Node).chain([BARE]) {
        let via = scene.stage.lab.ip4(ATTACKER);
        ip(scene.stage.lab.namespace(place)?, &format!("route replace 198.18.0.0/15 via {via}"))?;
    }
    set(scene.stage.lab.namespace(ATTACKER)?, "net/ipv4/ip_forward", "0")?;
    match served {
        Served::ByStead => by_stead(scene, per_s),
        Served::Alone => alone(scene, per_s),
    }
}

fn by_stead(scene: &mut Scene, per_s: u32) -> anyhow::Result<InboundRun> {
    let holder = scene.stage.until_served()?;
    let node = scene.stage.player(holder)?.id;
    let before = incident::last_id(&scene.stage.status(holder)?);
    let IpAddr::V4(endpoint) = scene.stage.address else { bail!("the stage is not over IPv4") };
    let visitor = scene.visit(scene.stage.address)?;
    let since = now();
    let mut flood =
        scene.start_order(ATTACKER, &order(scene, SocketAddrV4::new(endpoint, SITE_PORT), per_s))?;
    let matter = Matter::InboundFlood(node);
    let (mut opened, mut shielded) = (None, None);
    let found = scene.stage.until("the mesh knows of the flood", OPENED_WITHIN, |stage| {
        let status = stage.status(holder).ok()?;
        if status.own.traffic.inbound.shielded {
            shielded.get_or_insert_with(now);
        }
        if incident::latest(&status, &matter, before).is_some() {
            opened.get_or_insert_with(now);
        }
        opened.map(|_| ())
    });
    let sent = flood.ended()?;
    if let Err(error) = found {
        eprintln!("{error:#}");
    }
    let ended = Instant::from_ns(sent.ended_ns);
    let still = scene.stage.holder() == Some(holder);
    let closing = scene.stage.until("the incident is closed", PATIENCE, |stage| {
        incident::closing(incident::latest(&stage.status(holder).ok()?, &matter, before)?)
    });
    let status = scene.stage.status(holder)?;
    let calm = still && scene.stage.holder() == Some(holder) && is_calm(&status, node, before);
    let visits = diary(visitor)?;
    let mut run = figures(Served::ByStead, &visits, since, ended);
    run.sent = sent.syns;
    run.opened_ms = opened.map(|at: Instant| at.since(since).as_ms());
    run.shielded_ms = shielded.map(|at: Instant| at.since(since).as_ms());
    run.told = closing.ok().map(|closing| (closing.syns, closing.part));
    run.calm = calm;
    run.reached = calm && run.failed == 0 && run.opened_ms.is_some() && run.told.is_some();
    Ok(run)
}

fn alone(scene: &mut Scene, per_s: u32) -> anyhow::Result<InboundRun> {
    let (own, namespace) = (scene.stage.lab.ip4(BARE), scene.stage.lab.namespace(BARE)?);
    set(namespace, "net/ipv4/tcp_syncookies", "0")?;
    let log = scene.stage.directory.join("alone.log");
    let hang = scene.stage.directory.join("alone.hang");
    let argv = [scene.program().as_os_str(), "sample-site".as_ref(), "alone".as_ref(), hang.as_os_str()];
    let site = Process::start(namespace, &argv, &[], &log)?;
    let visitor = scene.visit(own.into())?;
    scene.stage.until("the host without stead serves", PATIENCE, |_| {
        visitor.so_far().visits.iter().rev().any(outage::is_good).then_some(())
    })?;
    let since = now();
    let mut flood = scene.start_order(ATTACKER, &order(scene, SocketAddrV4::new(own, SITE_PORT), per_s))?;
    let sent = flood.ended()?;
    let visits = diary(visitor)?;
    drop(site);
    let mut run = figures(Served::Alone, &visits, since, Instant::from_ns(sent.ended_ns));
    run.sent = sent.syns;
    (run.calm, run.reached) = (true, true);
    Ok(run)
}

fn order(scene: &Scene, to: SocketAddrV4, per_s: u32) -> Order {
    let from = scene.stage.lab.ip4(ATTACKER);
    Order { way: Way::Spoofed, from, to, per_s: Some(per_s), lasts_ms: LASTS_MS }
}

fn figures(
    served: Served,
    visits: &[stead_deploy::lab::visitor::Visit],
    since: Instant,
    ended: Instant,
) -> InboundRun {
    let (asked, failed) = during(visits, since, ended);
    let good =
        visits.iter().filter(|visit| outage::is_good(visit) && visit.due >= since && visit.due < ended);
    let gap = |gap: outage::Gap| {
        let (from, until) = (gap.from.unwrap_or(since), gap.until.unwrap_or(ended));
        until.min(ended).since(from.max(since))
    };
    let outage = outage::outages(visits).into_iter().map(gap).max().unwrap_or_default();
    InboundRun {
        served,
        sent: 0,
        asked,
        failed,
        latency_us: Spread::of(good.map(|visit| visit.latency.as_ns() / 1_000)),
        outage_ms: outage.as_ms(),
        opened_ms: None,
        shielded_ms: None,
        told: None,
        calm: false,
        reached: false,
    }
}

/// Whether the mesh made nothing of the flood but what it was.
fn is_calm(status: &Status, node: NodeId, before: u64) -> bool {
    let since = status.state.incidents.iter().filter(|incident| incident.id > before);
    let other: Vec<&Matter> =
        since.map(|incident| &incident.matter).filter(|m| **m != Matter::InboundFlood(node)).collect();
    if !other.is_empty() {
        eprintln!("meanwhile: {other:?}");
    }
    other.is_empty()
}

fn set(namespace: &Namespace, name: &str, value: &str) -> anyhow::Result<()> {
    let written = namespace.run(|| std::fs::write(format!("/proc/sys/{name}"), value))?;
    written.with_context(|| format!("set {name}"))
}

fn ip(namespace: &Namespace, arguments: &str) -> anyhow::Result<()> {
    let run = || Command::new("ip").args(arguments.split(' ')).stdin(Stdio::null()).output();
    let done = namespace.run(run)?.context("start ip: apt-get install iproute2")?;
    ensure!(done.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}
