//! The command line of stead: arguments, files, rendering, and the operator's side of the admin plane.
//!
//! A library, so that the lab can make meshes ([`init`]) and the chaos tests can be the same binary ([`main`]).
//!
//! **Invariant.** What people read and what `--json` prints are two renderings of one value from [`json`];
//! nothing is computed while printing.

pub mod agent_file;
pub mod agreement;
pub mod args;
pub mod ask;
pub mod bundle;
pub mod context;
pub mod demo;
pub mod document;
pub mod exit;
pub mod init;
pub mod json;
pub mod site_file;

mod commands;
mod file;
mod output;
mod progress;
mod render;
#[cfg(test)]
mod sample;
mod submit;
mod uplink;
mod view;
mod words;

use args::Cli;
use clap::Parser;
use exit::{Exit, Failure};
use output::Output;
use std::ffi::OsString;
use std::process::ExitCode;

/// The whole of the `stead` binary, on the arguments of this process.
#[must_use]
pub fn main() -> ExitCode {
    run(std::env::args_os().collect()).into()
}

/// The whole of the `stead` binary, on these arguments; the first is the program's name.
#[must_use]
pub fn run(arguments: Vec<OsString>) -> Exit {
    let wants_json = arguments.iter().any(|argument| argument == "--json");
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) if wants_json && error.use_stderr() => {
            let usage = Failure::Usage(error.to_string());
            Output::json().failure(&usage);
            return usage.exit();
        }
        Err(error) => {
            // A closed output is the reader's choice.
            let _ = error.print();
            return if error.use_stderr() { Exit::Input } else { Exit::Ok };
        }
    };
    let output = Output::new(&cli.global);
    commands::run(&cli, &output).unwrap_or_else(|failure| {
        output.failure(&failure);
        failure.exit()
    })
}
