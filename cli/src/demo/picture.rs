//! A picture of one run of the demo, as SVG: every request that the visitor made, by who answered it.
//!
//! One row for each node and one for requests that nobody answered; a column is a few requests wide. Drawn
//! from the visitor's diary alone.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use stead_deploy::lab::outage;
use stead_deploy::lab::visitor::{Diary, Outcome, Visit};
use stead_proto::time::Instant;

use super::acts::Act;

const WIDTH: u64 = 1_100;
const LEFT: u64 = 70;
const TOP: u64 = 30;
const ROW: u64 = 34;
const BAR: u64 = 20;
const COLOURS: [&str; 7] = ["#2f6f9f", "#3f8f5f", "#a06f2f", "#6f5fa0", "#4f8f8f", "#8f5f6f", "#5f6f5f"];

/// Draws the diary, with a mark where each act began, and the SYNs that had reached the stranger moment by moment.
pub(super) fn draw(diary: &Diary, acts: &[(Instant, Act)], arrived: &[(Instant, u64)]) -> String {
    let mut visits: Vec<&Visit> = diary.visits.iter().collect();
    visits.sort_by_key(|visit| visit.due);
    let (Some(first), Some(last)) = (visits.first(), visits.last()) else { return String::new() };
    let scale = Scale { begin: first.due, length_ns: last.due.since(first.due).as_ns().max(1) };
    let names: BTreeSet<&str> = visits.iter().filter_map(|visit| served_by(visit)).collect();
    let rows: BTreeMap<&str, u64> = names.into_iter().zip(0..).collect();
    let unserved = u64::try_from(rows.len()).unwrap_or_default();
    let height = TOP + (unserved + 1) * ROW + 40 + 16 * u64::try_from(acts.len()).unwrap_or_default();

    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {} {height}\" font-family=\"sans-serif\" font-size=\"12\">\n\
         <rect width=\"100%\" height=\"100%\" fill=\"#fff\"/>\n",
        LEFT + WIDTH + 20
    );
    for (name, row) in &rows {
        label(&mut svg, 10, TOP + row * ROW + 15, &format!("node {name}"), "#222");
    }
    label(&mut svg, 10, TOP + unserved * ROW + 15, "nobody", "#b02020");
    for (row, colour, from, to) in runs(&visits, &rows, unserved) {
        let (x, end) = (scale.x(from), scale.x(to));
        let (y, width) = (TOP + row * ROW, (end.saturating_sub(x)).max(1));
        let _ =
            writeln!(svg, "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{BAR}\" fill=\"{colour}\"/>");
    }
    let bottom = TOP + (unserved + 1) * ROW;
    for ((at, act), number) in acts.iter().zip(1_u64..) {
        let x = scale.x(*at);
        let _ = writeln!(
            svg,
            "<line x1=\"{x}\" x2=\"{x}\" y1=\"{}\" y2=\"{bottom}\" stroke=\"#888\" stroke-dasharray=\"3 3\"/>",
            TOP - 10
        );
        label(&mut svg, x.saturating_sub(3), TOP - 14, &number.to_string(), "#222");
        label(&mut svg, LEFT, bottom + 20 + number * 16, &format!("{number}  {}", act.title()), "#222");
    }
    if let (Some((first, _)), Some((_, all))) = (arrived.first(), arrived.last()) {
        plot(&mut svg, &scale, bottom, arrived);
        let text = format!("{all} SYNs");
        label(&mut svg, scale.x(*first).saturating_sub(60), bottom - 4, &text, "#b02020");
    }
    let seconds = scale.length_ns / 1_000_000_000;
    label(
        &mut svg,
        LEFT,
        bottom + 16,
        &format!("{seconds} s, one request every 5 ms, each drawn where it was answered"),
        "#666",
    );
    svg.push_str("</svg>\n");
    svg
}

struct Scale {
    begin: Instant,
    length_ns: u64,
}

impl Scale {
    fn x(&self, at: Instant) -> u64 {
        let offset =
            u128::from(at.since(self.begin).as_ns()) * u128::from(WIDTH) / u128::from(self.length_ns);
        LEFT + u64::try_from(offset).unwrap_or(WIDTH)
    }
}

/// The sum of what arrived, as a line that ends a row above `bottom`.
fn plot(svg: &mut String, scale: &Scale, bottom: u64, arrived: &[(Instant, u64)]) {
    let most = arrived.last().map_or(1, |(_, all)| (*all).max(1));
    let points: Vec<String> = arrived
        .iter()
        .map(|(at, count)| format!("{},{}", scale.x(*at), bottom.saturating_sub(count * BAR / most)))
        .collect();
    let _ = writeln!(
        svg,
        "<polyline points=\"{}\" fill=\"none\" stroke=\"#b02020\" stroke-width=\"1.5\"/>",
        points.join(" ")
    );
}

fn served_by(visit: &Visit) -> Option<&str> {
    match &visit.outcome {
        Outcome::Ok { served_by: Some(name), .. } if outage::is_good(visit) => Some(name),
        Outcome::Ok { .. }
        | Outcome::Refused
        | Outcome::Timeout
        | Outcome::Reset
        | Outcome::Unreachable
        | Outcome::Garbled
        | Outcome::NotSent => None,
    }
}

/// Requests in a row with the same fate, as bars: (row, colour, from, to).
fn runs(
    visits: &[&Visit],
    rows: &BTreeMap<&str, u64>,
    unserved: u64,
) -> Vec<(u64, &'static str, Instant, Instant)> {
    let mut bars: Vec<(u64, &'static str, Instant, Instant)> = Vec::new();
    for visit in visits.iter().filter(|visit| visit.outcome != Outcome::NotSent) {
        let row = served_by(visit).and_then(|name| rows.get(name).copied()).unwrap_or(unserved);
        let colour = usize::try_from(row).ok().filter(|_| row != unserved).and_then(|row| COLOURS.get(row));
        match bars.last_mut() {
            Some((last, _, _, to)) if *last == row => *to = visit.due,
            Some(_) | None => bars.push((row, colour.copied().unwrap_or("#d03030"), visit.due, visit.due)),
        }
    }
    bars
}

fn label(svg: &mut String, x: u64, y: u64, text: &str, colour: &str) {
    let _ = writeln!(svg, "<text x=\"{x}\" y=\"{y}\" fill=\"{colour}\">{text}</text>");
}
