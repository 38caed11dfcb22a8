//! One mesh on which scenarios are played again and again, with a visitor and a tap all the time.

use std::net::SocketAddr;
use std::time::Duration;

use stead::demo::stage::{Cast, SITE_PORT, Stage};
use stead_deploy::lab::overlap::{Entitled, Report, overlap};
use stead_deploy::lab::tap::{RECORDS_MAX, Tap};
use stead_deploy::lab::visitor::{Route, Visitor};
use stead_deploy::lab::{now, outage};
use stead_proto::order::Act;
use stead_proto::time::{Instant, Span};

use super::scenario::{Expected, Scenario};

/// How long a scenario may take until the site is served again, and until everybody is back.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the visitor goes on watching once the site is served again.
const AFTERMATH: Duration = Duration::from_millis(700);

/// A mesh, a visitor and a tap.
#[derive(Debug)]
pub struct Rehearsal {
    stage: Stage,
    visitor: Visitor,
    tap: Tap,
}

impl Rehearsal {
    /// Raises the mesh and waits until everybody takes part and the visitor is answered.
    ///
    /// # Errors
    /// What did not come about, with the nodes' logs.
    pub fn begin(cast: &Cast) -> anyhow::Result<Self> {
        let mut stage = Stage::raise(cast)?;
        stage.until_served()?;
        stage.until("everybody takes part", PATIENCE, everybody)?;
        let tap = Tap::start(&stage.lab, &[stage.address], RECORDS_MAX)?;
        let visitor = Visitor::start(&stage.lab, Route::to(SocketAddr::new(stage.address, SITE_PORT)))?;
        stage.until("the visitor is answered", PATIENCE, |_| {
            visitor.so_far().visits.iter().any(outage::is_good).then_some(())
        })?;
        Ok(Self { stage, visitor, tap })
    }

    /// Plays one scenario; says how long visitors were not served, at the longest.
    ///
    /// # Errors
    /// What did not come about, with the nodes' logs.
    pub fn play(&mut self, scenario: Scenario) -> anyhow::Result<Span> {
        let (holder, leader) = self.settle(scenario)?;
        let begin = now();
        let struck = scenario.strike(&mut self.stage, holder, leader)?;
        self.stage.until(scenario.name(), PATIENCE, |stage| match scenario.expected() {
            Expected::Moved => (0..stage.players.len()).find(|i| *i != holder && serves(stage, *i)),
            Expected::Stays => serves(stage, holder).then_some(holder),
            Expected::Anybody => stage.holder(),
        })?;
        self.until_answered()?;
        std::thread::sleep(AFTERMATH);
        let outage = self.longest_outage(begin);
        scenario.restore(&mut self.stage, struck)?;
        self.stage.until("everybody takes part again", PATIENCE, everybody)?;
        Ok(outage)
    }

    /// Ends it: what the tap makes of the whole time, given what the agents' journals say of who was entitled.
    ///
    /// # Errors
    /// That the tap had failed.
    pub fn end(self) -> anyhow::Result<Report> {
        let capture = self.tap.stop()?;
        Ok(overlap(&capture, Entitled::ByClaims(&self.stage.claims())))
    }

    /// Waits until one node holds and one leads, and moves the endpoint if the scenario wants it elsewhere.
    fn settle(&mut self, scenario: Scenario) -> anyhow::Result<(usize, usize)> {
        let fits = |holder: usize, leader: usize| {
            scenario.holder_leads().is_none_or(|leads| leads == (holder == leader))
        };
        self.stage.until("holder and leader are where the scenario wants them", PATIENCE, |stage| {
            let (holder, leader) = (stage.holder()?, stage.leader()?);
            if fits(holder, leader) {
                return Some((holder, leader));
            }
            let to = (0..stage.players.len()).find(|i| *i != holder && fits(*i, leader))?;
            let (endpoint, to) = ("www".parse().ok()?, stage.player(to).ok()?.id);
            let _ = stage.order(leader, Act::Move { endpoint, to });
            None
        })
    }

    /// Waits until the visitor was answered after now.
    fn until_answered(&mut self) -> anyhow::Result<()> {
        let since = now();
        let visitor = &self.visitor;
        self.stage.until("the visitor is answered again", PATIENCE, |_| {
            let visits = visitor.so_far().visits;
            visits
                .iter()
                .rev()
                .take(500)
                .any(|visit| visit.due > since && outage::is_good(visit))
                .then_some(())
        })
    }

    fn longest_outage(&self, begin: Instant) -> Span {
        let gaps = outage::outages(&self.visitor.so_far().visits);
        let since_begin = gaps.iter().filter(|gap| gap.until.is_none_or(|until| until >= begin));
        since_begin.map(|gap| gap.length().unwrap_or_else(|| now().since(begin))).max().unwrap_or_default()
    }
}

fn serves(stage: &Stage, i: usize) -> bool {
    stage.status(i).is_ok_and(|status| status.endpoints.iter().any(|e| e.serving.is_some()))
}

fn everybody(stage: &mut Stage) -> Option<()> {
    (0..stage.players.len()).try_for_each(|i| {
        let status = stage.status(i).ok()?;
        let ready = status.endpoints.iter().all(|e| e.ready);
        (status.waiting.is_none() && status.leader_fresh && ready).then_some(())
    })
}
