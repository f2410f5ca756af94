//! The layout that is shared with the Python service (wire.md): the same protocol, on the entry keys
//! themselves, beside Python's load lock and tenants' index.
//!
//! Our lease lies where the entry will lie. Python reads it as an entry that cannot be decoded, which
//! is a miss, and its `DEL` or `SETEX` removes it: so Python's invalidations fence our loads with
//! nothing added. Python's lock could not, because its invalidations leave it alone; it is taken in
//! addition, so that both sides share one load.

use std::time::Duration;

use chrono::{DateTime, Utc};
use redis::Value as Raw;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::commands::RedisLevel;
use super::durable::{DURABLE_ATTEMPTS, wait_for_replicas};
use super::scripts::{clear_unless_set, compare_and_delete, millis, set_if_missing};
use super::transport::batch::Batch;
use super::transport::node::Session;
use super::transport::reply::{Reply as RawReply, confirmed, is_wrong_type, read, unexpected};
#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::keys::{EntryKey, Keys};
use crate::store::{
    AcquireReply, Acquired, Bounds, Durability, Filled, Generation, Nonce, Observed, Put, Reply,
    Seen, Store, StoreError, Value,
};
use crate::token::{BearerToken, codec, seed};

/// How long Python's lock lasts, whoever holds it.
const LOCK: Duration = Duration::from_secs(10);

/// How long an index of a tenant lasts after its last entry was added, as in Python.
const INDEX: Duration = Duration::from_secs(660);

/// Takes a member out of an index, if the key that it names is missing: what is there, an entry or a
/// lease in its place, must stay in the index, by which alone Python invalidates a tenant.
const TAKE_OUT: &str = "\
if redis.pcall('GET', KEYS[1]) == false then
  return redis.call('SREM', KEYS[2], ARGV[1])
end
return 0";

/// How many keys a step of a sweep looks at: the server is never held up for long.
const STEP: usize = 500;

pub(super) struct SeedLevel<M> {
    level: RedisLevel<M>,
}

impl<M: Serialize + DeserializeOwned + Send + Sync + 'static> SeedLevel<M> {
    pub(super) fn new(level: RedisLevel<M>) -> Self {
        Self { level }
    }

    fn keys(&self) -> &Keys {
        &self.level.keys
    }

    fn lock_name(&self, key: &EntryKey) -> Result<String, StoreError> {
        self.keys().load_lock(key).ok_or_else(unexpected)
    }

    /// Acquires under Python's lock, which is kept if the lease is ours. While Python holds it, Python
    /// loads: that is waited for as for a lease. `acquire` sends nothing before it is polled.
    async fn acquire_locked(
        &self,
        key: &EntryKey,
        nonce: Nonce,
        acquire: Reply<'_, AcquireReply<M>>,
    ) -> Result<AcquireReply<M>, StoreError> {
        if !self.lock(key, nonce).await? {
            return Ok(AcquireReply {
                acquired: Acquired::Taken(Seen::Lease),
                epoch: None,
            });
        }
        let reply = acquire.await;
        let ours = |reply: &AcquireReply<M>| matches!(reply.acquired, Acquired::Ours);
        if !reply.as_ref().is_ok_and(ours) {
            self.unlock(key, nonce).await;
        }
        reply
    }

    /// Takes Python's lock. The value is what redis-py's `Lock` would write, 32 hexadecimal digits;
    /// the nonce of the lease that it is taken for serves, since it is new and nobody else's.
    async fn lock(&self, key: &EntryKey, nonce: Nonce) -> Result<bool, StoreError> {
        let name = self.lock_name(key)?;
        let mut batch = Batch::new();
        let value = nonce.to_string();
        set_if_missing(&mut batch, &name, &value, LOCK);
        batch.cmd("PTTL").arg(&name);
        let [present, left] = self.level.take(&batch, &name, &value).await?;
        let locked = read::<Option<Vec<u8>>>(present)?.is_none();
        if !locked && read::<i64>(left)? == -1 {
            // Every lock has an end: this is none, and would be waited for at each load.
            let mut batch = Batch::new();
            batch.cmd("PEXPIRE").arg(&name).arg(millis(LOCK));
            let _ = self.level.send::<1>(&batch).await;
        }
        Ok(locked)
    }

    async fn unlock(&self, key: &EntryKey, nonce: Nonce) {
        let Ok(name) = self.lock_name(key) else {
            return;
        };
        // Should it fail, the lock ends by itself.
        let _ = self.level.give_back(name, nonce.to_string()).await;
    }

    /// Gives back what a fill that stored nothing still has: the lease, the lock, and with the tenant
    /// the member of its index.
    async fn give_back(
        &self,
        key: &EntryKey,
        nonce: Nonce,
        tenant: Option<&str>,
    ) -> Result<(), StoreError> {
        let (name, lease) = (self.keys().entry(key), codec::lease(nonce));
        let (lock, holder) = (self.lock_name(key)?, nonce.to_string());
        let mut batch = Batch::new();
        compare_and_delete(&mut batch, &name, lease.as_bytes());
        compare_and_delete(&mut batch, &lock, holder.as_bytes());
        if let Some(tenant) = tenant {
            self.take_out(&mut batch, &name, tenant);
        }
        let replies = self.level.connection.send(&batch).await;
        let taken = replies.and_then(|replies| confirmed(&replies[..2]));
        taken.inspect_err(|_| {
            self.level.take_back(name, lease);
            self.level.take_back(lock, holder);
        })
    }

    /// On a cluster it is refused, because the two keys are in two slots: the index ends by itself.
    fn take_out(&self, batch: &mut Batch, name: &str, tenant: &str) {
        let script = batch.cmd("EVAL").arg(TAKE_OUT).arg(2).arg(name);
        script
            .arg(Keys::tenant_index(tenant))
            .arg(self.keys().index_member(name));
    }

    /// Deletes over one connection, and reads the registry of bounds from it. The steps rely on one server's
    /// state, so that a connection that ends in the middle is an error: another one may lead to a server
    /// that has not seen the steps before. A durable deletion begins again then.
    async fn invalidate(
        &self,
        what: What<'_>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Result<Option<Bounds>, StoreError> {
        let attempts = if durable.is_some() {
            DURABLE_ATTEMPTS
        } else {
            1
        };
        let mut deleted = Err(StoreError::too_few_replicas());
        for _ in 0..attempts {
            deleted = self.delete_over_one(what, durable).await;
            if deleted.is_ok() {
                break;
            }
        }
        let mut session = deleted?;
        if !bounds {
            return Ok(None);
        }
        let mut batch = Batch::new();
        batch.cmd("SMEMBERS").arg(self.keys().bounds());
        let [members] = replies(&mut session, &batch).await?;
        self.level.bounds(members).await.map(Some)
    }

    async fn delete_over_one(
        &self,
        what: What<'_>,
        durable: Option<Durability>,
    ) -> Result<Session, StoreError> {
        // `WAIT` counts what was written on its own connection, and blocks it.
        let mut session = self.level.connection.session(durable.is_some()).await?;
        self.delete_by(&mut session, what).await?;
        if let Some(durable) = durable {
            let fence = self.keys().node_fence(None);
            wait_for_replicas(&mut session, Batch::new(), &fence, durable).await?;
        }
        Ok(session)
    }

    async fn delete_by(&self, session: &mut Session, what: What<'_>) -> Result<(), StoreError> {
        match what {
            What::Token(names, sweep) => {
                if let Some(token) = sweep {
                    self.sweep_token(session, token).await?;
                }
                self.delete_entries(session, names).await
            }
            What::Tenant(tenant) => {
                // In this order: see `tenant_then_epoch`.
                let mut batch = Batch::new();
                batch.cmd("DEL").arg(self.keys().epoch());
                batch.begin_stage();
                batch.cmd("DEL").arg(self.keys().tenant(tenant));
                confirmed(&session.send(&batch).await?)?;
                self.delete_indexed(session, tenant).await?;
                self.sweep_tenant(session, tenant).await
            }
        }
    }

    /// A step of a scan: the next cursor, zero at the end, and names that the pattern finds. What is
    /// there from the beginning of a scan to its end is found; what is written after the beginning
    /// was loaded after the commit. A server that refuses writes by now is no master any more, and its
    /// contents may be another's.
    async fn scan(
        &self,
        session: &mut Session,
        pattern: &str,
        cursor: u64,
    ) -> Result<(u64, Vec<String>), StoreError> {
        let mut batch = Batch::new();
        let scan = batch.cmd("SCAN").arg(cursor);
        scan.arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
        batch.cmd("DEL").arg(self.keys().heartbeat(None));
        let [page, written] = replies(session, &batch).await?;
        written?;
        let (next, names): (u64, Vec<Vec<u8>>) = read(page)?;
        // A name that is no text is nobody's entry.
        let names = names
            .into_iter()
            .filter_map(|name| String::from_utf8(name).ok());
        Ok((next, names.collect()))
    }

    async fn sweep_token(
        &self,
        session: &mut Session,
        token: &BearerToken,
    ) -> Result<(), StoreError> {
        let pattern = self.keys().scan_pattern(Some(token));
        let mut cursor = 0;
        loop {
            let (next, mut names) = self.scan(session, &pattern, cursor).await?;
            names.retain(|name| self.keys().is_entry_of(name, token));
            self.delete_entries(session, &names).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes entries, and takes them out of their tenants' indexes, as Python's own deletion does.
    async fn delete_entries(
        &self,
        session: &mut Session,
        names: &[String],
    ) -> Result<(), StoreError> {
        for names in names.chunks(STEP) {
            let mut batch = Batch::new();
            for name in names {
                batch.cmd("GET").arg(name);
            }
            delete_each(&mut batch, names);
            let mut values = session.send(&batch).await?;
            confirmed(&values.split_off(names.len()))?;
            let mut indexed = Batch::new();
            for (name, value) in names.iter().zip(values) {
                if let Ok(Raw::BulkString(bytes)) = value
                    && let Some(tenant) = seed::tenant_of(&bytes)
                {
                    self.take_out(&mut indexed, name, &tenant);
                }
            }
            if !indexed.is_empty() {
                // The entries are deleted; what this leaves in an index ends with it.
                let _ = session.send(&indexed).await;
            }
        }
        Ok(())
    }

    /// Deletes what the index names. A member is taken out first, and not the index with it: an entry
    /// that is entered again from then on stays for the next time. What is no entry's name is taken out
    /// alone: it is another's, if it is anything.
    async fn delete_indexed(&self, session: &mut Session, tenant: &str) -> Result<(), StoreError> {
        let index = Keys::tenant_index(tenant);
        let mut batch = Batch::new();
        batch.cmd("SMEMBERS").arg(&index);
        let [members] = replies(session, &batch).await?;
        if is_wrong_type(&members) {
            // Nobody can enter anything there until it is gone. The sweep finds what there is.
            let mut batch = Batch::new();
            clear_unless_set(&mut batch, &index);
            let [cleared] = replies(session, &batch).await?;
            return read::<i64>(cleared).map(drop);
        }
        let members: Vec<Vec<u8>> = read(members)?;
        for members in members.chunks(STEP) {
            let mut batch = Batch::new();
            batch.cmd("SREM").arg(&index).arg(members);
            let [removed] = replies(session, &batch).await?;
            removed?;
            let name = |member: &Vec<u8>| self.keys().indexed(std::str::from_utf8(member).ok()?);
            let names: Vec<String> = members.iter().filter_map(name).collect();
            delete_all(session, &names).await?;
        }
        Ok(())
    }

    /// Deletes the tenant's entries that are in no index, and no other's. Leases go too, whosever
    /// they are: what is being loaded may be the tenant's, and Python, which does not look at
    /// generations, must not find it. It costs those loads their fill.
    async fn sweep_tenant(&self, session: &mut Session, tenant: &str) -> Result<(), StoreError> {
        let pattern = self.keys().scan_pattern(None);
        let mut cursor = 0;
        loop {
            let (next, names) = self.scan(session, &pattern, cursor).await?;
            delete_of_tenant(session, tenant, &names).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }
}

/// What an invalidation deletes.
#[derive(Clone, Copy)]
enum What<'a> {
    /// Keys of a token by name, and with its text every key of it that a scan finds.
    Token(&'a [String], Option<&'a BearerToken>),
    Tenant(&'a str),
}

async fn replies<const N: usize>(
    session: &mut Session,
    batch: &Batch,
) -> Result<[RawReply; N], StoreError> {
    let replies = session.send(batch).await?;
    replies.try_into().map_err(|_| unexpected())
}

async fn delete_all(session: &mut Session, names: &[String]) -> Result<(), StoreError> {
    for names in names.chunks(STEP) {
        let mut batch = Batch::new();
        delete_each(&mut batch, names);
        confirmed(&session.send(&batch).await?)?;
    }
    Ok(())
}

/// One command each: names of several slots cannot share one.
fn delete_each(batch: &mut Batch, names: &[String]) {
    for name in names {
        batch.cmd("DEL").arg(name);
    }
}

/// Each is compared first, and deleted only if it is still the same.
async fn delete_of_tenant(
    session: &mut Session,
    tenant: &str,
    names: &[String],
) -> Result<(), StoreError> {
    if names.is_empty() {
        return Ok(());
    }
    let mut reads = Batch::new();
    for name in names {
        reads.cmd("GET").arg(name);
    }
    let values = session.send(&reads).await?;
    let mut deletes = Batch::new();
    for (name, value) in names.iter().zip(values) {
        let bytes = match value {
            Ok(Raw::BulkString(bytes)) => bytes,
            Ok(_) => continue,
            // A key of another type is nobody's entry.
            value if is_wrong_type(&value) => continue,
            // What could not be read may be the tenant's.
            Err(error) => return Err(error.into()),
        };
        if seed::is_lease(&bytes) || seed::tenant_of(&bytes).as_deref() == Some(tenant) {
            compare_and_delete(&mut deletes, name, &bytes);
        }
    }
    if deletes.is_empty() {
        return Ok(());
    }
    let deleted = session.send(&deletes).await?;
    deleted
        .into_iter()
        .try_for_each(|deleted| read::<bool>(deleted).map(drop))
}

impl<M: Serialize + DeserializeOwned + Send + Sync + 'static> Store<M> for SeedLevel<M> {
    fn is_local(&self) -> bool {
        false
    }

    fn deadline(&self) -> Duration {
        self.level.deadline()
    }

    fn get<'a>(&'a self, key: &'a EntryKey) -> Reply<'a, Seen<M>> {
        self.level.get(key)
    }

    fn acquire<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        lease: Duration,
    ) -> Reply<'a, AcquireReply<M>> {
        let acquire = self.level.acquire(key, nonce, lease);
        Box::pin(self.acquire_locked(key, nonce, acquire))
    }

    fn acquire_over<'a>(
        &'a self,
        key: &'a EntryKey,
        old: &'a Observed,
        nonce: Nonce,
        lease: Duration,
    ) -> Reply<'a, AcquireReply<M>> {
        let acquire = self.level.acquire_over(key, old, nonce, lease);
        Box::pin(self.acquire_locked(key, nonce, acquire))
    }

    fn fill<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        ttl: Duration,
    ) -> Reply<'a, Filled> {
        Box::pin(async move {
            let filled = self.level.fill(key, nonce, value, ttl).await;
            match filled {
                Ok(Filled::Stored(_)) | Err(_) => self.unlock(key, nonce).await,
                // Nothing is there that the tenant's index should name. Should it fail, the lease and the
                // lock end by themselves.
                Ok(Filled::Refused | Filled::Unwritable | Filled::NoForm) => {
                    let _ = self.give_back(key, nonce, value.tenant_id()).await;
                }
            }
            filled
        })
    }

    fn restore<'a>(
        &'a self,
        key: &'a EntryKey,
        nonce: Nonce,
        value: &'a Value<M>,
        observed: &'a Observed,
        left: Duration,
    ) -> Reply<'a, Filled> {
        Box::pin(async move {
            let restored = self.level.restore(key, nonce, value, observed, left).await;
            self.unlock(key, nonce).await;
            restored
        })
    }

    fn release<'a>(&'a self, key: &'a EntryKey, nonce: Nonce) -> Reply<'a, ()> {
        Box::pin(self.give_back(key, nonce, None))
    }

    fn delete<'a>(&'a self, key: &'a EntryKey) -> Reply<'a, ()> {
        Store::<M>::delete(&self.level, key)
    }

    fn tenant<'a>(&'a self, tenant: &'a str, fresh: Generation) -> Reply<'a, Generation> {
        self.level.tenant(tenant, fresh)
    }

    fn tenant_then_epoch<'a>(
        &'a self,
        key: &'a EntryKey,
        tenant: &'a str,
        fresh: Generation,
    ) -> Reply<'a, (Generation, Option<Generation>)> {
        Box::pin(async move {
            // Into the index first: an operator reads the index after deleting T, so that either the
            // operator finds this key there, or we find T changed.
            let index = Keys::tenant_index(tenant);
            let name = self.keys().entry(key);
            let mut batch = Batch::new();
            batch
                .cmd("SADD")
                .arg(&index)
                .arg(self.keys().index_member(&name));
            batch.begin_stage();
            batch.cmd("EXPIRE").arg(&index).arg(INDEX.as_secs());
            let replies: [_; 2] = self.level.add(&index, &batch).await?;
            confirmed(&replies)?;
            self.level.tenant_then_epoch(key, tenant, fresh).await
        })
    }

    fn epoch(&self, fresh: Generation) -> Reply<'_, Generation> {
        self.level.epoch(fresh)
    }

    fn delete_token<'a>(
        &'a self,
        keys: &'a [EntryKey],
        sweep: Option<&'a BearerToken>,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Reply<'a, Option<Bounds>> {
        Box::pin(async move {
            // A cluster cannot be scanned over one connection.
            if self.level.connection.is_cluster() {
                return self.level.delete_token(keys, None, bounds, durable).await;
            }
            let names: Vec<String> = keys.iter().map(|key| self.keys().entry(key)).collect();
            let what = What::Token(&names, sweep);
            self.invalidate(what, bounds, durable).await
        })
    }

    fn delete_tenant<'a>(
        &'a self,
        tenant: &'a str,
        bounds: bool,
        durable: Option<Durability>,
    ) -> Reply<'a, Option<Bounds>> {
        Box::pin(self.invalidate(What::Tenant(tenant), bounds, durable))
    }

    fn register(&self, bound: Duration) -> Reply<'_, Bounds> {
        self.level.register(bound)
    }

    fn session(&self) -> u64 {
        self.level.session()
    }

    fn is_divided(&self) -> bool {
        self.level.is_divided()
    }

    #[cfg(feature = "metrics")]
    fn breakers(&self) -> Breakers {
        self.level.breakers()
    }

    fn put_last_uses<'a>(&'a self, uses: &'a [(EntryKey, DateTime<Utc>)]) -> Reply<'a, Vec<Put>> {
        self.level.put_last_uses(uses)
    }

    fn last_uses<'a>(&'a self, keys: &'a [EntryKey]) -> Reply<'a, Vec<Option<DateTime<Utc>>>> {
        self.level.last_uses(keys)
    }

    fn check(&self) -> Reply<'_, ()> {
        self.level.check()
    }
}
