//! What the cache asks the database.

use std::time::Duration;

use chrono::DateTime;
use tower_api_token::{Lookup, TokenRecord};

use crate::db::{Database, TokenRow};

/// Answers one look-up of the cache.
///
/// The query runs when it is called, in a statement of its own on the primary: no transaction
/// that began before, no snapshot from before. protocol.md needs that (rule N5): a fill is safe because the
/// load began after the lease was taken, so an invalidation that comes between takes the lease
/// away. A query that saw the database as it was *before* the lease (inside an older transaction,
/// or on a replica that lags) would bring a token back that was revoked and invalidated in the
/// meantime, until its time to live is over.
///
/// # Errors
/// The database's; the cache answers 503 and remembers nothing.
pub async fn load(
    database: Database,
    delay: Duration,
    lookup: Lookup,
) -> Result<Option<TokenRecord>, sqlx::Error> {
    let row = database.find_token(lookup.digest()).await?;
    // After the query and never before: what is held back is an answer that may have grown old,
    // which is the very thing the protocol is there for.
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    Ok(row.map(record))
}

/// A token of a suspended tenant is denied; resuming the tenant invalidates it, and with it the denial. The
/// type and the expiry are checked on each request, after the cache.
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
