//! Error responses of our own routes, in the layer's format: `application/problem+json` (RFC 9457).

use std::fmt;
use std::time::Duration;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::json;

/// How long a request waits for the database.
const DATABASE_TIMEOUT: Duration = Duration::from_secs(5);

/// An error response. Its text never contains a value of the request, which may be a token in the wrong
/// place.
#[derive(Debug)]
pub(super) struct Problem {
    status: StatusCode,
    detail: String,
}

impl Problem {
    pub(super) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
        }
    }

    pub(super) fn no_randomness(error: &dyn fmt::Display) -> Self {
        tracing::error!(%error, "the operating system did not return random bytes");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "no random bytes")
    }
}

impl From<sqlx::Error> for Problem {
    fn from(error: sqlx::Error) -> Self {
        tracing::error!(%error, "the database failed");
        // A commit may have succeeded.
        let detail = "the database did not answer, and it is unknown whether the change was made; repeat the request";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let body = json!({
            "type": "about:blank",
            "title": self.status.canonical_reason().unwrap_or("Error"),
            "status": self.status.as_u16(),
            "detail": self.detail,
        });
        let mut response = (self.status, body.to_string()).into_response();
        let headers = response.headers_mut();
        headers.insert(
            CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// Waits for the database with a timeout, so that requests do not pile up while it hangs.
pub(super) async fn with_timeout<T>(
    query: impl Future<Output = Result<T, sqlx::Error>>,
) -> Result<T, Problem> {
    let answer = tokio::time::timeout(DATABASE_TIMEOUT, query).await;
    Ok(answer.unwrap_or_else(|elapsed| Err(sqlx::Error::Io(elapsed.into())))?)
}
