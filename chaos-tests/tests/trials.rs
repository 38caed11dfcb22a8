//! Trials among liars, in the size that every change can afford. The full size is
//! `cargo run --release -p chaos-tests --bin trials`.

use chaos_tests::trials::{Found, search};
use stead_proto::tribunal::Rules;
use stead_proto::tribunal::rules::Rule;

const SEED: u64 = 1;

fn all(trials: u64, rules: Rules) -> impl Iterator<Item = Found> {
    [5, 3, 7, 4].into_iter().map(move |n| search(trials, SEED, n, rules))
}

#[test]
fn the_hostile_are_isolated_and_the_honest_are_not() {
    for found in all(25, Rules::SOUND) {
        assert!(found.failure.is_none(), "{found:?}");
        assert!(found.took_ms.len() >= 25, "each trial has somebody to isolate");
    }
}

fn matters(rule: Rule) {
    let mut found = all(400, Rules::SOUND.without(rule));
    assert!(found.any(|found| found.failure.is_some()), "{rule:?} is off, and no trial ended badly");
}

#[test]
fn every_rule_against_abuse_is_needed() {
    let rules = [
        Rule::Threshold,
        Rule::Conclusive,
        Rule::Void,
        Rule::Spread,
        Rule::Look,
        Rule::Abstain,
        Rule::Rebuttal,
        Rule::Group,
        Rule::Strikes,
        Rule::One,
    ];
    rules.into_iter().for_each(matters);
}
