//! Invalidations in the Dify layout: entries are deleted by name, by their tenant's index, and by a scan.

use redis::Value as Raw;

use super::codec;
use super::hooks::Dify;
use super::names::DifyNames;
use crate::store::backend::{Deletion, Durability};
use crate::store::entry::Bounds;
use crate::store::error::StoreError;
use crate::store::redis::commands::delete_each;
use crate::store::redis::durable::{DURABLE_ATTEMPTS, wait_for_replicas};
use crate::store::redis::scripts::{clear_unless_set, compare_and_delete};
use crate::store::redis::transport::batch::Batch;
use crate::store::redis::transport::node::Session;
use crate::store::redis::transport::reply::{Reply, confirmed, is_wrong_type, read, unexpected};
use crate::token::BearerToken;

/// The number of keys in a step of a scan, so that the server is not blocked for long.
const STEP: usize = 500;

impl Dify<'_> {
    /// Returns whether this layout deletes `what` in its own way. On a cluster, which cannot be scanned over
    /// one connection, a token's keys are deleted as in the other layout, and a tenant's or all cannot be deleted.
    pub(crate) fn deletes(self, what: Deletion<'_>) -> bool {
        !matches!(what, Deletion::Token { .. }) || !self.commands.connection.is_cluster()
    }

    /// Deletes over one connection, and reads the registry over it.
    ///
    /// The steps rely on the state of one server. If the connection ends meanwhile, that is an error, because
    /// another connection may lead to a server that has not executed the earlier steps. A durable deletion
    /// begins again then.
    pub(crate) async fn delete(
        self,
        what: Deletion<'_>,
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
        batch.cmd("SMEMBERS").arg(self.commands.keys.bounds());
        let [members] = replies(&mut session, &batch).await?;
        self.commands.bounds(members).await.map(Some)
    }

    async fn delete_over_one(
        self,
        what: Deletion<'_>,
        durable: Option<Durability>,
    ) -> Result<Session, StoreError> {
        // `WAIT` counts what was written on its own connection, and blocks it.
        let dedicated = durable.is_some();
        let mut session = self.commands.connection.session(dedicated).await?;
        // guard: W4 W7
        self.delete_by(&mut session, what).await?;
        if let Some(durable) = durable {
            let fence = self.commands.keys.node_fence(None);
            wait_for_replicas(&mut session, Batch::new(), &fence, durable).await?;
        }
        Ok(session)
    }

    async fn delete_by(self, session: &mut Session, what: Deletion<'_>) -> Result<(), StoreError> {
        match what {
            Deletion::Token { keys, all_types } => {
                // By name first: a caller that is cut off during the scan, which may take long, has deleted
                // the entries of the declared types. guard: W14
                let entry = |key| self.commands.keys.entry(key);
                let names: Vec<String> = keys.iter().map(entry).collect();
                self.delete_entries(session, &names).await?;
                let token = keys.iter().find_map(|key| key.token.as_ref());
                match token.filter(|_| all_types) {
                    Some(token) => self.sweep_token(session, token).await,
                    None => Ok(()),
                }
            }
            Deletion::Tenant(tenant) => {
                // In this order: protocol.md G3.
                let mut batch = Batch::new();
                batch.cmd("DEL").arg(self.commands.keys.epoch());
                batch.begin_stage();
                batch.cmd("DEL").arg(self.commands.keys.tenant(tenant));
                confirmed(&session.send(&batch).await?)?;
                self.delete_indexed(session, tenant).await?;
                self.sweep_tenant(session, tenant).await
            }
            Deletion::All => self.sweep(session).await,
        }
    }

    /// Deletes all entries and leases. A load whose lease is deleted is not cached.
    async fn sweep(self, session: &mut Session) -> Result<(), StoreError> {
        let pattern = self.names.scan_pattern(None);
        let mut cursor = 0;
        loop {
            let (next, names) = self.scan(session, &pattern, cursor).await?;
            // guard: W15
            delete_all(session, &names).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Executes a step of a scan. Returns the next cursor, which is zero at the end, and the keys that match.
    ///
    /// A scan finds the keys that exist from its beginning to its end. A key that is written later was loaded
    /// after the commit. A server that refuses writes is no longer a master, and its keys may be another's.
    async fn scan(
        self,
        session: &mut Session,
        pattern: &str,
        cursor: u64,
    ) -> Result<(u64, Vec<String>), StoreError> {
        let mut batch = Batch::new();
        let scan = batch.cmd("SCAN").arg(cursor);
        scan.arg("MATCH").arg(pattern).arg("COUNT").arg(STEP);
        batch.cmd("DEL").arg(self.commands.keys.heartbeat(None));
        let [page, written] = replies(session, &batch).await?;
        // guard: W6
        written?;
        let (next, names): (u64, Vec<Vec<u8>>) = read(page)?;
        // The key of an entry is text.
        let names = names
            .into_iter()
            .filter_map(|name| String::from_utf8(name).ok());
        Ok((next, names.collect()))
    }

    async fn sweep_token(
        self,
        session: &mut Session,
        token: &BearerToken,
    ) -> Result<(), StoreError> {
        let pattern = self.names.scan_pattern(Some(token));
        let mut cursor = 0;
        loop {
            let (next, mut names) = self.scan(session, &pattern, cursor).await?;
            names.retain(|name| self.names.is_entry_of(name, token));
            self.delete_entries(session, &names).await?;
            cursor = next;
            if cursor == 0 {
                return Ok(());
            }
        }
    }

    /// Deletes entries, and removes them from their tenants' indexes, as Python does.
    async fn delete_entries(
        self,
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
                    && let Some(tenant) = codec::tenant_of(&bytes)
                {
                    // guard: W8
                    self.remove_from_index(&mut indexed, name, &tenant);
                }
            }
            if !indexed.is_empty() {
                // The entries are deleted. Members that are left expire with their index.
                let _ = session.send(&indexed).await;
            }
        }
        Ok(())
    }

    /// Deletes the entries that the index names.
    ///
    /// Members are removed first, and the index is not deleted, so that an entry that is entered meanwhile
    /// stays in it. A member that does not name an entry is only removed.
    async fn delete_indexed(self, session: &mut Session, tenant: &str) -> Result<(), StoreError> {
        let index = DifyNames::tenant_index(tenant);
        let mut batch = Batch::new();
        batch.cmd("SMEMBERS").arg(&index);
        let [members] = replies(session, &batch).await?;
        if is_wrong_type(&members) {
            // Nothing can be added to such a key. The sweep finds the entries.
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
            let name = |member: &Vec<u8>| self.names.indexed(std::str::from_utf8(member).ok()?);
            let names: Vec<String> = members.iter().filter_map(name).collect();
            delete_all(session, &names).await?;
        }
        Ok(())
    }

    /// Deletes the tenant's entries that are in no index.
    ///
    /// All leases are deleted too: what is being loaded may belong to the tenant, and Python, which does not
    /// compare generations, must not find it. The loads under these leases are then not cached.
    async fn sweep_tenant(self, session: &mut Session, tenant: &str) -> Result<(), StoreError> {
        let pattern = self.names.scan_pattern(None);
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

async fn replies<const N: usize>(
    session: &mut Session,
    batch: &Batch,
) -> Result<[Reply; N], StoreError> {
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

/// Deletes the tenant's entries and all leases, each only if it has not changed since it was read.
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
            // A key of another type is not an entry.
            value if is_wrong_type(&value) => continue,
            // A key that could not be read may be the tenant's.
            // guard: W3
            Err(error) => return Err(error.into()),
        };
        // guard: W2
        if codec::is_lease(&bytes) || codec::tenant_of(&bytes).as_deref() == Some(tenant) {
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
