//! The search for two holders, in the size that every change can afford. The full size is
//! `cargo run --release -p chaos-tests --bin lease_search -- --schedules 1000000`.

use chaos_tests::lease_search::oracle::Heed;
use chaos_tests::lease_search::world::{self, Telling};
use chaos_tests::lease_search::{Found, Search, schedule_seed, search};
use stead_proto::lease::{Rule, Rules};

const SEED: u64 = 1;

fn run(schedules: u64, rules: Rules, heed: Heed) -> Found {
    search(&Search { schedules, seed: SEED, rules, heed }, |_| ())
}

fn two_holders_without(rule: Rule) {
    let found = run(20_000, Rules::SOUND.without(rule), Heed::TwoHolders);
    assert!(found.failure.is_some(), "{rule:?} is off, and nobody noticed in {found:?}");
}

#[test]
fn no_schedule_makes_two_holders_an_older_epoch_or_an_unserved_mesh() {
    let found = run(4_000, Rules::SOUND, Heed::Everything);
    assert!(found.failure.is_none(), "{found:?}");
    assert_eq!(found.schedules, 4_000);
    // The schedules went where it hurts.
    let seen = found.seen;
    let sometimes = [seen.changes, seen.alone, seen.releases, seen.refreshes, seen.configs];
    assert!(sometimes.iter().all(|&times| times > 100), "{seen:?}");
    assert!(seen.gap_ns_min.is_some_and(|gap| gap >= 19_800_000), "the guard of 20 ms, on a clock 1 % fast");
}

#[test]
fn two_voter_mode_without_its_rule_makes_two_holders() {
    two_holders_without(Rule::P1);
}

#[test]
fn membership_without_its_rule_makes_two_holders() {
    two_holders_without(Rule::P2);
}

#[test]
fn a_forgetful_restart_without_silence_makes_two_holders() {
    two_holders_without(Rule::P7);
}

#[test]
fn epochs_that_are_not_burned_make_two_holders() {
    two_holders_without(Rule::P8);
}

#[test]
fn promises_that_are_not_recorded_make_two_holders() {
    two_holders_without(Rule::P8Record);
}

#[test]
fn the_same_seed_gives_the_same_schedule_step_by_step() {
    for number in 0..50 {
        let seed = schedule_seed(SEED, number);
        let first = world::run(seed, Rules::SOUND, Heed::Everything, Telling::Quiet);
        let told = world::run(seed, Rules::SOUND, Heed::Everything, Telling::Steps);
        assert_eq!((first.digest, first.seen), (told.digest, told.seen));
        assert!(told.trace.len() > 10);
    }
}
