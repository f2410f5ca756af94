//! The outbox: an invalidation that is recorded together with its change, so that it survives a crash between the
//! two, and an outage of Redis.
//!
//! The guide on deployment shows this file, without its first lines; a test compares the two.

use std::time::Duration;

use sqlx::{PgConnection, PgPool};
use tower_api_token::{ApiTokenCache, BoxError, Invalidation, TokenDigest};

/// Records in the transaction of a change that a token has to be invalidated. Returns the row's id.
pub(crate) async fn owe_token(
    transaction: &mut PgConnection,
    digest: TokenDigest,
) -> Result<i64, sqlx::Error> {
    owe(transaction, "token_digest", &digest.to_string()).await
}

/// Records in the transaction of a change that a tenant has to be invalidated. Returns the row's id.
pub(crate) async fn owe_tenant(
    transaction: &mut PgConnection,
    id: &str,
) -> Result<i64, sqlx::Error> {
    owe(transaction, "tenant", id).await
}

async fn owe(
    transaction: &mut PgConnection,
    kind: &str,
    subject: &str,
) -> Result<i64, sqlx::Error> {
    const INSERT: &str =
        "INSERT INTO pending_invalidations (kind, subject) VALUES ($1, $2) RETURNING id";
    let insert = sqlx::query_scalar(INSERT).bind(kind).bind(subject);
    insert.fetch_one(transaction).await
}

/// Performs the invalidation of a committed change, and then removes its row.
///
/// The row is removed by its own id: a later change of the same token has another one.
pub(crate) async fn confirm(
    database: &PgPool,
    row: i64,
    invalidation: Invalidation<()>,
) -> Result<(), BoxError> {
    invalidation.await?;
    let delete = sqlx::query("DELETE FROM pending_invalidations WHERE id = $1");
    delete.bind(row).execute(database).await?;
    Ok(())
}

/// Performs what others recorded and did not confirm, on each instance, forever. If two perform the same invalidation,
/// that costs a command.
pub(crate) async fn work_off(database: PgPool, cache: ApiTokenCache) {
    loop {
        tokio::time::sleep(Duration::from_secs(1)).await;
        if let Err(error) = round(&database, &cache).await {
            eprintln!("invalidations are pending: {error}");
        }
    }
}

pub(crate) async fn round(database: &PgPool, cache: &ApiTokenCache) -> Result<(), BoxError> {
    // What is read here is committed, so that the invalidation follows the commit.
    const SELECT: &str = "SELECT id, kind, subject FROM pending_invalidations ORDER BY id";
    let rows: Vec<(i64, String, String)> = sqlx::query_as(SELECT).fetch_all(database).await?;
    for (row, kind, subject) in rows {
        let invalidation = if kind == "tenant" {
            cache.invalidate_tenant(&subject)
        } else {
            cache.invalidate_digest(subject.parse()?)
        };
        confirm(database, row, invalidation).await?;
    }
    Ok(())
}
