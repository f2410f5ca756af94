//! The table of tokens, page by page.

use tower_api_token::TokenDigest;

use super::tokens::read_digest;
use super::{Database, TenantStatus, Timestamp, on_connection};

/// A token of the operator's list, which includes revoked and expired ones. The text is not read from the
/// table. The digest is needed to look up the last use, and is not shown.
#[derive(Clone, Debug)]
pub struct ListedToken {
    /// The token's id, which is public.
    pub id: String,
    /// SHA-256 of the token.
    pub digest: TokenDigest,
    /// The tenant it belongs to.
    pub tenant_id: String,
    /// The tenant's current status.
    pub tenant_status: TenantStatus,
    /// The application it belongs to, if any.
    pub app_id: Option<String>,
    /// `app` or `dataset`.
    pub token_type: String,
    /// When it was created.
    pub created_at: Timestamp,
    /// When it expires, or has expired, if ever.
    pub expires_at: Option<Timestamp>,
    /// When it was revoked, if it was.
    pub revoked_at: Option<Timestamp>,
    /// When it was last used, according to the database.
    pub last_used_at: Option<Timestamp>,
}

/// A page of the list.
#[derive(Clone, Debug)]
pub struct TokenPage {
    /// The tokens, ordered by id.
    pub tokens: Vec<ListedToken>,
    /// The id after which the next page begins; `None` on the last one.
    pub next: Option<String>,
}

impl Database {
    /// Returns at most `limit` tokens, ordered by id, that follow the id `after`, which need not exist.
    ///
    /// Pages are keyed by an id and not by an offset, so rows that are added in between do not move the
    /// others: a reader of all pages sees each token that existed all the time exactly once. Ids sort
    /// roughly by age, so most new tokens are on the last page.
    pub async fn list_tokens(
        &self,
        after: Option<&str>,
        limit: u32,
    ) -> Result<TokenPage, sqlx::Error> {
        const SELECT: &str = "\
            SELECT tokens.id, digest, tenant_id, tenants.status = 'suspended', app_id, type, \
                   created_at, expires_at, revoked_at, last_used_at \
            FROM tokens JOIN tenants ON tenants.id = tokens.tenant_id \
            WHERE tokens.id > $1 ORDER BY tokens.id LIMIT $2";
        type Columns = (
            String,
            String,
            String,
            bool,
            Option<String>,
            String,
            Timestamp,
            Option<Timestamp>,
            Option<Timestamp>,
            Option<Timestamp>,
        );
        // Every id sorts after the empty string. The extra row shows whether there is another page.
        let rows: Vec<Columns> = on_connection!(self, connection => sqlx::query_as(SELECT).persistent(false)
            .bind(after.unwrap_or_default())
            .bind(i64::from(limit) + 1)
            .fetch_all(connection)
            .await);
        let wanted = usize::try_from(limit).unwrap_or(usize::MAX);
        let more = rows.len() > wanted;
        let tokens = rows.into_iter().take(wanted).map(listed);
        let tokens = tokens.collect::<Result<Vec<_>, _>>()?;
        let next = more
            .then(|| tokens.last().map(|token| token.id.clone()))
            .flatten();
        return Ok(TokenPage { tokens, next });

        fn listed(columns: Columns) -> Result<ListedToken, sqlx::Error> {
            let (
                id,
                digest,
                tenant_id,
                suspended,
                app_id,
                token_type,
                created_at,
                expires_at,
                revoked_at,
                last_used_at,
            ) = columns;
            Ok(ListedToken {
                id,
                digest: read_digest(&digest)?,
                tenant_id,
                tenant_status: if suspended {
                    TenantStatus::Suspended
                } else {
                    TenantStatus::Active
                },
                app_id,
                token_type,
                created_at,
                expires_at: Timestamp::end(expires_at),
                revoked_at,
                last_used_at,
            })
        }
    }
}
