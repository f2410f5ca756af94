//! Reads the entry and decides what follows (R3 and R4).

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::state::{Completed, Existing, Fetch, Found, Lease, Sent, StaleEntry, Step};
use super::validate::Validity;
use crate::cache::engine::{Engine, EntryLeader};
use crate::cache::single_flight::Completion;
use crate::cache::sync_points::SyncPoint;
use crate::clock::Tick;
use crate::loader::Lookup;
use crate::metrics::Timer;
use crate::store::entry::{
    AcquireReply, Acquired, Generation, Group, Nonce, ReadGeneration, Seen, ShortGeneration,
};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::keys::EntryKey;
use crate::store::watch::{Tracker, Watch};
use crate::trace::{chain, limited};
use crate::util::random_fraction;

/// The shortest and the longest pause between two reads while another holds the lease.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// Does the work of `leader`'s call, and then of the calls of those who joined too late for its answer. `first` is
/// what its caller found, if it has looked already.
pub(in crate::cache) async fn run<M: Send + Sync + 'static>(
    engine: Arc<Engine<M>>,
    leader: EntryLeader<M>,
    key: EntryKey,
    lookup: Lookup,
    mut background: bool,
    mut first: Option<Step<M>>,
) {
    let mut next = Some(leader);
    while let Some(leader) = next {
        let fetch = Fetch {
            engine: &engine,
            leader: &leader,
            key: key.clone(),
            lookup: lookup.clone(),
            background,
        };
        let completed = fetch.run(first.take()).await;
        next = leader.complete(completed);
        // Somebody waits for each further call.
        background = false;
    }
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// Reads the entry, and decides what follows.
    pub(super) async fn read(
        self: &Arc<Self>,
        key: &EntryKey,
        lookup: &Lookup,
        sent: &Sent,
    ) -> Step<M> {
        let timer = Timer::start();
        let mut all = None;
        let read = if self.is_worth_a_watch(lookup) {
            self.store.get_watched(key).await
        } else if self.has_to_read_all() {
            let read = self.store.get_with_all(key).await;
            read.map(|(seen, generation)| {
                all = generation;
                (seen, None)
            })
        } else {
            self.store.get(key).await.map(|seen| (seen, None))
        };
        if !self.store.is_local() {
            self.metrics.read_store(timer, read.is_ok());
        }
        // guard: L3
        self.reach(SyncPoint::Read).await;
        match read {
            Ok((seen, watch)) => {
                if let Some(all) = all {
                    self.observe_all(all, sent);
                }
                self.follow(lookup, seen, watch, all, sent).await
            }
            Err(error) => Step::Fail(error),
        }
    }

    /// Returns whether the next change of K is to be reported: the local level has a record for it, so that this is
    /// not its first use. A flood of invented tokens is never watched. guard: TR5b
    fn is_worth_a_watch(&self, lookup: &Lookup) -> bool {
        self.tracks() && self.local.remembers(self.fingerprint(lookup))
    }

    /// Returns whether changes of keys are reported.
    fn tracks(&self) -> bool {
        let is_on = |tracker: &Arc<Tracker>| tracker.is_on();
        self.store.tracker().is_some_and(is_on)
    }

    /// Returns whether the generation of all entries is to be read with an entry, because this process knows none that
    /// may be used now. While changes are reported, it is read alone, with tracking, and seldom.
    fn has_to_read_all(&self) -> bool {
        !self.tracks() && self.lacks_all()
    }

    /// Keeps the generation of all entries, from a reply to a command that was sent as `sent`.
    fn observe_all(&self, generation: Generation, sent: &Sent) {
        let read = ReadGeneration::unwatched(generation, Duration::MAX);
        self.observe_generation(&Group::All, read, sent.tick, sent.published);
    }

    /// Decides what follows from the contents of K, as returned by a command that was sent as `sent`. `all` is the
    /// generation of all entries, if it was asked for together with K.
    #[expect(
        clippy::manual_async_fn,
        reason = "an `async fn` holds each argument twice, and lookups would outgrow the allocator's cache"
    )]
    fn follow(
        self: &Arc<Self>,
        lookup: &Lookup,
        seen: Seen<M>,
        watch: Option<Watch>,
        all: Option<Generation>,
        sent: &Sent,
    ) -> impl Future<Output = Step<M>> + Send {
        async move {
            let (value, old, left) = match seen {
                Seen::Vacant => return Step::Acquire(Existing::Nothing),
                Seen::Lease => return Step::Wait,
                Seen::Corrupt(old) => {
                    self.count_corrupt();
                    return Step::Acquire(Existing::Invalid(old, None));
                }
                Seen::Value(value, old, left) => (value, old, left),
            };
            // guard: I6, I6f
            if sent.noted || self.is_unconfirmed(lookup, value.tenant_id()) {
                return Step::LoadUncached;
            }
            let cell = match self.validate(&value, all).await {
                Ok(Validity::Valid(cell)) => cell,
                Ok(Validity::FormerGeneration(known)) => {
                    return Step::Acquire(Existing::Invalid(old, known));
                }
                Ok(Validity::Corrupt) => {
                    self.count_corrupt();
                    return Step::Acquire(Existing::Invalid(old, None));
                }
                Err(error) => return Step::Fail(error),
            };
            let Some(left) = left.filter(|left| *left <= value.grace()) else {
                return Step::Valid(Found {
                    as_of: sent.as_of(old.bytes(), watch),
                    number: sent.number,
                    value,
                    cell,
                });
            };
            if !self.ttls.is_stale_allowed() {
                // It is stored for instances that answer stale records; this one does not.
                return Step::Acquire(Existing::Invalid(old, None));
            }
            Step::Acquire(Existing::Stale(StaleEntry {
                value,
                observed: old,
                read: *sent,
                left,
                _cell: cell,
            }))
        }
    }
}

impl<M: Send + Sync + 'static> Fetch<'_, M> {
    async fn run(&self, mut first: Option<Step<M>>) -> Completed<M> {
        // When another's lease or value first was in the way.
        let mut hindered: Option<Tick> = None;
        let mut waited = false;
        loop {
            let mut next = match first.take() {
                Some(step) => step,
                None => self.read().await,
            };
            if let Step::Acquire(Existing::Stale(stale)) = &next
                && (waited || self.engine.loader_failed_lately())
            {
                // The lease's holder restored it because the loader failed, or the loader failed in this
                // instance. Another load would only make the callers wait in turn.
                return self.stale(stale);
            }
            // An acquire that finds an entry leads to the same steps again.
            loop {
                match next {
                    Step::Complete(completed) => return completed,
                    Step::Valid(found) => {
                        let proof = found.number;
                        let answer = self.engine.found(&self.lookup, found);
                        return Completion::Answered { answer, proof };
                    }
                    Step::Acquire(existing) => next = self.acquire(existing).await,
                    Step::LoadUncached => return Box::pin(self.load_uncached(None)).await,
                    Step::Fail(error) => return Box::pin(self.without_store(error)).await,
                    Step::Wait | Step::Retry => {
                        let now = self.engine.clock.now();
                        let since = *hindered.get_or_insert(now);
                        if now.since(since) >= self.engine.waits.lease_wait {
                            return Box::pin(self.load_uncached(None)).await;
                        }
                        if matches!(next, Step::Wait) {
                            waited = true;
                            tokio::time::sleep(pause()).await;
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Reads the entry (R3).
    async fn read(&self) -> Step<M> {
        // guard: R5
        if let Err(error) = self.publish().await {
            return Step::Fail(error);
        }
        let sent = self.send();
        self.engine.read(&self.key, &self.lookup, &sent).await
    }

    /// Acquires a lease (R4), by compare-and-acquire if K holds an existing value.
    async fn acquire(&self, existing: Existing<M>) -> Step<M> {
        // The permit comes first, so that the wait for it takes no time from the lease.
        let Some(permit) = self.permit().await else {
            let Existing::Stale(stale) = existing else {
                return Step::Complete(self.overloaded());
            };
            // Without a lease there is nothing to restore.
            self.engine.counters.overloaded.add();
            return Step::Complete(self.stale(&stale));
        };
        // guard: N9
        let nonce = Nonce::new();
        let (sent, reply) = match self.send_acquire(&existing, nonce).await {
            // The nonce is not used again: the command may still run, and its lease must not be taken for ours.
            Err(error) => {
                self.store_failed(&error);
                return Step::Complete(self.load_uncached(Some(permit)).await);
            }
            Ok(replied) => replied,
        };
        match reply.acquired {
            Acquired::Ours => {
                let held = Held::new(self, nonce);
                self.engine.reach(SyncPoint::Acquired).await;
                let epoch = match reply.epoch {
                    Some(epoch) => Some(epoch),
                    None => self.create_epoch().await,
                };
                let Ok(all) = self.all_before_load(&reply, &sent).await else {
                    held.disarm();
                    self.release(nonce).await;
                    return Step::Complete(self.load_uncached(Some(permit)).await);
                };
                let (known, stale) = match existing {
                    Existing::Invalid(_, known) => (known, None),
                    Existing::Stale(stale) => (None, Some(stale)),
                    Existing::Nothing => (None, None),
                };
                let lease = Lease {
                    nonce,
                    epoch,
                    all,
                    known,
                    stale,
                    deadline: sent.tick.after(self.engine.waits.load),
                    _permit: permit,
                };
                // guard: N5
                let completed = self.load_and_fill(lease).await;
                held.disarm();
                Step::Complete(completed)
            }
            Acquired::Taken(seen) => {
                drop(permit);
                let (engine, lookup) = (self.engine, &self.lookup);
                Box::pin(engine.follow(lookup, seen, None, None, &sent)).await
            }
            Acquired::Gone => Step::Retry,
        }
    }

    /// Creates the epoch. Without one, a tenant's generation costs a second load.
    async fn create_epoch(&self) -> Option<Generation> {
        let created = self.engine.store.epoch(Generation::new()).await;
        created.inspect_err(|error| self.store_failed(error)).ok()
    }

    /// Returns the generation of all entries, which is read before the load: a fill under it is fenced by it. There is
    /// none in the Dify layout.
    async fn all_before_load(
        &self,
        reply: &AcquireReply<M>,
        sent: &Sent,
    ) -> Result<Option<ShortGeneration>, StoreError> {
        let engine = self.engine;
        if engine.keys.is_dify() {
            return Ok(None);
        }
        let is_current = |all: &Generation| engine.is_current(all.short());
        let generation = match reply.all {
            Some(generation) if !engine.tracks() => {
                engine.observe_all(generation, sent);
                generation
            }
            Some(generation) if is_current(&generation) => generation,
            _ => {
                let read = engine.read_generation(&Group::All).await;
                read.inspect_err(|error| self.store_failed(error))?
            }
        };
        Ok(Some(generation.short()))
    }

    /// Asks for a lease in place of `existing`, once.
    async fn send_acquire(
        &self,
        existing: &Existing<M>,
        nonce: Nonce,
    ) -> Result<(Sent, AcquireReply<M>), StoreError> {
        let (store, lease) = (&self.engine.store, self.engine.waits.lease);
        let old = match existing {
            Existing::Nothing => None,
            Existing::Invalid(old, _) => Some(old),
            Existing::Stale(stale) => Some(&stale.observed),
        };
        let sent = self.send();
        let reply = store.acquire(&self.key, old, nonce, lease).await?;
        Ok((sent, reply))
    }

    /// Enters our bound into the registry, once a minute, before any send whose result may be cached locally.
    ///
    /// A store that refuses it, or that is divided and has the registry in another part, can still be read, but
    /// the results are not cached locally. Nor are results that are read while another lookup registers, so
    /// that not all lookups do when a store is new.
    ///
    /// # Errors
    /// Returns an error if the store does not answer at all.
    async fn publish(&self) -> Result<(), StoreError> {
        let engine = self.engine;
        // guard: R2
        let now = engine.clock.now();
        if !engine.has_to_register(now) {
            return Ok(());
        }
        let timeout = engine.store.operation_timeout();
        let Some(_registering) = engine.bounds.begin_to_register(now, timeout) else {
            return Ok(());
        };
        match engine.register().await {
            // guard: R2d
            Err(error) if error.kind() == StoreErrorKind::Server || engine.store.is_divided() => {
                engine.counters.store_errors.add();
                limited!(
                    warn,
                    "this instance could not be registered in the token store; it does not cache locally what it reads there",
                    error = chain(&error)
                );
                Ok(())
            }
            registered => registered,
        }
    }
}

/// A lease that is released on drop unless it was disarmed: after a panic, such as one of the loader's, others
/// must not wait for it.
struct Held<'a, M: Send + Sync + 'static> {
    engine: &'a Arc<Engine<M>>,
    key: &'a EntryKey,
    nonce: Option<Nonce>,
}

impl<'a, M: Send + Sync + 'static> Held<'a, M> {
    fn new(fetch: &'a Fetch<'_, M>, nonce: Nonce) -> Self {
        Self {
            engine: fetch.engine,
            key: &fetch.key,
            nonce: Some(nonce),
        }
    }

    /// Releases nothing on drop, because the lease was filled or released, or because the store does it.
    fn disarm(mut self) {
        self.nonce = None;
    }
}

impl<M: Send + Sync + 'static> Drop for Held<'_, M> {
    fn drop(&mut self) {
        // guard: E5
        if let (Some(nonce), Ok(runtime)) = (self.nonce, Handle::try_current()) {
            let (store, key) = (Arc::clone(&self.engine.store), self.key.clone());
            // If it fails, the lease expires.
            runtime.spawn(async move { store.release(&key, nonce).await });
        }
    }
}

/// Returns a pause with jitter, so that the instances that wait for one lease do not ask in step.
fn pause() -> Duration {
    let (least, most) = POLL;
    least + (most - least).mul_f64(random_fraction())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_differ_and_are_within_their_bounds() {
        let pauses: std::collections::HashSet<Duration> = (0..1_000).map(|_| pause()).collect();
        assert!(pauses.len() > 900, "{}", pauses.len());
        assert!(pauses.iter().all(|pause| (POLL.0..=POLL.1).contains(pause)));
    }
}
