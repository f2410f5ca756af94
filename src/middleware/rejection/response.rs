//! The response to a rejected request.

use bytes::Bytes;
use http::header::{CACHE_CONTROL, CONTENT_LENGTH, RETRY_AFTER, TRANSFER_ENCODING, VARY};
use http::{HeaderMap, HeaderValue, Method, Response};

use crate::middleware::rejection::cause::Rejection;
use crate::middleware::rejection::challenge::Challenges;
use crate::middleware::rejection::{grpc, length};
use crate::middleware::request_head::RequestHead;

/// Makes the responses to rejected requests.
///
/// Implemented for [`ProblemDetails`](crate::rejection::ProblemDetails), the default, for
/// [`StatusOnly`](crate::rejection::StatusOnly), and for closures
/// `Fn(&Rejection, &RequestHead<'_>) -> http::Response<T>` with `T: Into<Bytes>`. The layer itself adds the
/// challenges, `Retry-After`, `Content-Length`, `Cache-Control` and `Vary`.
///
/// # Examples
///
/// An HTML client is sent to a page where its user can log in:
///
/// ```
/// use bytes::Bytes;
/// use http::{HeaderValue, Response, StatusCode, header};
/// use tower_api_token::Rejection;
/// use tower_api_token::rejection::{ProblemDetails, RequestHead, ResponseForRejection};
///
/// struct LogIn;
///
/// impl ResponseForRejection for LogIn {
///     fn response_for_rejection(
///         &self,
///         rejection: &Rejection,
///         request: &RequestHead<'_>,
///     ) -> Response<Bytes> {
///         let mut response = ProblemDetails::new().response_for_rejection(rejection, request);
///         let accept = request.header(header::ACCEPT).and_then(|accept| accept.to_str().ok());
///         if rejection.status() == StatusCode::UNAUTHORIZED
///             && accept.is_some_and(|accept| accept.contains("text/html"))
///         {
///             *response.status_mut() = StatusCode::SEE_OTHER;
///             let log_in = HeaderValue::from_static("/log-in");
///             response.headers_mut().insert(header::LOCATION, log_in);
///         }
///         response
///     }
/// }
/// # let _ = LogIn;
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` cannot make the response to a rejected request",
    label = "expected `ProblemDetails`, `StatusOnly` or a closure `|rejection: &Rejection, request: &RequestHead<'_>| -> http::Response<T>` with `T: Into<Bytes>`"
)]
pub trait ResponseForRejection: Send + Sync + 'static {
    /// Returns the response.
    ///
    /// A 1xx or 2xx status, such as the one of `http::Response::new`, is replaced by
    /// [`Rejection::status`]; any other is kept. Not called for gRPC calls, unless
    /// [`grpc_status`](crate::ApiTokenLayerBuilder::grpc_status) is off.
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        request: &RequestHead<'_>,
    ) -> Response<Bytes>;
}

impl<F, T> ResponseForRejection for F
where
    F: Fn(&Rejection, &RequestHead<'_>) -> Response<T> + Send + Sync + 'static,
    T: Into<Bytes>,
{
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        request: &RequestHead<'_>,
    ) -> Response<Bytes> {
        self(rejection, request).map(Into::into)
    }
}

/// The complete response. `grpc` says whether gRPC calls are answered with a gRPC status.
pub(crate) fn respond(
    rejection: &Rejection,
    challenges: &Challenges,
    make: &dyn ResponseForRejection,
    request: &RequestHead<'_>,
    grpc: bool,
) -> Response<Bytes> {
    let vary = request.vary();
    // A gRPC call is a POST. Other methods with its content type must not get its HTTP 200: a proxy that
    // asks this service whether to let a request pass would take it for a yes.
    // guard: H1, H17
    if grpc
        && request.method() == Method::POST
        && let Some(content_type) = grpc::content_type(request.headers())
    {
        let mut response = grpc::respond(rejection, content_type);
        uncacheable(response.headers_mut(), vary);
        return response;
    }
    let mut response = make.response_for_rejection(rejection, request);
    // `http::Response::new` has status 200, and a 101 would hand over the connection.
    // guard: H2
    if response.status().is_success() || response.status().is_informational() {
        *response.status_mut() = rejection.status();
    }
    let length = response.body().len();
    let headers = response.headers_mut();
    headers.insert(CONTENT_LENGTH, length::content_length(length));
    // The response may be another service's, passed on. Both headers at once are not allowed (RFC 9112
    // section 6.2), and hyper would send no response at all.
    // guard: H18
    headers.remove(TRANSFER_ENCODING);
    challenges.append(rejection, headers);
    if let Some(retry_after) = rejection.retry_after() {
        // Rounded up, so that nobody who waits for so long comes too early.
        let part = u64::from(retry_after.subsec_nanos() > 0);
        let seconds = retry_after.as_secs().saturating_add(part).max(1);
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    uncacheable(headers, vary);
    if request.method() == Method::HEAD {
        // `Content-Length` stays as a GET would get it (RFC 9110 section 9.3.2).
        *response.body_mut() = Bytes::new();
    }
    response
}

fn uncacheable(headers: &mut HeaderMap, vary: Option<&HeaderValue>) {
    headers.insert(
        CACHE_CONTROL,
        const { HeaderValue::from_static("no-store") },
    );
    if let Some(vary) = vary {
        headers.append(VARY, vary.clone());
    }
}
