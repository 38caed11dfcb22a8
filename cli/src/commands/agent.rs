//! `stead agent`.

use crate::agent_file;
use crate::args::AgentArgs;
use crate::document::Problem;
use crate::exit::{Exit, Failure};
use crate::output::text;
use std::io::IsTerminal;
use tracing_subscriber::EnvFilter;

/// What is logged unless `STEAD_LOG` says otherwise.
/// openraft calls an unreachable peer an error, several times a second; the agent says it once.
const LOG: &str = "info,openraft=off";

pub(super) fn run(args: &AgentArgs) -> Result<Exit, Failure> {
    let config = agent_file::load(&args.config, args.create).map_err(Failure::Problems)?;
    if args.check {
        text(&format!("{} is sound.\n", args.config.display()))?;
        return Ok(Exit::Ok);
    }
    let filter = EnvFilter::try_from_env("STEAD_LOG").unwrap_or_else(|_| EnvFilter::new(LOG));
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    log.with_ansi(std::io::stderr().is_terminal()).init();
    let (file, create) = (args.config.clone(), args.create);
    let reload = move || agent_file::load(&file, create).inspect_err(complain).ok();
    stead_node::agent::run(&config, reload)?;
    Ok(Exit::Ok)
}

/// A configuration that was sound at the start and is not at a reload.
fn complain(problems: &Vec<Problem>) {
    for problem in problems {
        tracing::error!("{problem}");
    }
}
