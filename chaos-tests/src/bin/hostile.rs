//! Malware on one server of a mesh, night after night: how soon its peers have cut it off.
//!
//!     cargo run --release -p chaos-tests --bin hostile -- [--runs 20] [--nodes 3] [--json] [--each]
//!     cargo run --release -p chaos-tests --bin hostile -- --raft [--json]
//!
//! As root. The hostile node is a follower, the holder, or the leader that also holds; it floods a stranger with
//! 1 000 raw SYNs a second. All times in milliseconds, p50/p99/max, from the first SYN that reached the victim. Ends
//! with an error if a goal of DESIGN §10 was missed, an honest node was cut off, or the evicted one came back.

use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use chaos_tests::adversary::{Night, Role, Row, Struck, raft};
use chaos_tests::flood;
use clap::Parser;
use stead::demo::stage::scratch;

/// Plays malware on a member of a mesh.
#[derive(Debug, Parser)]
struct Options {
    /// How many nights for each role.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// How many nodes.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=7))]
    nodes: u8,
    /// Only this role: follower, holder or leader.
    #[arg(long)]
    only: Option<String>,
    /// Instead of malware, a member of 3, 5 and 7 nodes that speaks Raft as it likes.
    #[arg(long)]
    raft: bool,
    /// JSON lines besides the table.
    #[arg(long)]
    json: bool,
    /// A line for each night.
    #[arg(long)]
    each: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = flood::part(&arguments) {
        return Ok(code);
    }
    let options = Options::parse();
    let program = std::env::current_exe().context("find this program")?;
    let directory = scratch(&std::env::temp_dir())?;
    if options.raft {
        let held = sieges(&program, &directory, options.json)?;
        std::fs::remove_dir_all(&directory)?;
        return Ok(if held { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    }
    println!(
        "{:<9} {:>5} {:>5} {:>18} {:>18} {:>18} {:>18} {:>16} {:>14}  {:>6}",
        "role",
        "nodes",
        "runs",
        "cut off by all",
        "served elsewhere",
        "led elsewhere",
        "on record",
        "visitors waited",
        "SYNs out",
        "let in"
    );
    let mut reached = true;
    for role in Role::ALL {
        if options.only.as_ref().is_some_and(|only| *only != role.to_string()) {
            continue;
        }
        let (mut nights, mut failed) = (Vec::new(), 0);
        for run in 0..options.runs {
            let files = directory.join(format!("{role}-{run}"));
            match night(&program, &files, options.nodes, role) {
                Ok(struck) => {
                    if options.each {
                        println!("{struck:?}");
                    }
                    nights.push(struck);
                    std::fs::remove_dir_all(&files)?;
                }
                Err(error) => {
                    eprintln!("{role}, night {run}: {error:#}");
                    failed += 1;
                }
            }
        }
        let row = Row::of(role, options.nodes, &nights, failed);
        print(&row);
        if options.json {
            println!("{}", serde_json::to_string(&row)?);
        }
        reached &= row.reached;
    }
    if reached {
        std::fs::remove_dir_all(&directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not everything was reached; the nodes' files and logs are in {}", directory.display());
    Ok(ExitCode::FAILURE)
}

/// Plays every attack on consensus; whether all of them were refused and nobody noticed.
fn sieges(program: &Path, directory: &Path, json: bool) -> anyhow::Result<bool> {
    let mut held = true;
    for nodes in [3, 5, 7] {
        let files = directory.join(format!("raft-{nodes}"));
        std::fs::create_dir(&files)?;
        let siege = raft::besiege(Night::begin(program, &files, nodes)?.stage(), 1)?;
        for attack in &siege.attacks {
            println!(
                "{nodes} nodes  {:<38} {:>3} sent  {:>3} believed",
                attack.name, attack.sent, attack.believed
            );
        }
        let (heard, calm) = (siege.heard, siege.undisturbed);
        println!(
            "{nodes} nodes  reached consensus: {heard}; term, leader and voters as before: {calm}; visitors waited {} ms",
            siege.outage_ms
        );
        if json {
            println!("{}", serde_json::to_string(&siege)?);
        }
        held &= siege.held();
    }
    Ok(held)
}

fn night(program: &Path, files: &Path, nodes: u8, role: Role) -> anyhow::Result<Struck> {
    std::fs::create_dir(files)?;
    Night::begin(program, files, nodes)?.strike(program, role)
}

fn print(row: &Row) {
    let of = |spread: &Option<flood::Spread>| spread.as_ref().map_or_else(|| "-".into(), ToString::to_string);
    println!(
        "{:<9} {:>5} {:>5} {:>18} {:>18} {:>18} {:>18} {:>16} {:>14}  {:>6}",
        row.role.to_string(),
        row.nodes,
        row.runs,
        of(&row.isolated_ms),
        of(&row.elsewhere_ms),
        of(&row.led_ms),
        of(&row.recorded_ms),
        of(&row.outage_ms),
        of(&row.syns),
        row.let_in
    );
}
