//! The operations of the store as Redis commands.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::Value as Raw;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::codec::digest;
use super::codec::shared::{Decoded, EncodeError, lease as lease_text};
use super::commands::Commands;
use super::connection::Connection;
#[cfg(feature = "dify")]
use super::dify::{codec as dify_codec, hooks::Dify};
use super::scripts::set_if_missing;
use super::transport::batch::Batch;
use super::transport::reply::{Reply, generation_beside, read, unexpected};
use super::transport::tracking::{begin_caching, watch};
use crate::clock::Clock;
#[cfg(feature = "metrics")]
use crate::store::backend::Breakers;
use crate::store::backend::{Backend, Deletion, Durability, Put, StoreFuture};
use crate::store::entry::{
    AcquireReply, Acquired, Bounds, Filled, Generation, Group, Nonce, Observed, ReadGeneration,
    Seen, Value, bound_millis,
};
use crate::store::error::StoreError;
use crate::store::into_store::sealed::Parts;
use crate::store::keys::{EntryKey, Keys};
use crate::store::watch::{Tracker, Watch};

pub(super) struct RedisBackend<M> {
    commands: Commands,
    clock: Clock,
    /// The TTL of records.
    ttl: Duration,
    stale_if_error: bool,
    metadata: PhantomData<fn() -> M>,
}

impl<M: Serialize + DeserializeOwned> RedisBackend<M> {
    pub(super) fn new(connection: Connection, parts: Parts) -> Self {
        Self {
            commands: Commands {
                connection: Arc::new(connection),
                keys: parts.keys,
            },
            clock: parts.clock,
            ttl: parts.ttl,
            stale_if_error: parts.stale_if_error,
            metadata: PhantomData,
        }
    }

    fn keys(&self) -> &Keys {
        &self.commands.keys
    }

    /// Returns what the Dify layout does in addition, if this is it.
    #[cfg(feature = "dify")]
    fn dify(&self) -> Option<Dify<'_>> {
        Dify::of(&self.commands)
    }

    fn decode(key: &EntryKey, bytes: &[u8]) -> Decoded<M> {
        #[cfg(feature = "dify")]
        if let Some(token) = &key.token {
            return dify_codec::decode(bytes, token);
        }
        digest::decode(bytes, &key.digest)
    }

    /// Returns `None` for what the layout has no form for.
    fn encode(key: &EntryKey, value: &Value<M>) -> Option<Result<Vec<u8>, EncodeError>> {
        #[cfg(feature = "dify")]
        if let Some(token) = &key.token {
            return dify_codec::encode(value, token, key.token_type.as_deref());
        }
        Some(digest::encode(value, &key.digest))
    }

    fn seen(key: &EntryKey, reply: Reply) -> Result<Seen<M>, StoreError> {
        let bytes = match reply {
            Ok(Raw::Nil) => return Ok(Seen::Vacant),
            Ok(Raw::BulkString(bytes)) => bytes,
            Ok(Raw::SimpleString(text)) => text.into_bytes(),
            Ok(Raw::Okay) => b"OK".to_vec(),
            Ok(_) => return Err(unexpected()),
            Err(error) if error.code() == Some("WRONGTYPE") => {
                return Ok(Seen::Corrupt(Observed::WrongType));
            }
            Err(error) => return Err(error.into()),
        };
        Ok(match Self::decode(key, &bytes) {
            Decoded::Lease => Seen::Lease,
            Decoded::Value(value) => Seen::Value(value, Observed::Bytes(bytes), None),
            Decoded::Corrupt => Seen::Corrupt(Observed::Bytes(bytes)),
        })
    }

    fn tracker(&self) -> Option<&Arc<Tracker>> {
        self.commands.connection.tracker()
    }

    /// Reads an entry, and with it the generation of all entries, if it is there.
    async fn read_entry(
        &self,
        key: &EntryKey,
        with_all: bool,
    ) -> Result<(Seen<M>, Option<Generation>), StoreError> {
        let name = self.keys().entry(key);
        let (present, left, all) = if self.stale_if_error {
            Box::pin(self.read_with_ttl(&name, with_all)).await?
        } else {
            let (present, all) = self.commands.connection.get(name, with_all).await?;
            (present, None, all)
        };
        let mut seen = Self::seen(key, present)?;
        if let Seen::Value(value, _, remaining) = &mut seen
            && (self.stale_if_error || !value.grace().is_zero())
        {
            let left = match left {
                Some(left) => left,
                // An instance with stale-if-error wrote it. Without the option, the soft end is the end.
                None => Box::pin(self.read_ttl(key)).await?,
            };
            *remaining = u64::try_from(read::<i64>(left)?)
                .ok()
                .map(Duration::from_millis);
        }
        Ok((seen, all))
    }

    async fn read_with_ttl(
        &self,
        name: &str,
        with_all: bool,
    ) -> Result<(Reply, Option<Reply>, Option<Generation>), StoreError> {
        let mut batch = Batch::new();
        batch.cmd("GET").arg(name);
        batch.cmd("PTTL").arg(name);
        if with_all {
            batch.cmd("GET").arg(self.keys().all());
        }
        let mut replies = self.commands.connection.send(&batch).await?.into_iter();
        let present = replies.next().ok_or_else(unexpected)?;
        let left = replies.next();
        let all = replies.next().and_then(generation_beside);
        Ok((present, left, all))
    }

    async fn read_ttl(&self, key: &EntryKey) -> Result<Reply, StoreError> {
        let mut batch = Batch::new();
        batch.cmd("PTTL").arg(self.keys().entry(key));
        let [left] = self.commands.send(&batch).await?;
        Ok(left)
    }

    /// Reads an entry, and has the next change of its key reported. It does not share a command with other reads:
    /// what is said before a command concerns that one alone.
    async fn read_and_watch(
        &self,
        key: &EntryKey,
        tracker: &Tracker,
    ) -> Result<(Seen<M>, Option<Watch>), StoreError> {
        let name = self.keys().entry(key);
        // guard: TR6b
        let (mark, sent) = (tracker.mark(&name), self.clock.now());
        let mut batch = Batch::new();
        begin_caching(&mut batch);
        batch.cmd("GET").arg(&name);
        batch.cmd("PTTL").arg(&name);
        let ([caching, present, left], session) = self.commands.send_tracked(&batch).await?;
        let watch = watch(session, mark, &caching);
        let mut seen = Self::seen(key, present)?;
        if let Seen::Value(value, _, remaining) = &mut seen {
            let (left, grace) = (read::<i64>(left)?, value.grace());
            let left = match left {
                // A key without an end gets one here.
                -1 => self.ttl + grace,
                left => Duration::from_millis(u64::try_from(left).unwrap_or(0)),
            };
            // Past its TTL it may still be answered stale, for as long as the bound.
            if watch.is_some() && (left > grace || left.is_zero()) {
                value.set_until(sent.after(left.saturating_sub(grace)));
            }
            *remaining = (self.stale_if_error || !grace.is_zero()).then_some(left);
        }
        Ok((seen, watch))
    }

    async fn take_lease(
        &self,
        key: &EntryKey,
        old: Option<&Observed>,
        nonce: Nonce,
        lease: Duration,
    ) -> Result<AcquireReply<M>, StoreError> {
        let (name, text) = (self.keys().entry(key), lease_text(nonce));
        let old = match old {
            None => None,
            Some(Observed::Bytes(old)) => Some(old),
            Some(Observed::WrongType) => {
                let names = std::slice::from_ref(&name);
                self.commands.delete_all([names], false).await?;
                None
            }
            Some(Observed::Version(_)) => return Err(unexpected()),
        };
        let mut batch = Batch::new();
        match old {
            None => set_if_missing(&mut batch, &name, &text, lease),
            Some(old) => self
                .commands
                .compare_and_set(&mut batch, key, old, &text, lease),
        }
        batch.cmd("GET").arg(self.keys().epoch());
        let (taken, epoch, all) = if self.keys().is_dify() {
            let [taken, epoch] = self.commands.take(&batch, &name, &text).await?;
            (taken, epoch, Ok(Raw::Nil))
        } else {
            batch.cmd("GET").arg(self.keys().all());
            let [taken, epoch, all] = self.commands.take(&batch, &name, &text).await?;
            (taken, epoch, all)
        };
        let acquired = match old {
            None => match Self::seen(key, taken)? {
                Seen::Vacant => Acquired::Ours,
                seen => Acquired::Taken(seen),
            },
            Some(_) if read(taken)? => Acquired::Ours,
            Some(_) => Acquired::Gone,
        };
        // An epoch that cannot be read costs a load.
        let [epoch, all] = [epoch, all].map(generation_beside);
        Ok(AcquireReply {
            acquired,
            epoch,
            all,
        })
    }

    async fn replace_lease(
        &self,
        key: &EntryKey,
        nonce: Nonce,
        value: &Value<M>,
        previous: Option<&Observed>,
        ttl: Duration,
    ) -> Result<(Filled, Option<Watch>), StoreError> {
        let encoded;
        let bytes = match previous {
            Some(Observed::Bytes(bytes)) => bytes,
            Some(_) => return Err(unexpected()),
            None => {
                // An entry that cannot be read back would be replaced by each request.
                let comes_back =
                    |bytes: &Vec<u8>| matches!(Self::decode(key, bytes), Decoded::Value(_));
                encoded = match Self::encode(key, value) {
                    // guard: M2
                    Some(Ok(bytes)) if comes_back(&bytes) => bytes,
                    Some(Ok(_) | Err(EncodeError::TooLarge | EncodeError::Unwritable)) => {
                        return Ok((Filled::Unwritable, None));
                    }
                    None => return Ok((Filled::NoForm, None)),
                };
                &encoded
            }
        };
        let mut batch = Batch::new();
        let lease = lease_text(nonce);
        self.commands
            .compare_and_set(&mut batch, key, &lease, &bytes[..], ttl);
        let tracker = self.tracker().filter(|tracker| tracker.is_on());
        // guard: TR5
        let (set, watch) = match tracker.filter(|_| value.is_valid() && previous.is_none()) {
            Some(tracker) => {
                let name = self.keys().entry(key);
                let mark = tracker.mark(&name);
                begin_caching(&mut batch);
                batch.cmd("GET").arg(&name);
                match self.commands.send_tracked(&batch).await {
                    Ok(([set, caching, present], session)) => {
                        // Another fill may have followed a deletion of ours.
                        // guard: TR6d
                        let is_ours =
                            read::<Vec<u8>>(present).is_ok_and(|present| present == *bytes);
                        let watch = watch(session, mark, &caching);
                        (read(set), watch.filter(|_| is_ours))
                    }
                    Err(error) => (Err(error), None),
                }
            }
            None => {
                let sent = self.commands.send(&batch).await;
                (sent.and_then(|[set]| read(set)), None)
            }
        };
        // Whatever the error is, nobody else replaces the lease.
        let take_back = |_: &_| self.commands.take_back(self.keys().entry(key), lease);
        // guard: E2
        let set = set.inspect_err(take_back)?;
        Ok(if set {
            (Filled::Stored(bytes.len()), watch)
        } else {
            (Filled::Refused, None)
        })
    }

    async fn delete_names(
        &self,
        what: Deletion<'_>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Result<Option<Bounds>, StoreError> {
        let keys = self.keys();
        let (names, fence) = match what {
            Deletion::Token { keys: entries, .. } => {
                let names: Vec<String> = entries.iter().map(|key| keys.entry(key)).collect();
                let fence = entries.last().map(|key| keys.token_fence(&key.digest));
                (names, fence)
            }
            // E before T: protocol.md G3. On a cluster, the deletion of T is sent after the reply to that of
            // E, and durably after the replicas' acknowledgements too.
            Deletion::Tenant(tenant) => (
                // guard: G3 C6
                vec![keys.epoch(), keys.tenant(tenant)],
                Some(keys.tenant_fence(tenant)),
            ),
            Deletion::All => (vec![keys.all()], Some(keys.node_fence(None))),
        };
        if let (Some(durable), Some(fence)) = (durable, fence) {
            self.commands
                .delete_durably(&names, &fence, durable)
                .await?;
            return self.commands.delete_all([], bounds).await;
        }
        match what {
            Deletion::Token { .. } | Deletion::All => {
                self.commands.delete_all([&names[..]], bounds).await
            }
            Deletion::Tenant(_) => {
                let stages = [&names[..1], &names[1..]];
                self.commands.delete_all(stages, bounds).await
            }
        }
    }

    async fn enter_bound(&self, bound: Duration) -> Result<Bounds, StoreError> {
        let (name, member) = (self.keys().bounds(), bound_millis(bound));
        let mut batch = Batch::new();
        batch.cmd("SADD").arg(&name).arg(member);
        batch.begin_stage();
        batch.cmd("SMEMBERS").arg(&name);
        let [added, all] = self.commands.add(&name, &batch).await?;
        let Err(error) = added else {
            return self.commands.bounds(all).await;
        };
        // guard: R2c
        if error.code() != Some("OOM") {
            return Err(error.into());
        }
        // A server without memory for more may hold the bound already.
        let mut batch = Batch::new();
        batch.cmd("SMEMBERS").arg(&name);
        let [all] = self.commands.send(&batch).await?;
        let bounds = self.commands.bounds(all).await?;
        if bounds.iter().any(|bound| bound_millis(*bound) == member) {
            Ok(bounds)
        } else {
            Err(error.into())
        }
    }
}

impl<M: Serialize + DeserializeOwned + Send + Sync + 'static> Backend<M> for RedisBackend<M> {
    fn is_local(&self) -> bool {
        false
    }

    fn operation_timeout(&self) -> Duration {
        self.commands.connection.operation_timeout()
    }

    fn get<'a>(&'a self, key: &'a EntryKey) -> StoreFuture<'a, Seen<M>> {
        Box::pin(async move { Ok(self.read_entry(key, false).await?.0) })
    }

    fn get_with_all<'a>(
        &'a self,
        key: &'a EntryKey,
    ) -> StoreFuture<'a, (Seen<M>, Option<Generation>)> {
        Box::pin(self.read_entry(key, true))
    }

    fn get_watched<'a>(&'a self, key: &'a EntryKey) -> StoreFuture<'a, (Seen<M>, Option<Watch>)> {
        Box::pin(async move {
            match self.tracker().filter(|tracker| tracker.is_on()) {
                Some(tracker) => self.read_and_watch(key, tracker).await,
                None => Ok((self.read_entry(key, false).await?.0, None)),
            }
        })
    }

    fn acquire<'a>(
        &'a self,
        key: &'a EntryKey,
        old: Option<&'a Observed>,
        nonce: Nonce,
        lease: Duration,
    ) -> StoreFuture<'a, AcquireReply<M>> {
        let acquire = self.take_lease(key, old, nonce, lease);
        #[cfg(feature = "dify")]
        if let Some(dify) = self.dify() {
            return Box::pin(dify.acquire(key, nonce, acquire));
        }
        Box::pin(acquire)
    }

    fn fill<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        previous: Option<&'a Observed>,
        ttl: Duration,
    ) -> StoreFuture<'a, (Filled, Option<Watch>)> {
        Box::pin(async move {
            let filled = self.replace_lease(key, nonce, value, previous, ttl).await;
            #[cfg(feature = "dify")]
            if let Some(dify) = self.dify() {
                let result = filled.as_ref().map(|(filled, _)| *filled);
                dify.filled(key, nonce, value.tenant_id(), result).await;
            }
            filled
        })
    }

    fn release<'a>(&'a self, key: &'a EntryKey, nonce: Nonce) -> StoreFuture<'a, ()> {
        Box::pin(async move {
            #[cfg(feature = "dify")]
            if let Some(dify) = self.dify() {
                return dify.give_back(key, nonce, None).await;
            }
            let name = self.keys().entry(key);
            self.commands.give_back(name, lease_text(nonce)).await
        })
    }

    fn generation<'a>(
        &'a self,
        group: &'a Group,
        fresh: Generation,
    ) -> StoreFuture<'a, ReadGeneration> {
        Box::pin(self.commands.read_generation(group, fresh))
    }

    fn tenant_then_epoch<'a>(
        &'a self,
        key: &'a EntryKey,
        tenant: &'a str,
        fresh: Generation,
    ) -> StoreFuture<'a, (ReadGeneration, Option<Generation>)> {
        Box::pin(async move {
            #[cfg(feature = "dify")]
            if let Some(dify) = self.dify() {
                dify.enter_index(key, tenant).await?;
            }
            #[cfg(not(feature = "dify"))]
            let _ = key;
            let name = self.keys().tenant(tenant);
            self.commands.create_generation(&name, fresh, true).await
        })
    }

    fn epoch(&self, fresh: Generation) -> StoreFuture<'_, Generation> {
        Box::pin(async move {
            let mut batch = Batch::new();
            let name = self.keys().epoch();
            Commands::create(&mut batch, &name, fresh);
            let [created] = self.commands.send(&batch).await?;
            self.commands.created(&name, created, fresh).await
        })
    }

    fn delete<'a>(
        &'a self,
        what: Deletion<'a>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> StoreFuture<'a, Option<Bounds>> {
        #[cfg(feature = "dify")]
        if let Some(dify) = self.dify().filter(|dify| dify.deletes(what)) {
            return Box::pin(dify.delete(what, bounds, durable));
        }
        Box::pin(self.delete_names(what, bounds, durable))
    }

    fn register(&self, bound: Duration) -> StoreFuture<'_, Bounds> {
        Box::pin(self.enter_bound(bound))
    }

    fn session(&self) -> u64 {
        self.commands.connection.connections()
    }

    fn tracker(&self) -> Option<&Arc<Tracker>> {
        self.commands.connection.tracker()
    }

    fn is_divided(&self) -> bool {
        self.commands.connection.is_cluster()
    }

    #[cfg(feature = "metrics")]
    fn breakers(&self) -> Breakers {
        self.commands.connection.breakers()
    }

    fn put_last_uses<'a>(
        &'a self,
        uses: &'a [(EntryKey, DateTime<Utc>)],
    ) -> StoreFuture<'a, Vec<Put>> {
        Box::pin(self.commands.write_last_uses(uses))
    }

    fn last_uses<'a>(
        &'a self,
        keys: &'a [EntryKey],
    ) -> StoreFuture<'a, Vec<Option<DateTime<Utc>>>> {
        Box::pin(self.commands.read_last_uses(keys))
    }

    fn check(&self) -> StoreFuture<'_, ()> {
        Box::pin(self.commands.connection.check())
    }
}
