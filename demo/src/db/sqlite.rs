//! Opening SQLite so that several instances on one machine can share the file.

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

/// How often the change to the write-ahead log is tried again while another instance has the file,
/// 50 ms apart.
const WAL_ATTEMPTS: u32 = 100;

pub(super) async fn open(options: SqliteConnectOptions) -> Result<SqlitePool, String> {
    // `synchronous` stays at its default, FULL: a revocation that was acknowledged survives a power
    // cut.
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

/// Readers and a writer at the same time. The mode stays in the file, so later connections need not
/// ask for it. Two that change it at the same moment are told "busy" without the busy timeout being
/// waited for, hence the loop.
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

/// `SQLITE_BUSY` is 5; extended codes carry it in their low byte.
fn is_busy(code: Option<&str>) -> bool {
    code.and_then(|code| code.parse::<u32>().ok())
        .is_some_and(|code| code & 0xff == 5)
}

/// sqlx takes no lock on SQLite while it migrates: two instances that start at once would both
/// create the tables, and the second would fail. So everything runs inside one transaction that has
/// the write lock from its beginning.
async fn migrate(connection: &mut SqliteConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    run_migrations(&mut *transaction, MIGRATIONS).await?;
    transaction.commit().await?;
    Ok(())
}
