//! `stead watch`: the mesh, live.
//!
//! On a terminal the same lines are redrawn in place; elsewhere a new picture is printed when something
//! changed; with `--json`, one line per change.

use super::session::Session;
use crate::agreement::Agreement;
use crate::exit::{Exit, Failure};
use crate::json::Mesh;
use crate::output::{Output, text};
use crate::words::{date, now_unix_ms};
use crate::{render, view};
use std::collections::BTreeMap;
use std::io::{self, IsTerminal, Write};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

pub(super) async fn run(session: &Session, every: Duration) -> Result<Exit, Failure> {
    tokio::select! {
        ended = follow(session, every) => ended,
        // The usual way out.
        _ = tokio::signal::ctrl_c() => Ok(Exit::Ok),
    }
}

async fn follow(session: &Session, every: Duration) -> Result<Exit, Failure> {
    let in_place = io::stdout().is_terminal() && !session.output.is_json();
    let _screen = in_place.then(Screen::open);
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before = BTreeMap::new();
    loop {
        ticks.tick().await;
        let answers = session.ask_again().await;
        let mesh = view::mesh(&Agreement::of(&answers));
        let (now, facts) = (now_unix_ms(), view::facts(&mesh));
        let changes = view::changes(&before, &facts, now);
        if session.output.is_json() {
            changes.iter().try_for_each(Output::line)?;
        } else if in_place {
            text(&redrawn(&picture(session, &mesh, now)))?;
        } else if !changes.is_empty() {
            text(&format!("{}\n", picture(session, &mesh, now)))?;
        }
        before = facts;
    }
}

fn picture(session: &Session, mesh: &Mesh, now_unix_ms: u64) -> String {
    format!(
        "{}  (Ctrl-C ends)\n{}",
        date(now_unix_ms),
        render::status(mesh, session.output.paint, now_unix_ms)
    )
}

/// Home; each line erased behind its end; everything below erased. No flicker, little to send.
pub(super) fn redrawn(picture: &str) -> String {
    let lines: String = picture.lines().map(|line| format!("{line}\x1b[K\r\n")).collect();
    format!("\x1b[H{lines}\x1b[J")
}

/// A cleared screen without a cursor, until dropped.
pub(super) struct Screen;

impl Screen {
    pub(super) fn open() -> Self {
        let _ = write!(io::stdout().lock(), "\x1b[?25l\x1b[2J");
        Self
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let mut out = io::stdout().lock();
        let _ = write!(out, "\x1b[?25h").and_then(|()| out.flush());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_redrawn_without_clearing_the_screen_first() {
        assert_eq!(redrawn("a\nb\n"), "\x1b[Ha\x1b[K\r\nb\x1b[K\r\n\x1b[J");
    }
}
