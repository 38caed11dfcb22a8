//! One mesh on which floods are played, one after the other, with a victim and visitors.
//!
//! **Invariant.** When the throttle took hold is read off the victim's record alone; the agents' own words are only
//! compared with it. A flood begins on a node that is free and has no open incident.

use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use stead::demo::stage::{Cast, SITE_PORT, Stage};
use stead_deploy::lab::namespace::Namespace;
use stead_deploy::lab::process::Process;
use stead_deploy::lab::visitor::{Outcome, Route, Visit, Visitor};
use stead_deploy::lab::{Family, Place, now, outage};
use stead_proto::guard::{GuardPolicy, Rate};
use stead_proto::incident::Matter;
use stead_proto::lookout::Posture;
use stead_proto::time::{Instant, Span};

use super::flooder::{self, Order, Sent};
use super::incident::{self, Closing};
use super::scenario::Scenario;
use super::verdict::{self, Verdict};
use super::victim::{SILENT, Victim};
use super::watch::{Noted, Watch};

/// How many nodes the mesh has.
const NODES: u8 = 3;
/// The hosts beside them: the victim, one without an agent, one that attacks from outside.
pub(super) const VICTIM: Place = Place::Node(NODES);
pub(super) const BARE: Place = Place::Node(NODES + 1);
pub(super) const ATTACKER: Place = Place::Node(NODES + 2);
const ROOM: u8 = 3;
/// How long anything may take that is no measurement.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);
/// How the licence of a node's `eth0` is looked at.
const LICENCE: [&str; 5] = ["list", "set", "netdev", "stead_guard_2", "licence"];
/// How long a flooder may go on beyond its time.
const OVERTIME: Duration = Duration::from_secs(10);
/// How long a request may take.
const VISIT_TIMEOUT: Span = Span::from_ms(250);

/// A mesh, a victim and visitors.
#[derive(Debug)]
pub struct Scene {
    pub(super) stage: Stage,
    pub(super) victim: Victim,
    program: PathBuf,
    floods: u32,
}

/// What one flood came to.
#[derive(Clone, Debug)]
pub struct Play {
    /// Which node flooded, and whether it held the endpoint.
    pub node: usize,
    /// Whether it held the endpoint.
    pub held: bool,
    /// What the victim's record says; `None` if the flood was not throttled.
    pub verdict: Option<Verdict>,
    /// SYNs at the victim that only the kernel counted.
    pub lost: u64,
    /// From the first SYN until every peer had a report of the flood.
    pub shown: Option<Span>,
    /// From the first SYN until there was an incident.
    pub opened: Option<Span>,
    /// What the flooder did.
    pub sent: Sent,
    /// Requests of visitors meanwhile.
    pub asked: u64,
    /// Of them, those that failed.
    pub failed: u64,
    /// The incident's last words: SYNs in all and SYNs that left, once it is closed.
    pub told: Option<(u64, u64)>,
    /// The incident's number.
    pub incident: Option<u64>,
}

impl Scene {
    /// Raises the mesh; every process is `program`, which has to know [`super::part`].
    ///
    /// # Errors
    /// What did not come about, with the nodes' logs.
    pub fn begin(program: &Path, directory: &Path) -> anyhow::Result<Self> {
        let cast = Cast {
            nodes: NODES,
            lease_ms: 350,
            program: program.into(),
            directory: directory.into(),
            gate: None,
            family: Family::Ip4, // A flood is measured to its end here; who is isolated for it sends none to the end.
            judges: false,
        };
        let mut stage = Stage::raise_with_room(&cast, ROOM)?;
        stage.until_served()?;
        let victim = Victim::start(&stage.lab, VICTIM)?;
        let mut scene = Self { stage, victim, program: program.into(), floods: 0 };
        scene.stage.until("everybody takes part", PATIENCE, everybody)?;
        for i in 0..scene.stage.players.len() {
            scene.until_free(i)?;
        }
        Ok(scene)
    }

    /// The mesh, to interfere with.
    pub const fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    /// The limit of every node.
    #[must_use]
    pub fn limit() -> Rate {
        GuardPolicy::default().limit
    }

    /// The holder first, then the others.
    ///
    /// # Errors
    /// That nobody holds.
    pub fn nodes(&mut self) -> anyhow::Result<Vec<usize>> {
        let holder = self.stage.until_served()?;
        let others = (0..self.stage.players.len()).filter(|i| *i != holder);
        Ok(std::iter::once(holder).chain(others).collect())
    }

    /// Plays a flood from node `i` and waits for its end, and until its peers have told of it.
    ///
    /// # Errors
    /// What could not be played; that a flood is not throttled is no error, but a figure.
    pub fn play(&mut self, i: usize, scenario: Scenario) -> anyhow::Result<Play> {
        self.until_free(i)?;
        self.victim.forget();
        let (place, node) = (self.stage.player(i)?.place, self.stage.player(i)?.id);
        let held = self.stage.holder() == Some(i);
        let before = incident::last_id(&self.stage.status(i)?);
        let watch = Watch::start(self.stage.director(), i, node, before)?;
        let visitor = self.visit(self.stage.address)?;
        let since = now();
        let mut flood = self.start_flood(place, scenario, SILENT)?;
        let sent = flood.ended()?;
        let own = self.stage.lab.ip4(place);
        let (syns, lost) = self.victim.record(|source| scenario.way.is_from(source, own), SILENT, since)?;
        let ended = Instant::from_ns(sent.ended_ns);
        let verdict = verdict::judge(&syns, Self::limit(), scenario.per_s, ended);
        let peers = self.stage.players.len() - 1;
        let noted = self.noted(&watch, |noted| noted.shown.len() == peers && noted.opened.is_some());
        let visits = diary(visitor)?;
        let asked = during(&visits, since, ended);
        let from_first = |at: Instant| syns.first().map(|first| at.since(*first));
        Ok(Play {
            node: i,
            held,
            verdict,
            lost,
            shown: noted
                .shown
                .values()
                .max()
                .filter(|_| noted.shown.len() == peers)
                .and_then(|at| from_first(*at)),
            opened: noted.opened.and_then(|(at, _)| from_first(at)),
            sent,
            asked: asked.0,
            failed: asked.1,
            told: None,
            incident: noted.opened.map(|(_, id)| id),
        })
    }

    /// Waits until the node is free again and the flood's incident is closed, and reads its last words.
    ///
    /// # Errors
    /// That it did not come about, with the nodes' logs.
    pub fn settle(&mut self, play: &mut Play) -> anyhow::Result<()> {
        self.until_free(play.node)?;
        let Some(id) = play.incident else { return Ok(()) };
        let told = self.stage.until("the incident's last words", PATIENCE, |stage| {
            let status = stage.status(0).ok()?;
            incident::closing(status.state.incidents.get(id)?)
        })?;
        let Closing { syns, part, .. } = told;
        play.told = Some((syns, part));
        Ok(())
    }

    /// A flooder in a place of the lab.
    pub(super) fn start_flood(
        &mut self,
        place: Place,
        scenario: Scenario,
        port: u16,
    ) -> anyhow::Result<Flooder> {
        self.start_flood_for(place, scenario, port, scenario.lasts_ms())
    }

    /// The same for another time.
    pub(super) fn start_flood_for(
        &mut self,
        place: Place,
        scenario: Scenario,
        port: u16,
        lasts_ms: u64,
    ) -> anyhow::Result<Flooder> {
        let order = Order {
            way: scenario.way,
            from: self.stage.lab.ip4(place),
            to: self.victim.at(port),
            per_s: scenario.per_s,
            lasts_ms,
        };
        self.start_order(place, &order)
    }

    pub(super) fn start_order(&mut self, place: Place, order: &Order) -> anyhow::Result<Flooder> {
        self.floods += 1;
        let log = self.stage.directory.join(format!("flood-{}.log", self.floods));
        let process =
            Process::start(self.stage.lab.namespace(place)?, &order.argv(&self.program), &[], &log)?;
        Ok(Flooder { process, lasts: Duration::from_millis(order.lasts_ms) })
    }

    /// The program that every process here is.
    pub(super) fn program(&self) -> &Path {
        &self.program
    }

    /// A visitor of the site at one of its addresses.
    pub(super) fn visit(&self, to: IpAddr) -> anyhow::Result<Visitor> {
        Ok(Visitor::start(&self.stage.lab, Route::to(SocketAddr::new(to, SITE_PORT)))?)
    }

    /// Waits until node `i` is limited but free, its kernel has its licence, and nothing is open against it.
    pub(super) fn until_free(&mut self, i: usize) -> anyhow::Result<()> {
        let (node, place) = (self.stage.player(i)?.id, self.stage.player(i)?.place);
        self.stage.until("the node is free, and its incident closed", PATIENCE, |stage| {
            let status = stage.status(i).ok()?;
            let traffic = &status.own.traffic;
            let flooded = traffic.flood.as_ref().is_some_and(|flood| flood.ended_unix_ms.is_none());
            let open = status.state.incidents.open(&Matter::OutboundFlood(node)).is_some();
            let free = traffic.posture == Posture::Free && !flooded && !open;
            (free && is_licensed(stage.lab.namespace(place).ok()?)).then_some(())
        })
    }

    /// What the peers tell, once it is enough, or after a few seconds whatever it is then.
    fn noted(&mut self, watch: &Watch, enough: impl Fn(&Noted) -> bool) -> Noted {
        let found = self.stage.until("the peers tell", Duration::from_secs(5), |_| {
            Some(watch.so_far()).filter(|noted| enough(noted))
        });
        found.unwrap_or_else(|_| watch.so_far())
    }
}

/// Whether the kernel has the agent's licence: its own word comes a tick before the first one.
fn is_licensed(namespace: &Namespace) -> bool {
    let list = || Command::new("nft").args(LICENCE).stdin(Stdio::null()).output();
    let listed = namespace.run(list).map_err(std::io::Error::other).flatten();
    listed.is_ok_and(|listed| String::from_utf8_lossy(&listed.stdout).contains("elements"))
}

/// A flooder on its way.
#[derive(Debug)]
pub(super) struct Flooder {
    process: Process,
    lasts: Duration,
}

impl Flooder {
    /// Waits for its end; says what it sent.
    pub(super) fn ended(&mut self) -> anyhow::Result<Sent> {
        let status = self.process.wait(self.lasts + OVERTIME)?;
        ensure!(status.success(), "the flooder failed: {}", self.process.log_tail());
        flooder::told(self.process.log()).context("read what the flooder sent")
    }
}

/// Everything that a visitor noted.
pub(super) fn diary(visitor: Visitor) -> anyhow::Result<Vec<Visit>> {
    let diary = visitor.stop()?;
    ensure!(diary.lost == 0, "the visitor's diary was full: {} visits are missing", diary.lost);
    Ok(diary.visits)
}

/// How many requests were made in a time, and how many of them failed.
pub(super) fn during(visits: &[Visit], from: Instant, to: Instant) -> (u64, u64) {
    let to = to.after(VISIT_TIMEOUT);
    let asked = || {
        visits.iter().filter(|visit| visit.due >= from && visit.due < to && visit.outcome != Outcome::NotSent)
    };
    let count = |visits: usize| u64::try_from(visits).unwrap_or(u64::MAX);
    (count(asked().count()), count(asked().filter(|visit| !outage::is_good(visit)).count()))
}

pub(crate) fn everybody(stage: &mut Stage) -> Option<()> {
    (0..stage.players.len()).try_for_each(|i| {
        let status = stage.status(i).ok()?;
        let ready = status.endpoints.iter().all(|e| e.ready);
        (status.waiting.is_none() && status.leader_fresh && ready).then_some(())
    })
}
