//! Errors that keep the server from starting.

use std::fmt;

/// An error that keeps the server from starting: one line, which names the variable if one is at fault.
#[derive(Debug)]
pub struct StartError {
    variable: Option<&'static str>,
    message: String,
}

impl StartError {
    /// Creates an error in the value of `variable`.
    pub fn of(variable: &'static str, message: impl fmt::Display) -> Self {
        Self {
            variable: Some(variable),
            message: one_line(&message.to_string()),
        }
    }

    /// Creates an error that no single variable causes.
    pub fn other(message: impl fmt::Display) -> Self {
        Self {
            variable: None,
            message: one_line(&message.to_string()),
        }
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.variable {
            Some(variable) => write!(f, "{variable}: {}", self.message),
            None => f.write_str(&self.message),
        }
    }
}

impl std::error::Error for StartError {}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
