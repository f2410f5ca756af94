//! The routes, and what they share.

mod admin;
mod admin_auth;
mod api;
pub(crate) mod live;
mod new_tenant;
mod new_token;
mod openapi;
mod ops;
mod problem;
mod rotate;
mod token_list;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::CACHE_CONTROL;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_api_token::{ApiTokenCache, TokenDigest};

use crate::config::RedisKind;
use crate::db::{Database, Kept};
use crate::format::Format;
use crate::live::Live;
use crate::outbox::Outbox;

/// For answers that hold what is the operator's alone, or is over in a moment.
const NO_STORE: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// What handlers need, shared by all.
pub(crate) type AppState = Arc<Shared>;

/// The parts of one instance.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) database: Database,
    pub(crate) cache: ApiTokenCache,
    pub(crate) outbox: Outbox,
    pub(crate) metrics: PrometheusHandle,
    /// What the database keeps of a new token.
    pub(crate) kept: Kept,
    /// Which tokens are looked up and imported.
    pub(crate) format: Format,
    /// Of the bearer token for `/admin`.
    pub(crate) admin_digest: TokenDigest,
    /// How long a new token can go on being refused if its invalidation is not confirmed.
    pub(crate) negative_ttl: Duration,
    /// Which kind of Redis the store is, which can be away; without one it is memory.
    pub(crate) redis: Option<RedisKind>,
    /// What the live page is told.
    pub(crate) live: Live,
    /// How long a client may take to send a body.
    pub(crate) patience: Duration,
}

/// All routes.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .merge(api::routes(&state))
        .nest("/admin", admin::routes(&state))
        .merge(ops::routes())
        .merge(openapi::routes())
        .merge(live::routes())
        .with_state(state)
}
