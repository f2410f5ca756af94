//! Opens PostgreSQL, and migrates it.

use std::str::FromStr;
use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgPool};

use crate::database::migrations::{Migration, missing};
use crate::database::tables::Tables;
use crate::error::Error;

const MIGRATIONS: &[Migration] = &[Migration {
    version: 1,
    name: "keys",
    sql: include_str!("../../migrations/postgres/0001_keys.sql"),
}];

/// How long the server may take to answer when a service starts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Makes instances that start together migrate one after the other. The isolation shows what another instance committed
/// while this one waited for the lock, whatever the database's default is. Silences the notice that the table of migrations
/// exists. The number is arbitrary; it has to differ from those of other applications.
const BEGIN: &str = "\
    SET TRANSACTION ISOLATION LEVEL READ COMMITTED; SELECT pg_advisory_xact_lock(8312); \
    SET LOCAL client_min_messages = warning";

pub(crate) async fn open(url: &str) -> Result<PgPool, Error> {
    let options = PgConnectOptions::from_str(url)
        .map_err(|_| Error::invalid_url("not a URL such as postgres://user@host/database"))?
        // A pooler may not support it, and no column is a floating-point number.
        .extra_float_digits(None);
    // Not by the pool, which would retry until its timeout and then report "timed out". This reports
    // "connection refused" or "password authentication failed" immediately.
    let connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .map_err(|_| sqlx::Error::PoolTimedOut)??;
    connection.close().await?;
    let pool = PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(crate::database::pool::ACQUIRE_TIMEOUT);
    Ok(pool.connect_lazy_with(options))
}

/// Migrates in one transaction, which has one server connection even behind a pooler.
pub(crate) async fn migrate(pool: &PgPool, tables: &Tables) -> Result<(), sqlx::Error> {
    let mut transaction = pool.begin().await?;
    transaction.execute(BEGIN).await?;
    if let Some(schema) = tables.schema() {
        // `IF NOT EXISTS` would need the right to create one even if it exists.
        let exists: bool =
            sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM pg_namespace WHERE nspname = $1)")
                .persistent(false)
                .bind(schema)
                .fetch_one(&mut *transaction)
                .await?;
        let create = if exists {
            String::new()
        } else {
            format!("CREATE SCHEMA \"{schema}\";")
        };
        // The names of indexes have no schema: they are created in that of their table.
        let script = format!("{create} SET LOCAL search_path TO \"{schema}\"");
        transaction.execute(script.as_str()).await?;
    }
    let create = tables.sql(
        "CREATE TABLE IF NOT EXISTS ~migrations (version BIGINT PRIMARY KEY, name TEXT NOT NULL)",
    );
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
