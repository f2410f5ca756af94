//! The engine's configuration.

use std::fmt;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Weak};
use std::time::Duration;

use super::bounds::{Bounds, LONGEST};
use super::bulkhead::Bulkhead;
use super::cached_token::CacheRef;
use super::engine::{Engine, Waits};
use super::generations::Generations;
use super::handle::ApiTokenCache;
use super::local::{Freshness, Local};
use super::single_flight::SingleFlight;
use super::token_types::TokenTypes;
use super::ttl::{DIFY_TTL, Ttls};
use super::unconfirmed::Unconfirmed;
use crate::clock::{Clock, LogicalClock};
use crate::error::{ConfigError, LONGEST_WAIT, MOST_ENTRIES};
use crate::last_use::{LastUseRecorder, Recorder};
use crate::loader::{DynLoader, TokenLoader};
use crate::metrics::Counters;
use crate::metrics::Metrics;
use crate::rate_limiter::RateLimiter;
use crate::store::into_store::IntoStore;
use crate::store::into_store::sealed::{self, Erased, Parts};
use crate::store::keys::Keys;
use crate::store::layout::KeyLayout;
use crate::store::memory::MemoryStore;
use crate::util::wakeups::Wakeups;

const DAY: Duration = Duration::from_secs(86_400);

type MakeStore<M> = Box<dyn FnOnce(Parts) -> Result<Erased<M>, ConfigError> + Send>;
type OnBuild<M> = Box<dyn FnOnce(&ApiTokenCache<M>) + Send>;

/// Builds an [`ApiTokenCache`]; see [`ApiTokenCache::builder`].
///
/// Every setter has a default. Setters accept any value; [`build`](Self::build) checks them all.
///
/// # Examples
///
/// Settings that a service with several instances should consider:
///
/// ```
/// # #[cfg(feature = "redis")] {
/// use std::time::Duration;
/// use tower_api_token::store::KeyLayout;
/// use tower_api_token::{ApiTokenCache, ConfigError, Lookup, RedisStore, TokenRecord};
///
/// fn cache(pepper: &str) -> Result<ApiTokenCache, ConfigError> {
/// #   let loader = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
///     let layout = KeyLayout::peppered(pepper);
///     let redis = RedisStore::new("redis://127.0.0.1:6379")?.key_layout(layout);
///     ApiTokenCache::builder(loader)
///         .store(redis)
///         .namespace("orders") // if several services share one Redis
///         .token_types(["app", "dataset"]) // all that layers ask for
///         .max_staleness(Duration::from_millis(500)) // other instances reject a revoked token within this
///         .max_concurrent_loads(20) // what the connection pool can spare
///         .stale_if_error(Duration::from_secs(3600)) // while the database fails
///         .build()
/// }
/// # cache("pepper").unwrap();
/// # }
/// ```
#[must_use]
pub struct ApiTokenCacheBuilder<M> {
    loader: Arc<dyn DynLoader<M>>,
    store: Option<MakeStore<M>>,
    layout: KeyLayout,
    namespace: String,
    /// The label of its metrics, if it is not the namespace.
    label: Option<String>,
    token_types: Option<Vec<String>>,
    ttl: Duration,
    negative_ttl: Duration,
    jitter_percent: u32,
    local_capacity: usize,
    local_negative_capacity: usize,
    max_staleness: Duration,
    load_timeout: Duration,
    max_concurrent_loads: usize,
    max_queued_loads: usize,
    load_queue_timeout: Duration,
    negative_writes_per_second: u32,
    stale_if_error: Duration,
    last_use: Option<LastUseRecorder>,
    clock: Clock,
    on_build: Vec<OnBuild<M>>,
    #[cfg(feature = "test-util")]
    sync_points: Option<crate::test_util::SyncPoints>,
}

impl ApiTokenCache {
    /// Starts building a cache in front of `loader`.
    pub fn builder<L: TokenLoader>(loader: L) -> ApiTokenCacheBuilder<L::Metadata> {
        ApiTokenCacheBuilder::new(Arc::new(loader))
    }
}

impl<M: Send + Sync + 'static> ApiTokenCacheBuilder<M> {
    pub(super) fn new(loader: Arc<dyn DynLoader<M>>) -> Self {
        Self {
            loader,
            store: None,
            layout: KeyLayout::default(),
            namespace: "api_token".to_owned(),
            label: None,
            token_types: None,
            ttl: Duration::from_secs(600),
            negative_ttl: Duration::from_secs(60),
            jitter_percent: 10,
            local_capacity: 100_000,
            local_negative_capacity: 25_000,
            max_staleness: Duration::from_secs(1),
            load_timeout: Duration::from_secs(3),
            max_concurrent_loads: 50,
            max_queued_loads: 16_384,
            load_queue_timeout: Duration::from_secs(2),
            negative_writes_per_second: 1_000,
            stale_if_error: Duration::ZERO,
            last_use: None,
            clock: Clock::default(),
            on_build: Vec::new(),
            #[cfg(feature = "test-util")]
            sync_points: None,
        }
    }

    /// Sets the store that all instances share.
    ///
    /// Defaults to a [`MemoryStore`] of the [local capacities](Self::local_capacity), which is for one process.
    pub fn store<S: IntoStore<M> + Send + 'static>(mut self, store: S) -> Self {
        self.layout = store.layout();
        self.store = Some(Box::new(|parts| {
            store.check()?;
            Ok(store.into_store(parts))
        }));
        self
    }

    /// Sets the prefix of all keys, and the label `cache` of metrics.
    ///
    /// Services that share one Redis need different namespaces, and so do two caches in one process. Defaults to
    /// `api_token`.
    pub fn namespace(mut self, namespace: impl Into<String>) -> Self {
        self.namespace = namespace.into();
        self
    }

    /// Declares the token types that layers and callers may ask for.
    ///
    /// Each layer must then name one of them, so that a misspelled name, or a layer that forgets to ask for a
    /// type, is found when the service starts. A request for another type is answered as unavailable. Defaults
    /// to none, which allows any name.
    ///
    /// The [layout that is shared with Dify](KeyLayout::dify) requires it, with all types that exist in
    /// any instance: its keys hold a type, and an invalidation deletes the key of each.
    #[doc(alias = "scopes")]
    pub fn token_types<S: Into<String>>(mut self, names: impl IntoIterator<Item = S>) -> Self {
        self.token_types = Some(names.into_iter().map(Into::into).collect());
        self
    }

    /// Sets how long a token's record is cached.
    ///
    /// An entry never outlives the token's own `expires_at`, and using it does not prolong it. Defaults to 600
    /// seconds, as in Dify's Python service.
    pub fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = ttl;
        self
    }

    /// Sets how long an unknown, denied or expired token is cached as such.
    ///
    /// [`Duration::ZERO`] turns this off: such tokens are neither stored nor kept in this process's memory, and
    /// each request with one waits for the loader, although concurrent requests still share a load. Entries that
    /// other instances have stored are used all the same.
    ///
    /// Defaults to 60 seconds, as in Dify's Python service.
    pub fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Sets the maximum random reduction of each TTL, in percent, up to 50.
    ///
    /// It keeps entries that were filled together from expiring together. Defaults to 10.
    pub fn ttl_jitter_percent(mut self, percent: u32) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// Sets how many valid tokens the local level, in this process's memory, holds.
    ///
    /// An entry larger than 1 KiB counts once per KiB or part of one, which bounds the memory too. `0` turns the
    /// local level off. Defaults to 100,000.
    pub fn local_capacity(mut self, records: usize) -> Self {
        self.local_capacity = records;
        self
    }

    /// Sets how many unknown and denied tokens the local level holds.
    ///
    /// They have a separate capacity, so that a flood of invented tokens evicts no valid one. Defaults to
    /// 25,000.
    pub fn local_negative_capacity(mut self, tokens: usize) -> Self {
        self.local_negative_capacity = tokens;
        self
    }

    /// Sets for how long another instance's local level may still answer from before an invalidation, counted
    /// from the reply to the invalidation.
    ///
    /// Where Redis reports changes ([client tracking](crate::RedisStore::client_tracking)), it is milliseconds, and
    /// this bound holds whatever breaks. Elsewhere a token in constant use costs each instance two reads from Redis
    /// per bound.
    ///
    /// All instances should have the same bound. Defaults to 1 second: long enough for several heartbeats, and short
    /// enough for a request that waits with
    /// [`wait_for_all_instances`](crate::Invalidation::wait_for_all_instances).
    pub fn max_staleness(mut self, bound: Duration) -> Self {
        self.max_staleness = bound;
        self
    }

    /// Sets how long a load may take, including a second one after a tenant's invalidation.
    ///
    /// A load that exceeds this timeout is dropped, and its request is answered with `503`. Work that it moved to
    /// another thread, such as `spawn_blocking`, is not stopped.
    ///
    /// Defaults to 3 seconds, which is longer than a healthy primary-key query takes and shorter than most clients
    /// wait. Another instance waits for the load for a second longer, and its lease lasts two seconds longer.
    pub fn load_timeout(mut self, timeout: Duration) -> Self {
        self.load_timeout = timeout;
        self
    }

    /// Sets how many loads may run at once.
    ///
    /// Defaults to 50. Set it to what your connection pool can spare. A load that is dropped at its
    /// [timeout](Self::load_timeout) is no longer counted, although work that it moved to another thread goes on;
    /// [`TokenLoader`](crate::TokenLoader) shows how to bound that too.
    pub fn max_concurrent_loads(mut self, loads: usize) -> Self {
        self.max_concurrent_loads = loads;
        self
    }

    /// Sets how many loads may wait for one of the [concurrent loads](Self::max_concurrent_loads) to end.
    ///
    /// Beyond it, requests are answered with `503` without waiting. Defaults to 16,384, which is enough for a cold
    /// start.
    pub fn max_queued_loads(mut self, loads: usize) -> Self {
        self.max_queued_loads = loads;
        self
    }

    /// Sets how long a load may wait in the queue.
    ///
    /// Defaults to 2 seconds.
    pub fn load_queue_timeout(mut self, wait: Duration) -> Self {
        self.load_queue_timeout = wait;
        self
    }

    /// Sets how many unknown and denied tokens this instance writes to the store per second.
    ///
    /// Beyond it they are answered but not written, so that a flood of invented tokens does not evict valid ones
    /// from the store. Defaults to 1,000.
    pub fn negative_writes_per_second(mut self, writes: u32) -> Self {
        self.negative_writes_per_second = writes;
        self
    }

    /// Sets for how long after its TTL a record may still be served if the loader fails (RFC 5861's
    /// stale-if-error).
    ///
    /// It applies to valid tokens only, never past the token's own `expires_at`, never after an invalidation, and
    /// only while the store answers: an instance that is cut off cannot know of invalidations. Such answers have
    /// [`Origin::Stale`](crate::Origin::Stale). Defaults to zero, which is off.
    pub fn stale_if_error(mut self, grace: Duration) -> Self {
        self.stale_if_error = grace;
        self
    }

    /// Records when tokens are used.
    ///
    /// Defaults to recording nothing.
    pub fn last_use(mut self, recorder: LastUseRecorder) -> Self {
        self.last_use = Some(recorder);
        self
    }

    /// Calls `hook` with the cache when it has been built, after the hooks that were added before.
    ///
    /// A library that makes a builder needs the cache that its user builds, for example to invalidate what changes.
    /// The hook is not called if the settings are invalid. Defaults to none.
    ///
    /// # Examples
    /// ```
    /// use std::sync::{Arc, OnceLock};
    /// use tower_api_token::{ApiTokenCache, ApiTokenCacheBuilder, Lookup, TokenRecord};
    ///
    /// #[derive(Clone, Default)]
    /// struct Keys {
    ///     cache: Arc<OnceLock<ApiTokenCache>>,
    /// }
    ///
    /// impl Keys {
    ///     fn cache(&self) -> ApiTokenCacheBuilder<()> {
    ///         let bound = Arc::clone(&self.cache);
    /// #       let find = |_: Lookup| async { Ok::<_, std::io::Error>(None::<TokenRecord>) };
    ///         ApiTokenCache::builder(find).on_build(move |cache| {
    ///             let _ = bound.set(cache.clone());
    ///         })
    ///     }
    /// }
    ///
    /// let keys = Keys::default();
    /// let cache = keys.cache().namespace("orders").build()?;
    /// assert!(keys.cache.get().is_some());
    /// # drop(cache);
    /// # Ok::<(), tower_api_token::ConfigError>(())
    /// ```
    pub fn on_build(mut self, hook: impl FnOnce(&ApiTokenCache<M>) + Send + 'static) -> Self {
        self.on_build.push(Box::new(hook));
        self
    }

    /// Sets the clock, for tests.
    #[cfg(feature = "test-util")]
    pub fn clock(mut self, clock: crate::test_util::ManualClock) -> Self {
        self.clock = Clock::Manual(clock);
        self
    }

    /// Sets places in the protocol where a test can hold a request.
    #[cfg(feature = "test-util")]
    pub fn sync_points(mut self, sync_points: crate::test_util::SyncPoints) -> Self {
        self.sync_points = Some(sync_points);
        self
    }

    /// Tells its metrics apart from those of another cache of the same namespace.
    pub(super) fn label(mut self, label: String) -> Self {
        self.label = Some(label);
        self
    }

    /// Builds the cache. This opens no connection: the store may become reachable later.
    ///
    /// # Errors
    /// Returns an error if a setting is out of range. It names the setting and the range that is allowed.
    pub fn build(self) -> Result<ApiTokenCache<M>, ConfigError> {
        self.check()?;
        let metrics = Metrics::new(self.label.as_deref().unwrap_or(&self.namespace));
        let keys = Arc::new(Keys::new(self.namespace, self.layout)?);
        let token_types = TokenTypes::new(self.token_types.as_deref(), &keys)?;
        let parts = Parts {
            keys: Arc::clone(&keys),
            clock: self.clock.clone(),
            stale_if_error: !self.stale_if_error.is_zero(),
            ttl: self.ttl,
            bound: if self.local_capacity == 0 {
                Duration::ZERO
            } else {
                self.max_staleness
            },
        };
        let Erased(store) = match self.store {
            Some(make) => make(parts)?,
            None => sealed::IntoStore::into_store(
                embedded(self.local_capacity, self.local_negative_capacity),
                parts,
            ),
        };
        let freshness = if self.local_capacity == 0 {
            Freshness::Off
        } else if store.is_local() {
            Freshness::Own
        } else {
            Freshness::Within(self.max_staleness)
        };
        let recorder = |settings| {
            let (store, keys) = (Arc::clone(&store), Arc::clone(&keys));
            Recorder::new(settings, store, keys, self.clock.clone())
        };
        let last_use = self.last_use.map(recorder);
        let waits = Waits::new(
            self.load_timeout,
            self.load_queue_timeout,
            store.operation_timeout(),
        );
        let local = Local::new(
            freshness,
            store.tracker().cloned(),
            self.local_capacity,
            self.local_negative_capacity,
        );
        let engine = |this: &Weak<Engine<M>>| Engine {
            order: LogicalClock::default(),
            last_use,
            keys,
            store,
            loader: self.loader,
            local,
            generations: Generations::default(),
            unconfirmed: Unconfirmed::new(),
            wakeups: Wakeups::new(),
            this: Arc::new(CacheRef::new(this.clone())),
            entry_calls: Arc::new(SingleFlight::new(waits.step)),
            generation_calls: Arc::new(SingleFlight::new(waits.read)),
            bulkhead: Bulkhead::new(
                self.max_concurrent_loads,
                self.max_queued_loads,
                self.load_queue_timeout,
            ),
            negative_writes: RateLimiter::new(self.negative_writes_per_second),
            token_types,
            bounds: Bounds::new(freshness.bound(), self.max_staleness),
            ttls: Ttls {
                ttl: self.ttl,
                negative_ttl: self.negative_ttl,
                jitter_percent: self.jitter_percent,
                stale_if_error: self.stale_if_error,
            },
            waits,
            counters: Counters::default(),
            metrics,
            loader_failed: AtomicU64::new(0),
            clock: self.clock,
            #[cfg(feature = "test-util")]
            sync_points: self.sync_points,
        };
        let cache = ApiTokenCache {
            engine: Arc::new_cyclic(engine),
        };
        for hook in self.on_build {
            hook(&cache);
        }
        Ok(cache)
    }

    fn check(&self) -> Result<(), ConfigError> {
        if let Some(last_use) = &self.last_use {
            last_use.check()?;
        }
        let times = [
            ("ttl", self.ttl, Duration::from_millis(1), 30 * DAY),
            ("negative_ttl", self.negative_ttl, Duration::ZERO, DAY),
            (
                "stale_if_error",
                self.stale_if_error,
                Duration::ZERO,
                30 * DAY,
            ),
            (
                "max_staleness",
                self.max_staleness,
                Duration::from_millis(10),
                LONGEST,
            ),
            (
                "load_timeout",
                self.load_timeout,
                Duration::from_millis(10),
                LONGEST_WAIT,
            ),
            (
                "load_queue_timeout",
                self.load_queue_timeout,
                Duration::ZERO,
                LONGEST_WAIT,
            ),
        ];
        for (name, value, least, most) in times {
            ConfigError::unless_within(name, value, least..=most)?;
        }
        for (name, value) in [
            ("local_capacity", self.local_capacity),
            ("local_negative_capacity", self.local_negative_capacity),
            ("max_queued_loads", self.max_queued_loads),
        ] {
            ConfigError::unless_within(name, value, 0..=MOST_ENTRIES)?;
        }
        let permits = 1..=tokio::sync::Semaphore::MAX_PERMITS;
        ConfigError::unless_within("max_concurrent_loads", self.max_concurrent_loads, permits)?;
        ConfigError::unless_within("ttl_jitter_percent", self.jitter_percent, 0..=50)?;
        if self.layout.is_dify() && self.ttl > DIFY_TTL {
            return Err(ConfigError::of(
                "ttl",
                "at most 600 s in the Dify layout, because Python's index of a tenant ends soon after",
            ));
        }
        if self.layout.is_dify() && !self.stale_if_error.is_zero() {
            return Err(ConfigError::of(
                "stale_if_error",
                "not in the Dify layout, because Python would answer such records too",
            ));
        }
        Ok(())
    }
}

/// Returns the default store. It is as large as the local level, or has its own defaults if the local level is
/// off.
fn embedded(records: usize, negatives: usize) -> MemoryStore {
    match records {
        0 => MemoryStore::new(),
        _ => MemoryStore::new()
            .capacity(records)
            .negative_capacity(negatives.max(1)),
    }
}

impl<M> fmt::Debug for ApiTokenCacheBuilder<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ApiTokenCacheBuilder")
            .field("namespace", &self.namespace)
            .field("token_types", &self.token_types)
            .field("ttl", &self.ttl)
            .field("negative_ttl", &self.negative_ttl)
            .field("max_staleness", &self.max_staleness)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_default_store_is_as_large_as_the_local_level_and_without_one_as_its_own_defaults() {
        let sizes = |records, negatives| {
            let store = embedded(records, negatives);
            (store.capacity, store.negative_capacity)
        };
        let MemoryStore {
            capacity,
            negative_capacity,
        } = MemoryStore::new();
        assert_eq!(sizes(0, 7), (capacity, negative_capacity));
        assert_eq!((sizes(20, 7), sizes(20, 0)), ((20, 7), (20, 1)));
    }
}
