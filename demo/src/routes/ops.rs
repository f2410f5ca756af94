//! The routes for monitoring. They need no token, because their responses name no token and no tenant.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;
use tower_api_token::store::StoreErrorKind;

use super::{AppState, NO_STORE};
use crate::live::Health;

/// How long a probe waits for the database and for the store.
const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(async || (NO_STORE, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Serves `GET /readyz`. Ready means that requests succeed.
///
/// Without the database, tokens that are not cached cannot be checked, so the instance is not ready.
/// Without Redis every token can, by a query for each request, so the instance stays ready and reports
/// the store as unavailable. Taking it out of service would turn an outage of the cache into one of the
/// service.
async fn readyz(State(state): State<AppState>) -> Response {
    let health = health(&state).await;
    let ready = health.database;
    let mut body = json!({
        "status": if ready { "ready" } else { "not ready" },
        "database": if ready { "ok" } else { "unavailable" },
        "store": match (health.store, state.redis) {
            (false, _) => "unavailable",
            (true, Some(_)) => "ok",
            (true, None) => "in memory",
        },
    });
    if let (true, Some(kind)) = (health.store, state.redis) {
        body["store_kind"] = kind.to_string().into();
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, NO_STORE, Json(body)).into_response()
}

/// Probes the database and the store.
pub(super) async fn health(state: &AppState) -> Health {
    let database = tokio::time::timeout(PROBE_TIMEOUT, state.keys.database().check());
    let store = tokio::time::timeout(PROBE_TIMEOUT, state.cache.check_store());
    let (database, store) = tokio::join!(database, store);
    Health {
        database: matches!(database, Ok(Ok(()))),
        store: matches!(store, Ok(Ok(()))),
        breaker_open: matches!(store, Ok(Err(error)) if error.kind() == StoreErrorKind::CircuitOpen),
    }
}

async fn metrics(State(state): State<AppState>) -> Response {
    state.cache.publish_metrics();
    let mut text = state.metrics.render();
    let tasks = tokio::runtime::Handle::current()
        .metrics()
        .num_alive_tasks();
    // Writing to a String cannot fail.
    let _ = writeln!(
        text,
        "# HELP demo_tasks Tasks of the runtime that have not ended.\n# TYPE demo_tasks gauge\ndemo_tasks {tasks}"
    );
    // Unconfirmed invalidations are worth an alert. Without the database their number is unknown, and is
    // left out.
    if let Ok(Ok(pending)) = tokio::time::timeout(PROBE_TIMEOUT, state.keys.pending_count()).await {
        text.push_str(
            "# HELP demo_pending_invalidations Committed changes whose invalidation is not confirmed yet.\n\
             # TYPE demo_pending_invalidations gauge\n",
        );
        let _ = writeln!(text, "demo_pending_invalidations {pending}");
    }
    (
        NO_STORE,
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
