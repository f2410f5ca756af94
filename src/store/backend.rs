//! The operations of a store, which protocol.md specifies.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};

use super::entry::{
    AcquireReply, Bounds, Filled, Generation, Group, Nonce, Observed, ReadGeneration, Seen, Value,
};
use super::error::StoreError;
use super::keys::EntryKey;
use super::watch::{Tracker, Watch};
use crate::util::BoxFuture;

pub(crate) type StoreFuture<'a, T> = BoxFuture<'a, Result<T, StoreError>>;

/// How many replicas must acknowledge a deletion, and how long to wait for them.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Durability {
    pub(crate) replicas: usize,
    pub(crate) timeout: Duration,
}

/// What an invalidation deletes.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Deletion<'a> {
    /// The entries of one token.
    Token {
        keys: &'a [EntryKey],
        /// Whether to delete its entries for undeclared token types too, if others write such entries.
        all_types: bool,
    },
    /// The generation of a tenant, after the epoch.
    Tenant(&'a str),
    /// The generation of all entries.
    All,
}

/// The number of circuit breakers in each state.
#[cfg(feature = "metrics")]
#[derive(Debug, Default)]
pub(crate) struct Breakers {
    pub(crate) closed: usize,
    pub(crate) open: usize,
    pub(crate) half_open: usize,
}

/// The TTL of the time of a last use: longer than a record is cached, so that by its end every instance has
/// read the time in the database.
pub(crate) const LAST_USE_TTL: Duration = Duration::from_secs(3600);

/// The result of one of several writes.
pub(crate) type Put = Result<(), StoreError>;

/// A store. Every operation has a timeout, and is sent at most once unless it is a `GET` or a `DEL`: an
/// operation that timed out may still be executed.
pub(crate) trait Backend<M>: Send + Sync {
    /// Returns whether the store is this process's memory, so that an invalidation is immediate.
    fn is_local(&self) -> bool;

    /// Returns how long one operation can take.
    fn operation_timeout(&self) -> Duration {
        Duration::ZERO
    }

    /// Reads an entry (R3).
    fn get<'a>(&'a self, key: &'a EntryKey) -> StoreFuture<'a, Seen<M>>;

    /// Reads an entry, and in the same round trip the generation of all entries, if it exists and can be read.
    fn get_with_all<'a>(
        &'a self,
        key: &'a EntryKey,
    ) -> StoreFuture<'a, (Seen<M>, Option<Generation>)> {
        Box::pin(async move { Ok((self.get(key).await?, None)) })
    }

    /// Reads an entry that is to be cached locally, and has the next change of its key reported, if the store
    /// does that.
    fn get_watched<'a>(&'a self, key: &'a EntryKey) -> StoreFuture<'a, (Seen<M>, Option<Watch>)> {
        Box::pin(async move { Ok((self.get(key).await?, None)) })
    }

    /// Takes a lease on a missing key, or in place of `old` if the key still holds it (R4). Reads the epoch and the
    /// generation of all entries in the same round trip.
    fn acquire<'a>(
        &'a self,
        key: &'a EntryKey,
        old: Option<&'a Observed>,
        nonce: Nonce,
        lease: Duration,
    ) -> StoreFuture<'a, AcquireReply<M>>;

    /// Stores a value in place of our lease, if the key still holds that (R6). With `previous`, it restores
    /// the value that the lease replaced, exactly as it was. A new record is watched, if the store does that.
    fn fill<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        previous: Option<&'a Observed>,
        ttl: Duration,
    ) -> StoreFuture<'a, (Filled, Option<Watch>)>;

    /// Gives the lease back.
    fn release<'a>(&'a self, key: &'a EntryKey, nonce: Nonce) -> StoreFuture<'a, ()>;

    /// Reads the generation of a group, or creates it as `fresh`.
    fn generation<'a>(
        &'a self,
        group: &'a Group,
        fresh: Generation,
    ) -> StoreFuture<'a, ReadGeneration>;

    /// Reads the generation of a tenant, or creates it as `fresh`, and then reads the epoch, in this order,
    /// before `key` is filled.
    fn tenant_then_epoch<'a>(
        &'a self,
        key: &'a EntryKey,
        tenant: &'a str,
        fresh: Generation,
    ) -> StoreFuture<'a, (ReadGeneration, Option<Generation>)>;

    /// Reads the epoch, or creates it as `fresh`.
    fn epoch(&self, fresh: Generation) -> StoreFuture<'_, Generation>;

    /// Deletes (I2), and with `bounds` reads the registry afterwards.
    fn delete<'a>(
        &'a self,
        what: Deletion<'a>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> StoreFuture<'a, Option<Bounds>>;

    /// Enters a bound into the registry, and reads it.
    fn register(&self, bound: Duration) -> StoreFuture<'_, Bounds>;

    /// Returns the number of connections so far. A registration under an earlier one may be lost.
    fn session(&self) -> u64;

    /// Returns what counts the reported changes, if the store reports any.
    fn tracker(&self) -> Option<&Arc<Tracker>> {
        None
    }

    /// Returns whether some keys can be unavailable while others are not.
    fn is_divided(&self) -> bool {
        false
    }

    /// Counts the circuit breakers in front of it.
    #[cfg(feature = "metrics")]
    fn breakers(&self) -> Breakers {
        Breakers::default()
    }

    /// Writes when tokens were last used, in one round trip. A later time that is stored is kept. Each write
    /// succeeds or fails independently.
    fn put_last_uses<'a>(
        &'a self,
        uses: &'a [(EntryKey, DateTime<Utc>)],
    ) -> StoreFuture<'a, Vec<Put>>;

    /// Reads when tokens were last used, in one round trip. A key that does not hold a time counts as missing.
    fn last_uses<'a>(&'a self, keys: &'a [EntryKey])
    -> StoreFuture<'a, Vec<Option<DateTime<Utc>>>>;

    /// Checks that the store accepts the commands that requests need.
    fn check(&self) -> StoreFuture<'_, ()>;
}
