//! Opens SQLite so that several instances on one machine can share the file.

use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, SqliteConnection, SqlitePool};

use super::{ACQUIRE_TIMEOUT, Embedded, reason, run_migrations};

const MIGRATIONS: Embedded = Embedded(&[
    (
        1,
        "tokens",
        include_str!("../../migrations/sqlite/0001_tokens.sql"),
    ),
    (
        2,
        "text",
        include_str!("../../migrations/sqlite/0002_text.sql"),
    ),
    (
        3,
        "successor",
        include_str!("../../migrations/sqlite/0003_successor.sql"),
    ),
]);

/// How long a writer waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the change to the write-ahead log is retried, every 50 ms, while another instance holds the
/// file.
const WAL_ATTEMPTS: u32 = 100;

pub(super) async fn open(options: SqliteConnectOptions) -> Result<SqlitePool, String> {
    // `synchronous` keeps its default, FULL, so that an acknowledged revocation survives a power cut.
    let options = options
        .create_if_missing(true)
        .foreign_keys(true)
        .busy_timeout(BUSY_TIMEOUT);

    let mut connection = options.connect().await.map_err(|error| reason(&error))?;
    write_ahead_log(&mut connection)
        .await
        .map_err(|error| reason(&error))?;
    migrate(&mut connection)
        .await
        .map_err(|error| format!("migration failed: {error}"))?;
    connection.close().await.map_err(|error| reason(&error))?;

    Ok(SqlitePoolOptions::new()
        .max_connections(8)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}

/// Switches to the write-ahead log, which allows readers beside a writer. The file stores the mode, so
/// later connections need not set it. Two connections that set it at the same time get "busy" without
/// the busy timeout, hence the loop.
async fn write_ahead_log(connection: &mut SqliteConnection) -> Result<(), sqlx::Error> {
    let mut attempts = 0;
    loop {
        match sqlx::query("PRAGMA journal_mode = WAL")
            .execute(&mut *connection)
            .await
        {
            Err(sqlx::Error::Database(error))
                if is_busy(error.code().as_deref()) && attempts < WAL_ATTEMPTS =>
            {
                attempts += 1;
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
            result => return result.map(drop),
        }
    }
}

/// Returns whether the code is `SQLITE_BUSY`, which is 5. Extended codes have it in the low byte.
fn is_busy(code: Option<&str>) -> bool {
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}

/// Migrates in one transaction that has the write lock from its beginning. sqlx does not lock SQLite while
/// it migrates: two instances that start together would both create the tables, and one would fail.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    run_migrations(&mut *transaction, MIGRATIONS).await?;
    transaction.commit().await?;
    Ok(())
}
