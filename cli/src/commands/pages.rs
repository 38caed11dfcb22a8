//! Completions and manual pages, made from the arguments themselves.

use crate::args::Cli;
use crate::exit::{Exit, Failure};
use crate::output::text;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::Path;

pub(super) fn completions(shell: Shell) -> Result<Exit, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "stead", &mut script);
    text(&String::from_utf8_lossy(&script))?;
    Ok(Exit::Ok)
}

pub(super) fn man(directory: &Path) -> Result<Exit, Failure> {
    let written =
        fs::create_dir_all(directory).and_then(|()| clap_mangen::generate_to(Cli::command(), directory));
    written.map_err(|error| {
        Failure::Failed(format!("cannot write manual pages to {}: {error}", directory.display()))
    })?;
    Ok(Exit::Ok)
}
