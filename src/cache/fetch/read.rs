//! Reads the entry, and decides what follows (R3 and R4).

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;

use super::state::{Completed, Existing, Fetch, Lease, Sent, StaleEntry, Step, store_origin};
use super::validate::Validity;
use crate::cache::engine::{Engine, EntryLeader};
use crate::cache::sync_points::SyncPoint;
use crate::clock::Tick;
use crate::loader::Lookup;
use crate::metrics::Timer;
use crate::store::entry::{AcquireReply, Acquired, Generation, Nonce, Seen};
use crate::store::error::{StoreError, StoreErrorKind};
use crate::store::keys::EntryKey;
use crate::trace::{chain, limited};
use crate::util::random_fraction;

/// The shortest and the longest pause between two looks at another's lease.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

/// Does the work of `leader`'s call, and then of the calls of those who came too late for it.
pub(in crate::cache) async fn run<M: Send + Sync + 'static>(
    engine: Arc<Engine<M>>,
    leader: EntryLeader<M>,
    key: EntryKey,
    lookup: Lookup,
    mut background: bool,
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
        let completed = fetch.run().await;
        next = leader.complete(completed);
        // Only those who wait are left.
        background = false;
    }
}

impl<M: Send + Sync + 'static> Fetch<'_, M> {
    async fn run(&self) -> Completed<M> {
        // Since when another's lease or value is in the way.
        let mut hindered: Option<Tick> = None;
        let mut waited = false;
        loop {
            if let Err(error) = self.publish().await {
                return Box::pin(self.without_store(error)).await;
            }
            let sent = self.send();
            let watch = Timer::start();
            let read = self.engine.store.get(&self.key).await;
            if !self.engine.store.is_local() {
                self.engine.metrics.read_store(watch, read.is_ok());
            }
            self.engine.reach(SyncPoint::Read).await;
            let mut next = match read {
                Ok(seen) => self.follow(seen, sent).await,
                Err(error) => return Box::pin(self.without_store(error)).await,
            };
            if let Step::Acquire(Existing::Stale(stale)) = &next
                && (waited || self.engine.loader_failed_lately())
            {
                // The lease's holder restored it because the loader failed, or the loader failed us. Asking
                // it again would only make the callers wait in turn.
                return self.stale(stale);
            }
            // An acquire that finds something leads back to the same questions.
            loop {
                match next {
                    Step::Complete(completed) => return completed,
                    Step::Acquire(existing) => next = self.acquire(existing).await,
                    Step::Wait | Step::Retry => {
                        let now = self.engine.clock.now();
                        let since = *hindered.get_or_insert(now);
                        if now.since(since) >= self.engine.waits.lease_wait {
                            return Box::pin(self.load_uncached(None)).await;
                        }
                        if matches!(next, Step::Wait) {
                            waited = true;
                            self.leader.detach().await;
                            tokio::time::sleep(pause()).await;
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Decides what follows from the contents of K, which a command proved that was sent as `sent`.
    async fn follow(&self, seen: Seen<M>, sent: Sent) -> Step<M> {
        match seen {
            Seen::Vacant => Step::Acquire(Existing::Nothing),
            Seen::Lease => Step::Wait,
            Seen::Corrupt(old) => {
                self.count_corrupt();
                Step::Acquire(Existing::Invalid(old, None))
            }
            Seen::Value(value, _, _)
                if self.engine.is_unconfirmed(&self.lookup, value.tenant_id()) =>
            {
                Step::Complete(Box::pin(self.load_uncached(None)).await)
            }
            Seen::Value(value, old, left) => {
                match self.engine.validate(&value).await {
                    Ok(Validity::Valid(cell)) => {
                        let past = |left: &Duration| *left <= value.grace();
                        if let Some(left) = left.filter(past) {
                            if !self.engine.lifetimes.is_stale_allowed() {
                                // Kept for instances with another option: past its time here.
                                return Step::Acquire(Existing::Invalid(old, None));
                            }
                            return Step::Acquire(Existing::Stale(StaleEntry {
                                value,
                                observed: old,
                                read: sent,
                                left,
                                _cell: cell,
                            }));
                        }
                        let (as_of, origin) = (sent.as_of(old.bytes()), store_origin(self.engine));
                        Step::Complete(self.kept(&value, as_of, origin, sent.number))
                    }
                    Ok(Validity::FormerGeneration(known)) => {
                        Step::Acquire(Existing::Invalid(old, Some(known)))
                    }
                    Ok(Validity::Corrupt) => {
                        self.count_corrupt();
                        Step::Acquire(Existing::Invalid(old, None))
                    }
                    Err(error) => Step::Complete(Box::pin(self.without_store(error)).await),
                }
            }
        }
    }

    /// Acquires a lease: R4, or compare-and-acquire in its place.
    async fn acquire(&self, existing: Existing<M>) -> Step<M> {
        self.leader.detach().await;
        // The permit comes first, so that waiting for it burns no lease.
        let Some(permit) = self.permit().await else {
            let Existing::Stale(stale) = existing else {
                return Step::Complete(self.overloaded());
            };
            // No load, and no lease that would have to be put back.
            self.engine.counters.overloaded.add();
            return Step::Complete(self.stale(&stale));
        };
        let nonce = Nonce::new();
        let (sent, reply) = match self.send_acquire(&existing, nonce).await {
            // The nonce is forgotten: the command may still run, and must not be taken for ours.
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
                let (known, stale) = match existing {
                    Existing::Invalid(_, known) => (known, None),
                    Existing::Stale(stale) => (None, Some(stale)),
                    Existing::Nothing => (None, None),
                };
                let lease = Lease {
                    nonce,
                    epoch,
                    known,
                    stale,
                    deadline: sent.tick.after(self.engine.waits.load),
                    _permit: permit,
                };
                let completed = self.load_and_fill(lease).await;
                held.settle();
                Step::Complete(completed)
            }
            Acquired::Taken(seen) => {
                drop(permit);
                Box::pin(self.follow(seen, sent)).await
            }
            Acquired::Gone => Step::Retry,
        }
    }

    /// Creates the epoch. Without one, a tenant's generation costs a second load.
    async fn create_epoch(&self) -> Option<Generation> {
        let created = self.engine.store.epoch(Generation::new()).await;
        created.inspect_err(|error| self.store_failed(error)).ok()
    }

    /// Asks for a lease in place of `existing`, at most once.
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

    /// Enters our bound into the registry, once a minute, before anything is sent that an entry may be
    /// kept by. A store that refuses it, or of which another part has the registry, may
    /// still be read; what is read is not kept. Nor is what is read while another look-up does it, so that
    /// not all of them do when a store is new.
    ///
    /// # Errors
    /// The store does not answer at all.
    async fn publish(&self) -> Result<(), StoreError> {
        let engine = self.engine;
        // guard: R2
        if !engine.has_to_register() {
            return Ok(());
        }
        let (now, patience) = (engine.clock.now(), engine.store.operation_timeout());
        let Some(_registering) = engine.bounds.begin_to_register(now, patience) else {
            return Ok(());
        };
        match engine.register().await {
            Err(error) if error.kind() == StoreErrorKind::Server || engine.store.is_divided() => {
                engine.counters.store_errors.add();
                limited!(
                    warn,
                    "this instance could not be registered in the token store; it does not keep what it reads there",
                    error = chain(&error)
                );
                Ok(())
            }
            registered => registered,
        }
    }
}

/// A lease that is given back on drop unless it was settled: after a panic, of the user's code for example,
/// others must not wait for it.
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

    /// The lease was filled or given back, or the store does it.
    fn settle(mut self) {
        self.nonce = None;
    }
}

impl<M: Send + Sync + 'static> Drop for Held<'_, M> {
    fn drop(&mut self) {
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
    fn those_who_wait_for_one_lease_ask_out_of_step_and_within_the_bounds() {
        let pauses: std::collections::HashSet<Duration> = (0..1_000).map(|_| pause()).collect();
        assert!(pauses.len() > 900, "{}", pauses.len());
        assert!(pauses.iter().all(|pause| (POLL.0..=POLL.1).contains(pause)));
    }
}
