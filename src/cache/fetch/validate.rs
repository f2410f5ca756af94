//! Decides whether a stored value is valid (protocol.md section 5).

use std::sync::Arc;

use super::state::{AsOf, KnownGeneration, store_origin};
use crate::cache::answer::Resolved;
use crate::cache::bounds::Published;
use crate::cache::engine::Engine;
use crate::cache::generations::TenantCell;
use crate::cache::local::Proof;
use crate::loader::Lookup;
use crate::store::entry::{Seen, Value};
use crate::store::error::StoreError;

/// Whether a stored value is valid.
pub(super) enum Validity {
    /// It is, for its tenant's cell: held, because nothing else may hold it yet, until the answer does.
    Valid(Option<Arc<TenantCell>>),
    /// Its tenant was invalidated since. Holds the generation as a GET found it that was sent after the
    /// value's reply.
    FormerGeneration(KnownGeneration),
    /// It cannot be an answer.
    Corrupt,
}

impl<M: Send + Sync + 'static> Engine<M> {
    pub(super) async fn validate(
        self: &Arc<Self>,
        value: &Value<M>,
    ) -> Result<Validity, StoreError> {
        let Some(tenant) = value.tenant_id() else {
            return Ok(Validity::Valid(None));
        };
        let Some(generation) = value.generation() else {
            // The Python service writes none; its entries are valid as they are.
            let is_pythons = self.keys.is_dify();
            return Ok(if is_pythons {
                Validity::Valid(None)
            } else {
                Validity::Corrupt
            });
        };
        let is_off = self.local.freshness().is_off();
        let cell = (!is_off).then(|| self.generations.cell(tenant));
        let now = self.clock.now();
        let check = |proof: Proof<'_>| self.local.check(proof, now);
        let is_known = |cell: &Arc<TenantCell>| cell.check(generation, check, now).is_some();
        if cell.as_ref().is_some_and(is_known) {
            return Ok(Validity::Valid(cell));
        }
        // A local generation that differs is no evidence: only a GET that is sent after the value's reply
        // makes the value invalid. guard: S5
        let present = Box::pin(self.read_generation(tenant)).await?;
        if present == generation {
            return Ok(Validity::Valid(cell));
        }
        Ok(Validity::FormerGeneration(KnownGeneration {
            tenant: tenant.to_owned(),
            generation: present,
        }))
    }

    /// Answers from a stored value, if there is a valid one. It loads nothing.
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
            // Past its TTL it is an answer only if a load failed.
            return Ok(None);
        }
        let Validity::Valid(_cell) = self.validate(&value).await? else {
            return Ok(None);
        };
        let as_of = AsOf {
            sent,
            published: Published::No,
            bytes: 0,
            watch: None,
        };
        let resolved = self.resolved(lookup, &value, as_of, store_origin(self));
        Ok(Some(resolved))
    }
}
