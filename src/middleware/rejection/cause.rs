//! Why a request is rejected.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use crate::cache::Answer;
use crate::cache::cached_token::CachedApiToken;
use crate::cache::error::Unavailable;
use crate::error::ConfigError;
use crate::middleware::rejection::scope::check_scope;

/// Why a request is rejected.
///
/// # Examples
///
/// ```
/// use http::StatusCode;
/// use tower_api_token::Rejection;
///
/// assert_eq!(Rejection::InvalidToken.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(Rejection::InvalidToken.error_code(), Some("invalid_token"));
/// assert_eq!(Rejection::MissingToken.error_code(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Rejection {
    /// The request carries no token.
    MissingToken,
    /// The token is malformed, unknown, revoked, expired or of another type.
    ///
    /// Clients are not told which: one that can tell "unknown" from "revoked" learns which tokens once
    /// were valid.
    InvalidToken,
    /// The request carries more than one token.
    MultipleTokens,
    /// The token of a WebSocket is among its subprotocols, which offer no other protocol to answer with
    /// (RFC 6455 section 4.2.2).
    MissingProtocol,
    /// The token is valid but must not be used now. The text is for the client.
    Denied(Cow<'static, str>),
    /// The token is valid but does not allow this request.
    ///
    /// A [policy](crate::ApiTokenLayerBuilder::policy) returns
    /// [`INSUFFICIENT_SCOPE`](Self::INSUFFICIENT_SCOPE), or [`insufficient_scope`](Self::insufficient_scope)
    /// to name what would be needed.
    #[non_exhaustive]
    InsufficientScope {
        /// The OAuth scope that would be needed, if the policy named it.
        scope: Option<Arc<str>>,
    },
    /// The token is valid, and is used too often. The client may retry after a time.
    ///
    /// A [policy](crate::ApiTokenLayerBuilder::policy) returns it that counts requests.
    TooManyRequests {
        /// The value of `Retry-After`, rounded up to a second.
        retry_after: Duration,
    },
    /// The token could not be verified. The client may retry.
    Unavailable {
        /// The value of `Retry-After`, rounded up to a second.
        retry_after: Duration,
    },
}

impl Rejection {
    /// The token does not allow this request. The challenge names the layer's
    /// [scope](crate::ApiTokenLayerBuilder::challenge_scope), if it has one.
    pub const INSUFFICIENT_SCOPE: Self = Self::InsufficientScope { scope: None };

    /// Returns a rejection that names the OAuth scope that would be needed.
    ///
    /// The challenge then has `scope="…"` (RFC 6750 section 3.1). Create the rejection with the policy and
    /// clone it for each request: a clone only increments a reference count.
    ///
    /// # Errors
    /// Returns an error if `scope` is not one or more words of visible ASCII without `"` and `\`, with a
    /// single space between them (RFC 6749 section 3.3).
    ///
    /// # Examples
    ///
    /// ```
    /// use tower_api_token::Rejection;
    ///
    /// let needs = Rejection::insufficient_scope("orders:write")?;
    /// assert_eq!(needs.error_code(), Some("insufficient_scope"));
    /// assert!(Rejection::insufficient_scope("orders,write\n").is_err());
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn insufficient_scope(scope: &str) -> Result<Self, ConfigError> {
        check_scope("insufficient_scope", scope)?;
        let scope = Some(scope.into());
        Ok(Self::InsufficientScope { scope })
    }

    /// Returns when the client may retry, if the rejection says so.
    pub(crate) fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::TooManyRequests { retry_after } | Self::Unavailable { retry_after } => {
                Some(*retry_after)
            }
            _ => None,
        }
    }

    pub(crate) fn scope(&self) -> Option<&str> {
        match self {
            Self::InsufficientScope { scope } => scope.as_deref(),
            _ => None,
        }
    }

    /// Returns the HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::MissingToken | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::MultipleTokens | Self::MissingProtocol => StatusCode::BAD_REQUEST,
            Self::Denied(_) | Self::InsufficientScope { .. } => StatusCode::FORBIDDEN,
            Self::TooManyRequests { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// Returns the error code of RFC 6750 section 3.1, if there is one for this rejection.
    pub fn error_code(&self) -> Option<&'static str> {
        match self {
            Self::InvalidToken => Some("invalid_token"),
            Self::MultipleTokens | Self::MissingProtocol => Some("invalid_request"),
            Self::InsufficientScope { .. } => Some("insufficient_scope"),
            Self::MissingToken
            | Self::Denied(_)
            | Self::TooManyRequests { .. }
            | Self::Unavailable { .. } => None,
        }
    }

    /// Returns one sentence for the client.
    pub fn detail(&self) -> &str {
        match self {
            Self::MissingToken => "An API token is required.",
            Self::InvalidToken => "The API token is not valid.",
            Self::MultipleTokens => "The request carries more than one credential.",
            Self::MissingProtocol => "The WebSocket offers no protocol besides its token.",
            Self::Denied(reason) => reason,
            Self::InsufficientScope { .. } => "The API token does not allow this request.",
            Self::TooManyRequests { .. } => "Too many requests with this API token.",
            Self::Unavailable { .. } => "The API token cannot be verified at the moment.",
        }
    }
}

impl From<Unavailable> for Rejection {
    fn from(error: Unavailable) -> Self {
        let retry_after = error.retry_after();
        Self::Unavailable { retry_after }
    }
}

impl<M> Answer<M> {
    /// Returns the token, or the rejection that the layer would answer with.
    ///
    /// # Errors
    /// Returns [`Rejection::InvalidToken`] if the token is not valid, and [`Rejection::Denied`] if it is
    /// denied.
    pub fn into_result(self) -> Result<CachedApiToken<M>, Rejection> {
        match self {
            Self::Valid(token) => Ok(token),
            Self::Invalid(_) => Err(Rejection::InvalidToken),
            Self::Denied(denial) => Err(Rejection::Denied(denial.reason)),
        }
    }
}
