//! Connects to the database that a URL names.

use crate::database::pool::Database;
use crate::error::Error;

impl Database {
    /// Connects to the database that `url` names: `sqlite://keys.db`, which is created if it is missing, or
    /// `postgres://user@host/database`.
    ///
    /// A query waits for a connection for up to 2 seconds, which is less than a cache's
    /// [load timeout](tower_api_token::ApiTokenCacheBuilder::load_timeout), so that the log names this cause.
    ///
    /// # Errors
    /// Returns an error if `url` is malformed or names a database whose crate feature is disabled, or if the database
    /// does not answer. The error does not contain `url`, which may hold a password.
    pub async fn connect(url: &str) -> Result<Self, Error> {
        match url.split(':').next().unwrap_or_default() {
            #[cfg(feature = "sqlite")]
            "sqlite" => crate::database::sqlite::open(url).await.map(Self::Sqlite),
            #[cfg(not(feature = "sqlite"))]
            "sqlite" => Err(Error::invalid_url(
                "SQLite needs the crate feature `sqlite`",
            )),
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => crate::database::postgres::open(url)
                .await
                .map(Self::Postgres),
            #[cfg(not(feature = "postgres"))]
            "postgres" | "postgresql" => Err(Error::invalid_url(
                "PostgreSQL needs the crate feature `postgres`",
            )),
            _ => Err(Error::invalid_url(
                "not a URL that begins with sqlite: or postgres:",
            )),
        }
    }
}
