//! What is printed: results on standard output, notes on standard error.

use std::io::{self, Write as _};

use serde_json::Value;

/// Prints results as text or as JSON.
#[derive(Clone, Copy)]
pub(crate) struct Output {
    pub(crate) is_json: bool,
}

impl Output {
    /// Prints a line of the text form.
    pub(crate) fn text(self, line: &str) -> io::Result<()> {
        if self.is_json { Ok(()) } else { print(line) }
    }

    /// Prints an object of the JSON form, in one line.
    pub(crate) fn json(self, object: impl FnOnce() -> Value) -> io::Result<()> {
        if self.is_json {
            print(&object().to_string())
        } else {
            Ok(())
        }
    }
}

/// Prints a line on standard output at once. Unlike `println!`, it returns that nobody reads it.
pub(crate) fn print(line: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{line}")?;
    out.flush()
}

/// Prints a note on standard error. Nobody has to read it.
pub(crate) fn note(line: &str) {
    let _ = writeln!(io::stderr(), "api-token: {line}");
}

/// Makes a text safe for a terminal: an operator may have written control characters into a row.
pub(crate) fn clean(text: &str) -> String {
    let visible = |letter: char| {
        if letter.is_control() {
            '\u{fffd}'
        } else {
            letter
        }
    };
    text.chars().map(visible).collect()
}
