//! One server: sending by its supervised connection, through its breaker, under one deadline.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::timeout;

use super::Settings;
use super::batch::{Batch, Replies};
use super::breaker::Breaker;
use super::endpoint::{Deadlines, Server};
use super::fault::lost_or_refused;
use super::supervisor::{Heartbeat, Patience, Supervisor};
#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::StoreError;

pub(super) struct Node {
    supervisor: Supervisor,
    breaker: Breaker,
    deadlines: Deadlines,
}

impl Node {
    pub(super) fn new(
        server: Server,
        settings: &Settings,
        heartbeat: Heartbeat,
        session: Arc<AtomicU64>,
    ) -> Self {
        Self {
            supervisor: Supervisor::new(server, settings.deadlines, heartbeat, session),
            breaker: Breaker::new(settings.breaker, settings.deadlines.response),
            deadlines: settings.deadlines,
        }
    }

    /// How long a command may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadlines.response
    }

    /// What its heartbeat deletes from now on.
    #[cfg(feature = "redis-cluster")]
    pub(super) fn set_heartbeat(&self, name: String) {
        self.supervisor.set_heartbeat(name);
    }

    #[cfg(feature = "metrics")]
    pub(super) fn count_breaker(&self, sums: &mut Breakers) {
        self.breaker.count(sums);
    }

    /// Sends the commands once, in one write, and gives each one's reply. The deadline covers the
    /// wait for a connection too.
    pub(super) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        self.send_for(batch, 1).await
    }

    /// The same for so many who share it, and whose time-outs the breaker counts each.
    pub(super) async fn send_for(
        &self,
        batch: &Batch,
        callers: usize,
    ) -> Result<Replies, StoreError> {
        let admission = self.breaker.admit()?;
        let sent = match timeout(
            self.deadlines.response,
            self.write(batch, Patience::FailFast),
        )
        .await
        {
            Ok(sent) => sent,
            Err(_) => Err(StoreError::timeout()),
        };
        match &sent {
            Err(error) if error.is_timeout() => admission.failed(callers),
            // That there is no connection is known at once, and known by the supervisor when it has one
            // again: nothing to be spared by the breaker, and nothing to keep it open for.
            Err(error) if error.is_not_connected() => drop(admission),
            // A refused command is an answer: Redis is there.
            Ok(_) | Err(_) => admission.succeeded(),
        }
        sent
    }

    /// The same for what has to be tried whatever failed just before: an invalidation.
    pub(super) async fn insist(&self, batch: &Batch) -> Result<Replies, StoreError> {
        let within = self.deadlines.response + self.deadlines.connect;
        let sent = match timeout(within, self.write(batch, Patience::Insist)).await {
            Ok(sent) => sent,
            Err(_) => Err(StoreError::timeout()),
        };
        if sent.is_ok() {
            self.breaker.close();
        }
        sent
    }

    /// To be called under a deadline.
    async fn write(&self, batch: &Batch, patience: Patience) -> Result<Replies, StoreError> {
        let mut link = self.supervisor.link(patience).await?;
        batch.send(&mut link.connection).await.map_err(|error| {
            if error.is_timeout() {
                return StoreError::timeout();
            }
            if error.is_unrecoverable_error() {
                link.give_up();
            }
            lost_or_refused(error)
        })
    }

    /// On a connection of its own, for what must not share one: `WAIT` blocks it, and speaks of its
    /// own connection's writes alone.
    pub(super) async fn send_apart(
        &self,
        batch: &Batch,
        deadline: Duration,
    ) -> Result<Replies, StoreError> {
        let sent = async {
            let mut connection = self.supervisor.open_apart().await?;
            batch.send(&mut connection).await.map_err(lost_or_refused)
        };
        match timeout(deadline, sent).await {
            Ok(replies) => replies,
            Err(_) => Err(StoreError::timeout()),
        }
    }
}

/// Names to be deleted durably by way of one server.
pub(super) struct DurableTarget {
    pub(super) node: Arc<Node>,
    /// Those of each command.
    pub(super) deletions: Vec<Vec<String>>,
    pub(super) fence: String,
}

/// A real write: what a read-only server refuses, and what one without memory does.
pub(super) fn probe(name: &str) -> Batch {
    let mut batch = Batch::new();
    batch.cmd("SET").arg(name).arg(1).arg("PX").arg(1_000);
    batch
}
