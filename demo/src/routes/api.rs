//! The API that clients call with their tokens.

use axum::extract::State;
use axum::routing::get;
use axum::{Json, Router, middleware};
use chrono::SecondsFormat;
use serde_json::{Value, json};
use tower_api_token::{ApiTokenLayer, CachedApiToken};

use super::{AppState, live};
use crate::config::{Format, of_type};
use crate::observer;

/// Returns the routes. Each has a layer of its own, because it accepts another type of token.
pub(super) fn routes(state: &AppState) -> Router<AppState> {
    let layer = |token_type| {
        let layer = ApiTokenLayer::builder(state.cache.clone()).token_type(token_type);
        let layer = match state.format {
            Format::Checked => layer.token_format(of_type(token_type)),
            Format::Any => layer,
        };
        layer.build().expect("the cache declares these types")
    };
    Router::new()
        .route("/v1/whoami", get(describe).layer(layer("app")))
        .route("/v1/datasets", get(describe).layer(layer("dataset")))
        // Outside of the layers, to count what they reject too.
        .layer(middleware::from_fn_with_state(state.clone(), live::measure))
}

/// Responds with the token that the layer inserted into the request.
async fn describe(State(state): State<AppState>, token: CachedApiToken) -> Json<Value> {
    observer::observe(&state, &token);
    Json(json!({
        "id": token.id(),
        "app_id": token.app_id(),
        "tenant_id": token.tenant_id(),
        "token_type": token.token_type(),
        "origin": token.origin().to_string(),
        "last_used_at": token.last_used_at().map(|time| time.to_rfc3339_opts(SecondsFormat::AutoSi, true)),
    }))
}
