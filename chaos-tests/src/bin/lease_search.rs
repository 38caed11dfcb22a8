//! Tries to break the lease with random schedules; prints a seed that does, and replays it.

use anyhow::bail;
use chaos_tests::lease_search::oracle::Heed;
use chaos_tests::lease_search::world::{self, Telling};
use chaos_tests::lease_search::{Found, Search, search};
use clap::{Parser, ValueEnum};
use std::io::{IsTerminal, Write, stderr, stdout};
use std::time::Instant;
use stead_proto::lease::{Rule, Rules};

/// Tries to break the lease with random schedules.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many schedules to run.
    #[arg(long, default_value_t = 100_000)]
    schedules: u64,
    /// From which the schedules' seeds grow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Switches a rule off; the search then has to find a violation.
    #[arg(long)]
    without: Vec<Weakness>,
    /// Looks for two holders only, not for epochs that go back or meshes that nobody serves.
    #[arg(long)]
    two_holders: bool,
    /// Runs the one schedule of this seed and prints its steps.
    #[arg(long)]
    replay: Option<u64>,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Weakness {
    /// Two-voter mode.
    #[value(name = "P1")]
    P1,
    /// Lease and membership.
    #[value(name = "P2")]
    P2,
    /// Silence after a restart without a record.
    #[value(name = "P7")]
    P7,
    /// Released and lapsed epochs are burned.
    #[value(name = "P8")]
    P8,
    /// Promises are recorded before they are given (the other half of P8).
    #[value(name = "P8-record")]
    P8Record,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    let rules = arguments.without.iter().fold(Rules::SOUND, |rules, weakness| rules.without(rule(*weakness)));
    let heed = if arguments.two_holders { Heed::TwoHolders } else { Heed::Everything };
    if let Some(seed) = arguments.replay {
        return replay(seed, rules, heed);
    }
    let Arguments { schedules, seed, json, .. } = arguments;
    let started = Instant::now();
    let shows = stderr().is_terminal();
    let found = search(&Search { schedules, seed, rules, heed }, |done| {
        if shows && done.is_multiple_of(1_024) {
            let _ = write!(stderr(), "\r{done} of {schedules} schedules, {} s", started.elapsed().as_secs());
        }
    });
    if shows {
        writeln!(stderr())?;
    }
    let elapsed_ms = started.elapsed().as_millis();
    if json {
        print_json(&found, seed, elapsed_ms)?
    } else {
        print_words(&found, elapsed_ms)?
    }
    match (found.failure, arguments.without.is_empty()) {
        (None, true) | (Some(_), false) => Ok(()),
        (Some(_), true) => bail!("the lease is broken"),
        (None, false) => bail!("a rule was off, and no schedule noticed"),
    }
}

const fn rule(weakness: Weakness) -> Rule {
    match weakness {
        Weakness::P1 => Rule::P1,
        Weakness::P2 => Rule::P2,
        Weakness::P7 => Rule::P7,
        Weakness::P8 => Rule::P8,
        Weakness::P8Record => Rule::P8Record,
    }
}

fn replay(seed: u64, rules: Rules, heed: Heed) -> anyhow::Result<()> {
    let outcome = world::run(seed, rules, heed, Telling::Steps);
    for line in &outcome.trace {
        writeln!(stdout(), "{line}")?;
    }
    writeln!(stdout(), "digest {:016x}", outcome.digest)?;
    Ok(())
}

fn print_words(found: &Found, elapsed_ms: u128) -> anyhow::Result<()> {
    let Found { schedules, seen, failure } = found;
    writeln!(
        stdout(),
        "{schedules} schedules in {elapsed_ms} ms: {} events, {} openings ({} changes of holder, {} in two-voter mode), \
         {} releases, {} refreshes, {} configurations\nsmallest gap after an expiry {} ns, longest wait for a holder after the faults {} ms",
        seen.events,
        seen.opens,
        seen.changes,
        seen.alone,
        seen.releases,
        seen.refreshes,
        seen.configs,
        seen.gap_ns_min.map_or_else(|| "-".to_owned(), |gap| gap.to_string()),
        seen.wait_ns_max / 1_000_000,
    )?;
    match failure {
        None => writeln!(stdout(), "0 violations")?,
        Some(failure) => writeln!(
            stdout(),
            "schedule {}: {}\nreplay it with --replay {}",
            failure.number,
            failure.violation,
            failure.seed
        )?,
    }
    Ok(())
}

fn print_json(found: &Found, seed: u64, elapsed_ms: u128) -> anyhow::Result<()> {
    let Found { schedules, seen, failure } = found;
    let failure = failure.map(|failure| {
        serde_json::json!({
            "schedule": failure.number,
            "seed": failure.seed,
            "violation": failure.violation.to_string(),
        })
    });
    let value = serde_json::json!({
        "schedules": schedules,
        "seed": seed,
        "elapsed_ms": u64::try_from(elapsed_ms)?,
        "events": seen.events,
        "openings": seen.opens,
        "holder_changes": seen.changes,
        "openings_in_two_voter_mode": seen.alone,
        "releases": seen.releases,
        "refreshes": seen.refreshes,
        "configurations": seen.configs,
        "gap_ns_min": seen.gap_ns_min,
        "wait_ns_max": seen.wait_ns_max,
        "failure": failure,
    });
    writeln!(stdout(), "{value}")?;
    Ok(())
}
