//! Durable invalidation: a deletion that replicas hold before it is confirmed (protocol.md I3).

use std::time::Duration;

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::batch::Batch;
use super::commands::{RedisLevel, millis, read};
use super::fault::{confirmed, unexpected};
use super::node::{DurableTarget, Session};
use crate::store::{Durability, Nonce, StoreError};

/// How long a fence key of a durable invalidation lasts.
const FENCE: Duration = Duration::from_secs(60);

/// How often a durable invalidation is tried, each time from the deletion on.
pub(super) const DURABLE_ATTEMPTS: u16 = 3;

impl<M: Serialize + DeserializeOwned> RedisLevel<M> {
    /// I3: the deletion, a write that replicas must acknowledge, and the wait for them, on a
    /// connection of its own. A deletion that removed nothing replicates nothing, and `WAIT` knows
    /// only its own connection's writes: hence the forced write, and the whole again on any trouble.
    /// On a cluster it is done on each node that owns some of the names, one after the other in the
    /// names' order (E before T). That another node owns them by now is such a trouble too.
    pub(super) async fn delete_durably(
        &self,
        names: &[String],
        fence: &str,
        durable: Durability,
    ) -> Result<(), StoreError> {
        let mut last = StoreError::unconfirmed();
        for attempt in 0..DURABLE_ATTEMPTS {
            match self.try_durably(names, fence, attempt, durable).await {
                Ok(()) => return Ok(()),
                Err(error) => last = error,
            }
        }
        Err(last)
    }

    async fn try_durably(
        &self,
        names: &[String],
        fence: &str,
        attempt: u16,
        durable: Durability,
    ) -> Result<(), StoreError> {
        for place in self.connection.places(names, fence, attempt).await? {
            Self::delete_at(&place, durable).await?;
        }
        Ok(())
    }

    async fn delete_at(place: &DurableTarget, durable: Durability) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for name in &place.names {
            batch.then();
            batch.cmd("DEL").arg(name);
        }
        let mut session = place.node.hold_apart().await?;
        wait_for_replicas(&mut session, batch, &place.fence, durable).await
    }
}

/// Sends the batch, and waits until the replicas hold what it wrote and everything that was written on
/// this connection before it.
pub(super) async fn wait_for_replicas(
    session: &mut Session,
    mut batch: Batch,
    fence: &str,
    durable: Durability,
) -> Result<(), StoreError> {
    let random = Nonce::new().to_string();
    batch.then();
    let set = batch.cmd("SET").arg(fence).arg(random);
    set.arg("PX").arg(millis(FENCE));
    batch
        .cmd("WAIT")
        .arg(durable.replicas)
        .arg(millis(durable.timeout));
    let deadline = durable.timeout + Duration::from_secs(1);
    let mut replies = session.send_within(&batch, deadline).await?;
    let acknowledged: usize = read(replies.pop().ok_or_else(unexpected)?)?;
    confirmed(&replies)?;
    if acknowledged >= durable.replicas {
        Ok(())
    } else {
        Err(StoreError::unconfirmed())
    }
}
