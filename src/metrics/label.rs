//! The labels of what is counted.

use std::fmt;

use crate::token::InvalidReason;

/// How a look-up ended. `Display` prints the lower-case word that metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// A good token.
    Found,
    /// No such token, or one of another type, or expired.
    Absent,
    /// A good token that may not be used now.
    Denied,
    /// We cannot tell.
    Unavailable,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] = [Self::Found, Self::Absent, Self::Denied, Self::Unavailable];

    /// The word that metrics and the demo server use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Found => "found",
            Self::Absent => "absent",
            Self::Denied => "denied",
            Self::Unavailable => "unavailable",
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a request was rejected. The client is told less: http.md, lines 18 to 22.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Nothing was presented.
    MissingToken,
    /// Not a token by its form: looked up nowhere.
    Malformed,
    /// More than one was.
    MultipleTokens,
    /// The database does not know it, or it is revoked or disabled there.
    Unknown,
    Expired,
    /// Of another type than the one asked for.
    WrongTokenType,
    /// By the loader.
    Denied,
    /// By a policy.
    InsufficientScope,
    /// We cannot tell.
    Unavailable,
}

impl Reason {
    pub(crate) const ALL: [Self; 9] = [
        Self::MissingToken,
        Self::Malformed,
        Self::MultipleTokens,
        Self::Unknown,
        Self::Expired,
        Self::WrongTokenType,
        Self::Denied,
        Self::InsufficientScope,
        Self::Unavailable,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::Malformed => "malformed",
            Self::MultipleTokens => "multiple_tokens",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::WrongTokenType => "wrong_token_type",
            Self::Denied => "denied",
            Self::InsufficientScope => "insufficient_scope",
            Self::Unavailable => "unavailable",
        }
    }
}

impl From<InvalidReason> for Reason {
    fn from(why: InvalidReason) -> Self {
        match why {
            InvalidReason::Unknown => Self::Unknown,
            InvalidReason::Expired => Self::Expired,
            InvalidReason::WrongTokenType => Self::WrongTokenType,
        }
    }
}

/// Where an answer came from. `Display` prints the lower-case word that metrics use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// This process's memory, the in-memory store included.
    Local,
    /// Redis.
    Shared,
    /// The loader, for this request or for one that it joined.
    Loaded,
    /// A record past its soft end, because the loader failed (stale-if-error).
    Stale,
}

impl Origin {
    pub(crate) const ALL: [Self; 4] = [Self::Local, Self::Shared, Self::Loaded, Self::Stale];

    /// The word that metrics and the demo server use.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Local => "local",
            Self::Shared => "shared",
            Self::Loaded => "loaded",
            Self::Stale => "stale",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
