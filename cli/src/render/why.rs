//! `stead why ENDPOINT`: in words.

use super::mesh::advice;
use super::paint::{Paint, tone};
use super::table::Table;
use crate::json::{Incident, Why};
use crate::words::{ago, date};
use std::fmt::Write;

/// `stead why ENDPOINT`.
pub(crate) fn why(why: &Why, paint: Paint, now_unix_ms: u64) -> String {
    let mut text = headline(why, paint, now_unix_ms);
    text.push_str(&moves(why.moves.first(), now_unix_ms));
    text.push_str("\nWho would be next:\n");
    let mut table = Table::new(["node", "verdict", "because it"]);
    for candidate in &why.candidates {
        table.row([candidate.node.clone(), candidate.verdict.into(), candidate.reasons.join("; ")]);
    }
    text.push_str(&table.render(paint));
    text.push_str("\nWhat the voters have promised:\n");
    let mut table = Table::new(["voter", "promised to", "epoch"]);
    for promise in &why.promises {
        let to = match (&promise.to, promise.known) {
            (Some(to), _) => to.clone(),
            (None, true) => "nobody".into(),
            (None, false) => "does not answer".into(),
        };
        table.row([promise.voter.clone(), to, promise.epoch.clone().unwrap_or_default()]);
    }
    text.push_str(&table.render(paint));
    text.push_str(&advice(&why.advice));
    text
}

fn headline(why: &Why, paint: Paint, now_unix_ms: u64) -> String {
    let endpoint = &why.endpoint;
    let word = endpoint.state.replace('-', " ");
    let mut text =
        format!("endpoint {} ({}): {}", endpoint.name, endpoint.address, paint.word(tone(&word), &word));
    match &endpoint.holder {
        Some(holder) => drop(write!(text, "; {holder} holds it")),
        None => text.push_str("; nobody holds it"),
    }
    if let Some(since) = why.since_unix_ms {
        let _ = write!(text, " since {} ({})", date(since), ago(since, now_unix_ms));
    }
    text.push_str(".\n");
    if let (Some(epoch), Some(plan)) = (&endpoint.epoch, why.plan_index) {
        let _ = writeln!(
            text,
            "Its epoch is {epoch}, the committed plan is entry {plan}: {}. {} of {} voters have promised it.",
            endpoint.plan.join(", then "),
            endpoint.promises,
            endpoint.voters
        );
    }
    text
}

fn moves(last: Option<&Incident>, now_unix_ms: u64) -> String {
    let Some(last) = last else {
        return "It has not moved since the mesh began (or that is forgotten).\n".into();
    };
    let mut text = format!("\nIt moved last, as incident {}:\n", last.id);
    for line in &last.lines {
        let _ = writeln!(text, "  {}  ({})", line.text, ago(line.unix_ms, now_unix_ms));
    }
    text
}
