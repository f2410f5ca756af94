//! The database: tenants, tokens by their digest, and the outbox.
//!
//! Both databases understand the same statements (`$1`, `RETURNING`, `ON CONFLICT`), so each is
//! written once. `on_connection!` runs a single statement on either database, and `on_pool!` a
//! transaction. Opening, locking and migrations differ, and are in `sqlite` and `postgres`.
//!
//! Every transaction begins with a write. On SQLite, one that began with a read cannot become a writer
//! while another instance writes, and would fail immediately whatever the busy timeout.

mod last_use;
mod list;
mod pending;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(feature = "postgres")]
mod postgres_time;
mod rotate;
mod seed;
mod sqlite;
mod tenants;
mod time;
mod tokens;

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

#[cfg(feature = "postgres")]
use sqlx::PgPool;
use sqlx::SqlitePool;
use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationSource, MigrationType, Migrator};
#[cfg(feature = "postgres")]
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

pub use list::{ListedToken, TokenPage};
pub use pending::{Pending, Subject};
pub use rotate::{RotateError, Rotation};
pub use seed::Seeded;
pub use tenants::TenantStatus;
pub use time::Timestamp;
pub use tokens::{InsertError, NewToken, StoredForm, TextCount, TokenRow};

/// How long a query waits for a connection of the pool. This is shorter than the cache's load timeout of
/// 3 seconds, so that the log names this cause.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Compiles a body for the pools of both databases.
macro_rules! on_pool {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            $crate::db::Database::Sqlite($pool) => $body,
            #[cfg(feature = "postgres")]
            $crate::db::Database::Postgres($pool) => $body,
        }
    };
}
use on_pool;

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
            $crate::db::Database::Sqlite(pool) => {
                let $connection = pool;
                $body?
            }
            #[cfg(feature = "postgres")]
            $crate::db::Database::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                let $connection = &mut *transaction;
                let answer = $body?;
                transaction.commit().await?;
                answer
            }
        }
    };
}
use on_connection;

/// The database that a URL names.
#[derive(Clone)]
pub enum Target {
    /// The URL names a SQLite file.
    Sqlite(SqliteConnectOptions),
    /// The URL names a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(PgConnectOptions),
}

impl Target {
    /// Parses `DATABASE_URL`. The error never contains the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" if url.contains(":memory:") || url.contains("mode=memory") => Err(
                "a database in memory is not supported; name a file, such as sqlite://demo.db"
                    .to_owned(),
            ),
            "sqlite" => {
                let options =
                    SqliteConnectOptions::from_str(url).map_err(|error| reason(&error))?;
                if options.get_filename().as_os_str().is_empty() {
                    return Err("the URL does not name a file, as sqlite://demo.db does".to_owned());
                }
                Ok(Self::Sqlite(options))
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => PgConnectOptions::from_str(url)
                .map(Self::Postgres)
                .map_err(|error| reason(&error)),
            #[cfg(not(feature = "postgres"))]
            "postgres" | "postgresql" => {
                Err("PostgreSQL needs a binary that is built with --features postgres".to_owned())
            }
            _ => Err("not a URL that begins with sqlite:// or postgres://".to_owned()),
        }
    }
}

/// Shows the kind and the place of the database, without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "SQLite, {}", options.get_filename().display()),
            #[cfg(feature = "postgres")]
            Self::Postgres(options) => write!(
                f,
                "PostgreSQL, {}:{}",
                options.get_host(),
                options.get_port()
            ),
        }
    }
}

/// Shows the same as [`Display`](fmt::Display), because the `Debug` of sqlx's options shows the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// A pool of connections to either database. Cloning it is cheap.
#[derive(Clone, Debug)]
pub enum Database {
    /// The database is SQLite, which is compiled in.
    Sqlite(SqlitePool),
    /// The database is a PostgreSQL server.
    #[cfg(feature = "postgres")]
    Postgres(PgPool),
}

impl Database {
    /// Connects and migrates. The error is one line, which may be shown to the operator.
    pub async fn open(target: Target) -> Result<Self, String> {
        match target {
            Target::Sqlite(options) => sqlite::open(options).await.map(Self::Sqlite),
            #[cfg(feature = "postgres")]
            Target::Postgres(options) => postgres::open(options).await.map(Self::Postgres),
        }
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        on_connection!(self, connection => sqlx::query("SELECT 1").persistent(false).execute(connection).await.map(drop));
        Ok(())
    }

    /// Waits for connections in use, and closes all of them.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}

/// Returns the error's text without sqlx's prefixes, which do not help an operator.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(inner) => inner.to_string(),
        sqlx::Error::Database(inner) => inner.message().to_owned(),
        sqlx::Error::Io(inner) => inner.to_string(),
        other => other.to_string(),
    }
}

/// Migrations that are compiled into the binary. sqlx's `migrate!` does the same, but needs sqlx's macros,
/// which compile both database drivers a second time for the build.
#[derive(Debug)]
struct Embedded(&'static [(i64, &'static str, &'static str)]);

impl MigrationSource<'static> for Embedded {
    fn resolve(
        self,
    ) -> std::pin::Pin<
        Box<dyn Future<Output = Result<Vec<Migration>, sqlx::error::BoxDynError>> + Send + 'static>,
    > {
        let migration = |(version, name, sql): &(i64, &'static str, &'static str)| {
            Migration::new(
                *version,
                Cow::Borrowed(name),
                MigrationType::Simple,
                Cow::Borrowed(sql),
                false,
            )
        };
        Box::pin(std::future::ready(Ok(self
            .0
            .iter()
            .map(migration)
            .collect())))
    }
}

/// Applies pending migrations. The caller holds a lock in the transaction that it passes.
///
/// Calls `run_direct`, which is public for this case: with the generic `Acquire` of `run`, the compiler
/// cannot prove that the future is `Send`.
async fn run_migrations<C: Migrate>(
    connection: &mut C,
    migrations: Embedded,
) -> Result<(), MigrateError> {
    let mut migrator = Migrator::new(migrations).await?;
    migrator.set_locking(false);
    migrator.run_direct(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_url_is_rejected_and_not_shown() {
        for url in [
            "",
            "demo.db",
            "mysql://u:hunter22@h/db",
            "postgres://u:hunter22@h:port/db",
            "postgres://u:hunter22@h:99999/db",
            "sqlite://x.db?hunter22=1",
            "sqlite://:memory:",
            "sqlite://x?mode=memory",
            "sqlite:",
            "sqlite://",
        ] {
            let message = Target::parse(url).expect_err(url);
            assert!(!message.contains('\n') && !message.is_empty(), "{message}");
            assert!(!message.contains("u:hunter22"), "{message}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn password_is_not_shown() {
        let target = Target::parse("postgres://demo:hunter22@db.internal:5433/demo").unwrap();
        assert_eq!(
            format!("{target} {target:?}"),
            "PostgreSQL, db.internal:5433 Target(PostgreSQL, db.internal:5433)"
        );
    }
}
