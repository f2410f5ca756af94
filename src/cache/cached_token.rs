//! The verified token that a handler reads.

use std::fmt;
use std::future::Future;
use std::marker::PhantomData;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};

use chrono::{DateTime, Utc};

use super::generations::GenerationCell;
use crate::clock::Tick;
use crate::last_use::Used;
use crate::metrics::Origin;
use crate::store::entry::Entry;
use crate::store::watch::Watch;
use crate::token::{BearerToken, TokenDigest, TokenRecord};
use crate::util::BoxFuture;

/// A verified API token.
///
/// [`ApiTokenLayer`](crate::ApiTokenLayer) inserts it into the extensions of each request that it lets through.
/// With the feature `axum` it is also an extractor. If the loader returns metadata of a type `M`, the type to ask
/// for is `CachedApiToken<M>`.
///
/// Cloning it is cheap: it increments a reference count. Its `Debug` output shows the id and the type, and never
/// the token.
///
/// # Examples
/// ```
/// use tower_api_token::CachedApiToken;
///
/// fn tenant<B>(request: &http::Request<B>) -> Option<&str> {
///     request.extensions().get::<CachedApiToken>()?.tenant_id()
/// }
/// # assert_eq!(tenant(&http::Request::new(())), None);
/// ```
pub struct CachedApiToken<M = ()> {
    principal: Arc<Principal<M>>,
    origin: Origin,
}

/// The mark of a request that the layer let pass without a token. It is inserted into the request's extensions,
/// so that an extractor can distinguish the request from one that no layer handled.
pub(crate) struct Anonymous<M>(PhantomData<fn() -> M>);

impl<M> Anonymous<M> {
    pub(crate) fn new() -> Self {
        Self(PhantomData)
    }
}

impl<M> Clone for Anonymous<M> {
    fn clone(&self) -> Self {
        Self(PhantomData)
    }
}

/// Metadata of an entry in the local level.
pub(crate) struct EntryMeta {
    pub(crate) digest: TokenDigest,
    /// The clock before the command was sent that read or wrote the entry (protocol.md section 6).
    pub(crate) as_of: Tick,
    /// The watch for the next change of the entry's key, if the store reports it.
    pub(crate) watch: Option<Watch>,
    /// The tenant that it belongs to. The tenant's generation is not here but in the value: a second copy would
    /// take 16 bytes for each entry.
    pub(crate) tenant: Option<Arc<GenerationCell>>,
    /// The entry's size in bytes, as far as it is known. It is the entry's weight in the local level.
    pub(crate) size: u32,
    /// Whether the record is past its TTL, and is answered because the loader failed. In [`Principal`] the flag
    /// would take 16 bytes for each entry; here it fits into padding.
    pub(crate) stale: bool,
    /// Whether it is in the store, so that reading it again can get it a watch.
    pub(crate) stored: bool,
    /// Set by the first request that finds the entry old enough to be refreshed.
    pub(crate) refreshing: AtomicBool,
}

/// A record, and the token that it was found by.
pub(crate) struct Principal<M> {
    pub(crate) entry: Arc<Entry<TokenRecord<M>>>,
    pub(crate) token: BearerToken,
    /// When a use of the token was last recorded, by the clock, or 0 if never.
    pub(crate) noted: AtomicU64,
    pub(crate) meta: EntryMeta,
    pub(crate) cache: Arc<CacheRef<M>>,
}

/// What knows when a token is no longer valid.
pub(crate) trait Revocations<M>: Send + Sync {
    /// Completes when the token is no longer valid.
    fn until_revoked(self: Arc<Self>, principal: Arc<Principal<M>>) -> BoxFuture<'static, ()>;
}

/// The cache that answered. All of its answers share it, so that each holds one pointer.
pub(crate) struct CacheRef<M>(Weak<dyn Revocations<M>>);

impl<M> CacheRef<M> {
    pub(crate) fn new(cache: Weak<impl Revocations<M> + 'static>) -> Self {
        Self(cache)
    }
}

/// The end of a token's validity; see [`CachedApiToken::revoked`].
#[must_use = "futures do nothing unless polled"]
pub struct Revoked(BoxFuture<'static, ()>);

impl Future for Revoked {
    type Output = ();

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<()> {
        self.0.as_mut().poll(context)
    }
}

impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Revoked")
    }
}

impl<M> Principal<M> {
    pub(crate) fn used(&self) -> Used<'_, M> {
        Used {
            record: &self.entry.value,
            token: &self.token,
            digest: &self.meta.digest,
            recorded: &self.noted,
        }
    }
}

impl<M> CachedApiToken<M> {
    pub(crate) fn new(principal: Arc<Principal<M>>, origin: Origin) -> Self {
        Self { principal, origin }
    }

    pub(crate) fn principal(&self) -> &Principal<M> {
        &self.principal
    }

    fn record(&self) -> &TokenRecord<M> {
        &self.principal.entry.value
    }

    /// Returns the database's id of the token.
    pub fn id(&self) -> &str {
        &self.record().id
    }

    /// Returns the application that the token belongs to.
    pub fn app_id(&self) -> Option<&str> {
        self.record().app_id.as_deref()
    }

    /// Returns the tenant that the token belongs to.
    pub fn tenant_id(&self) -> Option<&str> {
        self.record().tenant_id.as_deref()
    }

    /// Returns the token's type.
    #[doc(alias = "scope")]
    pub fn token_type(&self) -> Option<&str> {
        self.record().token_type.as_deref()
    }

    /// Returns the OAuth scopes of the token, as the [loader](TokenRecord::scopes) set them.
    pub fn scopes(&self) -> impl Iterator<Item = &str> {
        self.record().scopes.iter()
    }

    /// Returns whether the token has this OAuth scope.
    ///
    /// # Examples
    /// ```
    /// use tower_api_token::{CachedApiToken, Rejection};
    ///
    /// fn may_delete(token: &CachedApiToken) -> Result<(), Rejection> {
    ///     token.has_scope("orders:delete").then_some(()).ok_or(Rejection::INSUFFICIENT_SCOPE)
    /// }
    /// # let _ = may_delete;
    /// ```
    pub fn has_scope(&self, scope: &str) -> bool {
        self.record().scopes.contain(scope)
    }

    /// Returns the token itself, whose text only [`BearerToken::expose`] shows.
    pub fn token(&self) -> &BearerToken {
        &self.principal.token
    }

    /// Returns when the token was last used, as the row said when it was loaded.
    ///
    /// [`ApiTokenCache::last_used_at`](crate::ApiTokenCache::last_used_at) also knows of later uses.
    pub fn last_used_at(&self) -> Option<DateTime<Utc>> {
        self.record().last_used_at
    }

    /// Returns when the token was created.
    pub fn created_at(&self) -> Option<DateTime<Utc>> {
        self.record().created_at
    }

    /// Returns when the token expires.
    pub fn expires_at(&self) -> Option<DateTime<Utc>> {
        self.record().expires_at
    }

    /// Returns the data that the loader added to the record.
    pub fn metadata(&self) -> &M {
        &self.record().metadata
    }

    /// Completes when the token is no longer valid, to end what was begun with it: a WebSocket, server-sent events, a
    /// long download.
    ///
    /// It completes when the token was revoked and [invalidated](crate::ApiTokenCache::invalidate), when it expires,
    /// when its tenant was suspended and [invalidated](crate::ApiTokenCache::invalidate_tenant), or when the loader
    /// says so at the end of a TTL. An invalidation by this process ends it at once. One by another instance ends it
    /// within milliseconds where Redis reports changes
    /// ([client tracking](crate::RedisStore::client_tracking)), and otherwise, or if a report is lost, within
    /// [`max_staleness`](crate::ApiTokenCacheBuilder::max_staleness).
    ///
    /// While neither Redis nor the loader answers, nothing is known, and it does not complete: an outage ends no
    /// stream.
    ///
    /// While it waits it has one timer, of a `max_staleness` at most, and with client tracking it sends no commands.
    /// It does not count as a use of the token. It keeps the cache alive.
    ///
    /// # Cancel safety
    /// Dropping it has no effect.
    ///
    /// # Panics
    /// The future panics outside of a tokio runtime with its timer enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_api_token::CachedApiToken;
    /// # async fn next_event() -> Option<String> { None }
    /// # async fn send(_: String) {}
    /// async fn events(token: CachedApiToken) {
    ///     let mut revoked = token.revoked();
    ///     loop {
    ///         tokio::select! {
    ///             () = &mut revoked => return,
    ///             event = next_event() => match event {
    ///                 Some(event) => send(event).await,
    ///                 None => return,
    ///             }
    ///         }
    ///     }
    /// }
    /// # let _ = events;
    /// ```
    pub fn revoked(&self) -> Revoked
    where
        M: Send + Sync + 'static,
    {
        match self.principal.cache.0.upgrade() {
            Some(cache) => Revoked(cache.until_revoked(Arc::clone(&self.principal))),
            // Nothing can invalidate it any more: it only expires.
            None => {
                let left = self.expires_at().map(|at| at - Utc::now());
                Revoked(Box::pin(async move {
                    match left {
                        Some(left) => tokio::time::sleep(left.to_std().unwrap_or_default()).await,
                        None => std::future::pending().await,
                    }
                }))
            }
        }
    }

    pub(crate) fn is_of_type(&self, asked: Option<&str>) -> bool {
        self.record().is_of_type(asked)
    }

    pub(crate) fn into_principal(self) -> Arc<Principal<M>> {
        self.principal
    }

    /// Returns where the answer came from.
    pub fn origin(&self) -> Origin {
        self.origin
    }
}

impl<M> Clone for CachedApiToken<M> {
    fn clone(&self) -> Self {
        Self {
            principal: Arc::clone(&self.principal),
            origin: self.origin,
        }
    }
}

impl<M> fmt::Debug for CachedApiToken<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CachedApiToken")
            .field("id", &self.id())
            .field("type", &self.token_type())
            .finish_non_exhaustive()
    }
}
