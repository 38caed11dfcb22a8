//! `stead syn`: who opens how many connections, and what the detectors make of it.

use super::paint::{Paint, tone};
use super::table::Table;
use crate::json::{DetectorSays, InboundFlood, OutboundFlood, Syn, Traffic};
use crate::view::{SAMPLES_MAX, Trace};
use crate::words::{ago, span};
use std::fmt::Write;
use stead_proto::limits::PATIENCE;

/// The rate that fills a bar at least: one connection more or less makes no mountain.
const FULL_MIN: u32 = 10;
const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];

/// `stead syn`.
pub(crate) fn syn(syn: &Syn, paint: Paint, now_unix_ms: u64) -> String {
    let mut text = String::from("New connections (SYNs) a second, out of each node and into it:\n\n");
    let mut table = Table::new([
        "node",
        "answer",
        "posture",
        "out",
        "cut",
        "forged",
        "unanswered",
        "targets",
        "most to",
        "in",
        "queue full",
        "alarm",
        "as of",
    ]);
    for node in &syn.nodes {
        table.row(row(node));
    }
    text.push_str(&table.render(paint));
    let told: Vec<String> = syn.nodes.iter().filter_map(|node| story(node, paint, now_unix_ms)).collect();
    if told.is_empty() {
        text.push_str("\nNo detector has anything to say.\n");
    }
    text.push_str(&told.concat());
    text
}

fn row(node: &Traffic) -> [String; 13] {
    let out = |rate: fn(&crate::json::Outgoing) -> u32| node.out.as_ref().map(rate);
    let figure = |number: Option<u32>| number.map(|number| number.to_string()).unwrap_or_default();
    let top = node.out.as_ref().and_then(|out| out.top.as_ref());
    let inbound = node.inbound.as_ref();
    let alarm = inbound.map(|inbound| if inbound.shielded { "shielded" } else { alarm(inbound.alarm) });
    [
        node.node.clone(),
        node.opinion.into(),
        posture(node),
        figure(out(|out| out.syn)),
        figure(out(|out| out.cut)),
        figure(out(|out| out.forged)),
        figure(out(|out| out.unanswered)),
        figure(out(|out| out.destinations)),
        top.map(|top| format!("{} ({} %)", top.address, top.share_per_mille / 10)).unwrap_or_default(),
        figure(inbound.map(|inbound| inbound.syn)),
        figure(inbound.map(|inbound| inbound.queue_full)),
        alarm.unwrap_or_default().into(),
        node.age_ms.map(|age| format!("{} ago", span(age))).unwrap_or_default(),
    ]
}

/// Old news say how it was, not how it is.
fn posture(node: &Traffic) -> String {
    let word = node.posture.replace('-', " ");
    let is_old = node.age_ms.is_some_and(|age| age > PATIENCE.as_ms());
    if is_old { format!("was {word}") } else { word }
}

/// Being quiet is not worth a column.
fn alarm(word: &'static str) -> &'static str {
    match word {
        "under-attack" => "flooded",
        "blind" => "blind",
        _ => "",
    }
}

/// What there is to say of a node, in sentences.
fn story(node: &Traffic, paint: Paint, now_unix_ms: u64) -> Option<String> {
    let mut lines = Vec::new();
    match (node.opinion, node.age_ms, &node.out) {
        ("silent", Some(age), _) => lines.push(format!(
            "It does not answer ({}); this is what it told the others {} ago.",
            node.details.join("; "),
            span(age)
        )),
        ("silent", None, _) => lines.push(format!(
            "It does not answer ({}), and no node has a report of it: nothing is known.",
            node.details.join("; ")
        )),
        ("differs", _, _) => lines.push(format!("It disagrees with the rest: {}.", node.details.join("; "))),
        _ => {}
    }
    if node.posture == "no-limit" {
        lines.push(
            "Its kernel has no limit: a flood would leave it unhindered; `stead doctor` says why.".into(),
        );
    }
    lines.extend(node.flood.iter().flat_map(|flood| outbound(flood, now_unix_ms)));
    lines.extend(node.attack.iter().map(|attack| inbound(attack, now_unix_ms)));
    lines.extend(node.meddled.iter().map(|what| format!("Somebody meddled: {what}.")));
    lines.extend(node.detectors.iter().filter(|says| says.level != "blind").map(|says| speaks(says, paint)));
    lines.extend(blind(
        &node.detectors,
        |says| says.lost,
        "lost what it saw with",
        "lost what they saw with",
    ));
    lines.extend(blind(
        &node.detectors,
        |says| !says.lost,
        "has nothing to see with",
        "have nothing to see with",
    ));
    let lines: String = lines.iter().map(|line| format!("  {line}\n")).collect();
    (!lines.is_empty()).then(|| format!("\n{}\n{lines}", node.node))
}

fn outbound(flood: &OutboundFlood, now_unix_ms: u64) -> Vec<String> {
    let OutboundFlood { peak, sent, escaped, .. } = flood;
    let how = if flood.proven { "proven" } else { "suspected" };
    let when = lasted(flood.began_unix_ms, flood.ended_unix_ms, now_unix_ms);
    let verb = if flood.ended_unix_ms.is_some() { "left it" } else { "leaves it" };
    let mut lines = vec![format!(
        "A flood {verb} ({how}), {when}: at most {peak} a second, {sent} in all, {escaped} of them left the host."
    )];
    if !flood.targets.is_empty() {
        lines.push(format!("  to {}", flood.targets.join(", ")));
    }
    let programs = flood.programs.iter();
    lines.extend(programs.map(|program| format!("  a program with a raw or packet socket open: {program}")));
    lines
}

fn inbound(attack: &InboundFlood, now_unix_ms: u64) -> String {
    let InboundFlood { peak, received, queue_full, .. } = attack;
    let when = lasted(attack.began_unix_ms, attack.ended_unix_ms, now_unix_ms);
    let verb = if attack.ended_unix_ms.is_some() { "arrived" } else { "arrives" };
    format!(
        "A flood {verb} from outside, {when}: at most {peak} a second, {received} in all, {queue_full} of them met a \
         full queue. It is not this node's fault."
    )
}

fn lasted(began_unix_ms: u64, ended_unix_ms: Option<u64>, now_unix_ms: u64) -> String {
    match ended_unix_ms {
        Some(ended) => {
            format!("over after {}, {}", span(ended.saturating_sub(began_unix_ms)), ago(ended, now_unix_ms))
        }
        None => format!("for {}", span(now_unix_ms.saturating_sub(began_unix_ms))),
    }
}

fn speaks(says: &DetectorSays, paint: Paint) -> String {
    let word = if says.level == "convict" { "convicts" } else { "suspects" };
    let lost = if says.lost { " (and has lost what it saw that with)" } else { "" };
    format!("{} {}: {}{lost}", says.code, paint.word(tone(word), word), says.finds)
}

/// Those that cannot see, in one line.
fn blind(
    detectors: &[DetectorSays],
    which: impl Fn(&&DetectorSays) -> bool,
    one: &str,
    several: &str,
) -> Option<String> {
    let blind: Vec<&DetectorSays> =
        detectors.iter().filter(|says| says.level == "blind").filter(which).collect();
    let codes: Vec<&str> = blind.iter().map(|says| says.code).collect();
    let verb = if codes.len() == 1 { one } else { several };
    (!codes.is_empty()).then(|| format!("{} {verb}: `stead doctor` says why.", codes.join(", ")))
}

/// The last rates as small pictures, out and in, each as high as its own highest.
pub(crate) fn traces(traces: &[Trace]) -> String {
    let width = traces.iter().map(|trace| trace.node.chars().count()).max().unwrap_or(0);
    let line = |name: &str, side: &str, samples: &[Option<u32>]| {
        let highest = samples.iter().flatten().max();
        let now = samples.last().copied().flatten().map_or_else(|| "unknown".into(), |now| now.to_string());
        let most = highest.map(|most| format!(", at most {most}")).unwrap_or_default();
        let gap = " ".repeat(SAMPLES_MAX.saturating_sub(samples.len()));
        format!("{name:width$}  {side:3}  {gap}{}  {now}{most}\n", bars(samples))
    };
    let mut text = String::new();
    for trace in traces {
        let _ = write!(text, "{}{}", line(&trace.node, "out", &trace.out), line("", "in", &trace.inbound));
    }
    text
}

/// One character for each; a gap where nothing was known.
fn bars(samples: &[Option<u32>]) -> String {
    let full = u64::from(samples.iter().flatten().copied().max().unwrap_or(0).max(FULL_MIN));
    let steps = u64::try_from(BARS.len() - 1).unwrap_or_default();
    let bar = |sample: &Option<u32>| {
        // Nothing at all is the lowest, and only that.
        let step = sample.map(|rate| (u64::from(rate) * steps).div_ceil(full));
        let place = step.and_then(|step| usize::try_from(step).ok());
        place.and_then(|place| BARS.get(place).copied()).unwrap_or(' ')
    };
    samples.iter().map(bar).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_picture_is_as_high_as_its_highest_and_leaves_gaps() {
        assert_eq!(bars(&[Some(0), Some(1), None, Some(500), Some(1_000)]), "▁▂ ▅█");
        assert_eq!(bars(&[Some(0), Some(1), Some(5)]), "▁▂▅", "a few are no mountain");
        assert_eq!(bars(&[Some(u32::MAX)]), "█");
        assert_eq!(bars(&[]), "");
    }

    #[test]
    fn pictures_end_at_the_same_column() {
        let trace = |node: &str, samples: usize| Trace {
            node: node.into(),
            out: vec![Some(1); samples],
            inbound: vec![None; samples],
        };
        let text = traces(&[trace("a", 60), trace("berlin", 3)]);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines.len(), 4);
        let column = |line: &str, end: &str| line.chars().count() - end.chars().count();
        assert_eq!(column(lines[0], "  1, at most 1"), column(lines[2], "  1, at most 1"));
        assert_eq!(column(lines[1], "  unknown"), column(lines[3], "  unknown"));
        assert!(lines[2].starts_with("berlin  out  "), "{text}");
    }
}
