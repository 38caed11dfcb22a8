//! Walks over a TOML document and collects *all* problems, each with file, line, key and what to write.
//!
//! A reader asks a [`Table`] for the keys that it knows; [`Table::finish`] then complains about all others.
//! Values that are missing or wrong come back as `None` after the problem was noted, so that the reader goes
//! on with the next key instead of stopping at the first mistake.
//!
//! **Invariant.** A reader that got `None` for something required has left a problem behind, so that
//! [`Document::finish`] is content only with a document that was understood completely.
//!
//! Deliberately absent: the meaning of any key.

mod units;
mod value;

pub use units::{ms_text, parse_ms};
pub use value::Value;

use std::cell::RefCell;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::ops::Range;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// The file, as the operator named it.
    pub file: String,
    /// The line, from 1.
    pub line: usize,
    /// The key, such as `endpoint.www.lease`; empty if the file as a whole is meant.
    pub key: String,
    /// What is wrong, and what to write.
    pub text: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}: ", self.file, self.line)?;
        if !self.key.is_empty() {
            write!(f, "{}: ", self.key)?;
        }
        f.write_str(&self.text)
    }
}

/// Where the keys of a document stand, for problems that show only later.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lines {
    file: String,
    by_key: BTreeMap<String, usize>,
}

impl Lines {
    /// A problem with `key`, at its line or at that of the nearest table around it.
    #[must_use]
    pub fn problem(&self, key: &str, text: impl Into<String>) -> Problem {
        let mut place = key;
        let line = loop {
            if let Some(line) = self.by_key.get(place) {
                break *line;
            }
            match place.rfind('.') {
                Some(dot) => place = place.get(..dot).unwrap_or_default(),
                None => break 1,
            }
        };
        Problem { file: self.file.clone(), line, key: key.into(), text: text.into() }
    }
}

/// A document that is being read.
#[derive(Debug)]
pub struct Document<'t> {
    file: String,
    text: &'t str,
    root: Spanned<DeTable<'t>>,
    notes: RefCell<Notes>,
}

#[derive(Debug, Default)]
struct Notes {
    problems: Vec<Problem>,
    lines: BTreeMap<String, usize>,
}

impl<'t> Document<'t> {
    /// Parses `text`; what is no TOML at all is a problem like any other, and the rest is read all the same.
    #[must_use]
    pub fn parse(file: &str, text: &'t str) -> Self {
        let (root, errors) = DeTable::parse_recoverable(text);
        let document = Self { file: file.into(), text, root, notes: RefCell::default() };
        for error in errors {
            let at = error.span().map_or(0, |span| span.start);
            document.note(at, String::new(), format!("not TOML: {}", error.message().trim()));
        }
        document
    }

    /// Its outermost table.
    #[must_use]
    pub fn root(&self) -> Table<'_> {
        Table::new(self, String::new(), self.root.get_ref(), self.root.span())
    }

    /// Everything that is wrong, in the order of the lines; and where the keys stand.
    #[must_use]
    pub fn finish(self) -> (Vec<Problem>, Lines) {
        let Notes { mut problems, lines } = self.notes.into_inner();
        problems.sort();
        problems.dedup();
        (problems, Lines { file: self.file, by_key: lines })
    }

    fn note(&self, offset: usize, key: String, text: String) {
        let problem = Problem { file: self.file.clone(), line: self.line(offset), key, text };
        self.notes.borrow_mut().problems.push(problem);
    }

    fn line(&self, offset: usize) -> usize {
        let before = self.text.get(..offset).unwrap_or(self.text);
        before.bytes().filter(|byte| *byte == b'\n').count() + 1
    }
}

/// A table of a document.
#[derive(Debug)]
pub struct Table<'d> {
    document: &'d Document<'d>,
    path: String,
    entries: &'d DeTable<'d>,
    span: Range<usize>,
    asked: RefCell<BTreeSet<&'static str>>,
}

impl<'d> Table<'d> {
    fn new(document: &'d Document<'_>, path: String, entries: &'d DeTable<'d>, span: Range<usize>) -> Self {
        Self { document, path, entries, span, asked: RefCell::default() }
    }

    /// The value of `key`, if it is there.
    pub fn get(&self, key: &'static str) -> Option<Value<'d>> {
        self.asked.borrow_mut().insert(key);
        let (name, value) = self.entries.get_key_value(key)?;
        Some(self.value(name, value))
    }

    /// The value of `key`; a problem if it is missing.
    pub fn require(&self, key: &'static str, write: &str) -> Option<Value<'d>> {
        let value = self.get(key);
        if value.is_none() {
            self.document.note(
                self.span.start,
                self.under(key),
                format!("is missing; write for example {write}"),
            );
        }
        value
    }

    /// All entries, for tables whose keys are names.
    pub fn entries(&self) -> impl Iterator<Item = (&'d str, Value<'d>)> {
        self.entries.iter().map(|(name, value)| (name.get_ref().as_ref(), self.value(name, value)))
    }

    /// The tables under `key`, whose keys are names: `[service.web]`, `[service.db]`.
    pub fn named_tables(&self, key: &'static str) -> Vec<(&'d str, Value<'d>)> {
        let table = self.get(key).and_then(|value| value.table());
        table.map(|table| table.entries().collect()).unwrap_or_default()
    }

    /// A problem with this table as a whole, or with one of its keys.
    pub fn complain(&self, key: &str, text: impl Into<String>) {
        let at = self.entries.get_key_value(key).map_or(self.span.start, |(name, _)| name.span().start);
        self.document.note(at, self.under(key), text.into());
    }

    /// Complains about every key that nobody asked for.
    pub fn finish(&self) {
        let asked = self.asked.borrow();
        for (name, _) in self.entries.iter().filter(|(name, _)| !asked.contains(name.get_ref().as_ref())) {
            let text = match nearest(name.get_ref(), &asked) {
                Some(known) => format!("unknown key; did you mean `{known}`?"),
                None => {
                    let known: Vec<&str> = asked.iter().copied().collect();
                    format!("unknown key; known here are: {}", known.join(", "))
                }
            };
            self.document.note(name.span().start, self.under(name.get_ref()), text);
        }
    }

    fn value(
        &self,
        name: &'d Spanned<std::borrow::Cow<'d, str>>,
        node: &'d Spanned<DeValue<'d>>,
    ) -> Value<'d> {
        let path = self.under(name.get_ref());
        let offset = name.span().start;
        let line = self.document.line(offset);
        self.document.notes.borrow_mut().lines.insert(path.clone(), line);
        Value::new(self.document, path, node, offset)
    }

    fn under(&self, key: &str) -> String {
        match (self.path.is_empty(), key.is_empty()) {
            (true, _) => key.into(),
            (false, true) => self.path.clone(),
            (false, false) => format!("{}.{key}", self.path),
        }
    }
}

/// The known word that was most probably meant.
#[must_use]
pub fn nearest<'k>(word: &str, known: &BTreeSet<&'k str>) -> Option<&'k str> {
    let likeness = |candidate: &&'k str| (strsim::jaro_winkler(word, candidate), *candidate);
    let best = known.iter().map(likeness).max_by(|a, b| a.0.total_cmp(&b.0));
    best.filter(|(likeness, _)| *likeness > 0.75).map(|(_, word)| word)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, reader: impl Fn(&Table<'_>)) -> Vec<String> {
        let document = Document::parse("t.toml", text);
        let root = document.root();
        reader(&root);
        root.finish();
        document.finish().0.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn unknown_keys_are_told_with_the_nearest_known_one() {
        let problems = read("adress = 1\nzzz = 2\n", |root| {
            root.get("address");
            root.get("ports");
        });
        assert_eq!(
            problems,
            [
                "t.toml:1: adress: unknown key; did you mean `address`?",
                "t.toml:2: zzz: unknown key; known here are: address, ports"
            ]
        );
    }

    #[test]
    fn what_is_no_toml_is_a_problem_and_the_rest_is_read_all_the_same() {
        let problems = read("a = \nb = 5\n", |root| {
            root.get("a");
            root.get("b").and_then(|b| b.flag());
        });
        assert_eq!(problems.len(), 2, "{problems:?}");
        assert!(problems[0].starts_with("t.toml:1: not TOML:"), "{problems:?}");
        assert_eq!(problems[1], "t.toml:2: b: 5 is neither true nor false; write true or false");
    }

    #[test]
    fn a_late_problem_finds_the_line_of_the_nearest_table() {
        let document = Document::parse("t.toml", "\n[a]\nb = 1\n");
        document.root().get("a").and_then(|a| a.table()).and_then(|a| a.get("b"));
        let (_, lines) = document.finish();
        assert_eq!(lines.problem("a.b", "x").line, 3);
        assert_eq!(lines.problem("a.c.d", "x").line, 2);
        assert_eq!(lines.problem("z", "x").line, 1);
    }
}
