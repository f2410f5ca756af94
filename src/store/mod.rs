//! The level that fills are fenced in, spoken to in protocol.md's operations.

// Without Redis there is nothing to be written, and nothing that fails.
#![cfg_attr(not(feature = "redis"), allow(dead_code))]

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use chrono::{DateTime, Utc};

use crate::clock::Tick;
use crate::token::{BearerToken, TokenRecord, write_hex};
use crate::util::BoxFuture;

#[cfg(all(test, feature = "redis"))]
mod conformance;
mod error;
pub(crate) mod keys;
mod layout;
pub(crate) mod memory;
#[cfg(feature = "redis")]
pub(crate) mod redis;

#[cfg(feature = "redis-rustls")]
pub use self::redis::RedisTls;
pub use error::{StoreError, StoreErrorKind};

use keys::EntryKey;
pub use layout::KeyLayout;

pub(crate) type Reply<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// 128 random bits, new for every transmission that creates something: a late duplicate of a
/// command must not be able to pass for a new one (protocol.md N9).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Nonce([u8; 16]);

impl Nonce {
    pub(crate) fn new() -> Self {
        let mut bytes = [0; 16];
        // Without the operating system's generator there are no nonces and no fence; the panic ends
        // the flight, and its callers get "unavailable".
        getrandom::fill(&mut bytes).expect("the operating system's random generator");
        Self(bytes)
    }
}

impl fmt::Display for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Nonce {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// A tenant's generation, or the epoch: 128 random bits that never come back.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct Generation([u8; 16]);

impl Generation {
    pub(crate) fn new() -> Self {
        Self(Nonce::new().0)
    }

    pub(crate) fn parse(text: &str) -> Option<Self> {
        crate::token::parse_hex(text).map(Self)
    }

    pub(crate) fn halves(self) -> (u64, u64) {
        let whole = u128::from_be_bytes(self.0);
        ((whole >> 64) as u64, whole as u64)
    }

    pub(crate) fn from_halves(high: u64, low: u64) -> Self {
        Self((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

impl fmt::Display for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Generation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Something kept under a key, and what it takes to know whether it still counts.
pub(crate) struct Kept<T> {
    pub(crate) what: T,
    pub(crate) generation: Option<Generation>,
    /// The end of its time to live, where this process keeps it itself.
    pub(crate) until: Tick,
    /// For how long after that it may still be answered, if the loader fails (stale-if-error).
    pub(crate) grace: Duration,
    /// Set by the in-memory store when it deletes or evicts the entry, so that whoever holds it knows.
    pub(crate) revoked: AtomicBool,
}

impl<T> Kept<T> {
    pub(crate) fn new(what: T, generation: Option<Generation>) -> Self {
        Self {
            what,
            generation,
            until: Tick::NEVER,
            grace: Duration::ZERO,
            revoked: AtomicBool::new(false),
        }
    }

    pub(crate) fn until(mut self, until: Tick) -> Self {
        self.until = until;
        self
    }

    pub(crate) fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }
}

/// What may be cached: a record, which may be a denied one, or that there is none.
pub(crate) enum Value<M> {
    Found(Arc<Kept<TokenRecord<M>>>),
    Absent(Arc<Kept<()>>),
}

impl<M> Value<M> {
    pub(crate) fn generation(&self) -> Option<Generation> {
        match self {
            Self::Found(kept) => kept.generation,
            Self::Absent(kept) => kept.generation,
        }
    }

    pub(crate) fn grace(&self) -> Duration {
        match self {
            Self::Found(kept) => kept.grace,
            Self::Absent(_) => Duration::ZERO,
        }
    }

    pub(crate) fn revoked(&self) -> &AtomicBool {
        match self {
            Self::Found(kept) => &kept.revoked,
            Self::Absent(kept) => &kept.revoked,
        }
    }

    pub(crate) fn tenant_id(&self) -> Option<&str> {
        match self {
            Self::Found(kept) => kept.what.tenant_id.as_deref(),
            Self::Absent(_) => None,
        }
    }
}

impl<M> Clone for Value<M> {
    fn clone(&self) -> Self {
        match self {
            Self::Found(kept) => Self::Found(Arc::clone(kept)),
            Self::Absent(kept) => Self::Absent(Arc::clone(kept)),
        }
    }
}

impl<M> fmt::Debug for Value<M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Found(_) => "Found",
            Self::Absent(_) => "Absent",
        })
    }
}

/// What was seen, exactly: the old side of a compare-and-acquire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Observed {
    Bytes(Vec<u8>),
    Version(u64),
}

impl Observed {
    /// How many bytes were seen, where it was bytes.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Bytes(bytes) => bytes.len(),
            Self::Version(_) => 0,
        }
    }
}

/// The contents of a key.
#[derive(Debug)]
pub(crate) enum Seen<M> {
    Vacant,
    Lease,
    /// With how long it will still lie there, where that was asked for.
    Value(Value<M>, Observed, Option<Duration>),
    /// Unreadable, or another token's: to be replaced, never to be answered from.
    Corrupt(Observed),
    /// Of another Redis type: to be deleted first.
    WrongType,
}

/// The reply to an acquire.
#[derive(Debug)]
pub(crate) enum Acquired<M> {
    Ours,
    /// What lies there.
    Taken(Seen<M>),
    /// What was to be replaced no longer lies there.
    Gone,
}

/// The replies to an acquire's round trip.
#[derive(Debug)]
pub(crate) struct AcquireReply<M> {
    pub(crate) acquired: Acquired<M>,
    /// E, if it is there and could be read.
    pub(crate) epoch: Option<Generation>,
}

/// The reply to a fill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Filled {
    /// Stored, as so many bytes (none in memory).
    Stored(usize),
    /// The lease is no longer there: it ran out, or an invalidation removed it.
    Refused,
    /// Nothing was sent: the value is larger than the limit, or cannot be written.
    Unwritable,
    /// Nothing was sent: the layout has no form for such a value.
    NoForm,
}

/// A bound as the registry writes it, in milliseconds: never understated, and zero stays zero.
pub(crate) fn bound_millis(bound: Duration) -> u64 {
    u64::try_from(bound.as_nanos().div_ceil(1_000_000)).unwrap_or(u64::MAX)
}

/// The staleness bounds of all instances, as far as the registry knows them.
pub(crate) type Bounds = Vec<Duration>;

/// `.wait_for_replicas(replicas)`: how many replicas must acknowledge, and how long to wait for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durability {
    pub(crate) replicas: usize,
    pub(crate) timeout: Duration,
}

/// How many circuit breakers there are, by state.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    pub(crate) closed: usize,
    pub(crate) open: usize,
    pub(crate) half_open: usize,
}

/// How long the time of a last use lies in the store: longer than a record is cached, so that by its
/// end every instance has read what the database says.
pub(crate) const LAST_USE: Duration = Duration::from_secs(3600);

/// What became of one of several writes.
pub(crate) type Put = Result<(), StoreError>;

/// protocol.md's operations. Every call has a deadline of the store's own, and is sent at most once
/// unless it is a GET or a DEL: a command that timed out here may still run there.
pub(crate) trait Store<M>: Send + Sync {
    /// Whether it is this process's own memory: then an invalidation is immediate.
    fn is_local(&self) -> bool;

    /// How long one operation may take, and what belongs to it.
    fn deadline(&self) -> Duration {
        Duration::ZERO
    }

    /// R3.
    fn get<'a>(&'a self, key: &'a EntryKey) -> Reply<'a, Seen<M>>;

    /// R4; and in the same round trip the epoch.
    fn acquire<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        lease: Duration,
    ) -> Reply<'a, AcquireReply<M>>;

    /// R4's stand-in over a value that does not count: the same only if `old` still lies there.
    fn acquire_over<'a>(
        &'a self,
        key: &'a EntryKey,
        old: &'a Observed,
        nonce: Nonce,
        lease: Duration,
    ) -> Reply<'a, AcquireReply<M>>;

    /// R6: the value in the lease's place, only if it is still ours.
    fn fill<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        ttl: Duration,
    ) -> Reply<'a, Filled>;

    /// What lay there before the lease, in the lease's place again, for what was left of its time.
    fn restore<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        observed: &'a Observed,
        left: Duration,
    ) -> Reply<'a, Filled>;

    /// Gives the lease back.
    fn release<'a>(&'a self, key: &'a EntryKey, nonce: Nonce) -> Reply<'a, ()>;

    /// Deletes a key of the wrong type.
    fn delete<'a>(&'a self, key: &'a EntryKey) -> Reply<'a, ()>;

    /// T, created as `fresh` if it is missing.
    fn tenant<'a>(&'a self, tenant: &'a str, fresh: Generation) -> Reply<'a, Generation>;

    /// T likewise, and then E, in this order, for a fill of `key`.
    fn tenant_then_epoch<'a>(
        &'a self,
        key: &'a EntryKey,
        tenant: &'a str,
        fresh: Generation,
    ) -> Reply<'a, (Generation, Option<Generation>)>;

    /// E, created as `fresh` if it is missing.
    fn epoch(&self, fresh: Generation) -> Reply<'_, Generation>;

    /// I2 for the keys of one token; with `bounds`, the registry, read after it. With `sweep`, the token's
    /// text, also for types that nobody declared, where others than we write entries.
    fn delete_token<'a>(
        &'a self,
        keys: &'a [EntryKey],
        sweep: Option<&'a BearerToken>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Reply<'a, Option<Bounds>>;

    /// `DEL E`, then `DEL T`; with `bounds`, the registry, read after it.
    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a str,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Reply<'a, Option<Bounds>>;

    /// Enters a bound into the registry, and reads it.
    fn register(&self, bound: Duration) -> Reply<'_, Bounds>;

    /// Counts connections: a registration made under another session may be lost.
    fn session(&self) -> u64;

    /// Whether some keys may be out of reach while others are not. Default: no.
    fn is_divided(&self) -> bool {
        false
    }

    /// The circuit breakers in front of it. Default: there are none.
    #[cfg(feature = "metrics")]
    fn breakers(&self) -> Breakers {
        Breakers::default()
    }

    /// Writes when tokens were last used, each unless something later lies there; in one round trip.
    /// `Ok` of one: it, or something later, lies there now. One that is refused is no other's matter.
    fn put_last_uses<'a>(&'a self, uses: &'a [(EntryKey, DateTime<Utc>)]) -> Reply<'a, Vec<Put>>;

    /// Reads such times, in one round trip. What lies there and is no time is none.
    fn last_uses<'a>(&'a self, keys: &'a [EntryKey]) -> Reply<'a, Vec<Option<DateTime<Utc>>>>;

    /// Whether the store takes a write wherever requests need it to.
    fn check(&self) -> Reply<'_, ()>;
}

/// What [`ApiTokenCacheBuilder::store`](crate::ApiTokenCacheBuilder::store) takes.
///
/// | store | for | bounded by | survives a restart |
/// |---|---|---|---|
/// | [`MemoryStore`] | one process | entries, records and nulls apart | no |
/// | `RedisStore` (feature `redis`) | a fleet on one Redis | `maxmemory` of the server | yes |
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a store for records with metadata `{M}`",
    label = "expected `RedisStore::new(url)?` or `MemoryStore::new()`",
    note = "`RedisStore` needs metadata that is `serde::Serialize` and `serde::Deserialize`"
)]
pub trait IntoStore<M>: sealed::IntoStore<M> {}

impl<M, S: sealed::IntoStore<M>> IntoStore<M> for S {}

pub(crate) mod sealed {
    use std::sync::Arc;

    use super::Store;
    use super::keys::Keys;
    use crate::ConfigError;
    use crate::clock::Clock;

    pub trait IntoStore<M> {
        #[doc(hidden)]
        fn check(&self) -> Result<(), ConfigError>;

        #[doc(hidden)]
        fn into_store(self, parts: Parts) -> Erased<M>;
    }

    /// A store with its type erased.
    pub struct Erased<M>(pub(crate) Arc<dyn Store<M>>);

    impl<M> std::fmt::Debug for Erased<M> {
        fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("Erased")
        }
    }

    /// What the builder lends a store.
    #[derive(Debug)]
    pub struct Parts {
        pub(crate) keys: Arc<Keys>,
        pub(crate) clock: Clock,
        /// Whether values may be past their soft end, so that what is left of them has to be asked.
        pub(crate) stale_if_error: bool,
    }
}
