//! What a loader answers.

use std::borrow::Cow;
use std::fmt;
use std::time::SystemTime;

use super::TokenDigest;

/// A token's row, as the loader read it.
///
/// ```
/// use tower_api_token::{TokenDigest, TokenRecord};
///
/// let record: TokenRecord = TokenRecord::new("tok-1", "app")
///     .tenant_id("t-42".to_owned())
///     .digest(TokenDigest::of("app-0123456789abcdef"));
/// assert_eq!(record.token_type(), "app");
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRecord<M = ()> {
    pub(crate) id: String,
    pub(crate) app_id: Option<String>,
    pub(crate) tenant_id: Option<String>,
    pub(crate) token_type: String,
    pub(crate) digest: Option<TokenDigest>,
    pub(crate) last_used_at: Option<SystemTime>,
    pub(crate) created_at: Option<SystemTime>,
    pub(crate) expires_at: Option<SystemTime>,
    pub(crate) metadata: M,
}

impl TokenRecord {
    /// A record with the two fields that every token has: the row's id, and the type, which must
    /// equal the scope that was asked for (otherwise the token counts as absent there).
    ///
    /// An empty id is a fault of the loader: the request is answered "unavailable", and nothing is
    /// cached.
    pub fn new(id: impl Into<String>, token_type: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            app_id: None,
            tenant_id: None,
            token_type: token_type.into(),
            digest: None,
            last_used_at: None,
            created_at: None,
            expires_at: None,
            metadata: (),
        }
    }
}

impl<M> TokenRecord<M> {
    /// The application that the token belongs to. Default: none.
    #[must_use]
    pub fn app_id(mut self, app_id: impl Into<Option<String>>) -> Self {
        self.app_id = app_id.into();
        self
    }

    /// The tenant that the token belongs to: what
    /// [`invalidate_tenant`](crate::ApiTokenCache::invalidate_tenant) reaches it by. Default: none.
    #[must_use]
    pub fn tenant_id(mut self, tenant_id: impl Into<Option<String>>) -> Self {
        self.tenant_id = tenant_id.into();
        self
    }

    /// The digest as the database holds it. Where it is given it is compared with the presented
    /// token's, so that a query that found another row is an outage and not another's identity.
    #[must_use]
    pub fn digest(mut self, digest: TokenDigest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// When the token was last used, as the database holds it. Default: never.
    #[must_use]
    pub fn last_used_at(mut self, at: impl Into<Option<SystemTime>>) -> Self {
        self.last_used_at = at.into();
        self
    }

    /// When the token was created. Default: unknown.
    #[must_use]
    pub fn created_at(mut self, at: impl Into<Option<SystemTime>>) -> Self {
        self.created_at = at.into();
        self
    }

    /// When the token ends. It is checked on every request, whatever is cached. Default: never.
    #[must_use]
    pub fn expires_at(mut self, at: impl Into<Option<SystemTime>>) -> Self {
        self.expires_at = at.into();
        self
    }

    /// The user's own typed data (plan, limits, permissions), cached with the record.
    ///
    /// In Redis it is JSON by its `Serialize`. A release that cannot read the data of the one before
    /// replaces its entries, and is replaced by it in turn while both run: give it a new
    /// [namespace](crate::ApiTokenCacheBuilder::namespace), and invalidate in both until the old one
    /// is gone.
    ///
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tower_api_token::TokenRecord;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Plan {
    ///     max_rows: u32,
    ///     /// New in this release: entries of the one before have none.
    ///     #[serde(default)]
    ///     beta: bool,
    /// }
    ///
    /// let plan = Plan { max_rows: 100, beta: false };
    /// let record: TokenRecord<Plan> = TokenRecord::new("tok-1", "app").metadata(plan);
    /// # let _ = record;
    /// ```
    #[must_use]
    pub fn metadata<N>(self, metadata: N) -> TokenRecord<N> {
        TokenRecord {
            id: self.id,
            app_id: self.app_id,
            tenant_id: self.tenant_id,
            token_type: self.token_type,
            digest: self.digest,
            last_used_at: self.last_used_at,
            created_at: self.created_at,
            expires_at: self.expires_at,
            metadata,
        }
    }

    /// The row's id.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The type, which is the scope that the token is good for.
    pub fn token_type(&self) -> &str {
        &self.token_type
    }

    pub(crate) fn is_expired(&self, wall: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| end <= wall)
    }
}

impl<M> fmt::Debug for TokenRecord<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenRecord")
            .field("id", &self.id)
            .field("type", &self.token_type)
            .finish_non_exhaustive()
    }
}

/// A good token that may not be used now: its tenant is suspended, its API switched off.
///
/// The reason is shown to the client with a 403; write it for the client's eyes.
///
/// ```
/// use tower_api_token::{Denial, Verdict};
///
/// let verdict: Verdict = Denial::new("The workspace is suspended.").for_tenant("t-42").into();
/// # assert!(matches!(verdict, Verdict::Denied(denial) if denial.tenant_id() == Some("t-42")));
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Denial {
    pub(crate) reason: Cow<'static, str>,
    pub(crate) tenant_id: Option<String>,
}

impl Denial {
    /// A denial with the text that the client may read.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        Self {
            reason: reason.into(),
            tenant_id: None,
        }
    }

    /// Binds the denial to a tenant, so that invalidating the tenant ends it at once. Leave it out,
    /// and the denial lasts for the null time to live or until the token is invalidated.
    #[must_use]
    pub fn for_tenant(mut self, tenant_id: impl Into<String>) -> Self {
        self.tenant_id = Some(tenant_id.into());
        self
    }

    /// The text that the client may read.
    pub fn reason(&self) -> &str {
        &self.reason
    }

    /// The tenant whose state is the reason.
    pub fn tenant_id(&self) -> Option<&str> {
        self.tenant_id.as_deref()
    }
}

/// What the database says about a token in a scope. Everything else is an error: *we cannot tell*.
///
/// ```
/// use tower_api_token::{Denial, TokenRecord, Verdict};
///
/// # struct Row { id: String, kind: String, tenant: String, revoked: bool, suspended: bool }
/// fn verdict(row: Option<Row>) -> Verdict {
///     match row {
///         None => Verdict::Absent,
///         Some(row) if row.revoked => Verdict::Absent,
///         Some(row) if row.suspended => {
///             Denial::new("The workspace is suspended.").for_tenant(row.tenant).into()
///         }
///         Some(row) => TokenRecord::new(row.id, row.kind).tenant_id(row.tenant).into(),
///     }
/// }
/// # assert_eq!(verdict(None), Verdict::Absent);
/// ```
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict<M = ()> {
    /// The token is known and good.
    Found(TokenRecord<M>),
    /// There is definitely no such token; a revoked or disabled one is absent too. Cached for the
    /// null time to live.
    Absent,
    /// The token is good, and may not be used now.
    Denied(Denial),
}

impl<M> From<Option<TokenRecord<M>>> for Verdict<M> {
    fn from(found: Option<TokenRecord<M>>) -> Self {
        found.map_or(Self::Absent, Self::Found)
    }
}

impl<M> From<TokenRecord<M>> for Verdict<M> {
    fn from(found: TokenRecord<M>) -> Self {
        Self::Found(found)
    }
}

impl<M> From<Denial> for Verdict<M> {
    fn from(denial: Denial) -> Self {
        Self::Denied(denial)
    }
}
