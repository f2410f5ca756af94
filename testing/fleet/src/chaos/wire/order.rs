//! Messages from the driver to a worker.

use std::fmt;
use std::str::FromStr;

use super::{Unreadable, Words};
use crate::chaos::ledger::Target;

/// An order, which the driver writes to a worker's standard input.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Order {
    /// Send requests until the end of the run.
    Load,
    /// Send this number of concurrent requests for one token.
    Herd { requests: usize, token: usize },
    /// Invalidate with the worker's own engine.
    Invalidate {
        id: u64,
        target: Target,
        by_digest: bool,
        wait: bool,
    },
}

impl fmt::Display for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Load => write!(f, "load"),
            Self::Herd { requests, token } => write!(f, "herd {requests} {token}"),
            Self::Invalidate {
                id,
                target,
                by_digest,
                wait,
            } => {
                let (kind, index) = match target {
                    Target::Token(index) => ("token", index),
                    Target::Tenant(index) => ("tenant", index),
                    Target::All => ("all", &0),
                };
                write!(f, "invalidate {id} {kind} {index} {by_digest} {wait}")
            }
        }
    }
}

impl FromStr for Order {
    type Err = Unreadable;

    fn from_str(line: &str) -> Result<Self, Unreadable> {
        let mut words = Words::of(line);
        match words.next()? {
            "load" => Ok(Self::Load),
            "herd" => Ok(Self::Herd {
                requests: words.value()?,
                token: words.value()?,
            }),
            "invalidate" => Ok(Self::Invalidate {
                id: words.value()?,
                target: match (words.next()?, words.value()?) {
                    ("token", index) => Target::Token(index),
                    ("tenant", index) => Target::Tenant(index),
                    ("all", _) => Target::All,
                    _ => return Err(Unreadable),
                },
                by_digest: words.value()?,
                wait: words.value()?,
            }),
            _ => Err(Unreadable),
        }
    }
}
