//! `stead doctor`: each node's parts with their rungs, what is wrong, what to do.

use super::mesh::advice;
use super::paint::{Paint, tone};
use crate::json::{Checkup, Doctor, Part};
use std::fmt::Write;

/// `stead doctor`.
pub(crate) fn doctor(doctor: &Doctor, paint: Paint) -> String {
    let parts = || doctor.nodes.iter().flat_map(|node| &node.parts);
    let widest = |of: fn(&Part) -> &str| parts().map(|part| of(part).chars().count()).max().unwrap_or(0);
    let widths = (widest(|part| &part.part), widest(|part| &part.rung));
    let mut text: String = doctor.nodes.iter().map(|node| checkup(node, widths, paint)).collect();
    if doctor.todo.is_empty() {
        text.push_str("Nothing to do.\n");
    } else {
        let _ =
            write!(text, "To do, the most urgent first:\n{}", advice(&doctor.todo).trim_start_matches('\n'));
    }
    text
}

fn checkup(node: &Checkup, (part_width, rung_width): (usize, usize), paint: Paint) -> String {
    let mut text = format!("{} ({})\n", node.node, paint.word(tone(node.opinion), node.opinion));
    for part in &node.parts {
        let word = stands(part);
        let word = paint.word(tone(word), word);
        let _ = writeln!(text, "  {:part_width$}  {:rung_width$}  {word}", part.part, part.rung);
        if let Some(cost) = &part.cost {
            let _ = writeln!(text, "    limits: {cost}");
        }
        if let Some(remedy) = part.remedy.as_ref().filter(|_| !part.best) {
            let _ = writeln!(text, "    because: {remedy}");
        }
    }
    for what in &node.wrong {
        let _ = writeln!(text, "  It {what}.");
    }
    text.push('\n');
    text
}

fn stands(part: &Part) -> &'static str {
    match (part.best, part.rung.as_str()) {
        (true, _) => "best",
        (false, "none") => "missing",
        (false, _) => "lower",
    }
}
