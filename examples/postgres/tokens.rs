//! The table of tokens.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tower_api_token::{Lookup, TokenDigest, TokenRecord};

/// Its statements are harmless when repeated, so that this example needs no list of what was done. For a
/// second migration take `sqlx::migrate!`.
pub(crate) async fn migrate(database: &PgPool) -> Result<(), sqlx::Error> {
    let migration = sqlx::raw_sql(include_str!("migrations/0001_tokens.sql"));
    migration.execute(database).await.map(drop)
}

/// What the cache asks when it does not know.
///
/// One statement of its own on the primary: it has to see all that was committed before it was called. On a
/// replica that lags, or in a transaction that began earlier, it would bring back a token that was revoked
/// in the meantime.
///
/// An error is "we cannot tell": the client gets 503, and nothing is cached.
pub(crate) async fn load(
    database: PgPool,
    lookup: Lookup,
) -> Result<Option<TokenRecord>, sqlx::Error> {
    // PostgreSQL has `infinity`, and years of five digits. The program's times have neither, and to convert
    // one would panic: a token that ends so late has no end here.
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
    // No row: unknown, revoked or expired. It is all the same, to the client too.
    let Some((id, tenant, kind, digest, expires_at, suspended)) = row else {
        return Ok(None);
    };
    // The digest is the row's own: the cache compares it with the token's. A cached record ends when its
    // token does, and a token of another type than the layer's scope is not good there: neither needs
    // anything here.
    let record = TokenRecord::new(id)
        .token_type(kind)
        .tenant_id(tenant)
        .digest(TokenDigest::from_bytes(digest))
        .expires_at(expires_at);
    Ok(Some(if suspended {
        // A good token that may not be used now: 403 with this text, until the tenant is invalidated.
        record.denied("The account is suspended.")
    } else {
        record
    }))
}

/// Revokes a token and says by what digest the cache knows it; `None` if there is no token of this id. Done
/// again it changes nothing and says the same, so that whoever was not told of a success can ask again.
pub(crate) async fn revoke(
    database: &PgPool,
    id: &str,
) -> Result<Option<TokenDigest>, sqlx::Error> {
    const UPDATE: &str = "\
        UPDATE tokens SET revoked_at = COALESCE(revoked_at, now()) WHERE id = $1 RETURNING digest";
    let update = sqlx::query_scalar(UPDATE).bind(id);
    let digest: Option<[u8; 32]> = update.fetch_optional(database).await?;
    Ok(digest.map(TokenDigest::from_bytes))
}

/// Suspends a tenant or ends that; whether there is one of this name.
pub(crate) async fn suspend(
    database: &PgPool,
    tenant: &str,
    suspended: bool,
) -> Result<bool, sqlx::Error> {
    const UPDATE: &str = "UPDATE tenants SET suspended = $2 WHERE id = $1";
    let update = sqlx::query(UPDATE).bind(tenant).bind(suspended);
    let updated = update.execute(database).await?;
    Ok(updated.rows_affected() > 0)
}

pub(crate) async fn add_tenant(database: &PgPool, id: &str) -> Result<(), sqlx::Error> {
    let insert = sqlx::query("INSERT INTO tenants (id) VALUES ($1) ON CONFLICT DO NOTHING");
    insert.bind(id).execute(database).await.map(drop)
}

/// Adds a token that is good for an hour, and says its id.
///
/// A token whose text somebody could have tried before, one that is imported for example, has to be
/// invalidated afterwards: it is cached then that there is none.
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
