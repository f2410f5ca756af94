//! Opens PostgreSQL.

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

/// Takes a lock, whose number no other application uses, and silences the notice that the table of
/// migrations exists.
const LOCK: &str = "SELECT pg_advisory_xact_lock(8311); SET LOCAL client_min_messages = warning";

/// Drops the statements that another client of a pooler prepared on this connection: sqlx prepares
/// statements for migrations under the same names. Sent alone, because PgBouncer since 1.22 handles it
/// itself.
const DEALLOCATE: &str = "DEALLOCATE ALL";

/// How long the server may take to answer when the demo starts.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn open(options: PgConnectOptions) -> Result<PgPool, String> {
    // A pooler may not support it, and no column is a floating-point number.
    let options = options.extra_float_digits(None);
    // Not by the pool, which would retry until its timeout and then report "timed out". This reports
    // "connection refused" or "password authentication failed" immediately.
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

/// Migrates in one transaction, which has one server connection even behind a pooler. The lock makes
/// instances that start together migrate one after the other.
async fn migrate(connection: &mut PgConnection) -> Result<(), MigrateError> {
    let mut transaction = connection.begin().await?;
    transaction.execute(LOCK).await?;
    transaction.execute(DEALLOCATE).await?;
    run_migrations(&mut *transaction, MIGRATIONS).await?;
    transaction.commit().await?;
    Ok(())
}
