//! The trials of the flood detectors, in the size that every change can afford. The full size is
//! `cargo run --release -p chaos-tests --bin detectors -- --days 30`.

use chaos_tests::traffic::flood::Kind;
use chaos_tests::traffic::profile::PROFILES;
use chaos_tests::traffic::trial::{floods, honest};
use stead_proto::detect::Detector;

const SEED: u64 = 1;
/// Six hours: every profile but the newsletter and the outage has its bursts in them, at this seed or another.
const TICKS: u64 = 6 * 36_000;

#[test]
fn no_honest_server_is_convicted() {
    for profile in PROFILES {
        let alarms = honest(profile, SEED, TICKS);
        for (alarm, detector) in alarms.iter().zip(Detector::ALL) {
            assert_eq!(alarm.convictions, 0, "{} by {detector:?}: {alarms:?}", profile.name);
        }
    }
}

#[test]
fn every_flood_is_found_that_the_rules_promise_to_find() {
    for kind in Kind::ALL {
        for per_s in [20, 100, 1_000, 10_000, 400_000] {
            let result = floods(kind, per_s, SEED, 5);
            assert!(!result.missed, "{result:?}");
        }
    }
}

#[test]
fn a_raw_flood_of_a_thousand_a_second_is_convicted_within_two_ticks() {
    let result = floods(Kind::Raw, 1_000, SEED, 20);
    assert!(result.convict.max_ms.is_some_and(|ms| ms <= 200), "{result:?}");
}

#[test]
fn a_connect_flood_of_a_hundred_a_second_is_suspected_and_never_convicted() {
    let result = floods(Kind::Connect, 100, SEED, 20);
    assert_eq!((result.suspect.found, result.convict.found), (20, 0), "{result:?}");
}
