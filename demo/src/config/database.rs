//! The database that a URL names.

use std::fmt;
use std::str::FromStr as _;

#[cfg(feature = "postgres")]
use sqlx::postgres::PgConnectOptions;
use sqlx::sqlite::SqliteConnectOptions;

/// A URL that was checked. It may hold a password, which is not shown.
#[derive(Clone)]
pub struct Target {
    url: String,
    /// The kind and the place of the database, without user and password.
    described: String,
}

impl Target {
    /// Parses `DATABASE_URL`. The error never contains the URL.
    pub fn parse(url: &str) -> Result<Self, String> {
        let described = match url.split(':').next().unwrap_or_default() {
            "sqlite" if url.contains(":memory:") || url.contains("mode=memory") => Err(
                "a database in memory is not supported; name a file, such as sqlite://demo.db"
                    .to_owned(),
            ),
            "sqlite" => {
                let options =
                    SqliteConnectOptions::from_str(url).map_err(|error| reason(&error))?;
                let file = options.get_filename();
                if file.as_os_str().is_empty() {
                    return Err("the URL does not name a file, as sqlite://demo.db does".to_owned());
                }
                Ok(format!("SQLite, {}", file.display()))
            }
            #[cfg(feature = "postgres")]
            "postgres" | "postgresql" => {
                let options = PgConnectOptions::from_str(url).map_err(|error| reason(&error))?;
                let (host, port) = (options.get_host(), options.get_port());
                Ok(format!("PostgreSQL, {host}:{port}"))
            }
            #[cfg(not(feature = "postgres"))]
            "postgres" | "postgresql" => {
                Err("PostgreSQL needs a binary that is built with --features postgres".to_owned())
            }
            _ => Err("not a URL that begins with sqlite:// or postgres://".to_owned()),
        };
        let url = url.to_owned();
        described.map(|described| Self { url, described })
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.described)
    }
}

/// Shows the same as [`Display`](fmt::Display).
impl fmt::Debug for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Target({self})")
    }
}

/// Returns the error's text without sqlx's prefixes, which do not help an operator.
pub(crate) fn reason(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Configuration(inner) => inner.to_string(),
        sqlx::Error::Database(inner) => inner.message().to_owned(),
        sqlx::Error::Io(inner) => inner.to_string(),
        other => other.to_string(),
    }
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
