//! Invalidation: makes a change in the database effective in every instance (protocol.md I1 to I5).

use std::fmt;
use std::future::{Future, IntoFuture};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, SecondsFormat, Utc};

use super::attempt::Attempt;
use super::engine::Engine;
use super::error::InvalidateError;
use super::sync_points::SyncPoint;
use super::unconfirmed::Subject;
use crate::clock::Tick;
use crate::metrics::Timer;
use crate::store::backend::{Deletion, Durability};
use crate::store::entry::Bounds;
use crate::store::error::StoreError;
use crate::token::{BearerToken, TokenDigest};
use crate::trace::{chain, in_span, limited};
use crate::util::backoff::Backoff;
use crate::util::task::free_lifo_slot;

/// Returns the margin that `wait_for_all_instances` adds to the staleness bound, because the clocks of two
/// machines run at different rates (L11): a twentieth of the bound, and at least 50 ms.
///
/// That covers rates that differ by 5 %. NTP corrects a clock's rate by at most 0.05 %, and an uncorrected
/// quartz clock is off by 0.02 %. Only chrony, by default, may slew by more (8 %, `maxslewrate`) while it
/// corrects a large offset.
fn margin(bound: Duration) -> Duration {
    // guard: L11b
    (bound / 20).max(Duration::from_millis(50))
}

/// The first and the longest pause between two attempts. A reconnect takes about as long as the first. When the store is
/// back, it may return what the invalidation is to remove, so the longest is short.
const RETRIES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// How long one attempt of `wait_for_replicas` waits.
const REPLICAS_TIMEOUT: Duration = Duration::from_secs(1);

/// What an invalidation deletes.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    /// The digest, and the text if the caller had it.
    Token(TokenDigest, Option<BearerToken>),
    Tenant(String),
    All,
}

/// An invalidation, which does nothing until it is awaited.
///
/// Await it *after* the change is committed and visible to every loader. `Ok` means confirmed. An error
/// means *not confirmed*: the change may not be in force, so repeat it until it is `Ok`. Each invalidation
/// is attempted, however many failed before it.
///
/// A request that starts after `Ok` is answered from the database as it is now, with one exception: another
/// instance may answer from its memory for less than
/// [`max_staleness`](crate::ApiTokenCacheBuilder::max_staleness) (1 s by default).
/// [`wait_for_all_instances`](Self::wait_for_all_instances) completes when this exception is over, and
/// [`effective_at`](InvalidationReceipt::effective_at) says when that is.
///
/// Until an invalidation is confirmed, this instance asks the loader for the token (or for the tenant's
/// tokens) and does not answer from Redis. Other instances do not know of the change, and may answer from
/// before it until the entry expires.
///
/// # Cancel safety
///
/// Dropping the future before it completes, as a server does when its client disconnects, leaves the
/// invalidation unconfirmed. With [`retry_for`](Self::retry_for) it continues in a task of its own. A process that
/// ends needs an [outbox](crate::guide::deployment#the-outbox).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use tower_api_token::{ApiTokenCache, InvalidateError};
///
/// /// Invalidates a revoked token, after the commit.
/// async fn revoked(cache: &ApiTokenCache, token: &str) -> Result<(), InvalidateError> {
///     let invalidation = cache.invalidate(token).retry_for(Duration::from_secs(30));
///     invalidation.wait_for_all_instances().await?;
///     Ok(())
/// }
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # use tower_api_token::{Lookup, TokenRecord};
/// # let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
/// # let cache = ApiTokenCache::builder(loader).build()?;
/// # revoked(&cache, "app-0123456789abcdef").await?;
/// # Ok(())
/// # }
/// ```
#[must_use = "an invalidation does nothing until it is awaited, and its error means that it was not confirmed"]
pub struct Invalidation<M> {
    engine: Arc<Engine<M>>,
    target: Target,
    token_type: Option<Arc<str>>,
    wait: bool,
    replicas: Option<usize>,
    retry_for: Duration,
}

/// The times at which a confirmed invalidation takes effect.
///
/// # Examples
///
/// ```
/// # use tower_api_token::{ApiTokenCache, InvalidateError};
/// # async fn revoked(cache: ApiTokenCache, token: &str) -> Result<(), InvalidateError> {
/// let receipt = cache.invalidate(token).await?;
/// println!("revoked; rejected everywhere from {} on", receipt.effective_at());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidationReceipt {
    confirmed_at: DateTime<Utc>,
    effective_at: DateTime<Utc>,
    bound: Duration,
}

impl InvalidationReceipt {
    /// Returns when the store acknowledged the deletion. From then on this instance answers from the database.
    pub fn confirmed_at(&self) -> DateTime<Utc> {
        self.confirmed_at
    }

    /// Returns the time from which no instance answers from before the change, by this machine's clock.
    ///
    /// It is [`confirmed_at`](Self::confirmed_at) plus the longest staleness bound of any instance, plus a
    /// margin for clocks that run at different rates. With the in-memory store the two times are the same.
    ///
    /// An invalidation with [`wait_for_all_instances`](Invalidation::wait_for_all_instances) has read the
    /// bounds of all instances, and the time has passed when it completes. Without it, the time relies on
    /// this cache's own [`max_staleness`](crate::ApiTokenCacheBuilder::max_staleness), and on the bounds that
    /// the cache has read before. The time is too early if another instance is configured with a longer bound
    /// that this cache has not read, so configure all instances with the same bound.
    pub fn effective_at(&self) -> DateTime<Utc> {
        self.effective_at
    }

    /// Returns the longest staleness bound of an instance that [`effective_at`](Self::effective_at) relies on, zero
    /// with the in-memory store.
    pub fn bound(&self) -> Duration {
        self.bound
    }
}

/// Shows both times and the bound, to be filed: `confirmed at …, in force everywhere from … (bound 1s)`.
impl fmt::Display for InvalidationReceipt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at = |time: DateTime<Utc>| time.to_rfc3339_opts(SecondsFormat::Millis, true);
        let (confirmed, effective) = (at(self.confirmed_at), at(self.effective_at));
        let bound = self.bound;
        write!(
            f,
            "confirmed at {confirmed}, in force everywhere from {effective} (bound {bound:?})"
        )
    }
}

impl<M: Send + Sync + 'static> Invalidation<M> {
    pub(crate) fn new(engine: Arc<Engine<M>>, target: Target) -> Self {
        Self {
            engine,
            target,
            token_type: None,
            wait: false,
            replicas: None,
            retry_for: Duration::ZERO,
        }
    }

    /// Invalidates the entry of this token type alone, in the
    /// [layout that is shared with Dify](crate::store::KeyLayout::dify), whose keys hold a type.
    ///
    /// In any other layout a token has one entry, and this changes nothing. A tenant's invalidation ignores it,
    /// and covers all types.
    ///
    /// If the type is not [declared](crate::ApiTokenCacheBuilder::token_types), the invalidation returns an
    /// error when it is awaited.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn changed(cache: ApiTokenCache, token: &str) -> Result<(), InvalidateError> {
    /// cache.invalidate(token).of_type("dataset").await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn of_type(mut self, token_type: &str) -> Self {
        self.token_type = Some(token_type.into());
        self
    }

    /// Waits until no instance can still answer from before the change.
    ///
    /// After the deletion, the invalidation reads the staleness bounds of all instances from the store. It
    /// sleeps for the longest one plus a margin (a twentieth of it, at least 50 ms), because clocks run at
    /// different rates. With the in-memory store there is nothing to wait for.
    pub fn wait_for_all_instances(mut self) -> Self {
        self.wait = true;
        self
    }

    /// Waits until this many Redis replicas have acknowledged the deletion (`WAIT`), so that a failover to one
    /// of them does not undo it.
    ///
    /// Each attempt waits for one second. After three attempts the invalidation returns an error. On a cluster,
    /// these are the replicas of the master that owns the token's slot. For a tenant, the replicas of the
    /// epoch's master must acknowledge too, one master after the other.
    ///
    /// # Examples
    ///
    /// ```
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn suspended(cache: ApiTokenCache) -> Result<(), InvalidateError> {
    /// // On one replica at least, and in force everywhere.
    /// cache.invalidate_tenant("t-42").wait_for_replicas(1).wait_for_all_instances().await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn wait_for_replicas(mut self, replicas: usize) -> Self {
        self.replicas = Some(replicas);
        self
    }

    /// Repeats the invalidation until it is confirmed or `duration` is over, and continues if the caller hangs up.
    ///
    /// Attempts begin after pauses of 100 ms to 1 s, which grow and are shortened at random. The last one begins when
    /// `duration` is over. Only errors that are [retryable](InvalidateError::is_retryable) are repeated, and the result
    /// is that of the last attempt. Each attempt has its own timeouts, and with
    /// [`wait_for_all_instances`](Self::wait_for_all_instances) the wait follows the confirmation, so that the whole
    /// may take longer than `duration`.
    ///
    /// The attempts are made by a task, which is spawned when the invalidation is first polled. Dropping the future
    /// does not end the task. A client that disconnects *before* that, while the change is committed, prevents the
    /// invalidation: run both in a task of their own, or use an [outbox](crate::guide::deployment#the-outbox), which
    /// also survives a crash.
    ///
    /// Defaults to zero: one attempt, and no task.
    ///
    /// # Panics
    /// The future panics outside of a tokio runtime with its timer enabled.
    ///
    /// # Examples
    ///
    /// ```
    /// # use std::time::Duration;
    /// # use tower_api_token::{ApiTokenCache, InvalidateError};
    /// # async fn suspended(cache: ApiTokenCache) -> Result<(), InvalidateError> {
    /// // `Err` only if Redis does not confirm it for 30 seconds.
    /// cache.invalidate_tenant("t-42").retry_for(Duration::from_secs(30)).await?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn retry_for(mut self, duration: Duration) -> Self {
        self.retry_for = duration;
        self
    }

    async fn run(self) -> Result<InvalidationReceipt, InvalidateError> {
        if self.retry_for.is_zero() {
            return self.attempt().await;
        }
        // guard: I7
        let attempts = tokio::spawn(in_span(self.attempts()));
        free_lifo_slot();
        match attempts.await {
            Ok(result) => result,
            Err(error) => match error.try_into_panic() {
                Ok(panic) => std::panic::resume_unwind(panic),
                Err(_) => Err(InvalidateError::interrupted()),
            },
        }
    }

    /// Makes attempts until one is confirmed, one fails for good, or the time is over.
    async fn attempts(self) -> Result<InvalidationReceipt, InvalidateError> {
        let clock = &self.engine.clock;
        let end = clock.now().after(self.retry_for);
        let mut backoff = Backoff::new(RETRIES.0, RETRIES.1);
        loop {
            let result = self.attempt().await;
            let now = clock.now();
            match result {
                // guard: I7b
                Err(error) if error.is_retryable() && now < end => {
                    let pause = now.after(backoff.pause());
                    self.engine.sleep_until(pause.min(end)).await;
                }
                result => return result,
            }
        }
    }

    async fn attempt(&self) -> Result<InvalidationReceipt, InvalidateError> {
        let watch = Timer::start();
        let result = self.delete().await;
        let counters = &self.engine.counters;
        self.engine.metrics.invalidated(watch, result.is_ok());
        match &result {
            Ok(_) => counters.invalidations.add(),
            Err(error) => {
                counters.invalidation_failures.add();
                limited!(
                    error,
                    "an invalidation was not confirmed; repeat it",
                    error = chain(error)
                );
            }
        }
        let confirmed = result?;
        let clock = &self.engine.clock;
        let confirmed_at = clock.wall();
        let (bound, wait) = if self.engine.store.is_local() {
            (Duration::ZERO, Duration::ZERO)
        } else {
            let bound = self.engine.bounds.longest();
            // guard: L11
            (bound, bound + margin(bound))
        };
        if self.wait {
            self.engine.sleep_until(confirmed.after(wait)).await;
        }
        Ok(InvalidationReceipt {
            confirmed_at,
            effective_at: confirmed_at + wait,
            bound,
        })
    }

    /// Deletes, and returns when the deletion was confirmed.
    async fn delete(&self) -> Result<Tick, InvalidateError> {
        let engine = &self.engine;
        engine.reach(SyncPoint::BeforeInvalidation).await;
        if engine.refuses_invalidations() {
            return Err(InvalidateError::store(StoreError::not_connected(None)));
        }
        let durable = self.replicas.map(|replicas| Durability {
            replicas,
            timeout: REPLICAS_TIMEOUT,
        });
        let attempt;
        // A registry that is read later must contain a bound that it acknowledged before.
        let acknowledged = engine.bounds.are_acknowledged();
        let registry = match &self.target {
            Target::Token(digest, token) => {
                let token_type = self.token_type.as_ref();
                if !engine.token_types.allow(token_type.map(AsRef::as_ref)) {
                    return Err(InvalidateError::unknown_token_type());
                }
                let token_type = token_type.filter(|_| engine.keys.is_dify());
                attempt = Attempt::begin(engine, Subject::Token(*digest), token_type.cloned());
                let token = token.as_ref();
                if engine.keys.is_dify() && token.is_none() {
                    return Err(InvalidateError::store(StoreError::needs_text()));
                }
                let types = match token_type {
                    Some(one) => vec![Some(Arc::clone(one))],
                    None => engine.types_in_keys(),
                };
                let deletion = Deletion::Token {
                    keys: &engine.keys.keys(token, digest, &types),
                    all_types: token_type.is_none(),
                };
                engine.store.delete(deletion, self.wait, durable).await
            }
            Target::Tenant(tenant) => {
                attempt = Attempt::begin(engine, Subject::Tenant(tenant.as_str().into()), None);
                let deletion = Deletion::Tenant(tenant);
                engine.store.delete(deletion, self.wait, durable).await
            }
            Target::All => {
                // guard: AL7
                if engine.keys.is_dify() && engine.store.is_divided() {
                    // Nothing could ever confirm it, so it must not keep this instance from answering from the store.
                    return Err(InvalidateError::store(StoreError::needs_one_server()));
                }
                attempt = Attempt::begin(engine, Subject::All, None);
                engine.store.delete(Deletion::All, self.wait, durable).await
            }
        };
        self.learn(registry, acknowledged).await?;
        // guard: L10
        let confirmed = attempt.confirm();
        engine.reach(SyncPoint::Invalidated).await;
        Ok(confirmed)
    }

    /// Learns the bounds in the registry, if it was read. A registry that lacks our own bound, which it had
    /// acknowledged before, was lost, and perhaps another instance's longer bound with it. Our bound is then
    /// entered again, so that a repetition can succeed.
    ///
    /// # Errors
    /// Returns an error if the store failed or if the registry was lost.
    async fn learn(
        &self,
        registry: Result<Option<Bounds>, StoreError>,
        acknowledged: bool,
    ) -> Result<(), InvalidateError> {
        let engine = &self.engine;
        let Some(registry) = registry.map_err(InvalidateError::store)? else {
            return Ok(());
        };
        // guard: R4
        if engine.bounds.learn(&registry) || !acknowledged {
            return Ok(());
        }
        engine.bounds.forget_registration();
        engine.register().await.map_err(InvalidateError::store)?;
        Err(InvalidateError::registry())
    }
}

impl<M: Send + Sync + 'static> IntoFuture for Invalidation<M> {
    type Output = Result<InvalidationReceipt, InvalidateError>;
    type IntoFuture = Pin<Box<dyn Future<Output = Self::Output> + Send>>;

    fn into_future(self) -> Self::IntoFuture {
        Box::pin(self.run())
    }
}

impl<M> fmt::Debug for Invalidation<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Invalidation")
            .field("target", &self.target)
            .field("token_type", &self.token_type)
            .field("wait", &self.wait)
            .field("replicas", &self.replicas)
            .field("retry_for", &self.retry_for)
            .finish_non_exhaustive()
    }
}
