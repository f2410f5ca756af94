//! The engine's state: what lookups and invalidations share.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::Resolved;
use super::bounds::{Bounds, Published};
use super::bulkhead::Bulkhead;
use super::cached_token::{CacheRef, CachedApiToken};
use super::error::Unavailable;
use super::generations::Generations;
use super::local::{Fingerprint, Local};
use super::single_flight::{Leader, SingleFlight};
use super::sync_points::SyncPoint;
#[cfg(feature = "test-util")]
use super::sync_points::SyncPoints;
use super::token_types::TokenTypes;
use super::ttl::{DIFY_TTL, Ttls};
use super::unconfirmed::{Subject, Unconfirmed};
use crate::clock::{Clock, LogicalClock, Tick};
use crate::last_use::Recorder;
use crate::loader::{DynLoader, Lookup};
#[cfg(feature = "metrics")]
use crate::metrics::Gauges;
use crate::metrics::{Counters, Metrics, Outcome, Stats};
use crate::rate_limiter::RateLimiter;
use crate::store::backend::Backend;
use crate::store::entry::{Generation, Group};
use crate::store::error::StoreError;
use crate::store::keys::{EntryKey, Keys};
use crate::token::BearerToken;
use crate::util::wakeups::Wakeups;

type EntryCalls<M> = SingleFlight<EntryKey, Resolved<M>, Unavailable>;
pub(crate) type EntryLeader<M> = Leader<EntryKey, Resolved<M>, Unavailable>;
pub(super) type GenerationCalls = SingleFlight<Group, Generation, StoreError>;
pub(super) type GenerationLeader = Leader<Group, Generation, StoreError>;

/// The waits of protocol.md section 2, in their order: load timeout < wait < lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// From the acquire's send to the fill's send.
    pub(crate) load: Duration,
    /// W: how long another's lease is waited for.
    pub(crate) lease_wait: Duration,
    /// P: how long a lease lasts.
    pub(crate) lease: Duration,
    /// More than a call can take from one send to the next.
    pub(crate) step: Duration,
    /// More than a call that reads a generation can take.
    pub(crate) read: Duration,
}

impl Waits {
    /// `command`: how long one operation of the store may take.
    pub(super) fn new(load: Duration, place: Duration, command: Duration) -> Self {
        Self {
            load,
            lease_wait: load + Duration::from_secs(1),
            lease: load + Duration::from_secs(2),
            // A wait for a place, or a load, and the store before and after it.
            step: place.max(load) + command + Duration::from_secs(1),
            read: command + Duration::from_secs(1),
        }
    }
}

/// How long a loader that failed is not asked again for a record that may be answered stale.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Engine<M> {
    pub(crate) clock: Clock,
    pub(crate) order: LogicalClock,
    pub(crate) keys: Arc<Keys>,
    pub(crate) store: Arc<dyn Backend<M>>,
    pub(crate) loader: Arc<dyn DynLoader<M>>,
    pub(crate) local: Local<M>,
    pub(crate) generations: Generations,
    pub(crate) unconfirmed: Unconfirmed,
    /// Wakes those who wait for an invalidation by this process.
    pub(super) wakeups: Wakeups,
    /// This engine, for what outlives a call of it.
    pub(super) this: Arc<CacheRef<M>>,
    pub(crate) entry_calls: Arc<EntryCalls<M>>,
    pub(crate) generation_calls: Arc<GenerationCalls>,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) negative_writes: RateLimiter,
    pub(crate) token_types: TokenTypes,
    pub(crate) bounds: Bounds,
    pub(crate) ttls: Ttls,
    pub(crate) waits: Waits,
    pub(crate) counters: Counters,
    pub(crate) last_use: Option<Recorder<M>>,
    pub(crate) metrics: Metrics,
    /// When the loader last failed, by the clock; 0: never.
    pub(crate) loader_failed: AtomicU64,
    #[cfg(feature = "test-util")]
    pub(crate) sync_points: Option<SyncPoints>,
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// Returns whether `token` has expired since it was answered.
    pub(crate) fn has_expired(&self, token: &CachedApiToken<M>) -> bool {
        token.principal().entry.value.is_expired(self.clock.wall())
    }

    /// Returns whether this cache answered with `token`.
    pub(crate) fn has_answered(&self, token: &CachedApiToken<M>) -> bool {
        Arc::ptr_eq(&token.principal().cache, &self.this)
    }

    /// Returns whether operators can know of this instance's bound from here on. It is asked before a
    /// send; only then may what the command proves be kept: an operator that deletes after the command
    /// ran finds the bound when it reads the registry after that.
    pub(super) fn published(&self, now: Tick) -> Published {
        if self.store.is_local() {
            return Published::Own;
        }
        let session = self.store.session();
        if self.bounds.is_registered(session, now) {
            Published::In(session)
        } else {
            Published::No
        }
    }

    /// Returns whether this instance's bound is to be entered before anything is read.
    pub(super) fn has_to_register(&self, now: Tick) -> bool {
        !self.store.is_local() && self.bounds.is_due(self.store.session(), now)
    }

    /// Returns whether the local level may keep what a command proves, given what `published` returned before
    /// its send. A session that ended meanwhile may have taken the registry with it.
    pub(super) fn may_keep(&self, published: Published) -> bool {
        match published {
            Published::Own => true,
            Published::In(session) => session == self.store.session(), // guard: R6
            Published::No => false,
        }
    }

    /// Returns whether an invalidation of the token, or of `tenant`, was tried from here and not
    /// confirmed, so that the store may hold what it was for.
    pub(super) fn is_unconfirmed(&self, lookup: &Lookup, tenant: Option<&str>) -> bool {
        !self.unconfirmed.is_empty()
            && self
                .unconfirmed
                .covers(&lookup.digest, tenant, self.clock.now())
    }

    /// Returns how long after a refresh the next one may follow.
    pub(super) fn refresh_pause(&self) -> Duration {
        const LONGEST: Duration = Duration::from_secs(1);
        (self.bounds.own() / 8).min(LONGEST)
    }

    /// Ends the watches of a token's entries, as a push would. Those of a group end with its cell.
    pub(super) fn end_watches(&self, subject: &Subject) {
        let (Some(tracker), Subject::Token(digest)) = (self.store.tracker(), subject) else {
            return;
        };
        if self.keys.is_dify() {
            // The names of its keys hold the text, which is not known.
            return tracker.all_changed();
        }
        for key in self.keys.keys(None, digest, &[None]) {
            tracker.changed(self.keys.entry(&key).as_bytes());
        }
    }

    /// Returns until when the store can hold what it holds now, or what a load fills that began
    /// before now.
    pub(super) fn until_all_has_ended(&self) -> Tick {
        let lease = self.waits.lease;
        // The Python service's entries have its own TTL.
        let least = if self.keys.is_dify() {
            DIFY_TTL
        } else {
            Duration::ZERO
        };
        let longest = self.ttls.longest().max(least) + lease;
        self.clock.now().after(longest + longest / 20)
    }

    /// Enters this instance's bound into the registry, and learns what else is there.
    pub(super) async fn register(&self) -> Result<(), StoreError> {
        // Sessions count connections, and the first is made by what is sent over it.
        let (session, now) = (self.store.session().max(1), self.clock.now());
        let registry = self.store.register(self.bounds.own());
        let registry = if self.keys.is_dify() {
            registry.await
        } else {
            // To read it renews its TTL. Lookups may read it only together with entries, which does not. guard: AL6
            let all = self.store.generation(&Group::All, Generation::new());
            tokio::join!(registry, all).0
        };
        let registry = registry?;
        self.bounds.registered(session, now);
        self.bounds.learn(&registry);
        Ok(())
    }

    /// Returns whether the loader failed within the last second: then a record past its TTL is answered
    /// without another load.
    pub(crate) fn loader_failed_lately(&self) -> bool {
        let failed = self.loader_failed.load(Ordering::Relaxed);
        failed != 0 && self.clock.now().since(Tick(failed)) < RETRY
    }

    /// Counts a lookup that could not be answered.
    pub(super) fn unavailable(&self, error: Unavailable) -> Unavailable {
        self.counters.looked_up(Outcome::Unavailable, None);
        error
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.counters.read();
        let (records, negatives) = self.local.len();
        (stats.local_records, stats.local_negatives) = (records as u64, negatives as u64);
        (stats.evicted_records, stats.evicted_negatives) = self.local.evicted();
        if let Some(tracker) = self.store.tracker() {
            let counts = tracker.counts();
            (stats.client_tracking, stats.watched) = (counts.is_on, counts.watches);
            (stats.tracked_reads, stats.tracking_pushes) = (counts.reads, counts.pushes);
        }
        if let Some(last_use) = &self.last_use {
            last_use.count(&mut stats);
        }
        stats
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn publish_metrics(&self) {
        let (loads, waiting, max_concurrent_loads) = self.bulkhead.taken();
        let gauges = Gauges {
            loads,
            waiting,
            max_concurrent_loads,
            breakers: self.store.breakers(),
        };
        self.metrics.publish(|| self.stats(), &gauges);
    }

    /// Returns the question to the loader. `in_key` is the token type that the entry's key holds.
    pub(crate) fn lookup(&self, token: BearerToken, in_key: Option<&str>) -> Lookup {
        Lookup {
            digest: token.digest(),
            token,
            token_type: in_key.map(Arc::from),
        }
    }

    /// Returns the token types that a token's keys can hold, each a lookup of its own. In the digest layout no
    /// key holds one.
    pub(crate) fn types_in_keys(&self) -> Vec<Option<Arc<str>>> {
        if self.keys.is_dify() {
            self.token_types.in_keys()
        } else {
            vec![None]
        }
    }

    pub(crate) fn key(&self, lookup: &Lookup) -> EntryKey {
        let token_type = lookup.token_type.as_ref();
        self.keys.key(&lookup.token, &lookup.digest, token_type)
    }

    pub(crate) fn fingerprint(&self, lookup: &Lookup) -> Fingerprint {
        let (token, token_type) = (lookup.token.expose(), lookup.token_type.as_deref());
        self.local.fingerprint(token, token_type)
    }

    /// Lets a test hold the lookup at `point`.
    #[cfg(feature = "test-util")]
    pub(crate) async fn reach(&self, point: SyncPoint) {
        if let Some(sync_points) = &self.sync_points {
            sync_points.reach(point).await;
        }
    }

    /// Returns whether a test refuses invalidations.
    #[cfg(feature = "test-util")]
    pub(crate) fn refuses_invalidations(&self) -> bool {
        let sync_points = self.sync_points.as_ref();
        sync_points.is_some_and(SyncPoints::refuses_invalidations)
    }

    /// Sleeps until the clock shows `until`. In the test of a contract it moves the clock instead.
    #[cfg(feature = "test-util")]
    pub(crate) async fn sleep_until(&self, until: Tick) {
        let sync_points = self.sync_points.as_ref();
        if let Clock::Manual(clock) = &self.clock
            && sync_points.is_some_and(SyncPoints::skips_pauses)
        {
            clock.advance(until.since(self.clock.now()));
            tokio::task::yield_now().await;
        }
        self.clock.sleep_until(until).await;
    }

    /// Returns `false`: without `test-util` no test refuses any.
    #[cfg(not(feature = "test-util"))]
    pub(crate) const fn refuses_invalidations(&self) -> bool {
        false
    }

    #[cfg(not(feature = "test-util"))]
    pub(crate) async fn sleep_until(&self, until: Tick) {
        self.clock.sleep_until(until).await;
    }

    /// Does nothing: without `test-util` there are no sync points.
    #[cfg(not(feature = "test-util"))]
    #[expect(clippy::unused_async, reason = "the same signature as with test-util")]
    pub(crate) async fn reach(&self, _: SyncPoint) {}
}
