//! The tables that the demo has beside those of its keys: names of tenants, and texts of tokens for the Dify layout.

use sqlx::Executor as _;
use tower_api_token::{BearerToken, TokenDigest};
use tower_api_token_sqlx::Database;

/// The names of tenants. An old table of the demo has more columns, with defaults.
const TENANTS: &str =
    "CREATE TABLE IF NOT EXISTS tenants (id TEXT PRIMARY KEY NOT NULL, name TEXT NOT NULL)";

/// Makes the tenants of a former version known to the keys, even those without a key.
const KNOWN: &str = "\
    INSERT INTO api_token_tenants (id) SELECT id FROM tenants WHERE TRUE ON CONFLICT DO NOTHING";

/// What is written in another way for each database.
struct Scripts {
    /// Creates the texts of tokens, by the digest as the keys have it.
    texts: &'static str,
    /// Returns whether there is the table of a former version.
    is_old: &'static str,
    copy_texts: &'static str,
    move_rows: &'static str,
}

const SQLITE: Scripts = Scripts {
    texts: "CREATE TABLE IF NOT EXISTS token_texts (digest BLOB PRIMARY KEY NOT NULL, token TEXT NOT NULL)",
    is_old: "SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE name = 'tokens')",
    copy_texts: "INSERT INTO token_texts SELECT unhex(digest), token FROM tokens WHERE token IS NOT NULL",
    move_rows: include_str!("../../sqlx/migrations/from-demo/sqlite.sql"),
};

#[cfg(feature = "postgres")]
const POSTGRES: Scripts = Scripts {
    texts: "CREATE TABLE IF NOT EXISTS token_texts (digest BYTEA PRIMARY KEY, token TEXT NOT NULL)",
    is_old: "SELECT to_regclass('tokens') IS NOT NULL",
    copy_texts: "INSERT INTO token_texts SELECT decode(digest, 'hex'), token FROM tokens WHERE token IS NOT NULL",
    move_rows: include_str!("../../sqlx/migrations/from-demo/postgres.sql"),
};

/// The number of tokens, and of those whose text is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCount {
    /// All tokens, including revoked ones, whose invalidation can be repeated.
    pub tokens: i64,
    /// Tokens whose text is stored.
    pub texts: i64,
}

/// The tables. Cloning it is cheap.
#[derive(Clone, Debug)]
pub struct Tables(Database);

/// Compiles a body for the pools of both databases.
macro_rules! on_pool {
    ($database:expr, $pool:ident => $body:expr) => {
        match $database {
            Database::Sqlite($pool) => $body,
            #[cfg(feature = "postgres")]
            Database::Postgres($pool) => $body,
            _ => unreachable!("another database"),
        }
    };
}

/// Adds a tenant in a transaction of either database, to the keys' table too: without a key, it is unknown to them.
macro_rules! add_tenant {
    ($transaction:expr, $id:expr, $name:expr) => {{
        let insert = "INSERT INTO tenants (id, name) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let insert = sqlx::query(insert).persistent(false).bind($id).bind($name);
        let added = insert.execute(&mut *$transaction).await?.rows_affected() > 0;
        let known = "INSERT INTO api_token_tenants (id) VALUES ($1) ON CONFLICT DO NOTHING";
        let known = sqlx::query(known).persistent(false).bind($id);
        known.execute(&mut *$transaction).await?;
        added
    }};
}

/// Runs [`Scripts`] and adds the first tenants in a transaction of either database that nobody else is in, and commits it.
/// Returns whether there was no tenant.
macro_rules! prepare {
    ($transaction:expr, $scripts:expr, $tenants:expr) => {{
        let Scripts {
            texts,
            is_old,
            copy_texts,
            move_rows,
        } = $scripts;
        for create in [TENANTS, texts] {
            $transaction.execute(create).await?;
        }
        let is_old = sqlx::query_scalar(is_old).persistent(false);
        if is_old.fetch_one(&mut *$transaction).await? {
            for script in [copy_texts, move_rows, KNOWN] {
                $transaction.execute(script).await?;
            }
        }
        let any = sqlx::query_scalar("SELECT EXISTS (SELECT 1 FROM tenants)").persistent(false);
        let any: bool = any.fetch_one(&mut *$transaction).await?;
        for (id, name) in $tenants.iter().filter(|_| !any) {
            add_tenant!($transaction, *id, *name);
        }
        $transaction.commit().await?;
        !any
    }};
}

impl Tables {
    /// Returns the tables in this database, which may be [prepared](Self::prepare) later.
    pub fn of(database: &Database) -> Self {
        Self(database.clone())
    }

    /// Creates the tables, moves the rows of a former version of the demo into those of the keys, and, if there are no
    /// tenants, adds these. Returns whether it added them: of several instances that start together, one does.
    ///
    /// The tables of the keys have to exist.
    pub async fn prepare(
        database: &Database,
        tenants: &'static [(&'static str, &'static str)],
    ) -> Result<(Self, bool), sqlx::Error> {
        let added = match database {
            Database::Sqlite(pool) => {
                // With the write lock from its beginning: it begins with a read.
                let mut transaction = pool.begin_with("BEGIN IMMEDIATE").await?;
                prepare!(transaction, SQLITE, tenants)
            }
            #[cfg(feature = "postgres")]
            Database::Postgres(pool) => {
                let mut transaction = pool.begin().await?;
                // Until the end of the transaction; any number that others do not use.
                let lock = "SELECT pg_advisory_xact_lock(7305792206147321)";
                // No notice of each table that exists.
                let quiet = "SET LOCAL client_min_messages = warning";
                for statement in [lock, quiet] {
                    transaction.execute(statement).await?;
                }
                prepare!(transaction, POSTGRES, tenants)
            }
            _ => unreachable!("another database"),
        };
        Ok((Self::of(database), added))
    }

    /// Adds an active tenant, and returns whether the id was free.
    pub async fn add_tenant(&self, id: &str, name: &str) -> Result<bool, sqlx::Error> {
        on_pool!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            let added = add_tenant!(transaction, id, name);
            transaction.commit().await?;
            Ok(added)
        })
    }

    /// Returns whether there is such a tenant.
    pub async fn has_tenant(&self, id: &str) -> Result<bool, sqlx::Error> {
        const SELECT: &str = "SELECT EXISTS (SELECT 1 FROM tenants WHERE id = $1)";
        on_pool!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            let select = sqlx::query_scalar(SELECT).persistent(false).bind(id);
            select.fetch_one(&mut *transaction).await
        })
    }

    /// Returns a tenant for the example in the banner.
    pub async fn any_tenant(&self) -> Result<Option<String>, sqlx::Error> {
        const SELECT: &str = "SELECT id FROM tenants ORDER BY id LIMIT 1";
        on_pool!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            let select = sqlx::query_scalar(SELECT).persistent(false);
            select.fetch_optional(&mut *transaction).await
        })
    }

    /// Stores the text of a token.
    pub async fn store_text(&self, token: &BearerToken) -> Result<(), sqlx::Error> {
        const INSERT: &str =
            "INSERT INTO token_texts (digest, token) VALUES ($1, $2) ON CONFLICT DO NOTHING";
        let digest = token.digest();
        on_pool!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            let insert = sqlx::query(INSERT).persistent(false);
            let insert = insert.bind(digest.as_bytes().as_slice()).bind(token.expose());
            insert.execute(&mut *transaction).await?;
            transaction.commit().await
        })
    }

    /// Returns the text of a token.
    pub async fn text(&self, digest: TokenDigest) -> Result<Option<BearerToken>, sqlx::Error> {
        const SELECT: &str = "SELECT token FROM token_texts WHERE digest = $1";
        let text: Option<String> = on_pool!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            let select = sqlx::query_scalar(SELECT).persistent(false);
            let select = select.bind(digest.as_bytes().as_slice());
            select.fetch_optional(&mut *transaction).await?
        });
        Ok(text.map(BearerToken::new))
    }

    /// Counts the tokens, and those whose text is stored.
    pub async fn count_texts(&self) -> Result<TextCount, sqlx::Error> {
        const SELECT: &str = "SELECT count(*), count(t.digest) \
            FROM api_token_keys AS k LEFT JOIN token_texts AS t ON t.digest = k.digest";
        let (tokens, texts) = on_pool!(&self.0, pool => {
            let mut transaction = pool.begin().await?;
            let select = sqlx::query_as(SELECT).persistent(false);
            select.fetch_one(&mut *transaction).await?
        });
        Ok(TextCount { tokens, texts })
    }
}
