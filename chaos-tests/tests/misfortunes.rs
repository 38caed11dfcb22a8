//! Misfortunes of honest nodes: nobody is convicted for one, and afterwards the guilty still are. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;

use chaos_tests::adversary::{Night, Role};
use chaos_tests::misfortune::{Misfortune, bystander, clock, endure};
use stead::demo::stage::scratch;

/// The program that is every process of the lab.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hostile");

#[test]
fn no_misfortune_becomes_a_conviction_and_the_guilty_are_convicted_afterwards() {
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let files = scratch(&parent).expect("a directory for the mesh");
    let program = clock::with_clock(Path::new(PROGRAM), &parent).expect("a C compiler makes the clock");
    let mut night = Night::begin(&program, &files, 3).unwrap_or_else(|error| panic!("{error:#}"));
    for misfortune in Misfortune::ALL {
        let holder = night.stage().holder().expect("somebody serves");
        for struck in [holder, bystander(night.stage()).unwrap_or(holder)] {
            let endured = endure(night.stage(), misfortune, struck)
                .unwrap_or_else(|error| panic!("{misfortune:?} of {struck}: {error:#}"));
            println!("{endured:?}");
            assert!(endured.held(), "{endured:?}");
        }
    }
    // Also by judges whose clocks are an hour apart.
    let holder = night.stage().holder().expect("somebody serves");
    let directory = night.stage().player(holder).expect("the holder").directory().to_owned();
    clock::jump(&directory, -3_600).expect("its clock jumps");
    let struck = night.strike(Path::new(PROGRAM), Role::Follower).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{struck:?}");
    assert!(struck.reached(), "{struck:?}");
    drop(night);
    std::fs::remove_dir_all(&parent).expect("the files go");
}
