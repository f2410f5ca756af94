//! The routes and their shared state.

mod admin;
mod admin_auth;
mod api;
pub(crate) mod live;
mod new_tenant;
mod openapi;
mod ops;
mod problem;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::http::HeaderName;
use axum::http::header::CACHE_CONTROL;
use metrics_exporter_prometheus::PrometheusHandle;
use tower_api_token::{ApiTokenCache, TokenDigest};
use tower_api_token_sqlx::ApiKeys;

use crate::canary::Canary;
use crate::config::{Format, RedisKind};
use crate::live::Live;
use crate::observer::Observer;
use crate::tables::Tables;

/// The header of responses that are secret or soon out of date.
const NO_STORE: [(HeaderName, &str); 1] = [(CACHE_CONTROL, "no-store")];

/// The state that handlers share.
pub(crate) type AppState = Arc<Shared>;

/// The parts of this instance.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) keys: ApiKeys,
    pub(crate) tables: Tables,
    pub(crate) cache: ApiTokenCache,
    pub(crate) metrics: PrometheusHandle,
    /// Which tokens are looked up and imported.
    pub(crate) format: Format,
    /// The digest of the bearer token for `/admin`.
    pub(crate) admin_digest: TokenDigest,
    /// The kind of Redis; `None` for a store in memory.
    pub(crate) redis: Option<RedisKind>,
    /// The events of the live page.
    pub(crate) live: Arc<Live>,
    /// The other instance that the live page compares with; `None` for a store in memory.
    pub(crate) observer: Option<Observer>,
    /// What measures revocations; `None` for a store in memory, or if it is turned off.
    pub(crate) canary: Option<Canary>,
    /// How long a client may take to send a body.
    pub(crate) client_timeout: Duration,
}

/// Returns all routes.
pub(crate) fn router(state: AppState) -> Router {
    Router::new()
        .merge(api::routes(&state))
        .nest("/admin", admin::routes(&state))
        .merge(ops::routes())
        .merge(openapi::routes())
        .merge(live::routes())
        .with_state(state)
}
