//! The operator's API: the keys' own router, behind the admin token, with tenants and the live page's stream beside it.

use std::sync::Arc;

use axum::body::{Body, Bytes};
use axum::extract::{DefaultBodyLimit, FromRequest as _, Request, State};
use axum::http::StatusCode;
use axum::middleware::{Next, from_fn_with_state};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Router, middleware};
use tower_api_token_sqlx::{Actor, AdminSettings};

use super::admin_auth::require_admin;
use super::new_tenant::create_tenant;
use super::problem::Problem;
use super::{AppState, live};
use crate::config::{Format, TYPES};

/// The maximum length of a body, which no valid request comes near.
const BODY_LIMIT: usize = 16 * 1024;

pub(super) fn routes(state: &AppState) -> Router<AppState> {
    let keys = state.keys.admin_router_with(settings(state));
    Router::new()
        .route("/live", get(live::samples_and_changes))
        .route("/tenants", post(create_tenant))
        .merge(keys.with_state(()))
        .fallback(async || Problem::new(StatusCode::NOT_FOUND, "there is no such route"))
        .layer(from_fn_with_state(state.clone(), read_body))
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(axum::Extension(Actor::new("admin token")))
        // Outermost, around the fallback too, so that others cannot find out which routes exist.
        .layer(middleware::from_fn_with_state(state.clone(), require_admin))
}

fn settings(state: &AppState) -> AdminSettings {
    let (tables, live) = (state.tables.clone(), Arc::clone(&state.live));
    AdminSettings::new()
        .token_types(TYPES)
        .imports_have_format(state.format == Format::Checked)
        .known_tenants(move |tenant| {
            let tables = tables.clone();
            async move { Ok(tables.has_tenant(&tenant).await?) }
        })
        .on_commit(move |change| {
            let name = match change.action {
                "issued" | "imported" => "created",
                "resumed" => "active",
                action => action,
            };
            match &change.key_id {
                Some(id) => live.changed(name, "id", id),
                // The page reads the list again, and does not take it as a status of the tenant.
                None if name == "all_revoked" => live.changed(name, "tenant", &change.tenant_id),
                None => live.changed(name, "tenant_id", &change.tenant_id),
            }
        })
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
