//! Loads and fills under a lease (R5 and R6), or answers without caching.

use tokio::sync::OwnedSemaphorePermit;

use super::load::Checked;
use super::state::{Completed, Fetch, KnownGeneration, Lease, Sent};
use crate::cache::error::Unavailable;
use crate::cache::single_flight::{Completion, SendNumber};
use crate::cache::sync_points::SyncPoint;
use crate::clock::Tick;
use crate::metrics::Origin;
use crate::store::entry::{Filled, Generation, Group};
use crate::store::error::StoreError;
use crate::trace::limited;
use crate::util::random;

/// How a loaded answer's generation was found, which decides who may share the answer.
enum Fence {
    /// The answer has no tenant. It is for those who joined before the fill.
    NoTenant,
    /// T was known before the load, by (a) or (c). The fill confirms nothing about the tenant, so the answer is
    /// for those who joined before the load.
    KnownBefore(Generation),
    /// E is unchanged (b). The answer is for those who joined before this send: the second GET of E, or the load.
    EpochUnchanged(Generation, SendNumber),
}

impl Fence {
    fn generation(&self) -> Option<Generation> {
        match self {
            Self::NoTenant => None,
            Self::KnownBefore(generation) | Self::EpochUnchanged(generation, _) => {
                Some(*generation)
            }
        }
    }

    /// Returns the send before which a waiter must have joined to share an answer that was loaded and filled by
    /// these sends.
    fn proof(&self, load: SendNumber, fill: SendNumber) -> SendNumber {
        match self {
            Self::NoTenant => fill,
            Self::KnownBefore(_) => load,
            // guard: G2
            Self::EpochUnchanged(_, proof) => *proof,
        }
    }
}

impl<M: Send + Sync + 'static> Fetch<'_, M> {
    /// Loads and fills under our lease (R5 and R6).
    pub(super) async fn load_and_fill(&self, lease: Lease<M>) -> Completed<M> {
        let mut load = self.send();
        let mut held = None;
        let mut checked = match self.load(lease.deadline).await {
            Ok(checked) => checked,
            Err(error) => return self.load_failed(lease, error).await,
        };
        let fence = match checked.tenant_id() {
            None => Fence::NoTenant,
            Some(tenant) => match self.known_before(tenant, lease.known.as_ref(), load) {
                Some(generation) => Fence::KnownBefore(generation),
                None => {
                    let tenant = tenant.to_owned();
                    let second = self.send();
                    let noted = self.engine.is_unconfirmed(&self.lookup, Some(&*tenant));
                    let read = self
                        .engine
                        .store
                        .tenant_then_epoch(&self.key, &tenant, Generation::new())
                        .await;
                    self.engine.reach(SyncPoint::TenantRead).await;
                    let (read, now) = match read {
                        Ok(read) => read,
                        Err(error) => {
                            self.store_failed(&error);
                            self.release(lease.nonce).await;
                            return self.uncached(checked, load.number);
                        }
                    };
                    let generation = read.generation;
                    held = self.engine.observe_generation(
                        &Group::tenant(&tenant),
                        read,
                        second.tick,
                        second.published,
                    );
                    // A missing E is taken for a changed one: it may have been deleted twice.
                    // guard: G1, G4
                    if lease.epoch.is_some() && now == lease.epoch {
                        // If an invalidation is not confirmed, the load may have begun before its change, and be
                        // answered from after its confirmation.
                        // guard: I6g
                        let proof = if noted { load.number } else { second.number };
                        Fence::EpochUnchanged(generation, proof)
                    } else {
                        load = self.send();
                        checked = match self.load(lease.deadline).await {
                            Ok(checked) => checked,
                            Err(error) => return self.load_failed(lease, error).await,
                        };
                        match checked.tenant_id() {
                            None => Fence::NoTenant,
                            Some(same) if same == tenant => Fence::KnownBefore(generation),
                            Some(_) => {
                                self.release(lease.nonce).await;
                                return self.uncached(checked, load.number);
                            }
                        }
                    }
                }
            },
        };
        let completed = self.fill(&lease, checked, load, fence).await;
        // Until here nothing else may have held the tenant's cell; now the answer holds it.
        drop(held);
        completed
    }

    /// Fills under our lease (R6), unless the answer is not to be cached.
    async fn fill(
        &self,
        lease: &Lease<M>,
        checked: Checked<M>,
        load: Sent,
        fence: Fence,
    ) -> Completed<M> {
        let (engine, nonce) = (self.engine, lease.nonce);
        let (ttl, grace) = checked.ttl(&engine.ttls, engine.clock.wall(), random());
        // With a negative TTL of zero, negatives are not cached.
        // guard: B5
        let cached = !ttl.is_zero();
        // The in-memory store has a separate capacity for unknown tokens: they evict no records.
        // guard: B1
        let capped = cached
            && checked.is_absent()
            && !engine.store.is_local()
            && !engine.negative_writes.allows(engine.clock.now());
        if capped {
            engine.counters.negative_writes_skipped.add();
        }
        if !cached || capped || engine.clock.now() >= lease.deadline {
            self.release(nonce).await;
            return self.uncached(checked, load.number);
        }
        let until = engine.clock.now().after(ttl);
        // guard: AL5
        let value = checked.into_value(lease.all, fence.generation(), until, grace);
        engine.reach(SyncPoint::BeforeFill).await;
        let sent = self.send();
        // guard: I6b
        if engine.is_unconfirmed(&self.lookup, value.tenant_id()) {
            // The load may have begun before the change, and no deletion has removed our lease.
            self.release(nonce).await;
            return self.unproved(&value, load.number);
        }
        let filled = engine
            .store
            .fill(&self.key, nonce, &value, None, ttl + grace)
            .await;
        engine.reach(SyncPoint::Filled).await;
        match filled {
            Ok((Filled::Stored(bytes), watch)) => {
                // The fill says nothing of the generation of all: its invalidation leaves K and E alone. So later waiters
                // share the answer only if that is proved as for a local hit, by a clock that is read after the fill.
                // guard: AL2
                let is_current = lease.all.is_none_or(|all| engine.is_current(all));
                let proof = if is_current {
                    fence.proof(load.number, sent.number)
                } else {
                    load.number
                };
                self.cached(&value, sent.as_of(bytes, watch), Origin::Loaded, proof)
            }
            Ok((Filled::Refused, _)) => {
                engine.counters.fills_refused.add();
                self.unproved(&value, load.number)
            }
            Ok((Filled::Unwritable, _)) => {
                engine.counters.unwritable.add();
                limited!(
                    warn,
                    "a record is too large to be cached, or cannot be serialized"
                );
                self.release(nonce).await;
                self.unproved(&value, load.number)
            }
            Ok((Filled::NoForm, _)) => {
                self.release(nonce).await;
                // In the local level it is as old as its load: a request that starts a bound after an
                // invalidation's reply uses it only if the load was sent after that reply.
                self.cached(&value, load.as_of(0, None), Origin::Loaded, load.number)
            }
            Err(error) => {
                self.store_failed(&error);
                self.unproved(&value, load.number)
            }
        }
    }

    /// Returns T's generation from before the load began, if this process knew one: (a) of section 5.
    fn known_before(
        &self,
        tenant: &str,
        known: Option<&KnownGeneration>,
        load: Sent,
    ) -> Option<Generation> {
        let engine = self.engine;
        // In the Dify layout (b) and (c) also enter the tenant's index, which Python invalidates by.
        // guard: W1
        if engine.keys.is_dify() {
            return None;
        }
        if let Some(known) = known.filter(|known| known.tenant == tenant) {
            return Some(known.generation);
        }
        let known = engine
            .generations
            .existing(tenant)?
            .known_before(load.moment)?;
        // A generation of any age would be safe, but a former one makes a value that is never valid, and so
        // costs a second load (`model`, `loads-local`).
        // guard: 1L
        engine.local.check(known.proof(), load.tick)?;
        Some(known.generation)
    }

    /// Answers from the loader, because the store failed.
    pub(super) async fn without_store(&self, error: StoreError) -> Completed<M> {
        self.store_failed(&error);
        self.load_uncached(None).await
    }

    /// Answers from the loader, for those who joined before the load, and caches nothing.
    pub(super) async fn load_uncached(&self, permit: Option<OwnedSemaphorePermit>) -> Completed<M> {
        if self.background {
            // No caller asked for this refresh. Those who joined meanwhile are served by a new call.
            return Completion::Abandoned;
        }
        let _permit = match permit {
            Some(permit) => permit,
            None => match self.permit().await {
                Some(permit) => permit,
                None => return self.overloaded(),
            },
        };
        let load = self.send();
        let deadline = load.tick.after(self.engine.waits.load);
        match self.load(deadline).await {
            Ok(checked) => self.uncached(checked, load.number),
            Err(error) => Completion::Failed(error),
        }
    }

    async fn load(&self, deadline: Tick) -> Result<Checked<M>, Unavailable> {
        let loaded = self.engine.load(&self.lookup, deadline).await;
        self.engine.reach(SyncPoint::Loaded).await;
        loaded
    }

    /// Restores the value that was stored before the lease, if it may still be answered.
    async fn load_failed(&self, lease: Lease<M>, error: Unavailable) -> Completed<M> {
        let Some(stale) = lease.stale else {
            self.release(lease.nonce).await;
            return Completion::Failed(error);
        };
        let engine = self.engine;
        let left = stale
            .left
            .saturating_sub(engine.clock.now().since(stale.read.tick));
        if left.is_zero() {
            self.release(lease.nonce).await;
            return Completion::Failed(error);
        }
        let sent = self.send();
        // guard: I6c
        if engine.is_unconfirmed(&self.lookup, stale.value.tenant_id()) {
            self.release(lease.nonce).await;
            return Completion::Failed(error);
        }
        let store = &engine.store;
        let restored = store
            .fill(
                &self.key,
                lease.nonce,
                &stale.value,
                Some(&stale.observed),
                left,
            )
            .await;
        match restored {
            Ok((Filled::Stored(bytes), _)) => {
                // In the local level it is as old as the command that restored it.
                let as_of = sent.as_of(bytes, None);
                self.cached(&stale.value, as_of, Origin::Stale, stale.read.number)
            }
            // The lease may have been removed by an invalidation.
            // guard: S4
            Ok(_) => Completion::Failed(error),
            Err(trouble) => {
                self.store_failed(&trouble);
                Completion::Failed(error)
            }
        }
    }
}
