//! `stead cases` and `stead isolate`: who is accused and cut off, and cutting one off by an operator's word.

use super::look::no_such_node;
use super::members::confirm;
use super::orders::{finish, order, until_within};
use super::session::{Session, settled_state, state};
use crate::agreement::Agreement;
use crate::exit::{Exit, Failure};
use crate::words::now_unix_ms;
use crate::{render, view};
use stead_proto::id::Name;
use stead_proto::order::Act;

pub(super) async fn cases(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (state, exit) = state(&agreement)?;
    let cases = view::cases(&agreement, state);
    let paint = session.output.paint;
    session.output.document(&cases, |cases| render::cases(cases, paint, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn isolate(
    session: &Session,
    node: &Name,
    reason: &str,
    yes: bool,
    wait: bool,
) -> Result<Exit, Failure> {
    session.orderer()?;
    if reason.trim().is_empty() {
        return Err(Failure::Usage(
            "say why, for whoever reads the incident: --reason 'sshd was replaced'".into(),
        ));
    }
    let answers = session.ask().await;
    let id = {
        let agreement = Agreement::of(&answers);
        let state = settled_state(&agreement)?;
        let member = state.member_named(node.as_str()).ok_or_else(|| no_such_node(state, node))?;
        if state.is_isolated(member.id) {
            return Err(Failure::Failed(format!(
                "{node} is cut off already: `stead cases` says by whom. Nothing was ordered."
            )));
        }
        member.id
    };
    let question = format!(
        "{node} ({id}) is cut off at once and for good: all others refuse it from now on, and it comes back only as a new \
         node under a new key"
    );
    confirm(&question, yes).await?;
    let act = Act::Isolate { node: id, reason: reason.into() };
    let mut done = order(session, act, &answers, format!("{node} is cut off")).await?;
    if wait {
        let all = |agreement: &Agreement<'_>| {
            let others = agreement.answers.keys().filter(|other| **other != id);
            let answering = others.filter_map(|other| agreement.status_of(*other));
            agreement.quorum && answering.map(|status| &status.own).all(|own| own.isolated.contains(&id))
        };
        let what = format!("waiting until all others have cut {node} off");
        done.carried_out = Some(until_within(session, session.order_within(), &what, all).await);
    }
    finish(session, &done)
}
