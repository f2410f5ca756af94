//! What a value in the store is worth (protocol.md section 5).

use std::sync::Arc;

use super::{KnownTenant, store_origin};
use crate::cache::answer::Resolved;
use crate::cache::bounds::Published;
use crate::cache::engine::Engine;
use crate::cache::proved::Proved;
use crate::cache::tenants::TenantCell;
use crate::loader::Lookup;
use crate::store::{Seen, StoreError, Value};

/// What a value in the store is worth.
pub(super) enum Worth {
    /// It counts, for its tenant's cell: held, because nothing else may hold it yet, until the answer
    /// does.
    Counts(Option<Arc<TenantCell>>),
    /// Its tenant was invalidated since; T as a GET found it that was sent after K's reply.
    OldGeneration(KnownTenant),
    /// It is not the answer to this question at all.
    Corrupt,
}

pub(super) async fn appraise_value<M: Send + Sync + 'static>(
    engine: &Arc<Engine<M>>,
    value: &Value<M>,
) -> Result<Worth, StoreError> {
    let Some(tenant) = value.tenant_id() else {
        return Ok(Worth::Counts(None));
    };
    let Some(generation) = value.generation() else {
        // The Python service writes none; its entries count as they are.
        let worth = if engine.keys.is_seed() {
            Worth::Counts(None)
        } else {
            Worth::Corrupt
        };
        return Ok(worth);
    };
    let entitlement = engine.local.entitlement();
    let cell = (!entitlement.is_off()).then(|| engine.tenants.cell(tenant));
    let proved = cell.as_ref().and_then(|cell| cell.proved(generation));
    if proved.is_some_and(|sent| entitlement.age(sent, engine.clock.now()).is_some()) {
        return Ok(Worth::Counts(cell));
    }
    // A local T that differs is no evidence: only a GET sent after K's reply makes a value old.
    let present = engine.read_tenant(tenant).await?;
    if present == generation {
        return Ok(Worth::Counts(cell));
    }
    Ok(Worth::OldGeneration(KnownTenant {
        tenant: tenant.to_owned(),
        generation: present,
    }))
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// An answer from what lies in the store, if something there counts. It loads nothing.
    pub(crate) async fn peek(
        self: &Arc<Self>,
        lookup: &Lookup,
    ) -> Result<Option<Resolved<M>>, StoreError> {
        let sent = self.clock.now();
        let Seen::Value(value, _, left) = self.store.get(&self.key(lookup)).await? else {
            return Ok(None);
        };
        if self.is_unconfirmed(lookup, value.tenant_id()) {
            return Ok(None);
        }
        if left.is_some_and(|left| left <= value.grace()) {
            // Past its soft end it is an answer only where a load failed.
            return Ok(None);
        }
        let Worth::Counts(_cell) = appraise_value(self, &value).await? else {
            return Ok(None);
        };
        let proved = Proved {
            sent,
            published: Published::No,
            bytes: 0,
        };
        let resolved = self.resolved(lookup, &value, proved, store_origin(self));
        Ok(Some(resolved))
    }
}
