//! Measures how long a revocation takes, with a token of the crate's own.

use std::collections::HashSet;
use std::error::Error;
use std::fmt;
use std::future::ready;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::time::timeout;

use super::answer::Answer;
use super::cached_token::CachedApiToken;
use super::error::{InvalidateError, Unavailable};
use super::handle::ApiTokenCache;
use super::invalidation::InvalidationReceipt;
use super::local::Freshness;
use crate::error::{BoxError, ConfigError};
use crate::loader::{Lookup, TokenLoader};
use crate::metrics::Timer;
use crate::store::entry::Nonce;
use crate::store::into_store::IntoStore;
use crate::token::{BearerToken, TokenDigest, TokenRecord};
use crate::trace::{chain, limited};
use crate::util::lock;

/// How long after twice the bound a revocation is still waited for, so that a miss of the bound is measured.
const GRACE: Duration = Duration::from_secs(5);

/// Revokes a token of its own again and again, and measures how long it takes until another instance rejects it.
///
/// That a revocation is in force within [`max_staleness`](crate::ApiTokenCacheBuilder::max_staleness) on every instance
/// is a promise. This measures whether it is kept on the production path: by the same server and user, the same
/// layout, and a confirmed invalidation by the cache itself. The other instance is a second cache in this process, with
/// its own connection and memory. The token is known to nobody else: neither your loader nor your database sees it.
///
/// Each measurement is recorded in the histogram `api_token_revocation_seconds` (feature `metrics`).
/// `demo/ops/alerts.yml` has alerts for it. It costs some ten commands of Redis. The other instance's own durations have
/// `.canary` after the namespace in the label `cache`.
///
/// # Examples
///
/// ```
/// # #[cfg(feature = "redis")]
/// # async fn start() -> Result<(), Box<dyn std::error::Error>> {
/// use std::time::Duration;
/// use tower_api_token::{ApiTokenCache, RedisStore, RevocationCanary};
///
/// # let loader = |_: tower_api_token::Lookup| async {
/// #     Ok::<_, std::io::Error>(None::<tower_api_token::TokenRecord>)
/// # };
/// let store = RedisStore::new("redis://127.0.0.1")?;
/// let cache = ApiTokenCache::builder(loader).store(store.clone()).build()?;
/// let canary = RevocationCanary::new(&cache, store)?;
/// tokio::spawn(canary.run(Duration::from_secs(60)));
/// # Ok(())
/// # }
/// ```
pub struct RevocationCanary<M = ()> {
    cache: ApiTokenCache<M>,
    observer: ApiTokenCache<()>,
    /// One of the declared types.
    token_type: Option<Arc<str>>,
    valid: Valid,
}

/// The canary's database: the tokens that are not revoked yet.
type Valid = Arc<Mutex<HashSet<TokenDigest>>>;

/// What a [`RevocationCanary`] measured.
#[derive(Debug, Clone, Copy)]
pub struct MeasuredRevocation {
    took: Duration,
    receipt: InvalidationReceipt,
}

impl MeasuredRevocation {
    /// Returns the time from before the invalidation until the other instance had rejected the token.
    pub fn took(&self) -> Duration {
        self.took
    }

    /// Returns the invalidation's receipt.
    pub fn receipt(&self) -> InvalidationReceipt {
        self.receipt
    }
}

/// Why a [`RevocationCanary`] measured nothing.
#[derive(Debug)]
#[non_exhaustive]
pub enum CanaryError {
    /// The other instance could not look the token up.
    Unavailable(Unavailable),
    /// The invalidation was not confirmed.
    NotConfirmed(InvalidateError),
    /// The other instance still accepted the token 5 seconds after twice the bound.
    NotRejected(InvalidationReceipt),
    /// The other instance did not accept the token before it was revoked.
    NotAccepted,
}

impl fmt::Display for CanaryError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unavailable(_) => f.write_str("the canary's token could not be looked up"),
            Self::NotConfirmed(_) => f.write_str("the canary's revocation was not confirmed"),
            Self::NotRejected(receipt) => {
                write!(f, "the canary's token was not rejected: {receipt}")
            }
            Self::NotAccepted => f.write_str("the canary's token was not accepted"),
        }
    }
}

impl Error for CanaryError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            Self::Unavailable(error) => Some(error),
            Self::NotConfirmed(error) => Some(error),
            Self::NotRejected(_) | Self::NotAccepted => None,
        }
    }
}

/// The observer's loader.
struct OwnTokens {
    token_type: Option<Arc<str>>,
    valid: Valid,
}

impl TokenLoader for OwnTokens {
    type Metadata = ();

    fn load(
        &self,
        lookup: Lookup,
    ) -> impl Future<Output = Result<Option<TokenRecord>, BoxError>> + Send {
        let is_valid = lock(&self.valid).contains(&lookup.digest());
        let token_type = self.token_type.as_deref().map(str::to_owned);
        let record = TokenRecord::new("canary").token_type(token_type);
        ready(Ok(is_valid.then_some(record)))
    }
}

/// A token of the canary's, which is valid until it is revoked or dropped.
struct Issued<'a> {
    token: BearerToken,
    valid: &'a Valid,
}

impl<'a> Issued<'a> {
    fn new(valid: &'a Valid) -> Self {
        let token = BearerToken::new(format!("canary-{}", Nonce::new()));
        lock(valid).insert(token.digest());
        Self { token, valid }
    }

    /// Commits the revocation.
    fn revoke(&self) {
        lock(self.valid).remove(&self.token.digest());
    }
}

impl Drop for Issued<'_> {
    fn drop(&mut self) {
        self.revoke();
    }
}

impl<M: Send + Sync + 'static> RevocationCanary<M> {
    /// Creates a canary for `cache`. `store` is another store with the same settings, such as a clone of the cache's
    /// `RedisStore`: the other instance opens its own connection with it.
    ///
    /// # Errors
    /// Returns an error if `store` is in this process's memory, which no other instance shares, or if the store's own
    /// settings are out of range.
    pub fn new(
        cache: &ApiTokenCache<M>,
        store: impl IntoStore<()> + Send + 'static,
    ) -> Result<Self, ConfigError> {
        let engine = &cache.engine;
        let (token_type, valid) = (engine.token_types.first(), Valid::default());
        let namespace = engine.keys.namespace();
        let loader = OwnTokens {
            token_type: token_type.clone(),
            valid: Arc::clone(&valid),
        };
        let mut builder = ApiTokenCache::builder(loader)
            .namespace(namespace)
            .label(format!("{namespace}.canary"))
            .store(store);
        // The cache's own bound, and not the longest that it has read: the observer registers it, and so would bring back
        // the bound of an instance that is gone.
        match engine.local.freshness() {
            Freshness::Within(bound) => builder = builder.max_staleness(bound),
            Freshness::Off => builder = builder.local_capacity(0),
            Freshness::Own => {}
        }
        if let Some(token_type) = &token_type {
            builder = builder.token_types([&**token_type]);
        }
        let observer = builder.build()?;
        if observer.engine.store.is_local() || engine.store.is_local() {
            return Err(ConfigError::of(
                "store",
                "one that instances share, because within one process a revocation is in force at once",
            ));
        }
        Ok(Self {
            cache: cache.clone(),
            observer,
            token_type,
            valid,
        })
    }

    /// Measures one revocation. It takes as long as the revocation.
    ///
    /// # Errors
    /// Returns an error if the store could not be asked, or if a promise is broken
    /// ([`NotRejected`](CanaryError::NotRejected)).
    ///
    /// # Cancel safety
    /// This method is cancel safe. Its token is valid nowhere else.
    pub async fn measure(&self) -> Result<MeasuredRevocation, CanaryError> {
        let issued = Issued::new(&self.valid);
        let accepted = self.accept(&issued.token).await?;
        let (timer, clock) = (Timer::start(), &self.cache.engine.clock);
        let began = clock.now();
        issued.revoke();
        let rejected = self.reject(&issued.token, accepted).await;
        let took = clock.now().since(began);
        self.cache.engine.metrics.revoked(timer, rejected.is_ok());
        let receipt = rejected?;
        Ok(MeasuredRevocation { took, receipt })
    }

    /// Measures a revocation once in this time. The future never completes; the canary ends when it is dropped.
    ///
    /// An error is logged, and the histogram counts it as `failed` if the token had been accepted.
    ///
    /// # Panics
    /// The future panics outside of a tokio runtime with its timer enabled.
    pub async fn run(self, every: Duration) {
        loop {
            if let Err(error) = self.measure().await {
                limited!(
                    error,
                    "the canary could not measure a revocation",
                    error = chain(&error)
                );
            }
            tokio::time::sleep(every).await;
        }
    }

    /// Lets the observer accept the token, from its memory if it has one.
    async fn accept(&self, token: &BearerToken) -> Result<CachedApiToken, CanaryError> {
        match self.ask(token).await? {
            Answer::Valid(token) => Ok(token),
            Answer::Invalid(_) | Answer::Denied(_) => Err(CanaryError::NotAccepted),
        }
    }

    /// Invalidates the token, and waits until the observer rejects it.
    async fn reject(
        &self,
        token: &BearerToken,
        accepted: CachedApiToken,
    ) -> Result<InvalidationReceipt, CanaryError> {
        let invalidation = self.cache.invalidate(token.expose());
        let receipt = match &self.token_type {
            // Without it, the Dify layout looks at all keys.
            Some(token_type) => invalidation.of_type(token_type).await,
            None => invalidation.await,
        };
        let receipt = receipt.map_err(CanaryError::NotConfirmed)?;
        let limit = receipt.bound() * 2 + GRACE;
        // Without a local level each lookup asks the store.
        let is_off = self.observer.engine.local.freshness().is_off();
        let is_over = is_off || timeout(limit, accepted.revoked()).await.is_ok();
        match self.ask(token).await? {
            Answer::Invalid(_) if is_over => Ok(receipt),
            _ => Err(CanaryError::NotRejected(receipt)),
        }
    }

    async fn ask(&self, token: &BearerToken) -> Result<Answer, CanaryError> {
        let (observer, token) = (&self.observer, token.expose());
        let answer = match &self.token_type {
            Some(token_type) => observer.authenticate_typed(token, token_type).await,
            None => observer.authenticate(token).await,
        };
        answer.map_err(CanaryError::Unavailable)
    }
}

impl<M> fmt::Debug for RevocationCanary<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RevocationCanary").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_valid_until_it_is_revoked_or_dropped() {
        let valid = Valid::default();
        let [revoked, dropped] = [Issued::new(&valid), Issued::new(&valid)];
        assert_eq!(lock(&valid).len(), 2);
        revoked.revoke();
        drop(dropped);
        assert!(lock(&valid).is_empty());
    }
}
