//! What the watcher of the demo sees: one line for each thing that happened, and a table at the end.

use std::io::{BufRead, Write};
use std::time::Instant;

use stead_deploy::lab::outage;
use stead_deploy::lab::visitor::Diary;
use stead_proto::time::Span;

use super::acts::Act;

/// An act that was played.
#[derive(Clone, Debug)]
pub struct Played {
    pub(super) act: Act,
    pub(super) who: String,
    pub(super) from: String,
    pub(super) to: String,
    /// The longest outage at the visitor; `None` if every request was answered.
    pub(super) outage: Option<Span>,
    pub(super) goal: Span,
}

impl Played {
    fn passed(&self) -> bool {
        self.outage.is_none_or(|outage| outage <= self.goal)
    }
}

/// The running account.
#[derive(Debug)]
pub(super) struct Timeline {
    begin: Instant,
    json: bool,
    auto: bool,
    acts: Vec<Played>,
}

impl Timeline {
    pub(super) fn begin(json: bool, auto: bool) -> Self {
        Self { begin: Instant::now(), json, auto, acts: Vec::new() }
    }

    /// One line, with the seconds since the start.
    pub(super) fn say(&self, text: &str) {
        if !self.json {
            println!("{:6.1} s  {text}", self.begin.elapsed().as_secs_f64());
            let _ = std::io::stdout().flush();
        }
    }

    /// Announces an act and, unless it plays on by itself, waits for the watcher.
    pub(super) fn curtain(&self, act: Act) -> std::io::Result<()> {
        if !self.auto && !self.json {
            print!("\n          next: {} [Enter] ", act.title());
            std::io::stdout().flush()?;
            std::io::stdin().lock().read_line(&mut String::new())?;
        }
        self.say(act.title());
        Ok(())
    }

    pub(super) fn played(&mut self, played: Played) {
        let moved = match played.from == played.to {
            true => format!("{} goes on serving", played.to),
            false => format!("{} serves instead of {}", played.to, played.from),
        };
        let noticed = match played.outage {
            None => "no visitor noticed".into(),
            Some(outage) => format!("visitors waited {}", milliseconds(outage)),
        };
        self.say(&format!("  └ {moved}; {noticed}"));
        self.acts.push(played);
    }

    /// Prints the table; says whether all acts passed.
    pub(super) fn end(self, diary: &Diary) -> bool {
        let passed = self.acts.iter().all(Played::passed);
        let (asked, good) = (diary.visits.len(), diary.visits.iter().filter(|v| outage::is_good(v)).count());
        if self.json {
            println!("{}", self.to_json(asked, good, passed));
            return passed;
        }
        println!("\n{:<66} {:>8} {:>9} {:>8}  ", "what happened", "who", "outage", "at most");
        for act in &self.acts {
            let outage = act.outage.map_or("none".into(), milliseconds);
            let verdict = if act.passed() { "ok" } else { "TOO LONG" };
            println!(
                "{:<66} {:>8} {:>9} {:>8}  {verdict}",
                act.act.title(),
                act.who,
                outage,
                milliseconds(act.goal)
            );
        }
        println!(
            "\n{good} of {asked} requests were answered in {:.0} s; nothing is left behind",
            self.begin.elapsed().as_secs_f64()
        );
        passed
    }

    fn to_json(&self, asked: usize, good: usize, passed: bool) -> serde_json::Value {
        let acts: Vec<_> = self
            .acts
            .iter()
            .map(|act| {
                serde_json::json!({
                    "act": format!("{:?}", act.act),
                    "who": act.who,
                    "from": act.from,
                    "to": act.to,
                    "outage_ms": act.outage.map_or(0, Span::as_ms),
                    "goal_ms": act.goal.as_ms(),
                    "passed": act.passed(),
                })
            })
            .collect();
        serde_json::json!({ "acts": acts, "requests": asked, "answered": good, "passed": passed })
    }
}

fn milliseconds(span: Span) -> String {
    format!("{} ms", span.as_ms())
}
