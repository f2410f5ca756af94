//! The loader: the query that a cache runs on a miss.

use std::any::TypeId;
use std::marker::PhantomData;
use std::sync::Arc;

use serde::de::DeserializeOwned;
use tower_api_token::{BoxError, Lookup, TokenLoader, TokenRecord};

use crate::core::Core;
use crate::database::pool::on_connection;
use crate::key::{COLUMNS, Key, Row};

/// Loads keys by their digest, with their metadata as `M`; see [`ApiKeys::loader`](crate::ApiKeys::loader).
///
/// One statement reads the key and its tenant's status by one index, on the primary and outside of any transaction of
/// the caller. The cache depends on that: it takes a lease before it calls the loader, and an invalidation in between
/// takes the lease away.
#[derive(Debug)]
pub struct KeyLoader<M = ()> {
    core: Arc<Core>,
    metadata: PhantomData<fn() -> M>,
}

impl<M> KeyLoader<M> {
    pub(crate) fn new(core: Arc<Core>) -> Self {
        Self {
            core,
            metadata: PhantomData,
        }
    }
}

impl<M> Clone for KeyLoader<M> {
    fn clone(&self) -> Self {
        Self::new(Arc::clone(&self.core))
    }
}

impl<M: DeserializeOwned + Send + Sync + 'static> TokenLoader for KeyLoader<M> {
    type Metadata = M;

    /// # Errors
    /// Returns the database's error, or that the metadata is not an `M`. The cache then answers 503 and stores nothing.
    async fn load(&self, lookup: Lookup) -> Result<Option<TokenRecord<M>>, BoxError> {
        let key = self.find(&lookup).await?;
        Ok(key.map(|key| record(key, &self.core)).transpose()?)
    }
}

pub(crate) fn select() -> String {
    format!("SELECT {COLUMNS} FROM ~keys WHERE digest = $1 AND revoked_at IS NULL")
}

impl<M> KeyLoader<M> {
    async fn find(&self, lookup: &Lookup) -> Result<Option<Key>, sqlx::Error> {
        let select = self.core.sql(&select());
        let digest = lookup.digest();
        let row: Option<Row> = on_connection!(&self.core.database, connection => sqlx::query_as(&select)
            .persistent(false)
            .bind(digest.as_bytes().as_slice())
            .fetch_optional(connection)
            .await);
        Ok(row.map(|Row(key)| key))
    }
}

/// Converts a key. The type and the expiry are checked by the cache on each request. A key of a suspended tenant is
/// denied; resuming the tenant invalidates that answer.
fn record<M: DeserializeOwned + 'static>(
    key: Key,
    core: &Core,
) -> Result<TokenRecord<M>, serde_json::Error> {
    // Who does not ask for metadata gets none, whatever the row has: `()` can only be read from `null`. guard: K13
    let metadata = if TypeId::of::<M>() == TypeId::of::<()>() {
        M::deserialize(serde_json::Value::Null)?
    } else {
        key.metadata_as()?
    };
    let record = TokenRecord::new(key.id)
        .token_type(key.token_type)
        // The row's own digest, not the requested one: the cache compares the two.
        .digest(key.digest)
        .tenant_id(key.tenant_id)
        .app_id(key.app_id)
        .scopes(key.scopes)
        .created_at(key.created_at)
        .expires_at(key.expires_at)
        .last_used_at(key.last_used_at)
        .metadata(metadata);
    Ok(if key.tenant_suspended {
        record.denied(core.suspended.clone())
    } else {
        record
    })
}
