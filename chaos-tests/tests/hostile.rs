//! Malware on a member of a real mesh: one night for each role, of what `cargo run -p chaos-tests --bin hostile` plays many
//! times. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chaos_tests::adversary::member::{self, LIES_MIN, Lie};
use chaos_tests::adversary::{Night, Role, evicted, raft};
use stead::demo::stage::scratch;

/// Two meshes at once would measure one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// The program that is every process of the lab.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hostile");

fn lies(nodes: u8, liars: &[usize]) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let files = scratch(&parent).expect("a directory for the mesh");
    let mut night =
        Night::begin(Path::new(PROGRAM), &files, nodes).unwrap_or_else(|error| panic!("{error:#}"));
    for lie in Lie::ALL {
        let heard =
            member::lie(night.stage(), liars, lie).unwrap_or_else(|error| panic!("{lie:?}: {error:#}"));
        println!("{nodes} nodes, {} liars, {lie:?}: {heard:?}", liars.len());
        assert!(lie != Lie::Slander || heard.cases > 0, "nobody heard it: {heard:?}");
        assert!(heard.said >= LIES_MIN && heard.believed == 0, "{lie:?}: {heard:?}");
        assert!(heard.outage.as_ms() <= 300, "{lie:?}: {heard:?}");
    }
    drop(night);
    std::fs::remove_dir_all(&parent).expect("the files go");
}

fn besieged(nodes: u8) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let files = scratch(&parent).expect("a directory for the mesh");
    let mut night =
        Night::begin(Path::new(PROGRAM), &files, nodes).unwrap_or_else(|error| panic!("{error:#}"));
    let siege = raft::besiege(night.stage(), 1).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{siege:#?}");
    assert!(siege.held() && siege.outage_ms <= 300, "{siege:#?}");
    drop(night);
    std::fs::remove_dir_all(&parent).expect("the files go");
}

fn strike(role: Role, nodes: u8) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let files = scratch(&parent).expect("a directory for the mesh");
    let mut night =
        Night::begin(Path::new(PROGRAM), &files, nodes).unwrap_or_else(|error| panic!("{error:#}"));
    let struck = night.strike(Path::new(PROGRAM), role).unwrap_or_else(|error| panic!("{role}: {error:#}"));
    println!("{struck:?}");
    assert!(struck.reached(), "{struck:?}");
    drop(night);
    // Its files go when all went well, and stay for whoever looks into a failure.
    std::fs::remove_dir_all(&parent).expect("the files go");
}

#[test]
fn a_follower_that_floods_is_cut_off_by_all() {
    strike(Role::Follower, 3);
}

#[test]
fn who_was_cut_off_tries_everything_and_stays_out() {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let files = scratch(&parent).expect("a directory for the mesh");
    let mut night = Night::begin(Path::new(PROGRAM), &files, 3).unwrap_or_else(|error| panic!("{error:#}"));
    let struck = night.strike(Path::new(PROGRAM), Role::Holder).unwrap_or_else(|error| panic!("{error:#}"));
    assert!(struck.reached(), "{struck:?}");
    let comeback =
        evicted::come_back(night.stage(), Path::new(PROGRAM)).unwrap_or_else(|error| panic!("{error:#}"));
    println!("{comeback:#?}");
    assert!(comeback.tried.iter().all(evicted::Tried::failed), "{comeback:#?}");
    assert!(comeback.outage_ms <= 300, "{comeback:#?}");
    drop(night);
    std::fs::remove_dir_all(&parent).expect("the files go");
}

#[test]
fn a_holder_that_floods_is_cut_off_and_the_site_is_served_elsewhere() {
    strike(Role::Holder, 3);
}

#[test]
fn a_leader_that_floods_is_cut_off_and_deposed() {
    strike(Role::Leader, 3);
}

#[test]
fn a_leader_of_five_too() {
    strike(Role::Leader, 5);
}

#[test]
fn one_of_three_that_slanders_spams_and_speaks_for_others_is_not_believed() {
    lies(3, &[2]);
}

#[test]
fn a_colluding_pair_of_five_neither() {
    lies(5, &[3, 4]);
}

#[test]
fn one_of_three_that_speaks_raft_as_it_likes_takes_nothing_over() {
    besieged(3);
}
