//! Performs the invalidations that the triggers of `tokens.sql` record together with each change.

use std::time::Duration;

use sqlx::PgPool;
use tokio::task::JoinSet;
use tower_api_token::{ApiTokenCache, BoxError};

/// How long a change waits at most, before its invalidation begins. The statement reads a table that is almost always
/// empty.
const PAUSE: Duration = Duration::from_millis(250);

/// Performs invalidations forever. If several instances perform the same one, that costs a command of Redis.
pub(crate) async fn work_off(database: PgPool, cache: ApiTokenCache) {
    let mut fails = false;
    loop {
        match round(&database, &cache).await {
            Ok(()) => fails = false,
            Err(error) if !fails => {
                eprintln!("invalidations are pending: {error}");
                fails = true;
            }
            Err(_) => {}
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn round(database: &PgPool, cache: &ApiTokenCache) -> Result<(), BoxError> {
    // What is read here is committed, so that each invalidation follows its commit.
    const SELECT: &str =
        "SELECT id, kind, subject FROM pending_invalidations ORDER BY id LIMIT 100";
    let rows: Vec<(i64, String, String)> = sqlx::query_as(SELECT).fetch_all(database).await?;
    // All at once, because each of them waits until every instance answers from the changed data.
    let mut invalidations = JoinSet::new();
    for (row, kind, subject) in rows {
        invalidations.spawn(perform(database.clone(), cache.clone(), row, kind, subject));
    }
    while let Some(performed) = invalidations.join_next().await {
        performed??;
    }
    Ok(())
}

async fn perform(
    database: PgPool,
    cache: ApiTokenCache,
    row: i64,
    kind: String,
    subject: String,
) -> Result<(), BoxError> {
    let invalidation = if kind == "tenant" {
        cache.invalidate_tenant(&subject)
    } else {
        cache.invalidate_digest(subject.parse()?)
    };
    invalidation.wait_for_all_instances().await?;
    // By its own id: a later change of the same token has another row.
    let delete = sqlx::query("DELETE FROM pending_invalidations WHERE id = $1");
    delete.bind(row).execute(&database).await?;
    Ok(())
}
