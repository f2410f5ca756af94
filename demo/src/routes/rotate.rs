//! `POST /admin/tokens/{id}/rotate`: a successor takes a token's place.
//!
//! A token is rotated once. A repetition is answered 409 and names the successor, because the only
//! other answers would be a second successor that nobody asked for, or the text of the first one,
//! which is kept nowhere. Whoever lost the answer rotates the successor, without overlap.

use std::time::Duration;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::admin::{WaitQuery, asked_to_wait};
use super::new_token::is_identifier;
use super::problem::{Problem, within_deadline};
use super::{AppState, NO_STORE};
use crate::db::{RotateError, Rotation, Timestamp};

/// The overlap if nothing else is asked for: an hour is enough to put a new secret into a
/// deployment, and short enough for somebody to see the end of it.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(60 * 60);

/// The longest overlap: a week. Two secrets for one purpose are what a rotation is to end; who needs
/// both for longer needs two tokens.
const LONGEST_OVERLAP: u64 = 7 * 24 * 60 * 60;

pub(super) async fn rotate_token(
    State(state): State<AppState>,
    Path(id): Path<String>,
    wait: WaitQuery,
    body: Bytes,
) -> Result<Response, Problem> {
    let wait = asked_to_wait(wait)?;
    if !is_identifier(&id) {
        return Err(Problem::not_found("token"));
    }
    let overlap = overlap(&body)?;
    let rotation = within_deadline(state.database.rotate_token(&id, overlap, state.kept))
        .await
        .map_err(refusal)?;
    let successor = &rotation.successor;
    tracing::info!(id, successor = successor.id, "a token was rotated");
    state.live.changed("rotated", "id", &id);

    if let Err(error) = state.outbox.confirm(&rotation.pending, wait).await {
        tracing::warn!(id, %error, "the rotated token's invalidation is not confirmed");
        let detail = "the token is rotated in the database and stays so, and the new one's text is shown only here, \
                      but the cache could not confirm that it forgot the old one's end: the server goes on trying \
                      by itself; to be told of it, repeat DELETE of the old token when nobody uses it any more";
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

fn refusal(error: RotateError) -> Problem {
    let conflict = |detail: &str| Problem::new(StatusCode::CONFLICT, detail);
    match error {
        RotateError::NoSuchToken => Problem::not_found("token"),
        RotateError::Revoked => conflict("the token is revoked: make a new one"),
        RotateError::Expired => conflict("the token has expired: make a new one"),
        RotateError::Rotated(successor) => conflict(
            "the token has been rotated already; if the successor's text was lost, rotate the successor",
        )
        .with("successor_id", successor),
        RotateError::Database(error) => Problem::database(&error),
    }
}

/// Reads the body by hand, as for a new token. No body is as good as an empty object.
fn overlap(body: &[u8]) -> Result<Duration, Problem> {
    if body.is_empty() {
        return Ok(DEFAULT_OVERLAP);
    }
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        return Err(Problem::new(
            StatusCode::BAD_REQUEST,
            "the body is not a JSON object",
        ));
    };
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
    // A slip must not leave a leaked token good for the default.
    if members.is_empty() {
        Ok(overlap)
    } else {
        Err(Problem::unprocessable(
            "there is an unknown member; known is overlap_seconds",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_overlap_is_an_hour_or_what_is_asked_for() {
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
    fn a_bad_overlap_is_refused_and_not_repeated() {
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
