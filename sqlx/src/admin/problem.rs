//! Error responses: `application/problem+json` (RFC 9457), as the layer's.

use std::error::Error as StdError;

use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use crate::error::Error;

/// An error response. Its text never contains a value of the request, which may be a token in the wrong place.
#[derive(Debug)]
pub(crate) struct Problem {
    status: StatusCode,
    detail: String,
    members: Map<String, Value>,
}

impl Problem {
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            status,
            detail: detail.into(),
            members: Map::new(),
        }
    }

    /// Adds a member to the standard ones.
    pub(crate) fn with(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.members.insert(name.to_owned(), value.into());
        self
    }

    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    pub(crate) fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    pub(crate) fn conflict(detail: &str) -> Self {
        Self::new(StatusCode::CONFLICT, detail)
    }

    pub(crate) fn no_database(error: &(dyn StdError + 'static)) -> Self {
        tracing::error!(error, "the database failed");
        // A commit may have succeeded.
        let detail = "the database did not answer, and it is unknown whether the change was made; repeat the request";
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail)
    }

    /// A change that is committed, and whose invalidation is not confirmed.
    pub(crate) fn unconfirmed(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, detail).with("confirmed", false)
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        match error {
            Error::UnknownKey => Self::not_found("token"),
            Error::UnknownTenant => Self::not_found("tenant"),
            Error::Revoked => Self::conflict("the token is revoked: create a new one"),
            Error::Expired => Self::conflict("the token has expired: create a new one"),
            Error::AlreadyRotated { successor_id } => Self::conflict(
                "the token was rotated already; if the successor's text was lost, rotate the successor",
            )
            .with("successor_id", successor_id),
            Error::NotRotated => Self::conflict("the token was not rotated"),
            Error::NotPending => Self::not_found("pending invalidation"),
            Error::Duplicate => Self::conflict("token: this text is a token already"),
            Error::Invalid { field: "actor", reason } => {
                tracing::error!(%reason, "the actor in the request's extensions is invalid");
                let detail = "the operator's name cannot be written to the audit table";
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, detail)
            }
            Error::Invalid { field, reason } => {
                let member = match field {
                    "tenant" => "tenant_id",
                    other => other,
                };
                Self::unprocessable(format!("{member}: {reason}"))
            }
            Error::Database(error) => Self::no_database(&error),
            Error::Text(error) => Self::no_database(&*error),
            Error::Randomness(error) => {
                tracing::error!(%error, "the operating system did not return random bytes");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "no random bytes")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut body = self.members;
        let title = self.status.canonical_reason().unwrap_or("Error");
        for (name, value) in [
            ("type", json!("about:blank")),
            ("title", json!(title)),
            ("status", json!(self.status.as_u16())),
            ("detail", json!(self.detail)),
        ] {
            body.insert(name.to_owned(), value);
        }
        let mut response = (self.status, Value::Object(body).to_string()).into_response();
        let headers = response.headers_mut();
        let problem = HeaderValue::from_static("application/problem+json");
        headers.insert(CONTENT_TYPE, problem);
        headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}
