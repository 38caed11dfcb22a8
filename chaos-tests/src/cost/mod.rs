//! What the sensors and the limit cost: a packet on its way through the kernel, and the agent that reads them.
//!
//! `cargo run --release -p chaos-tests --bin sensors -- --cost` prints it; `chaos-tests/tests/cost.rs` runs a short one.
//!
//! **Invariant.** What could not be measured is an error, never a zero. Packets stay in namespaces of this process, and
//! each round is bounded in time and number.
//!
//! Deliberately absent: limits to keep. Machines differ, and neighbours on them; figures with their spread are printed, and
//! the variants of one round are compared with each other.

mod figure;
mod fitted;
mod forwarding;
mod frames;
mod programs;
mod reading;
mod road;
mod stream;
mod table;

pub use figure::Figure;
pub use fitted::Fitted;
pub use forwarding::{Forwarded, Load};
pub use programs::ProgramCost;
pub use reading::Chore;
pub use stream::Streamed;

use anyhow::Context as _;
use forwarding::Extent;
use serde::Serialize;
use std::time::Duration;

/// How much is measured.
#[derive(Clone, Copy, Debug)]
pub struct Plan {
    program_rounds: u32,
    program_runs: u32,
    forwarding: Extent,
    stream_rounds: u32,
    stream_time: Duration,
    ticks: u32,
    tick: Duration,
}

impl Plan {
    /// About three quarters of a minute: for figures.
    #[must_use]
    pub const fn full() -> Self {
        Self {
            program_rounds: 9,
            program_runs: 100_000,
            forwarding: Extent { rounds: 7, time: Duration::from_millis(150), packets_max: 1_000_000 },
            stream_rounds: 7,
            stream_time: Duration::from_millis(200),
            ticks: 200,
            tick: Duration::from_millis(100),
        }
    }

    /// A few seconds: to see that everything can be measured.
    #[must_use]
    pub const fn short() -> Self {
        Self {
            program_rounds: 1,
            program_runs: 100,
            forwarding: Extent { rounds: 1, time: Duration::from_millis(50), packets_max: 20_000 },
            stream_rounds: 1,
            stream_time: Duration::from_millis(50),
            ticks: 20,
            tick: Duration::from_millis(20),
        }
    }
}

/// All figures.
#[derive(Debug, Serialize)]
pub struct Costs {
    /// The programs by themselves.
    pub programs: Vec<ProgramCost>,
    /// Small packets through a router.
    pub forwarded: Vec<Forwarded>,
    /// A TCP stream.
    pub streamed: Vec<Streamed>,
    /// The agent's thread.
    pub chores: Vec<Chore>,
}

impl Costs {
    /// Measures everything, one thing at a time. Needs root, nft and iproute2.
    ///
    /// # Errors
    /// The first thing that could not be measured, and why.
    pub fn measure(plan: Plan) -> anyhow::Result<Self> {
        let programs = programs::measure(plan.program_rounds, plan.program_runs)
            .context("run the sensor's programs by themselves")?;
        let road = road::Road::build().context("build a sender, a router and a sink")?;
        Ok(Self {
            programs,
            forwarded: forwarding::measure(&road, plan.forwarding).context("forward packets")?,
            streamed: stream::measure(&road, plan.stream_rounds, plan.stream_time).context("stream")?,
            chores: reading::measure(&road, plan.ticks, plan.tick).context("read the sensors")?,
        })
    }
}
