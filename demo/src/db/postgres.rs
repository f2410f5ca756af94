//! Opening PostgreSQL.

use std::time::Duration;

use sqlx::migrate::MigrateError;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, Connection, Executor, PgConnection, PgPool};

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

/// A lock, by a number that nobody else has. And each start but the first would say that the table of migrations
/// is there already.
const ALONE: &str = "SELECT pg_advisory_xact_lock(8311); SET LOCAL client_min_messages = warning";

/// Drops what another client of a pooler prepared on this connection: sqlx prepares its own statements for
/// migrations, and names them alike. Sent by itself, for PgBouncer from 1.22 on answers it.
const FORGET: &str = "DEALLOCATE ALL";

/// How long the server may take to answer at start.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn open(options: PgConnectOptions) -> Result<PgPool, String> {
    // A pooler may not know it, and no column here is a floating-point number.
    let options = options.extra_float_digits(None);
    // A connection of its own first: the pool would try again until its time is over and then say
    // "timed out", where this says "connection refused" or "password authentication failed", at
    // once.
    let mut connection = tokio::time::timeout(CONNECT_TIMEOUT, options.connect())
        .await
        .map_err(|_| format!("no answer within {} s", CONNECT_TIMEOUT.as_secs()))?
        .map_err(|error| reason(&error))?;
    migrate(&mut connection)
        .await
        .map_err(|error| format!("migration failed: {error}"))?;
    connection.close().await.map_err(|error| reason(&error))?;

    Ok(PgPoolOptions::new()
        .max_connections(20)
        .acquire_timeout(ACQUIRE_TIMEOUT)
        .connect_lazy_with(options))
}

/// All in one transaction, which has one connection of the server also behind a pooler. Instances that start
/// together come here one after the other.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await?;
    transaction.execute(ALONE).await?;
    transaction.execute(FORGET).await?;
    run_migrations(&mut *transaction, MIGRATIONS).await?;
    transaction.commit().await?;
    Ok(())
}
