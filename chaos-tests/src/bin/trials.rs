//! Tries the tribunal among liars; prints a seed that breaks it.

use anyhow::bail;
use chaos_tests::trials::{Found, search};
use clap::Parser;
use std::io::{Write, stdout};
use stead_proto::tribunal::Rules;

/// Tries the tribunal among as many liars as a mesh has to bear.
#[derive(Debug, Parser)]
struct Arguments {
    /// How many trials of each size.
    #[arg(long, default_value_t = 1_000)]
    trials: u64,
    /// From which the trials' seeds grow.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Nodes; three bear one liar, five two, seven three.
    #[arg(long, default_values_t = [3, 4, 5, 7])]
    nodes: Vec<u64>,
    /// Print the result as JSON lines.
    #[arg(long)]
    json: bool,
}

fn main() -> anyhow::Result<()> {
    let arguments = Arguments::parse();
    for n in arguments.nodes {
        if !(3..=9).contains(&n) {
            bail!(
                "--nodes takes 3 to 9: two nodes cannot judge each other, and no mesh has more voters than nine"
            );
        }
        let found = search(arguments.trials, arguments.seed, n, Rules::SOUND);
        if arguments.json {
            let failure =
                found.failure.map(|f| serde_json::json!({ "seed": f.seed, "fault": f.fault.to_string() }));
            let (trials, isolations) = (found.trials, found.took_ms.len());
            let (p50_ms, p99_ms) = (per_mille(&found, 500), per_mille(&found, 990));
            let line = serde_json::json!({
                "nodes": n, "trials": trials, "isolations": isolations, "p50_ms": p50_ms, "p99_ms": p99_ms, "failure": failure,
            });
            writeln!(stdout(), "{line}")?;
        } else {
            writeln!(
                stdout(),
                "{n} nodes, {} liars: {} trials, {} isolations, known to the last honest node after {} ms (median), {} ms (p99)",
                (n - 1) / 2,
                found.trials,
                found.took_ms.len(),
                per_mille(&found, 500),
                per_mille(&found, 990),
            )?;
        }
        if let Some(failure) = found.failure {
            bail!("trial {} of {n} nodes, seed {}: {}", failure.number, failure.seed, failure.fault);
        }
    }
    Ok(())
}

fn per_mille(found: &Found, share: usize) -> u64 {
    found.took_ms.get(found.took_ms.len() * share / 1_000).copied().unwrap_or_default()
}
