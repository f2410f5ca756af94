//! Exit codes, and the failures that cause them.

use std::error::Error as StdError;
use std::fmt;
use std::io;

use tower_api_token_sqlx::Error;

/// Each exit code with its meaning, for the help and the manual.
pub(crate) const CODES: [(u8, &str); 6] = [
    (0, "The command succeeded; a change is confirmed."),
    (
        1,
        "The command failed. Nothing was changed, unless it says so or the reply to a commit was lost.",
    ),
    (
        2,
        "The arguments, the environment or the token's form are wrong.",
    ),
    (3, "There is no such key or tenant."),
    (
        4,
        "The change is committed, and not confirmed yet: caches may still answer from before it.",
    ),
    (5, "check: the key exists, and would be refused."),
];

/// Why a command does not end with 0.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The operation failed.
    Failed(String),
    /// What the caller gave is wrong.
    Usage(String),
    /// There is no such key or tenant.
    NotFound(String),
    /// The change is committed and not confirmed. All was printed.
    Unconfirmed,
    /// The checked key would be refused. All was printed.
    Refused,
    /// The reader of standard output has ended, as `head` does when it has enough.
    Closed,
}

impl Failure {
    pub(crate) fn code(&self) -> u8 {
        match self {
            Self::Failed(_) | Self::Closed => 1,
            Self::Usage(_) => 2,
            Self::NotFound(_) => 3,
            Self::Unconfirmed => 4,
            Self::Refused => 5,
        }
    }

    /// Returns the text for standard error.
    pub(crate) fn message(&self) -> Option<&str> {
        match self {
            Self::Failed(text) | Self::Usage(text) | Self::NotFound(text) => Some(text),
            Self::Unconfirmed | Self::Refused | Self::Closed => None,
        }
    }

    pub(crate) fn usage(message: impl fmt::Display) -> Self {
        Self::Usage(message.to_string())
    }
}

impl From<Error> for Failure {
    fn from(error: Error) -> Self {
        match &error {
            Error::UnknownKey | Error::UnknownTenant => Self::NotFound(error.to_string()),
            Error::Invalid { field, reason } if *field == "database_url" => {
                Self::Usage(format!("DATABASE_URL: {reason}"))
            }
            Error::Invalid { .. } => Self::Usage(error.to_string()),
            Error::Database(inner) if is_missing_table(inner) => {
                Self::Failed("the tables do not exist in this database; `api-token init` creates them, and TABLE_PREFIX and DATABASE_SCHEMA say where".to_owned())
            }
            _ => Self::Failed(chain(&error)),
        }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::BrokenPipe {
            Self::Closed
        } else {
            Self::Failed(format!("standard output: {error}"))
        }
    }
}

/// Returns whether a statement named a table that does not exist.
fn is_missing_table(error: &sqlx::Error) -> bool {
    let sqlx::Error::Database(error) = error else {
        return false;
    };
    // `undefined_table` and `invalid_schema_name` of PostgreSQL. SQLite has one code for every wrong statement.
    matches!(error.code().as_deref(), Some("42P01" | "3F000"))
        || error.message().starts_with("no such table")
}

/// Returns an error with its causes, in one line.
pub(crate) fn chain(error: &dyn StdError) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.ends_with(&next) {
            text = format!("{text}: {next}");
        }
        cause = error.source();
    }
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}
