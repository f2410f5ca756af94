//! Opens SQLite so that several instances on one machine can share the file, and migrates it.

use std::str::FromStr;
use std::time::Duration;

use sqlx::sqlite::{SqliteConnectOptions, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, SqliteConnection, SqlitePool};

use crate::database::migrations::{Migration, missing};
use crate::database::tables::Tables;
use crate::error::Error;

/// How long a writer waits for another.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// How often the change to the write-ahead log is retried, every 50 ms, while another instance holds the
/// file.
const WAL_ATTEMPTS: u32 = 100;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "keys",
    sql: include_str!("../../migrations/sqlite/0001_keys.sql"),
}];

pub(crate) async fn open(url: &str) -> Result<SqlitePool, Error> {
    if url.contains(":memory:") || url.contains("mode=memory") {
        // Each connection of the pool would have a database of its own.
        return Err(Error::invalid_url(
            "a database in memory is not supported; name a file, such as sqlite://keys.db",
        ));
    }
    let options = SqliteConnectOptions::from_str(url)
        .map_err(|_| Error::invalid_url("not a URL such as sqlite://keys.db"))?;
    if options.get_filename().as_os_str().is_empty() {
        return Err(Error::invalid_url(
            "the URL does not name a file, as sqlite://keys.db does",
        ));
    }
    // `synchronous` keeps its default, FULL, so that an acknowledged revocation survives a power cut.
    let options = options.create_if_missing(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = options.connect().await?;
    write_ahead_log(&mut connection).await?;
    connection.close().await?;
    let pool = SqlitePoolOptions::new()
        .max_connections(8)
        .acquire_timeout(crate::database::pool::ACQUIRE_TIMEOUT);
    Ok(pool.connect_lazy_with(options))
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

/// Migrates in one transaction that has the write lock from its beginning: of two instances that start together, the
/// second finds the work done.
pub(crate) async fn migrate(pool: &SqlitePool, tables: &Tables) -> Result<(), sqlx::Error> {
    let mut connection = pool.acquire().await?;
    let mut transaction = connection.begin_with("BEGIN IMMEDIATE").await?;
    let create = tables.sql("CREATE TABLE IF NOT EXISTS ~migrations (version INTEGER PRIMARY KEY, name TEXT NOT NULL) STRICT");
    transaction.execute(create.as_str()).await?;
    let done: Vec<i64> = sqlx::query_scalar(&tables.sql("SELECT version FROM ~migrations"))
        .persistent(false)
        .fetch_all(&mut *transaction)
        .await?;
    for script in missing(MIGRATIONS, &done, tables) {
        transaction.execute(script.as_str()).await?;
    }
    transaction.commit().await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn busy_is_told_from_other_errors() {
        // SQLITE_BUSY, SQLITE_BUSY_RECOVERY and SQLITE_BUSY_SNAPSHOT.
        for busy in ["5", "261", "517"] {
            assert!(is_busy(Some(busy)), "{busy}");
        }
        // SQLITE_ERROR, SQLITE_LOCKED, SQLITE_CANTOPEN_ISDIR and SQLITE_NOTADB.
        for other in ["1", "6", "526", "26", "", "busy"] {
            assert!(!is_busy(Some(other)), "{other}");
        }
        assert!(!is_busy(None));
    }

    #[tokio::test]
    async fn file_of_another_kind_fails_at_once() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("keys.db");
        std::fs::write(&path, "no database".repeat(1_000)).unwrap();
        let url = format!("sqlite://{}", path.display());
        let opened = tokio::time::timeout(Duration::from_secs(4), open(&url));
        opened.await.expect("no retry").unwrap_err();
    }

    #[tokio::test]
    async fn file_that_another_instance_holds_is_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let url = format!("sqlite://{}/keys.db", directory.path().display());
        let options = SqliteConnectOptions::from_str(&url).unwrap();
        let options = options.create_if_missing(true);
        // Two connections that change the mode at the same time have no timeout either.
        let options = options.busy_timeout(Duration::ZERO);
        let mut other = options.connect().await.unwrap();
        other.execute("CREATE TABLE t (x)").await.unwrap();
        let mut read = other.begin().await.unwrap();
        read.execute("SELECT * FROM t").await.unwrap();
        let mut connection = options.connect().await.unwrap();
        let mut changing = Box::pin(write_ahead_log(&mut connection));
        let held = tokio::time::timeout(Duration::from_millis(200), &mut changing);
        assert!(held.await.is_err(), "it waits");
        read.rollback().await.unwrap();
        changing.await.unwrap();
    }
}
