//! protocol.md's operations as Redis commands.

use std::marker::PhantomData;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::{ToRedisArgs, Value as Raw};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::connection::Connection;
use super::scripts::{
    COMPARE_AND_SET, clear_unless_set, compare_and_delete, millis, set_if_missing,
};
use super::transport::batch::Batch;
use super::transport::reply::{Reply as RawReply, is_wrong_type, read, unexpected};
#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::keys::{EntryKey, Keys};
use crate::store::sealed::Parts;
use crate::store::{
    AcquireReply, Acquired, Bounds, Durability, Filled, Generation, Nonce, Observed, Put, Reply,
    Seen, Store, StoreError, Value, bound_millis,
};
use crate::task::spawn_stealable;
use crate::token::codec::{self, Decoded, EncodeError};
use crate::token::{BearerToken, seed};

/// How long a tenant's generation and the epoch last; losing one costs loads, never safety.
const DAY: Duration = Duration::from_secs(86_400);

pub(super) struct RedisLevel<M> {
    pub(super) connection: Arc<Connection>,
    pub(super) keys: Arc<Keys>,
    stale_if_error: bool,
    metadata: PhantomData<fn() -> M>,
}

impl<M: Serialize + DeserializeOwned> RedisLevel<M> {
    pub(super) fn new(connection: Connection, parts: Parts) -> Self {
        Self {
            connection: Arc::new(connection),
            keys: parts.keys,
            stale_if_error: parts.stale_if_error,
            metadata: PhantomData,
        }
    }

    fn decode(key: &EntryKey, bytes: &[u8]) -> Decoded<M> {
        match &key.token {
            None => codec::decode(bytes, &key.digest),
            Some(token) => seed::decode(bytes, token),
        }
    }

    fn seen(key: &EntryKey, reply: RawReply) -> Result<Seen<M>, StoreError> {
        let bytes = match reply {
            Ok(Raw::Nil) => return Ok(Seen::Vacant),
            Ok(Raw::BulkString(bytes)) => bytes,
            Ok(Raw::SimpleString(text)) => text.into_bytes(),
            Ok(Raw::Okay) => b"OK".to_vec(),
            Ok(_) => return Err(unexpected()),
            Err(error) if error.code() == Some("WRONGTYPE") => return Ok(Seen::WrongType),
            Err(error) => return Err(error.into()),
        };
        Ok(match Self::decode(key, &bytes) {
            Decoded::Lease => Seen::Lease,
            Decoded::Value(value) => Seen::Value(value, Observed::Bytes(bytes), None),
            Decoded::Corrupt => Seen::Corrupt(Observed::Bytes(bytes)),
        })
    }

    /// The entry's new value in the place of the old one, if that is what lies there.
    fn compare_and_set(
        &self,
        batch: &mut Batch,
        key: &EntryKey,
        old: impl ToRedisArgs,
        new: impl ToRedisArgs,
        ttl: Duration,
    ) {
        let script = batch.cmd("EVAL").arg(COMPARE_AND_SET).arg(1);
        script
            .arg(self.keys.entry(key))
            .arg(old)
            .arg(new)
            .arg(millis(ttl));
    }

    /// The value in the place of our lease, if that is what lies there.
    async fn replace_lease(
        &self,
        key: &EntryKey,
        nonce: Nonce,
        value: &[u8],
        ttl: Duration,
    ) -> Result<Filled, StoreError> {
        let mut batch = Batch::new();
        let lease = codec::lease(nonce);
        self.compare_and_set(&mut batch, key, &lease, value, ttl);
        let set = self.send(&batch).await.and_then(|[set]| read(set));
        // Whatever kept it from being filled, nobody else fills it.
        let set = set.inspect_err(|_| self.take_back(self.keys.entry(key), lease))?;
        Ok(if set {
            Filled::Stored(value.len())
        } else {
            Filled::Refused
        })
    }

    /// Gives a lease back that may be there, by a task: nobody waits for it. The command goes behind the
    /// one that may have taken the lease, on the same connection, and so runs after it, however late that
    /// is. It is tried whatever failed just before, and follows a key to another node.
    pub(super) fn take_back(&self, name: String, value: String) {
        let connection = Arc::clone(&self.connection);
        spawn_stealable(async move {
            let mut batch = Batch::new();
            compare_and_delete(&mut batch, &name, value.as_bytes());
            // A connection that ends under it is followed by another, once. Should this fail too, the
            // lease runs out by itself.
            let sent = connection.send_in_background(&batch).await;
            if sent.is_err_and(|error| error.is_not_connected()) {
                let _ = connection.send_in_background(&batch).await;
            }
        });
    }

    /// An epoch that could not be read beside an acquire is no failure of it: it costs a load.
    fn replied(acquired: Acquired<M>, epoch: RawReply) -> AcquireReply<M> {
        let epoch = Self::generation(epoch).ok().flatten();
        AcquireReply { acquired, epoch }
    }

    /// A name that holds something else than a generation: made free, so that the next look creates
    /// one. It is as good as an invalidation.
    async fn clear(&self, name: &str) {
        let mut batch = Batch::new();
        batch.cmd("DEL").arg(name);
        // Should it fail, the next look tries again.
        let _ = self.connection.send(&batch).await;
    }

    /// Reads the registry from the reply to `SMEMBERS`. A key of another type means that it was lost, which is
    /// an error; the key is deleted, so that bounds can be entered again.
    pub(super) async fn bounds(&self, members: RawReply) -> Result<Bounds, StoreError> {
        if is_wrong_type(&members) {
            let mut batch = Batch::new();
            clear_unless_set(&mut batch, &self.keys.bounds());
            // Should it fail, the next invalidation tries again.
            let _ = self.connection.send_retrying(&batch).await;
        }
        let members: Vec<Vec<u8>> = read(members)?;
        Ok(members
            .iter()
            .filter_map(|member| parse_bound(member))
            .collect())
    }

    /// Sends commands of which the first adds to a set. Something else in the set's place is deleted,
    /// and they are sent again: adding twice is adding once.
    pub(super) async fn add<const N: usize>(
        &self,
        set: &str,
        batch: &Batch,
    ) -> Result<[RawReply; N], StoreError> {
        let replies = self.send(batch).await?;
        if !replies.first().is_some_and(is_wrong_type) {
            return Ok(replies);
        }
        let mut clear = Batch::new();
        clear_unless_set(&mut clear, set);
        let [cleared] = self.send(&clear).await?;
        cleared?;
        self.send(batch).await
    }

    fn generation(reply: RawReply) -> Result<Option<Generation>, StoreError> {
        let bytes: Option<Vec<u8>> = read(reply)?;
        // Something else under the name counts as missing: it costs a load.
        let text = bytes.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| Generation::parse(&text)))
    }

    async fn created(
        &self,
        name: &str,
        reply: RawReply,
        fresh: Generation,
    ) -> Result<Generation, StoreError> {
        if matches!(reply, Ok(Raw::Nil)) {
            return Ok(fresh);
        }
        let wrong_type = is_wrong_type(&reply);
        let present = Self::generation(reply);
        if wrong_type || matches!(present, Ok(None)) {
            self.clear(name).await;
        }
        present?.ok_or_else(unexpected)
    }

    pub(super) async fn send<const N: usize>(
        &self,
        batch: &Batch,
    ) -> Result<[RawReply; N], StoreError> {
        let replies = self.connection.send(batch).await?;
        replies.try_into().map_err(|_| unexpected())
    }

    /// Sends what takes a lease, or a lock, by its first command. Where no reply tells whether that was done,
    /// it is taken back.
    pub(super) async fn take<const N: usize>(
        &self,
        batch: &Batch,
        name: &str,
        value: &str,
    ) -> Result<[RawReply; N], StoreError> {
        let replies = self.send(batch).await;
        let is_told =
            |replies: &[RawReply; N]| !matches!(&replies[0], Err(error) if error.has_no_reply());
        if !replies.as_ref().is_ok_and(is_told) {
            self.take_back(name.to_owned(), value.to_owned());
        }
        replies
    }

    /// Gives a lease or a lock back. If this fails, a task tries again.
    pub(super) async fn give_back(&self, name: String, value: String) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        compare_and_delete(&mut batch, &name, value.as_bytes());
        let deleted = self.send(&batch).await;
        let deleted = deleted.and_then(|[deleted]| read::<bool>(deleted));
        deleted
            .map(drop)
            .inspect_err(|_| self.take_back(name, value))
    }

    /// Deletes one stage after the other, and then reads the registry: on one server in one round trip.
    /// Read before the deletion ran, the registry could lack the bound of an instance that keeps what the
    /// deletion was for.
    pub(super) async fn delete_all<const N: usize>(
        &self,
        stages: [&[String]; N],
        bounds: bool,
    ) -> Result<Option<Bounds>, StoreError> {
        let mut batch = Batch::new();
        for names in stages {
            batch.begin_stage();
            // One command each: names of several slots cannot share one.
            for name in names {
                batch.cmd("DEL").arg(name);
            }
        }
        if bounds {
            // What was registered before the deletion is in it.
            batch.begin_stage();
            batch.cmd("SMEMBERS").arg(self.keys.bounds());
        }
        if batch.is_empty() {
            return Ok(None);
        }
        let mut replies = self.connection.send_retrying(&batch).await?;
        let members = if bounds { replies.pop() } else { None };
        for deleted in replies {
            let _: i64 = read(deleted)?;
        }
        if !bounds {
            return Ok(None);
        }
        let members = members.ok_or_else(unexpected)?;
        self.bounds(members).await.map(Some)
    }
}

/// Reads a bound in milliseconds; what is none is somebody else's, and left alone.
fn parse_bound(member: &[u8]) -> Option<Duration> {
    let millis = std::str::from_utf8(member).ok()?.parse().ok()?;
    Some(Duration::from_millis(millis))
}

impl<M: Serialize + DeserializeOwned + Send + Sync + 'static> Store<M> for RedisLevel<M> {
    fn is_local(&self) -> bool {
        false
    }

    fn deadline(&self) -> Duration {
        self.connection.operation_timeout()
    }

    fn get<'a>(&'a self, key: &'a EntryKey) -> Reply<'a, Seen<M>> {
        Box::pin(async move {
            let name = self.keys.entry(key);
            let (present, left) = if self.stale_if_error {
                let mut batch = Batch::new();
                batch.cmd("GET").arg(&name);
                batch.cmd("PTTL").arg(&name);
                let [present, left] = self.send(&batch).await?;
                (present, Some(left))
            } else {
                (self.connection.get(name).await?, None)
            };
            let mut seen = Self::seen(key, present)?;
            if let Seen::Value(value, _, remaining) = &mut seen
                && (self.stale_if_error || !value.grace().is_zero())
            {
                let left = match left {
                    Some(left) => left,
                    // Another instance's option: without it here the soft end is the end.
                    None => {
                        let mut batch = Batch::new();
                        batch.cmd("PTTL").arg(self.keys.entry(key));
                        let [left] = self.send(&batch).await?;
                        left
                    }
                };
                *remaining = u64::try_from(read::<i64>(left)?)
                    .ok()
                    .map(Duration::from_millis);
            }
            Ok(seen)
        })
    }

    fn acquire<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        lease: Duration,
    ) -> Reply<'a, AcquireReply<M>> {
        Box::pin(async move {
            let mut batch = Batch::new();
            let (name, value) = (self.keys.entry(key), codec::lease(nonce));
            set_if_missing(&mut batch, &name, &value, lease);
            batch.cmd("GET").arg(self.keys.epoch());
            let [present, epoch] = self.take(&batch, &name, &value).await?;
            let acquired = match Self::seen(key, present)? {
                Seen::Vacant => Acquired::Ours,
                seen => Acquired::Taken(seen),
            };
            Ok(Self::replied(acquired, epoch))
        })
    }

    fn acquire_over<'a>(
        &'a self,
        key: &'a EntryKey,
        old: &'a Observed,
        nonce: Nonce,
        lease: Duration,
    ) -> Reply<'a, AcquireReply<M>> {
        Box::pin(async move {
            let Observed::Bytes(old) = old else {
                return Err(unexpected());
            };
            let mut batch = Batch::new();
            let (name, value) = (self.keys.entry(key), codec::lease(nonce));
            self.compare_and_set(&mut batch, key, old, &value, lease);
            batch.cmd("GET").arg(self.keys.epoch());
            let [set, epoch] = self.take(&batch, &name, &value).await?;
            let acquired = if read(set)? {
                Acquired::Ours
            } else {
                Acquired::Gone
            };
            Ok(Self::replied(acquired, epoch))
        })
    }

    fn fill<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        ttl: Duration,
    ) -> Reply<'a, Filled> {
        Box::pin(async move {
            let encoded = match &key.token {
                None => Some(codec::encode(value, &key.digest)),
                Some(token) => seed::encode(value, token, key.token_type.as_deref()),
            };
            // Read back at once: each request would find it corrupt, and replace it by the same.
            let comes_back =
                |bytes: &Vec<u8>| matches!(Self::decode(key, bytes), Decoded::Value(_));
            let bytes = match encoded {
                Some(Ok(bytes)) if comes_back(&bytes) => bytes,
                Some(Ok(_) | Err(EncodeError::TooLarge | EncodeError::Unwritable)) => {
                    return Ok(Filled::Unwritable);
                }
                None => return Ok(Filled::NoForm),
            };
            self.replace_lease(key, nonce, &bytes, ttl).await
        })
    }

    fn restore<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        _value: &'a Value<M>,
        observed: &'a Observed,
        left: Duration,
    ) -> Reply<'a, Filled> {
        Box::pin(async move {
            let Observed::Bytes(bytes) = observed else {
                return Err(unexpected());
            };
            self.replace_lease(key, nonce, bytes, left).await
        })
    }

    fn release<'a>(&'a self, key: &'a EntryKey, nonce: Nonce) -> Reply<'a, ()> {
        Box::pin(async move {
            self.give_back(self.keys.entry(key), codec::lease(nonce))
                .await
        })
    }

    fn delete<'a>(&'a self, key: &'a EntryKey) -> Reply<'a, ()> {
        Box::pin(async move {
            let name = [self.keys.entry(key)];
            self.delete_all([&name[..]], false).await.map(drop)
        })
    }

    fn tenant<'a>(&'a self, tenant: &'a str, fresh: Generation) -> Reply<'a, Generation> {
        Box::pin(async move {
            let name = self.keys.tenant(tenant);
            let mut batch = Batch::new();
            batch.cmd("GET").arg(&name);
            batch.cmd("PTTL").arg(&name);
            let [present, left] = self.send(&batch).await?;
            // Whatever else is there, the creation below says so.
            if let Ok(Some(generation)) = Self::generation(present) {
                let left: i64 = read(left)?;
                if left < i64::try_from(millis(DAY) / 2).unwrap_or(i64::MAX) {
                    let mut batch = Batch::new();
                    batch.cmd("PEXPIRE").arg(&name).arg(millis(DAY));
                    // Should it fail, the generation is lost in half a day, which costs loads.
                    let _ = self.connection.send(&batch).await;
                }
                return Ok(generation);
            }
            let mut batch = Batch::new();
            set_if_missing(&mut batch, &name, &fresh.to_string(), DAY);
            let [created] = self.send(&batch).await?;
            self.created(&name, created, fresh).await
        })
    }

    fn tenant_then_epoch<'a>(
        &'a self,
        _key: &'a EntryKey,
        tenant: &'a str,
        fresh: Generation,
    ) -> Reply<'a, (Generation, Option<Generation>)> {
        Box::pin(async move {
            let mut batch = Batch::new();
            // In this order: with E read first, an invalidation between the two would give its new T
            // and the old E (G3).
            let name = self.keys.tenant(tenant);
            set_if_missing(&mut batch, &name, &fresh.to_string(), DAY);
            batch.begin_stage();
            batch.cmd("GET").arg(self.keys.epoch());
            let [created, epoch] = self.send(&batch).await?;
            let generation = self.created(&name, created, fresh).await?;
            Ok((generation, Self::generation(epoch)?))
        })
    }

    fn epoch(&self, fresh: Generation) -> Reply<'_, Generation> {
        Box::pin(async move {
            let mut batch = Batch::new();
            let name = self.keys.epoch();
            set_if_missing(&mut batch, &name, &fresh.to_string(), DAY);
            let [created] = self.send(&batch).await?;
            self.created(&name, created, fresh).await
        })
    }

    fn delete_token<'a>(
        &'a self,
        keys: &'a [EntryKey],
        // In this layout the keys are all that there is.
        _sweep: Option<&'a BearerToken>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Reply<'a, Option<Bounds>> {
        Box::pin(async move {
            let names: Vec<String> = keys.iter().map(|key| self.keys.entry(key)).collect();
            if let (Some(durable), Some(key)) = (durable, keys.last()) {
                let fence = self.keys.token_fence(&key.digest);
                self.delete_durably(&names, &fence, durable).await?;
                return self.delete_all([], bounds).await;
            }
            self.delete_all([&names[..]], bounds).await
        })
    }

    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a str,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Reply<'a, Option<Bounds>> {
        Box::pin(async move {
            // E before T: protocol.md G3. One write on one server; where keys may be apart, T's deletion
            // is sent after the reply to E's, and durably on a cluster after the replicas' too.
            let names = [self.keys.epoch(), self.keys.tenant(tenant)];
            if let Some(durable) = durable {
                self.delete_durably(&names, &self.keys.tenant_fence(tenant), durable)
                    .await?;
                return self.delete_all([], bounds).await;
            }
            self.delete_all([&names[..1], &names[1..]], bounds).await
        })
    }

    fn register(&self, bound: Duration) -> Reply<'_, Bounds> {
        Box::pin(async move {
            let (name, member) = (self.keys.bounds(), bound_millis(bound));
            let mut batch = Batch::new();
            batch.cmd("SADD").arg(&name).arg(member);
            batch.begin_stage();
            batch.cmd("SMEMBERS").arg(&name);
            let [added, all] = self.add(&name, &batch).await?;
            let Err(error) = added else {
                return self.bounds(all).await;
            };
            if error.code() != Some("OOM") {
                return Err(error.into());
            }
            // What takes nothing more for lack of memory may have it already.
            let mut batch = Batch::new();
            batch.cmd("SMEMBERS").arg(&name);
            let [all] = self.send(&batch).await?;
            let bounds = self.bounds(all).await?;
            if bounds.iter().any(|bound| bound_millis(*bound) == member) {
                Ok(bounds)
            } else {
                Err(error.into())
            }
        })
    }

    fn session(&self) -> u64 {
        self.connection.connections()
    }

    fn is_divided(&self) -> bool {
        self.connection.is_cluster()
    }

    #[cfg(feature = "metrics")]
    fn breakers(&self) -> Breakers {
        self.connection.breakers()
    }

    fn put_last_uses<'a>(&'a self, uses: &'a [(EntryKey, DateTime<Utc>)]) -> Reply<'a, Vec<Put>> {
        Box::pin(self.write_last_uses(uses))
    }

    fn last_uses<'a>(&'a self, keys: &'a [EntryKey]) -> Reply<'a, Vec<Option<DateTime<Utc>>>> {
        Box::pin(self.read_last_uses(keys))
    }

    fn check(&self) -> Reply<'_, ()> {
        Box::pin(self.connection.check())
    }
}
