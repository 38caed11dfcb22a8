//! `cargo bench -p chaos-tests --bench failover`: how long visitors wait, scenario by scenario.
//!
//! Prints a table for people and, with `--json`, one line for each scenario. Needs root for the exact gate.
//! Ends with an error if two nodes ever answered at once, if a frame was lost that could prove it, if a run
//! did not come to its end, or if a goal was missed.
#![allow(missing_docs)]

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use chaos_tests::failover::{Figures, Rehearsal, Row, Scenario};
use clap::{Parser, ValueEnum};
use stead::demo::stage::{Cast, scratch};
use stead_deploy::lab::Family;
use stead_deploy::lab::overlap::Report;

/// After so many failed runs of one scenario, the next one is tried.
const FAILED_MAX: usize = 3;

#[derive(Clone, Copy, Debug, ValueEnum)]
enum Profile {
    /// A lease of 350 ms.
    Default,
    /// A lease of 80 ms.
    Lan,
}

impl Profile {
    const fn lease_ms(self) -> u32 {
        match self {
            Self::Default => 350,
            Self::Lan => 80,
        }
    }
}

#[derive(Debug, Parser)]
struct Options {
    /// How often each scenario is played.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// The profiles to measure.
    #[arg(long, default_values = ["default", "lan"])]
    profile: Vec<Profile>,
    /// Nodes and visitors meet over IPv6.
    #[arg(long)]
    ipv6: bool,
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
    println!(
        "{:<26} {:>6} {:>4} {:>6} {:>7} {:>7} {:>7} {:>7} {:>5} {:>8} {:>9} {:>11}",
        "scenario",
        "lease",
        "runs",
        "failed",
        "p50",
        "p99",
        "max",
        "after",
        "late",
        "overlaps",
        "gap",
        "goal"
    );
    let directory = scratch(&std::env::temp_dir())?;
    let mut reached = true;
    for profile in &options.profile {
        reached &= bench(&options, profile.lease_ms(), &directory)?;
    }
    if reached {
        std::fs::remove_dir_all(directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not everything was reached; the nodes' files and logs are in {}", directory.display());
    Ok(ExitCode::FAILURE)
}

fn bench(options: &Options, lease_ms: u32, directory: &Path) -> anyhow::Result<bool> {
    let program = std::env::current_exe().context("find this program")?;
    let family = if options.ipv6 { Family::Ip6 } else { Family::Ip4 };
    let (mut meshes, mut reached) = (0_u32, true);
    let mut begin = || {
        meshes += 1;
        let directory = directory.join(format!("{lease_ms}-{meshes}"));
        std::fs::create_dir(&directory)?;
        Rehearsal::begin(&Cast {
            nodes: 3,
            lease_ms,
            program: program.clone(),
            directory,
            gate: None,
            family,
            judges: true,
        })
    };
    let mut rehearsal = begin()?;
    for scenario in Scenario::ALL.into_iter().filter(|s| s.name().starts_with(&options.only)) {
        let mut figures = Figures::default();
        for run in 0..options.runs {
            match rehearsal.play(scenario) {
                Ok(outcome) => {
                    if scenario.goal(lease_ms).is_some_and(|goal| outcome.outage.as_ms() > goal.p99_ms) {
                        eprintln!("run {run} of {}: {outcome:?}", scenario.name());
                    }
                    figures.add(outcome);
                }
                Err(error) => {
                    eprintln!("run {run} of {}: {error:#}", scenario.name());
                    figures.add_failed();
                    figures.add_verdict(&told(rehearsal.verdict()?));
                    // The old mesh has to be gone before a new one comes up.
                    drop(rehearsal);
                    rehearsal = begin()?;
                }
            }
            if figures.failed() >= FAILED_MAX {
                break;
            }
        }
        figures.add_verdict(&told(rehearsal.verdict()?));
        let row = figures.row(scenario, lease_ms);
        reached &= row.reached;
        print(&row, options.json)?;
    }
    Ok(reached)
}

/// Tells at once what must never be.
fn told(report: Report) -> Report {
    if !report.is_clean() {
        eprintln!("{report}");
    }
    report
}

fn print(row: &Row, json: bool) -> anyhow::Result<()> {
    let goal = row.goal.map(|goal| match goal.p50_ms {
        Some(p50_ms) => format!("{p50_ms}/{} ms", goal.p99_ms),
        None => format!("{} ms", goal.p99_ms),
    });
    println!(
        "{:<26} {:>3} ms {:>4} {:>6} {:>4} ms {:>4} ms {:>4} ms {:>4} ms {:>2} ms {:>8} {:>6} µs {:>11}{}",
        row.scenario,
        row.lease_ms,
        row.runs,
        row.failed,
        row.p50_ms,
        row.p99_ms,
        row.max_ms,
        row.aftershock_max_ms,
        row.late_max_ms,
        row.overlaps,
        row.smallest_gap_us.map_or("-".into(), |gap| gap.to_string()),
        goal.unwrap_or("-".into()),
        if row.reached { "" } else { "  MISSED" }
    );
    if json {
        println!("{}", serde_json::to_string(row)?);
    }
    Ok(())
}
