//! Answers of the engine.

use std::sync::Arc;

use super::cached_token::{CachedApiToken, Principal};
use crate::metrics::Origin;
#[cfg(feature = "tracing")]
use crate::metrics::Outcome;
use crate::token::{Denial, InvalidReason};

/// What is known for certain about a presented token. That we cannot tell is the error beside it,
/// [`Unavailable`](crate::Unavailable).
///
/// ```
/// use tower_api_token::{Answer, ApiTokenCache};
///
/// /// The first message of a WebSocket.
/// async fn hello(cache: &ApiTokenCache, token: &str) -> Result<String, (u16, String)> {
///     match cache.authenticate_typed(token, "app").await {
///         Ok(Answer::Found(token)) => Ok(token.id().to_owned()),
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
    /// A good token. HTTP: the request goes on.
    Found(CachedApiToken<M>),
    /// No such token. HTTP: 401.
    Absent(InvalidReason),
    /// A good token that may not be used now. HTTP: 403 with the reason.
    Denied(Denial),
}

impl<M> Answer<M> {
    #[cfg(feature = "tracing")]
    pub(crate) fn outcome(&self) -> Outcome {
        match self {
            Self::Found(_) => Outcome::Found,
            Self::Absent(_) => Outcome::Absent,
            Self::Denied(_) => Outcome::Denied,
        }
    }

    /// The verified token, if there is one.
    pub fn found(self) -> Option<CachedApiToken<M>> {
        match self {
            Self::Found(token) => Some(token),
            _ => None,
        }
    }
}

impl<M> Clone for Answer<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(token) => Self::Found(token.clone()),
            Self::Absent(why) => Self::Absent(*why),
            Self::Denied(denial) => Self::Denied(denial.clone()),
        }
    }
}

/// An answer of a flight, before what is decided for every request.
pub(crate) struct Resolved<M> {
    pub(crate) what: What<M>,
    pub(crate) origin: Origin,
}

pub(crate) enum What<M> {
    Found(Arc<Principal<M>>),
    Absent,
}

impl<M> Clone for Resolved<M> {
    fn clone(&self) -> Self {
        let what = match &self.what {
            What::Found(principal) => What::Found(Arc::clone(principal)),
            What::Absent => What::Absent,
        };
        Self {
            what,
            origin: self.origin,
        }
    }
}
