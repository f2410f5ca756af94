//! Answers with what proves them, for those who asked and for the local level.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use super::answer::{Resolved, What};
use super::bounds::Published;
use super::cached_token::{Principal, Proof};
use super::engine::Engine;
use super::local::{Hit, Null};
use super::tenants::TenantCell;
use crate::clock::Tick;
use crate::loader::Lookup;
use crate::metrics::Origin;
use crate::store::Value;
use crate::token::TokenRecord;

/// When, and by how many bytes, an answer was proved.
#[derive(Debug, Clone, Copy)]
pub(super) struct Proved {
    pub(super) sent: Tick,
    pub(super) published: Published,
    pub(super) bytes: usize,
}

impl<M: Send + Sync + 'static> Engine<M> {
    /// An answer with what proves it.
    pub(super) fn resolved(
        &self,
        lookup: &Lookup,
        value: &Value<M>,
        proved: Proved,
        origin: Origin,
    ) -> Resolved<M> {
        let what = match value {
            Value::Found(kept) => What::Found(Arc::new(Principal {
                kept: Arc::clone(kept),
                token: lookup.token.clone(),
                noted: AtomicU64::new(0),
                proof: Proof {
                    stale: origin == Origin::Stale,
                    ..self.proof(lookup, value, proved)
                },
            })),
            Value::Absent(_) => What::Absent,
        };
        Resolved { what, origin }
    }

    /// Puts a proven answer into the local level, if operators could know for how long it is used.
    pub(super) fn remember(
        &self,
        lookup: &Lookup,
        value: &Value<M>,
        proved: Proved,
        resolved: &Resolved<M>,
    ) {
        if self.local.entitlement().is_off() || !self.may_keep(proved.published) {
            return;
        }
        let hit = match (&resolved.what, value) {
            (What::Found(principal), _) => Hit::Found(Arc::clone(principal)),
            (What::Absent, Value::Absent(kept)) => Hit::Absent(Arc::new(Null {
                kept: Arc::clone(kept),
                proof: self.proof(lookup, value, proved),
            })),
            (What::Absent, Value::Found(_)) => return,
        };
        self.local.insert(self.fingerprint(lookup), hit);
    }

    fn proof(&self, lookup: &Lookup, value: &Value<M>, proved: Proved) -> Proof {
        let known = if let Value::Found(kept) = value {
            own_bytes(&kept.what) + lookup.token.expose().len()
        } else {
            0
        };
        Proof {
            digest: lookup.digest,
            sent: proved.sent,
            tenant: self.tenant_cell(value),
            size: u32::try_from(known.max(proved.bytes)).unwrap_or(u32::MAX),
            stale: false,
            refreshing: AtomicBool::new(false),
        }
    }

    /// The tenant that a value depends on, for the local level: its generation proves the value, except
    /// where the Python service wrote none, and its invalidation from here ends the value.
    fn tenant_cell(&self, value: &Value<M>) -> Option<Arc<TenantCell>> {
        if self.local.entitlement().is_off() {
            return None;
        }
        value.tenant_id().map(|tenant| self.tenants.cell(tenant))
    }
}

fn own_bytes<M>(record: &TokenRecord<M>) -> usize {
    let optional = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    size_of::<TokenRecord<M>>()
        + record.id.len()
        + optional(&record.token_type)
        + optional(&record.app_id)
        + optional(&record.tenant_id)
        + record.denied.as_ref().map_or(0, |reason| reason.len())
}
