//! What a refusal is, and how it is said.
//!
//! | situation | HTTP | gRPC |
//! |---|---|---|
//! | nothing presented | 401, a bare challenge | 16 |
//! | a token that is not good | 401 `error="invalid_token"`, the same bytes whatever the reason | 16 |
//! | more than one credential | 400 `error="invalid_request"` | 3 |
//! | a good token that may not be used now | 403 with the loader's reason, a bare challenge | 7 |
//! | a good token that may not do this | 403 `error="insufficient_scope"` | 7 |
//! | we cannot tell | 503 and `Retry-After`, no challenge | 14 |

mod challenge;
mod grpc;
mod length;
mod problem;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Response, StatusCode};

pub(crate) use challenge::Challenges;
pub use problem::ProblemDetails;

use crate::cache::Answer;

use crate::cache::cached_token::CachedApiToken;
use crate::cache::error::Unavailable;
use crate::metrics::Reason;
use crate::middleware::policy::InsufficientScope;
use crate::middleware::request_head::RefusedRequest;

/// Why a request is refused.
///
/// ```
/// use http::StatusCode;
/// use tower_api_token::Refusal;
///
/// assert_eq!(Refusal::InvalidToken.status(), StatusCode::UNAUTHORIZED);
/// assert_eq!(Refusal::InvalidToken.error_code(), Some("invalid_token"));
/// assert_eq!(Refusal::NotPresented.error_code(), None);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Refusal {
    /// No bearer credential at all.
    NotPresented,
    /// A credential that is not good. Why is not told: a client that is told apart "unknown" and
    /// "revoked" learns which tokens once were good.
    InvalidToken,
    /// More than one credential.
    Ambiguous,
    /// A good token that may not be used now, with the loader's text for the client.
    Denied(Cow<'static, str>),
    /// A good token that may not do this: a [policy](crate::ApiTokenLayer::with_policy) refused it.
    InsufficientScope(InsufficientScope),
    /// We cannot tell who is calling; ask again after so long.
    Unavailable {
        /// What `Retry-After` says.
        retry_after: Duration,
    },
}

/// A refusal, and the reason that the client is not told.
pub(crate) struct Refused {
    pub(crate) refusal: Refusal,
    pub(crate) reason: Reason,
}

impl Refused {
    pub(crate) fn new(refusal: Refusal, reason: Reason) -> Self {
        Self { refusal, reason }
    }

    pub(crate) fn insufficient_scope(why: InsufficientScope) -> Self {
        let refusal = Refusal::InsufficientScope(why);
        Self::new(refusal, Reason::InsufficientScope)
    }

    pub(crate) fn unavailable(error: &Unavailable) -> Self {
        let retry_after = error.retry_after();
        Self::new(Refusal::Unavailable { retry_after }, Reason::Unavailable)
    }
}

/// The token, where the answer is a good one.
pub(crate) fn admitted<M>(answer: Answer<M>) -> Result<CachedApiToken<M>, Refused> {
    match answer {
        Answer::Found(token) => Ok(token),
        Answer::Absent(why) => Err(Refused::new(Refusal::InvalidToken, why.into())),
        Answer::Denied(denial) => Err(Refused::new(Refusal::Denied(denial.reason), Reason::Denied)),
    }
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotPresented | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::Ambiguous => StatusCode::BAD_REQUEST,
            Self::Denied(_) | Self::InsufficientScope(_) => StatusCode::FORBIDDEN,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The error code of RFC 6750 section 3.1, where there is one.
    pub fn error_code(&self) -> Option<&'static str> {
        match self {
            Self::InvalidToken => Some("invalid_token"),
            Self::Ambiguous => Some("invalid_request"),
            Self::InsufficientScope(_) => Some("insufficient_scope"),
            Self::NotPresented | Self::Denied(_) | Self::Unavailable { .. } => None,
        }
    }

    /// One sentence for the client.
    pub fn detail(&self) -> &str {
        match self {
            Self::NotPresented => "A bearer token is required.",
            Self::InvalidToken => "The bearer token is not valid.",
            Self::Ambiguous => "The request carries more than one credential.",
            Self::Denied(reason) => reason,
            Self::InsufficientScope(_) => "The bearer token does not allow this request.",
            Self::Unavailable { .. } => "The bearer token cannot be verified at the moment.",
        }
    }

    /// What a challenge says of it: the same for every reason that has the same code.
    fn error(&self) -> Option<(&'static str, &str)> {
        self.error_code().map(|code| (code, self.detail()))
    }
}

/// Makes the body of a refusal, and what belongs to it. The layer itself sees to the
/// challenge, `Retry-After`, `Cache-Control` and `Vary`.
///
/// Implemented by [`ProblemDetails`], the default, and by every closure
/// `Fn(&Refusal) -> http::Response<T>` with `T: Into<Bytes>`. What depends on the request too is a type
/// with a [`make_for`](Self::make_for) of its own.
///
/// ```
/// use http::header::{CONTENT_TYPE, HeaderValue};
/// use tower_api_token::Refusal;
///
/// /// For [`with_rejection`](tower_api_token::ApiTokenLayer::with_rejection). The status is the refusal's.
/// fn as_our_other_errors_are(refusal: &Refusal) -> http::Response<String> {
///     let code = refusal.error_code().unwrap_or("unauthenticated");
///     let mut response = http::Response::new(format!("{{\"error\":\"{code}\"}}"));
///     let json = HeaderValue::from_static("application/json");
///     response.headers_mut().insert(CONTENT_TYPE, json);
///     response
/// }
/// # assert_eq!(as_our_other_errors_are(&Refusal::InvalidToken).body(), "{\"error\":\"invalid_token\"}");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make a refusal's response",
    label = "expected `ProblemDetails` or a closure `Fn(&Refusal) -> http::Response<T>`, `T: Into<Bytes>`"
)]
pub trait MakeRejection: Clone {
    /// The response. A status of success, which is what `http::Response::new` begins with, or below is
    /// replaced by [`Refusal::status`]; any other is kept.
    fn make(&self, refusal: &Refusal) -> Response<Bytes>;

    /// The response to this request: the same, unless it is written anew. This is what the layer calls;
    /// not for gRPC calls, which have no body to be made.
    ///
    /// ```
    /// use bytes::Bytes;
    /// use http::{Response, StatusCode, header};
    /// use tower_api_token::{MakeRejection, ProblemDetails, Refusal, RefusedRequest};
    ///
    /// /// Sends browsers to where they can log in, and tells programs what is the matter.
    /// #[derive(Clone)]
    /// struct LogIn;
    ///
    /// impl MakeRejection for LogIn {
    ///     fn make(&self, refusal: &Refusal) -> Response<Bytes> {
    ///         ProblemDetails::new().make(refusal)
    ///     }
    ///
    ///     fn make_for(&self, refusal: &Refusal, request: &RefusedRequest<'_>) -> Response<Bytes> {
    ///         let mut response = self.make(refusal);
    ///         let accept = request.header(header::ACCEPT).and_then(|accept| accept.to_str().ok());
    ///         if refusal.status() == StatusCode::UNAUTHORIZED
    ///             && accept.is_some_and(|accept| accept.contains("text/html"))
    ///         {
    ///             *response.status_mut() = StatusCode::SEE_OTHER;
    ///             let log_in = header::HeaderValue::from_static("/log-in");
    ///             response.headers_mut().insert(header::LOCATION, log_in);
    ///         }
    ///         response
    ///     }
    /// }
    /// # let _ = LogIn;
    /// ```
    fn make_for(&self, refusal: &Refusal, request: &RefusedRequest<'_>) -> Response<Bytes> {
        let _ = request;
        self.make(refusal)
    }
}

impl<F, T> MakeRejection for F
where
    F: Fn(&Refusal) -> Response<T> + Clone,
    T: Into<Bytes>,
{
    fn make(&self, refusal: &Refusal) -> Response<Bytes> {
        self(refusal).map(Into::into)
    }
}

/// The whole answer to a refused request. Whether gRPC calls are answered as such is the layer's to say.
pub(crate) fn respond<R: MakeRejection>(
    refusal: &Refusal,
    challenges: &Challenges,
    make: &R,
    request: &RefusedRequest<'_>,
    grpc: bool,
) -> Response<Bytes> {
    let vary = request.vary();
    // A gRPC call is a POST. Anything else with its content type must not get its HTTP 200: a proxy that
    // asks us whether to let a request pass would read it as leave.
    if grpc
        && request.method() == Method::POST
        && let Some(content_type) = grpc::content_type(request.headers())
    {
        let mut response = grpc::respond(refusal, content_type);
        uncacheable(response.headers_mut(), vary);
        return response;
    }
    let mut response = make.make_for(refusal, request);
    if response.status().is_success() || response.status().is_informational() {
        // `http::Response::new` says 200, and a refusal never does; 101 would hand the connection over.
        *response.status_mut() = refusal.status();
    }
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_LENGTH, length::content_length(length));
    // A closure may hand on what another service answered: beside a length it cannot stand (RFC 9112
    // section 6.2), and hyper would answer nothing at all.
    headers.remove(http::header::TRANSFER_ENCODING);
    challenges.append(refusal, headers);
    if let Refusal::Unavailable { retry_after } = refusal {
        let seconds = retry_after.as_secs().max(1);
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    uncacheable(headers, vary);
    if request.method() == Method::HEAD {
        // The length of what a GET would get, and none of it (RFC 9110 section 9.3.2).
        *response.body_mut() = Bytes::new();
    }
    response
}

fn uncacheable(headers: &mut HeaderMap, vary: Option<&HeaderValue>) {
    headers.insert(
        http::header::CACHE_CONTROL,
        const { HeaderValue::from_static("no-store") },
    );
    if let Some(vary) = vary {
        headers.append(http::header::VARY, vary.clone());
    }
}
