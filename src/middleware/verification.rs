//! What a layer found out about a request's token.

use std::fmt;

use crate::cache::cached_token::CachedApiToken;
use crate::token::BearerToken;

/// What a layer found out about a request that it let pass.
///
/// A handler that takes only one kind of caller asks for a [`CachedApiToken`] instead. This is for those that
/// tell three apart: with [`pass_other_tokens`](crate::ApiTokenLayerBuilder::pass_other_tokens), a request may
/// have a token that this layer verified, one that it did not, or with
/// [`optional`](crate::ApiTokenLayerBuilder::optional) none. It never has two of them. With the feature `axum` it
/// is also an extractor.
///
/// # Examples
///
/// ```
/// use tower_api_token::middleware::Verification;
///
/// fn caller<B>(request: &http::Request<B>) -> Result<String, http::StatusCode> {
///     match Verification::<()>::from_extensions(request.extensions()) {
///         Some(Verification::Verified(token)) => Ok(token.id().to_owned()),
///         // Nothing is known about it yet: here another library verifies it.
///         Some(Verification::Unverified(other)) => subject_of_jwt(other.token().expose()),
///         Some(Verification::Anonymous) => Ok("nobody".to_owned()),
///         // The layer is missing.
///         None => Err(http::StatusCode::INTERNAL_SERVER_ERROR),
///     }
/// }
/// # fn subject_of_jwt(_: &str) -> Result<String, http::StatusCode> {
/// #     Err(http::StatusCode::UNAUTHORIZED)
/// # }
/// # assert_eq!(caller(&http::Request::new(())), Err(http::StatusCode::INTERNAL_SERVER_ERROR));
/// ```
pub enum Verification<M = ()> {
    /// The layer verified the token.
    Verified(CachedApiToken<M>),
    /// The token is of another kind than the layer's, which did not verify it.
    Unverified(UnverifiedToken),
    /// The request has no token, or is an
    /// [allowed](crate::ApiTokenLayerBuilder::allow_cors_preflight) preflight.
    Anonymous,
}

impl<M> Verification<M> {
    /// Returns the token if the layer verified it.
    pub fn verified(self) -> Option<CachedApiToken<M>> {
        match self {
            Self::Verified(token) => Some(token),
            _ => None,
        }
    }
}

impl<M> Clone for Verification<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Verified(token) => Self::Verified(token.clone()),
            Self::Unverified(token) => Self::Unverified(token.clone()),
            Self::Anonymous => Self::Anonymous,
        }
    }
}

impl<M> fmt::Debug for Verification<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Verified(token) => f.debug_tuple("Verified").field(token).finish(),
            Self::Unverified(token) => f.debug_tuple("Unverified").field(token).finish(),
            Self::Anonymous => f.write_str("Anonymous"),
        }
    }
}

/// A token of another kind than the layer's. **Nobody has verified it.**
///
/// Its `Debug` output never contains the token.
#[derive(Debug, Clone)]
pub struct UnverifiedToken {
    token: BearerToken,
}

impl UnverifiedToken {
    pub(crate) fn new(token: BearerToken) -> Self {
        Self { token }
    }

    /// Returns the token, whose text only [`BearerToken::expose`] shows.
    pub fn token(&self) -> &BearerToken {
        &self.token
    }
}
