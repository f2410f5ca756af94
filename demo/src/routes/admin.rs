//! The operator's API: creates and revokes tokens, suspends and resumes tenants.
//!
//! Every handler commits the change and its outbox row in one transaction, and then invalidates. A
//! successful response means that both are done. If the invalidation failed, the response is a 503 that
//! says so; the request may be repeated, and the outbox retries in the background.

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Path, Request, State};
use axum::http::StatusCode;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use axum::routing::{delete, get, post};
use axum::{Json, Router, middleware};
use serde_json::json;

use super::admin_auth::require_admin;
use super::new_tenant::NewTenantRequest;
use super::new_token::{NewTokenRequest, is_identifier};
use super::problem::{Problem, with_timeout};
use super::rotate::rotate_token;
use super::token_list::list_tokens;
use super::wait::{WaitQuery, parse_wait};
use super::{AppState, NO_STORE, live};
use crate::db::{InsertError, NewToken, Pending, TenantStatus, Timestamp};
use crate::{format, random};

/// The maximum length of a body, which no valid request comes near.
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
        // Outermost, around the fallback too, so that others cannot find out which routes exist.
        .layer(middleware::from_fn_with_state(state.clone(), require_admin))
}

/// Reads the whole body before the handler runs, within the client timeout. A client could otherwise hold a
/// connection open by sending a body byte by byte.
async fn read_body(State(state): State<AppState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    // With the parts, whose extensions hold the limit of the length.
    let body = Bytes::from_request(Request::from_parts(parts.clone(), body), &());
    match tokio::time::timeout(state.client_timeout, body).await {
        Ok(Ok(body)) => next.run(Request::from_parts(parts, Body::from(body))).await,
        Ok(Err(refused)) => refused.into_response(),
        Err(_) => {
            let detail = "the body was not received in time";
            Problem::new(StatusCode::REQUEST_TIMEOUT, detail).into_response()
        }
    }
}

async fn create_tenant(State(state): State<AppState>, body: Bytes) -> Result<Response, Problem> {
    let NewTenantRequest { id, name } = NewTenantRequest::parse(&body)?;
    if !with_timeout(state.database.insert_tenant(&id, &name)).await? {
        let detail = "id: a tenant with this id exists";
        return Err(Problem::new(StatusCode::CONFLICT, detail));
    }
    tracing::info!(id, "a tenant was created");
    let status = TenantStatus::Active.as_str();
    let body = json!({ "id": id, "name": name, "status": status });
    Ok((StatusCode::CREATED, NO_STORE, Json(body)).into_response())
}

/// Creates a token, or imports one whose text is given. Only this response contains the text.
async fn create_token(
    State(state): State<AppState>,
    wait: WaitQuery,
    body: Bytes,
) -> Result<Response, Problem> {
    let wait = parse_wait(wait)?;
    let now = Timestamp::now();
    let wanted = NewTokenRequest::parse(&body, now, state.format)?;
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
        text: state.stored_form.text(&text),
        created_at: now,
        expires_at: wanted.expires_at,
    };
    let pending = with_timeout(state.database.insert_token(&token))
        .await
        .map_err(|error| match error {
            InsertError::NoSuchTenant => {
                Problem::unprocessable("tenant_id: there is no such tenant")
            }
            InsertError::Duplicate => {
                Problem::new(StatusCode::CONFLICT, "token: this text is a token already")
            }
            InsertError::Database(error) => error.into(),
        })?;
    tracing::info!(
        id = token.id,
        tenant_id = token.tenant_id,
        "a token was created"
    );
    state.live.changed("created", "id", &token.id);

    // Somebody may have tried the text before it was a token, so that "unknown" is cached.
    if let Err(error) = state.outbox.confirm(&pending, wait).await {
        tracing::warn!(id = token.id, %error, "the new token's invalidation is not confirmed");
        let seconds = state.negative_ttl.as_secs();
        let detail = format!(
            "the token was created, but its invalidation is not confirmed: it may be rejected for up to \
             {seconds} s, or until the server, which keeps retrying, has invalidated it; only this response \
             contains its text"
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
    let wait = parse_wait(wait)?;
    if !is_identifier(&id) {
        return Err(Problem::not_found("token"));
    }
    let pending = with_timeout(state.database.revoke_token(&id))
        .await?
        .ok_or_else(|| Problem::not_found("token"))?;
    tracing::info!(id, "a token was revoked");
    state.live.changed("revoked", "id", &id);
    confirm(
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
    let wait = parse_wait(wait)?;
    if !is_identifier(&id) {
        return Err(Problem::not_found("tenant"));
    }
    let pending = with_timeout(state.database.set_tenant_status(&id, status))
        .await?
        .ok_or_else(|| Problem::not_found("tenant"))?;
    tracing::info!(id, status = status.as_str(), "a tenant's status was set");
    state.live.changed(status.as_str(), "tenant_id", &id);
    confirm(
        &state,
        &pending,
        wait,
        &format!("the tenant is {} in the database", status.as_str()),
    )
    .await
}

/// Invalidates, and responds with the result.
async fn confirm(
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
                "{done}, but the invalidation is not confirmed, so caches may still hold the old state: \
                 repeat the request until it succeeds; the server also keeps retrying"
            );
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail).with("confirmed", false))
        }
    }
}
