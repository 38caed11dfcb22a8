//! `stead demo`, and the sample site that its nodes serve.

use std::io::IsTerminal;
use std::path::Path;

use crate::args::DemoArgs;
use crate::demo::{self, Options};
use crate::exit::{Exit, Failure};

pub(super) fn run(args: &DemoArgs, json: bool) -> Result<Exit, Failure> {
    let watched = std::io::stdin().is_terminal() && !args.auto;
    let options =
        Options { nodes: args.nodes, auto: !watched, keep: args.keep, json, picture: args.picture.clone() };
    match demo::run(&options) {
        Ok(true) => Ok(Exit::Ok),
        Ok(false) => Ok(Exit::Failed),
        Err(error) => Err(Failure::Failed(format!("{error:#}"))),
    }
}

pub(super) fn sample_site(name: &str, hang_while: &Path) -> Result<Exit, Failure> {
    match demo::sample_site(name, hang_while.into()) {
        Err(error) => Err(Failure::Failed(format!("{error:#}"))),
    }
}
