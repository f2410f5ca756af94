//! Deletes what ended long ago.

use chrono::{DateTime, Utc};

use crate::audit::{Entry, insert_audit};
use crate::core::Core;
use crate::database::pool::on_pool;
use crate::database::time::Timestamp;
use crate::error::Error;
use crate::outbox::commit::{Actor, Committed};

/// The most rows that one statement deletes, so that none holds locks for long.
const BATCH: i64 = 1_000;

/// Deletes some keys whose time in this column has passed.
///
/// The condition is repeated outside: PostgreSQL evaluates that one again when it has waited for a row, whose expiry
/// another transaction may have restored. `IS TRUE` keeps SQLite from using the index for it. guard: K17
pub(crate) fn delete(column: &str) -> String {
    format!(
        "DELETE FROM ~keys WHERE id IN (SELECT id FROM ~keys WHERE {column} < $1 LIMIT $2) \
            AND ({column} < $1) IS TRUE"
    )
}

/// Deletes keys that were revoked or have expired before `ended_before`, and returns their number.
///
/// Nothing has to be invalidated: a revoked key is unknown to caches already, or its row in the outbox stays until it is,
/// and no entry outlives its key's expiry.
pub(crate) async fn purge(
    core: &Core,
    ended_before: DateTime<Utc>,
    actor: Actor,
) -> Result<Committed<u64>, Error> {
    let now = core.now();
    // A key that has not ended yet stays, whatever the caller says. guard: K11
    let before = Timestamp::from(ended_before.min(now));
    let mut purged = 0;
    // One after the other, so that each has an index.
    for column in ["revoked_at", "expires_at"] {
        let delete = core.sql(&delete(column));
        loop {
            let deleted = on_pool!(&core.database, pool => {
                let mut transaction = pool.begin().await?;
                let delete = sqlx::query(&delete).persistent(false).bind(before).bind(BATCH);
                let deleted = delete.execute(&mut *transaction).await?.rows_affected();
                if deleted > 0 {
                    insert_audit!(core, transaction, Entry {
                        at: now,
                        action: "purged",
                        key_id: None,
                        tenant: None,
                        actor: actor.as_deref(),
                        detail: Some(&deleted.to_string()),
                    })?;
                }
                transaction.commit().await?;
                deleted
            });
            purged += deleted;
            if deleted < BATCH.unsigned_abs() {
                break;
            }
        }
    }
    Ok(Committed {
        value: purged,
        pending: Vec::new(),
    })
}
