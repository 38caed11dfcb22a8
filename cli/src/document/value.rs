//! One value of a document, read as what the reader expects.

use super::units::{self, ms_text};
use super::{Document, Table};
use std::fmt::Display;
use std::ops::RangeInclusive;
use std::str::FromStr;
use toml::Spanned;
use toml::de::DeValue;

/// A value and where it stands.
#[derive(Clone, Debug)]
pub struct Value<'d> {
    document: &'d Document<'d>,
    path: String,
    node: &'d Spanned<DeValue<'d>>,
    offset: usize,
}

impl<'d> Value<'d> {
    pub(super) const fn new(
        document: &'d Document<'_>,
        path: String,
        node: &'d Spanned<DeValue<'d>>,
        offset: usize,
    ) -> Self {
        Self { document, path, node, offset }
    }

    /// The whole key, such as `endpoint.www.lease`.
    #[must_use]
    pub fn key(&self) -> &str {
        &self.path
    }

    /// A problem with this value.
    pub fn complain(&self, text: impl Into<String>) {
        self.document.note(self.offset, self.path.clone(), text.into());
    }

    /// A text.
    #[must_use]
    pub fn text(&self) -> Option<&'d str> {
        let text = self.node.get_ref().as_str();
        if text.is_none() {
            self.complain(format!("{} is no text; write it in quotes", self.shown()));
        }
        text
    }

    /// A text that reads as a `T`; `write` is an example of one.
    #[must_use]
    pub fn parse<T: FromStr>(&self, what: &str, write: &str) -> Option<T> {
        let text = self.text()?;
        let parsed = text.parse().ok();
        if parsed.is_none() {
            self.complain(format!("{text:?} is no {what}; write for example {write}"));
        }
        parsed
    }

    /// A time with its unit, in milliseconds within `allowed`.
    #[must_use]
    pub fn ms(&self, allowed: RangeInclusive<u32>, example: &str) -> Option<u32> {
        let Some(text) = self.node.get_ref().as_str() else {
            self.complain(format!("{} has no unit; write for example {example:?}", self.shown()));
            return None;
        };
        let Some(ms) = units::parse_ms(text) else {
            self.complain(format!("{text:?} is no time; write for example {example:?}"));
            return None;
        };
        let within = u32::try_from(ms).ok().filter(|ms| allowed.contains(ms));
        if within.is_none() {
            let (least, most) = (ms_text(*allowed.start()), ms_text(*allowed.end()));
            self.complain(format!("{text:?} is out of range; write a time from {least:?} to {most:?}"));
        }
        within
    }

    /// A whole number within `allowed`.
    #[must_use]
    pub fn number<T: TryFrom<i64> + PartialOrd + Display>(&self, allowed: RangeInclusive<T>) -> Option<T> {
        let integer = self.node.get_ref().as_integer();
        let number = integer
            .and_then(|i| i64::from_str_radix(i.as_str(), i.radix()).ok())
            .and_then(|i| T::try_from(i).ok())
            .filter(|n| allowed.contains(n));
        if number.is_none() {
            let (least, most) = (allowed.start(), allowed.end());
            self.complain(format!("{} does not fit; write a number from {least} to {most}", self.shown()));
        }
        number
    }

    /// True or false.
    #[must_use]
    pub fn flag(&self) -> Option<bool> {
        let flag = self.node.get_ref().as_bool();
        if flag.is_none() {
            self.complain(format!("{} is neither true nor false; write true or false", self.shown()));
        }
        flag
    }

    /// A list; the problems of its items are told with their place in it.
    #[must_use]
    pub fn list(&self, write: &str) -> Option<Vec<Self>> {
        let Some(array) = self.node.get_ref().as_array() else {
            self.complain(format!("{} is no list; write for example {write}", self.shown()));
            return None;
        };
        let item = |(place, node): (usize, &'d Spanned<DeValue<'d>>)| {
            Self::new(self.document, format!("{}[{place}]", self.path), node, node.span().start)
        };
        Some(array.iter().enumerate().map(item).collect())
    }

    /// A list of which every item reads as a text.
    #[must_use]
    pub fn texts(&self, write: &str) -> Option<Vec<String>> {
        let items = self.list(write)?;
        let texts: Vec<Option<String>> = items.iter().map(|item| item.text().map(String::from)).collect();
        texts.into_iter().collect()
    }

    /// A list of which every item reads as a `T`.
    #[must_use]
    pub fn parse_all<T: FromStr>(&self, what: &str, write: &str) -> Option<Vec<T>> {
        let items = self.list(write)?;
        let parsed: Vec<Option<T>> = items.iter().map(|item| item.parse(what, write)).collect();
        parsed.into_iter().collect()
    }

    /// A table.
    #[must_use]
    pub fn table(&self) -> Option<Table<'d>> {
        let table = self.node.get_ref().as_table();
        if table.is_none() {
            let write = if self.path.ends_with(']') {
                "{ key = value, … } here".into()
            } else {
                format!("[{}] and its keys below it", self.path)
            };
            self.complain(format!("{} is no table; write {write}", self.shown()));
        }
        Some(Table::new(self.document, self.path.clone(), table?, self.offset..self.node.span().end))
    }

    /// Whether it is a number, for keys that take a number or a list.
    #[must_use]
    pub fn is_number(&self) -> bool {
        self.node.get_ref().is_integer()
    }

    /// The value as it stands in the file, cut to a line's worth.
    fn shown(&self) -> String {
        let written = self.document.text.get(self.node.span()).unwrap_or_default();
        let line = written.lines().next().unwrap_or_default();
        let short: String = line.chars().take(40).collect();
        if short.len() < written.len() { format!("{short}…") } else { short }
    }
}
