//! `cargo bench -p chaos-tests --bench failover`: how long visitors wait, scenario by scenario.
//!
//! Prints a table for people and, with `--json`, one line for each scenario. Needs root for the exact gate.
#![allow(missing_docs)]

use std::process::ExitCode;

use anyhow::Context as _;
use chaos_tests::failover::{Figures, Rehearsal, Row, Scenario};
use clap::Parser;
use stead::demo::stage::{Cast, scratch};

#[derive(Debug, Parser)]
struct Options {
    /// How often each scenario is played.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// The lease in milliseconds: 350 is the default profile, 80 the LAN profile.
    #[arg(long, default_values_t = [350, 80])]
    lease: Vec<u32>,
    /// Only scenarios whose names begin like this.
    #[arg(long, default_value = "")]
    only: String,
    /// Print JSON lines besides the table.
    #[arg(long)]
    json: bool,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    // The nodes of the lab are this very program.
    if arguments.get(1).is_some_and(|word| word == "agent" || word == "sample-site") {
        return Ok(stead::run(arguments).into());
    }
    let options = Options::parse();
    let mut clean = true;
    println!(
        "{:<26} {:>6} {:>5} {:>8} {:>8} {:>8} {:>8}",
        "scenario", "lease", "runs", "p50", "p99", "max", "goal"
    );
    for lease_ms in &options.lease {
        clean &= bench(&options, *lease_ms)?;
    }
    Ok(if clean { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bench(options: &Options, lease_ms: u32) -> anyhow::Result<bool> {
    let directory = scratch(&std::env::temp_dir())?;
    let program = std::env::current_exe().context("find this program")?;
    let cast = Cast { nodes: 3, lease_ms, program, directory: directory.clone(), gate: None };
    let mut rehearsal = Rehearsal::begin(&cast)?;
    for scenario in Scenario::ALL.into_iter().filter(|s| s.name().starts_with(&options.only)) {
        let mut figures = Figures::default();
        for run in 0..options.runs {
            figures
                .add(rehearsal.play(scenario).with_context(|| format!("run {run} of {}", scenario.name()))?);
        }
        print(&figures.row(scenario.name(), lease_ms, scenario.goal_p99_ms(lease_ms)), options.json)?;
    }
    let report = rehearsal.end()?;
    for (address, history) in &report.addresses {
        println!(
            "{address}: {} holds, {} overlaps, smallest gap {}, {} frames lost",
            history.holds.len(),
            history.violations_count,
            history.smallest_gap.map_or("none".into(), |gap| gap.to_string()),
            report.lost
        );
        for violation in history.violations.iter().take(5) {
            println!("  overlap: {violation:?}");
        }
    }
    std::fs::remove_dir_all(directory)?;
    Ok(report.is_clean())
}

fn print(row: &Row, json: bool) -> anyhow::Result<()> {
    println!(
        "{:<26} {:>3} ms {:>5} {:>5} ms {:>5} ms {:>5} ms {:>8}",
        row.scenario,
        row.lease_ms,
        row.runs,
        row.p50_ms,
        row.p99_ms,
        row.max_ms,
        row.goal_p99_ms.map_or("-".into(), |goal| format!("{goal} ms"))
    );
    if json {
        println!("{}", serde_json::to_string(row)?);
    }
    Ok(())
}
