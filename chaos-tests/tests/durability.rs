//! What an operator was told is committed survives `kill -9` of all nodes, at any moment.
//!
//! Needs root. `STEAD_ROUNDS` says how often everybody is killed (10 unless told).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use stead::demo::stage::{Cast, Director, Stage, scratch};
use stead_proto::admin::Answer;
use stead_proto::command::Outcome;
use stead_proto::order::Act;

/// The latest version of the site that somebody was told, and how often anybody was told anything.
#[derive(Debug, Default)]
struct Told {
    version: u64,
    acknowledged: u64,
}

/// Applies new versions of the site as fast as they are acknowledged, through one node after another.
fn keep_ordering(director: &Director, told: &Mutex<Told>, stop: &AtomicBool) {
    let mut turn = 0;
    while !stop.load(Ordering::Acquire) {
        turn += 1;
        let Ok(status) = director.status(turn % director.nodes()) else { continue };
        let base = status.state.site_version;
        let act = Act::Apply { base, site: Box::new(status.state.site), text: format!("# order {turn}\n") };
        if let Ok(Answer::Committed { outcome: Outcome::Site(version), .. }) =
            director.order(turn % director.nodes(), act)
        {
            let mut told = told.lock().unwrap();
            told.version = told.version.max(version);
            told.acknowledged += 1;
        }
    }
}

#[test]
fn everything_acknowledged_survives_the_death_of_all() {
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let rounds: u64 = std::env::var("STEAD_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let directory = scratch(&std::env::temp_dir()).expect("a directory for the mesh");
    let program = env!("CARGO_BIN_EXE_stead_under_test").into();
    let cast = Cast { nodes: 3, lease_ms: 350, program, directory: directory.clone(), gate: None };
    let mut stage = Stage::raise(&cast).expect("the mesh comes up");
    stage.until_served().expect("somebody serves");
    let told = Arc::new(Mutex::new(Told::default()));
    for round in 0..rounds {
        let (director, stop) = (stage.director(), Arc::new(AtomicBool::new(false)));
        let (teller, stopped) = (told.clone(), stop.clone());
        let orders = std::thread::spawn(move || keep_ordering(&director, &teller, &stopped));
        // Wait for news, then for a moment that no two rounds share.
        let before = told.lock().unwrap().acknowledged;
        let patience = Instant::now() + Duration::from_secs(20);
        while told.lock().unwrap().acknowledged < before + 3 + round % 7 {
            assert!(Instant::now() < patience, "nothing is acknowledged in round {round}:\n{}", stage.logs());
            std::thread::yield_now();
        }
        for i in 0..stage.players.len() {
            stage.kill_agent(i).expect("an agent can be killed");
        }
        stop.store(true, Ordering::Release);
        orders.join().expect("the operator survives");
        for i in 0..stage.players.len() {
            stage.start_agent(i).expect("an agent can be started");
        }
        let version = told.lock().unwrap().version;
        stage
            .until("everything acknowledged is there", Duration::from_secs(20), |stage| {
                let status = stage.status(0).ok().filter(|status| status.leader_fresh)?;
                (status.state.site_version >= version).then_some(())
            })
            .unwrap_or_else(|error| panic!("round {round}: version {version} was acknowledged; {error:#}"));
    }
    let told = told.lock().unwrap();
    println!("{rounds} deaths of all nodes, {} orders acknowledged, 0 lost", told.acknowledged);
    drop(stage);
    std::fs::remove_dir_all(directory).expect("the files go");
}
