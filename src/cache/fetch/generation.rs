//! Reads of tenants' generations, which are calls of their own (protocol.md sections 3 and 5).

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::cache::bounds::Published;
use crate::cache::engine::{Engine, GenerationLeader};
use crate::cache::generations::TenantCell;
use crate::cache::single_flight::{CallError, Completion, Work};
use crate::cache::sync_points::SyncPoint;
use crate::clock::Tick;
use crate::store::entry::{Generation, ReadGeneration};
use crate::store::error::StoreError;
use crate::util::task::spawn_stealable;

impl<M: Send + Sync + 'static> Engine<M> {
    pub(in crate::cache) fn refresh_generation(self: &Arc<Self>, cell: &Arc<TenantCell>) {
        let tenant: Arc<str> = cell.name().into();
        if Handle::try_current().is_ok()
            && let Some(leader) = self.generation_calls.lead(&tenant)
        {
            let (engine, cell) = (Arc::clone(self), Arc::clone(cell));
            spawn_stealable(async move {
                let pause = engine.refresh_pause();
                engine.fetch_generation(leader, tenant).await;
                sleep(pause).await;
                // guard: TR12b
                cell.refresh_ended();
            });
        } else {
            cell.refresh_ended();
        }
    }

    /// Returns a tenant's generation, by a GET that is sent after this was called. A missing one is created.
    pub(super) async fn read_generation(
        self: &Arc<Self>,
        tenant: &str,
    ) -> Result<Generation, StoreError> {
        let tenant: Arc<str> = tenant.into();
        if let Some(_alone) = self.generation_calls.begin_alone(&tenant) {
            return self.ask_generation(&tenant).await;
        }
        let begin = |leader| {
            let engine = Arc::clone(self);
            Work::new(engine.fetch_generation(leader, Arc::clone(&tenant)))
        };
        let read = self.generation_calls.run(&tenant, begin, || ()).await;
        read.map_err(|error| match error {
            CallError::Failed(error) => error,
            CallError::Broken => StoreError::not_connected(None),
            CallError::Stalled => StoreError::timeout(),
        })
    }

    async fn fetch_generation(self: Arc<Self>, leader: GenerationLeader, tenant: Arc<str>) {
        let mut next = Some(leader);
        while let Some(leader) = next {
            let proof = leader.send();
            next = leader.complete(match self.ask_generation(&tenant).await {
                Ok(answer) => Completion::Answered { answer, proof },
                Err(error) => Completion::Failed(error),
            });
        }
    }

    async fn ask_generation(&self, tenant: &str) -> Result<Generation, StoreError> {
        let sent = self.clock.now();
        let published = self.published(sent);
        let read = self.store.tenant(tenant, Generation::new()).await;
        self.reach(SyncPoint::TenantRead).await;
        let read = read?;
        let generation = read.generation;
        self.observe_generation(tenant, read, sent, published);
        Ok(generation)
    }

    /// Keeps a tenant's generation, if the local level may, from a reply whose command was sent after the
    /// clock showed `sent`.
    pub(super) fn observe_generation(
        &self,
        tenant: &str,
        read: ReadGeneration,
        sent: Tick,
        published: Published,
    ) -> Option<Arc<TenantCell>> {
        if self.local.freshness().is_off() || !self.may_keep(published) {
            return None;
        }
        let arrived = self.order.next();
        let cell = self.generations.cell(tenant);
        cell.observe(read, sent, arrived);
        Some(cell)
    }
}
