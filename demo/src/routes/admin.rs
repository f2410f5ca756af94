//! What the operator calls: tokens are made and revoked, tenants suspended and resumed.
//!
//! Every handler has the same order: the change and its outbox row in one transaction, then the
//! invalidation. An answer of success means that both are done. If only the first is, the answer is
//! 503 and says so; the request may be repeated as often as one likes, and the outbox goes on by
//! itself.

use std::collections::HashMap;

use axum::body::{Body, Bytes};
use axum::extract::rejection::QueryRejection;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Path, Query, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use serde_json::json;

use super::admin_auth::require_admin;
use super::new_tenant::WantedTenant;
use super::new_token::{Wanted, is_identifier};
use super::problem::{Problem, within_deadline};
use super::rotate::rotate_token;
use super::token_list::list_tokens;
use super::{AppState, NO_STORE, live};
use crate::db::{InsertError, NewToken, Pending, TenantStatus, Timestamp};
use crate::{format, random};

/// The largest body: a token request is far smaller.
const BODY_LIMIT: usize = 16 * 1024;

pub(super) fn routes(state: &AppState) -> Router<AppState> {
    Router::new()
        .route("/live", get(live::samples_and_changes))
        .route("/tokens", get(list_tokens).post(create_token))
        .route("/tokens/{id}", delete(revoke_token))
        .route("/tokens/{id}/rotate", post(rotate_token))
        .route("/tenants", post(create_tenant))
        .route("/tenants/{id}/suspend", post(suspend_tenant))
        .route("/tenants/{id}/resume", post(resume_tenant))
        .fallback(async || Problem::not_found("route"))
        .layer(middleware::from_fn_with_state(state.clone(), read_body))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        // Outermost, the fallback included: a stranger does not learn which routes there are.
        .layer(middleware::from_fn_with_state(state.clone(), require_admin))
}

/// Reads the whole body before its handler does, for as long as a client may take. One that is sent byte by byte
/// would hold its connection for as long as the client likes.
async fn read_body(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // With the parts, which the limit of its length is in.
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    match tokio::time::timeout(state.patience, body).await {
        Ok(Ok(body)) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => {
            let detail = "the body did not come in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

async fn create_tenant(State(state): State<AppState>, body: Bytes) -> Result<Response, Problem> {
    let WantedTenant { id, name } = WantedTenant::parse(&body)?;
    let inserted = within_deadline(state.database.insert_tenant(&id, &name))
        .await
        .map_err(|error: sqlx::Error| Problem::database(&error))?;
    if !inserted {
        let detail = "id: there is a tenant of this id already";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    tracing::info!(id, "a tenant was created");
    let status = TenantStatus::Active.as_str();
    let body = json!({ "id": id, "name": name, "status": status });
    Ok((StatusCode::CREATED, NO_STORE, Json(body)).into_response())
}

/// Makes a token, or imports one whose text is given. The text is answered here and never again.
async fn create_token(
    State(state): State<AppState>,
    wait: WaitQuery,
    body: Bytes,
) -> Result<Response, Problem> {
    let wait = asked_to_wait(wait)?;
    let now = Timestamp::now();
    let wanted = Wanted::parse(&body, now, state.format)?;
    let text = match wanted.token {
        Some(text) => text,
        None => format::of_type(wanted.token_type)
            .generate()
            .map_err(|error| Problem::no_randomness(&error))?,
    };
    let token = NewToken {
        id: random::id("tok").map_err(|error| Problem::no_randomness(&error))?,
        tenant_id: wanted.tenant_id,
        app_id: wanted.app_id,
        token_type: wanted.token_type,
        digest: text.digest(),
        text: state.kept.text(&text),
        created_at: now,
        expires_at: wanted.expires_at,
    };
    let pending = within_deadline(state.database.insert_token(&token))
        .await
        .map_err(|error| match error {
            InsertError::NoSuchTenant => {
                Problem::unprocessable("tenant_id: there is no such tenant")
            }
            InsertError::Duplicate => {
                Problem::new(StatusCode::CONFLICT, "token: this text is a token already")
            }
            InsertError::Database(error) => Problem::database(&error),
        })?;
    tracing::info!(
        id = token.id,
        tenant_id = token.tenant_id,
        "a token was created"
    );
    state.live.changed("created", "id", &token.id);

    // Somebody may have tried the text before it was a token, and then it is cached that there is
    // none.
    if let Err(error) = state.outbox.confirm(&pending, wait).await {
        tracing::warn!(id = token.id, %error, "the new token's invalidation is not confirmed");
        let seconds = state.negative_ttl.as_secs();
        let detail = format!(
            "the token was created and its text is shown only here, but the cache could not be told: \
             it may be refused for up to {seconds} s, or until the server has told the cache, which it goes on trying"
        );
        // The only copy of the text: without it the token would be lost.
        return Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail)
            .with("confirmed", false)
            .with("id", token.id)
            .with("token", text.expose()));
    }
    let body = json!({
        "id": token.id,
        "token": text.expose(),
        "tenant_id": token.tenant_id,
        "app_id": token.app_id,
        "type": token.token_type,
        "created_at": token.created_at.to_string(),
        "expires_at": token.expires_at.map(|end| end.to_string()),
    });
    Ok((StatusCode::CREATED, NO_STORE, Json(body)).into_response())
}

async fn revoke_token(
    State(state): State<AppState>,
    Path(id): Path<String>,
    wait: WaitQuery,
) -> Result<Response, Problem> {
    let wait = asked_to_wait(wait)?;
    if !is_identifier(&id) {
        return Err(Problem::not_found("token"));
    }
    let pending = within_deadline(state.database.revoke_token(&id))
        .await
        .map_err(|error| Problem::database(&error))?
        .ok_or_else(|| Problem::not_found("token"))?;
    tracing::info!(id, "a token was revoked");
    state.live.changed("revoked", "id", &id);
    confirmed(
        &state,
        &pending,
        wait,
        "the token is revoked in the database",
    )
    .await
}

async fn suspend_tenant(
    state: State<AppState>,
    id: Path<String>,
    wait: WaitQuery,
) -> Result<Response, Problem> {
    set_tenant_status(state, id, wait, TenantStatus::Suspended).await
}

async fn resume_tenant(
    state: State<AppState>,
    id: Path<String>,
    wait: WaitQuery,
) -> Result<Response, Problem> {
    set_tenant_status(state, id, wait, TenantStatus::Active).await
}

async fn set_tenant_status(
    State(state): State<AppState>,
    Path(id): Path<String>,
    wait: WaitQuery,
    status: TenantStatus,
) -> Result<Response, Problem> {
    let wait = asked_to_wait(wait)?;
    if !is_identifier(&id) {
        return Err(Problem::not_found("tenant"));
    }
    let pending = within_deadline(state.database.set_tenant_status(&id, status))
        .await
        .map_err(|error| Problem::database(&error))?
        .ok_or_else(|| Problem::not_found("tenant"))?;
    tracing::info!(id, status = status.as_str(), "a tenant's status was set");
    state.live.changed(status.as_str(), "tenant_id", &id);
    confirmed(
        &state,
        &pending,
        wait,
        &format!("the tenant is {} in the database", status.as_str()),
    )
    .await
}

/// Invalidates, and answers what came of it.
async fn confirmed(
    state: &AppState,
    pending: &Pending,
    wait: bool,
    done: &str,
) -> Result<Response, Problem> {
    match state.outbox.confirm(pending, wait).await {
        Ok(()) => Ok((NO_STORE, Json(json!({ "confirmed": true }))).into_response()),
        Err(error) => {
            tracing::warn!(%error, "an invalidation is not confirmed");
            let detail = format!(
                "{done} and stays so, but the cache could not confirm that it forgot the old state: \
                 repeat the request until it is confirmed; meanwhile the server goes on trying by itself"
            );
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with("confirmed", false))
        }
    }
}

pub(super) type WaitQuery = Result<Query<HashMap<String, String>>, QueryRejection>;

/// `?wait=true`: answer only when no instance can use the old state any more.
pub(super) fn asked_to_wait(query: WaitQuery) -> Result<bool, Problem> {
    let bad = || Problem::new(StatusCode::BAD_REQUEST, "wait: neither true nor false");
    let Query(query) = query.map_err(|_| bad())?;
    match query.get("wait").map(String::as_str) {
        None | Some("false") => Ok(false),
        Some("true") => Ok(true),
        Some(_) => Err(bad()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wait_is_true_false_or_left_out() {
        let ask = |query: &str| {
            let uri = format!("/?{query}").parse().unwrap();
            asked_to_wait(Query::try_from_uri(&uri))
        };
        assert!(ask("wait=true").unwrap());
        assert!(!ask("wait=false").unwrap());
        assert!(!ask("").unwrap());
        assert!(ask("wait=yes").is_err());
        assert!(ask("wait").is_err());
    }
}
