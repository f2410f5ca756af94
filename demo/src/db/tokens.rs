//! The table of tokens.

use tower_api_token::{BearerToken, TokenDigest};

use super::pending::{Pending, insert_pending};
use super::{Database, Timestamp, on_connection, on_pool};

/// What the database stores of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StoredForm {
    /// Only the digest is stored.
    Digest,
    /// The text is stored too. The Dify layout's keys contain it, so invalidations need it.
    Text,
}

impl StoredForm {
    /// Returns the text if it is to be stored.
    pub(crate) fn text(self, token: &BearerToken) -> Option<BearerToken> {
        match self {
            Self::Digest => None,
            Self::Text => Some(token.clone()),
        }
    }
}

/// The number of tokens, and of those whose text is stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCount {
    /// All tokens, including revoked ones, whose invalidation can be repeated.
    pub tokens: i64,
    /// Tokens whose text is stored.
    pub texts: i64,
}

/// A token as the loader needs it, with the state of its tenant. Revoked tokens have none.
#[derive(Clone, Debug)]
pub struct TokenRow {
    /// The token's id, which is public.
    pub id: String,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// The application it belongs to, if any.
    pub app_id: Option<String>,
    /// `app` or `dataset`.
    pub token_type: String,
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was last used, according to the database.
    pub last_used_at: Option<Timestamp>,
    /// Whether the tenant is suspended.
    pub tenant_suspended: bool,
}

/// A token to be added.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The token's id, which is public.
    pub id: String,
    /// The tenant it belongs to, which must exist.
    pub tenant_id: String,
    /// The application it belongs to, if any.
    pub app_id: Option<String>,
    /// `app` or `dataset`.
    pub token_type: &'static str,
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// The token's text, if it is to be stored: see [`StoredForm`].
    pub text: Option<BearerToken>,
    /// The current time.
    pub created_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
}

/// An error of [`Database::insert_token`].
#[derive(Debug)]
pub enum InsertError {
    /// No tenant has this id.
    NoSuchTenant,
    /// The same text is a token already, which may be revoked.
    Duplicate,
    /// The database failed; the token may or may not have been added.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // The id is random, so the digest is the duplicate.
            sqlx::Error::Database(inner) if inner.is_unique_violation() => Self::Duplicate,
            other => Self::Database(other),
        }
    }
}

pub(super) const INSERT: &str = "\
    INSERT INTO tokens (id, tenant_id, app_id, type, digest, token, created_at, expires_at) \
    SELECT $1, tenants.id, $3, $4, $5, $6, $7, $8 FROM tenants WHERE tenants.id = $2";

/// Binds a [`NewToken`] to [`INSERT`] and runs it in a transaction of either database.
macro_rules! add_token {
    ($transaction:expr, $token:expr) => {
        sqlx::query($crate::db::tokens::INSERT)
            .persistent(false)
            .bind(&$token.id)
            .bind(&$token.tenant_id)
            .bind(&$token.app_id)
            .bind($token.token_type)
            .bind($token.digest.to_string())
            .bind($token.text.as_ref().map(|text| text.expose()))
            .bind($token.created_at)
            .bind($token.expires_at)
            .execute(&mut *$transaction)
            .await
    };
}
pub(super) use add_token;

/// Parses the column `digest`.
pub(super) fn read_digest(text: &str) -> Result<TokenDigest, sqlx::Error> {
    text.parse()
        .map_err(|_| sqlx::Error::Decode("tokens.digest is not a digest".into()))
}

impl Database {
    /// Returns the token of this digest, unless it is revoked.
    ///
    /// One statement reads token and tenant, so that both are from the same snapshot. It runs outside of any
    /// transaction of the caller, so that the snapshot is newer than the call, as the loader requires.
    pub async fn find_token(&self, digest: TokenDigest) -> Result<Option<TokenRow>, sqlx::Error> {
        const SELECT: &str = "\
            SELECT tokens.id, tenant_id, app_id, type, digest, created_at, expires_at, last_used_at, \
                   tenants.status = 'suspended' \
            FROM tokens JOIN tenants ON tenants.id = tokens.tenant_id \
            WHERE digest = $1 AND revoked_at IS NULL";
        type Columns = (
            String,
            String,
            Option<String>,
            String,
            String,
            Timestamp,
            Option<Timestamp>,
            Option<Timestamp>,
            bool,
        );
        let row: Option<Columns> = on_connection!(self, connection => sqlx::query_as(SELECT).persistent(false).bind(digest.to_string()).fetch_optional(connection).await);
        row.map(
            |(
                id,
                tenant_id,
                app_id,
                token_type,
                digest,
                created_at,
                expires_at,
                last_used_at,
                suspended,
            )| {
                Ok(TokenRow {
                    id,
                    tenant_id,
                    app_id,
                    token_type,
                    // The row's own digest, not the requested one: the cache compares the two.
                    digest: read_digest(&digest)?,
                    created_at,
                    expires_at: Timestamp::end(expires_at),
                    last_used_at,
                    tenant_suspended: suspended,
                })
            },
        )
        .transpose()
    }

    /// Counts the tokens, and those whose text is stored.
    pub async fn count_texts(&self) -> Result<TextCount, sqlx::Error> {
        const SELECT: &str = "SELECT count(*), count(token) FROM tokens";
        let (tokens, texts) = on_connection!(self, connection => sqlx::query_as(SELECT).persistent(false).fetch_one(connection).await);
        Ok(TextCount { tokens, texts })
    }

    /// Adds a token, and adds its invalidation to the outbox: somebody may have tried the text before, so
    /// that "unknown" is cached.
    pub async fn insert_token(&self, token: &NewToken) -> Result<Pending, InsertError> {
        let pending =
            Pending::of_token(token.digest, token.text.clone()).map_err(sqlx::Error::from)?;
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            if add_token!(transaction, token)?.rows_affected() == 0 {
                return Err(InsertError::NoSuchTenant);
            }
            insert_pending!(transaction, pending)?;
            transaction.commit().await?;
        });
        Ok(pending)
    }

    /// Revokes a token and adds its invalidation to the outbox. Returns `None` if no token has this id.
    ///
    /// A repeated call keeps the time of the first revocation, and adds the invalidation again.
    pub async fn revoke_token(&self, id: &str) -> Result<Option<Pending>, sqlx::Error> {
        const UPDATE: &str = "\
            UPDATE tokens SET revoked_at = COALESCE(revoked_at, $2) WHERE id = $1 RETURNING digest, token";
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            let revoked: Option<(String, Option<String>)> = sqlx::query_as(UPDATE).persistent(false)
                .bind(id)
                .bind(Timestamp::now())
                .fetch_optional(&mut *transaction)
                .await?;
            let Some((digest, text)) = revoked else { return Ok(None) };
            let pending = Pending::of_token(read_digest(&digest)?, text.map(BearerToken::new))?;
            insert_pending!(transaction, pending)?;
            transaction.commit().await?;
            Ok(Some(pending))
        })
    }
}
