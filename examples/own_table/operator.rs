//! The operator's API: changes, with a token of another type.

use std::future::Future;
use std::time::Duration;

use axum::Router;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::routing::post;
use sqlx::PgPool;
use tower_api_token::{ApiTokenCache, BoxError, Invalidation};

use crate::{outbox, tokens};

/// How long an operator waits for a Redis that is away.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(Clone)]
struct Service {
    database: PgPool,
    cache: ApiTokenCache,
}

/// Returns the routes. They respond with 204 if the change is made and its invalidation confirmed, and with
/// 404 if there is no such token or tenant. After a 503, the change may have been made; repeat the request.
pub(crate) fn routes(database: PgPool, cache: ApiTokenCache) -> Router {
    Router::new()
        .route("/tokens/{id}/revoke", post(revoke))
        .route("/tenants/{id}/suspend", post(suspend))
        .route("/tenants/{id}/resume", post(resume))
        .with_state(Service { database, cache })
}

async fn revoke(State(service): State<Service>, Path(id): Path<String>) -> StatusCode {
    to_its_end(async move {
        // It is committed when it returns. After an invalidation before the commit, another request could load and
        // cache the old state.
        let Some((digest, row)) = tokens::revoke(&service.database, &id).await? else {
            return Ok(StatusCode::NOT_FOUND);
        };
        service
            .confirm(row, service.cache.invalidate_digest(digest))
            .await
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
        let Some(row) = tokens::suspend(&service.database, &tenant, suspended).await? else {
            return Ok(StatusCode::NOT_FOUND);
        };
        // One command for all tokens of the tenant.
        service
            .confirm(row, service.cache.invalidate_tenant(&tenant))
            .await
    })
    .await
}

impl Service {
    /// Performs the invalidation of a committed change. When the operator receives the 204, no instance uses the old
    /// state. After an error, the outbox continues.
    async fn confirm(
        &self,
        row: i64,
        invalidation: Invalidation<()>,
    ) -> Result<StatusCode, BoxError> {
        let invalidation = invalidation.wait_for_all_instances().retry_for(PATIENCE);
        outbox::confirm(&self.database, row, invalidation).await?;
        Ok(StatusCode::NO_CONTENT)
    }
}

/// Runs a change in a task of its own: if the client disconnects, the handler is dropped, which must not
/// happen between the commit and the invalidation.
async fn to_its_end<F>(change: F) -> StatusCode
where
    F: Future<Output = Result<StatusCode, BoxError>> + Send + 'static,
{
    match tokio::spawn(change).await {
        Ok(Ok(status)) => status,
        Ok(Err(error)) => {
            eprintln!("a change was not confirmed: {error}");
            StatusCode::SERVICE_UNAVAILABLE
        }
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR,
    }
}
