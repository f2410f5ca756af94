//! Rotations. A key is rotated once. A repeated request is answered with 409 and the successor's id: it cannot be answered
//! with the successor's text, which is not stored, and must not create a second successor.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::{Value, json};

use crate::admin::body;
use crate::admin::problem::Problem;
use crate::admin::query::{self, Parameters};
use crate::admin::settings::{Admin, By, with_timeout};
use crate::admin::show;

/// The default overlap. An hour is long enough to deploy a new secret, and short enough to watch until the
/// old one has expired.
const DEFAULT_OVERLAP: Duration = Duration::from_secs(60 * 60);

/// The maximum overlap: a week. A caller who needs both secrets for longer needs two keys.
const LONGEST_OVERLAP: u64 = 7 * 24 * 60 * 60;

pub(crate) async fn rotate(
    State(admin): State<Arc<Admin>>,
    by: By,
    Path(id): Path<String>,
    parameters: Parameters,
    body: Bytes,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let overlap = overlap(&body)?;
    let committed = admin
        .commit(admin.keys.rotate(&id, overlap), by, wait)
        .await?;
    let rotated = committed.value().clone();
    let (key, text) = (&rotated.successor.key, rotated.successor.token.expose());
    let predecessor = show::predecessor(&rotated.predecessor);
    admin.committed("rotated", Some(&id), &key.tenant_id);

    if let Err(error) = committed.confirm().await {
        show::warn(&error);
        let detail = "the token was rotated, but the invalidation of the old one is not confirmed, so caches may \
                      still hold its former expiry: the server keeps retrying; to get a confirmation, DELETE the \
                      old token once it is no longer used; only this response contains the new token's text";
        return Err(Problem::unconfirmed(detail)
            .with("id", key.id.as_str())
            .with("token", text)
            .with("predecessor", predecessor));
    }
    let mut body = show::key(key, admin.now());
    body["token"] = json!(text);
    body["predecessor"] = predecessor;
    Ok(show::response(StatusCode::CREATED, body))
}

/// Returns both keys of a rotation, with their last uses.
pub(crate) async fn state(
    State(admin): State<Arc<Admin>>,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let rotation = with_timeout(admin.keys.rotation(&id)).await?;
    let rotation = rotation.ok_or_else(|| Problem::not_found("rotation"))?;
    let now = admin.now();
    let body = json!({
        "predecessor": show::key(&rotation.predecessor, now),
        "successor": show::key(&rotation.successor, now),
        "still_used_at": rotation.still_used_at().map(show::time),
    });
    Ok(show::response(StatusCode::OK, body))
}

pub(crate) async fn undo(
    State(admin): State<Arc<Admin>>,
    by: By,
    Path(id): Path<String>,
    parameters: Parameters,
) -> Result<Response, Problem> {
    let wait = query::wait(parameters)?;
    let undone = admin
        .commit(admin.keys.undo_rotation(&id), by, wait)
        .await?;
    admin.committed("rotation_undone", Some(&id), &undone.value().tenant_id);
    let done = "the rotation is undone in the database";
    // Repeated, it would find no rotation.
    let next = "the server keeps retrying until it is confirmed";
    show::confirm(undone, (done, next), json!({})).await
}

/// Parses the body by hand, so that errors do not contain values. An empty body counts as an empty object.
fn overlap(body: &[u8]) -> Result<Duration, Problem> {
    if body.is_empty() {
        return Ok(DEFAULT_OVERLAP);
    }
    let mut members = body::members(body)?;
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
        let detail = "unknown member; expected overlap_seconds";
        Err(Problem::unprocessable(detail))
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
            let parsed = overlap(body.as_bytes()).unwrap();
            assert_eq!(parsed, Duration::from_secs(seconds), "{body}");
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
