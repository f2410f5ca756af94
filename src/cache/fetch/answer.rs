//! Answers, for waiters and for the local level.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::time::Duration;

use super::load::Checked;
use super::state::{AsOf, Completed, Fetch, Found, StaleEntry, store_origin};
use crate::cache::answer::Resolved;
use crate::cache::bounds::Published;
use crate::cache::cached_token::{EntryMeta, Principal};
use crate::cache::engine::Engine;
use crate::cache::generations::GenerationCell;
use crate::cache::local::{LocalEntry, Negative};
use crate::cache::single_flight::{Completion, SendNumber};
use crate::clock::Tick;
use crate::loader::Lookup;
use crate::metrics::Origin;
use crate::store::entry::Value;
use crate::token::TokenRecord;

impl<M: Send + Sync + 'static> Engine<M> {
    /// Returns the answer of a value, with the metadata that the local level needs.
    pub(super) fn resolved(
        &self,
        lookup: &Lookup,
        value: &Value<M>,
        as_of: AsOf,
        origin: Origin,
    ) -> Resolved<M> {
        let meta = self.meta(lookup, value, as_of, origin == Origin::Stale);
        let entry = match value {
            Value::Found(entry) => LocalEntry::Found(Arc::new(Principal {
                entry: Arc::clone(entry),
                token: lookup.token.clone(),
                noted: AtomicU64::new(0),
                meta,
                cache: Arc::clone(&self.this),
            })),
            Value::Absent(entry) => LocalEntry::Absent(Arc::new(Negative {
                entry: Arc::clone(entry),
                meta,
            })),
        };
        Resolved { entry, origin }
    }

    /// Returns the answer of a valid value, and inserts it into the local level.
    pub(super) fn found(&self, lookup: &Lookup, found: Found<M>) -> Resolved<M> {
        let answer = self.kept(lookup, &found.value, found.as_of, store_origin(self));
        // Until here nothing else may have held the tenant's cell; now the answer holds it.
        drop(found.cell);
        answer
    }

    /// Returns the answer of a value, and inserts it into the local level.
    fn kept(&self, lookup: &Lookup, value: &Value<M>, as_of: AsOf, origin: Origin) -> Resolved<M> {
        let published = as_of.published;
        let answer = self.resolved(lookup, value, as_of, origin);
        self.keep(lookup, published, &answer);
        answer
    }

    /// Inserts an answer into the local level, if operators could know this instance's bound.
    fn keep(&self, lookup: &Lookup, published: Published, resolved: &Resolved<M>) {
        if !self.local.freshness().is_off() && self.may_keep(published) {
            self.local
                .insert(self.fingerprint(lookup), resolved.entry.clone());
        }
    }

    fn meta(&self, lookup: &Lookup, value: &Value<M>, as_of: AsOf, stale: bool) -> EntryMeta {
        let known = if let Value::Found(entry) = value {
            own_bytes(&entry.value) + lookup.token.expose().len()
        } else {
            0
        };
        EntryMeta {
            digest: lookup.digest,
            as_of: as_of.sent,
            watch: as_of.watch,
            tenant: self.tenant_cell(value),
            size: u32::try_from(known.max(as_of.bytes)).unwrap_or(u32::MAX),
            stale,
            // guard: TR9b
            stored: as_of.bytes > 0,
            refreshing: AtomicBool::new(false),
        }
    }

    /// Returns the tenant that a value depends on. Its generation decides whether the local entry is valid, unless
    /// the Python service wrote none, and its invalidation by this process ends the entry.
    fn tenant_cell(&self, value: &Value<M>) -> Option<Arc<GenerationCell>> {
        if self.local.freshness().is_off() {
            return None;
        }
        value
            .tenant_id()
            .map(|tenant| self.generations.cell(tenant))
    }
}

impl<M: Send + Sync + 'static> Fetch<'_, M> {
    /// Completes with an answer for those who joined before `proof`.
    fn answered(
        &self,
        value: &Value<M>,
        as_of: AsOf,
        origin: Origin,
        proof: SendNumber,
    ) -> Completed<M> {
        let answer = self.engine.resolved(&self.lookup, value, as_of, origin);
        Completion::Answered { answer, proof }
    }

    /// Completes with an answer for those who joined before `proof`, and inserts it into the local level.
    pub(super) fn cached(
        &self,
        value: &Value<M>,
        as_of: AsOf,
        origin: Origin,
        proof: SendNumber,
    ) -> Completed<M> {
        let answer = self.engine.kept(&self.lookup, value, as_of, origin);
        Completion::Answered { answer, proof }
    }

    /// Completes with a loaded answer for those who joined before its load.
    pub(super) fn unproved(&self, value: &Value<M>, load: SendNumber) -> Completed<M> {
        self.answered(value, AsOf::UNKNOWN, Origin::Loaded, load)
    }

    /// Completes with a loaded answer that is not stored.
    pub(super) fn uncached(&self, checked: Checked<M>, load: SendNumber) -> Completed<M> {
        let value = checked.into_value(None, None, Tick::NEVER, Duration::ZERO);
        self.unproved(&value, load)
    }

    /// Completes with a record past its TTL, for those who joined before the GET that found it.
    pub(super) fn stale(&self, stale: &StaleEntry<M>) -> Completed<M> {
        let (as_of, proof) = (stale.read.as_of(0, None), stale.read.number);
        self.answered(&stale.value, as_of, Origin::Stale, proof)
    }
}

fn own_bytes<M>(record: &TokenRecord<M>) -> usize {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    size_of::<TokenRecord<M>>()
        + record.id.len()
        + optional(&record.token_type)
        + optional(&record.app_id)
        + optional(&record.tenant_id)
        + record
            .scopes
            .as_str()
            .map_or(0, |scopes| scopes.len() + size_of::<Box<str>>())
        + record.denied.as_ref().map_or(0, |reason| reason.len())
}
