//! Malware on a member of a real mesh: one night for each role, of what `cargo run -p chaos-tests --bin hostile` plays many
//! times. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::Path;
use std::sync::{Mutex, PoisonError};

use chaos_tests::adversary::member::{self, LIES_MIN, Lie};
use chaos_tests::adversary::{Night, Role, break_in, evicted, raft, two_faced, warrant::Warrant};
use stead::demo::stage::scratch;

/// Two meshes at once would measure one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// The program that is every process of the lab.
const PROGRAM: &str = env!("CARGO_BIN_EXE_hostile");

/// A night in a mesh of its own. Its files go when all went well, and stay for whoever looks into a failure.
fn night(nodes: u8, play: impl FnOnce(&mut Night)) {
    let _alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let files = scratch(&parent).expect("a directory for the mesh");
    let mut night =
        Night::begin(Path::new(PROGRAM), &files, nodes).unwrap_or_else(|error| panic!("{error:#}"));
    play(&mut night);
    drop(night);
    std::fs::remove_dir_all(&parent).expect("the files go");
}

fn strike(night: &mut Night, role: Role) {
    let struck = night.strike(Path::new(PROGRAM), role).unwrap_or_else(|error| panic!("{role}: {error:#}"));
    println!("{struck:?}");
    assert!(struck.reached(), "{struck:?}");
}

fn lies(nodes: u8, liars: &[usize]) {
    night(nodes, |night| {
        for lie in Lie::ALL {
            let heard =
                member::lie(night.stage(), liars, lie).unwrap_or_else(|error| panic!("{lie:?}: {error:#}"));
            println!("{nodes} nodes, {} liars, {lie:?}: {heard:?}", liars.len());
            assert!(lie != Lie::Slander || heard.cases > 0, "nobody heard it: {heard:?}");
            assert!(heard.said >= LIES_MIN && heard.believed == 0, "{lie:?}: {heard:?}");
            assert!(heard.outage.as_ms() <= 300, "{lie:?}: {heard:?}");
        }
    });
}

#[test]
fn a_follower_that_floods_is_cut_off_by_all() {
    night(3, |night| strike(night, Role::Follower));
}

#[test]
fn who_was_cut_off_tries_everything_and_stays_out() {
    night(3, |night| {
        strike(night, Role::Holder);
        let comeback =
            evicted::come_back(night.stage(), Path::new(PROGRAM)).unwrap_or_else(|error| panic!("{error:#}"));
        println!("{comeback:#?}");
        assert!(comeback.tried.iter().all(evicted::Tried::failed), "{comeback:#?}");
        assert!(comeback.outage_ms <= 300, "{comeback:#?}");
        let out = (0..3).find_map(|i| night.stage().status(i).ok()).unwrap().state.isolations;
        let honest =
            (0..3).find(|i| night.stage().player(*i).is_ok_and(|player| !out.contains_key(&player.id)));
        evicted::rules_come_back(night.stage(), honest.unwrap()).unwrap_or_else(|error| panic!("{error:#}"));
    });
}

#[test]
fn a_holder_that_floods_is_cut_off_and_the_site_is_served_elsewhere() {
    night(3, |night| strike(night, Role::Holder));
}

#[test]
fn a_leader_that_floods_is_cut_off_and_deposed() {
    night(3, |night| strike(night, Role::Leader));
}

#[test]
fn a_leader_of_five_too() {
    night(5, |night| strike(night, Role::Leader));
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
    night(3, |night| {
        let siege = raft::besiege(night.stage(), 1).unwrap_or_else(|error| panic!("{error:#}"));
        println!("{siege:#?}");
        assert!(siege.held() && siege.outage_ms <= 300, "{siege:#?}");
    });
}

#[test]
fn one_of_three_that_repeats_itself_changes_nothing_and_that_tells_each_something_else_is_cut_off() {
    night(3, |night| {
        let exposed = two_faced::play(night.stage(), 1).unwrap_or_else(|error| panic!("{error:#}"));
        println!("{exposed:?}");
        assert!(exposed.believed == 0 && exposed.cut_off.as_ms() <= 3_000, "{exposed:?}");
        assert!(exposed.outage.as_ms() <= 300, "{exposed:?}");
    });
}

/// Takes four minutes, most of them waiting: the peers look once a minute, and an agent may be away for one.
#[test]
fn who_kills_the_agent_and_replaces_sshd_is_cut_off_and_a_defaced_page_is_served_elsewhere() {
    if !break_in::has_sshd() {
        return eprintln!("NOT TESTED with a real sshd: there is none here (apt install openssh-server)");
    }
    night(3, |night| {
        let stage = night.stage();
        let mut servers = break_in::Servers::start(stage).unwrap_or_else(|error| panic!("{error:#}"));
        let defaced = break_in::deface(stage).unwrap_or_else(|error| panic!("{error:#}"));
        println!("defaced: {defaced:?}");
        assert!(defaced.after.as_ms() <= 25_000 && defaced.wronged == 0, "{defaced:?}");
        let bad = stage.holder().unwrap_or_default();
        let replaced = servers.replace(stage, bad).unwrap_or_else(|error| panic!("{error:#}"));
        println!("replaced: {replaced:?}");
        assert!(replaced.after.as_ms() <= 150_000 && replaced.wronged == 0, "{replaced:?}");
        assert!(replaced.outage.as_ms() <= 1_000, "{replaced:?}");
    });
}

#[test]
fn who_is_cut_off_is_fenced_by_the_operators_command_though_it_fails_once() {
    night(3, |night| {
        let warrant = Warrant::give(night.stage()).unwrap_or_else(|error| panic!("{error:#}"));
        strike(night, Role::Follower);
        let (fencing, calls) = warrant.carried_out(night.stage()).unwrap_or_else(|error| panic!("{error:#}"));
        println!("{fencing:?} {calls:?}");
        assert_eq!((fencing.attempt, calls.len()), (2, 2), "{calls:?}");
        let epoch = |call: &String| call.rsplit(' ').next().and_then(|word| word.parse::<u64>().ok());
        assert!(calls.iter().all(|call| call.starts_with("isolate ")) && epoch(&calls[0]) < epoch(&calls[1]));
        assert_eq!(epoch(&calls[1]), Some(fencing.epoch));
    });
}
