//! An agent that is asked to stop gives back what it holds: nobody waits for its lease to run out.
//!
//! Needs root.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::time::{Duration, Instant};

use stead::demo::stage::{Cast, Stage, scratch};
use stead_deploy::lab::Family;

/// As long as a lease may be, so that a takeover that waits for it cannot pass for one that does not.
const LEASE: Duration = Duration::from_secs(3);
const PATIENCE: Duration = Duration::from_secs(20);

struct Files(PathBuf);

impl Drop for Files {
    fn drop(&mut self) {
        // What cannot be removed is in the way of nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[test]
fn an_agent_that_is_asked_to_stop_is_succeeded_long_before_its_lease_would_end() {
    let files = Files(scratch(&std::env::temp_dir()).unwrap());
    let cast = Cast {
        nodes: 3,
        lease_ms: u32::try_from(LEASE.as_millis()).unwrap(),
        program: env!("CARGO_BIN_EXE_stead_under_test").into(),
        directory: files.0.clone(),
        gate: None,
        family: Family::Ip4,
        judges: true,
    };
    let mut stage = Stage::raise(&cast).unwrap();
    stage.until_served().unwrap();
    for round in 0..3 {
        // Everybody is heard and ready again, and the plan names a successor.
        let settled = |stage: &mut Stage| {
            let holder = stage.holder()?;
            let status = stage.status(holder).ok()?;
            let ready =
                |i: &usize| stage.status(*i).is_ok_and(|s| s.waiting.is_none() && s.own.log.leader.is_some());
            (status.state.plans.values().all(|plan| plan.seats.len() == 3)
                && (0..3).filter(ready).count() == 3)
                .then_some(holder)
        };
        let holder = stage.until("all three can serve", PATIENCE, settled).unwrap();
        stage.agent(holder).unwrap().terminate().unwrap();
        let stopped = Instant::now();
        stage.until("another one serves", PATIENCE, |stage| stage.holder().filter(|i| *i != holder)).unwrap();
        let taken = stopped.elapsed();
        let ended = stage.agent(holder).unwrap().wait(PATIENCE).unwrap();
        println!(
            "FIGURE round {round}: served elsewhere after {taken:?}, ended after {:?}",
            stopped.elapsed()
        );
        assert!(ended.success(), "{ended}");
        assert!(taken < LEASE / 2, "{taken:?}\n{}", stage.logs());
        stage.start_agent(holder).unwrap();
    }
}
