//! `cargo bench -p chaos-tests --bench flood`: how long a flood leaves its host, flood by flood.
//!
//! Three tables for people and, with `--json`, one line for each row: floods that leave a node, with FastNetMon beside
//! it; floods from a node whose agent is killed, stopped or restarted meanwhile; floods onto the endpoint. Needs root.
//! Ends with an error if a flood was not throttled, not shown by every peer, not told by an incident that was closed,
//! if a visitor's request failed, if a run did not come to its end, or if a goal was missed.
#![allow(missing_docs)]

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use chaos_tests::flood::{
    self, InboundRun, Misfortune, Play, RivalRun, Row, Scenario, Scene, Served, Spread, Struck,
};
use clap::Parser;
use serde::Serialize;
use stead::demo::stage::scratch;

/// After so many failed runs of one flood, the next one is tried.
const FAILED_MAX: usize = 3;

#[derive(Debug, Parser)]
struct Options {
    /// How often each flood is played.
    #[arg(long, default_value_t = 20)]
    runs: usize,
    /// How often FastNetMon is played beside each flood.
    #[arg(long, default_value_t = 5)]
    rival_runs: usize,
    /// How often each misfortune of an agent, and each flood onto the endpoint, is played.
    #[arg(long, default_value_t = 3)]
    other_runs: usize,
    /// Only what is called so, or begins with this and a hyphen: `raw-1000`, `tcp`, `killed`, `inbound`.
    #[arg(long)]
    only: Vec<String>,
    /// SYNs a second of the floods onto the endpoint.
    #[arg(long, default_value_t = 5_000, value_parser = clap::value_parser!(u32).range(1..=50_000))]
    inbound_per_s: u32,
    /// Print JSON lines besides the table.
    #[arg(long)]
    json: bool,
    /// Print a line for each run.
    #[arg(long)]
    each: bool,
    /// What `cargo bench` passes.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> anyhow::Result<ExitCode> {
    let arguments: Vec<std::ffi::OsString> = std::env::args_os().collect();
    if let Some(code) = flood::part(&arguments) {
        return Ok(code);
    }
    let options = Options::parse();
    let directory = scratch(&std::env::temp_dir())?;
    let mut bench = Bench { options, directory, meshes: 0, scene: None };
    if bench.play_all()? {
        drop(bench.scene);
        std::fs::remove_dir_all(bench.directory)?;
        return Ok(ExitCode::SUCCESS);
    }
    eprintln!("not everything was reached; the nodes' files and logs are in {}", bench.directory.display());
    Ok(ExitCode::FAILURE)
}

struct Bench {
    options: Options,
    directory: PathBuf,
    meshes: u32,
    scene: Option<Scene>,
}

impl Bench {
    fn play_all(&mut self) -> anyhow::Result<bool> {
        let floods: Vec<Scenario> = Scenario::all().filter(|flood| self.wants(&flood.to_string())).collect();
        let struck: Vec<Misfortune> =
            Misfortune::all().filter(|blow| self.wants(&blow.to_string())).collect();
        let inbound = [("inbound-stead", Served::ByStead), ("inbound-alone", Served::Alone)];
        let inbound: Vec<Served> =
            inbound.into_iter().filter(|(name, _)| self.wants(name)).map(|(_, served)| served).collect();
        let mut reached = true;
        if !floods.is_empty() {
            if let Some(how) = flood::rival_missing() {
                println!("{how}");
            }
            head_of_floods();
        }
        for flood in floods {
            let row = self.play(flood)?;
            reached &= row.reached;
            print_flood(&row);
            self.json(&row)?;
        }
        if !struck.is_empty() {
            head_of_struck();
        }
        for misfortune in struck {
            reached &= self.strike(misfortune)?;
        }
        if !inbound.is_empty() {
            head_of_inbound();
        }
        for served in inbound {
            for _ in 0..self.options.other_runs {
                let per_s = self.options.inbound_per_s;
                let run = flood::play_inbound(self.scene()?, served, per_s)?;
                reached &= run.reached;
                print_inbound(&run);
                self.json(&run)?;
            }
        }
        Ok(reached)
    }

    fn wants(&self, name: &str) -> bool {
        let only = &self.options.only;
        let is = |wanted: &String| name == wanted || name.starts_with(&format!("{wanted}-"));
        only.is_empty() || only.iter().any(is)
    }

    fn json(&self, row: &impl Serialize) -> anyhow::Result<()> {
        if self.options.json {
            println!("{}", serde_json::to_string(row)?);
        }
        Ok(())
    }

    fn strike(&mut self, misfortune: Misfortune) -> anyhow::Result<bool> {
        let mut reached = true;
        for run in 0..self.options.other_runs {
            match misfortune.play(self.scene()?) {
                Ok(struck) => {
                    reached &= struck.reached;
                    print_struck(&struck);
                    self.json(&struck)?;
                }
                Err(error) => {
                    eprintln!("run {run} of {misfortune}: {error:#}");
                    (reached, self.scene) = (false, None);
                }
            }
        }
        Ok(reached)
    }

    /// The nodes take turns, the holder first; each has to be free again before its next one.
    fn play(&mut self, scenario: Scenario) -> anyhow::Result<Row> {
        let (mut plays, mut failed) = (Vec::new(), 0);
        let mut open: BTreeMap<usize, Play> = BTreeMap::new();
        for run in 0..self.options.runs {
            let played = self.turn(run, scenario, &mut open, &mut plays);
            if let Err(error) = played {
                eprintln!("run {run} of {scenario}: {error:#}");
                failed += 1;
                plays.extend(std::mem::take(&mut open).into_values());
                // The old mesh has to be gone before a new one comes up.
                self.scene = None;
            }
            if failed >= FAILED_MAX {
                break;
            }
        }
        for mut play in std::mem::take(&mut open).into_values() {
            if let Err(error) = self.scene()?.settle(&mut play) {
                eprintln!("the end of a run of {scenario}: {error:#}");
            }
            self.tell(scenario, &play);
            plays.push(play);
        }
        let rival = self.rival(scenario);
        Ok(Row::of(scenario, &plays, failed, &rival))
    }

    /// The same on the host without an agent. What FastNetMon does wrong is its own affair.
    fn rival(&mut self, scenario: Scenario) -> Vec<RivalRun> {
        let runs = if flood::rival_missing().is_some() { 0 } else { self.options.rival_runs };
        let mut played = Vec::new();
        for run in 0..runs {
            match self.scene().and_then(|scene| flood::play_rival(scene, scenario, run)) {
                Ok(run) => played.push(run),
                Err(error) => eprintln!("FastNetMon, run {run} of {scenario}: {error:#}"),
            }
        }
        played
    }

    fn turn(
        &mut self,
        run: usize,
        scenario: Scenario,
        open: &mut BTreeMap<usize, Play>,
        plays: &mut Vec<Play>,
    ) -> anyhow::Result<()> {
        let nodes = self.scene()?.nodes()?;
        let node = *nodes.get(run % nodes.len()).context("a mesh has nodes")?;
        if let Some(mut play) = open.remove(&node) {
            let settled = self.scene()?.settle(&mut play);
            self.tell(scenario, &play);
            plays.push(play);
            settled?;
        }
        let play = self.scene()?.play(node, scenario)?;
        open.insert(node, play);
        Ok(())
    }

    fn scene(&mut self) -> anyhow::Result<&mut Scene> {
        if self.scene.is_none() {
            self.meshes += 1;
            let program = std::env::current_exe().context("find this program")?;
            self.scene = Some(Scene::begin(&program, &made(&self.directory, self.meshes)?)?);
        }
        self.scene.as_mut().context("it was made just now")
    }

    fn tell(&self, scenario: Scenario, play: &Play) {
        if self.options.each {
            eprintln!("{scenario}: {play:?}");
        }
    }
}

fn made(parent: &Path, number: u32) -> anyhow::Result<PathBuf> {
    let directory = parent.join(number.to_string());
    std::fs::create_dir(&directory)?;
    Ok(directory)
}

fn shown(spread: Option<Spread>) -> String {
    spread.map_or("-".into(), |spread| spread.to_string())
}

const fn verdict(reached: bool) -> &'static str {
    if reached { "" } else { "  MISSED" }
}

fn head_of_floods() {
    println!(
        "spreads are p50/p99/max; times in ms from the first SYN at the victim, counts of SYNs at the victim"
    );
    println!(
        "{:<12} {:>4} {:>6} {:>9} {:>15} {:>15} {:>15} {:>15} {:>15} {:>6} {:>6} {:>13} | {:>15} {:>17} {:>5}",
        "flood",
        "runs",
        "failed",
        "throttled",
        "after",
        "until then",
        "in all",
        "at all peers",
        "incident",
        "closed",
        "untold",
        "visits failed",
        "FastNetMon told",
        "SYNs until then",
        "runs"
    );
}

fn print_flood(row: &Row) {
    let rival = row
        .rival
        .map_or(("-".into(), "-".into(), 0), |rival| (shown(rival.told_ms), shown(rival.left), rival.runs));
    println!(
        "{:<12} {:>4} {:>6} {:>9} {:>15} {:>15} {:>15} {:>15} {:>15} {:>6} {:>6} {:>4} of {:>5} | {:>15} {:>17} {:>5}{}",
        row.scenario,
        row.runs,
        row.failed,
        row.throttled,
        shown(row.throttled_ms),
        shown(row.left_until_then),
        shown(row.left_in_all),
        shown(row.shown_ms),
        shown(row.opened_ms),
        row.closed,
        row.untold_max,
        row.unserved,
        row.asked,
        rival.0,
        rival.1,
        rival.2,
        verdict(row.reached)
    );
}

fn head_of_struck() {
    println!(
        "\n{:<26} {:>11} {:>9} {:>18} {:>15} {:>8} {:>8}",
        "agent", "limited, ms", "SYNs left", "own visits failed", "endpoint's gap", "sent", "told"
    );
}

fn print_struck(struck: &Struck) {
    println!(
        "{:<26} {:>11} {:>9} {:>9} of {:>5} {:>12} ms {:>8} {:>8}{}",
        struck.scenario,
        struck.limited_ms.map_or("never".into(), |ms| ms.to_string()),
        struck.left,
        struck.own_failed,
        struck.own_asked,
        struck.endpoint_outage_ms,
        struck.sent,
        struck.told.map_or("-".into(), |told| told.to_string()),
        verdict(struck.reached)
    );
}

fn head_of_inbound() {
    println!(
        "\n{:<8} {:>8} {:>16} {:>20} {:>8} {:>9} {:>9} {:>16} {:>5}",
        "served", "SYNs", "visits failed", "latency, us", "gap, ms", "incident", "shielded", "told", "calm"
    );
}

fn print_inbound(run: &InboundRun) {
    let ms = |ms: Option<u64>| ms.map_or("-".into(), |ms| ms.to_string());
    println!(
        "{:<8} {:>8} {:>7} of {:>5} {:>20} {:>8} {:>9} {:>9} {:>16} {:>5}{}",
        match run.served {
            Served::ByStead => "stead",
            Served::Alone => "alone",
        },
        run.sent,
        run.failed,
        run.asked,
        shown(run.latency_us),
        run.outage_ms,
        ms(run.opened_ms),
        ms(run.shielded_ms),
        run.told.map_or("-".into(), |(syns, full)| format!("{syns}/{full}")),
        if run.calm { "yes" } else { "NO" },
        verdict(run.reached)
    );
}
