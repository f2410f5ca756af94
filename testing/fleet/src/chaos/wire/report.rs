//! Messages from a worker to the driver.

use std::fmt;
use std::str::FromStr;

use super::{Unreadable, Words};
use crate::chaos::clock::Stamp;
use crate::chaos::ledger::Version;

/// A report, which the driver reads from a worker's standard output.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Report {
    /// The engine is built, and its store answered.
    Ready,
    /// An answer.
    Answered(Answered),
    /// An invalidation returned `Ok`, before the clock said `at`.
    Confirmed { id: u64, at: Stamp },
    /// An invalidation returned an error.
    Failed { id: u64 },
    /// The engine's counters so far.
    Counted(Counted),
    /// The results of concurrent requests for one token.
    Herd {
        found: usize,
        absent: usize,
        other: usize,
    },
}

/// An answer to a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Answered {
    /// The requested token; `None` for an unknown one.
    pub token: Option<usize>,
    /// The time before the engine was called.
    pub start: Stamp,
    /// The time after it had answered.
    pub end: Stamp,
    /// The engine's answer.
    pub said: Said,
}

/// The answer of an engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Said {
    /// A valid token, read in this version.
    Found(Version, Origin),
    /// No such token.
    Absent,
    /// A suspended tenant's token, read in this version.
    Denied(Version),
    /// Unavailable, because of the database or too many loads.
    Unavailable,
    /// An answer that is never correct: another token's record, or an internal failure.
    Wrong(Wrong),
}

/// The origin of an answer, which the engine does not report for invalid and denied tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    Local,
    Shared,
    Loaded,
}

/// An answer that is never correct.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wrong {
    /// The record of another token.
    OtherToken,
    /// Invalid for a reason that no row here has.
    Absence,
    /// A denial that no row here has.
    Denial,
    /// Unavailable, although the database did not fail.
    Unavailable,
}

/// The engine's counters.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counted {
    pub loads: u64,
    pub joined: u64,
    pub fills_refused: u64,
    pub corrupt: u64,
    pub store_errors: u64,
    pub refreshes: u64,
}

impl Counted {
    fn words(self) -> [u64; 6] {
        [
            self.loads,
            self.joined,
            self.fills_refused,
            self.corrupt,
            self.store_errors,
            self.refreshes,
        ]
    }

    pub(super) fn of(
        [
            loads,
            joined,
            fills_refused,
            corrupt,
            store_errors,
            refreshes,
        ]: [u64; 6],
    ) -> Self {
        Self {
            loads,
            joined,
            fills_refused,
            corrupt,
            store_errors,
            refreshes,
        }
    }
}

impl std::ops::Add for Counted {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        let (mut sum, more) = (self.words(), other.words());
        for (sum, more) in sum.iter_mut().zip(more) {
            *sum += more;
        }
        Self::of(sum)
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ready => write!(f, "ready"),
            Self::Answered(answered) => {
                let Answered {
                    token, start, end, ..
                } = answered;
                match token {
                    Some(token) => write!(f, "a {token} {start} {end} ")?,
                    None => write!(f, "a - {start} {end} ")?,
                }
                match answered.said {
                    Said::Found(version, origin) => {
                        let origin = match origin {
                            Origin::Local => "local",
                            Origin::Shared => "shared",
                            Origin::Loaded => "loaded",
                        };
                        write!(f, "{origin} {}", version.pack())
                    }
                    Said::Absent => write!(f, "absent"),
                    Said::Denied(version) => write!(f, "denied {}", version.pack()),
                    Said::Unavailable => write!(f, "unavailable"),
                    Said::Wrong(wrong) => write!(
                        f,
                        "wrong {}",
                        match wrong {
                            Wrong::OtherToken => "token",
                            Wrong::Absence => "absence",
                            Wrong::Denial => "denial",
                            Wrong::Unavailable => "unavailable",
                        }
                    ),
                }
            }
            Self::Confirmed { id, at } => write!(f, "confirmed {id} {at}"),
            Self::Failed { id } => write!(f, "failed {id}"),
            Self::Counted(counted) => {
                write!(f, "counted")?;
                counted
                    .words()
                    .iter()
                    .try_for_each(|word| write!(f, " {word}"))
            }
            Self::Herd {
                found,
                absent,
                other,
            } => write!(f, "herd {found} {absent} {other}"),
        }
    }
}

impl FromStr for Report {
    type Err = Unreadable;

    fn from_str(line: &str) -> Result<Self, Unreadable> {
        let mut words = Words::of(line);
        Ok(match words.next()? {
            "ready" => Self::Ready,
            "a" => Self::Answered(Answered {
                token: match words.next()? {
                    "-" => None,
                    index => Some(index.parse().map_err(|_| Unreadable)?),
                },
                start: words.value()?,
                end: words.value()?,
                said: words.said()?,
            }),
            "confirmed" => Self::Confirmed {
                id: words.value()?,
                at: words.value()?,
            },
            "failed" => Self::Failed { id: words.value()? },
            "counted" => {
                let mut counts = [0; 6];
                for count in &mut counts {
                    *count = words.value()?;
                }
                Self::Counted(Counted::of(counts))
            }
            "herd" => Self::Herd {
                found: words.value()?,
                absent: words.value()?,
                other: words.value()?,
            },
            _ => return Err(Unreadable),
        })
    }
}

impl Words<'_> {
    fn said(&mut self) -> Result<Said, Unreadable> {
        let found =
            |words: &mut Self, origin| Ok(Said::Found(Version::unpack(words.value()?), origin));
        match self.next()? {
            "local" => found(self, Origin::Local),
            "shared" => found(self, Origin::Shared),
            "loaded" => found(self, Origin::Loaded),
            "absent" => Ok(Said::Absent),
            "denied" => Ok(Said::Denied(Version::unpack(self.value()?))),
            "unavailable" => Ok(Said::Unavailable),
            "wrong" => Ok(Said::Wrong(match self.next()? {
                "token" => Wrong::OtherToken,
                "absence" => Wrong::Absence,
                "denial" => Wrong::Denial,
                _ => Wrong::Unavailable,
            })),
            _ => Err(Unreadable),
        }
    }
}
