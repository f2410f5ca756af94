//! The column `last_used_at`.

use std::sync::Arc;

#[cfg(feature = "postgres")]
use sqlx::Postgres;
use sqlx::QueryBuilder;
#[cfg(feature = "sqlite")]
use sqlx::Sqlite;
use tower_api_token::BoxError;
use tower_api_token::last_use::{LastUse, LastUseSink};

use crate::core::Core;
use crate::database::pool::Database;
use crate::database::time::Timestamp;

/// Locks rows in the order of their ids: two instances that write the same keys at once could
/// otherwise deadlock. PostgreSQL checks the last condition again once it has the lock.
#[cfg(feature = "postgres")]
const POSTGRES: (&str, &str) = (
    "WITH used (id, at) AS (",
    "), locked AS ( \
        SELECT k.id, used.at FROM ~keys AS k JOIN used ON used.id = k.id \
        WHERE k.last_used_at IS NULL OR k.last_used_at < used.at \
        ORDER BY k.id FOR UPDATE OF k \
    ) UPDATE ~keys AS k SET last_used_at = locked.at FROM locked WHERE k.id = locked.id",
);

/// SQLite has one writer at a time, so no rows need to be locked.
// guard: K12
#[cfg(feature = "sqlite")]
const SQLITE: (&str, &str) = (
    "WITH used (id, at) AS (",
    ") UPDATE ~keys AS k SET last_used_at = used.at FROM used WHERE k.id = used.id \
      AND (k.last_used_at IS NULL OR k.last_used_at < used.at)",
);

/// The most rows of one statement: each has two values, and databases limit those of a statement to 32,766 (SQLite)
/// and 65,535 (PostgreSQL).
const MOST_ROWS: usize = 1_000;

/// Writes last uses to the table of keys; see [`ApiKeys::last_use_sink`](crate::ApiKeys::last_use_sink).
#[derive(Debug, Clone)]
pub struct KeyLastUses {
    core: Arc<Core>,
}

impl KeyLastUses {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self { core }
    }

    /// Writes some uses in one statement. A time never moves back, so repeated and late writes change nothing.
    async fn write_rows(&self, uses: &[LastUse]) -> Result<u64, sqlx::Error> {
        /// Runs the statement with its values on a pool of either database.
        macro_rules! write {
            ($pool:expr, $kind:ty, $statement:expr) => {{
                let (before, after) = $statement;
                let mut statement = QueryBuilder::<$kind>::new(before);
                statement.push_values(uses, |mut row, used| {
                    let at = Timestamp::from(used.last_used_at());
                    row.push_bind(used.token_id()).push_bind(at);
                });
                statement.push(self.core.sql(after));
                let mut transaction = $pool.begin().await?;
                let statement = statement.build().persistent(false);
                let written = statement.execute(&mut *transaction).await?.rows_affected();
                transaction.commit().await?;
                written
            }};
        }
        Ok(match &self.core.database {
            #[cfg(feature = "sqlite")]
            Database::Sqlite(pool) => write!(pool, Sqlite, SQLITE),
            #[cfg(feature = "postgres")]
            Database::Postgres(pool) => write!(pool, Postgres, POSTGRES),
        })
    }
}

impl LastUseSink for KeyLastUses {
    async fn write(&self, batch: Vec<LastUse>) -> Result<(), BoxError> {
        for uses in batch.chunks(MOST_ROWS) {
            let changed = self.write_rows(uses).await?;
            tracing::debug!(uses = uses.len(), changed, "last uses were written");
        }
        Ok(())
    }
}
