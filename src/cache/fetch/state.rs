//! The types that the steps of a fetch share.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::OwnedSemaphorePermit;

use crate::cache::answer::Resolved;
use crate::cache::bounds::Published;
use crate::cache::engine::{Engine, EntryLeader};
use crate::cache::error::{Unavailable, UnavailableKind};
use crate::cache::generations::GenerationCell;
use crate::cache::single_flight::{Completion, SendNumber};
use crate::clock::{LogicalTime, Tick};
use crate::loader::Lookup;
use crate::metrics::Origin;
use crate::store::entry::{Generation, Nonce, Observed, ShortGeneration, Value};
use crate::store::error::StoreError;
use crate::store::keys::EntryKey;
use crate::store::watch::Watch;
use crate::trace::{chain, limited};

pub(in crate::cache) type Completed<M> = Completion<Resolved<M>, Unavailable>;

/// A send, as a point in the three orders that decide who may use its result.
#[derive(Debug, Clone, Copy)]
pub(in crate::cache) struct Sent {
    /// The number within the call, for who joined before it.
    pub(super) number: SendNumber,
    /// The clock before the send, for how long the local level may use its result.
    pub(super) tick: Tick,
    /// The time within the process, for what was known before it.
    pub(super) moment: LogicalTime,
    /// Whether the local level may cache its result.
    pub(super) published: Published,
    /// Whether an invalidation of the token, or of all, was not confirmed yet: what the store runs then may be from before
    /// it, even if the reply arrives after its confirmation.
    pub(super) noted: bool,
}

/// The state of the store as of which a value is known to be valid.
#[derive(Debug)]
pub(in crate::cache) struct AsOf {
    /// The clock before the command was sent.
    pub(super) sent: Tick,
    pub(super) published: Published,
    /// The stored value's size.
    pub(super) bytes: usize,
    /// The watch for the value's next change, if the store reports it.
    pub(super) watch: Option<Watch>,
}

impl AsOf {
    /// The state of a value that the local level must not cache.
    pub(super) const UNKNOWN: Self = Self {
        sent: Tick::ZERO,
        published: Published::No,
        bytes: 0,
        watch: None,
    };
}

impl Sent {
    /// Returns the send of a command about `lookup` that is sent after the clock showed `tick`.
    pub(super) fn after<M: Send + Sync + 'static>(
        engine: &Engine<M>,
        lookup: &Lookup,
        number: SendNumber,
        tick: Tick,
    ) -> Self {
        Self {
            published: engine.published(tick),
            number,
            tick,
            moment: engine.order.next(),
            noted: engine.is_unconfirmed(lookup, None),
        }
    }

    pub(super) fn as_of(self, bytes: usize, watch: Option<Watch>) -> AsOf {
        AsOf {
            sent: self.tick,
            published: self.published,
            bytes,
            watch,
        }
    }
}

/// One round of a call's work.
pub(super) struct Fetch<'a, M> {
    pub(super) engine: &'a Arc<Engine<M>>,
    pub(super) leader: &'a EntryLeader<M>,
    pub(super) key: EntryKey,
    pub(super) lookup: Lookup,
    /// A refresh that nobody waits for.
    pub(super) background: bool,
}

/// A tenant's generation whose reply is in.
pub(in crate::cache) struct KnownGeneration {
    pub(super) tenant: String,
    pub(super) generation: Generation,
}

/// What is stored under the key that a lease is to be acquired for.
pub(in crate::cache) enum Existing<M> {
    Nothing,
    /// A value that is not valid: unreadable, or of a former generation.
    Invalid(Observed, Option<KnownGeneration>),
    /// A valid value past its TTL.
    Stale(StaleEntry<M>),
}

/// A record past its TTL, which is answered if the load fails.
pub(in crate::cache) struct StaleEntry<M> {
    pub(super) value: Value<M>,
    pub(super) observed: Observed,
    /// The GET that found it, and its remaining grace.
    pub(super) read: Sent,
    pub(super) left: Duration,
    /// Held until the answer holds it.
    pub(super) _cell: Option<Arc<GenerationCell>>,
}

/// A value that is valid.
pub(in crate::cache) struct Found<M> {
    pub(super) value: Value<M>,
    pub(super) as_of: AsOf,
    /// The send that proves it.
    pub(super) number: SendNumber,
    /// Held until the answer holds it.
    pub(super) cell: Option<Arc<GenerationCell>>,
}

/// What to do next.
pub(in crate::cache) enum Step<M> {
    Complete(Completed<M>),
    Valid(Found<M>),
    /// The store holds a value that may be from before an invalidation.
    LoadUncached,
    /// The store failed.
    Fail(StoreError),
    /// Another's lease is stored: wait for it.
    Wait,
    /// The existing value changed meanwhile: read again.
    Retry,
    Acquire(Existing<M>),
}

/// Our lease, and what came with it.
pub(super) struct Lease<M> {
    pub(super) nonce: Nonce,
    /// E, as it was before the load.
    pub(super) epoch: Option<Generation>,
    /// The generation of all entries, as it was before the load, unless the layout has none.
    pub(super) all: Option<ShortGeneration>,
    pub(super) known: Option<KnownGeneration>,
    pub(super) stale: Option<StaleEntry<M>>,
    /// Until when the fill may be sent.
    pub(super) deadline: Tick,
    pub(super) _permit: OwnedSemaphorePermit,
}

impl<M: Send + Sync + 'static> Fetch<'_, M> {
    /// Counts a send. Must be called immediately before each send that may become a proof.
    pub(super) fn send(&self) -> Sent {
        let number = self.leader.send();
        Sent::after(self.engine, &self.lookup, number, self.engine.clock.now())
    }

    /// Releases a lease.
    pub(super) async fn release(&self, nonce: Nonce) {
        // If it fails, the store tries again, and in the end the lease expires.
        if let Err(error) = self.engine.store.release(&self.key, nonce).await {
            self.store_failed(&error);
        }
    }

    pub(super) async fn permit(&self) -> Option<OwnedSemaphorePermit> {
        self.engine.bulkhead.enter().await.ok()
    }

    pub(super) fn overloaded(&self) -> Completed<M> {
        self.engine.counters.overloaded.add();
        if self.background {
            return Completion::Abandoned;
        }
        Completion::Failed(Unavailable::new(UnavailableKind::Overloaded))
    }

    pub(super) fn store_failed(&self, error: &StoreError) {
        self.engine.counters.store_errors.add();
        limited!(
            warn,
            "the token store failed; answering from the loader, uncached",
            error = chain(error)
        );
    }
}

impl<M> Engine<M> {
    pub(super) fn count_corrupt(&self) {
        self.counters.corrupt.add();
        limited!(warn, "an invalid entry in the token store is replaced");
    }
}

/// Returns the origin of an answer that was stored.
pub(super) fn store_origin<M: Send + Sync + 'static>(engine: &Engine<M>) -> Origin {
    if engine.store.is_local() {
        Origin::Local
    } else {
        Origin::Shared
    }
}
