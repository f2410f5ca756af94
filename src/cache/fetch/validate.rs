//! Decides whether a stored value is valid (protocol.md section 5).

use std::sync::Arc;

use super::state::{AsOf, KnownGeneration, store_origin};
use crate::cache::answer::Resolved;
use crate::cache::bounds::Published;
use crate::cache::engine::Engine;
use crate::cache::generations::GenerationCell;
use crate::cache::local::Proof;
use crate::loader::Lookup;
use crate::store::entry::{Generation, Group, Seen, Value};
use crate::store::error::StoreError;

/// Whether a stored value is valid.
pub(super) enum Validity {
    /// It is, for its tenant's cell: held, because nothing else may hold it yet, until the answer does.
    Valid(Option<Arc<GenerationCell>>),
    /// A group of it was invalidated since: its tenant, whose generation this holds as a GET found it that was sent after
    /// the value's reply, or all.
    FormerGeneration(Option<KnownGeneration>),
    /// It cannot be an answer.
    Corrupt,
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// Decides whether a value is valid. `all` is the generation of all entries, if it was asked for together with the
    /// value.
    pub(super) async fn validate(
        self: &Arc<Self>,
        value: &Value<M>,
        all: Option<Generation>,
    ) -> Result<Validity, StoreError> {
        if !self.is_of_present(value, all).await? {
            return Ok(Validity::FormerGeneration(None));
        }
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
        let is_known =
            |cell: &Arc<GenerationCell>| cell.check(generation.short(), check, now).is_some();
        if cell.as_ref().is_some_and(is_known) {
            return Ok(Validity::Valid(cell));
        }
        // A local generation that differs is no evidence: only a GET that is sent after the value's reply
        // makes the value invalid. guard: S5
        let present = Box::pin(self.read_generation(&Group::tenant(tenant))).await?;
        if present == generation {
            return Ok(Validity::Valid(cell));
        }
        Ok(Validity::FormerGeneration(Some(KnownGeneration {
            tenant: tenant.to_owned(),
            generation: present,
        })))
    }

    /// Returns whether a value was filled under the generation that all entries have now.
    ///
    /// # Errors
    /// Returns an error if that cannot be read.
    async fn is_of_present(
        self: &Arc<Self>,
        value: &Value<M>,
        asked: Option<Generation>,
    ) -> Result<bool, StoreError> {
        if self.keys.is_dify() {
            // There an invalidation of all deletes each entry.
            return Ok(true);
        }
        // A former release wrote none. guard: AL1
        let Some(all) = value.all() else {
            return Ok(false);
        };
        if asked.is_some_and(|asked| asked.short() == all) || self.is_current(all) {
            return Ok(true);
        }
        // As for a tenant, a local generation that differs is no evidence.
        let present = Box::pin(self.read_generation(&Group::All)).await?;
        Ok(present.short() == all)
    }

    /// Answers from a stored value, if there is a valid one. It loads nothing.
    pub(crate) async fn peek(
        self: &Arc<Self>,
        lookup: &Lookup,
    ) -> Result<Option<Resolved<M>>, StoreError> {
        let (sent, noted) = (self.clock.now(), self.is_unconfirmed(lookup, None));
        let Seen::Value(value, _, left) = self.store.get(&self.key(lookup)).await? else {
            return Ok(None);
        };
        // guard: I6i
        if noted || self.is_unconfirmed(lookup, value.tenant_id()) {
            return Ok(None);
        }
        if left.is_some_and(|left| left <= value.grace()) {
            // Past its TTL it is an answer only if a load failed.
            return Ok(None);
        }
        let Validity::Valid(_cell) = self.validate(&value, None).await? else {
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
