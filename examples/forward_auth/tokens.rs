//! The loader: replace it by a statement on your own table.

use chrono::{DateTime, Utc};
use sqlx::PgPool;
use tower_api_token::{Lookup, TokenDigest, TokenRecord};

/// Loads a token that is not cached, by its digest.
///
/// The statement runs on the primary and outside of any transaction, because it must see everything that was
/// committed before the call. After an error the answer is 503, and nothing is cached.
pub(crate) async fn load(
    database: PgPool,
    lookup: Lookup,
) -> Result<Option<TokenRecord>, sqlx::Error> {
    // PostgreSQL has `infinity` and years with five digits, which sqlx panics on. A token that expires so late
    // does not expire.
    const SELECT: &str = "\
        SELECT tokens.id, tenant_id, app_id, type, digest, \
            CASE WHEN expires_at < '9999-01-01' THEN expires_at END, tenants.suspended \
        FROM tokens JOIN tenants ON tenants.id = tokens.tenant_id \
        WHERE digest = $1 AND revoked_at IS NULL AND (expires_at > now() OR expires_at IS NULL)";
    type Row = (
        String,
        String,
        Option<String>,
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
    let Some((id, tenant, app, kind, digest, expires_at, suspended)) = row else {
        return Ok(None);
    };
    // The cache compares the row's digest with that of the token. It also checks the expiry and the token
    // type on each request.
    let record = TokenRecord::new(id)
        .token_type(kind)
        .tenant_id(tenant)
        .app_id(app)
        .digest(TokenDigest::from_bytes(digest))
        .expires_at(expires_at);
    Ok(Some(if suspended {
        // Refused with 403 and this text.
        record.denied("The account is suspended.")
    } else {
        record
    }))
}
