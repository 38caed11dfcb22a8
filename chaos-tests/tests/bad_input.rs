//! Bad input, given to real agents: what each kind of it comes to, one test for each promise.
//!
//! Needs root. Each test raises a mesh of its own in network namespaces, one after another.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]
#![allow(
    clippy::wildcard_enum_match_arm,
    clippy::type_complexity,
    reason = "whatever else comes is a failure; tables of cases are what they are"
)]

#[path = "bad_input/disk.rs"]
mod disk;
#[path = "bad_input/frames.rs"]
mod frames;
#[path = "bad_input/host.rs"]
mod host;
#[path = "bad_input/orders.rs"]
mod orders;
#[path = "bad_input/peers.rs"]
mod peers;
#[path = "bad_input/store.rs"]
mod store;

use chaos_tests::bad_input::{Handicap, Scene};

/// The program that is every node.
const NODE: &str = env!("CARGO_BIN_EXE_bad_input_node");

fn three() -> Scene {
    Scene::raise(NODE, 3, &[]).unwrap()
}

fn three_where(name: &str, lacks: &[Handicap]) -> Scene {
    Scene::raise(NODE, 3, &[(name, lacks)]).unwrap()
}

/// All of these texts have to be in what somebody said.
#[track_caller]
fn assert_says(said: &str, texts: &[&str]) {
    for text in texts {
        assert!(said.contains(text), "nobody said {text:?} in:\n{said}");
    }
}
