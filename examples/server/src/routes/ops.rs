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
use tower_api_token::Stats;

use super::AppState;

/// How long readiness waits for the database and for the store.
pub(super) const PROBE_TIMEOUT: Duration = Duration::from_secs(1);

pub(super) fn routes() -> Router<AppState> {
    Router::new()
        .route("/healthz", get(async || "ok\n"))
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
    (status, Json(body)).into_response()
}

async fn metrics(State(state): State<AppState>) -> Response {
    let mut text = exposition(&state.cache.stats());
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
        [(CONTENT_TYPE, "text/plain; version=0.0.4; charset=utf-8")],
        text,
    )
        .into_response()
}

/// Name, help, and where the number is.
type Counter = (&'static str, &'static str, fn(&Stats) -> u64);

const COUNTERS: [Counter; 10] = [
    (
        "api_token_loads_total",
        "Loads from the database.",
        |stats| stats.loads,
    ),
    (
        "api_token_load_failures_total",
        "Loads that failed.",
        |stats| stats.load_failures,
    ),
    (
        "api_token_joined_total",
        "Look-ups that shared the flight of another.",
        |stats| stats.joined,
    ),
    (
        "api_token_store_errors_total",
        "Commands of the store that failed.",
        |stats| stats.store_errors,
    ),
    (
        "api_token_invalidations_total",
        "Invalidations that were confirmed.",
        |stats| stats.invalidations,
    ),
    (
        "api_token_invalidation_failures_total",
        "Invalidations that were not confirmed.",
        |stats| stats.invalidation_failures,
    ),
    (
        "api_token_usage_recorded_total",
        "Last uses that were recorded.",
        |stats| stats.usage_recorded,
    ),
    (
        "api_token_usage_written_total",
        "Last uses that were written to the database.",
        |stats| stats.usage_written,
    ),
    (
        "api_token_usage_dropped_total",
        "Last uses that were given up.",
        |stats| stats.usage_dropped,
    ),
    (
        "api_token_usage_failures_total",
        "Writes of last uses that failed and are tried again.",
        |stats| stats.usage_failures,
    ),
];

/// The cache's counters as Prometheus reads them. The labels are words of our own and need no
/// escaping.
fn exposition(stats: &Stats) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for (name, help, value) in COUNTERS {
        let value = value(stats);
        let _ = writeln!(
            text,
            "# HELP {name} {help}\n# TYPE {name} counter\n{name} {value}"
        );
    }
    text.push_str(
        "# HELP api_token_lookups_total Look-ups of tokens, by outcome and by where the answer came from.\n\
         # TYPE api_token_lookups_total counter\n",
    );
    for (outcome, origin, count) in stats.lookups() {
        let origin = origin.map_or_else(|| "none".to_owned(), |origin| origin.to_string());
        let _ = writeln!(
            text,
            "api_token_lookups_total{{outcome=\"{outcome}\",origin=\"{origin}\"}} {count}"
        );
    }
    text
}
