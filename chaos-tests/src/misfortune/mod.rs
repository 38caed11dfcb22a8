//! What goes wrong without anybody's guilt, for long enough that whoever judges by looks would accuse.
//!
//! **Invariant.** Each node is asked all the time for its open cases, not only at the end: an accusation that was
//! dropped again is told, too.

pub mod clock;

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use serde::Serialize;
use stead::demo::stage::Stage;
use stead_deploy::lab::now;
use stead_proto::time::Span;

use crate::flood::scene::everybody;

/// How long each lasts.
const LASTS: Span = Span::from_ms(4_000);
const PATIENCE: Duration = Duration::from_secs(30);

/// A misfortune of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Misfortune {
    /// Its agent stands still for longer than a lease, once a second.
    Slow,
    /// Its agent gets a fifth of the processor, in slices.
    Overloaded,
    /// Its wall clock jumps an hour ahead.
    ClockAhead,
    /// Its wall clock jumps a day back.
    ClockBack,
    /// It is cut off from everybody.
    Partitioned,
    /// Its agent is ended in order and started anew, twice.
    Upgraded,
}

impl Misfortune {
    /// All of them.
    pub const ALL: [Self; 6] =
        [Self::Slow, Self::Overloaded, Self::ClockAhead, Self::ClockBack, Self::Partitioned, Self::Upgraded];
}

/// What came of one.
#[derive(Clone, Debug, Serialize)]
pub struct Endured {
    /// Which.
    pub misfortune: Misfortune,
    /// The most open cases that one node had at any time.
    pub cases_max: usize,
    /// The testimonies of the case with the most.
    pub testimonies_max: usize,
    /// Nodes that anybody cut off or demoted.
    pub convicted: usize,
    /// How often the nodes were asked.
    pub asked: u32,
}

/// Lets `misfortune` befall node `struck`, and watches everybody until it is over and all take part again.
///
/// # Errors
/// What could not be played, or that not everybody came back, with the nodes' logs.
pub fn endure(stage: &mut Stage, misfortune: Misfortune, struck: usize) -> anyhow::Result<Endured> {
    let mut endured = Endured { misfortune, cases_max: 0, testimonies_max: 0, convicted: 0, asked: 0 };
    let directory = stage.player(struck)?.directory().to_owned();
    let begun = now();
    match misfortune {
        Misfortune::ClockAhead => jump(stage, struck, &directory, 3_600)?,
        Misfortune::ClockBack => jump(stage, struck, &directory, -86_400)?,
        Misfortune::Partitioned => stage.cut_off(struck, true)?,
        Misfortune::Slow | Misfortune::Overloaded | Misfortune::Upgraded => {}
    }
    let mut turn = 0_u32;
    while now().since(begun) < LASTS {
        turn += 1;
        match misfortune {
            Misfortune::Slow => pause(stage, struck, 450, 550)?,
            Misfortune::Overloaded => pause(stage, struck, 80, 20)?,
            Misfortune::Upgraded if turn.is_multiple_of(10) => {
                let agent = stage.agent(struck)?;
                agent.terminate()?;
                agent.wait(PATIENCE)?;
                stage.start_agent(struck)?;
            }
            Misfortune::ClockAhead
            | Misfortune::ClockBack
            | Misfortune::Partitioned
            | Misfortune::Upgraded => std::thread::sleep(Duration::from_millis(150)), // between two looks
        }
        if !matches!(misfortune, Misfortune::Overloaded) || turn.is_multiple_of(5) {
            endured.look(stage);
        }
    }
    match misfortune {
        Misfortune::ClockAhead | Misfortune::ClockBack => clock::jump(&directory, 0)?,
        Misfortune::Partitioned => stage.cut_off(struck, false)?,
        Misfortune::Slow | Misfortune::Overloaded | Misfortune::Upgraded => {}
    }
    stage.until("everybody takes part again", PATIENCE, |stage| {
        endured.look(stage);
        everybody(stage)
    })?;
    Ok(endured)
}

/// Lets a clock jump, and waits until the agent's own report shows it.
fn jump(stage: &mut Stage, struck: usize, agent: &Path, seconds: i64) -> anyhow::Result<()> {
    clock::jump(agent, seconds)?;
    stage.until("its clock has jumped", PATIENCE, |stage| {
        let told = i64::try_from(stage.status(struck).ok()?.own.unix_ms / 1_000).ok()?;
        let true_s = SystemTime::now().duration_since(UNIX_EPOCH).ok()?.as_secs();
        ((told - i64::try_from(true_s).ok()? - seconds).abs() < 60).then_some(())
    })
}

/// Stops an agent for a while and lets it run for a while.
fn pause(stage: &mut Stage, struck: usize, stopped_ms: u64, running_ms: u64) -> anyhow::Result<()> {
    stage.agent(struck)?.stop()?;
    std::thread::sleep(Duration::from_millis(stopped_ms)); // this pause is the misfortune
    stage.agent(struck)?.cont()?;
    std::thread::sleep(Duration::from_millis(running_ms)); // and this the recovery
    Ok(())
}

impl Endured {
    /// Whether nobody was convicted, by enough looks to tell.
    #[must_use]
    pub const fn held(&self) -> bool {
        self.convicted == 0 && self.asked >= 5
    }

    fn look(&mut self, stage: &Stage) {
        self.asked += 1;
        // Who does not answer now is asked again soon.
        for status in (0..stage.players.len()).filter_map(|i| stage.status(i).ok()) {
            self.cases_max = self.cases_max.max(status.cases.len());
            let most = status.cases.iter().map(|case| case.testimonies.len()).max();
            self.testimonies_max = self.testimonies_max.max(most.unwrap_or_default());
            let demoted = status.cases.iter().filter(|case| case.demoted).count();
            let out = status.own.isolated.len() + status.state.isolations.len();
            self.convicted = self.convicted.max(demoted + out);
        }
    }
}

/// The node that neither holds nor leads, if there is one: any other.
///
/// # Errors
/// That nobody leads or serves.
pub fn bystander(stage: &Stage) -> anyhow::Result<usize> {
    let (holder, leader) =
        (stage.holder().context("nobody serves")?, stage.leader().context("nobody leads")?);
    let others = |i: &usize| *i != holder && *i != leader;
    (0..stage.players.len()).find(others).context("everybody has an office")
}
