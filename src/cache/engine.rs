//! The engine: the way of a look-up through local level, flight, store and loader.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::answer::{Answer, Resolved, What};
use super::bulkhead::Bulkhead;
use super::cached_token::CachedApiToken;
use super::error::{Unavailable, UnavailableKind};
use super::fetch;
use super::flight::{Arrival, Boarding, Flights, Leader, Ticket};
use super::lifetimes::{Lifetimes, SEED_TTL};
use super::local::{Fingerprint, Hit, Local, Refresh};
use super::lookup_span::LookupSpan;
use super::pilot::Work;
use super::scopes::{Published, Scopes};
use super::sync_points::SyncPoint;
#[cfg(feature = "test-util")]
use super::sync_points::SyncPoints;
use super::tenant_flights::TenantFlights;
use super::tenants::Tenants;
use super::unconfirmed::Unconfirmed;
use crate::clock::{Clock, LogicalClock, Tick};
use crate::loader::{DynLoader, Lookup};
#[cfg(feature = "metrics")]
use crate::metrics::Levels;
use crate::metrics::Origin;
use crate::metrics::{Counters, Outcome, Stats};
use crate::metrics::{Metrics, Stopwatch};
use crate::rate_limiter::RateLimiter;
use crate::store::keys::{EntryKey, Keys, Scope};
use crate::store::{Store, StoreError};
use crate::task::spawn_stealable;
use crate::token::{BearerToken, Denial, InvalidReason};
use crate::trace::{in_span, limited};
use crate::usage::Recorder;

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
    pub(crate) scopes: Scopes,
    pub(crate) lifetimes: Lifetimes,
    pub(crate) waits: Waits,
    pub(crate) counters: Counters,
    pub(crate) usage: Option<Recorder<M>>,
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
        scope: Option<&str>,
    ) -> Option<Answer<M>> {
        // Read once: for the entry's age, and for when it was used.
        let now = self.clock.now();
        let answer = self.local_answer(token, scope, now)?;
        self.note_use(&answer, scope, now);
        Some(answer)
    }

    /// The same, of a look that is no use.
    pub(crate) fn peek_locally(
        self: &Arc<Self>,
        token: &str,
        scope: Option<&str>,
    ) -> Option<Answer<M>> {
        self.local_answer(token, scope, self.clock.now())
    }

    fn note_use(&self, answer: &Answer<M>, scope: Option<&str>, now: Tick) {
        if let (Some(usage), Answer::Found(token)) = (&self.usage, answer) {
            usage.note(token.principal(), scope, now);
        }
    }

    fn local_answer(
        self: &Arc<Self>,
        token: &str,
        scope: Option<&str>,
        now: Tick,
    ) -> Option<Answer<M>> {
        let fingerprint = self.local.fingerprint(token, scope);
        let (hit, refresh) = self.local.get(fingerprint, token, now)?;
        self.refresh(&hit, refresh, token, scope);
        let mut origin = Origin::Local;
        let what = match hit {
            Hit::Found(principal) => {
                if principal.proof.stale {
                    origin = Origin::Stale;
                }
                What::Found(principal)
            }
            Hit::Absent(null) => What::Absent(null.kept.what),
        };
        Some(self.decide(Resolved { what, origin }, scope))
    }

    /// The whole way, for whoever found no local answer. A good answer is a use of the token.
    pub(crate) async fn resolve(
        self: Arc<Self>,
        token: BearerToken,
        scope: Scope,
    ) -> Result<Answer<M>, Unavailable> {
        let answer = Arc::clone(&self).look_up(token, scope.clone()).await?;
        self.note_use(&answer, scope.name(), self.clock.now());
        Ok(answer)
    }

    /// The same, of a look-up that is no use.
    pub(crate) async fn look_up(
        self: Arc<Self>,
        token: BearerToken,
        scope: Scope,
    ) -> Result<Answer<M>, Unavailable> {
        let (watch, span) = (Stopwatch::start(), LookupSpan::start(scope.as_written()));
        let sought = span.around(self.seek(token, scope, &span)).await;
        let origin = sought.as_ref().ok().map(|(_, origin)| *origin);
        self.metrics.missed(watch, origin);
        span.ends(&sought);
        sought.map(|(answer, _)| answer)
    }

    async fn seek(
        self: &Arc<Self>,
        token: BearerToken,
        scope: Scope,
        span: &LookupSpan,
    ) -> Result<(Answer<M>, Origin), Unavailable> {
        if !self.scopes.allows(&scope) {
            limited!(
                error,
                "a lookup in a scope that is not declared; answering unavailable",
                scope = scope.as_written()
            );
            let error = Unavailable::new(UnavailableKind::UnknownScope);
            return Err(self.unavailable(error));
        }
        let lookup = self.lookup(token, scope);
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
                    return Ok((self.decide(resolved, lookup.scope()), origin));
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

    /// Returns whether operators can know of this instance's bound, and of `scope`, from here on. It is
    /// asked before a send; only then may what the command proves be kept: an operator that deletes
    /// after the command ran finds the bound when it reads the registry after that.
    pub(super) fn published(&self, scope: Option<&Scope>) -> Published {
        if self.store.is_local() {
            return Published::Own;
        }
        let session = self.store.session();
        if self.scopes.are_registered(scope, session, self.clock.now()) {
            Published::In(session)
        } else {
            Published::No
        }
    }

    /// Returns whether `scope` and this instance's bound are to be entered before anything is read.
    pub(super) fn has_to_register(&self, scope: &Scope) -> bool {
        let (session, now) = (self.store.session(), self.clock.now());
        !self.store.is_local() && self.scopes.are_due(scope, session, now)
    }

    /// Returns whether what a command proves may be kept, of whose send `published` was said. A session
    /// that ended meanwhile may have taken the registry with it.
    pub(super) fn may_keep(&self, published: Published) -> bool {
        match published {
            Published::Own => true,
            Published::In(session) => session == self.store.session(),
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

    /// Enters this instance's scopes and bound into the registry, and learns what else is there.
    pub(super) async fn register(&self) -> Result<(), StoreError> {
        // Sessions count connections, and the first is made by what is sent over it.
        let (session, now) = (self.store.session().max(1), self.clock.now());
        let own = self.scopes.own();
        let registry = self.store.register(&own).await?;
        self.scopes.registered(&own, session, now);
        self.scopes.learn(&registry);
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
        (stats.evicted_records, stats.evicted_nulls) = self.local.evicted();
        if let Some(usage) = &self.usage {
            usage.count(&mut stats);
        }
        stats
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn publish_metrics(&self) {
        let (loads, waiting, max_loads) = self.bulkhead.taken();
        let (records, nulls) = self.local.len();
        let levels = Levels {
            loads,
            waiting,
            max_loads,
            records,
            nulls,
            breakers: self.store.breakers(),
        };
        self.metrics.publish(|| self.stats(), &levels);
    }

    pub(crate) fn lookup(&self, token: BearerToken, scope: Scope) -> Lookup {
        Lookup {
            digest: token.digest(),
            token,
            scope,
        }
    }

    pub(crate) fn key(&self, lookup: &Lookup) -> EntryKey {
        self.keys
            .key(&lookup.token, &lookup.digest, lookup.scope.clone())
    }

    pub(crate) fn fingerprint(&self, lookup: &Lookup) -> Fingerprint {
        self.local
            .fingerprint(lookup.token.expose(), lookup.scope())
    }

    /// What is cached is identity; what follows from it is decided for every request.
    pub(crate) fn decide(&self, resolved: Resolved<M>, scope: Option<&str>) -> Answer<M> {
        let (answer, outcome) = match resolved.what {
            What::Found(principal) => {
                let record = &principal.kept.what;
                if scope.is_some_and(|scope| scope != record.token_type) {
                    (
                        Answer::Absent(InvalidReason::WrongTokenType),
                        Outcome::Absent,
                    )
                } else if record.expires_at.is_some() && record.is_expired(self.clock.wall()) {
                    (Answer::Absent(InvalidReason::Expired), Outcome::Absent)
                } else if let Some(denial) = Denial::of(record) {
                    (Answer::Denied(denial), Outcome::Denied)
                } else {
                    let token = CachedApiToken::new(principal, resolved.origin);
                    (Answer::Found(token), Outcome::Found)
                }
            }
            What::Absent(why) => (Answer::Absent(why), Outcome::Absent),
        };
        self.counters.looked_up(outcome, Some(resolved.origin));
        answer
    }

    fn refresh(self: &Arc<Self>, hit: &Hit<M>, refresh: Refresh, token: &str, scope: Option<&str>) {
        if let Some(cell) = refresh.tenant {
            self.refresh_tenant(&cell);
        }
        // Outside of a runtime there is nobody to do it; the entry then ends at its bound.
        if refresh.entry
            && tokio::runtime::Handle::try_current().is_ok()
            && let Ok(scope) = Scope::new(scope)
        {
            let token = match hit {
                Hit::Found(principal) => principal.token.clone(),
                Hit::Absent(_) => BearerToken::new(token),
            };
            let lookup = self.lookup(token, scope);
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
