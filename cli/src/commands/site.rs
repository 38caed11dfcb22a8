//! The site: applied from a file, shown, taken back.

use super::orders::{done, failure, finish, order, submit};
use super::session::{Session, state};
use crate::agreement::Agreement;
use crate::args::ApplyArgs;
use crate::exit::{Exit, Failure};
use crate::json::{Checked, SiteHistory, SiteVersion};
use crate::render;
use crate::site_file::{SiteFile, write};
use crate::submit::SubmitError;
use crate::words::now_unix_ms;
use similar::TextDiff;
use stead_proto::command::Refusal;
use stead_proto::id::Name;
use stead_proto::order::Act;
use stead_proto::state::{self as proto, State};

pub(super) async fn apply(session: &Session, args: &ApplyArgs, file: &SiteFile) -> Result<Exit, Failure> {
    if args.check {
        return check(session, args, file).await;
    }
    session.orderer()?;
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (state, _) = state(&agreement)?;
    fits(state, file)?;
    let newest = state.site_version;
    let base = args.base.unwrap_or(newest);
    if base != newest {
        return Err(stale(base, state, args, file));
    }
    if !differs(state, file) {
        return Err(Failure::Failed(format!("nothing to do: the file says the same as version {newest}")));
    }
    let act = Act::Apply { base, site: Box::new(file.site.clone()), text: file.text.clone() };
    match submit(session, act.clone(), &answers).await {
        Ok(timed) => finish(session, &done(&act, format!("{} is applied", args.file.display()), timed)),
        Err(SubmitError::Refused(Refusal::Stale { base, .. })) => {
            let answers = session.ask().await;
            Err(match Agreement::of(&answers).state() {
                Some(state) => stale(base, state, args, file),
                None => {
                    Failure::Failed("somebody else has applied a site meanwhile: look and apply again".into())
                }
            })
        }
        Err(error) => Err(failure(error)),
    }
}

async fn check(session: &Session, args: &ApplyArgs, file: &SiteFile) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let newest = agreement.state();
    if let Some(state) = newest {
        fits(state, file)?;
    }
    let checked = Checked {
        newest: newest.map(|state| state.site_version),
        changes: newest.map(|state| differs(state, file)),
        diff: newest.map(|state| difference(state, args, file)).unwrap_or_default(),
    };
    session.output.document(&checked, render::checked)?;
    Ok(Exit::Ok)
}

/// Whether the nodes that a file prefers are there.
fn fits(state: &State, file: &SiteFile) -> Result<(), Failure> {
    let names: Vec<&Name> = state.members.values().map(|member| &member.name).collect();
    let problems = file.unknown_nodes(&names);
    if problems.is_empty() { Ok(()) } else { Err(Failure::Problems(problems)) }
}

fn stale(base: u64, state: &State, args: &ApplyArgs, file: &SiteFile) -> Failure {
    let (newest, by) = (state.site_version, state.site_history.last().map_or("somebody", |v| v.by.as_str()));
    let refused = format!(
        "refused: your file is for version {base}, but {by} has applied version {newest} since. Nothing was changed."
    );
    Failure::Failed(if differs(state, file) {
        format!(
            "{refused}\nWhat your file would do to it:\n\n{}\nTake over what is missing, then run `stead apply {} --base {newest}`.",
            difference(state, args, file),
            args.file.display()
        )
    } else {
        format!("{refused}\nThat version says the same as your file: there is nothing left to do.")
    })
}

fn differs(state: &State, file: &SiteFile) -> bool {
    let text = state.site_history.last().map(|version| version.text.as_str()).unwrap_or_default();
    state.site != file.site || (!text.is_empty() && text != file.text)
}

/// From the newest version to the file, as a unified diff. A version without a file of its own is compared
/// by what it says.
fn difference(state: &State, args: &ApplyArgs, file: &SiteFile) -> String {
    let kept = state.site_history.last().map(|version| version.text.as_str()).unwrap_or_default();
    let (old, new) = if kept.is_empty() {
        (write(&state.site), write(&file.site))
    } else {
        (kept.to_string(), file.text.clone())
    };
    let (from, to) = (format!("version {}", state.site_version), args.file.display().to_string());
    TextDiff::from_lines(&old, &new).unified_diff().header(&from, &to).to_string()
}

pub(super) async fn show(session: &Session, version: Option<u64>) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let (state, exit) = state(&Agreement::of(&answers))?;
    let version = version.unwrap_or(state.site_version);
    let found = state.site_history.iter().find(|kept| kept.version == version);
    let found = found.ok_or_else(|| no_such_version(version))?;
    let shown = shown(found, state.site_version);
    session.output.document(&shown, |shown| render::site_show(shown, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn history(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let (state, exit) = state(&Agreement::of(&answers))?;
    let versions = state.site_history.iter().rev().map(|kept| shown(kept, state.site_version)).collect();
    let history = SiteHistory { versions };
    let paint = session.output.paint;
    session.output.document(&history, |all| render::site_history(&all.versions, paint, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn rollback(session: &Session, to: Option<u64>) -> Result<Exit, Failure> {
    session.orderer()?;
    let answers = session.ask().await;
    let (base, to) = {
        let (state, _) = state(&Agreement::of(&answers))?;
        let to = to.unwrap_or(state.site_version.saturating_sub(1));
        if to == state.site_version {
            return Err(Failure::Usage(format!("version {to} is the newest already")));
        }
        if !state.site_history.iter().any(|kept| kept.version == to) {
            return Err(no_such_version(to));
        }
        (state.site_version, to)
    };
    let done =
        order(session, Act::Rollback { base, to }, &answers, format!("version {to} is taken up again"))
            .await?;
    finish(session, &done)
}

fn shown(kept: &proto::SiteVersion, newest: u64) -> SiteVersion {
    SiteVersion {
        version: kept.version,
        newest: kept.version == newest,
        by: kept.by.clone(),
        unix_ms: Some(kept.unix_ms).filter(|ms| *ms > 0),
        text: if kept.text.is_empty() { write(&kept.site) } else { kept.text.clone() },
    }
}

fn no_such_version(version: u64) -> Failure {
    Failure::Usage(format!("version {version} is not kept: `stead site history` lists those that are"))
}
