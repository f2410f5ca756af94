//! The changes: what the operator calls, with a token of its own type.

use std::future::Future;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use sqlx::PgPool;
use tower_api_token::{ApiTokenCache, BoxError, Invalidation};

use crate::tokens;

#[derive(Clone)]
struct Service {
    database: PgPool,
    cache: ApiTokenCache,
}

/// 204: changed, and confirmed by the cache. 404: no such token or tenant. 503: perhaps changed, and not
/// confirmed; to be repeated.
pub(crate) fn routes(database: PgPool, cache: ApiTokenCache) -> Router {
    Router::new()
        .route("/tokens/{id}/revoke", post(revoke))
        .route("/tenants/{id}/suspend", post(suspend))
        .route("/tenants/{id}/resume", post(resume))
        .with_state(Service { database, cache })
}

async fn revoke(State(service): State<Service>, Path(id): Path<String>) -> StatusCode {
    to_its_end(async move {
        // The statement is a transaction of its own: it is committed when it returns. An invalidation before
        // the commit would let another request load and cache the token as it was.
        let Some(digest) = tokens::revoke(&service.database, &id).await? else {
            return Ok(StatusCode::NOT_FOUND);
        };
        confirm(service.cache.invalidate_digest(digest)).await
    })
    .await
}

async fn suspend(service: State<Service>, id: Path<String>) -> StatusCode {
    set_suspended(service, id, true).await
}

async fn resume(service: State<Service>, id: Path<String>) -> StatusCode {
    set_suspended(service, id, false).await
}

async fn set_suspended(
    State(service): State<Service>,
    Path(tenant): Path<String>,
    suspended: bool,
) -> StatusCode {
    to_its_end(async move {
        if !tokens::suspend(&service.database, &tenant, suspended).await? {
            return Ok(StatusCode::NOT_FOUND);
        }
        // One command, however many tokens the tenant has.
        confirm(service.cache.invalidate_tenant(&tenant)).await
    })
    .await
}

/// `wait_for_all_instances`: when the operator reads 204, no instance lets the old state pass, not for a second either.
async fn confirm(invalidation: Invalidation<()>) -> Result<StatusCode, BoxError> {
    invalidation.wait_for_all_instances().await?;
    Ok(StatusCode::NO_CONTENT)
}

/// A client that hangs up ends its handler, and must not end it between the commit and the invalidation.
async fn to_its_end<F>(change: F) -> StatusCode
where
    F: Future<Output = Result<StatusCode, BoxError>> + Send + 'static,
{
    match tokio::spawn(change).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            eprintln!("a change is not confirmed: {error}");
            StatusCode::SERVICE_UNAVAILABLE
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
