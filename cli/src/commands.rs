//! One function per command: ask or order, then print.

mod accept;
mod admit;
mod agent;
mod demo;
mod evidence;
mod init;
mod judging;
mod look;
mod members;
mod orders;
mod pages;
mod session;
mod site;
mod syn;
mod watch;

use crate::args::{Cli, Command, SiteCommand};
use crate::exit::{Exit, Failure};
use crate::output::Output;
use session::{Session, on_runtime};

/// Carries out a command.
///
/// # Errors
/// [`Failure`], told so that the operator knows what to do.
pub(crate) fn run(cli: &Cli, output: &Output) -> Result<Exit, Failure> {
    let global = &cli.global;
    let session = || Session::open(global, *output);
    match &cli.command {
        Command::Agent(args) => agent::run(args),
        Command::Demo(args) => demo::run(args, global.json),
        Command::SampleSite { name, hang_while } => demo::sample_site(name, hang_while),
        Command::Init(args) => init::run(args, output),
        Command::Completions { shell } => pages::completions(*shell),
        Command::Man { directory } => pages::man(directory),
        Command::Status => on_runtime(session()?, look::status),
        Command::Nodes => on_runtime(session()?, look::nodes),
        Command::Endpoints => on_runtime(session()?, look::endpoints),
        Command::Services => on_runtime(session()?, look::services),
        Command::Incidents { verify: Some(file), genesis, .. } => {
            evidence::verify(output, file, genesis.as_deref())
        }
        Command::Incidents { id: Some(id), evidence: true, export, .. } => {
            on_runtime(session()?, async |s| evidence::show(s, *id, export.as_deref()).await)
        }
        Command::Incidents { id: Some(id), .. } => {
            on_runtime(session()?, async |s| look::incident(s, *id).await)
        }
        Command::Incidents { id: None, open, .. } => {
            on_runtime(session()?, async |s| look::incidents(s, *open).await)
        }
        Command::Why { endpoint } => on_runtime(session()?, async |s| look::why(s, endpoint).await),
        Command::Cases => on_runtime(session()?, judging::cases),
        Command::Isolate { node, reason, yes, no_wait } => {
            on_runtime(session()?, async |s| judging::isolate(s, node, reason, *yes, !no_wait).await)
        }
        Command::Accept { node, host_key, yes } => {
            on_runtime(session()?, async |s| accept::run(s, node, *host_key, *yes).await)
        }
        Command::Doctor { node } => on_runtime(session()?, async |s| look::doctor(s, node.as_ref()).await),
        Command::Syn { watch: false } => on_runtime(session()?, syn::once),
        Command::Syn { watch: true } => on_runtime(session()?, syn::watch),
        Command::Watch { interval } => on_runtime(session()?, async |s| watch::run(s, *interval).await),
        Command::Move { endpoint, to, no_wait } => {
            on_runtime(session()?, async |s| orders::move_to(s, endpoint, to, !no_wait).await)
        }
        Command::Drain { node, no_wait } => {
            on_runtime(session()?, async |s| orders::drain(s, node, !no_wait).await)
        }
        Command::Undrain { node } => on_runtime(session()?, async |s| orders::undrain(s, node).await),
        Command::Admit(args) => on_runtime(session()?, async |s| admit::run(s, args, None).await),
        Command::Readmit { admit, probation } => {
            on_runtime(session()?, async |s| admit::run(s, admit, Some(*probation)).await)
        }
        Command::Remove { node, yes } => {
            on_runtime(session()?, async |s| members::remove(s, node, *yes).await)
        }
        Command::Role { node, role, no_wait } => {
            on_runtime(session()?, async |s| members::set_role(s, node, (*role).into(), !no_wait).await)
        }
        Command::Apply(args) => {
            let file = crate::site_file::SiteFile::load(&args.file).map_err(Failure::Problems)?;
            on_runtime(session()?, async |s| site::apply(s, args, &file).await)
        }
        Command::Site(SiteCommand::Show { version }) => {
            on_runtime(session()?, async |s| site::show(s, *version).await)
        }
        Command::Site(SiteCommand::History) => on_runtime(session()?, site::history),
        Command::Site(SiteCommand::Rollback { version }) => {
            on_runtime(session()?, async |s| site::rollback(s, *version).await)
        }
    }
}
