//! Errors of lookups and invalidations.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crate::error::BoxError;
use crate::store::error::{StoreError, StoreErrorKind};

/// The error of a token that could not be authenticated, because neither a cache nor the loader could answer.
///
/// Over HTTP it is a 503 with `Retry-After`, never a 401. It is not cached.
///
/// Its `Display` text names the kind of failure and never repeats the loader's text, which is the
/// [`source`](Error::source), for logs.
///
/// # Examples
///
/// ```
/// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
/// use std::error::Error;
/// use tower_api_token::UnavailableKind;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn Error>> {
/// let loader = |_: Lookup| async {
///     Err::<Option<TokenRecord>, _>(std::io::Error::other("the database is away"))
/// };
/// let cache = ApiTokenCache::builder(loader).build()?;
/// let error = cache.authenticate("app-0123456789abcdef").await.unwrap_err();
/// assert_eq!(error.kind(), UnavailableKind::LoaderFailed);
/// assert_eq!(error.to_string(), "the token loader failed");
/// assert_eq!(error.source().unwrap().to_string(), "the database is away");
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Unavailable {
    kind: UnavailableKind,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

/// Why a token could not be authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum UnavailableKind {
    /// The loader returned an error.
    LoaderFailed,
    /// The loader did not answer within the [timeout](crate::ApiTokenCacheBuilder::load_timeout).
    LoaderTimedOut,
    /// The loader panicked.
    LoaderPanicked,
    /// The loader's answer is not about the token that was asked for, or has an empty id.
    LoaderMismatch,
    /// All [concurrent loads](crate::ApiTokenCacheBuilder::max_concurrent_loads) were in use, and the queue was
    /// full or the wait in it too long.
    Overloaded,
    /// The token type that was asked for is not one that the cache declares.
    UnknownTokenType,
    /// The lookup was interrupted, by a panic or the end of a runtime, or it stalled.
    Internal,
}

#[cfg(feature = "tracing")]
impl UnavailableKind {
    /// Returns the word that spans use.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::LoaderFailed => "loader_failed",
            Self::LoaderTimedOut => "loader_timed_out",
            Self::LoaderPanicked => "loader_panicked",
            Self::LoaderMismatch => "loader_mismatch",
            Self::Overloaded => "overloaded",
            Self::UnknownTokenType => "unknown_token_type",
            Self::Internal => "internal",
        }
    }
}

impl Unavailable {
    pub(crate) fn new(kind: UnavailableKind) -> Self {
        Self { kind, source: None }
    }

    pub(crate) fn loader(source: BoxError) -> Self {
        Self {
            kind: UnavailableKind::LoaderFailed,
            source: Some(Arc::from(source)),
        }
    }

    /// Returns why the token could not be authenticated.
    pub fn kind(&self) -> UnavailableKind {
        self.kind
    }

    /// Returns the time after which a retry is worthwhile: one second.
    pub fn retry_after(&self) -> Duration {
        Duration::from_secs(1)
    }
}

impl fmt::Display for Unavailable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.kind {
            UnavailableKind::LoaderFailed => "the token loader failed",
            UnavailableKind::LoaderTimedOut => "the token loader did not answer in time",
            UnavailableKind::LoaderPanicked => "the token loader panicked",
            UnavailableKind::LoaderMismatch => {
                "the token loader answered for another token, or without an id"
            }
            UnavailableKind::Overloaded => "too many tokens are being loaded",
            UnavailableKind::UnknownTokenType => "the token type is not declared",
            UnavailableKind::Internal => "the lookup was interrupted",
        })
    }
}

impl Error for Unavailable {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// An invalidation that was not confirmed: the change may not be in force everywhere.
///
/// Repeat the invalidation until it is `Ok`: [`Invalidation::retry_for`](crate::Invalidation::retry_for) does so for a
/// while, and an outbox for as long as it takes.
#[derive(Debug, Clone)]
pub struct InvalidateError {
    kind: InvalidateErrorKind,
    message: &'static str,
    source: Option<StoreError>,
}

/// Why an invalidation was not confirmed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum InvalidateErrorKind {
    /// The store did not acknowledge the deletion, or the registry of staleness bounds that a wait for all
    /// instances relies on was lost. The deletion may or may not have happened.
    NotConfirmed,
    /// The deletion happened, and fewer replicas than asked for acknowledged it in time.
    TooFewReplicas,
    /// The store, or its key layout, cannot do what was asked.
    Unsupported,
    /// The token type is not one that the cache declares. Nothing was deleted.
    UnknownTokenType,
}

impl InvalidateError {
    fn new(kind: InvalidateErrorKind, message: &'static str) -> Self {
        Self {
            kind,
            message,
            source: None,
        }
    }

    pub(crate) fn unknown_token_type() -> Self {
        let kind = InvalidateErrorKind::UnknownTokenType;
        Self::new(kind, "the token type is not declared")
    }

    pub(crate) fn store(error: StoreError) -> Self {
        let (kind, message) = match error.kind() {
            StoreErrorKind::Unsupported => (
                InvalidateErrorKind::Unsupported,
                "the store cannot do this invalidation",
            ),
            StoreErrorKind::TooFewReplicas => (
                InvalidateErrorKind::TooFewReplicas,
                "the invalidation was not confirmed",
            ),
            _ => (
                InvalidateErrorKind::NotConfirmed,
                "the invalidation was not confirmed",
            ),
        };
        Self {
            source: Some(error),
            ..Self::new(kind, message)
        }
    }

    /// Returns the error for a lost registry of staleness bounds.
    pub(crate) fn registry() -> Self {
        Self::new(
            InvalidateErrorKind::NotConfirmed,
            "the invalidation was not confirmed: the registry of staleness bounds was lost",
        )
    }

    /// Returns the error for a runtime that ended while it repeated the invalidation.
    pub(crate) fn interrupted() -> Self {
        Self::new(
            InvalidateErrorKind::NotConfirmed,
            "the invalidation was not confirmed: its runtime was shut down",
        )
    }

    /// Returns why the invalidation was not confirmed.
    pub fn kind(&self) -> InvalidateErrorKind {
        self.kind
    }

    /// Returns whether repeating the invalidation can help.
    ///
    /// It cannot if the token type is not declared, or if the store cannot do what was asked.
    pub fn is_retryable(&self) -> bool {
        matches!(
            self.kind,
            InvalidateErrorKind::NotConfirmed | InvalidateErrorKind::TooFewReplicas
        )
    }
}

impl fmt::Display for InvalidateError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.message)
    }
}

impl Error for InvalidateError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_ref().map(|source| source as _)
    }
}
