//! Authentication of the operator, who holds the one token from the configuration.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tower_api_token::TokenDigest;

use super::AppState;
use super::problem::Problem;

/// Rejects requests without the admin token, before their body is read.
pub(super) async fn require_admin(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(presented) = presented(request.headers()) else {
        return reject("the admin token is missing", r#"Bearer realm="admin""#);
    };
    // Digests are compared in constant time, so that the time does not depend on the token's length or on
    // a common prefix.
    let presented = TokenDigest::of(presented);
    if !bool::from(presented.as_bytes().ct_eq(state.admin_digest.as_bytes())) {
        return reject(
            "this is not the admin token",
            r#"Bearer realm="admin", error="invalid_token""#,
        );
    }
    next.run(request).await
}

/// Returns the bearer token of the `Authorization` header. Returns `None` for more than one such line.
fn presented(headers: &HeaderMap) -> Option<&str> {
    let mut lines = headers.get_all(AUTHORIZATION).iter();
    let line = lines.next()?.to_str().ok()?;
    if lines.next().is_some() {
        return None;
    }
    let (scheme, token) = line.split_once(' ')?;
    scheme
        .eq_ignore_ascii_case("bearer")
        .then(|| token.trim_start_matches(' '))
}

fn reject(detail: &str, challenge: &'static str) -> Response {
    let mut response = Problem::new(StatusCode::UNAUTHORIZED, detail).into_response();
    response
        .headers_mut()
        .insert(WWW_AUTHENTICATE, HeaderValue::from_static(challenge));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(lines: &[&'static str]) -> HeaderMap {
        lines
            .iter()
            .map(|line| (AUTHORIZATION, HeaderValue::from_static(line)))
            .collect()
    }

    #[test]
    fn scheme_is_case_insensitive_and_the_token_is_not() {
        for line in ["Bearer sEcret", "bearer sEcret", "BEARER   sEcret"] {
            assert_eq!(presented(&headers(&[line])), Some("sEcret"), "{line}");
        }
    }

    #[test]
    fn other_schemes_and_two_lines_have_no_token() {
        for lines in [
            &[][..],
            &["Basic abc"],
            &["sEcret"],
            &["Bearer"],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(presented(&headers(lines)), None, "{lines:?}");
        }
    }
}
