//! Keys as JSON. Neither a digest nor a text is in it.

use axum::Json;
use axum::http::header::CACHE_CONTROL;
use axum::http::{HeaderName, StatusCode};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, SecondsFormat, Utc};
use serde_json::{Value, json};

use crate::admin::problem::Problem;
use crate::error::ChangeError;
use crate::key::Key;
use crate::outbox::change::InDoubt;

/// Responses are secret or soon out of date.
const NO_STORE: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

pub(crate) fn response(status: StatusCode, body: Value) -> Response {
    (status, NO_STORE, Json(body)).into_response()
}

/// Formats a time by RFC 3339, in UTC.
pub(crate) fn time(time: DateTime<Utc>) -> String {
    time.to_rfc3339_opts(SecondsFormat::AutoSi, true)
}

/// Returns a key as JSON. `api-token` has the same names.
pub(crate) fn key(key: &Key, now: DateTime<Utc>) -> Value {
    let tenant_status = if key.tenant_suspended {
        "suspended"
    } else {
        "active"
    };
    json!({
        "id": key.id,
        "tenant_id": key.tenant_id,
        "tenant_status": tenant_status,
        "status": key.status_at(now).as_str(),
        "app_id": key.app_id,
        "token_type": key.token_type,
        "name": key.name,
        "scopes": key.scopes,
        "metadata": key.metadata,
        "created_at": time(key.created_at),
        "expires_at": key.expires_at.map(time),
        "revoked_at": key.revoked_at.map(time),
        "last_used_at": key.last_used_at.map(time),
        "successor_id": key.successor_id,
        "predecessor_id": key.predecessor_id,
        "rotated_at": key.rotated_at.map(time),
    })
}

/// What a rotation does to the key that is rotated.
pub(crate) fn predecessor(key: &Key) -> Value {
    json!({
        "id": key.id,
        "expires_at": key.expires_at.map(time),
        "revoked_at": key.revoked_at.map(time),
    })
}

/// How an operator gets a confirmation of a change that may be repeated.
pub(crate) const REPEAT: &str =
    "repeat the request until it succeeds; the server also keeps retrying";

/// Invalidates, and responds with 200 and these members. The text of the 503 says what is `done`, and what is next.
pub(crate) async fn confirm<T>(
    committed: InDoubt<T>,
    (done, next): (&str, &str),
    mut members: Value,
) -> Result<Response, Problem> {
    match committed.confirm().await {
        Ok(_) => {
            members["confirmed"] = json!(true);
            Ok(response(StatusCode::OK, members))
        }
        Err(error) => {
            warn(&error);
            let detail = format!(
                "{done}, but the invalidation is not confirmed, so caches may still hold the old state: {next}"
            );
            Err(Problem::unconfirmed(detail))
        }
    }
}

/// Logs why an invalidation is not confirmed.
pub(crate) fn warn<T>(error: &ChangeError<T>) {
    if let ChangeError::Unconfirmed(unconfirmed) = error {
        tracing::warn!(cause = %unconfirmed.cause.chain(), "an invalidation is not confirmed");
    }
}
