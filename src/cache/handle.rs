//! The public handle of a cache.

use std::fmt;
use std::sync::Arc;

use super::answer::Answer;
use super::engine::Engine;
use super::error::Unavailable;
use super::invalidation::{Invalidation, Target};
use crate::metrics::Stats;
use crate::store::error::StoreError;
use crate::token::{BearerToken, TokenDigest};

/// A cache of verified tokens in this process and a [store](crate::ApiTokenCacheBuilder::store), in front of a
/// [loader](crate::TokenLoader).
///
/// [`ApiTokenLayer`](crate::ApiTokenLayer) uses it for HTTP requests. Use it directly for tokens that arrive in
/// another way, such as in the first message of a WebSocket or in the payload of a job.
///
/// Cloning it is cheap, and clones share all state.
///
/// # Examples
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
    /// The syntax of `token` is not checked. Reject malformed tokens before you call this, as the layer does.
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

    /// Authenticates `token`, and accepts only tokens of type `token_type`.
    ///
    /// A token of another type, or without one, is invalid
    /// ([`WrongTokenType`](crate::InvalidReason::WrongTokenType)). The type is compared on each call, so that calls
    /// for different types share one entry and one load. Never take `token_type` from the request.
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
        self.engine.resolve(token, asked.map(Arc::from)).await
    }

    /// Returns the cached answer for `token`, or `None` if there is none.
    ///
    /// This never calls the loader, and does not count as a use of the token.
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

    /// Loads `token` into the cache if it is not cached yet, for example after a deployment for the most used
    /// tokens.
    ///
    /// This does not count as a use of the token.
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
    ///
    /// # Examples
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
    pub async fn warm(&self, token: &str) -> Result<(), Unavailable> {
        for in_key in self.engine.types_in_keys() {
            if self.engine.peek_locally(token, in_key.as_deref()).is_none() {
                let token = BearerToken::new(token);
                self.engine.look_up(token, in_key.as_deref()).await?;
            }
        }
        Ok(())
    }

    /// Invalidates `token`, so that all instances load it again.
    ///
    /// Call this after each change of the token was committed. This includes its creation, because the token may
    /// be cached as unknown. [`Invalidation`] documents the options and guarantees.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn changed(cache: ApiTokenCache, token: &str) -> Result<(), InvalidateError> {
    /// // Other instances may use the old record for up to `max_staleness` after this returns.
    /// cache.invalidate(token).await?;
    /// // No instance uses the old record after this returns.
    /// cache.invalidate(token).wait_for_all_instances().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate(&self, token: &str) -> Invalidation<M> {
        let token = BearerToken::new(token);
        let target = Target::Token(token.digest(), Some(token));
        Invalidation::new(Arc::clone(&self.engine), target)
    }

    /// Invalidates a token by its digest, like [`invalidate`](Self::invalidate).
    ///
    /// Use this if your database stores only digests, as it should. With the
    /// [Dify layout](crate::store::KeyLayout::dify), whose keys contain the token, the invalidation returns an error
    /// that is not retryable.
    pub fn invalidate_digest(&self, digest: TokenDigest) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::Token(digest, None))
    }

    /// Invalidates all tokens of a tenant. Call this after a change of the tenant was committed.
    ///
    /// This deletes two keys, however many of the tokens are cached. In the
    /// [Dify layout](crate::store::KeyLayout::dify) it deletes each entry.
    pub fn invalidate_tenant(&self, tenant: &str) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::Tenant(tenant.to_owned()))
    }

    /// Invalidates everything that is cached, so that all instances load each token again. Call this after a change that
    /// concerns all tokens, or nobody knows which, was committed: after a leak, or after a restore of the database.
    ///
    /// This deletes one key, however many tokens are cached: the generation that each entry was filled under. In the
    /// [Dify layout](crate::store::KeyLayout::dify) it deletes each entry. Every token in use is then loaded once, within
    /// the limit on [concurrent loads](crate::ApiTokenCacheBuilder::max_concurrent_loads).
    ///
    /// It reaches the instances of one [namespace](crate::ApiTokenCacheBuilder::namespace).
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn leaked(cache: ApiTokenCache) -> Result<(), InvalidateError> {
    /// // After the commit that revokes the tokens.
    /// let invalidation = cache.invalidate_all().retry_for(Duration::from_secs(30));
    /// let receipt = invalidation.wait_for_all_instances().await?;
    /// println!("rejected everywhere from {} on", receipt.effective_at());
    /// # Ok(())
    /// # }
    /// ```
    pub fn invalidate_all(&self) -> Invalidation<M> {
        Invalidation::new(Arc::clone(&self.engine), Target::All)
    }

    /// Returns the counters since the cache was built, and the sizes of the local level.
    pub fn stats(&self) -> Stats {
        self.engine.stats()
    }

    /// Publishes the counters since the last call, and the current gauges, to the recorder of the `metrics` crate.
    ///
    /// Call this before each scrape, or once a second. Without it only durations are recorded. A local hit takes
    /// 0.3 to 0.4 µs, of which the counters of the `metrics` crate would be a large part, so the cache counts by itself
    /// and publishes the sums. Install the recorder first: counts that are published without one are lost.
    /// `docs/metrics.md` lists names and labels.
    ///
    /// Give each cache of a process its own [namespace](crate::ApiTokenCacheBuilder::namespace), which is the label
    /// `cache`. With the same label, their counters would add up, and their gauges would overwrite each other.
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

    /// Returns how many calls are in flight, for tokens and for generations.
    #[cfg(feature = "test-util")]
    pub fn in_flight(&self) -> usize {
        self.engine.entry_calls.len() + self.engine.generation_calls.len()
    }

    /// Checks that the store executes every command that requests need.
    ///
    /// Show the result in a readiness probe, but stay ready if it is an error: the loader still answers requests.
    ///
    /// In Redis, this runs each command and script on separate keys that expire after a second. On a cluster it
    /// does so on every master, and every slot must have one. So it also fails where a `PING` succeeds: on a server
    /// that is read-only, out of memory or refuses a command, on a single node of a larger cluster, and on a cluster
    /// that lacks a master, although some requests may still be answered from it. Replicas are not checked.
    ///
    /// # Errors
    /// Returns an error if the store did not answer within its timeout, or refused a command.
    ///
    /// # Cancel safety
    /// This method is cancel safe. Keys that it has written expire.
    pub async fn check_store(&self) -> Result<(), StoreError> {
        self.engine.store.check().await
    }

    /// Returns whether `other` is a clone of this cache.
    pub fn is_clone_of(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.engine, &other.engine)
    }

    /// Returns the [namespace](crate::ApiTokenCacheBuilder::namespace) of the keys in the store.
    pub fn namespace(&self) -> &str {
        self.engine.keys.namespace()
    }

    /// Returns whether other processes can use the same [store](crate::ApiTokenCacheBuilder::store), as they can use a
    /// `RedisStore`. An invalidation of a cache whose store is this process's memory reaches no other cache.
    pub fn has_shared_store(&self) -> bool {
        !self.engine.store.is_local()
    }

    /// Writes the pending last uses and stops recording. Returns how many uses could not be written within the
    /// [timeout](crate::last_use::LastUseRecorder::shutdown_timeout); they are counted as dropped.
    ///
    /// Clones of this cache no longer record uses either. Lookups are still answered.
    ///
    /// # Cancel safety
    /// If this method is dropped, recording has stopped, and uses that are not yet written stay pending until it
    /// is called again.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_api_token::ApiTokenCache;
    /// # async fn serve() {}
    /// # async fn run(cache: ApiTokenCache) {
    /// serve().await; // returns after a graceful shutdown
    /// let unwritten = cache.shutdown().await;
    /// if unwritten > 0 {
    ///     eprintln!("{unwritten} last uses were lost");
    /// }
    /// # }
    /// ```
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
