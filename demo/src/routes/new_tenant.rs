//! `POST /admin/tenants`. Its body is checked by hand so that errors do not contain values.

use axum::Json;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde_json::{Map, Value, json};

use super::problem::{Problem, with_timeout};
use super::{AppState, NO_STORE};

/// The maximum length of an id or a name, in bytes.
const LONGEST: usize = 200;

pub(super) async fn create_tenant(
    State(state): State<AppState>,
    body: Bytes,
) -> Result<Response, Problem> {
    let (id, name) = parse(&body)?;
    if !with_timeout(state.tables.add_tenant(&id, &name)).await? {
        let detail = "id: a tenant with this id exists";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    tracing::info!(id, "a tenant was created");
    let body = json!({ "id": id, "name": name, "status": "active" });
    Ok((StatusCode::CREATED, NO_STORE, Json(body)).into_response())
}

/// Returns the tenant's id and its name, which defaults to the id.
fn parse(body: &[u8]) -> Result<(String, String), Problem> {
    let Ok(Value::Object(mut members)) = serde_json::from_slice(body) else {
        let detail = "the body is not a JSON object";
        return Err(Problem::new(StatusCode::BAD_REQUEST, detail));
    };
    let id = text(&mut members, "id")?.ok_or_else(|| unprocessable("id: missing"))?;
    let name = text(&mut members, "name")?.unwrap_or_else(|| id.clone());
    if members.is_empty() {
        Ok((id, name))
    } else {
        Err(unprocessable("unknown member; expected id and name"))
    }
}

fn text(members: &mut Map<String, Value>, name: &str) -> Result<Option<String>, Problem> {
    match members.remove(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text))
            if (1..=LONGEST).contains(&text.len()) && !text.chars().any(char::is_control) =>
        {
            Ok(Some(text))
        }
        Some(_) => Err(unprocessable(&format!(
            "{name}: not a string of 1 to {LONGEST} bytes without control characters"
        ))),
    }
}

fn unprocessable(detail: &str) -> Problem {
    Problem::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
}
