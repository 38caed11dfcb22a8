//! Each misfortune, with real agents: the site is served again in time, and never by two.
//!
//! Needs root. `cargo bench -p chaos-tests --bench failover` plays them many times and prints distributions.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

use std::path::PathBuf;
use std::sync::{Mutex, MutexGuard, PoisonError};

use chaos_tests::failover::{Rehearsal, Scenario};
use stead::demo::stage::{Cast, scratch};
use stead_deploy::lab::Family;
use stead_deploy::lab::overlap::Report;
use stead_node::vip::{announce::Announcer, rtnl::Rtnl};
use stead_proto::time::Span;

/// On a machine that builds and tests beside it, visitors may wait this long; the benchmark is stricter.
const OUTAGE_MAX: Span = Span::from_ms(4_000);
/// `eth0` of every node.
const UPLINK: u32 = 2;

/// Two meshes at once would measure one another.
static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());

/// A mesh for one test. Its files go when it passes, and stay for whoever looks into a failure.
fn rehearsal(gate: Option<&str>, family: Family) -> (Rehearsal, PathBuf, MutexGuard<'static, ()>) {
    let alone = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let parent = tempfile::tempdir().expect("a directory for the mesh").keep();
    let directory = scratch(&parent).expect("a directory for the mesh");
    let program = env!("CARGO_BIN_EXE_stead_under_test").into();
    let cast = Cast {
        nodes: 3,
        lease_ms: 350,
        program,
        directory,
        gate: gate.map(Into::into),
        family,
        judges: true,
    };
    (Rehearsal::begin(&cast).expect("the mesh comes up"), parent, alone)
}

/// Puts the endpoint's address on a node that does not hold it, and announces it, as a mistaken operator or a
/// copied image would; waits until visitors had time to believe it.
fn impostor(rehearsal: &mut Rehearsal) -> Report {
    let stage = rehearsal.stage();
    let holder = stage.until_served().unwrap();
    let other = (0..stage.players.len()).find(|i| *i != holder).unwrap();
    let (place, address) = (stage.player(other).unwrap().place, stage.address);
    stage.lab.add_address(place, address).unwrap();
    let announce = || {
        let link = Rtnl::open().unwrap().link(UPLINK).unwrap();
        let announcer = Announcer::open(&link).unwrap();
        // A closed gate swallows it, which the socket may tell: either way it was tried.
        (0..10).map(|_| announcer.announce(address)).filter(Result::is_ok).count()
    };
    let sent = stage.lab.namespace(place).unwrap().run(announce).unwrap();
    println!("node {other} has {address}, too; {sent} of 10 announcements left its socket");
    rehearsal.watch_for(Span::from_ms(1_000)).unwrap();
    rehearsal.verdict().unwrap()
}

#[test]
fn whatever_happens_the_site_is_served_again_and_never_by_two() {
    play_all(Family::Ip4);
}

/// The nodes meet over IPv6, too.
#[test]
fn the_same_holds_over_ipv6() {
    play_all(Family::Ip6);
}

fn play_all(family: Family) {
    let (mut rehearsal, files, _alone) = rehearsal(None, family);
    for scenario in Scenario::ALL {
        let run = rehearsal.play(scenario).unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name()));
        println!("{:<26} {}, {} while it came back", scenario.name(), run.outage, run.aftershock);
        let longest = run.outage.max(run.aftershock);
        assert!(longest <= OUTAGE_MAX, "{}: visitors waited {longest}", scenario.name());
    }
    let report = rehearsal.verdict().expect("the tap saw everything");
    assert!(report.is_clean() && !report.addresses.is_empty(), "{report}");
    drop(rehearsal);
    std::fs::remove_dir_all(files).expect("the files go");
}

/// Without the kernel's gate nothing keeps a second address silent: the proof that the oracle can fail.
#[test]
fn an_impostor_without_a_gate_is_seen() {
    let (mut rehearsal, files, _alone) = rehearsal(Some("lifetime"), Family::Ip4);
    let report = impostor(&mut rehearsal);
    println!("{report}");
    assert!(!report.is_clean());
    drop(rehearsal);
    std::fs::remove_dir_all(files).expect("the files go");
}

#[test]
fn an_impostor_behind_the_gate_is_silent() {
    let (mut rehearsal, files, _alone) = rehearsal(None, Family::Ip4);
    let report = impostor(&mut rehearsal);
    assert!(report.is_clean() && !report.addresses.is_empty(), "{report}");
    drop(rehearsal);
    std::fs::remove_dir_all(files).expect("the files go");
}
