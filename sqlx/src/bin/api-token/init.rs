//! The command `init`: creates the tables or changes them.

use serde_json::json;
use tower_api_token_sqlx::{Database, Error};

use crate::exit::Failure;
use crate::output::Output;
use crate::session::builder;
use crate::settings::Settings;

/// `init`
pub(crate) async fn init(out: Output, settings: &Settings) -> Result<(), Failure> {
    let database = Database::connect(&settings.database_url).await?;
    let prefix = settings.table_prefix.as_deref().unwrap_or("api_token_");
    let keys = builder(settings, database).migrate(false).build().await?;
    // Its names are checked now, and can be in a statement.
    let table = match &settings.schema {
        Some(schema) => format!("\"{schema}\".{prefix}migrations"),
        None => format!("{prefix}migrations"),
    };
    let before = migrations(keys.database(), &table)
        .await
        .unwrap_or_default();
    builder(settings, keys.database().clone()).build().await?;
    let after = migrations(keys.database(), &table)
        .await
        .map_err(Error::Database)?;
    let ran: Vec<_> = after.iter().filter(|it| !before.contains(it)).collect();

    let database = describe(keys.database());
    let place = match &settings.schema {
        Some(schema) => format!("{database}, schema {schema}, tables {prefix}*"),
        None => format!("{database}, tables {prefix}*"),
    };
    if ran.is_empty() {
        out.text(&format!(
            "{place}: nothing to do; migrations that ran before: {}",
            before.len()
        ))?;
    }
    for name in &ran {
        out.text(&format!("{place}: ran migration {name}"))?;
    }
    out.json(|| {
        json!({
            "action": "initialized",
            "database": database,
            "schema": settings.schema,
            "table_prefix": prefix,
            "ran": ran,
            "migrations": after,
        })
    })?;
    Ok(())
}

fn describe(database: &Database) -> &'static str {
    match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(_) => "SQLite",
        #[cfg(feature = "postgres")]
        Database::Postgres(_) => "PostgreSQL",
        _ => "another database",
    }
}

/// Returns the migrations that ran, as their files are called.
async fn migrations(database: &Database, table: &str) -> Result<Vec<String>, sqlx::Error> {
    // Cast, because the column's type differs.
    let select = format!("SELECT CAST(version AS BIGINT), name FROM {table} ORDER BY version");
    let rows: Vec<(i64, String)> = match database {
        #[cfg(feature = "sqlite")]
        Database::Sqlite(pool) => sqlx::query_as(&select).fetch_all(pool).await?,
        // Not prepared, which would need a transaction behind a pooler.
        #[cfg(feature = "postgres")]
        Database::Postgres(pool) => {
            use sqlx::Row as _;
            let rows = sqlx::raw_sql(&select).fetch_all(pool).await?;
            let read = |row: &sqlx::postgres::PgRow| Ok((row.try_get(0)?, row.try_get(1)?));
            rows.iter().map(read).collect::<Result<_, sqlx::Error>>()?
        }
        _ => Vec::new(),
    };
    let file = |(version, name)| format!("{version:04}_{name}");
    Ok(rows.into_iter().map(file).collect())
}
