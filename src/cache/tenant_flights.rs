//! Reads of tenants' generations, which are flights of their own (protocol.md sections 3 and 5).

use std::sync::Arc;

use super::bounds::Published;
use super::engine::Engine;
use super::flight::{Boarding, Flights, Landing, Leader};
use super::pilot::Work;
use super::sync_points::SyncPoint;
use super::tenants::TenantCell;
use crate::clock::Tick;
use crate::store::{Generation, StoreError};
use crate::task::spawn_stealable;

pub(super) type TenantFlights = Flights<Arc<str>, Generation, StoreError>;
type TenantLeader = Leader<Arc<str>, Generation, StoreError>;

impl<M: Send + Sync + 'static> Engine<M> {
    pub(super) fn refresh_tenant(self: &Arc<Self>, cell: &TenantCell) {
        let tenant: Arc<str> = cell.name().into();
        if tokio::runtime::Handle::try_current().is_ok()
            && let Some(leader) = self.tenant_flights.lead(&tenant)
        {
            spawn_stealable(Arc::clone(self).fly_tenant(leader, tenant));
        }
    }

    /// T's generation, by a GET that is sent after this was called; created if it is missing.
    pub(super) async fn read_tenant(
        self: &Arc<Self>,
        tenant: &str,
    ) -> Result<Generation, StoreError> {
        let tenant: Arc<str> = tenant.into();
        // One that stands still gives way to another, once.
        for _ in 0..2 {
            let ticket = match self.tenant_flights.board(&tenant) {
                Boarding::Joins(ticket) => ticket,
                Boarding::Leads(leader, ticket) => {
                    let flight = self.tenant_flight(leader, Arc::clone(&tenant));
                    ticket.fly(flight).await;
                    ticket
                }
            };
            match Self::served(ticket).await {
                Some(Ok(generation)) => return Ok(generation),
                Some(Err(error)) => {
                    return Err(error.unwrap_or_else(|| StoreError::not_connected(None)));
                }
                None => {}
            }
        }
        Err(StoreError::timeout())
    }

    /// No `async`: what the caller has to carry is the block alone.
    fn tenant_flight(self: &Arc<Self>, leader: TenantLeader, tenant: Arc<str>) -> Work {
        Work::new(Arc::clone(self).fly_tenant(leader, tenant))
    }

    async fn fly_tenant(self: Arc<Self>, leader: TenantLeader, tenant: Arc<str>) {
        let mut next = Some(leader);
        while let Some(leader) = next {
            let proof = leader.send();
            let published = self.published();
            let sent = self.clock.now();
            let read = self.store.tenant(&tenant, Generation::new()).await;
            self.reach(SyncPoint::TenantRead).await;
            next = leader.land(match read {
                Ok(answer) => {
                    self.observe_tenant(&tenant, answer, sent, published);
                    Landing::Answered { answer, proof }
                }
                Err(error) => Landing::Failed(error),
            });
        }
    }

    /// Keeps what a reply said of T, whose command was sent after the clock said `sent`, if it may be
    /// kept.
    pub(super) fn observe_tenant(
        &self,
        tenant: &str,
        generation: Generation,
        sent: Tick,
        published: Published,
    ) -> Option<Arc<TenantCell>> {
        if self.local.entitlement().is_off() || !self.may_keep(published) {
            return None;
        }
        let arrived = self.order.next();
        let cell = self.tenants.cell(tenant);
        cell.observe(generation, sent, arrived);
        Some(cell)
    }
}
