//! Who may call `/admin`: the holder of one token from the configuration.

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use subtle::ConstantTimeEq;
use tower_api_token::TokenDigest;

use super::AppState;
use super::problem::Problem;

/// Lets the operator through and refuses everybody else before the request's body is read.
pub(super) async fn require_admin(
    State(state): State<AppState>,
    request: Request,
    next: Next,
) -> Response {
    let Some(presented) = presented(request.headers()) else {
        return refuse("the admin token is missing", r#"Bearer realm="admin""#);
    };
    // Digests are compared, so that neither the token's length nor a common beginning shows in the
    // time.
    let presented = TokenDigest::of(presented);
    if !bool::from(presented.as_bytes().ct_eq(state.admin_digest.as_bytes())) {
        return refuse(
            "this is not the admin token",
            r#"Bearer realm="admin", error="invalid_token""#,
        );
    }
    next.run(request).await
}

/// The bearer token of the one `Authorization` line; two lines are as good as none.
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

fn refuse(detail: &str, challenge: &'static str) -> Response {
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
    fn the_scheme_is_read_in_any_case_and_the_token_as_it_is() {
        for line in ["Bearer sEcret", "bearer sEcret", "BEARER   sEcret"] {
            assert_eq!(presented(&headers(&[line])), Some("sEcret"), "{line}");
        }
    }

    #[test]
    fn nothing_another_scheme_or_two_lines_present_nothing() {
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
