//! The default response: RFC 9457 problem details.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde::Serialize;

use crate::middleware::rejection::cause::Rejection;
use crate::middleware::rejection::response::ResponseForRejection;
use crate::middleware::request_head::RequestHead;

/// Responses to rejected requests as `application/problem+json` (RFC 9457). The default.
///
/// ```json
/// {"type":"about:blank","title":"Unauthorized","status":401,"detail":"The API token is not valid."}
/// ```
#[derive(Debug, Clone, Copy, Default)]
#[non_exhaustive]
pub struct ProblemDetails;

impl ProblemDetails {
    /// Creates the default response: `type`, `title`, `status` and `detail`.
    pub fn new() -> Self {
        Self
    }
}

impl ResponseForRejection for ProblemDetails {
    fn response_for_rejection(
        &self,
        rejection: &Rejection,
        _: &RequestHead<'_>,
    ) -> Response<Bytes> {
        let mut response = Response::new(body(rejection));
        *response.status_mut() = rejection.status();
        let json = const { HeaderValue::from_static("application/problem+json") };
        response.headers_mut().insert(CONTENT_TYPE, json);
        response
    }
}

fn body(rejection: &Rejection) -> Bytes {
    match constant(rejection) {
        Some(body) => Bytes::from_static(body.as_bytes()),
        None => serialized(rejection),
    }
}

/// The bodies that anybody can provoke, so that they cost no serialization.
fn constant(rejection: &Rejection) -> Option<&'static str> {
    match rejection {
        Rejection::MissingToken => Some(
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"An API token is required."}"#,
        ),
        Rejection::InvalidToken => Some(
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The API token is not valid."}"#,
        ),
        Rejection::MultipleTokens => Some(
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request carries more than one credential."}"#,
        ),
        Rejection::MissingProtocol => Some(
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"The WebSocket offers no protocol besides its token."}"#,
        ),
        _ => None,
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

fn serialized(rejection: &Rejection) -> Bytes {
    let status = rejection.status();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: rejection.detail(),
    };
    // Strings and a number: serializing them cannot fail.
    serde_json::to_vec(&problem).unwrap_or_default().into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_bodies_equal_the_serialized_ones() {
        for rejection in [
            Rejection::MissingToken,
            Rejection::InvalidToken,
            Rejection::MultipleTokens,
            Rejection::MissingProtocol,
        ] {
            let body = constant(&rejection).unwrap();
            assert_eq!(body.as_bytes(), serialized(&rejection));
        }
    }

    #[test]
    fn a_reason_is_escaped() {
        let body = body(&Rejection::Denied("a \"b\"\n".into()));
        let read: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(
            (read["detail"].as_str(), read["status"].as_u64()),
            (Some("a \"b\"\n"), Some(403))
        );
    }
}
