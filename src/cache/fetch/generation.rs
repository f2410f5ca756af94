//! Reads of generations, which are calls of their own (protocol.md sections 3 and 5).

use std::sync::Arc;

use tokio::runtime::Handle;
use tokio::time::sleep;

use crate::cache::bounds::Published;
use crate::cache::engine::{Engine, GenerationLeader};
use crate::cache::generations::GenerationCell;
use crate::cache::local::Proof;
use crate::cache::single_flight::{CallError, Completion, Work};
use crate::cache::sync_points::SyncPoint;
use crate::clock::Tick;
use crate::store::entry::{Generation, Group, ReadGeneration, ShortGeneration};
use crate::store::error::StoreError;
use crate::util::task::spawn_stealable;

impl<M: Send + Sync + 'static> Engine<M> {
    pub(in crate::cache) fn refresh_generation(self: &Arc<Self>, cell: &Arc<GenerationCell>) {
        let group = cell.group();
        if Handle::try_current().is_ok()
            && let Some(leader) = self.generation_calls.lead(group)
        {
            let (engine, cell, group) = (Arc::clone(self), Arc::clone(cell), group.clone());
            spawn_stealable(async move {
                let pause = engine.refresh_pause();
                engine.fetch_generation(leader, group).await;
                sleep(pause).await;
                // guard: TR12b
                cell.refresh_ended();
            });
        } else {
            cell.refresh_ended();
        }
    }

    /// Returns a group's generation, by a GET that is sent after this was called. A missing one is created.
    pub(in crate::cache) async fn read_generation(
        self: &Arc<Self>,
        group: &Group,
    ) -> Result<Generation, StoreError> {
        if let Some(_alone) = self.generation_calls.begin_alone(group) {
            return self.ask_generation(group).await;
        }
        let begin = |leader| {
            let engine = Arc::clone(self);
            Work::new(engine.fetch_generation(leader, group.clone()))
        };
        let read = self.generation_calls.run(group, begin, || ()).await;
        read.map_err(|error| match error {
            CallError::Failed(error) => error,
            CallError::Broken => StoreError::not_connected(None),
            CallError::Stalled => StoreError::timeout(),
        })
    }

    async fn fetch_generation(self: Arc<Self>, leader: GenerationLeader, group: Group) {
        let mut next = Some(leader);
        while let Some(leader) = next {
            let proof = leader.send();
            next = leader.complete(match self.ask_generation(&group).await {
                Ok(answer) => Completion::Answered { answer, proof },
                Err(error) => Completion::Failed(error),
            });
        }
    }

    async fn ask_generation(&self, group: &Group) -> Result<Generation, StoreError> {
        let sent = self.clock.now();
        let published = self.published(sent);
        let read = self.store.generation(group, Generation::new()).await;
        if matches!(group, Group::Tenant(_)) {
            self.reach(SyncPoint::TenantRead).await;
        }
        let read = read?;
        let generation = read.generation;
        self.observe_generation(group, read, sent, published);
        Ok(generation)
    }

    /// Keeps a group's generation, if the local level may, from a reply whose command was sent after the
    /// clock showed `sent`.
    pub(super) fn observe_generation(
        &self,
        group: &Group,
        read: ReadGeneration,
        sent: Tick,
        published: Published,
    ) -> Option<Arc<GenerationCell>> {
        if self.local.freshness().is_off() || !self.may_keep(published) {
            return None;
        }
        let arrived = self.order.next();
        let cell = match group {
            Group::All => Arc::clone(self.local.all()),
            Group::Tenant(tenant) => self.generations.cell(tenant),
        };
        cell.observe(read, sent, arrived);
        Some(cell)
    }

    /// Returns whether `all` is known to be the generation of all entries, by a proof that may be used now: as good as
    /// a GET that is sent before this is called.
    pub(super) fn is_current(&self, all: ShortGeneration) -> bool {
        let now = self.clock.now();
        let check = |proof: Proof<'_>| self.local.check(proof, now);
        self.local.all().check(all, check, now).is_some()
    }

    /// Returns whether the generation of all entries has to be read before one can be used: another process may change
    /// it, and this one knows none by a proof that may be used now.
    pub(in crate::cache) fn lacks_all(&self) -> bool {
        if self.store.is_local() || self.keys.is_dify() {
            return false;
        }
        let now = self.clock.now();
        let check = |proof: Proof<'_>| self.local.check(proof, now);
        !self.local.all().is_known(check)
    }
}
