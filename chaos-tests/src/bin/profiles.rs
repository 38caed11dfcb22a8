//! The eight honest profiles, played for real: how often the detectors take an honest server for a hostile one.
//!
//!     cargo run --release -p chaos-tests --bin profiles [-- --seconds 60] [--only crawler] [--json]
//!
//! As root. One profile on each node of a mesh in the lab, a new mesh for every three. Ends with an error if anybody
//! was convicted; suspicions and throttles are printed as they come.

use std::process::ExitCode;

use anyhow::Context as _;
use chaos_tests::flood::{self, HonestRun, Scene, play_honest};
use chaos_tests::traffic::profile::PROFILES;
use clap::Parser;
use stead::demo::stage::scratch;

/// How many nodes a mesh in the lab has.
const AT_ONCE: usize = 3;

/// Plays the eight honest profiles through the lab.
#[derive(Debug, Parser)]
struct Options {
    /// For how long each is played.
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3_600))]
    seconds: u64,
    /// Only profiles whose names begin like this.
    #[arg(long, default_value = "")]
    only: String,
    /// What fixes the moments and the fates of the connections.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// JSON lines besides the table.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = flood::part(&arguments) {
        return Ok(code);
    }
    let options = Options::parse();
    let program = std::env::current_exe().context("find this program")?;
    let directory = scratch(&std::env::temp_dir())?;
    println!(
        "{:<18} {:>7} {:>7} {:>8} {:>11} {:>6} {:>9} {:>12} {:>9}  alarms",
        "profile", "seconds", "begun", "living", "unanswered", "late", "throttles", "throttled", "peak SYN/s"
    );
    let names = PROFILES.iter().enumerate().filter(|(_, profile)| profile.name.starts_with(&options.only));
    let wanted: Vec<usize> = names.map(|(number, _)| number).collect();
    let mut convicted = Vec::new();
    for (mesh, profiles) in wanted.chunks(AT_ONCE).enumerate() {
        let files = directory.join(mesh.to_string());
        std::fs::create_dir(&files)?;
        let mut scene = Scene::begin(&program, &files)?;
        for run in play_honest(&mut scene, profiles, options.seconds, options.seed)? {
            print(&run);
            if options.json {
                println!("{}", serde_json::to_string(&run)?);
            }
            if run.convicted {
                convicted.push(run.profile);
            }
        }
    }
    if convicted.is_empty() {
        println!("0 convictions");
        std::fs::remove_dir_all(directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("convicted: {}; the nodes' files are in {}", convicted.join(", "), directory.display());
    Ok(ExitCode::FAILURE)
}

fn print(run: &HonestRun) {
    let alarms: Vec<String> = run.alarms.iter().map(|(code, level)| format!("{code} {level}")).collect();
    println!(
        "{:<18} {:>7} {:>7} {:>8} {:>11} {:>6} {:>9} {:>9} ms {:>10}  {}{}",
        run.profile,
        run.seconds,
        run.opened.begun,
        run.opened.living,
        run.opened.unanswered,
        run.opened.late,
        run.throttles,
        run.throttled_ms,
        run.peak,
        alarms.join(", "),
        if run.convicted { "  CONVICTED" } else { "" }
    );
}
