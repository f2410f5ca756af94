//! A flight: PROTOCOL.md section 2 from R3 to R6, with the tenants of section 5.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use super::answer::Resolved;
use super::clock::Tick;
use super::engine::{Engine, EntryLeader, Point, Proved};
use super::flight::{Landing, Send};
use super::load::Checked;
use super::sequence::Moment;
use super::tenants::TenantCell;
use crate::error::{Unavailable, UnavailableKind};
use crate::loader::Lookup;
use crate::store::keys::EntryKey;
use crate::store::{Acquired, Filled, Generation, Nonce, Observed, Seen, StoreError, Value};
use crate::telemetry;
use crate::token::Origin;

/// The shortest and the longest pause between two looks at another's lease.
const POLL: (Duration, Duration) = (Duration::from_millis(10), Duration::from_millis(50));

type Landed<M> = Landing<Resolved<M>, Unavailable>;

/// Flies `leader` to its end.
pub(crate) async fn fly<M: std::marker::Send + Sync + 'static>(
    engine: Arc<Engine<M>>,
    leader: EntryLeader<M>,
    key: EntryKey,
    lookup: Lookup,
    background: bool,
) {
    let landing = Fetch {
        engine: &engine,
        leader: &leader,
        key,
        lookup,
        background,
    }
    .run()
    .await;
    leader.land(landing);
}

/// A send, in the three orders that something is proved by.
#[derive(Debug, Clone, Copy)]
struct Sent {
    /// Within the flight: who joined before it.
    number: Send,
    /// By the clock, read before the send: until when the local level may use what it proves.
    tick: Tick,
    /// Within the process: what was known before it.
    moment: Moment,
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

/// Our lease, and what came with it.
struct Lease<M> {
    nonce: Nonce,
    /// E, as it was before the load.
    epoch: Option<Generation>,
    known: Option<KnownTenant>,
    soft: Option<Soft<M>>,
    /// Until when the fill may be sent.
    deadline: Tick,
    _permit: OwnedSemaphorePermit,
}

/// How a loaded answer's generation was found, which decides what proves it to joiners.
enum Fence {
    /// No tenant: the fill proves the answer.
    NoTenant,
    /// By (a) or (c): T was known before the load, and the fill says nothing about the tenant.
    KnownBefore(Generation),
    /// By (b): E unchanged; the second GET of E proves it.
    EpochUnchanged(Generation, Send),
}

impl<M: std::marker::Send + Sync + 'static> Fetch<'_, M> {
    async fn run(&self) -> Landed<M> {
        // From when on another's lease, or another's value, stood in the way.
        let mut hindered: Option<Tick> = None;
        let mut waited = false;
        loop {
            let sent = self.send();
            let read = self.engine.store.get(&self.key).await;
            self.engine.at(Point::Read).await;
            let mut next = match read {
                Ok(seen) => self.appraise(seen, sent).await,
                Err(error) => return self.without_store(error).await,
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
                            return self.load_uncached(None).await;
                        }
                        if matches!(next, Next::Wait) {
                            waited = true;
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
        Sent {
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
            Seen::Value(value, old, left) => {
                match appraise_value(self.engine, &self.lookup, &value).await {
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
                        let proved = Proved {
                            sent: sent.tick,
                            bytes: old.bytes(),
                        };
                        Next::Land(self.found_in_store(value, sent.number, proved).await)
                    }
                    Ok(Worth::OldGeneration(known)) => Next::Acquire(Over::Dead(old, Some(known))),
                    Ok(Worth::Corrupt) => {
                        self.count_corrupt();
                        Next::Acquire(Over::Dead(old, None))
                    }
                    Err(error) => Next::Land(self.without_store(error).await),
                }
            }
        }
    }

    async fn found_in_store(&self, value: Value<M>, proof: Send, proved: Proved) -> Landed<M> {
        let engine = self.engine;
        let origin = store_origin(engine);
        let answer = engine.resolved(&self.lookup, value.clone(), proved, origin);
        // An entry is kept only where a waiting operator knows for how long.
        if self.register().await.is_ok() {
            engine.remember(&self.lookup, &value, proved, &answer);
        }
        Landing::Answered { answer, proof }
    }

    /// R4, or compare-and-acquire in its place.
    async fn acquire(&self, over: Over<M>) -> Next<M> {
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
        let lease = self.engine.waits.lease;
        let store = &self.engine.store;
        let (mut known, mut soft) = (None, None);
        let old = match over {
            Over::Nothing => None,
            Over::Dead(old, tenant) => {
                known = tenant;
                Some(old)
            }
            Over::Soft(over) => {
                let old = over.observed.clone();
                soft = Some(over);
                Some(old)
            }
            Over::WrongType => {
                if let Err(error) = store.delete(&self.key).await {
                    self.store_failed(&error);
                    return Next::Land(self.load_uncached(Some(permit)).await);
                }
                None
            }
        };
        let entry = self.engine.scopes.enter(&self.lookup.scope);
        let session = store.session();
        let sent = self.send();
        let replied = match &old {
            Some(old) => {
                store
                    .acquire_over(&self.key, old, nonce, lease, &entry)
                    .await
            }
            None => store.acquire(&self.key, nonce, lease, &entry).await,
        };
        let reply = match replied {
            // The nonce is forgotten: the command may still run, and must not be taken for ours.
            Err(error) => {
                self.store_failed(&error);
                return Next::Land(self.load_uncached(Some(permit)).await);
            }
            Ok(reply) => reply,
        };
        match reply.acquired {
            Acquired::Ours => {
                self.engine.at(Point::Acquired).await;
                // Whoever invalidates in all scopes must know of this one before the load begins: an
                // invalidation that did not find it in the registry was committed before, and the
                // load sees the change.
                if reply.registered {
                    let (scopes, now) = (&self.engine.scopes, self.engine.clock.now());
                    scopes.confirmed(&self.lookup.scope, session, now);
                } else if let Err(error) = self.register_anew().await {
                    self.store_failed(&error);
                    self.release(nonce).await;
                    return Next::Land(self.load_uncached(Some(permit)).await);
                }
                let epoch = match reply.epoch {
                    Some(epoch) => Some(epoch),
                    None => store.epoch(Generation::new()).await.ok(),
                };
                let lease = Lease {
                    nonce,
                    epoch,
                    known,
                    soft,
                    deadline: sent.tick.after(self.engine.waits.load),
                    _permit: permit,
                };
                Next::Land(self.load_and_fill(lease).await)
            }
            Acquired::Taken(seen) => {
                drop(permit);
                Box::pin(self.appraise(seen, sent)).await
            }
            Acquired::Gone => Next::Again,
        }
    }

    /// R5 and R6, under our lease.
    async fn load_and_fill(&self, lease: Lease<M>) -> Landed<M> {
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
                    let read = self
                        .engine
                        .store
                        .tenant_then_epoch(&self.key, &tenant, Generation::new())
                        .await;
                    self.engine.at(Point::TenantRead).await;
                    let (generation, now) = match read {
                        Ok(read) => read,
                        Err(error) => {
                            self.store_failed(&error);
                            self.release(lease.nonce).await;
                            return self.uncached(checked, load.number);
                        }
                    };
                    held = self.engine.observe_tenant(&tenant, generation, second.tick);
                    // A missing E counts as changed: it may have been deleted twice (G4).
                    if lease.epoch.is_some() && now == lease.epoch {
                        Fence::EpochUnchanged(generation, second.number)
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
        let landed = self.fill(&lease, checked, load, fence).await;
        // Until here nothing else may have held the tenant's cell; now the answer does.
        drop(held);
        landed
    }

    /// R6.
    async fn fill(
        &self,
        lease: &Lease<M>,
        checked: Checked<M>,
        load: Sent,
        fence: Fence,
    ) -> Landed<M> {
        let (engine, nonce) = (self.engine, lease.nonce);
        // In this process's memory nulls have a budget of their own, and nothing is pushed out.
        let capped = checked.is_absent()
            && !engine.store.is_local()
            && !engine.null_writes.allows(engine.clock.now());
        if capped {
            engine.counters.nulls_capped.add();
        }
        if capped || engine.clock.now() >= lease.deadline {
            self.release(nonce).await;
            return self.uncached(checked, load.number);
        }
        let generation = match &fence {
            Fence::NoTenant => None,
            Fence::KnownBefore(generation) | Fence::EpochUnchanged(generation, _) => {
                Some(*generation)
            }
        };
        let (ttl, grace) = checked.lifetime(&engine.lifetimes, engine.clock.wall(), dice());
        let value = checked.into_value(generation, engine.clock.now().after(ttl), grace);
        engine.at(Point::BeforeFill).await;
        let sent = self.send();
        let filled = engine
            .store
            .fill(&self.key, nonce, &value, ttl + grace)
            .await;
        engine.at(Point::Filled).await;
        match filled {
            Ok(Filled::Stored(bytes)) => {
                let proved = Proved {
                    sent: sent.tick,
                    bytes,
                };
                let answer = engine.resolved(&self.lookup, value.clone(), proved, Origin::Loaded);
                engine.remember(&self.lookup, &value, proved, &answer);
                let proof = match fence {
                    Fence::NoTenant => sent.number,
                    Fence::KnownBefore(_) => load.number,
                    Fence::EpochUnchanged(_, second) => second,
                };
                Landing::Answered { answer, proof }
            }
            Ok(Filled::Refused) => {
                engine.counters.fills_refused.add();
                self.unproved(value, load.number)
            }
            Ok(Filled::Unwritable) => {
                engine.counters.unwritable.add();
                telemetry::unwritable();
                self.release(nonce).await;
                self.unproved(value, load.number)
            }
            Ok(Filled::NoForm) => {
                self.release(nonce).await;
                // Its load proves it to the local level: a request that starts a bound after an
                // invalidation's reply uses it only if the load was sent after that.
                let proved = Proved {
                    sent: load.tick,
                    bytes: 0,
                };
                let answer = engine.resolved(&self.lookup, value.clone(), proved, Origin::Loaded);
                engine.remember(&self.lookup, &value, proved, &answer);
                Landing::Answered {
                    answer,
                    proof: load.number,
                }
            }
            Err(error) => {
                self.store_failed(&error);
                self.unproved(value, load.number)
            }
        }
    }

    /// T's generation from before the load began, where this process knew one: (a) of section 5.
    fn known_before(
        &self,
        tenant: &str,
        known: Option<&KnownTenant>,
        load: Sent,
    ) -> Option<Generation> {
        let engine = self.engine;
        // In the seed layout (b) and (c) also enter the tenant's index, which Python invalidates by.
        if engine.keys.is_seed() {
            return None;
        }
        if let Some(known) = known.filter(|known| known.tenant == tenant) {
            return Some(known.generation);
        }
        let (generation, sent) = engine.tenants.existing(tenant)?.known_before(load.moment)?;
        // One of any age would be safe, but a dead one makes a value that never counts, and with it a
        // second load (`model`, `loads-local`).
        engine.local.entitlement().age(sent, load.tick)?;
        Some(generation)
    }

    async fn without_store(&self, error: StoreError) -> Landed<M> {
        self.store_failed(&error);
        self.load_uncached(None).await
    }

    /// The loader's answer, for those who joined before the load; nothing is cached.
    async fn load_uncached(&self, permit: Option<OwnedSemaphorePermit>) -> Landed<M> {
        if self.background {
            // Nobody asked for it; whoever joined meanwhile starts a flight of their own.
            return Landing::Abandoned;
        }
        let _permit = match permit {
            Some(permit) => permit,
            None => match self.enter().await {
                Some(permit) => permit,
                None => return self.overloaded(),
            },
        };
        let load = self.send();
        let deadline = load.tick.after(self.engine.waits.load);
        match self.load(deadline).await {
            Ok(checked) => self.uncached(checked, load.number),
            Err(error) => Landing::Failed(error),
        }
    }

    async fn load(&self, deadline: Tick) -> Result<Checked<M>, Unavailable> {
        let loaded = self.engine.load(&self.lookup, deadline).await;
        self.engine.at(Point::Loaded).await;
        loaded
    }

    fn uncached(&self, checked: Checked<M>, proof: Send) -> Landed<M> {
        self.unproved(checked.into_value(None, Tick::NEVER, Duration::ZERO), proof)
    }

    /// An answer that only its load proves.
    fn unproved(&self, value: Value<M>, proof: Send) -> Landed<M> {
        let proved = Proved {
            sent: Tick::ZERO,
            bytes: 0,
        };
        let answer = self
            .engine
            .resolved(&self.lookup, value, proved, Origin::Loaded);
        Landing::Answered { answer, proof }
    }

    /// The load failed: what lay there before is put back, if it may still be answered.
    async fn load_failed(&self, lease: Lease<M>, error: Unavailable) -> Landed<M> {
        let Some(soft) = lease.soft else {
            self.release(lease.nonce).await;
            return Landing::Failed(error);
        };
        let engine = self.engine;
        let left = soft
            .left
            .saturating_sub(engine.clock.now().since(soft.read.tick));
        if left.is_zero() {
            self.release(lease.nonce).await;
            return Landing::Failed(error);
        }
        let sent = self.send();
        let store = &engine.store;
        let put_back = store
            .restore(&self.key, lease.nonce, &soft.value, &soft.observed, left)
            .await;
        match put_back {
            Ok(Filled::Stored(bytes)) => {
                let landing = self.stale(&soft);
                // In the local level it is as old as the command that put it back.
                let proved = Proved {
                    sent: sent.tick,
                    bytes,
                };
                let value = soft.value.clone();
                let kept = engine.resolved(&self.lookup, value, proved, Origin::Stale);
                engine.remember(&self.lookup, &soft.value, proved, &kept);
                landing
            }
            // Whatever removed the lease was an invalidation, for all we know.
            Ok(_) => Landing::Failed(error),
            Err(trouble) => {
                self.store_failed(&trouble);
                Landing::Failed(error)
            }
        }
    }

    /// The value past its soft end, for those who joined before the GET that found it.
    fn stale(&self, soft: &Soft<M>) -> Landed<M> {
        let proved = Proved {
            sent: soft.read.tick,
            bytes: 0,
        };
        let value = soft.value.clone();
        Landing::Answered {
            answer: self
                .engine
                .resolved(&self.lookup, value, proved, Origin::Stale),
            proof: soft.read.number,
        }
    }

    async fn release(&self, nonce: Nonce) {
        // Should it fail, the lease runs out by itself.
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

    /// Sees to it that the registry holds this scope and our bound, once a minute.
    async fn register(&self) -> Result<(), StoreError> {
        let engine = self.engine;
        if engine.store.is_local() {
            return Ok(());
        }
        let (session, now) = (engine.store.session(), engine.clock.now());
        match engine.scopes.to_register(&self.lookup.scope, session, now) {
            None => Ok(()),
            Some(_) => self.register_anew().await,
        }
    }

    async fn register_anew(&self) -> Result<(), StoreError> {
        let engine = self.engine;
        let (session, now) = (engine.store.session(), engine.clock.now());
        let entries = engine.scopes.own();
        let registry = engine.store.register(&entries).await?;
        engine.scopes.registered(&entries, session, now);
        engine.scopes.learn(&registry);
        Ok(())
    }

    fn store_failed(&self, error: &StoreError) {
        self.engine.counters.store_errors.add();
        telemetry::store_failed(error);
    }

    fn count_corrupt(&self) {
        self.engine.counters.corrupt.add();
        telemetry::corrupt_entry();
    }
}

/// What a value in the store is worth.
enum Worth {
    /// It counts, for its tenant's cell: held, because nothing else may hold it yet, until the answer
    /// does.
    Counts(Option<Arc<TenantCell>>),
    /// Its tenant was invalidated since; T as a GET found it that was sent after K's reply.
    OldGeneration(KnownTenant),
    /// It is not the answer to this question at all.
    Corrupt,
}

async fn appraise_value<M: std::marker::Send + Sync + 'static>(
    engine: &Arc<Engine<M>>,
    lookup: &Lookup,
    value: &Value<M>,
) -> Result<Worth, StoreError> {
    if let Value::Found(kept) = value
        && lookup
            .scope()
            .is_some_and(|scope| scope != kept.what.token_type)
    {
        return Ok(Worth::Corrupt);
    }
    let Some(tenant) = value.tenant_id() else {
        return Ok(Worth::Counts(None));
    };
    let Some(generation) = value.generation() else {
        // The Python service writes none; its entries count as they are.
        let worth = if engine.keys.is_seed() {
            Worth::Counts(None)
        } else {
            Worth::Corrupt
        };
        return Ok(worth);
    };
    let entitlement = engine.local.entitlement();
    let cell = (!entitlement.is_off()).then(|| engine.tenants.cell(tenant));
    let proved = cell.as_ref().and_then(|cell| cell.proved(generation));
    if proved.is_some_and(|sent| entitlement.age(sent, engine.clock.now()).is_some()) {
        return Ok(Worth::Counts(cell));
    }
    // A local T that differs is no evidence: only a GET sent after K's reply makes a value old.
    let present = engine.read_tenant(tenant).await?;
    if present == generation {
        return Ok(Worth::Counts(cell));
    }
    Ok(Worth::OldGeneration(KnownTenant {
        tenant: tenant.to_owned(),
        generation: present,
    }))
}

/// What lies in the store, if it counts.
pub(crate) async fn peek<M: std::marker::Send + Sync + 'static>(
    engine: &Arc<Engine<M>>,
    lookup: &Lookup,
) -> Result<Option<Resolved<M>>, StoreError> {
    let sent = engine.clock.now();
    let Seen::Value(value, _, left) = engine.store.get(&engine.key(lookup)).await? else {
        return Ok(None);
    };
    if left.is_some_and(|left| left <= value.grace()) {
        // Past its soft end it is an answer only where a load failed.
        return Ok(None);
    }
    let Worth::Counts(_cell) = appraise_value(engine, lookup, &value).await? else {
        return Ok(None);
    };
    let proved = Proved { sent, bytes: 0 };
    Ok(Some(engine.resolved(
        lookup,
        value,
        proved,
        store_origin(engine),
    )))
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
    least + (most - least).mul_f64(f64::from(dice()) / f64::from(u32::MAX))
}

fn dice() -> u32 {
    getrandom::u32().expect("the operating system's random generator")
}
