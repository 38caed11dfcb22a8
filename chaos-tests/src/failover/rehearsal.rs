//! One mesh on which scenarios are played again and again, with a visitor and a tap all the time.
//!
//! **Invariant.** What is measured is what the visitor saw, after every request that was due in the measured
//! time has ended. Nothing here reads an outage off an agent's own word.

use std::net::SocketAddr;
use std::time::Duration;

use stead::demo::stage::{Cast, SITE_PORT, Stage};
use stead_deploy::lab::overlap::{Entitled, Report, overlap};
use stead_deploy::lab::tap::{RECORDS_MAX, Tap};
use stead_deploy::lab::visitor::{Outcome, Route, Visit, Visitor};
use stead_deploy::lab::{now, outage};
use stead_proto::codec;
use stead_proto::limits::SNAPSHOT_BYTES_MAX;
use stead_proto::order::Act;
use stead_proto::state::State;
use stead_proto::time::{Instant, Span};

use super::scenario::{Expected, Scenario};
use crate::flood::scene::everybody;

/// How long a scenario may take until the site is served again, and until everybody is back.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long the visitor goes on watching once the site is served again.
const AFTERMATH: Span = Span::from_ms(1_000);
/// How long an ordered move may take before it is ordered again.
const MOVED_WITHIN: Span = Span::from_ms(2_000);

/// What a visitor noticed of one run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Run {
    /// The longest time without service, of those that began between the strike and the repair.
    pub outage: Span,
    /// The longest of those that began while what was broken came back.
    pub aftershock: Span,
    /// How late the visitor itself was, at most: what bounds the precision of both.
    pub late: Span,
    /// Requests that the visitor could not send: they count neither way.
    pub not_sent: u64,
}

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
        let (tap, visitor) = watch(&stage)?;
        let mut rehearsal = Self { stage, visitor, tap };
        rehearsal.until_answered()?;
        Ok(rehearsal)
    }

    /// The mesh, to interfere with.
    pub const fn stage(&mut self) -> &mut Stage {
        &mut self.stage
    }

    /// Plays one scenario; says what visitors noticed.
    ///
    /// # Errors
    /// What did not come about, with the nodes' logs.
    pub fn play(&mut self, scenario: Scenario) -> anyhow::Result<Run> {
        let (holder, leader) = self.settle(scenario)?;
        let begin = now();
        let struck = scenario.strike(&mut self.stage, holder, leader)?;
        self.stage.until(scenario.name(), PATIENCE, |stage| match scenario.expected() {
            Expected::Moved => (0..stage.players.len()).find(|i| *i != holder && serves(stage, *i)),
            Expected::Stays => serves(stage, holder).then_some(holder),
            Expected::Anybody => stage.holder(),
        })?;
        self.until_answered()?;
        self.watch_for(AFTERMATH)?;
        let restored = now();
        let undone = scenario.restore(&mut self.stage, struck)?;
        self.stage.until("everybody takes part again", PATIENCE, everybody)?;
        self.until_answered()?;
        let end = now();
        self.until_ended(end)?;
        self.nobody_is_accused()?;
        self.states_are_one()?;
        Ok(judge(&self.visitor.so_far().visits, begin, if undone { restored } else { end }, end))
    }

    /// A misfortune is no crime: nobody was testified against, and nobody cut off.
    fn nobody_is_accused(&self) -> anyhow::Result<()> {
        for i in 0..self.stage.players.len() {
            let status = self.stage.status(i)?;
            anyhow::ensure!(
                status.cases.is_empty()
                    && status.own.isolated.is_empty()
                    && status.state.isolations.is_empty(),
                "node {i} accuses {:?} and has cut off {:?}",
                status.cases,
                status.own.isolated
            );
        }
        Ok(())
    }

    /// Where all have applied the same entries they have the same state, byte for byte: a snapshot is believed by that.
    fn states_are_one(&mut self) -> anyhow::Result<()> {
        self.stage.until("everybody has the same state", PATIENCE, |stage| {
            let all = (0..stage.players.len()).map(|i| stage.status(i).ok().map(|status| status.state));
            let states: Vec<State> = all.collect::<Option<_>>()?;
            let bytes = |state: &State| codec::encode(state, SNAPSHOT_BYTES_MAX).ok();
            let first = states.first()?;
            let applied = states.iter().all(|state| state.applied == first.applied);
            (applied && states.iter().all(|state| bytes(state) == bytes(first))).then_some(())
        })
    }

    /// Lets visitors come for so long.
    ///
    /// # Errors
    /// That none come any more.
    pub fn watch_for(&mut self, time: Span) -> anyhow::Result<()> {
        self.until_ended(now().after(time))
    }

    /// What the tap makes of the time since the last verdict, given what the agents' journals say of who was
    /// entitled to answer. Tap and visitor begin anew.
    ///
    /// # Errors
    /// That tap or visitor had failed, or that the visitor's diary is not complete.
    pub fn verdict(&mut self) -> anyhow::Result<Report> {
        let (tap, visitor) = watch(&self.stage)?;
        let capture = std::mem::replace(&mut self.tap, tap).stop()?;
        let diary = std::mem::replace(&mut self.visitor, visitor).stop()?;
        anyhow::ensure!(diary.lost == 0, "the visitor's diary was full: {} visits are missing", diary.lost);
        Ok(overlap(&capture, Entitled::ByClaims(&self.stage.claims())))
    }

    /// Waits until one node holds and one leads, and moves the endpoint if the scenario wants it elsewhere.
    fn settle(&mut self, scenario: Scenario) -> anyhow::Result<(usize, usize)> {
        let fits = |holder: usize, leader: usize| {
            scenario.holder_leads().is_none_or(|leads| leads == (holder == leader))
        };
        let mut ordered: Option<Instant> = None;
        let placed =
            self.stage.until("holder and leader are where the scenario wants them", PATIENCE, |stage| {
                let (holder, leader) = (stage.holder()?, stage.leader()?);
                if fits(holder, leader) {
                    return Some((holder, leader));
                }
                if ordered.is_none_or(|at| now().since(at) >= MOVED_WITHIN) {
                    let to = (0..stage.players.len()).find(|i| *i != holder && fits(*i, leader))?;
                    let (endpoint, to) = ("www".parse().ok()?, stage.player(to).ok()?.id);
                    ordered = stage.order(leader, Act::Move { endpoint, to }).ok().map(|_| now());
                }
                None
            })?;
        self.until_answered()?;
        Ok(placed)
    }

    /// Waits until the visitor was answered after now.
    fn until_answered(&mut self) -> anyhow::Result<()> {
        let since = now();
        self.until_visited("the visitor is answered", |visit| visit.due > since && outage::is_good(visit))
    }

    /// Waits until every request that was due before `moment` has ended.
    fn until_ended(&mut self, moment: Instant) -> anyhow::Result<()> {
        let timeout = Route::to(SocketAddr::new(self.stage.address, SITE_PORT)).timeout;
        let timeout = Span::from_ms(u64::try_from(timeout.as_millis())?);
        self.until_visited("the visitor's requests have ended", |visit| visit.due > moment.after(timeout))
    }

    fn until_visited(&mut self, what: &str, fits: impl Fn(&Visit) -> bool) -> anyhow::Result<()> {
        let visitor = &self.visitor;
        // The diary is in the order of endings, so what is new is at its end.
        self.stage.until(what, PATIENCE, |_| {
            visitor.so_far().visits.iter().rev().take(500).any(&fits).then_some(())
        })
    }
}

/// A tap and a visitor that have begun.
fn watch(stage: &Stage) -> anyhow::Result<(Tap, Visitor)> {
    let tap = Tap::start(&stage.lab, &[stage.address], RECORDS_MAX)?;
    let visitor = Visitor::start(&stage.lab, Route::to(SocketAddr::new(stage.address, SITE_PORT)))?;
    Ok((tap, visitor))
}

/// An outage belongs to the strike if it began before the repair.
fn judge(visits: &[Visit], begin: Instant, restored: Instant, end: Instant) -> Run {
    let (mut outage, mut aftershock) = (Span::ZERO, Span::ZERO);
    for gap in outage::outages(visits) {
        let (from, until) = (gap.from.unwrap_or(begin), gap.until.unwrap_or(end));
        if until < begin || from >= end {
            continue;
        }
        let longest = if from < restored { &mut outage } else { &mut aftershock };
        *longest = (*longest).max(until.since(from));
    }
    let asked = || visits.iter().filter(|visit| visit.due >= begin && visit.due < end);
    Run {
        outage,
        aftershock,
        late: asked().map(|visit| visit.late).max().unwrap_or_default(),
        not_sent: asked().filter(|visit| visit.outcome == Outcome::NotSent).map(|_| 1).sum(),
    }
}

fn serves(stage: &Stage, i: usize) -> bool {
    stage.status(i).is_ok_and(|status| status.endpoints.iter().any(|e| e.serving.is_some()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test fails by panicking")]
mod tests {
    use super::*;
    use std::ops::Range;

    fn at(ms: u64) -> Instant {
        Instant::ZERO.after(Span::from_ms(ms))
    }

    /// A visit each 5 ms until 1000; those that are due in one of the ranges are not answered.
    fn visits(failed: &[Range<u64>]) -> Vec<Visit> {
        let outcome = |ms| match failed.iter().any(|range| range.contains(&ms)) {
            true => Outcome::Timeout,
            false => Outcome::Ok { status: 200, served_by: None },
        };
        let visit =
            |ms| Visit { due: at(ms), late: Span::from_ms(1), latency: Span::ZERO, outcome: outcome(ms) };
        (0..200).map(|n| visit(n * 5)).collect()
    }

    #[test]
    fn an_outage_belongs_to_what_it_began_under() {
        let run = judge(&visits(&[50..60, 200..400, 600..650]), at(150), at(500), at(990));
        assert_eq!((run.outage, run.aftershock), (Span::from_ms(205), Span::from_ms(55)));
        assert_eq!((run.late, run.not_sent), (Span::from_ms(1), 0));
    }

    #[test]
    fn an_outage_that_never_ended_lasts_to_the_end() {
        let never_again = 700..1_000;
        let run = judge(&visits(&[never_again]), at(500), at(600), at(1_000));
        assert_eq!((run.outage, run.aftershock), (Span::ZERO, Span::from_ms(305)));
    }

    #[test]
    fn requests_that_were_not_sent_are_told() {
        let mut visits = visits(&[]);
        visits.get_mut(100).unwrap().outcome = Outcome::NotSent;
        assert_eq!(judge(&visits, at(0), at(900), at(990)).not_sent, 1);
    }
}
