//! The commands that change what the mesh does: signed, committed, and looked after.

use super::look::{no_such_endpoint, no_such_node};
use super::session::{Session, state};
use crate::agreement::Agreement;
use crate::ask::Answers;
use crate::exit::{Exit, Failure};
use crate::json::Done;
use crate::submit::{Committed, SubmitError};
use crate::words::now_unix_ms;
use crate::{progress, render, view};
use std::time::Duration;
use stead_proto::command::Outcome;
use stead_proto::id::{Name, NodeId};
use stead_proto::order::Act;
use tokio::time::{Instant, sleep, timeout};

const PAUSE: Duration = Duration::from_millis(50);

pub(super) async fn move_to(
    session: &Session,
    endpoint: &Name,
    to: &Name,
    wait: bool,
) -> Result<Exit, Failure> {
    session.orderer()?;
    let answers = session.ask().await;
    let target = {
        let agreement = Agreement::of(&answers);
        let (state, _) = state(&agreement)?;
        let spec = state.site.endpoints.get(endpoint).ok_or_else(|| no_such_endpoint(state, endpoint))?;
        let member = state.member_named(to.as_str()).ok_or_else(|| no_such_node(state, to))?;
        let unfit = view::unfit(&agreement, member, spec);
        if !unfit.is_empty() {
            return Err(Failure::Failed(format!(
                "{to} cannot serve {endpoint} now: it {}. Nothing was ordered.",
                unfit.join("; it ")
            )));
        }
        member.id
    };
    let act = Act::Move { endpoint: endpoint.clone(), to: target };
    let mut done = order(session, act, &answers, format!("{endpoint} is moved to {to}")).await?;
    if wait {
        let serves = |agreement: &Agreement<'_>| {
            let holding = agreement.holding(endpoint);
            holding.agreed && holding.serving == [target].into()
        };
        done.carried_out =
            Some(until(session, &format!("waiting for {to} to serve {endpoint}"), serves).await);
    }
    finish(session, &done)
}

pub(super) async fn drain(session: &Session, node: &Name, wait: bool) -> Result<Exit, Failure> {
    let (mut done, id) = set_standing(session, node, true).await?;
    if wait {
        let free = |agreement: &Agreement<'_>| holds_nothing(agreement, id);
        done.carried_out =
            Some(until(session, &format!("waiting for {node} to give away what it holds"), free).await);
    }
    finish(session, &done)
}

pub(super) async fn undrain(session: &Session, node: &Name) -> Result<Exit, Failure> {
    let (done, _) = set_standing(session, node, false).await?;
    finish(session, &done)
}

async fn set_standing(session: &Session, node: &Name, drained: bool) -> Result<(Done, NodeId), Failure> {
    session.orderer()?;
    let answers = session.ask().await;
    let (state, _) = state(&Agreement::of(&answers))?;
    let id = state.member_named(node.as_str()).ok_or_else(|| no_such_node(state, node))?.id;
    let text =
        if drained { format!("{node} is drained") } else { format!("{node} may hold endpoints again") };
    let done = order(session, Act::Drain { node: id, drained }, &answers, text).await?;
    Ok((done, id))
}

/// Whether a node serves nothing, as itself and the voters' promises have it.
pub(super) fn holds_nothing(agreement: &Agreement<'_>, node: NodeId) -> bool {
    let endpoints = agreement.state().into_iter().flat_map(|state| state.site.endpoints.keys());
    endpoints
        .map(|name| agreement.holding(name))
        .all(|h| h.holder != Some(node) && !h.serving.contains(&node))
}

/// Submits an order; says what was done in `text`.
pub(super) async fn order(
    session: &Session,
    act: Act,
    answers: &Answers,
    text: String,
) -> Result<Done, Failure> {
    let committed = submit(session, act.clone(), answers).await.map_err(failure)?;
    Ok(done(&act, text, committed))
}

/// A committed order, with the time that it took.
pub(super) struct Timed {
    committed: Committed,
    took: Duration,
}

pub(super) async fn submit(session: &Session, act: Act, answers: &Answers) -> Result<Timed, SubmitError> {
    let orderer = session.orderer().map_err(|failure| SubmitError::Unavailable(failure.to_string()))?;
    let begun = Instant::now();
    let submitted = orderer.submit(act, answers, now_unix_ms(), session.order_within());
    let committed = progress::during("waiting for the mesh to commit it", submitted).await?;
    session.has_changed();
    Ok(Timed { committed, took: begun.elapsed() })
}

pub(super) fn done(act: &Act, text: String, Timed { committed, took }: Timed) -> Done {
    Done {
        act: act.as_str().into(),
        text,
        index: committed.index,
        site_version: committed.outcome.and_then(|outcome| match outcome {
            Outcome::Site(version) => Some(version),
            Outcome::Done | Outcome::Refused(_) => None,
        }),
        took_ms: u64::try_from(took.as_millis()).unwrap_or(u64::MAX),
        carried_out: None,
    }
}

pub(super) fn failure(error: SubmitError) -> Failure {
    match error {
        SubmitError::Unknown(_) => Failure::Unknown(error.to_string()),
        SubmitError::Size(_) => Failure::Usage(error.to_string()),
        SubmitError::Refused(_) | SubmitError::Unavailable(_) => Failure::Failed(error.to_string()),
    }
}

pub(super) fn finish(session: &Session, done: &Done) -> Result<Exit, Failure> {
    session.output.document(done, render::done)?;
    Ok(if done.carried_out == Some(false) { Exit::Degraded } else { Exit::Ok })
}

/// Asks again and again until it is so, or time is up.
async fn until(session: &Session, what: &str, is_so: impl Fn(&Agreement<'_>) -> bool) -> bool {
    until_within(session, session.order_within(), what, is_so).await
}

/// The same with a time of its own.
pub(super) async fn until_within(
    session: &Session,
    within: Duration,
    what: &str,
    is_so: impl Fn(&Agreement<'_>) -> bool,
) -> bool {
    let asking = async {
        while !is_so(&Agreement::of(&session.ask_again().await)) {
            sleep(PAUSE).await;
        }
    };
    timeout(within, progress::during(what, asking)).await.is_ok()
}
