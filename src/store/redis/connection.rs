//! Sending: by the supervised connection, through the breaker, under one deadline.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{Pipeline, RedisError, RedisResult, Value};
use std::sync::Arc;
use tokio::time::timeout;

use super::breaker::{Breaker, BreakerSettings};
use super::supervisor::{Patience, Supervisor};
use crate::store::StoreError;

pub(super) type Replies = Vec<RedisResult<Value>>;

pub(super) struct Connection {
    supervisor: Supervisor,
    breaker: Breaker,
    deadline: Duration,
    connect_deadline: Duration,
}

impl Connection {
    pub(super) fn new(
        client: redis::Client,
        deadline: Duration,
        connect_deadline: Duration,
        breaker: BreakerSettings,
        heartbeat: String,
    ) -> Self {
        Self {
            supervisor: Supervisor::new(client, deadline, connect_deadline, heartbeat),
            breaker: Breaker::new(breaker),
            deadline,
            connect_deadline,
        }
    }

    /// Counts connections.
    pub(super) fn session(&self) -> u64 {
        self.supervisor.session()
    }

    /// Sends the commands once, in one write, and gives each one's reply. The deadline covers the
    /// wait for a connection too.
    pub(super) async fn send(&self, pipeline: &Pipeline) -> Result<Replies, StoreError> {
        let admission = self.breaker.admit()?;
        let sent = self
            .send_within(self.deadline, Patience::FailFast, pipeline)
            .await;
        match &sent {
            Ok(_) => admission.succeeded(),
            // A refused command is an answer: Redis is there.
            Err(error) if error.is_timeout() || error.is_not_connected() => admission.failed(),
            Err(_) => admission.succeeded(),
        }
        sent
    }

    /// The same for what has to be tried whatever failed just before: an invalidation.
    pub(super) async fn insist(&self, pipeline: &Pipeline) -> Result<Replies, StoreError> {
        let within = self.deadline + self.connect_deadline;
        let sent = self.send_within(within, Patience::Insist, pipeline).await;
        if sent.is_ok() {
            self.breaker.close();
        }
        sent
    }

    async fn send_within(
        &self,
        deadline: Duration,
        patience: Patience,
        pipeline: &Pipeline,
    ) -> Result<Replies, StoreError> {
        let sent = async {
            let mut link = self.supervisor.link(patience).await?;
            let replies = pipeline.query_async::<Replies>(&mut link.connection).await;
            replies.map_err(|error| {
                if error.is_timeout() {
                    return StoreError::timeout();
                }
                if error.is_unrecoverable_error() {
                    link.give_up();
                    return StoreError::not_connected(Some(Arc::new(error)));
                }
                refused(error)
            })
        };
        match timeout(deadline, sent).await {
            Ok(replies) => replies,
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// A connection of its own, for what must not share one: `WAIT` blocks it.
    pub(super) async fn dedicated(
        &self,
        response: Duration,
    ) -> Result<MultiplexedConnection, StoreError> {
        self.supervisor.dedicated(response).await
    }
}

pub(super) fn refused(error: RedisError) -> StoreError {
    StoreError::refused(error)
}
