//! What a refusal is, and how it is said.
//!
//! | situation | HTTP | gRPC |
//! |---|---|---|
//! | nothing presented | 401, a bare challenge | 16 |
//! | a token that is not good | 401 `error="invalid_token"`, the same bytes whatever the reason | 16 |
//! | more than one credential | 400 `error="invalid_request"` | 3 |
//! | a good token that may not be used now | 403 with the loader's reason, a bare challenge | 7 |
//! | we cannot tell | 503 and `Retry-After`, no challenge | 14 |

mod body;
mod grpc;
mod problem;

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

pub use body::ResponseBody;
pub(crate) use grpc::is_grpc;
pub use problem::ProblemDetails;

use crate::error::ConfigError;

/// Why a request is refused.
#[derive(Debug, Clone)]
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
    /// We cannot tell who is calling; ask again after so long.
    Unavailable {
        /// What `Retry-After` says.
        retry_after: Duration,
    },
}

impl Refusal {
    /// The HTTP status.
    pub fn status(&self) -> StatusCode {
        match self {
            Self::NotPresented | Self::InvalidToken => StatusCode::UNAUTHORIZED,
            Self::Ambiguous => StatusCode::BAD_REQUEST,
            Self::Denied(_) => StatusCode::FORBIDDEN,
            Self::Unavailable { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// The error code of RFC 6750 section 3.1, where there is one.
    pub fn error_code(&self) -> Option<&'static str> {
        match self {
            Self::InvalidToken => Some("invalid_token"),
            Self::Ambiguous => Some("invalid_request"),
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
            Self::Unavailable { .. } => "The bearer token cannot be verified at the moment.",
        }
    }
}

/// Makes the body of a refusal, and what belongs to it. The layer itself sees to the
/// challenge, `Retry-After`, `Cache-Control` and `Vary`.
///
/// Implemented by [`ProblemDetails`], the default, and by every closure
/// `Fn(&Refusal) -> http::Response<T>` with `T: Into<Bytes>`.
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make a refusal's response",
    label = "expected `ProblemDetails` or a closure `Fn(&Refusal) -> http::Response<T>`, `T: Into<Bytes>`"
)]
pub trait MakeRejection: Clone {
    /// The response. A status of success, which is what `http::Response::new` begins with, is replaced
    /// by [`Refusal::status`]; any other is kept.
    fn make(&self, refusal: &Refusal) -> Response<Bytes>;
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

/// The challenges of one layer, made once.
#[derive(Debug, Clone)]
pub(crate) struct Challenges {
    bare: HeaderValue,
    invalid_token: HeaderValue,
    invalid_request: HeaderValue,
}

impl Challenges {
    /// # Errors
    /// The realm cannot stand in a quoted string of a header field.
    pub(crate) fn new(realm: &str) -> Result<Self, ConfigError> {
        let quotable = realm
            .bytes()
            .all(|byte| byte == b' ' || byte.is_ascii_graphic());
        if realm.is_empty() || !quotable {
            return Err(ConfigError::new(
                "a realm is one or more visible ASCII characters or spaces",
            ));
        }
        let realm = realm.replace('\\', "\\\\").replace('"', "\\\"");
        let challenge = |error: &str| {
            HeaderValue::try_from(format!("Bearer realm=\"{realm}\"{error}"))
                .map_err(|_| ConfigError::new("the realm cannot stand in a header field"))
        };
        Ok(Self {
            bare: challenge("")?,
            invalid_token: challenge(", error=\"invalid_token\"")?,
            invalid_request: challenge(", error=\"invalid_request\"")?,
        })
    }

    /// For a refusal; `None` where a challenge would ask for what was given already.
    pub(crate) fn of(&self, refusal: &Refusal) -> Option<&HeaderValue> {
        match refusal {
            Refusal::NotPresented | Refusal::Denied(_) => Some(&self.bare),
            Refusal::InvalidToken => Some(&self.invalid_token),
            Refusal::Ambiguous => Some(&self.invalid_request),
            Refusal::Unavailable { .. } => None,
        }
    }
}

/// The whole answer to a refused request.
pub(crate) fn respond<R: MakeRejection>(
    refusal: &Refusal,
    challenges: &Challenges,
    make: &R,
    request: &Asked,
) -> Response<Bytes> {
    if let Some(content_type) = &request.grpc {
        return grpc::respond(refusal, content_type);
    }
    let mut response = make.make(refusal);
    if response.status().is_success() {
        // `http::Response::new` says 200, and a refusal never does.
        *response.status_mut() = refusal.status();
    }
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(http::header::CONTENT_LENGTH, HeaderValue::from(length));
    // Appended: a challenge of another scheme, made by the closure, survives.
    if let Some(challenge) = challenges.of(refusal) {
        headers.append(http::header::WWW_AUTHENTICATE, challenge.clone());
    }
    if let Refusal::Unavailable { retry_after } = refusal {
        let seconds = retry_after.as_secs().max(1);
        headers.insert(http::header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    uncacheable(headers);
    if request.head {
        // The length of what a GET would get, and none of it (RFC 9110 section 9.3.2).
        *response.body_mut() = Bytes::new();
    }
    response
}

fn uncacheable(headers: &mut HeaderMap) {
    headers.insert(
        http::header::CACHE_CONTROL,
        HeaderValue::from_static("no-store"),
    );
    headers.append(
        http::header::VARY,
        HeaderValue::from_static("authorization"),
    );
}

/// What of a request its refusal depends on.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    pub(crate) head: bool,
    /// The content type of a gRPC call.
    pub(crate) grpc: Option<HeaderValue>,
}
