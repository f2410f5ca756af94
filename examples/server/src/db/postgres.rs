//! Opening PostgreSQL.

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, PgPool};

use super::{ACQUIRE_TIMEOUT, Embedded, reason, run_migrations};

const MIGRATIONS: Embedded = Embedded(&[
    (
        1,
        "tokens",
        include_str!("../../migrations/postgres/0001_tokens.sql"),
    ),
    (
        2,
        "text",
        include_str!("../../migrations/postgres/0002_text.sql"),
    ),
    (
        3,
        "successor",
        include_str!("../../migrations/postgres/0003_successor.sql"),
    ),
]);

/// How long the server may take to answer at start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn open(options: PgConnectOptions) -> Result<PgPool, String> {
    // A connection of its own first: the pool would try again until its time is over and then say
    // "timed out", where this says "connection refused" or "password authentication failed", at
    // once.
    let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .map_err(|_| format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|error| reason(&error))?;
    // Or each start but the first says that the table of migrations is there already.
    sqlx::query("SET client_min_messages = warning")
        .execute(&mut connection)
        .await
        .map_err(|error| reason(&error))?;
    // sqlx holds an advisory lock meanwhile, so instances that start together migrate one after the
    // other.
    run_migrations(&mut connection, MIGRATIONS)
        .await
        .map_err(|error| format!("migration failed: {error}"))?;
    connection.close().await.map_err(|error| reason(&error))?;

    Ok(PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}
