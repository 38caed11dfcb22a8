//! What goes to standard output: one value, for people or as JSON.

use crate::args::{Color, Global};
use crate::exit::Failure;
use crate::json::{Document, Failed, FileProblem};
use crate::render::Paint;
use std::io::{self, ErrorKind, IsTerminal, Write};

/// How to print.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Output {
    json: bool,
    /// Whether words of state are coloured.
    pub(crate) paint: Paint,
}

impl Output {
    /// As the flags and the terminal have it.
    pub(crate) fn new(global: &Global) -> Self {
        let wanted = match global.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => {
                let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
                let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
                io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
            }
        };
        Self { json: global.json, paint: if wanted { Paint::Colour } else { Paint::Plain } }
    }

    /// As JSON, whatever the flags say.
    pub(crate) const fn json() -> Self {
        Self { json: true, paint: Paint::Plain }
    }

    /// Prints a document: `render` is for people.
    pub(crate) fn document<D: Document>(
        &self,
        document: &D,
        render: impl Fn(&D) -> String,
    ) -> Result<(), Failure> {
        if self.json {
            return text(&format!("{:#}\n", document.to_json()));
        }
        text(&render(document))
    }

    /// Prints a document as one line of JSON.
    pub(crate) fn line<D: Document>(document: &D) -> Result<(), Failure> {
        text(&format!("{}\n", document.to_json()))
    }

    /// Whether JSON is wanted.
    pub(crate) const fn is_json(&self) -> bool {
        self.json
    }

    /// Says why a command failed.
    pub(crate) fn failure(&self, failure: &Failure) {
        if *failure == Failure::Closed {
            return;
        }
        let told = if self.json {
            let problem = |p: &crate::document::Problem| FileProblem {
                file: p.file.clone(),
                line: p.line,
                key: p.key.clone(),
                text: p.text.clone(),
            };
            let failed = Failed {
                error: failure.to_string(),
                exit_code: failure.exit().code(),
                problems: failure.problems().iter().map(problem).collect(),
            };
            text(&format!("{:#}\n", failed.to_json()))
        } else {
            let prefix = if failure.problems().is_empty() { "stead: " } else { "" };
            note(&format!("{prefix}{failure}"));
            Ok(())
        };
        // There is nobody left to complain to.
        drop(told);
    }
}

/// Prints a text as it is.
pub(crate) fn text(text: &str) -> Result<(), Failure> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(Failure::Closed),
        Err(error) => Err(Failure::Failed(format!("cannot write the output: {error}"))),
    }
}

/// Says something beside the output.
pub(crate) fn note(text: &str) {
    // A closed standard error is the caller's choice.
    let _ = writeln!(io::stderr().lock(), "{text}");
}
