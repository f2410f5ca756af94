//! The table of tokens.

use tower_api_token::{BearerToken, TokenDigest};

use super::pending::{Pending, owe};
use super::{Database, Timestamp, on_connection, on_pool};

/// What the database keeps of a new token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kept {
    /// The digest alone.
    Digest,
    /// The text too: cache keys contain it, so that an invalidation cannot do without.
    Text,
}

impl Kept {
    /// The text, if it is to be kept.
    pub(crate) fn text(self, token: &BearerToken) -> Option<BearerToken> {
        match self {
            Self::Digest => None,
            Self::Text => Some(token.clone()),
        }
    }
}

/// How many tokens there are, and of how many the database has the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TextCount {
    /// All tokens, revoked ones included: their invalidation may be asked for again.
    pub tokens: i64,
    /// Those with their text.
    pub texts: i64,
}

/// A token as the loader wants it, with the state of its tenant. Revoked tokens are not found at
/// all.
#[derive(Clone, Debug)]
pub struct TokenRow {
    /// The token's public name, not the token.
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
    /// When it was last used, as far as the database knows.
    pub last_used_at: Option<Timestamp>,
    /// Whether the tenant is suspended.
    pub tenant_suspended: bool,
}

/// A token to be added.
#[derive(Clone, Debug)]
pub struct NewToken {
    /// The token's public name.
    pub id: String,
    /// An existing tenant.
    pub tenant_id: String,
    /// The application, if any.
    pub app_id: Option<String>,
    /// `app` or `dataset`.
    pub token_type: &'static str,
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// The token itself, if the database is to keep it: see [`Kept`].
    pub text: Option<BearerToken>,
    /// The present.
    pub created_at: Timestamp,
    /// When it expires, if ever.
    pub expires_at: Option<Timestamp>,
}

/// Why a token was not added.
#[derive(Debug)]
pub enum InsertError {
    /// There is no tenant of that id.
    NoSuchTenant,
    /// The same text is a token already, perhaps a revoked one.
    Duplicate,
    /// The database failed; the token may or may not have been added.
    Database(sqlx::Error),
}

impl From<sqlx::Error> for InsertError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            // The id is random: what is there already is the digest.
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

/// The column `digest`.
pub(super) fn read_digest(text: &str) -> Result<TokenDigest, sqlx::Error> {
    text.parse()
        .map_err(|_| sqlx::Error::Decode("tokens.digest is not a digest".into()))
}

impl Database {
    /// The token of this digest, unless it is revoked.
    ///
    /// One statement, so that token and tenant are of one moment, and outside any transaction of the
    /// caller's, so that this moment is after the call: see the loader.
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
                    // The row's own digest and not the one asked for: the cache compares the two.
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

    /// Of how many tokens the text is there.
    pub async fn count_texts(&self) -> Result<TextCount, sqlx::Error> {
        const SELECT: &str = "SELECT count(*), count(token) FROM tokens";
        let (tokens, texts) = on_connection!(self, connection => sqlx::query_as(SELECT).persistent(false).fetch_one(connection).await);
        Ok(TextCount { tokens, texts })
    }

    /// Adds a token, and owes the invalidation of what was cached about its text: that there is no
    /// such token.
    pub async fn insert_token(&self, token: &NewToken) -> Result<Pending, InsertError> {
        let pending =
            Pending::of_token(token.digest, token.text.clone()).map_err(sqlx::Error::from)?;
        on_pool!(self, pool => {
            let mut transaction = pool.begin().await?;
            if add_token!(transaction, token)?.rows_affected() == 0 {
                return Err(InsertError::NoSuchTenant);
            }
            owe!(transaction, pending)?;
            transaction.commit().await?;
        });
        Ok(pending)
    }

    /// Revokes a token and owes its invalidation; `None` if there never was a token of this id.
    ///
    /// A repetition keeps the time of the first revocation and owes the invalidation anew.
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
            owe!(transaction, pending)?;
            transaction.commit().await?;
            Ok(Some(pending))
        })
    }
}
