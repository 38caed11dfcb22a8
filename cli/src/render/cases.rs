//! `stead cases`: who is accused of what, and who was cut off.

use super::paint::{Paint, tone};
use crate::json::{Accused, Cases, CutOff, Evidence, Fence, Testimony};
use crate::words::{ago, harmless, span};
use std::fmt::Write;

/// `stead cases`.
pub(crate) fn cases(cases: &Cases, paint: Paint, now_unix_ms: u64) -> String {
    let mut text = String::new();
    for isolated in &cases.isolated {
        text.push_str(&cut_off(isolated, paint, now_unix_ms));
    }
    for accused in &cases.open {
        text.push_str(&open(accused, cases.needed, paint, now_unix_ms));
    }
    if text.is_empty() {
        text.push_str("Nobody is accused, and nobody is cut off.\n");
    }
    if !cases.without_operator {
        text.push_str(
            "\nThe charter leaves judging to you: `stead isolate NODE --reason TEXT` cuts one off.\n",
        );
    }
    text
}

fn cut_off(isolated: &CutOff, paint: Paint, now_unix_ms: u64) -> String {
    let CutOff { node, by, reason, unix_ms, incident, .. } = isolated;
    let word = paint.word(tone("cut off"), "cut off");
    let mut text = format!(
        "{node}: {word} {} (incident {incident}), by {}\n",
        ago(*unix_ms, now_unix_ms),
        by.join(" and ")
    );
    if let Some(reason) = reason {
        let _ = writeln!(text, "  reason: {reason}");
    }
    isolated.testimonies.iter().for_each(|said| text.push_str(&testimony(said, now_unix_ms)));
    if let Some(Fence { by, attempt, state, why, .. }) = &isolated.fence {
        let why = why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
        let _ = writeln!(text, "  fence: {state}, by {by} (attempt {attempt}){why}");
    }
    let _ = writeln!(
        text,
        "  To do: look at that server; once it was set up anew, `stead readmit {node}=ADDRESS --out DIR` brings it back."
    );
    text
}

fn open(accused: &Accused, needed: usize, paint: Paint, now_unix_ms: u64) -> String {
    let Accused { node, open_ms, demoted, testimonies } = accused;
    let isolates = testimonies.iter().filter(|said| said.sanction == "isolate").count();
    let word = paint.word(tone("accused"), "accused");
    let mut text = format!("{node}: {word} for {}; {isolates} of {needed} want it cut off\n", span(*open_ms));
    if *demoted {
        text.push_str("  It is demoted: it may hold and lead nothing for the time being.\n");
    }
    testimonies.iter().for_each(|said| text.push_str(&testimony(said, now_unix_ms)));
    text
}

fn testimony(said: &Testimony, now_unix_ms: u64) -> String {
    format!("  {} testifies ({}): {}\n", said.by, ago(said.unix_ms, now_unix_ms), said.grounds.join("; "))
}

/// `stead incidents ID --evidence` and `--verify`.
pub(crate) fn evidence(evidence: &Evidence, paint: Paint) -> String {
    let Evidence { node, needed, witnesses, reports, missing, unanchored, absent, cluster, exported } =
        evidence;
    let word = paint.word(tone("ok"), "holds");
    let mut text = format!(
        "The evidence against {node} {word}: {} testify, and it takes {needed}.\n\n",
        witnesses.len()
    );
    for witness in witnesses {
        let _ = writeln!(text, "{} signed: {}", witness.node, witness.grounds.join("; "));
    }
    for report in reports {
        let _ = writeln!(text, "{node} signed: {}", harmless(report));
    }
    if *missing > 0 {
        let _ = writeln!(text, "Reports that are named and not kept any more: {missing}.");
    }
    let _ = writeln!(text, "\nSigned for the mesh {cluster}.");
    if !unanchored.is_empty() {
        let _ = writeln!(
            text,
            "Not in the genesis, so known from the roster alone: {}. They were admitted later.",
            unanchored.join(", ")
        );
    }
    if !absent.is_empty() {
        let _ = writeln!(
            text,
            "By the genesis {} judge, too, and by this roster not: if no operator took their vote, it takes more witnesses.",
            absent.join(", ")
        );
    }
    if let Some(file) = exported {
        let _ = writeln!(text, "Written to {file}; `stead incidents --verify {file}` verifies it anywhere.");
    }
    text
}
