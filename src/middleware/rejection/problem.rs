//! The default body: RFC 9457 problem details.

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Response};
use serde::Serialize;

use super::{MakeRejection, Refusal};

/// Refusals as `application/problem+json` (RFC 9457), or with an empty body.
///
/// ```
/// use tower_api_token::{MakeRejection, ProblemDetails, Refusal};
///
/// let response = ProblemDetails::new().make(&Refusal::InvalidToken);
/// assert_eq!(
///     response.body(),
///     r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The bearer token is not valid."}"#,
/// );
/// assert!(ProblemDetails::empty().make(&Refusal::InvalidToken).body().is_empty());
/// ```
#[derive(Debug, Clone, Copy, Default)]
pub struct ProblemDetails {
    empty: bool,
}

impl ProblemDetails {
    /// `type`, `title`, `status` and `detail`. The default.
    pub fn new() -> Self {
        Self::default()
    }

    /// No body at all: status and headers say it.
    pub fn empty() -> Self {
        Self { empty: true }
    }
}

#[derive(Serialize)]
struct Problem<'a> {
    r#type: &'a str,
    title: &'a str,
    status: u16,
    detail: &'a str,
}

fn written(refusal: &Refusal) -> Bytes {
    let status = refusal.status();
    let problem = Problem {
        r#type: "about:blank",
        title: status.canonical_reason().unwrap_or_default(),
        status: status.as_u16(),
        detail: refusal.detail(),
    };
    // Strings and a number: there is nothing that could fail.
    serde_json::to_vec(&problem).unwrap_or_default().into()
}

/// The bodies of refusals that anybody can ask for, and that cost no writing.
fn constant(refusal: &Refusal) -> Option<&'static str> {
    match refusal {
        Refusal::NotPresented => Some(
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"A bearer token is required."}"#,
        ),
        Refusal::InvalidToken => Some(
            r#"{"type":"about:blank","title":"Unauthorized","status":401,"detail":"The bearer token is not valid."}"#,
        ),
        Refusal::Ambiguous => Some(
            r#"{"type":"about:blank","title":"Bad Request","status":400,"detail":"The request carries more than one credential."}"#,
        ),
        _ => None,
    }
}

impl MakeRejection for ProblemDetails {
    fn make(&self, refusal: &Refusal) -> Response<Bytes> {
        let body = match (self.empty, constant(refusal)) {
            (true, _) => Bytes::new(),
            (false, Some(body)) => Bytes::from_static(body.as_bytes()),
            (false, None) => written(refusal),
        };
        let mut response = Response::new(body);
        *response.status_mut() = refusal.status();
        if !self.empty {
            let json = const { HeaderValue::from_static("application/problem+json") };
            response.headers_mut().insert(CONTENT_TYPE, json);
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_constant_bodies_are_what_would_be_written() {
        let constants = [
            Refusal::NotPresented,
            Refusal::InvalidToken,
            Refusal::Ambiguous,
        ];
        for refusal in constants {
            let body = constant(&refusal).unwrap();
            assert_eq!(body.as_bytes(), written(&refusal));
        }
    }

    #[test]
    fn a_reason_is_escaped_and_an_empty_body_has_no_type() {
        let refusal = Refusal::Denied("a \"b\"\n".into());
        let made = ProblemDetails::new().make(&refusal);
        let read: serde_json::Value = serde_json::from_slice(made.body()).unwrap();
        assert_eq!(
            (read["detail"].as_str(), read["status"].as_u64()),
            (Some("a \"b\"\n"), Some(403))
        );
        let made = ProblemDetails::empty().make(&refusal);
        assert!(made.body().is_empty() && made.headers().is_empty());
    }
}
