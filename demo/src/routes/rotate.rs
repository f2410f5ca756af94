//! `POST /admin/tokens/{id}/rotate`: replaces a token by a successor.
//!
//! A token can be rotated once. A repeated request is answered with 409 and the successor's id: it cannot
//! be answered with the successor's text, which is not stored, and must not create a second successor.
//! A caller who lost the response rotates the successor, without overlap.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::new_token::{is_identifier, members};
use super::problem::{Problem, with_timeout};
use super::wait::{WaitQuery, parse_wait};
use super::{AppState, NO_STORE};
use crate::db::{RotateError, Rotation, Timestamp};

/// The default overlap. An hour is long enough to deploy a new secret, and short enough to watch until the
/// old one has expired.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(60 * 60);

/// The maximum overlap: a week. A caller who needs both secrets for longer needs two tokens.
const LONGEST_OVERLAP: u64 = 7 * 24 * 60 * 60;

pub(super) async fn rotate_token(
    State(state): State<AppState>,
    Path(id): Path<String>,
    wait: WaitQuery,
    body: Bytes,
) -> Result<Response, Problem> {
    let wait = parse_wait(wait)?;
    if !is_identifier(&id) {
        return Err(Problem::not_found("token"));
    }
    let overlap = overlap(&body)?;
    let rotation = with_timeout(state.database.rotate_token(&id, overlap, state.stored_form))
        .await
        .map_err(problem)?;
    let successor = &rotation.successor;
    tracing::info!(id, successor = successor.id, "a token was rotated");
    state.live.changed("rotated", "id", &id);

    if let Err(error) = state.outbox.confirm(&rotation.pending, wait).await {
        tracing::warn!(id, %error, "the rotated token's invalidation is not confirmed");
        let detail = "the token was rotated, but the invalidation of the old one is not confirmed, so caches may \
                      still hold its former expiry: the server keeps retrying; to get a confirmation, DELETE the \
                      old token once it is no longer used; only this response contains the new token's text";
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with("confirmed", false)
            .with("id", successor.id.as_str())
            .with("token", rotation.text.expose())
            .with("predecessor", predecessor(&id, &rotation)));
    }
    let body = json!({
        "id": successor.id,
        "token": rotation.text.expose(),
        "tenant_id": successor.tenant_id,
        "app_id": successor.app_id,
        "type": successor.token_type,
        "created_at": successor.created_at.to_string(),
        "expires_at": moment(successor.expires_at),
        "predecessor": predecessor(&id, &rotation),
    });
    Ok((StatusCode::CREATED, NO_STORE, Json(body)).into_response())
}

fn predecessor(id: &str, rotation: &Rotation) -> Value {
    json!({
        "id": id,
        "expires_at": moment(rotation.old_expires_at),
        "revoked_at": moment(rotation.old_revoked_at),
    })
}

fn moment(moment: Option<Timestamp>) -> Option<String> {
    moment.map(|moment| moment.to_string())
}

fn problem(error: RotateError) -> Problem {
    let conflict = |detail: &str| Problem::new(StatusCode::CONFLICT, detail);
    match error {
        RotateError::NoSuchToken => Problem::not_found("token"),
        RotateError::Revoked => conflict("the token is revoked: create a new one"),
        RotateError::Expired => conflict("the token has expired: create a new one"),
        RotateError::Rotated(successor) => conflict(
            "the token was rotated already; if the successor's text was lost, rotate the successor",
        )
        .with("successor_id", successor),
        RotateError::Database(error) => error.into(),
    }
}

/// Parses the body by hand, so that errors do not contain values. An empty body counts as an empty object.
fn overlap(body: &[u8]) -> Result<Duration, Problem> {
    if body.is_empty() {
        return Ok(DEFAULT_OVERLAP);
    }
    let mut members = members(body)?;
    let overlap = match members.remove("overlap_seconds") {
        None | Some(Value::Null) => DEFAULT_OVERLAP,
        Some(value) => value
            .as_u64()
            .filter(|seconds| *seconds <= LONGEST_OVERLAP)
            .map(Duration::from_secs)
            .ok_or_else(|| {
                Problem::unprocessable(format!(
                    "overlap_seconds: not a whole number from 0 to {LONGEST_OVERLAP}"
                ))
            })?,
    };
    // A misspelt name must not keep a leaked token valid for the default overlap.
    if members.is_empty() {
        Ok(overlap)
    } else {
        Err(Problem::unprocessable(
            "unknown member; expected overlap_seconds",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn overlap_defaults_to_an_hour() {
        for (body, seconds) in [
            ("", 3600),
            ("{}", 3600),
            (r#"{"overlap_seconds":null}"#, 3600),
            (r#"{"overlap_seconds":0}"#, 0),
            (r#"{"overlap_seconds":604800}"#, 604_800),
        ] {
            assert_eq!(
                overlap(body.as_bytes()).unwrap(),
                Duration::from_secs(seconds),
                "{body}"
            );
        }
    }

    #[test]
    fn invalid_overlap_is_rejected_and_not_shown() {
        for (body, status) in [
            (r#"{"overlap_seconds":604801}"#, "422"),
            (r#"{"overlap_seconds":-1}"#, "422"),
            (r#"{"overlap_seconds":1.5}"#, "422"),
            (r#"{"overlap_seconds":"hunter22"}"#, "422"),
            (r#"{"overlap":"hunter22"}"#, "422"),
            (r#"{"overlap_seconds":1,"hunter22":1}"#, "422"),
            (r#"["hunter22"]"#, "400"),
            ("hunter22", "400"),
        ] {
            let shown = format!("{:?}", overlap(body.as_bytes()).expect_err(body));
            assert!(
                shown.contains(status) && !shown.contains("hunter22"),
                "{body}: {shown}"
            );
        }
    }
}
