//! The database: tenants, tokens by their digest, and the outbox.
//!
//! Both databases understand the same statements (`$1`, `RETURNING`, `ON CONFLICT`), so each is
//! written once and `on_pool!` compiles it against either pool; what differs (opening, locking,
//! migrations) is in `sqlite` and `postgres`. A single statement is by `on_connection!`.
//!
//! Every transaction here begins with a write. On SQLite one that began with a read could not
//! become a writer while another instance writes, and would fail at once however long the busy
//! timeout is.

mod last_use;
mod list;
mod pending;
mod postgres;
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

use sqlx::migrate::{Migrate, MigrateError, Migration, MigrationSource, MigrationType, Migrator};
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{PgPool, SqlitePool};

pub use list::{ListedToken, TokenPage};
pub use pending::{Pending, Subject};
pub use rotate::{RotateError, Rotation};
pub use seed::Seeded;
pub use tenants::TenantStatus;
pub use time::Timestamp;
pub use tokens::{InsertError, Kept, NewToken, TextCount, TokenRow};

/// How long a query waits for a connection of the pool: less than the cache's load deadline of
/// three seconds, so that the reason in the log is this one.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(2);

/// Compiles one body against whichever pool there is.
macro_rules! on_pool {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            $crate::db::Database::Sqlite($pool) => $body,
            $crate::db::Database::Postgres($pool) => $body,
        }
    };
}
use on_pool;

/// Compiles one statement against either database, and returns errors to the caller.
///
/// On PostgreSQL it is in a transaction of its own. sqlx sends a statement with values in two steps, and behind a
/// pooler in transaction mode (PgBouncer) only a transaction has both on one connection of the server. For the
/// same reason no statement here is `persistent`: a prepared one stays on a connection that the next client has
/// then, who would make one of the same name. At the isolation level `READ COMMITTED` a statement sees what
/// was committed before it began, so that this is no older than without the transaction.
macro_rules! on_connection {
    ($database:expr, $connection:ident => $body:expr) => {
        match $database {
            $crate::db::Database::Sqlite(pool) => {
                let $connection = pool;
                $body?
            }
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

/// Where the database is.
#[derive(Clone)]
pub enum Target {
    /// A file.
    Sqlite(SqliteConnectOptions),
    /// A server.
    Postgres(PgConnectOptions),
}

impl Target {
    /// Reads `DATABASE_URL`. The error never repeats the URL, which may hold a password.
    pub fn parse(url: &str) -> Result<Self, String> {
        let scheme = url.split(':').next().unwrap_or_default();
        match scheme {
            "sqlite" if url.contains(":memory:") || url.contains("mode=memory") => Err(
                "a database in memory is not supported, name a file: sqlite://demo.db".to_owned(),
            ),
            "sqlite" => {
                let options =
                    SqliteConnectOptions::from_str(url).map_err(|error| reason(&error))?;
                if options.get_filename().as_os_str().is_empty() {
                    return Err("the URL names no file, as sqlite://demo.db does".to_owned());
                }
                Ok(Self::Sqlite(options))
            }
            "postgres" | "postgresql" => PgConnectOptions::from_str(url)
                .map(Self::Postgres)
                .map_err(|error| reason(&error)),
            _ => Err("not a URL that begins with sqlite:// or postgres://".to_owned()),
        }
    }
}

/// What and where, without user and password.
impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(options) => write!(f, "SQLite, {}", options.get_filename().display()),
            Self::Postgres(options) => write!(
                f,
                "PostgreSQL, {}:{}",
                options.get_host(),
                options.get_port()
            ),
        }
    }
}

/// As [`Display`](fmt::Display): sqlx' own `Debug` of the options shows the password.
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// A pool of connections to either database. Cloning it is cheap.
#[derive(Clone, Debug)]
pub enum Database {
    /// SQLite, compiled in.
    Sqlite(SqlitePool),
    /// A PostgreSQL server.
    Postgres(PgPool),
}

impl Database {
    /// Connects and migrates. The error is one line and fit for the operator's eyes.
    pub async fn open(target: Target) -> Result<Self, String> {
        match target {
            Target::Sqlite(options) => sqlite::open(options).await.map(Self::Sqlite),
            Target::Postgres(options) => postgres::open(options).await.map(Self::Postgres),
        }
    }

    /// Whether the database answers.
    pub async fn ping(&self) -> Result<(), sqlx::Error> {
        on_connection!(self, connection => sqlx::query("SELECT 1").persistent(false).execute(connection).await.map(drop));
        Ok(())
    }

    /// Waits for the connections in use and closes all.
    pub async fn close(&self) {
        on_pool!(self, pool => pool.close().await);
    }
}

/// The error in one line, without sqlx' prefixes that say nothing to an operator.
fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(inner) => inner.to_string(),
        sqlx::Error::Database(inner) => inner.message().to_owned(),
        sqlx::Error::Io(inner) => inner.to_string(),
        other => other.to_string(),
    }
}

/// Migrations compiled into the binary. sqlx' `migrate!` does the same, but wants sqlx' macros,
/// which compile both database drivers a second time for the compiler's own use.
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

/// Applies what is not applied yet.
///
/// `run_direct` is what `run` calls, and public for this very case: through `run`'s generic
/// `Acquire` the compiler cannot see that the future may move between threads.
async fn run_migrations<C: Migrate>(
    connection: &mut C,
    migrations: Embedded,
) -> Result<(), MigrateError> {
    // Whoever calls has a lock, for the transaction that it is in.
    let mut migrator = Migrator::new(migrations).await?;
    migrator.set_locking(false);
    migrator.run_direct(connection).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_url_is_refused_without_being_repeated() {
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

    #[test]
    fn no_password_is_shown() {
        let target = Target::parse("postgres://demo:hunter22@db.internal:5433/demo").unwrap();
        assert_eq!(
            format!("{target} {target:?}"),
            "PostgreSQL, db.internal:5433 Target(PostgreSQL, db.internal:5433)"
        );
    }
}
