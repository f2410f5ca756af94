//! The table of tokens.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tower_api_token::{Lookup, TokenDigest, TokenRecord};

use crate::outbox;

/// Creates the tables. The statements can be repeated, so this example needs no table of migrations. For a
/// second migration use `sqlx::migrate!`.
pub(crate) async fn migrate(database: &PgPool) -> Result<(), sqlx::Error> {
    let migration = sqlx::raw_sql(include_str!("migrations/0001_tokens.sql"));
    migration.execute(database).await.map(drop)
}

/// Loads a token that is not cached.
///
/// The statement runs on the primary and outside of any transaction, because it must see everything that was
/// committed before the call. On a replica that lags, or in an older transaction, it could revive a token
/// that was revoked in the meantime.
///
/// After an error the client gets a 503, and nothing is cached.
pub(crate) async fn load(
    database: PgPool,
    lookup: Lookup,
) -> Result<Option<TokenRecord>, sqlx::Error> {
    // PostgreSQL has `infinity` and years with five digits, which sqlx panics on. A token that expires so late
    // does not expire.
    const SELECT: &str = "\
        SELECT tokens.id, tenants.id, type, digest, \
            CASE WHEN expires_at < '9999-01-01' THEN expires_at END, tenants.suspended \
        FROM tokens JOIN tenants ON tenants.id = tokens.tenant_id \
        WHERE digest = $1 AND revoked_at IS NULL AND (expires_at > now() OR expires_at IS NULL)";
    type Row = (
        String,
        String,
        String,
        [u8; 32],
        Option<DateTime<Utc>>,
        bool,
    );

    let row: Option<Row> = sqlx::query_as(SELECT)
        .bind(lookup.digest().as_bytes())
        .fetch_optional(&database)
        .await?;
    // Without a row the token is unknown, revoked or expired, which the client cannot distinguish.
    let Some((id, tenant, kind, digest, expires_at, suspended)) = row else {
        return Ok(None);
    };
    // The cache compares the row's digest with that of the token. It also checks the expiry and the token
    // type on each request.
    let record = TokenRecord::new(id)
        .token_type(kind)
        .tenant_id(tenant)
        .digest(TokenDigest::from_bytes(digest))
        .expires_at(expires_at);
    Ok(Some(if suspended {
        // Rejected with 403 and this text, until the tenant is invalidated.
        record.denied("The account is suspended.")
    } else {
        record
    }))
}

/// Revokes a token, and returns its digest and the outbox's row, or `None` if there is no token with this id. A
/// repeated call returns both too, so that a request whose response was lost can be repeated.
pub(crate) async fn revoke(
    database: &PgPool,
    id: &str,
) -> Result<Option<(TokenDigest, i64)>, sqlx::Error> {
    const UPDATE: &str = "\
        UPDATE tokens SET revoked_at = COALESCE(revoked_at, now()) WHERE id = $1 RETURNING digest";
    let mut transaction = database.begin().await?;
    let update = sqlx::query_scalar(UPDATE).bind(id);
    let digest: Option<[u8; 32]> = update.fetch_optional(&mut *transaction).await?;
    let Some(digest) = digest.map(TokenDigest::from_bytes) else {
        return Ok(None);
    };
    let row = outbox::owe_token(&mut transaction, digest).await?;
    transaction.commit().await?;
    Ok(Some((digest, row)))
}

/// Suspends or resumes a tenant. Returns the outbox's row, or `None` if there is no such tenant.
pub(crate) async fn suspend(
    database: &PgPool,
    tenant: &str,
    suspended: bool,
) -> Result<Option<i64>, sqlx::Error> {
    const UPDATE: &str = "UPDATE tenants SET suspended = $2 WHERE id = $1";
    let mut transaction = database.begin().await?;
    let update = sqlx::query(UPDATE).bind(tenant).bind(suspended);
    if update.execute(&mut *transaction).await?.rows_affected() == 0 {
        return Ok(None);
    }
    let row = outbox::owe_tenant(&mut transaction, tenant).await?;
    transaction.commit().await?;
    Ok(Some(row))
}

pub(crate) async fn add_tenant(database: &PgPool, id: &str) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO tenants (id) VALUES ($1) ON CONFLICT DO NOTHING");
    insert.bind(id).execute(database).await.map(drop)
}

/// Adds a token that is valid for an hour, and returns its id.
///
/// A text that somebody may have tried before, such as an imported one, must be invalidated afterwards,
/// because "unknown" may be cached.
pub(crate) async fn add(
    database: &PgPool,
    tenant: &str,
    kind: &str,
    digest: TokenDigest,
) -> Result<String, sqlx::Error> {
    const INSERT: &str = "\
        INSERT INTO tokens (tenant_id, type, digest, expires_at) \
        VALUES ($1, $2, $3, now() + interval '1 hour') RETURNING id";
    let insert = sqlx::query_scalar(INSERT)
        .bind(tenant)
        .bind(kind)
        .bind(digest.as_bytes());
    insert.fetch_one(database).await
}
