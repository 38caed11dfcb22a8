//! `stead syn`: everybody's traffic, once or live.
//!
//! Live on a terminal, the picture is redrawn in place twice a second, also while a silent node keeps the next
//! answers waiting; elsewhere a new one is printed when something changed that is more than a figure; with `--json`,
//! one document a line for each time that everybody was asked.

use super::session::{Session, state};
use super::watch::{Screen, redrawn};
use crate::agreement::Agreement;
use crate::exit::{Exit, Failure};
use crate::json::Syn;
use crate::output::{Output, text};
use crate::view::{Traces, moods};
use crate::words::{date, now_unix_ms};
use crate::{render, view};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};

const EVERY: Duration = Duration::from_millis(500);

pub(super) async fn once(session: &Session) -> Result<Exit, Failure> {
    let answers = session.ask().await;
    let agreement = Agreement::of(&answers);
    let (_, exit) = state(&agreement)?;
    let paint = session.output.paint;
    session.output.document(&view::syn(&agreement), |syn| render::syn(syn, paint, now_unix_ms()))?;
    Ok(exit)
}

pub(super) async fn watch(session: &Session) -> Result<Exit, Failure> {
    tokio::select! {
        ended = follow(session) => ended,
        // The usual way out.
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

async fn follow(session: &Session) -> Result<Exit, Failure> {
    let in_place = io::stdout().is_terminal() && !session.output.is_json();
    let _screen = in_place.then(Screen::open);
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let (mut live, mut told) = (Live::default(), BTreeMap::new());
    let mut asking = Box::pin(asked(session, Instant::now()));
    loop {
        tokio::select! {
            (syn, since) = &mut asking => {
                live.take(syn);
                asking = Box::pin(asked(session, since + EVERY));
                if session.output.is_json() {
                    Output::line(&live.syn)?;
                } else if !in_place {
                    let now = moods(&live.syn);
                    if now != told {
                        text(&format!("{}\n", live.picture(session, false)))?;
                    }
                    told = now;
                }
            }
            _ = ticks.tick(), if in_place => text(&redrawn(&live.picture(session, true)))?,
        }
    }
}

/// What everybody says, not before `at`; and when they were asked.
async fn asked(session: &Session, at: Instant) -> (Syn, Instant) {
    sleep_until(at).await;
    let since = Instant::now();
    let answers = session.ask_again().await;
    (view::syn(&Agreement::of(&answers)), since)
}

/// The newest answers, and the rates so far.
#[derive(Debug, Default)]
struct Live {
    syn: Syn,
    traces: Traces,
    taken: Option<Instant>,
}

impl Live {
    fn take(&mut self, syn: Syn) {
        self.traces.add(&syn);
        (self.syn, self.taken) = (syn, Some(Instant::now()));
    }

    fn picture(&self, session: &Session, with_traces: bool) -> String {
        let now = now_unix_ms();
        if self.taken.is_none() {
            return format!("{}  (Ctrl-C ends)\nasking all nodes …\n", date(now));
        }
        let traces = if with_traces { self.traces.of(&self.syn) } else { Vec::new() };
        let gap = if traces.is_empty() { "" } else { "\n" };
        format!(
            "{}  (Ctrl-C ends)\n{}{gap}{}",
            date(now),
            render::syn(&self.syn, session.output.paint, now),
            render::traces(&traces)
        )
    }
}
