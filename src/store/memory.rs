//! The store in this process's memory.

use std::collections::HashMap;
use std::future::ready;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use chrono::{DateTime, Utc};
use quick_cache::unsync::Cache;
use quick_cache::{DefaultHashBuilder, Lifecycle, UnitWeighter};

use super::backend::{Backend, Deletion, Durability, Put, StoreFuture};
use super::entry::{
    AcquireReply, Acquired, Bounds, Filled, Generation, Group, Nonce, Observed, ReadGeneration,
    Seen, Value,
};
use super::error::StoreError;
use super::into_store::IntoStore;
use super::into_store::sealed::{self, Parts};
use super::keys::EntryKey;
use super::watch::Watch;
use crate::clock::{Clock, Tick};
use crate::error::{ConfigError, MOST_ENTRIES};
use crate::util::lock;

const SHARDS: usize = 16;
const TENANTS: usize = 100_000;

/// A store in this process's memory, for one process without Redis. It is the default.
///
/// Records and negative entries have separate capacities, so that a flood of invented tokens cannot push out
/// valid ones. Invalidations take effect immediately.
/// [`wait_for_replicas`](crate::Invalidation::wait_for_replicas) is an error, because there are no replicas.
///
/// ```
/// use tower_api_token::MemoryStore;
///
/// let store = MemoryStore::new().capacity(10_000).negative_capacity(1_000);
/// # let _ = store;
/// ```
#[derive(Debug, Clone)]
pub struct MemoryStore {
    pub(crate) capacity: usize,
    pub(crate) negative_capacity: usize,
}

impl MemoryStore {
    /// Creates a store for 100,000 records and 25,000 negative entries.
    pub fn new() -> Self {
        Self {
            capacity: 100_000,
            negative_capacity: 25_000,
        }
    }

    /// Sets the maximum number of records.
    ///
    /// Defaults to 100,000, which is about 50 MB. The least is 16, one for each lock.
    #[must_use]
    pub fn capacity(mut self, records: usize) -> Self {
        self.capacity = records;
        self
    }

    /// Sets the maximum number of negative entries and denied records.
    ///
    /// Defaults to 25,000, which is about 5 MB of negative entries.
    #[must_use]
    pub fn negative_capacity(mut self, entries: usize) -> Self {
        self.negative_capacity = entries;
        self
    }
}

impl Default for MemoryStore {
    fn default() -> Self {
        Self::new()
    }
}

impl<M: Send + Sync + 'static> sealed::IntoStore<M> for MemoryStore {
    fn check(&self) -> Result<(), ConfigError> {
        let allowed = 0..=MOST_ENTRIES;
        ConfigError::unless_within("capacity", self.capacity, allowed.clone())?;
        ConfigError::unless_within("negative_capacity", self.negative_capacity, allowed)
    }

    fn into_store(self, parts: Parts) -> sealed::Erased<M> {
        sealed::Erased(Arc::new(Memory::new(&self, parts.clock)))
    }
}

const _: fn() = || {
    fn is_a_store<S: IntoStore<()>>() {}
    is_a_store::<MemoryStore>();
};

struct Memory<M> {
    clock: Clock,
    shards: Box<[Mutex<Shard<M>>]>,
    groups: Mutex<Groups>,
    last_uses: Mutex<Cache<EntryKey, DateTime<Utc>>>,
}

struct Groups {
    epoch: Option<Generation>,
    all: Option<Generation>,
    tenants: Cache<String, Generation>,
}

struct Lease {
    nonce: Nonce,
    until: Tick,
}

struct Slot<M> {
    version: u64,
    value: Value<M>,
}

impl<M> Slot<M> {
    fn until(&self) -> Tick {
        match &self.value {
            Value::Found(entry) => entry.until.after(entry.grace()),
            Value::Absent(entry) => entry.until,
        }
    }

    /// Marks the value as invalid for those who hold a reference.
    fn revoke(&self) {
        self.value.revoked().store(true, Ordering::Release);
    }
}

/// Revokes values that are evicted: an invalidation could no longer find them, and the local level may still
/// hold them.
#[derive(Clone)]
struct RevokeOnEvict;

impl<M> Lifecycle<EntryKey, Slot<M>> for RevokeOnEvict {
    /// What is evicted. It is dropped after the insertion: dropping a record may run the user's code, and a panic in it would
    /// leave the map half changed.
    type RequestState = Vec<Slot<M>>;

    // guard: M4
    fn on_evict(&self, evicted: &mut Vec<Slot<M>>, _: EntryKey, slot: Slot<M>) {
        slot.revoke();
        evicted.push(slot);
    }
}

type Slots<M> = Cache<EntryKey, Slot<M>, UnitWeighter, DefaultHashBuilder, RevokeOnEvict>;

struct Shard<M> {
    leases: HashMap<EntryKey, Lease>,
    records: Slots<M>,
    negatives: Slots<M>,
    version: u64,
}

impl<M> Shard<M> {
    fn new(records: usize, negatives: usize) -> Self {
        let slots = |capacity: usize| {
            let capacity = capacity.div_ceil(SHARDS).max(1);
            Cache::with(
                capacity,
                capacity as u64,
                UnitWeighter,
                DefaultHashBuilder::default(),
                RevokeOnEvict,
            )
        };
        Self {
            leases: HashMap::new(),
            records: slots(records),
            negatives: slots(negatives),
            version: 0,
        }
    }

    fn slot(&mut self, key: &EntryKey, now: Tick) -> Option<&Slot<M>> {
        let ended = |slot: Option<&Slot<M>>| slot.is_some_and(|slot| slot.until() <= now);
        if ended(self.records.peek(key)) || ended(self.negatives.peek(key)) {
            self.remove(key);
            return None;
        }
        if self.records.peek(key).is_some() {
            return self.records.get(key);
        }
        self.negatives.get(key)
    }

    fn remove(&mut self, key: &EntryKey) {
        for slots in [&mut self.records, &mut self.negatives] {
            if let Some((_, slot)) = slots.remove(key) {
                slot.revoke();
            }
        }
    }

    /// Returns the nonce of the key's lease, if there is one that has not expired.
    fn lease(&mut self, key: &EntryKey, now: Tick) -> Option<Nonce> {
        let lease = self.leases.get(key)?;
        if lease.until <= now {
            self.leases.remove(key);
            return None;
        }
        Some(lease.nonce)
    }

    fn give_lease(&mut self, key: &EntryKey, nonce: Nonce, until: Tick) {
        self.leases.insert(key.clone(), Lease { nonce, until });
    }

    /// Stores a value in place of the key's lease.
    fn put(&mut self, key: &EntryKey, value: &Value<M>) {
        self.leases.remove(key);
        self.version += 1;
        let slot = Slot {
            version: self.version,
            value: value.clone(),
        };
        let slots = match value {
            Value::Found(entry) if !entry.value.is_denied() => &mut self.records,
            // guard: B2
            Value::Found(_) | Value::Absent(_) => &mut self.negatives,
        };
        slots.insert(key.clone(), slot);
    }

    fn seen(&mut self, key: &EntryKey, now: Tick) -> Seen<M> {
        if self.lease(key, now).is_some() {
            return Seen::Lease;
        }
        match self.slot(key, now) {
            Some(slot) => {
                let left = slot.until().since(now);
                let version = Observed::Version(slot.version);
                Seen::Value(slot.value.clone(), version, Some(left))
            }
            None => Seen::Vacant,
        }
    }
}

impl<M> Memory<M> {
    fn new(store: &MemoryStore, clock: Clock) -> Self {
        Self {
            clock,
            shards: (0..SHARDS)
                .map(|_| Mutex::new(Shard::new(store.capacity, store.negative_capacity)))
                .collect(),
            groups: Mutex::new(Groups {
                epoch: None,
                all: None,
                tenants: Cache::new(TENANTS),
            }),
            last_uses: Mutex::new(Cache::new(store.capacity.max(1))),
        }
    }

    fn shard(&self, key: &EntryKey) -> MutexGuard<'_, Shard<M>> {
        lock(&self.shards[key.digest.spread() % SHARDS])
    }

    /// Returns the generation of a tenant, and creates it as `fresh` if there is none.
    fn of_tenant(&self, tenant: &str, fresh: Generation) -> Generation {
        let mut groups = self.groups();
        let present = groups.tenants.get(tenant).copied();
        if present.is_none() {
            groups.tenants.insert(tenant.to_owned(), fresh);
        }
        present.unwrap_or(fresh)
    }

    fn remembered(&self) -> MutexGuard<'_, Cache<EntryKey, DateTime<Utc>>> {
        lock(&self.last_uses)
    }

    fn groups(&self) -> MutexGuard<'_, Groups> {
        lock(&self.groups)
    }
}

/// Returns a future that is ready.
fn done<'a, T: Send + 'a>(answer: T) -> StoreFuture<'a, T> {
    Box::pin(ready(Ok(answer)))
}

impl<M: Send + Sync + 'static> Backend<M> for Memory<M> {
    fn is_local(&self) -> bool {
        true
    }

    fn get<'a>(&'a self, key: &'a EntryKey) -> StoreFuture<'a, Seen<M>> {
        done(self.shard(key).seen(key, self.clock.now()))
    }

    fn acquire<'a>(
        &'a self,
        key: &'a EntryKey,
        old: Option<&'a Observed>,
        nonce: Nonce,
        lease: Duration,
    ) -> StoreFuture<'a, AcquireReply<M>> {
        let now = self.clock.now();
        let acquired = {
            let mut shard = self.shard(key);
            let acquired = match old {
                None => match shard.seen(key, now) {
                    Seen::Vacant => Acquired::Ours,
                    seen => Acquired::Taken(seen),
                },
                Some(old) => {
                    let present = shard.slot(key, now);
                    let present = present.map(|slot| Observed::Version(slot.version));
                    if present.as_ref() == Some(old) {
                        shard.remove(key);
                        Acquired::Ours
                    } else {
                        Acquired::Gone
                    }
                }
            };
            if matches!(acquired, Acquired::Ours) {
                shard.give_lease(key, nonce, now.after(lease));
            }
            acquired
        };
        let groups = self.groups();
        done(AcquireReply {
            acquired,
            epoch: groups.epoch,
            all: groups.all,
        })
    }

    fn fill<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        previous: Option<&'a Observed>,
        _ttl: Duration, // the value's `until` says the same by this process's clock
    ) -> StoreFuture<'a, (Filled, Option<Watch>)> {
        let mut shard = self.shard(key);
        if shard.lease(key, self.clock.now()) != Some(nonce) {
            return done((Filled::Refused, None));
        }
        if previous.is_some() {
            // It was revoked when the lease replaced it. Under the same lease it is valid again.
            value.revoked().store(false, Ordering::Release);
        }
        shard.put(key, value);
        done((Filled::Stored(0), None))
    }

    fn release<'a>(&'a self, key: &'a EntryKey, nonce: Nonce) -> StoreFuture<'a, ()> {
        let mut shard = self.shard(key);
        if shard.lease(key, self.clock.now()) == Some(nonce) {
            shard.leases.remove(key);
        }
        done(())
    }

    fn generation<'a>(
        &'a self,
        group: &'a Group,
        fresh: Generation,
    ) -> StoreFuture<'a, ReadGeneration> {
        let generation = match group {
            Group::All => *self.groups().all.get_or_insert(fresh),
            Group::Tenant(tenant) => self.of_tenant(tenant, fresh),
        };
        done(ReadGeneration::unwatched(generation, Duration::MAX))
    }

    fn tenant_then_epoch<'a>(
        &'a self,
        _key: &'a EntryKey,
        tenant: &'a str,
        fresh: Generation,
    ) -> StoreFuture<'a, (ReadGeneration, Option<Generation>)> {
        let generation = self.of_tenant(tenant, fresh);
        let read = ReadGeneration::unwatched(generation, Duration::MAX);
        done((read, self.groups().epoch))
    }

    fn epoch(&self, fresh: Generation) -> StoreFuture<'_, Generation> {
        done(*self.groups().epoch.get_or_insert(fresh))
    }

    fn delete<'a>(
        &'a self,
        what: Deletion<'a>,
        _bounds: bool,
        durable: Option<Durability>,
    ) -> StoreFuture<'a, Option<Bounds>> {
        match what {
            Deletion::Token { keys, .. } => {
                for key in keys {
                    let mut shard = self.shard(key);
                    shard.leases.remove(key);
                    shard.remove(key);
                }
            }
            Deletion::Tenant(tenant) => {
                let mut groups = self.groups();
                groups.epoch = None;
                groups.tenants.remove(tenant);
            }
            Deletion::All => self.groups().all = None,
        }
        Box::pin(ready(match durable {
            None => Ok(None),
            Some(_) => Err(StoreError::has_no_replicas()),
        }))
    }

    fn register(&self, bound: Duration) -> StoreFuture<'_, Bounds> {
        done(vec![bound])
    }

    fn session(&self) -> u64 {
        0
    }

    fn put_last_uses<'a>(
        &'a self,
        uses: &'a [(EntryKey, DateTime<Utc>)],
    ) -> StoreFuture<'a, Vec<Put>> {
        let mut last = self.remembered();
        for (key, at) in uses {
            if last.peek(key).is_none_or(|present| present < at) {
                last.insert(key.clone(), *at);
            }
        }
        done(vec![Ok(()); uses.len()])
    }

    fn last_uses<'a>(
        &'a self,
        keys: &'a [EntryKey],
    ) -> StoreFuture<'a, Vec<Option<DateTime<Utc>>>> {
        let last = self.remembered();
        done(keys.iter().map(|key| last.get(key).copied()).collect())
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        done(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::entry::Entry;
    use crate::store::keys::Keys;
    use crate::store::layout::KeyLayout;
    use crate::token::{BearerToken, TokenRecord};

    #[test]
    fn records_and_nulls_have_budgets_of_their_own() {
        let store = MemoryStore::new().capacity(7).negative_capacity(8);
        assert_eq!((store.capacity, store.negative_capacity), (7, 8));
    }

    #[test]
    fn what_is_evicted_is_revoked_at_once_and_dropped_later() {
        let keys = Keys::new("memory".to_owned(), KeyLayout::digest()).unwrap();
        let token = BearerToken::new("abc");
        let entry = Arc::new(Entry::new(TokenRecord::new("1"), None));
        let slot = Slot {
            version: 1,
            value: Value::Found(Arc::clone(&entry)),
        };
        let (key, mut evicted) = (keys.key(&token, &token.digest(), None), Default::default());
        RevokeOnEvict.on_evict(&mut evicted, key, slot);
        assert!(entry.revoked.load(Ordering::Acquire));
        assert_eq!(Arc::strong_count(&entry), 2);
    }

    #[test]
    fn a_denied_record_is_in_the_budget_of_the_nulls() {
        let keys = Keys::new("memory".to_owned(), KeyLayout::digest()).unwrap();
        let token = BearerToken::new("abc");
        let key = keys.key(&token, &token.digest(), None);
        let record = TokenRecord::new("1");
        for (record, expected) in [(record.clone(), (1, 0)), (record.denied("no"), (0, 1))] {
            let mut shard = Shard::new(SHARDS, SHARDS);
            shard.put(&key, &Value::Found(Arc::new(Entry::new(record, None))));
            let kept = (shard.records.len(), shard.negatives.len());
            assert_eq!(kept, expected);
        }
    }
}
