//! A database of a test's own.

use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use sqlx::{PgPool, SqlitePool};
use tempfile::TempDir;
use test_support::PostgresServer;
use tower_api_token::{Answer, ApiTokenCache, BearerToken};
use tower_api_token_sqlx::{ApiKeys, ApiKeysBuilder, Database, IssuedKey, NewKey};

/// A database, which is removed when it is dropped.
pub(crate) enum World {
    Sqlite(TempDir),
    /// A schema of its own on a server that tests share.
    Postgres(Arc<PostgresServer>, String),
}

impl World {
    pub(crate) fn sqlite() -> Self {
        Self::Sqlite(tempfile::tempdir().expect("a temporary directory"))
    }

    pub(crate) fn postgres() -> Self {
        static SERVER: Mutex<Weak<PostgresServer>> = Mutex::new(Weak::new());
        static SCHEMAS: AtomicU32 = AtomicU32::new(0);
        let mut shared = SERVER.lock().unwrap_or_else(PoisonError::into_inner);
        let server = shared.upgrade().unwrap_or_else(|| {
            let server = Arc::new(PostgresServer::start());
            *shared = Arc::downgrade(&server);
            server
        });
        let number = SCHEMAS.fetch_add(1, Ordering::SeqCst);
        Self::Postgres(server, format!("test_{number}"))
    }

    pub(crate) fn url(&self) -> String {
        match self {
            Self::Sqlite(directory) => format!("sqlite://{}/keys.db", directory.path().display()),
            Self::Postgres(server, _) => server.url(),
        }
    }

    /// Passes the database to a process that is about to start: [`keys_of_environment`] takes it.
    pub(crate) fn pass(&self, command: &mut Command) {
        command.env("CRASH_DATABASE", self.url());
        if let Self::Postgres(_, schema) = self {
            command.env("CRASH_SCHEMA", schema);
        }
    }

    /// Starts building keys of this database, as one more process would.
    pub(crate) async fn builder(&self) -> ApiKeysBuilder {
        self.builder_at(&self.url()).await
    }

    /// Starts building keys of this database, which is reached by this URL.
    pub(crate) async fn builder_at(&self, url: &str) -> ApiKeysBuilder {
        let database = Database::connect(url).await.expect("the database opens");
        let builder = ApiKeys::builder(database);
        match self {
            Self::Sqlite(_) => builder,
            Self::Postgres(_, schema) => builder.schema(schema),
        }
    }

    pub(crate) async fn keys(&self) -> ApiKeys {
        self.builder().await.build().await.expect("it migrates")
    }

    /// Runs a statement, in which `~` stands for the prefix of the tables, as an operator may.
    pub(crate) async fn execute(&self, statement: &str) -> u64 {
        match self {
            Self::Sqlite(_) => {
                let pool = SqlitePool::connect(&self.url()).await.unwrap();
                let sql = statement.replace('~', "api_token_");
                let done = sqlx::raw_sql(&sql).execute(&pool).await.unwrap();
                done.rows_affected()
            }
            Self::Postgres(_, schema) => {
                let pool = PgPool::connect(&self.url()).await.unwrap();
                let sql = statement.replace('~', &format!("{schema}.api_token_"));
                let done = sqlx::raw_sql(&sql).execute(&pool).await.unwrap();
                done.rows_affected()
            }
        }
    }
}

/// Builds keys of the database that [`World::pass`] passed to this process.
pub(crate) async fn keys_of_environment() -> ApiKeys {
    let url = std::env::var("CRASH_DATABASE").expect("a database");
    let mut builder = ApiKeys::builder(Database::connect(&url).await.unwrap());
    if let Ok(schema) = std::env::var("CRASH_SCHEMA") {
        builder = builder.schema(schema);
    }
    builder.build().await.unwrap()
}

/// Issues a key of the tenant `acme`.
pub(crate) async fn issue(keys: &ApiKeys) -> IssuedKey {
    let issued = keys.issue(NewKey::new("acme")).await;
    issued.expect("it is issued").into_inner()
}

/// Returns how the cache answers: `valid`, `invalid` or `denied`.
pub(crate) async fn answer<M: Send + Sync + 'static>(
    cache: &ApiTokenCache<M>,
    token: &BearerToken,
) -> &'static str {
    match cache.authenticate(token.expose()).await.expect("an answer") {
        Answer::Valid(_) => "valid",
        Answer::Invalid(_) => "invalid",
        Answer::Denied(_) => "denied",
        _ => "another answer",
    }
}

/// Waits until something is so.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !condition().await {
        assert!(Instant::now() < deadline, "{what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
