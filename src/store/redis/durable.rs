//! Deletions that replicas acknowledge (protocol.md I3).

use std::time::Duration;

use super::commands::Commands;
use super::scripts::millis;
use super::transport::batch::Batch;
use super::transport::node::{DurableTarget, Session};
use super::transport::reply::{confirmed, read, unexpected};
use crate::store::backend::Durability;
use crate::store::entry::Nonce;
use crate::store::error::StoreError;

/// The TTL of the key whose write the replicas have to acknowledge.
const FENCE: Duration = Duration::from_secs(60);

/// How often a durable deletion is tried, each time from its beginning.
pub(super) const DURABLE_ATTEMPTS: u16 = 3;

impl Commands {
    /// Deletes names, and waits until replicas have acknowledged that, on a connection of its own.
    ///
    /// A deletion that removes nothing is not replicated, and `WAIT` only counts its own connection's writes:
    /// hence a write after the deletion, and another attempt after any error. On a cluster this is done on
    /// each node that owns some of the names, one after the other in the order of the names (E before T).
    /// An attempt also fails if another node owns a name by then.
    pub(super) async fn delete_durably(
        &self,
        names: &[String],
        fence: &str,
        durable: Durability,
    ) -> Result<(), StoreError> {
        let mut last = StoreError::too_few_replicas();
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
        for target in self
            .connection
            .durable_targets(names, fence, attempt)
            .await?
        {
            Self::delete_at(&target, durable).await?;
        }
        Ok(())
    }

    async fn delete_at(target: &DurableTarget, durable: Durability) -> Result<(), StoreError> {
        let mut batch = Batch::new();
        for name in &target.names {
            // guard: C20
            batch.begin_stage();
            batch.cmd("DEL").arg(name);
        }
        let mut session = target.node.dedicated_session().await?;
        wait_for_replicas(&mut session, batch, &target.fence, durable).await
    }
}

/// Sends the batch, and waits until replicas have acknowledged it and everything that was written on this
/// connection before it.
pub(super) async fn wait_for_replicas(
    session: &mut Session,
    mut batch: Batch,
    fence: &str,
    durable: Durability,
) -> Result<(), StoreError> {
    let random = Nonce::new().to_string();
    batch.begin_stage();
    // guard: F2 C5
    let set = batch.cmd("SET").arg(fence).arg(random);
    set.arg("PX").arg(millis(FENCE));
    batch
        .cmd("WAIT")
        .arg(durable.replicas)
        .arg(millis(durable.timeout));
    let within = durable.timeout + Duration::from_secs(1);
    let mut replies = session.send_within(&batch, within).await?;
    let acknowledged: usize = read(replies.pop().ok_or_else(unexpected)?)?;
    confirmed(&replies)?;
    if acknowledged >= durable.replicas {
        Ok(())
    } else {
        Err(StoreError::too_few_replicas())
    }
}
