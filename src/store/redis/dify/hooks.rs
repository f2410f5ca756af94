//! What the Dify layout does in addition when an entry is loaded and stored.

use std::time::Duration;

use super::names::DifyNames;
use crate::store::entry::{AcquireReply, Acquired, Filled, Nonce, Seen};
use crate::store::error::StoreError;
use crate::store::keys::EntryKey;
use crate::store::redis::codec::shared::lease;
use crate::store::redis::commands::Commands;
use crate::store::redis::scripts::{compare_and_delete, millis, set_if_missing};
use crate::store::redis::transport::batch::Batch;
use crate::store::redis::transport::reply::{confirmed, read, unexpected};

/// The TTL of Python's lock, whoever holds it.
const LOCK_TTL: Duration = Duration::from_secs(10);

/// The TTL of a tenant's index after its last entry was added, as in Python.
const INDEX_TTL: Duration = Duration::from_secs(660);

/// Removes a member from an index, if the key that it names is missing. An entry or a lease must stay in the
/// index, which is all that Python invalidates a tenant by.
// guard: W9
const REMOVE_FROM_INDEX: &str = "\
if redis.pcall('GET', KEYS[1]) == false then
  return redis.call('SREM', KEYS[2], ARGV[1])
end
return 0";

#[derive(Clone, Copy)]
pub(crate) struct Dify<'a> {
    pub(super) commands: &'a Commands,
    pub(super) names: &'a DifyNames,
}

impl<'a> Dify<'a> {
    pub(crate) fn of(commands: &'a Commands) -> Option<Self> {
        let names = commands.keys.dify()?;
        Some(Self { commands, names })
    }

    fn lock_name(self, key: &EntryKey) -> Result<String, StoreError> {
        let token = key.token.as_ref().ok_or_else(unexpected)?;
        Ok(self.names.load_lock(key.token_type.as_deref(), token))
    }

    /// Takes a lease by `acquire` under Python's lock, which is kept if the lease is ours. While Python holds
    /// the lock, Python loads: callers wait for that as for a lease.
    pub(crate) async fn acquire<M>(
        self,
        key: &EntryKey,
        nonce: Nonce,
        acquire: impl Future<Output = Result<AcquireReply<M>, StoreError>>,
    ) -> Result<AcquireReply<M>, StoreError> {
        if !self.lock(key, nonce).await? {
            return Ok(AcquireReply {
                acquired: Acquired::Taken(Seen::Lease),
                epoch: None,
                all: None,
            });
        }
        let reply = acquire.await;
        let ours = |reply: &AcquireReply<M>| matches!(reply.acquired, Acquired::Ours);
        if !reply.as_ref().is_ok_and(ours) {
            self.unlock(key, nonce).await;
        }
        reply
    }

    /// Takes Python's lock. Its value is what redis-py's `Lock` would write, 32 hexadecimal digits: the nonce
    /// of the lease, which is new and unique.
    async fn lock(self, key: &EntryKey, nonce: Nonce) -> Result<bool, StoreError> {
        let name = self.lock_name(key)?;
        let mut batch = Batch::new();
        let value = nonce.to_string();
        set_if_missing(&mut batch, &name, &value, LOCK_TTL);
        batch.cmd("PTTL").arg(&name);
        let [present, left] = self.commands.take(&batch, &name, &value).await?;
        let locked = read::<Option<Vec<u8>>>(present)?.is_none();
        if !locked && read::<i64>(left)? == -1 {
            // Every lock has a TTL. A key without one is not a lock, and each load would wait for it.
            let mut batch = Batch::new();
            batch.cmd("PEXPIRE").arg(&name).arg(millis(LOCK_TTL));
            let _ = self.commands.send::<1>(&batch).await;
        }
        Ok(locked)
    }

    async fn unlock(self, key: &EntryKey, nonce: Nonce) {
        let Ok(name) = self.lock_name(key) else {
            return;
        };
        // If this fails, the lock expires.
        let _ = self.commands.give_back(name, nonce.to_string()).await;
    }

    /// Ends what a lease needed, after a value was or was not stored in its place.
    pub(crate) async fn filled(
        self,
        key: &EntryKey,
        nonce: Nonce,
        tenant: Option<&str>,
        filled: Result<Filled, &StoreError>,
    ) {
        match filled {
            Ok(Filled::Stored(_)) | Err(_) => self.unlock(key, nonce).await,
            // There is no entry for the tenant's index to name. If this fails, the lease and the lock expire.
            Ok(Filled::Refused | Filled::Unwritable | Filled::NoForm) => {
                // guard: W10
                let _ = self.give_back(key, nonce, tenant).await;
            }
        }
    }

    /// Gives back the lease, the lock, and with `tenant` the member of its index.
    pub(crate) async fn give_back(
        self,
        key: &EntryKey,
        nonce: Nonce,
        tenant: Option<&str>,
    ) -> Result<(), StoreError> {
        let (name, lease) = (self.commands.keys.entry(key), lease(nonce));
        let (lock, holder) = (self.lock_name(key)?, nonce.to_string());
        let mut batch = Batch::new();
        compare_and_delete(&mut batch, &name, lease.as_bytes());
        compare_and_delete(&mut batch, &lock, holder.as_bytes());
        if let Some(tenant) = tenant {
            self.remove_from_index(&mut batch, &name, tenant);
        }
        let replies = self.commands.connection.send(&batch).await;
        let deleted = replies.and_then(|replies| confirmed(&replies[..2]));
        deleted.inspect_err(|_| {
            self.commands.take_back(name, lease);
            self.commands.take_back(lock, holder);
        })
    }

    /// Enters a key into its tenant's index, before the tenant's generation is read: an operator reads the
    /// index after deleting the generation, so that either the operator finds this key, or we find another
    /// generation.
    pub(crate) async fn enter_index(self, key: &EntryKey, tenant: &str) -> Result<(), StoreError> {
        let index = DifyNames::tenant_index(tenant);
        let name = self.commands.keys.entry(key);
        let mut batch = Batch::new();
        let add = batch.cmd("SADD").arg(&index);
        add.arg(self.names.index_member(&name));
        batch.begin_stage();
        batch.cmd("EXPIRE").arg(&index).arg(INDEX_TTL.as_secs());
        let replies: [_; 2] = self.commands.add(&index, &batch).await?;
        confirmed(&replies)
    }

    /// A cluster refuses it, because the two keys are in two slots: the index expires.
    pub(super) fn remove_from_index(self, batch: &mut Batch, name: &str, tenant: &str) {
        let script = batch.cmd("EVAL").arg(REMOVE_FROM_INDEX).arg(2).arg(name);
        script
            .arg(DifyNames::tenant_index(tenant))
            .arg(self.names.index_member(name));
    }
}
