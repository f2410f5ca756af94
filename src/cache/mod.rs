//! The engine, usable without HTTP.

mod answer;
mod builder;
mod bulkhead;
pub(crate) mod cached_token;
pub(crate) mod engine;
pub(crate) mod error;
mod fetch;
mod flight;
mod invalidation;
mod last_uses;
pub(crate) mod lifetimes;
mod load;
mod local;
mod lookup_span;
mod pilot;
mod proved;
mod scopes;
mod sync_points;
mod tenant_flights;
pub(crate) mod tenants;
mod unconfirmed;

use std::fmt;
use std::sync::Arc;

pub use answer::Answer;
pub use builder::ApiTokenCacheBuilder;
pub use cached_token::CachedApiToken;
use engine::Engine;
pub use error::{InvalidateError, Unavailable, UnavailableKind};
pub use invalidation::Invalidation;
use invalidation::Target;
#[cfg(feature = "test-util")]
pub use sync_points::{SyncPoint, SyncPoints};

use crate::loader::TokenLoader;
use crate::metrics::Stats;
use crate::store::StoreError;
use crate::store::keys::Scope;
use crate::token::{BearerToken, TokenDigest};

/// Verified tokens, cached: in this process, in the store, from the loader.
///
/// It is what [`ApiTokenLayer`](crate::ApiTokenLayer) asks, and can be asked without HTTP: for a
/// WebSocket's first message, a GraphQL field, a job's payload. A clone is a reference count; all
/// clones share everything.
///
/// ```
/// use tower_api_token::{Answer, ApiTokenCache, Lookup, TokenRecord};
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let loader = |lookup: Lookup| async move {
///     let known = lookup.token().expose() == "app-0123456789abcdef";
///     Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1", "app")))
/// };
/// let cache = ApiTokenCache::builder(loader).build()?;
///
/// match cache.authenticate("app-0123456789abcdef", "app").await {
///     Ok(Answer::Found(token)) => assert_eq!(token.id(), "tok-1"),
///     Ok(Answer::Denied(denial)) => println!("403: {}", denial.reason()),
///     Ok(_) => println!("401"),
///     Err(unavailable) => println!("503: {unavailable}"),
/// }
/// # Ok(())
/// # }
/// ```
pub struct ApiTokenCache<M = ()> {
    pub(crate) engine: Arc<Engine<M>>,
}

impl ApiTokenCache {
    /// Starts building a cache in front of `loader`.
    pub fn builder<L: TokenLoader>(loader: L) -> ApiTokenCacheBuilder<L::Metadata> {
        ApiTokenCacheBuilder::new(Arc::new(loader))
    }
}

impl<M: Send + Sync + 'static> ApiTokenCache<M> {
    /// Who presents this token, in this scope (`None`: in any).
    ///
    /// Only identity is cached; expiry, and type against scope, are decided at each call. To be
    /// called inside of a tokio runtime: a caller that hangs up does not end a miss, a task goes on with
    /// it.
    ///
    /// A token of any length and alphabet is looked up: what comes from outside should pass a check
    /// first, as the layer's does. A scope must not come from outside at all.
    ///
    /// # Panics
    /// On a miss, outside of a tokio runtime with its timer (and with Redis, its I/O) enabled.
    ///
    /// # Errors
    /// [`Unavailable`]: neither a cache nor the loader could say. Nothing is cached by it.
    pub async fn authenticate(
        &self,
        token: &str,
        scope: impl Into<Option<&str>>,
    ) -> Result<Answer<M>, Unavailable> {
        let scope = scope.into();
        if let Some(answer) = self.engine.answer_locally(token, scope) {
            return Ok(answer);
        }
        let scope = checked(scope)?;
        let token = BearerToken::new(token);
        Arc::clone(&self.engine).resolve(token, scope).await
    }

    /// What a cache says of this token, without asking the loader; `None` if it says nothing. It is no use
    /// of the token.
    ///
    /// # Errors
    /// The store did not answer.
    pub async fn peek(
        &self,
        token: &str,
        scope: impl Into<Option<&str>>,
    ) -> Result<Option<Answer<M>>, StoreError> {
        let scope = scope.into();
        if let Some(answer) = self.engine.peek_locally(token, scope) {
            return Ok(Some(answer));
        }
        let Ok(scope) = Scope::new(scope) else {
            return Ok(None);
        };
        let lookup = self.engine.lookup(BearerToken::new(token), scope);
        let resolved = self.engine.peek(&lookup).await?;
        Ok(resolved.map(|resolved| self.engine.decide(resolved, lookup.scope())))
    }

    /// Warms the caches up, by the way that a miss goes: after a deployment, for the tokens that are
    /// used most. It is no use of the token.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let loader = |_: Lookup| async {
    /// #     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1", "app")))
    /// # };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// assert!(cache.peek("app-0123456789abcdef", "app").await?.is_none());
    /// cache.prime("app-0123456789abcdef", "app").await?;
    /// assert!(cache.peek("app-0123456789abcdef", "app").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`authenticate`](Self::authenticate).
    pub async fn prime(
        &self,
        token: &str,
        scope: impl Into<Option<&str>>,
    ) -> Result<(), Unavailable> {
        let scope = scope.into();
        if self.engine.peek_locally(token, scope).is_some() {
            return Ok(());
        }
        let (token, scope) = (BearerToken::new(token), checked(scope)?);
        let engine = Arc::clone(&self.engine);
        engine.look_up(token, scope).await.map(drop)
    }

    /// Makes a change of this token hold everywhere: call it after the change is committed, be it a
    /// revocation or a creation (an unknown token may be cached as such).
    ///
    /// See [`Invalidation`] for what can be asked of it, and what is promised.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn changed(cache: ApiTokenCache, token: &str) -> Result<(), InvalidateError> {
    /// cache.invalidate(token).await?;            // in all scopes; other instances within the staleness bound
    /// cache.invalidate(token).and_wait().await?; // when no instance can still accept it
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate(&self, token: &str) -> Invalidation<M> {
        let token = BearerToken::new(token);
        let target = Target::Token(token.digest(), Some(token));
        Invalidation::new(Arc::clone(&self.engine), target)
    }

    /// The same for whoever holds the digest and not the text, as a database should. With the
    /// [seed layout](crate::KeyLayout::seed) it is an error that no repetition helps: its keys hold
    /// the text.
    pub fn invalidate_digest(&self, digest: TokenDigest) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::Token(digest, None))
    }

    /// Makes a change of a tenant hold for all of its tokens, however many are cached: two deletions.
    pub fn invalidate_tenant(&self, tenant: &str) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::Tenant(tenant.to_owned()))
    }

    /// What was counted since the cache was built.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Hands what was counted since the last time, and the levels as they are, to the recorder of the
    /// facade `metrics`: before each scrape, or each second. Nothing else does; only times are recorded
    /// by themselves.
    ///
    /// It is a bridge because a hit in this process's memory costs 200 ns, and the facade's counters would be a
    /// good part of that. Install the recorder first: what is handed over before that is gone. Names and
    /// labels: `docs/metrics.md`. Two caches of one process need different
    /// [namespaces](ApiTokenCacheBuilder::namespace), which are the label `cache`: of one, their counts
    /// would add up, and their levels overwrite each other.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
    /// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    /// # let cache = ApiTokenCache::builder(loader).build().unwrap();
    /// # let recorder = || String::new();
    /// let scrape = move || {
    ///     cache.publish_metrics();
    ///     recorder() // your exporter's rendering
    /// };
    /// # scrape();
    /// ```
    #[cfg(feature = "metrics")]
    pub fn publish_metrics(&self) {
        self.engine.publish_metrics();
    }

    /// How many entries the local level holds: records, and nulls together with denied records.
    pub fn local_entries(&self) -> (usize, usize) {
        self.engine.local.len()
    }

    /// How many flights are under way, of tokens and of tenants.
    #[cfg(feature = "test-util")]
    pub fn flights(&self) -> usize {
        self.engine.flights.len() + self.engine.tenant_flights.len()
    }

    /// Whether the store does what requests need of it; for a readiness probe. A service whose store is
    /// away still works, through its loader.
    ///
    /// Runs each command that requests need in Redis, scripts included, on keys of its own that end after
    /// a second; on a cluster in every master, and all slots have to have one. So it says no where a PING
    /// would say yes: of a read-only server, of one that is out of memory, of one that refuses a command,
    /// of one node of a larger cluster, and of a cluster that lacks a master, though some requests may
    /// still be answered from it. Replicas are not asked.
    ///
    /// # Errors
    /// The store did not answer in its deadline, or refused.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.engine.store.check().await
    }

    /// Ends what works in the background: writes the recorder's pending uses, within its
    /// [deadline](crate::UsageRecorder::shutdown_deadline), and says how many could not be written; they
    /// are counted as dropped. From now on no use is recorded, by any clone; look-ups go on.
    ///
    /// ```
    /// # use tower_api_token::ApiTokenCache;
    /// # async fn serve() {}
    /// # async fn run(cache: ApiTokenCache) {
    /// serve().await; // until its graceful shutdown is over
    /// let unwritten = cache.shutdown().await;
    /// if unwritten > 0 {
    ///     eprintln!("{unwritten} last uses are lost");
    /// }
    /// # }
    /// ```
    pub async fn shutdown(&self) -> usize {
        match &self.engine.usage {
            Some(usage) => usage.shutdown().await,
            None => 0,
        }
    }
}

/// A scope's name that is none is a mistake in the service, and no reason to call a token bad.
fn checked(scope: Option<&str>) -> Result<Scope, Unavailable> {
    Scope::new(scope).map_err(|_| Unavailable::new(UnavailableKind::UnknownScope))
}

impl<M> Clone for ApiTokenCache<M> {
    fn clone(&self) -> Self {
        Self {
            engine: Arc::clone(&self.engine),
        }
    }
}

impl<M> fmt::Debug for ApiTokenCache<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenCache").finish_non_exhaustive()
    }
}
