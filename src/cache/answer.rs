//! The answer to a lookup.

use super::cached_token::CachedApiToken;
use super::local::LocalEntry;
use crate::metrics::Origin;
#[cfg(feature = "tracing")]
use crate::metrics::Outcome;
use crate::token::{Denial, InvalidReason};

/// The answer of a cache about a token.
///
/// It is always certain: if the cache cannot tell, it returns the error
/// [`Unavailable`](crate::Unavailable) instead.
///
/// # Examples
///
/// ```
/// use tower_api_token::{Answer, ApiTokenCache};
///
/// /// Handles the first message of a WebSocket.
/// async fn hello(cache: &ApiTokenCache, token: &str) -> Result<String, (u16, String)> {
///     match cache.authenticate_typed(token, "app").await {
///         Ok(Answer::Valid(token)) => Ok(token.id().to_owned()),
///         Ok(Answer::Denied(denial)) => Err((4403, denial.reason().to_owned())),
///         Ok(_) => Err((4401, "invalid token".to_owned())),
///         // The token may be valid, so the client should keep it and retry.
///         Err(_) => Err((1013, "try again later".to_owned())),
///     }
/// }
/// # let _ = hello;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer<M = ()> {
    /// The token is valid. Over HTTP, the layer calls the inner service.
    Valid(CachedApiToken<M>),
    /// The token is unknown, revoked, expired or of another type. Over HTTP, each of these is the same 401.
    Invalid(InvalidReason),
    /// The token exists but may not be used now. Over HTTP, this is a 403 with the reason.
    Denied(Denial),
}

impl<M> Answer<M> {
    #[cfg(feature = "tracing")]
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Valid(_) => Outcome::Valid,
            Self::Invalid(_) => Outcome::Invalid,
            Self::Denied(_) => Outcome::Denied,
        }
    }

    /// Returns the token if it is valid.
    pub fn valid(self) -> Option<CachedApiToken<M>> {
        match self {
            Self::Valid(token) => Some(token),
            _ => None,
        }
    }
}

impl<M> Clone for Answer<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Valid(token) => Self::Valid(token.clone()),
            Self::Invalid(reason) => Self::Invalid(*reason),
            Self::Denied(denial) => Self::Denied(denial.clone()),
        }
    }
}

/// The answer of a call, before it is checked for each request: expiry, token type and denial.
pub(crate) struct Resolved<M> {
    pub(crate) entry: LocalEntry<M>,
    pub(crate) origin: Origin,
}

impl<M> Clone for Resolved<M> {
    fn clone(&self) -> Self {
        Self {
            entry: self.entry.clone(),
            origin: self.origin,
        }
    }
}
