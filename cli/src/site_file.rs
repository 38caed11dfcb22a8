//! `site.toml`: the site as its operator writes it.
//!
//! **Invariant.** A [`SiteFile`] holds a site that [`Site::check`] has nothing against; whatever else a file
//! says comes back as problems, all at once, each with its line.

mod endpoint;
mod fence;
mod guard;
mod service;
mod write;

pub use write::write;

use crate::document::{Document, Lines, Problem, Table, Value, ms_text};
use std::path::Path;
use stead_proto::id::Name;
use stead_proto::limits::{COMMAND_FRAME_BYTES_MAX, VOTERS_MAX};
use stead_proto::site::{Charter, Complaint, Site};

/// Room for the rest of an order beside the text of the file.
const TEXT_BYTES_MAX: usize = COMMAND_FRAME_BYTES_MAX / 4;

/// A site that can be served, and the file that it comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteFile {
    /// What it says.
    pub site: Site,
    /// How it says it.
    pub text: String,
    /// Where it says it.
    pub lines: Lines,
}

impl SiteFile {
    /// Reads the file at `path`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn load(path: &Path) -> Result<Self, Vec<Problem>> {
        Self::parse(&path.display().to_string(), &crate::file::read_text(path)?)
    }

    /// Reads `text`; problems name `file`.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn parse(file: &str, text: &str) -> Result<Self, Vec<Problem>> {
        let document = Document::parse(file, text);
        let root = document.root();
        let mut site = Site::default();
        for (name, value) in root.named_tables("service") {
            if let Some((name, table)) = named(name, &value) {
                site.services.insert(name.clone(), service::read(name, table));
            }
        }
        for (place, (name, value)) in root.named_tables("endpoint").into_iter().enumerate() {
            if let Some((name, table)) = named(name, &value) {
                site.endpoints.insert(name, endpoint::read(place, table));
            }
        }
        if let Some(table) = root.get("charter").and_then(|value| value.table()) {
            site.charter = charter(table);
        }
        if let Some(table) = root.get("guard").and_then(|value| value.table()) {
            site.guard = guard::read(&table);
        }
        if let Some(table) = root.get("watch").and_then(|value| value.table()) {
            if let Some(port) = table.get("ssh_port").and_then(|value| value.number(0..=u16::MAX)) {
                site.watch.ssh_port = port;
            }
            table.finish();
        }
        if let Some(table) = root.get("fence").and_then(|value| value.table()) {
            site.fence = fence::read(&table);
        }
        if text.len() > TEXT_BYTES_MAX {
            root.complain("", format!("{} bytes; keep the file below {TEXT_BYTES_MAX}", text.len()));
        }
        root.finish();
        let (mut problems, lines) = document.finish();
        problems.extend(site.check().into_iter().map(|complaint| placed(&lines, complaint)));
        problems.sort();
        if problems.is_empty() { Ok(Self { site, text: text.into(), lines }) } else { Err(problems) }
    }

    /// What does not fit a mesh of these nodes.
    #[must_use]
    pub fn unknown_nodes(&self, nodes: &[&Name]) -> Vec<Problem> {
        let known = nodes.iter().map(|name| name.as_str()).collect::<Vec<_>>().join(", ");
        let endpoints = self.site.endpoints.iter();
        let wanted = endpoints.flat_map(|(name, spec)| spec.prefer.iter().map(move |node| (name, node)));
        wanted
            .filter(|(_, node)| !nodes.contains(node))
            .map(|(endpoint, node)| {
                let text = format!("there is no node {node:?}; write one of: {known}");
                self.lines.problem(&format!("endpoint.{endpoint}.prefer"), text)
            })
            .collect()
    }
}

/// The table of a service or an endpoint, under its name.
fn named<'d>(name: &str, value: &Value<'d>) -> Option<(Name, Table<'d>)> {
    let table = value.table();
    match name.parse() {
        Ok(name) => Some((name, table?)),
        Err(error) => {
            value.complain(error.to_string());
            None
        }
    }
}

fn charter(table: Table<'_>) -> Charter {
    let mut charter = Charter::default();
    let time = |key| table.get(key).and_then(|value: Value<'_>| value.ms(0..=u32::MAX, "10m"));
    if let Some(ms) = time("demote_after") {
        charter.demote_after_ms = ms;
    }
    if let Some(ms) = time("promote_after") {
        charter.promote_after_ms = ms;
    }
    let voters_max = u8::try_from(VOTERS_MAX).unwrap_or(u8::MAX);
    if let Some(voters) = table.get("voters_min").and_then(|value| value.number(1..=voters_max)) {
        charter.voters_min = voters;
    }
    if let Some(pair) = table.get("pair").and_then(|value| value.flag()) {
        charter.pair = pair;
    }
    if let Some(isolate) = table.get("isolate").and_then(|value| value.flag()) {
        charter.isolate = isolate;
    }
    table.finish();
    charter
}

/// A complaint about checked types, in the keys and units of the file.
fn placed(lines: &Lines, complaint: Complaint) -> Problem {
    let Complaint { key, text } = complaint;
    let Some(rest) = key.strip_prefix("service.") else { return lines.problem(&key, text) };
    let text = if rest.contains("_ms") { in_units(&text).unwrap_or(text) } else { text };
    let rest = rest.replace("_ms", "").replace(".check.command", ".check.exec");
    lines.problem(&format!("service.{rest}"), format!("write {text}"))
}

/// "a number from 20 to 60000" counts milliseconds; the file does not.
fn in_units(text: &str) -> Option<String> {
    let (least, most) = text.strip_prefix("a number from ")?.split_once(" to ")?;
    let (least, most) = (ms_text(least.parse().ok()?), ms_text(most.parse().ok()?));
    Some(format!("a time from {least:?} to {most:?}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problems(text: &str) -> String {
        let problems = SiteFile::parse("site.toml", text).unwrap_err();
        problems.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }

    #[test]
    fn all_errors_of_a_site_are_reported_at_once_with_their_lines() {
        insta::assert_snapshot!(problems(include_str!("site_file/broken.toml")));
    }

    #[test]
    fn overlapping_endpoints_are_refused_at_the_line_of_the_second() {
        let text = "[endpoint.a]\naddress = '192.0.2.1'\nports = [80]\n\n[endpoint.b]\naddress = '192.0.2.1'\nports = [81]\n";
        assert_eq!(
            problems(text),
            "site.toml:6: endpoint.b.address: 192.0.2.1 is the address of endpoint a too; give each its own"
        );
    }

    #[test]
    fn an_empty_site_can_be_served_and_the_example_too() {
        assert_eq!(SiteFile::parse("site.toml", "").unwrap().site, Site::default());
        let site = SiteFile::parse("site.toml", include_str!("site_file/example.toml")).unwrap().site;
        assert_eq!((site.services.len(), site.endpoints.len()), (3, 2));
    }

    #[test]
    fn a_preference_for_a_node_that_is_not_there_is_found_with_its_line() {
        let file = SiteFile::parse("site.toml", include_str!("site_file/example.toml")).unwrap();
        let (a, b): (Name, Name) = ("a".parse().unwrap(), "b".parse().unwrap());
        assert_eq!(file.unknown_nodes(&[&a, &b]), []);
        let found = file.unknown_nodes(&[&b]);
        assert_eq!(found[0].text, "there is no node a; write one of: b");
        assert_eq!(found[0].line, 29);
    }
}
