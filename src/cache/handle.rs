//! The cache's public handle.

use std::fmt;
use std::sync::Arc;

use super::answer::Answer;
use super::engine::Engine;
use super::error::Unavailable;
use super::invalidation::{Invalidation, Target};
use crate::metrics::Stats;
use crate::store::error::StoreError;
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
///     Ok::<_, std::io::Error>(known.then(|| TokenRecord::new("tok-1").token_type("app")))
/// };
/// let cache = ApiTokenCache::builder(loader).build()?;
///
/// match cache.authenticate_typed("app-0123456789abcdef", "app").await {
///     Ok(Answer::Valid(token)) => assert_eq!(token.id(), "tok-1"),
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

impl<M: Send + Sync + 'static> ApiTokenCache<M> {
    /// Authenticates `token`, whatever its type, loading it if no cache has a current entry.
    ///
    /// Concurrent calls for the same token share one load. Expiry is checked on each call, even if the
    /// entry is cached.
    ///
    /// A token of any length and alphabet is looked up: check what comes from outside first, as the layer
    /// does.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if neither a cache nor the loader could answer. The failure is not cached.
    ///
    /// # Panics
    /// Panics on a miss outside of a tokio runtime with its timer (and with Redis, its I/O) enabled.
    ///
    /// # Cancel safety
    /// This method is cancel safe. If it is dropped during a load, the load continues in a background
    /// task for other callers.
    pub async fn authenticate(&self, token: &str) -> Result<Answer<M>, Unavailable> {
        self.ask(token, None).await
    }

    /// Authenticates `token` for those who accept tokens of `token_type` alone.
    ///
    /// The type is compared on each call, even if the entry is cached: a token of another type, or of
    /// none, is [`WrongTokenType`](crate::InvalidReason::WrongTokenType). Calls for different types share one entry and one
    /// load. The type must not come from the request.
    ///
    /// # Errors
    /// Returns [`Unavailable`] if neither a cache nor the loader could answer, or if `token_type` is not
    /// one of the [declared](crate::ApiTokenCacheBuilder::token_types) types. The failure is not cached.
    ///
    /// # Panics
    /// Panics on a miss outside of a tokio runtime with its timer (and with Redis, its I/O) enabled.
    ///
    /// # Cancel safety
    /// This method is cancel safe. If it is dropped during a load, the load continues in a background
    /// task for other callers.
    pub async fn authenticate_typed(
        &self,
        token: &str,
        token_type: &str,
    ) -> Result<Answer<M>, Unavailable> {
        self.ask(token, Some(token_type)).await
    }

    async fn ask(&self, token: &str, asked: Option<&str>) -> Result<Answer<M>, Unavailable> {
        self.engine.check_type(asked)?;
        if let Some(answer) = self.engine.answer_locally(token, asked) {
            return Ok(answer);
        }
        let token = BearerToken::new(token);
        let engine = Arc::clone(&self.engine);
        engine.resolve(token, asked.map(Arc::from)).await
    }

    /// Returns what the caches say about `token`, without asking the loader, or `None` if they say
    /// nothing.
    ///
    /// It does not count as a use of the token.
    ///
    /// # Errors
    /// Returns [`StoreError`] if the store did not answer.
    ///
    /// # Cancel safety
    /// This method is cancel safe.
    pub async fn peek(&self, token: &str) -> Result<Option<Answer<M>>, StoreError> {
        let engine = &self.engine;
        let mut last = None;
        for in_key in engine.types_in_keys() {
            let in_key = in_key.as_deref();
            let answer = match engine.peek_locally(token, in_key) {
                Some(answer) => Some(answer),
                None => {
                    let lookup = engine.lookup(BearerToken::new(token), in_key);
                    let resolved = engine.peek(&lookup).await?;
                    resolved.map(|resolved| engine.decide(resolved, in_key))
                }
            };
            match answer {
                Some(Answer::Invalid(_)) | None => last = answer.or(last),
                good => return Ok(good),
            }
        }
        Ok(last)
    }

    /// Loads `token` into the caches if it is not there: after a deployment, for the tokens that are used
    /// most.
    ///
    /// It takes the way of a miss, and does not count as a use of the token.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, Lookup, TokenRecord};
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let loader = |_: Lookup| async {
    /// #     Ok::<_, std::io::Error>(Some(TokenRecord::new("tok-1")))
    /// # };
    /// # let cache = ApiTokenCache::builder(loader).build()?;
    /// assert!(cache.peek("app-0123456789abcdef").await?.is_none());
    /// cache.warm("app-0123456789abcdef").await?;
    /// assert!(cache.peek("app-0123456789abcdef").await?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Returns [`Unavailable`] if neither a cache nor the loader could answer. The failure is not cached.
    ///
    /// # Panics
    /// Panics on a miss outside of a tokio runtime with its timer (and with Redis, its I/O) enabled.
    ///
    /// # Cancel safety
    /// This method is cancel safe. If it is dropped during a load, the load continues in a background
    /// task.
    pub async fn warm(&self, token: &str) -> Result<(), Unavailable> {
        for in_key in self.engine.types_in_keys() {
            if self.engine.peek_locally(token, in_key.as_deref()).is_none() {
                let engine = Arc::clone(&self.engine);
                engine.look_up(BearerToken::new(token), in_key).await?;
            }
        }
        Ok(())
    }

    /// Makes a change of this token hold everywhere: call it after the change is committed, be it a
    /// revocation or a creation (an unknown token may be cached as such).
    ///
    /// See [`Invalidation`] for what can be asked of it, and what is promised.
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn changed(cache: ApiTokenCache, token: &str) -> Result<(), InvalidateError> {
    /// cache.invalidate(token).await?;            // other instances within the staleness bound
    /// cache.invalidate(token).wait_for_all_instances().await?; // when no instance can still accept it
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate(&self, token: &str) -> Invalidation<M> {
        let token = BearerToken::new(token);
        let target = Target::Token(token.digest(), Some(token));
        Invalidation::new(Arc::clone(&self.engine), target)
    }

    /// Invalidates a token by its digest, for callers that do not have the text: a database should store
    /// digests only.
    ///
    /// With the [Dify layout](crate::store::KeyLayout::dify) the invalidation returns an error that is not
    /// retryable, because the layout's keys hold the text.
    pub fn invalidate_digest(&self, digest: TokenDigest) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::Token(digest, None))
    }

    /// Invalidates all tokens of a tenant: call it after a change of the tenant is committed.
    ///
    /// It takes two deletions, however many of the tokens are cached.
    pub fn invalidate_tenant(&self, tenant: &str) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::Tenant(tenant.to_owned()))
    }

    /// Returns the counts since the cache was built.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Publishes the counts since the last call, and the current gauges, to the recorder of the `metrics` crate.
    ///
    /// Call it before each scrape, or once a second: only durations are recorded without it. A hit in this
    /// process's memory takes 200 ns, of which the crate's counters would be a good part, so hits are counted
    /// here and published together. Install the recorder first, because counts that are published without one
    /// are lost. `docs/metrics.md` lists names and labels.
    ///
    /// Two caches of one process need different [namespaces](crate::ApiTokenCacheBuilder::namespace), which are the
    /// label `cache`. With the same label, their counts would add up, and their gauges would overwrite each
    /// other.
    ///
    /// # Examples
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

    /// Returns the number of calls that are under way, for tokens and for tenants.
    #[cfg(feature = "test-util")]
    pub fn in_flight(&self) -> usize {
        self.engine.entry_calls.len() + self.engine.generation_calls.len()
    }

    /// Checks that the store does what requests need of it, for a readiness probe. A service whose store is
    /// unreachable still works, through its loader.
    ///
    /// The check runs each command that requests need in Redis, scripts included, on separate keys that expire
    /// after a second. On a cluster it runs them on every master, and every slot must have one. So it fails
    /// where a PING succeeds: on a read-only server, on one that is out of memory or refuses a command, on one
    /// node of a larger cluster, and on a cluster that lacks a master, although some requests may still be
    /// answered from it. Replicas are not asked.
    ///
    /// # Errors
    /// Returns an error if the store did not answer within its timeout, or refused a command.
    ///
    /// # Cancel safety
    /// This method is cancel safe: what it has written expires.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.engine.store.check().await
    }

    /// Writes the recorder's pending uses, within its [timeout](crate::last_use::LastUseRecorder::shutdown_timeout), and
    /// returns how many could not be written. Those are counted as dropped.
    ///
    /// Afterwards no clone of this cache records uses any more. Lookups are still answered.
    ///
    /// # Examples
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
    ///
    /// # Cancel safety
    /// If this method is dropped, recording has ended, and uses that are not yet written stay pending until it
    /// is called again.
    pub async fn shutdown(&self) -> usize {
        match &self.engine.last_use {
            Some(recorder) => recorder.shutdown().await,
            None => 0,
        }
    }
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
