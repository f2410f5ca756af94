//! A token's row, as a loader returns it.

use std::borrow::Cow;
use std::fmt;

use chrono::{DateTime, Utc};

use super::optional_text::IntoOptionalText;
use super::scopes::Scopes;
use super::secret::TokenDigest;
use super::timestamp::IntoTimestamp;

/// A token's row in the database.
///
/// A [`TokenLoader`](crate::TokenLoader) returns it. A handler reads a [`CachedApiToken`](crate::CachedApiToken).
///
/// ```
/// use tower_api_token::{TokenDigest, TokenRecord};
///
/// let record: TokenRecord = TokenRecord::new("tok-1")
///     .token_type("app")
///     .tenant_id("t-42")
///     .digest(TokenDigest::of("app-0123456789abcdef"));
/// # let _ = record;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct TokenRecord<M = ()> {
    pub(crate) id: String,
    pub(crate) app_id: Option<String>,
    pub(crate) tenant_id: Option<String>,
    pub(crate) token_type: Option<String>,
    pub(crate) scopes: Scopes,
    pub(crate) digest: Option<TokenDigest>,
    pub(crate) last_used_at: Option<DateTime<Utc>>,
    pub(crate) created_at: Option<DateTime<Utc>>,
    pub(crate) expires_at: Option<DateTime<Utc>>,
    /// Boxed, because few records have one: inline, it would take 16 more bytes per entry.
    pub(crate) denied: Option<Box<Cow<'static, str>>>,
    pub(crate) metadata: M,
}

impl TokenRecord {
    /// Creates a record with the row's id.
    ///
    /// An empty id is an error of the loader: the request is answered with 503, and nothing is cached.
    pub fn new(id: impl Into<String>) -> Self {
        Self {
            id: id.into(),
            app_id: None,
            tenant_id: None,
            token_type: None,
            scopes: Scopes::default(),
            digest: None,
            last_used_at: None,
            created_at: None,
            expires_at: None,
            denied: None,
            metadata: (),
        }
    }
}

impl<M> TokenRecord<M> {
    /// Sets the type of the token, which a layer or a caller may ask for.
    ///
    /// A request that asks for another type is answered like one with an unknown token. Defaults to none,
    /// which is valid only where no type is asked for.
    #[doc(alias = "scope")]
    #[must_use]
    pub fn token_type<K>(mut self, token_type: impl IntoOptionalText<K>) -> Self {
        self.token_type = token_type.into_optional_text();
        self
    }

    /// Sets the application that the token belongs to. Defaults to none.
    #[must_use]
    pub fn app_id<K>(mut self, app_id: impl IntoOptionalText<K>) -> Self {
        self.app_id = app_id.into_optional_text();
        self
    }

    /// Sets the tenant that the token belongs to, by which
    /// [`invalidate_tenant`](crate::ApiTokenCache::invalidate_tenant) finds it. Defaults to none.
    #[must_use]
    pub fn tenant_id<K>(mut self, tenant_id: impl IntoOptionalText<K>) -> Self {
        self.tenant_id = tenant_id.into_optional_text();
        self
    }

    /// Sets the OAuth scopes of the token (RFC 6749 section 3.3), which
    /// [`require_scopes`](crate::ApiTokenLayerBuilder::require_scopes) compares. Defaults to none.
    ///
    /// A text with spaces is a list of scopes, as in OAuth.
    ///
    /// # Examples
    /// ```
    /// use tower_api_token::TokenRecord;
    ///
    /// // A column with an array, and one with a text.
    /// let record: TokenRecord = TokenRecord::new("tok-1").scopes(vec!["orders:read", "orders:write"]);
    /// let record: TokenRecord = TokenRecord::new("tok-1").scopes(["orders:read orders:write"]);
    /// # let _ = record;
    /// ```
    #[must_use]
    pub fn scopes(mut self, scopes: impl IntoIterator<Item = impl Into<String>>) -> Self {
        self.scopes = Scopes::new(scopes);
        self
    }

    /// Sets the digest that the row holds.
    ///
    /// It is compared with that of the presented token. If they differ, the query found another row: the
    /// request is answered with 503 instead of with another caller's identity. Defaults to none, which
    /// compares nothing.
    #[must_use]
    pub fn digest(mut self, digest: TokenDigest) -> Self {
        self.digest = Some(digest);
        self
    }

    /// Sets when the token was last used, as the row holds it. Defaults to never.
    #[must_use]
    pub fn last_used_at(mut self, at: impl IntoTimestamp) -> Self {
        self.last_used_at = at.into_timestamp();
        self
    }

    /// Sets when the token was created. Defaults to unknown.
    #[must_use]
    pub fn created_at(mut self, at: impl IntoTimestamp) -> Self {
        self.created_at = at.into_timestamp();
        self
    }

    /// Sets when the token expires, which is checked on each request, whatever is cached. Defaults to never.
    #[must_use]
    pub fn expires_at(mut self, at: impl IntoTimestamp) -> Self {
        self.expires_at = at.into_timestamp();
        self
    }

    /// Marks the token as known and not to be used now, for example because its tenant is suspended.
    ///
    /// Requests with it are answered with 403 and `reason`, which the client reads. The record passes the
    /// same checks as any other: an expired token, or one of another type, is answered with 401. The answer is
    /// cached for [`negative_ttl`](crate::ApiTokenCacheBuilder::negative_ttl), and is removed when the token or its
    /// [tenant](Self::tenant_id) is invalidated.
    ///
    /// A revoked or deleted token is not denied: for it the loader returns `None`.
    ///
    /// # Examples
    /// ```
    /// use tower_api_token::TokenRecord;
    ///
    /// # struct Row { id: String, tenant: String, suspended: bool }
    /// fn record(row: Row) -> TokenRecord {
    ///     let record = TokenRecord::new(row.id).tenant_id(row.tenant);
    ///     if row.suspended { record.denied("The workspace is suspended.") } else { record }
    /// }
    /// # let _ = record;
    /// ```
    #[must_use]
    pub fn denied(mut self, reason: impl Into<Cow<'static, str>>) -> Self {
        self.denied = Some(Box::new(reason.into()));
        self
    }

    /// Sets data of your own (a plan, limits, permissions), which is cached with the record.
    ///
    /// In Redis it is JSON, by its `Serialize`. A release that cannot read the data of the previous one
    /// replaces its entries, and is replaced by it in turn while both run. Give such a release a new
    /// [namespace](crate::ApiTokenCacheBuilder::namespace), and invalidate in both until the previous release
    /// is gone.
    ///
    /// # Examples
    /// ```
    /// use serde::{Deserialize, Serialize};
    /// use tower_api_token::TokenRecord;
    ///
    /// #[derive(Serialize, Deserialize)]
    /// struct Plan {
    ///     max_rows: u32,
    ///     /// New in this release: entries of the previous one have none.
    ///     #[serde(default)]
    ///     beta: bool,
    /// }
    ///
    /// let plan = Plan { max_rows: 100, beta: false };
    /// let record: TokenRecord<Plan> = TokenRecord::new("tok-1").metadata(plan);
    /// # let _ = record;
    /// ```
    #[must_use]
    pub fn metadata<N>(self, metadata: N) -> TokenRecord<N> {
        TokenRecord {
            id: self.id,
            app_id: self.app_id,
            tenant_id: self.tenant_id,
            token_type: self.token_type,
            scopes: self.scopes,
            digest: self.digest,
            last_used_at: self.last_used_at,
            created_at: self.created_at,
            expires_at: self.expires_at,
            denied: self.denied,
            metadata,
        }
    }

    /// Returns whether the token is valid where `asked` is the type that is asked for.
    pub(crate) fn is_of_type(&self, asked: Option<&str>) -> bool {
        asked.is_none() || asked == self.token_type.as_deref()
    }

    pub(crate) fn is_denied(&self) -> bool {
        self.denied.is_some()
    }

    pub(crate) fn is_expired(&self, now: DateTime<Utc>) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
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

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use super::*;

    struct Id(u32);

    impl From<Id> for String {
        fn from(id: Id) -> Self {
            id.0.to_string()
        }
    }

    #[test]
    fn an_optional_text_is_any_text_or_an_option_of_one() {
        let tenant = |record: TokenRecord| record.tenant_id;
        let new = || TokenRecord::new("1");
        for with in [
            tenant(new().tenant_id("42")),
            tenant(new().tenant_id("42".to_owned())),
            tenant(new().tenant_id(Cow::Borrowed("42"))),
            tenant(new().tenant_id(Id(42))),
            tenant(new().tenant_id(Some("42"))),
            tenant(new().tenant_id(Some("42".to_owned()))),
            tenant(new().tenant_id(Some(Id(42)))),
        ] {
            assert_eq!(with.as_deref(), Some("42"));
        }
        assert_eq!(tenant(new().tenant_id(None::<String>)), None);
    }
}
