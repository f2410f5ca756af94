//! The labels of what is counted.

use std::fmt;

use crate::token::InvalidReason;

/// The outcome of a lookup. `Display` prints the lower-case word that is the label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Outcome {
    /// The token is valid.
    Valid,
    /// The token is unknown, expired or of another type.
    Invalid,
    /// The token is known and may not be used now.
    Denied,
    /// Neither a cache nor the loader could answer.
    Unavailable,
}

impl Outcome {
    pub(crate) const ALL: [Self; 4] = [Self::Valid, Self::Invalid, Self::Denied, Self::Unavailable];

    /// Returns the label of metrics.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
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

/// Why a request was rejected. The client is told less (http.md).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Reason {
    MissingToken,
    /// The credential does not have the form of a token. It was not looked up.
    Malformed,
    MultipleTokens,
    /// A WebSocket offers no protocol besides its token.
    MissingProtocol,
    /// The database does not know the token, or it is revoked or disabled there.
    Unknown,
    Expired,
    WrongTokenType,
    /// The record is denied.
    Denied,
    /// A policy rejected the token.
    InsufficientScope,
    /// A policy found that the token is used too often.
    TooManyRequests,
    /// Neither a cache nor the loader could answer.
    Unavailable,
}

impl Reason {
    pub(crate) const ALL: [Self; 11] = [
        Self::MissingToken,
        Self::Malformed,
        Self::MultipleTokens,
        Self::MissingProtocol,
        Self::Unknown,
        Self::Expired,
        Self::WrongTokenType,
        Self::Denied,
        Self::InsufficientScope,
        Self::TooManyRequests,
        Self::Unavailable,
    ];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::MissingToken => "missing_token",
            Self::Malformed => "malformed",
            Self::MultipleTokens => "multiple_tokens",
            Self::MissingProtocol => "missing_protocol",
            Self::Unknown => "unknown",
            Self::Expired => "expired",
            Self::WrongTokenType => "wrong_token_type",
            Self::Denied => "denied",
            Self::InsufficientScope => "insufficient_scope",
            Self::TooManyRequests => "too_many_requests",
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

/// The source of an answer. `Display` prints the lower-case word that is the label of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Origin {
    /// The answer came from this process's memory, or from the in-memory store.
    Local,
    /// The answer came from Redis.
    Shared,
    /// The answer came from the loader, for this request or for one that it joined.
    Loaded,
    /// The answer is a record past its TTL, because the loader failed
    /// ([`stale_if_error`](crate::ApiTokenCacheBuilder::stale_if_error)).
    Stale,
}

impl Origin {
    pub(crate) const ALL: [Self; 4] = [Self::Local, Self::Shared, Self::Loaded, Self::Stale];

    /// Returns the label of metrics.
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
