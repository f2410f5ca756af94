//! The engine: the way of a look-up through local level, flight, store and loader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::{Answer, Resolved, What};
use super::bounds::{Bounds, Published};
use super::bulkhead::Bulkhead;
use super::cached_token::CachedApiToken;
use super::error::{Unavailable, UnavailableKind};
use super::fetch;
use super::flight::{Arrival, Boarding, Flights, Leader, Ticket};
use super::lifetimes::{Lifetimes, SEED_TTL};
use super::local::{Fingerprint, Hit, Local, Refresh};
use super::lookup_span::LookupSpan;
use super::pilot::Work;
use super::sync_points::SyncPoint;
#[cfg(feature = "test-util")]
use super::sync_points::SyncPoints;
use super::tenant_flights::TenantFlights;
use super::tenants::Tenants;
use super::token_types::TokenTypes;
use super::unconfirmed::Unconfirmed;
use crate::clock::{Clock, LogicalClock, Tick};
use crate::last_use::Recorder;
use crate::loader::{DynLoader, Lookup};
#[cfg(feature = "metrics")]
use crate::metrics::Gauges;
use crate::metrics::Origin;
use crate::metrics::{Counters, Outcome, Stats};
use crate::metrics::{Metrics, Timer};
use crate::rate_limiter::RateLimiter;
use crate::store::keys::{EntryKey, Keys};
use crate::store::{Store, StoreError};
use crate::task::spawn_stealable;
use crate::token::{BearerToken, Denial, InvalidReason};
use crate::trace::{in_span, limited};

type EntryFlights<M> = Flights<EntryKey, Resolved<M>, Unavailable>;
pub(crate) type EntryLeader<M> = Leader<EntryKey, Resolved<M>, Unavailable>;

/// The waits of protocol.md section 2, in their order: load deadline < wait < lease.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Waits {
    /// From the acquire's send to the fill's send.
    pub(crate) load: Duration,
    /// W: how long another's lease is waited for.
    pub(crate) lease_wait: Duration,
    /// P: how long a lease lasts.
    pub(crate) lease: Duration,
    /// More than a flight can take from one send to the next.
    pub(crate) step: Duration,
    /// More than one can that reads a tenant's generation.
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

/// For how long a loader that failed is not asked again for a record that may be answered stale.
const RETRY: Duration = Duration::from_secs(1);

pub(crate) struct Engine<M> {
    pub(crate) clock: Clock,
    pub(crate) order: LogicalClock,
    pub(crate) keys: Arc<Keys>,
    pub(crate) store: Arc<dyn Store<M>>,
    pub(crate) loader: Arc<dyn DynLoader<M>>,
    pub(crate) local: Local<M>,
    pub(crate) tenants: Tenants,
    pub(crate) unconfirmed: Unconfirmed,
    pub(crate) flights: Arc<EntryFlights<M>>,
    pub(crate) tenant_flights: Arc<TenantFlights>,
    pub(crate) bulkhead: Bulkhead,
    pub(crate) null_writes: RateLimiter,
    pub(crate) token_types: TokenTypes,
    pub(crate) bounds: Bounds,
    pub(crate) lifetimes: Lifetimes,
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
    /// An answer from this process's memory, if there is one: no flight, no task, no box. A good one
    /// is a use of the token.
    pub(crate) fn answer_locally(
        self: &Arc<Self>,
        token: &str,
        asked: Option<&str>,
    ) -> Option<Answer<M>> {
        // Read once: for the entry's age, and for when it was used.
        let now = self.clock.now();
        let answer = self.local_answer(token, asked, now)?;
        self.note_use(&answer, asked, now);
        Some(answer)
    }

    /// The same, of a look that is no use.
    pub(crate) fn peek_locally(
        self: &Arc<Self>,
        token: &str,
        asked: Option<&str>,
    ) -> Option<Answer<M>> {
        self.local_answer(token, asked, self.clock.now())
    }

    fn note_use(&self, answer: &Answer<M>, asked: Option<&str>, now: Tick) {
        if let (Some(last_use), Answer::Valid(token)) = (&self.last_use, answer) {
            last_use.note(token.principal().used(), asked, now);
        }
    }

    fn local_answer(
        self: &Arc<Self>,
        token: &str,
        asked: Option<&str>,
        now: Tick,
    ) -> Option<Answer<M>> {
        let in_key = self.keys.type_in_key(asked);
        let fingerprint = self.local.fingerprint(token, in_key);
        let (hit, refresh) = self.local.get(fingerprint, token, now)?;
        self.refresh(&hit, refresh, token, in_key);
        let mut origin = Origin::Local;
        let what = match hit {
            Hit::Found(principal) => {
                if principal.proof.stale {
                    origin = Origin::Stale;
                }
                What::Found(principal)
            }
            Hit::Absent(_) => What::Absent,
        };
        Some(self.decide(Resolved { what, origin }, asked))
    }

    /// Refuses a type that is not declared: a mistake of the service, and no reason to call a token bad.
    pub(crate) fn check_type(&self, asked: Option<&str>) -> Result<(), Unavailable> {
        if self.token_types.allow(asked) {
            return Ok(());
        }
        limited!(
            error,
            "a lookup for a token type that is not declared; answering unavailable",
            token_type = asked.unwrap_or_default()
        );
        Err(self.unavailable(Unavailable::new(UnavailableKind::UnknownTokenType)))
    }

    /// The whole way, for whoever found no local answer. A good answer is a use of the token.
    pub(crate) async fn resolve(
        self: Arc<Self>,
        token: BearerToken,
        asked: Option<Arc<str>>,
    ) -> Result<Answer<M>, Unavailable> {
        let answer = Arc::clone(&self).look_up(token, asked.clone()).await?;
        self.note_use(&answer, asked.as_deref(), self.clock.now());
        Ok(answer)
    }

    /// The same, of a look-up that is no use.
    pub(crate) async fn look_up(
        self: Arc<Self>,
        token: BearerToken,
        asked: Option<Arc<str>>,
    ) -> Result<Answer<M>, Unavailable> {
        let (watch, span) = (Timer::start(), LookupSpan::start(asked.as_deref()));
        let sought = span.around(self.seek(token, asked, &span)).await;
        let origin = sought.as_ref().ok().map(|(_, origin)| *origin);
        self.metrics.missed(watch, origin);
        span.ends(&sought);
        sought.map(|(answer, _)| answer)
    }

    async fn seek(
        self: &Arc<Self>,
        token: BearerToken,
        asked: Option<Arc<str>>,
        span: &LookupSpan,
    ) -> Result<(Answer<M>, Origin), Unavailable> {
        let asked = asked.as_deref();
        let lookup = self.lookup(token, self.keys.type_in_key(asked));
        let key = self.key(&lookup);
        // One that stands still gives way to another, once.
        for _ in 0..2 {
            let ticket = match self.flights.board(&key) {
                Boarding::Joins(ticket) => {
                    self.counters.joined.add();
                    span.joined();
                    ticket
                }
                Boarding::Leads(leader, ticket) => {
                    let flight = self.flight(leader, key.clone(), lookup.clone());
                    ticket.fly(flight).await;
                    ticket
                }
            };
            match Self::served(ticket).await {
                Some(Ok(resolved)) => {
                    let origin = resolved.origin;
                    return Ok((self.decide(resolved, asked), origin));
                }
                Some(Err(Some(error))) => return Err(self.unavailable(error)),
                Some(Err(None)) => break,
                None => {}
            }
        }
        Err(self.unavailable(Unavailable::new(UnavailableKind::Internal)))
    }

    /// What the ticket's flight lands with, or the next one where that is for others alone; `Err(None)`
    /// if it broke off. `None`: it stands still. Every part of a flight has a deadline; but nobody may
    /// drive the runtime that flies it.
    pub(super) async fn served<T: Clone, E: Clone>(
        mut ticket: Ticket<T, E>,
    ) -> Option<Result<T, Option<E>>> {
        loop {
            match ticket.wait().await {
                Arrival::Served(answer) => return Some(answer),
                Arrival::Onward(next) => ticket = next,
                Arrival::StandsStill => return None,
            }
        }
    }

    /// Within the span of whoever begins it, also in a task of its own. No `async`: what the caller has
    /// to carry is the block alone.
    fn flight(self: &Arc<Self>, leader: EntryLeader<M>, key: EntryKey, lookup: Lookup) -> Work {
        let engine = Arc::clone(self);
        Work::new(in_span(fetch::fly(engine, leader, key, lookup, false)))
    }

    /// Returns whether operators can know of this instance's bound from here on. It is asked before a
    /// send; only then may what the command proves be kept: an operator that deletes after the command
    /// ran finds the bound when it reads the registry after that.
    pub(super) fn published(&self) -> Published {
        if self.store.is_local() {
            return Published::Own;
        }
        let session = self.store.session();
        if self.bounds.is_registered(session, self.clock.now()) {
            Published::In(session)
        } else {
            Published::No
        }
    }

    /// Returns whether this instance's bound is to be entered before anything is read.
    pub(super) fn has_to_register(&self) -> bool {
        let (session, now) = (self.store.session(), self.clock.now());
        !self.store.is_local() && self.bounds.is_due(session, now)
    }

    /// Returns whether what a command proves may be kept, of whose send `published` was said. A session
    /// that ended meanwhile may have taken the registry with it.
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
        let now = self.clock.now();
        self.unconfirmed.covers(&lookup.digest, tenant, now)
    }

    /// Returns until when the store can hold what it holds now, or what a load fills that began
    /// before now.
    pub(super) fn until_all_has_ended(&self) -> Tick {
        let lease = self.waits.lease;
        // The Python service's entries have its own time to live.
        let least = if self.keys.is_seed() {
            SEED_TTL
        } else {
            Duration::ZERO
        };
        let longest = self.lifetimes.longest().max(least) + lease;
        self.clock.now().after(longest + longest / 20)
    }

    /// Enters this instance's bound into the registry, and learns what else is there.
    pub(super) async fn register(&self) -> Result<(), StoreError> {
        // Sessions count connections, and the first is made by what is sent over it.
        let (session, now) = (self.store.session().max(1), self.clock.now());
        let registry = self.store.register(self.bounds.own()).await?;
        self.bounds.registered(session, now);
        self.bounds.learn(&registry);
        Ok(())
    }

    /// Whether the loader failed within the last second: then a record past its soft end is answered
    /// without another try.
    pub(crate) fn loader_failed_lately(&self) -> bool {
        let failed = self.loader_failed.load(Ordering::Relaxed);
        failed != 0 && self.clock.now().since(Tick(failed)) < RETRY
    }

    fn unavailable(&self, error: Unavailable) -> Unavailable {
        self.counters.looked_up(Outcome::Unavailable, None);
        error
    }

    pub(crate) fn stats(&self) -> Stats {
        let mut stats = self.counters.read();
        let (records, negatives) = self.local.len();
        (stats.local_records, stats.local_negatives) = (records as u64, negatives as u64);
        (stats.evicted_records, stats.evicted_negatives) = self.local.evicted();
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

    /// `in_key` is the token type that the entry's key holds.
    pub(crate) fn lookup(&self, token: BearerToken, in_key: Option<&str>) -> Lookup {
        Lookup {
            digest: token.digest(),
            token,
            token_type: in_key.map(Arc::from),
        }
    }

    /// The token types that a token's keys can hold, each a lookup of its own. In the digest layout no key
    /// holds one.
    pub(crate) fn types_in_keys(&self) -> Vec<Option<Arc<str>>> {
        if self.keys.is_seed() {
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

    /// Only identity is cached; what follows from it, for the type that is `asked` for, is decided for
    /// every request.
    pub(crate) fn decide(&self, resolved: Resolved<M>, asked: Option<&str>) -> Answer<M> {
        let (answer, outcome) = match resolved.what {
            What::Found(principal) => {
                let record = &principal.kept.what;
                if !record.is_of_type(asked) {
                    self.counters.wrong_token_type.add();
                    let why = InvalidReason::WrongTokenType;
                    (Answer::Invalid(why), Outcome::Invalid)
                } else if record.expires_at.is_some() && record.is_expired(self.clock.wall()) {
                    (Answer::Invalid(InvalidReason::Expired), Outcome::Invalid)
                } else if let Some(denial) = Denial::of(record) {
                    (Answer::Denied(denial), Outcome::Denied)
                } else {
                    let token = CachedApiToken::new(principal, resolved.origin);
                    (Answer::Valid(token), Outcome::Valid)
                }
            }
            What::Absent => (Answer::Invalid(InvalidReason::Unknown), Outcome::Invalid),
        };
        self.counters.looked_up(outcome, Some(resolved.origin));
        answer
    }

    fn refresh(
        self: &Arc<Self>,
        hit: &Hit<M>,
        refresh: Refresh,
        token: &str,
        in_key: Option<&str>,
    ) {
        if let Some(cell) = refresh.tenant {
            self.refresh_tenant(&cell);
        }
        // Outside of a runtime there is nobody to do it; the entry then ends at its bound.
        if refresh.entry && tokio::runtime::Handle::try_current().is_ok() {
            let token = match hit {
                Hit::Found(principal) => principal.token.clone(),
                Hit::Absent(_) => BearerToken::new(token),
            };
            let lookup = self.lookup(token, in_key);
            let key = self.key(&lookup);
            if let Some(leader) = self.flights.lead(&key) {
                self.counters.refreshes.add();
                spawn_stealable(fetch::fly(Arc::clone(self), leader, key, lookup, true));
            }
        }
    }

    /// Lets a test hold the flight at `point`.
    #[cfg(feature = "test-util")]
    pub(crate) async fn reach(&self, point: SyncPoint) {
        if let Some(sync_points) = &self.sync_points {
            sync_points.reach(point).await;
        }
    }

    /// Lets a test hold the flight at a point: without `test-util` there are none.
    #[cfg(not(feature = "test-util"))]
    #[expect(clippy::unused_async, reason = "the same signature as with test-util")]
    pub(crate) async fn reach(&self, _: SyncPoint) {}
}
