//! A flight: protocol.md section 2 from R3 to R6, with the tenants of section 5.

mod fill;
mod worth;

use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::sync::OwnedSemaphorePermit;

use super::answer::Resolved;
use super::bounds::Published;
use super::engine::{Engine, EntryLeader};
use super::flight::{Landing, SendNumber};
use super::proved::Proved;
use super::sync_points::SyncPoint;
use super::tenants::TenantCell;
use crate::cache::error::{Unavailable, UnavailableKind};
use crate::clock::{LogicalTime, Tick};
use crate::loader::Lookup;
use crate::metrics::Origin;
use crate::metrics::Timer;
use crate::store::keys::EntryKey;
use crate::store::{
    AcquireReply, Acquired, Generation, Nonce, Observed, Seen, StoreError, StoreErrorKind, Value,
};
use crate::trace::{chain, limited};
use crate::util::random_fraction;
use fill::Lease;
use worth::{Worth, appraise_value};

/// The shortest and the longest pause between two looks at another's lease.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

type Landed<M> = Landing<Resolved<M>, Unavailable>;

/// Flies `leader` to its end, and then whoever came too late for it.
pub(crate) async fn fly<M: Send + Sync + 'static>(
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
        let landing = fetch.run().await;
        next = leader.land(landing);
        // Only those who wait are left.
        background = false;
    }
}

/// A send, in the three orders that something is proved by.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// Within the flight: who joined before it.
    number: SendNumber,
    /// By the clock, read before the send: until when the local level may use what it proves.
    tick: Tick,
    /// Within the process: what was known before it.
    moment: LogicalTime,
    /// Whether what it proves may be kept.
    published: Published,
}

impl Sent {
    fn proves(self, bytes: usize) -> Proved {
        Proved {
            sent: self.tick,
            published: self.published,
            bytes,
        }
    }
}

struct Fetch<'a, M> {
    engine: &'a Arc<Engine<M>>,
    leader: &'a EntryLeader<M>,
    key: EntryKey,
    lookup: Lookup,
    background: bool,
}

/// A copy of T whose reply is in.
struct KnownTenant {
    tenant: String,
    generation: Generation,
}

/// What lies in the way of a lease.
enum Over<M> {
    Nothing,
    /// A value that does not count: unreadable, or of an old generation of the tenant's.
    Dead(Observed, Option<KnownTenant>),
    /// A value that counts, past its soft end.
    Soft(Soft<M>),
    WrongType,
}

/// A record past its soft end: answered if the load fails.
struct Soft<M> {
    value: Value<M>,
    observed: Observed,
    /// The GET that found it, and how long it still had.
    read: Sent,
    left: Duration,
    /// Held until the answer holds it.
    _cell: Option<Arc<TenantCell>>,
}

enum Next<M> {
    Land(Landed<M>),
    Wait,
    Again,
    Acquire(Over<M>),
}

impl<M: Send + Sync + 'static> Fetch<'_, M> {
    async fn run(&self) -> Landed<M> {
        // From when on another's lease, or another's value, stood in the way.
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
                Ok(seen) => self.appraise(seen, sent).await,
                Err(error) => return Box::pin(self.without_store(error)).await,
            };
            if let Next::Acquire(Over::Soft(soft)) = &next
                && (waited || self.engine.loader_failed_lately())
            {
                // Whoever held the lease put it back, because the loader failed just now; or it
                // failed us. Asking it again would only make the callers wait in turn.
                return self.stale(soft);
            }
            // An acquire that finds something leads back to the same questions.
            loop {
                match next {
                    Next::Land(landing) => return landing,
                    Next::Acquire(over) => next = self.acquire(over).await,
                    Next::Wait | Next::Again => {
                        let now = self.engine.clock.now();
                        let since = *hindered.get_or_insert(now);
                        if now.since(since) >= self.engine.waits.lease_wait {
                            return Box::pin(self.load_uncached(None)).await;
                        }
                        if matches!(next, Next::Wait) {
                            waited = true;
                            self.leader.become_a_task().await;
                            tokio::time::sleep(pause()).await;
                        }
                        break;
                    }
                }
            }
        }
    }

    /// Immediately before a send that may become a proof.
    fn send(&self) -> Sent {
        let published = self.engine.published();
        Sent {
            published,
            number: self.leader.send(),
            tick: self.engine.clock.now(),
            moment: self.engine.order.next(),
        }
    }

    /// What follows from the contents of K, which a command proved that was sent as `sent`.
    async fn appraise(&self, seen: Seen<M>, sent: Sent) -> Next<M> {
        match seen {
            Seen::Vacant => Next::Acquire(Over::Nothing),
            Seen::Lease => Next::Wait,
            Seen::WrongType => {
                self.count_corrupt();
                Next::Acquire(Over::WrongType)
            }
            Seen::Corrupt(old) => {
                self.count_corrupt();
                Next::Acquire(Over::Dead(old, None))
            }
            Seen::Value(value, _, _)
                if self.engine.is_unconfirmed(&self.lookup, value.tenant_id()) =>
            {
                Next::Land(Box::pin(self.load_uncached(None)).await)
            }
            Seen::Value(value, old, left) => {
                match appraise_value(self.engine, &value).await {
                    Ok(Worth::Counts(cell)) => {
                        let past = |left: &Duration| *left <= value.grace();
                        if let Some(left) = left.filter(past) {
                            if !self.engine.lifetimes.is_stale_allowed() {
                                // Kept for instances with another option: past its time here.
                                return Next::Acquire(Over::Dead(old, None));
                            }
                            return Next::Acquire(Over::Soft(Soft {
                                value,
                                observed: old,
                                read: sent,
                                left,
                                _cell: cell,
                            }));
                        }
                        let (proved, origin) =
                            (sent.proves(old.bytes()), store_origin(self.engine));
                        Next::Land(self.kept(&value, proved, origin, sent.number))
                    }
                    Ok(Worth::OldGeneration(known)) => Next::Acquire(Over::Dead(old, Some(known))),
                    Ok(Worth::Corrupt) => {
                        self.count_corrupt();
                        Next::Acquire(Over::Dead(old, None))
                    }
                    Err(error) => Next::Land(Box::pin(self.without_store(error)).await),
                }
            }
        }
    }

    /// R4, or compare-and-acquire in its place.
    async fn acquire(&self, over: Over<M>) -> Next<M> {
        self.leader.become_a_task().await;
        // The permit comes first, so that waiting for it burns no lease.
        let Some(permit) = self.enter().await else {
            let Over::Soft(soft) = over else {
                return Next::Land(self.overloaded());
            };
            // No load, and no lease that would have to be put back.
            self.engine.counters.overloaded.add();
            return Next::Land(self.stale(&soft));
        };
        let nonce = Nonce::new();
        let (sent, reply) = match self.send_acquire(&over, nonce).await {
            // The nonce is forgotten: the command may still run, and must not be taken for ours.
            Err(error) => {
                self.store_failed(&error);
                return Next::Land(self.load_uncached(Some(permit)).await);
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
                let (known, soft) = match over {
                    Over::Dead(_, known) => (known, None),
                    Over::Soft(soft) => (None, Some(soft)),
                    Over::Nothing | Over::WrongType => (None, None),
                };
                let lease = Lease {
                    nonce,
                    epoch,
                    known,
                    soft,
                    deadline: sent.tick.after(self.engine.waits.load),
                    _permit: permit,
                };
                let landed = self.load_and_fill(lease).await;
                held.settle();
                Next::Land(landed)
            }
            Acquired::Taken(seen) => {
                drop(permit);
                Box::pin(self.appraise(seen, sent)).await
            }
            Acquired::Gone => Next::Again,
        }
    }

    /// Without one, the generation of a tenant costs a second load.
    async fn create_epoch(&self) -> Option<Generation> {
        let created = self.engine.store.epoch(Generation::new()).await;
        created.inspect_err(|error| self.store_failed(error)).ok()
    }

    /// Asks for a lease in the place of `over`, at most once.
    async fn send_acquire(
        &self,
        over: &Over<M>,
        nonce: Nonce,
    ) -> Result<(Sent, AcquireReply<M>), StoreError> {
        let (store, lease) = (&self.engine.store, self.engine.waits.lease);
        let old = match over {
            Over::Nothing => None,
            Over::Dead(old, _) => Some(old),
            Over::Soft(soft) => Some(&soft.observed),
            Over::WrongType => {
                store.delete(&self.key).await?;
                None
            }
        };
        let sent = self.send();
        let reply = match old {
            Some(old) => store.acquire_over(&self.key, old, nonce, lease),
            None => store.acquire(&self.key, nonce, lease),
        };
        Ok((sent, reply.await?))
    }

    async fn release(&self, nonce: Nonce) {
        // Should it fail, the store tries again, and in the end the lease runs out by itself.
        if let Err(error) = self.engine.store.release(&self.key, nonce).await {
            self.store_failed(&error);
        }
    }

    async fn enter(&self) -> Option<OwnedSemaphorePermit> {
        self.engine.bulkhead.enter().await.ok()
    }

    fn overloaded(&self) -> Landed<M> {
        self.engine.counters.overloaded.add();
        if self.background {
            return Landing::Abandoned;
        }
        Landing::Failed(Unavailable::new(UnavailableKind::Overloaded))
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
        let (now, patience) = (engine.clock.now(), engine.store.deadline());
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

    fn store_failed(&self, error: &StoreError) {
        self.engine.counters.store_errors.add();
        limited!(
            warn,
            "the token store failed; answering from the loader, uncached",
            error = chain(error)
        );
    }

    fn count_corrupt(&self) {
        self.engine.counters.corrupt.add();
        limited!(warn, "an invalid entry in the token store is replaced");
    }
}

/// A lease that has to be filled or given back, whatever becomes of the flight: a panic, of the user's
/// code say, is no reason for others to wait.
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

    /// It was filled or given back, or the store sees to it.
    fn settle(mut self) {
        self.nonce = None;
    }
}

impl<M: Send + Sync + 'static> Drop for Held<'_, M> {
    fn drop(&mut self) {
        if let (Some(nonce), Ok(runtime)) = (self.nonce, Handle::try_current()) {
            let (store, key) = (Arc::clone(&self.engine.store), self.key.clone());
            // Should it fail, the lease runs out by itself.
            runtime.spawn(async move { store.release(&key, nonce).await });
        }
    }
}

fn store_origin<M>(engine: &Engine<M>) -> Origin {
    if engine.store.is_local() {
        Origin::Local
    } else {
        Origin::Shared
    }
}

/// With jitter, so that the instances that wait for one lease do not ask in step.
fn pause() -> Duration {
    let (least, most) = POLL;
    least + (most - least).mul_f64(random_fraction())
}

fn dice() -> u32 {
    getrandom::u32().expect("the operating system's random generator")
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
