//! Why the server did not start.

use std::fmt;

/// Why the server did not start: one line that names the variable.
#[derive(Debug)]
pub struct StartError {
    variable: Option<&'static str>,
    message: String,
}

impl StartError {
    /// An error of the variable.
    pub fn of(variable: &'static str, message: impl fmt::Display) -> Self {
        Self {
            variable: Some(variable),
            message: one_line(&message.to_string()),
        }
    }

    /// An error of no variable in particular.
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
