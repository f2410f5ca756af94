//! The column `last_used_at`.

#[cfg(feature = "postgres")]
use sqlx::Postgres;
use sqlx::{QueryBuilder, Sqlite};

use super::{Database, Timestamp};

/// Locks rows in the order of their ids: two instances that write the same tokens at once could
/// otherwise deadlock. PostgreSQL checks the last condition again once it has the lock.
#[cfg(feature = "postgres")]
const POSTGRES: (&str, &str) = (
    "WITH used (id, at) AS (",
    "), locked AS ( \
        SELECT tokens.id, used.at FROM tokens JOIN used ON used.id = tokens.id \
        WHERE tokens.last_used_at IS NULL OR tokens.last_used_at < used.at \
        ORDER BY tokens.id FOR UPDATE OF tokens \
    ) UPDATE tokens SET last_used_at = locked.at FROM locked WHERE tokens.id = locked.id",
);

/// SQLite has one writer at a time, so no rows need to be locked.
const SQLITE: (&str, &str) = (
    "WITH used (id, at) AS (",
    ") UPDATE tokens SET last_used_at = used.at FROM used WHERE tokens.id = used.id \
      AND (tokens.last_used_at IS NULL OR tokens.last_used_at < used.at)",
);

/// Runs the statement with its values on a pool of either database.
macro_rules! record {
    ($pool:expr, $kind:ty, $statement:expr, $uses:expr) => {{
        let (before, after) = $statement;
        let mut statement = QueryBuilder::<$kind>::new(before);
        statement.push_values($uses, |mut row, (id, at)| {
            row.push_bind(*id).push_bind(*at);
        });
        statement.push(after);
        let statement = statement.build().persistent(false);
        let mut transaction = $pool.begin().await?;
        let written = statement.execute(&mut *transaction).await?.rows_affected();
        transaction.commit().await?;
        written
    }};
}

impl Database {
    /// Writes when tokens were last used, in one statement, and returns the number of rows that changed.
    ///
    /// A time never moves back, so repeated and late writes change nothing. Each id must occur only once.
    pub async fn record_uses(&self, uses: &[(&str, Timestamp)]) -> Result<u64, sqlx::Error> {
        if uses.is_empty() {
            return Ok(0);
        }
        Ok(match self {
            Self::Sqlite(pool) => record!(pool, Sqlite, SQLITE, uses),
            #[cfg(feature = "postgres")]
            Self::Postgres(pool) => record!(pool, Postgres, POSTGRES, uses),
        })
    }
}
