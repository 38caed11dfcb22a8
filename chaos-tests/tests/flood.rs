//! Floods in the lab, with real agents: one run each of what `cargo bench -p chaos-tests --bench flood` and
//! `cargo run -p chaos-tests --bin profiles` play many times. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use chaos_tests::flood::flooder::Way;
use chaos_tests::flood::{Misfortune, Play, Scenario, Scene, Served, play_honest, play_inbound};
use chaos_tests::traffic::profile::PROFILES;
use stead::demo::stage::scratch;

/// Two meshes at once would measure one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
/// Beside other work on the machine; the bench is stricter.
const THROTTLED_MS_MAX: u64 = 1_000;

struct Night {
    scene: Option<Scene>,
    files: PathBuf,
    _alone: MutexGuard<'static, ()>,
}

impl Night {
    fn begin() -> Self {
        let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
        assert!(
            rustix::process::geteuid().is_root(),
            "run this as root: it makes network namespaces and loads BPF"
        );
        let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
        let files = scratch(&parent).expect("a directory for the mesh");
        let scene = Scene::begin(Path::new(env!("CARGO_BIN_EXE_profiles")), &files);
        Self { scene: Some(scene.expect("the mesh comes up")), files: parent, _alone: alone }
    }

    fn scene(&mut self) -> &mut Scene {
        self.scene.as_mut().expect("it has not ended")
    }

    /// Its files go when all went well, and stay for whoever looks into a failure.
    fn end(mut self) {
        drop(self.scene.take());
        std::fs::remove_dir_all(&self.files).expect("the files go");
    }
}

fn flood(scene: &mut Scene, node: usize, way: Way) -> Play {
    let scenario = Scenario { way, per_s: Some(1_000) };
    let play = scene.play(node, scenario).unwrap_or_else(|error| panic!("{scenario}: {error:#}"));
    println!("{scenario}: {play:?}");
    let verdict = play.verdict.expect("it is throttled");
    assert!(verdict.took().as_ms() <= THROTTLED_MS_MAX, "{scenario}: {}", verdict.took());
    assert!(play.shown.is_some(), "{scenario}: every peer knows of it");
    assert!(play.opened.is_some(), "{scenario}: there is an incident");
    assert_eq!(play.failed, 0, "{scenario}: of {} requests", play.asked);
    play
}

#[test]
fn a_flood_is_throttled_shown_to_every_peer_and_told_whatever_sends_it() {
    let mut night = Night::begin();
    let nodes = night.scene().nodes().unwrap();
    let ways = [Way::Raw, Way::Tcp, Way::Bypass];
    let plays: Vec<Play> =
        nodes.into_iter().zip(ways).map(|(node, way)| flood(night.scene(), node, way)).collect();
    for mut play in plays {
        night.scene().settle(&mut play).unwrap_or_else(|error| panic!("{error:#}"));
        let ((sent, left), all) = (play.told.expect("the incident was closed"), play.verdict.unwrap().all);
        assert!(sent.abs_diff(play.sent.syns) <= play.sent.syns / 5, "{sent} of {:?}", play.sent);
        assert!(left.abs_diff(all) <= 100 && left > 0, "{left} of {all} left");
    }
    night.end();
}

fn strike(name: &str) {
    let mut night = Night::begin();
    let misfortune = Misfortune::all().find(|misfortune| misfortune.to_string() == name).unwrap();
    let struck = misfortune.play(night.scene()).unwrap_or_else(|error| panic!("{misfortune}: {error:#}"));
    println!("{struck:?}");
    assert!(struck.reached, "{struck:?}");
    night.end();
}

#[test]
fn only_the_limit_leaves_a_host_whose_agent_is_gone_and_its_site_goes_on() {
    strike("killed-answered-other");
}

#[test]
fn an_agent_that_restarts_in_the_middle_of_a_flood_goes_on_limiting_and_loses_no_count() {
    strike("restarted-silent-holder");
}

#[test]
fn a_flooded_endpoint_serves_stays_where_it_is_and_nobody_is_accused() {
    let mut night = Night::begin();
    let run = play_inbound(night.scene(), Served::ByStead, 3_000).unwrap();
    println!("{run:?}");
    assert!(run.reached, "{run:?}");
    night.end();
}

#[test]
fn the_busiest_honest_servers_are_not_convicted() {
    let mut night = Night::begin();
    let busy = ["crawler", "database outage", "uptime monitor"];
    let number = |name: &&str| PROFILES.iter().position(|profile| profile.name == *name).unwrap();
    let profiles: Vec<usize> = busy.iter().map(number).collect();
    for run in play_honest(night.scene(), &profiles, 7, 1).unwrap() {
        println!("{run:?}");
        assert!(!run.convicted && run.opened.begun > 0, "{run:?}");
    }
    night.end();
}
