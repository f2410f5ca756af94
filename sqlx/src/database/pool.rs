//! The two databases.
//!
//! Both understand the same statements (`$1`, `RETURNING`, `ON CONFLICT`), so each is written once. `on_connection!`
//! runs a single statement on either, and `on_pool!` a transaction. Opening, locking and migrations differ, and are in
//! `sqlite` and `postgres`.
//!
//! Every transaction begins with a write. On SQLite, one that began with a read cannot become a writer
//! while another instance writes, and would fail immediately whatever the busy timeout.

use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::PgPool;
#[cfg(feature = "sqlite")]
use sqlx::SqlitePool;

/// How long a query waits for a connection of a pool that [`Database::connect`] opens.
pub(crate) const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// A pool of connections to either database, which a pool of sqlx's converts into. Cloning it is cheap.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Database {
    /// SQLite, which is compiled in.
    #[cfg(feature = "sqlite")]
    Sqlite(SqlitePool),
    /// A PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
}

#[cfg(feature = "sqlite")]
impl From<SqlitePool> for Database {
    fn from(pool: SqlitePool) -> Self {
        Self::Sqlite(pool)
    }
}

#[cfg(feature = "postgres")]
impl From<PgPool> for Database {
    fn from(pool: PgPool) -> Self {
        Self::Postgres(pool)
    }
}

impl Database {
    /// Checks that the database answers, for a readiness probe.
    ///
    /// # Errors
    /// Returns the database's error.
    pub async fn check(&self) -> Result<(), sqlx::Error> {
        on_connection!(self, connection => sqlx::query("SELECT 1").persistent(false).execute(connection).await.map(drop));
        Ok(())
    }

    pub(crate) fn max_connections(&self) -> u32 {
        on_pool!(self, pool => pool.options().get_max_connections())
    }

    /// Waits for connections in use, and closes all of them.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}

/// Compiles a body for the pools of both databases.
macro_rules! on_pool {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            #[cfg(feature = "sqlite")]
            $crate::database::pool::Database::Sqlite($pool) => $body,
            #[cfg(feature = "postgres")]
            $crate::database::pool::Database::Postgres($pool) => $body,
        }
    };
}
pub(crate) use on_pool;

/// Compiles one statement for both databases, and returns errors from the enclosing function.
///
/// On PostgreSQL the statement has a transaction of its own. sqlx sends a statement with values in two
/// steps, and a pooler in transaction mode (PgBouncer) keeps both on one server connection only within a
/// transaction. No statement here is `persistent` for a similar reason: a prepared statement stays on the
/// server connection, and collides with one of the same name when the pooler gives the connection to
/// another client. With `READ COMMITTED` a statement sees everything that was committed before it began,
/// so the transaction does not make its answer older.
macro_rules! on_connection {
    ($database:expr, $connection:ident => $body:expr) => {
        match $database {
            #[cfg(feature = "sqlite")]
            $crate::database::pool::Database::Sqlite(pool) => {
                let $connection = pool;
                $body?
            }
            #[cfg(feature = "postgres")]
            $crate::database::pool::Database::Postgres(pool) => {
                // guard: K14
                let mut transaction = pool.begin().await?;
                let $connection = &mut *transaction;
                let answer = $body?;
                transaction.commit().await?;
                answer
            }
        }
    };
}
pub(crate) use on_connection;
