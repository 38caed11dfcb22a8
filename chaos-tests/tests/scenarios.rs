//! Each misfortune once, with real agents: the site is served again in time, and never by two.
//!
//! Needs root. `cargo bench -p chaos-tests --bench failover` plays them many times and prints distributions.
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test fails by panicking")]

use chaos_tests::failover::{Rehearsal, Scenario};
use stead::demo::stage::{Cast, scratch};
use stead_proto::time::Span;

/// On a machine that builds and tests beside it, visitors may wait this long; the benchmark is stricter.
const OUTAGE_MAX: Span = Span::from_ms(4_000);

#[test]
fn whatever_happens_the_site_is_served_again_and_never_by_two() {
    assert!(
        rustix::process::geteuid().is_root(),
        "run this as root: it makes network namespaces and loads BPF"
    );
    let directory = scratch(&std::env::temp_dir()).expect("a directory for the mesh");
    let program = env!("CARGO_BIN_EXE_stead_under_test").into();
    let cast = Cast { nodes: 3, lease_ms: 350, program, directory: directory.clone(), gate: None };
    let mut rehearsal = Rehearsal::begin(&cast).expect("the mesh comes up");
    for scenario in Scenario::ALL {
        let outage =
            rehearsal.play(scenario).unwrap_or_else(|error| panic!("{}: {error:#}", scenario.name()));
        println!("{:<26} {outage}", scenario.name());
        assert!(outage <= OUTAGE_MAX, "{}: visitors waited {outage}", scenario.name());
    }
    let report = rehearsal.end().expect("the tap saw everything");
    assert!(report.is_clean(), "{report:#?}");
    std::fs::remove_dir_all(directory).expect("the files go");
}
