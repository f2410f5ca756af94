//! What monitoring calls. No token is needed: nothing here names a token or a tenant.

use std::fmt::Write as _;
use std::time::Duration;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

use super::{AppState, NO_STORE};

/// How long readiness waits for the database and for the store.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(async || (NO_STORE, "ok\n")))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
}

/// Ready means: requests succeed. Without the database a token that is not cached cannot be judged:
/// not ready. Without Redis every token can, by asking the database each time, so the instance
/// stays ready and reports the store as unavailable; taking it out of service would turn an outage
/// of the cache into one of the service.
async fn readyz(State(state): State<AppState>) -> Response {
    let database = tokio::time::timeout(PROBE_TIMEOUT, state.database.ping());
    let store = tokio::time::timeout(PROBE_TIMEOUT, state.cache.check_store());
    let (database, store) = tokio::join!(database, store);
    let ready = matches!(database, Ok(Ok(())));
    let mut body = json!({
        "status": if ready { "ready" } else { "not ready" },
        "database": if ready { "ok" } else { "unavailable" },
        "store": if !matches!(store, Ok(Ok(()))) {
            "unavailable"
        } else if state.redis.is_some() {
            "ok"
        } else {
            "in memory"
        },
    });
    // Beside a store that answers; one in memory has no other kind.
    if let (Ok(Ok(())), Some(kind)) = (&store, state.redis) {
        body["store_kind"] = kind.to_string().into();
    }
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    (status, NO_STORE, Json(body)).into_response()
}

async fn metrics(State(state): State<AppState>) -> Response {
    state.cache.publish_metrics();
    let mut text = state.metrics.render();
    // Unconfirmed invalidations are worth an alert. Without the database the number is left out,
    // not invented.
    if let Ok(Ok(owed)) = tokio::time::timeout(PROBE_TIMEOUT, state.database.pending_count()).await
    {
        text.push_str(
            "# HELP demo_pending_invalidations Invalidations that are committed and not yet confirmed.\n\
             # TYPE demo_pending_invalidations gauge\n",
        );
        // Writing to a String cannot fail.
        let _ = writeln!(text, "demo_pending_invalidations {owed}");
    }
    (
        NO_STORE,
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}
