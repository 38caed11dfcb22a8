//! Judges the flood detectors: false alarms on honest servers, delays on floods.

use anyhow::bail;
use chaos_tests::traffic::flood::Kind;
use chaos_tests::traffic::profile::PROFILES;
use chaos_tests::traffic::trial::{FalseAlarms, FloodResult, Honest, Spread, floods, honest_days};
use clap::Parser;
use std::io::{Write, stdout};
use std::time::Instant;
use stead_proto::detect::Detector;

const RATES: [u64; 9] = [20, 50, 100, 300, 400, 1_000, 2_000, 10_000, 400_000];
const SEEDS: usize = 20;
const TICKS_PER_S: u64 = 10;

/// Judges the flood detectors: false alarms on honest servers, delays on floods.
#[derive(Debug, Parser)]
struct Arguments {
    /// For how long each honest server runs, in simulated days.
    #[arg(long, default_value_t = 30)]
    days: u64,
    /// The seed of all traffic.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Prints the result as JSON.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let Arguments { days, seed, json } = Arguments::parse();
    let started = Instant::now();
    let honest: Vec<(&str, Honest)> =
        PROFILES.into_iter().map(|profile| (profile.name, honest_days(profile, seed, days))).collect();
    let honest_ms = started.elapsed().as_millis();
    let floods: Vec<FloodResult> =
        Kind::ALL.into_iter().flat_map(|kind| RATES.map(|per_s| floods(kind, per_s, seed, SEEDS))).collect();
    if json {
        print_json(days, seed, honest_ms, &honest, &floods)?;
    } else {
        print_words(days, seed, honest_ms, &honest, &floods)?;
    }
    let convicted: u64 = honest.iter().flat_map(|(_, alarms)| alarms).map(|alarm| alarm.convictions).sum();
    let missed = floods.iter().filter(|flood| flood.missed).count();
    if convicted > 0 || missed > 0 {
        bail!(
            "{convicted} convictions of honest servers, {missed} floods missed that the rules promise to find"
        );
    }
    Ok(())
}

fn print_words(
    days: u64,
    seed: u64,
    honest_ms: u128,
    honest: &[(&str, Honest)],
    floods: &[FloodResult],
) -> anyhow::Result<()> {
    let mut out = stdout().lock();
    writeln!(out, "honest servers, {days} days each, seed {seed}, {honest_ms} ms")?;
    writeln!(out, "suspicions/convictions (seconds above calm)\n")?;
    write!(out, "{:<18}", "profile")?;
    for detector in Detector::ALL {
        write!(out, "{:>16}", detector.code())?;
    }
    writeln!(out)?;
    for (name, alarms) in honest {
        write!(out, "{name:<18}")?;
        for FalseAlarms { suspicions, convictions, ticks } in alarms {
            let cell = format!("{suspicions}/{convictions} ({})", ticks / TICKS_PER_S);
            write!(out, "{cell:>16}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "\nfloods on a shop's server, {SEEDS} seeds: found, delay p50/max in ms\n")?;
    writeln!(out, "{:<10}{:>8}{:>24}{:>24}", "kind", "SYN/s", "suspect", "convict")?;
    for FloodResult { kind, per_s, suspect, convict, missed } in floods {
        let kind = format!("{kind:?}");
        let mark = if *missed { "  MISSED" } else { "" };
        writeln!(out, "{kind:<10}{per_s:>8}{:>24}{:>24}{mark}", spread(suspect), spread(convict))?;
    }
    Ok(())
}

fn spread(spread: &Spread) -> String {
    match (spread.p50_ms, spread.max_ms) {
        (Some(p50), Some(max)) => format!("{} of {SEEDS}, {p50}/{max}", spread.found),
        _ => "-".to_owned(),
    }
}

fn print_json(
    days: u64,
    seed: u64,
    honest_ms: u128,
    honest: &[(&str, Honest)],
    floods: &[FloodResult],
) -> anyhow::Result<()> {
    let honest: Vec<_> = honest
        .iter()
        .map(|(name, alarms)| {
            let detectors: serde_json::Map<_, _> = Detector::ALL
                .into_iter()
                .zip(alarms)
                .map(|(detector, alarm)| (detector.code().to_owned(), serde_json::json!(alarm)))
                .collect();
            serde_json::json!({ "profile": name, "detectors": detectors })
        })
        .collect();
    let value = serde_json::json!({
        "days": days,
        "seed": seed,
        "honest_ms": u64::try_from(honest_ms)?,
        "honest": honest,
        "floods": floods,
    });
    writeln!(stdout(), "{value}")?;
    Ok(())
}
