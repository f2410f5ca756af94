//! What a caller is answered.

use super::cached_token::CachedApiToken;
use super::local::LocalEntry;
use crate::metrics::Origin;
#[cfg(feature = "tracing")]
use crate::metrics::Outcome;
use crate::token::{Denial, InvalidReason};

/// What is known for certain about a presented token.
///
/// That the cache cannot tell is not an answer but the error [`Unavailable`](crate::Unavailable).
///
/// ```
/// use tower_api_token::{Answer, ApiTokenCache};
///
/// /// The first message of a WebSocket.
/// async fn hello(cache: &ApiTokenCache, token: &str) -> Result<String, (u16, String)> {
///     match cache.authenticate_typed(token, "app").await {
///         Ok(Answer::Valid(token)) => Ok(token.id().to_owned()),
///         Ok(Answer::Denied(denial)) => Err((4403, denial.reason().to_owned())),
///         Ok(_) => Err((4401, "not a good token".to_owned())),
///         // Not the client's fault, and no reason to throw its token away.
///         Err(_) => Err((1013, "try again later".to_owned())),
///     }
/// }
/// # let _ = hello;
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum Answer<M = ()> {
    /// The token is valid. HTTP: the request goes on.
    Valid(CachedApiToken<M>),
    /// The token is unknown, revoked, expired or of another type. HTTP: 401, the same for each.
    Invalid(InvalidReason),
    /// The token is known and may not be used now. HTTP: 403 with the reason.
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

    /// Returns the verified token, if the answer is one.
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

/// A call's answer, before what is decided for every request.
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
