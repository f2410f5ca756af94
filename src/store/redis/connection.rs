//! Sending: by the supervised connection, through the breaker, under one deadline.

use std::sync::Arc;
use std::time::Duration;

use redis::{RedisError, RedisResult, Value};
use tokio::time::timeout;

use super::batch::{Batch, Replies};
use super::breaker::{Breaker, BreakerSettings};
use super::endpoint::{Deadlines, Endpoint};
use super::supervisor::{Patience, Supervisor};
use crate::store::StoreError;

pub(super) struct Connection {
    supervisor: Supervisor,
    breaker: Breaker,
    deadlines: Deadlines,
    cluster: bool,
}

impl Connection {
    pub(super) fn new(
        endpoint: Endpoint,
        deadlines: Deadlines,
        breaker: BreakerSettings,
        heartbeat: String,
    ) -> Self {
        Self {
            cluster: endpoint.is_cluster(),
            supervisor: Supervisor::new(endpoint, deadlines, heartbeat),
            breaker: Breaker::new(breaker),
            deadlines,
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        self.cluster
    }

    /// Counts connections.
    pub(super) fn session(&self) -> u64 {
        self.supervisor.session()
    }

    /// Sends the commands once, in one write, and gives each one's reply. The deadline covers the
    /// wait for a connection too.
    pub(super) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        let admission = self.breaker.admit()?;
        let sent = self
            .send_within(self.deadlines.response, Patience::FailFast, batch)
            .await;
        match &sent {
            Err(error) if error.is_timeout() => admission.failed(),
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
        let sent = self.send_within(within, Patience::Insist, batch).await;
        if sent.is_ok() {
            self.breaker.close();
        }
        sent
    }

    async fn send_within(
        &self,
        deadline: Duration,
        patience: Patience,
        batch: &Batch,
    ) -> Result<Replies, StoreError> {
        let sent = async {
            let mut link = self.supervisor.link(patience).await?;
            link.wire.send(batch).await.map_err(|error| {
                if error.is_timeout() {
                    return StoreError::timeout();
                }
                // A cluster's client keeps its own connections: one node is not the whole.
                if error.is_unrecoverable_error() && !self.cluster {
                    link.give_up();
                }
                lost_or_refused(error)
            })
        };
        match timeout(deadline, sent).await {
            Ok(replies) => replies,
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// On a connection of its own, for what must not share one: `WAIT` blocks it, and speaks of its
    /// own connection's writes alone. Not on a cluster, whose client chooses the connections.
    pub(super) async fn send_apart(
        &self,
        batch: &Batch,
        deadline: Duration,
    ) -> Result<Replies, StoreError> {
        if self.cluster {
            return Err(StoreError::unsupported());
        }
        let sent = async {
            let mut wire = self.supervisor.open_apart(deadline).await?;
            wire.send(batch).await.map_err(lost_or_refused)
        };
        match timeout(deadline, sent).await {
            Ok(replies) => replies,
            Err(_) => Err(StoreError::timeout()),
        }
    }
}

fn lost_or_refused(error: RedisError) -> StoreError {
    if error.is_unrecoverable_error() || error.is_io_error() {
        return not_connected(error);
    }
    refused(error)
}

/// What the server says of a command may quote its arguments, and in the seed layout a key holds the
/// token: only the error's code is kept.
pub(super) fn refused(error: RedisError) -> StoreError {
    match error.code() {
        Some(code) => StoreError::refused(format!("the server answered {code}")),
        None => StoreError::refused(error),
    }
}

/// Likewise for an error of the connection itself.
pub(super) fn not_connected(error: RedisError) -> StoreError {
    match error.code() {
        Some(code) => {
            let said = format!("the server answered {code}");
            StoreError::not_connected(Some(Arc::from(
                Box::<dyn std::error::Error + Send + Sync>::from(said),
            )))
        }
        None => StoreError::not_connected(Some(Arc::new(error))),
    }
}

/// The first of the replies that is an error.
pub(super) fn first_refusal(replies: &[RedisResult<Value>]) -> Option<StoreError> {
    let error = replies.iter().find_map(|reply| reply.as_ref().err())?;
    Some(refused(error.clone()))
}
