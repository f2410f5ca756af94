//! The loader: the query that the cache runs on a miss.

use std::time::Duration;

use chrono::DateTime;
use tower_api_token::{Lookup, TokenRecord};

use crate::db::{Database, TokenRow};

/// Loads the token of a lookup.
///
/// The query begins when this is called and runs on the primary, outside of any older transaction or
/// snapshot. The cache depends on that: it takes a lease before it calls the loader, and an invalidation
/// in between takes the lease away. A query that saw the database as it was *before* the lease (inside
/// an older transaction, or on a replica that lags) could revive a token that was revoked and invalidated
/// in the meantime, until its cache entry expires.
///
/// # Errors
/// Returns the database's error. The cache then answers 503 and stores nothing.
pub async fn load(
    database: Database,
    delay: Duration,
    lookup: Lookup,
) -> Result<Option<TokenRecord>, sqlx::Error> {
    let row = database.find_token(lookup.digest()).await?;
    // After the query, never before: a delayed answer may be out of date when it arrives, which is the
    // race that the demo is to show.
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(row.map(record))
}

/// Converts a row. A token of a suspended tenant is denied; resuming the tenant invalidates that answer.
/// The type and the expiry are checked by the cache on each request.
fn record(row: TokenRow) -> TokenRecord {
    let record = TokenRecord::new(row.id)
        .token_type(row.token_type)
        .digest(row.digest)
        .tenant_id(row.tenant_id)
        .app_id(row.app_id)
        .created_at(DateTime::from(row.created_at))
        .expires_at(row.expires_at.map(DateTime::from))
        .last_used_at(row.last_used_at.map(DateTime::from));
    if row.tenant_suspended {
        record.denied("tenant suspended")
    } else {
        record
    }
}
