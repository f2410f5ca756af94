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
use super::handshake::Link;
use super::stealable::Stealable;
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
            supervisor: Supervisor::new(
                server,
                settings.deadlines,
                Arc::clone(&settings.access),
                heartbeat,
                session,
            ),
            breaker: Breaker::new(settings.breaker, settings.deadlines.response),
            deadlines: settings.deadlines,
        }
    }

    /// How long a command may take.
    pub(super) fn deadline(&self) -> Duration {
        self.deadlines.response
    }

    /// How long what has to be tried in any case may take: a connection may have to be made for it.
    fn longest(&self) -> Duration {
        self.deadlines.response + self.deadlines.connect
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
        Stealable::new(self.send_for(batch, 1)).await
    }

    /// The same for so many who share it, and whose time-outs the breaker counts each. For a task of the
    /// crate's own, which blocks no thread after it.
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

    /// The same for what has to be tried whatever failed just before.
    pub(super) async fn insist(
        &self,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        let write = Stealable::new(self.write(batch, patience));
        let sent = match timeout(self.longest(), write).await {
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
        write_to(&mut link, batch).await
    }

    /// Holds the connection that there is, or one that is made now.
    pub(super) async fn hold(self: &Arc<Self>) -> Result<Session, StoreError> {
        let link = self.supervisor.link(Patience::Insist);
        self.session(self.longest(), link).await
    }

    /// Holds a connection of its own, for what must not share one: `WAIT` blocks it, and counts only
    /// that connection's writes.
    pub(super) async fn hold_apart(self: &Arc<Self>) -> Result<Session, StoreError> {
        let link = self.supervisor.open_apart();
        self.session(self.deadlines.connect, link).await
    }

    async fn session(
        self: &Arc<Self>,
        within: Duration,
        link: impl Future<Output = Result<Link, StoreError>>,
    ) -> Result<Session, StoreError> {
        let link = match timeout(within, Stealable::new(link)).await {
            Ok(link) => link?,
            Err(_) => return Err(StoreError::timeout()),
        };
        Ok(Session {
            node: Arc::clone(self),
            link,
        })
    }
}

/// In one write, or in one for each stage if keys are apart there. To be called under a deadline.
async fn write_to(link: &mut Link, batch: &Batch) -> Result<Replies, StoreError> {
    if !(link.keys_are_apart && batch.has_stages()) {
        return write_at_once(link, batch).await;
    }
    let mut replies = Replies::new();
    for stage in batch.stages() {
        replies.append(&mut Box::pin(write_at_once(link, &stage)).await?);
        if batch.is_over(&mut replies) {
            break;
        }
    }
    Ok(replies)
}

async fn write_at_once(link: &mut Link, batch: &Batch) -> Result<Replies, StoreError> {
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

/// One connection, for commands that rely on what the commands before them did on the same server: a
/// scan's cursor, or deletions that `WAIT` confirms. It fails when its connection ends, and never
/// continues on another one: that may lead to another server.
pub(super) struct Session {
    node: Arc<Node>,
    link: Link,
}

impl Session {
    /// Sends the commands once, in one write, and gives each one's reply. They have as long as whatever
    /// has to be tried in any case.
    pub(super) async fn send(&mut self, batch: &Batch) -> Result<Replies, StoreError> {
        self.send_within(batch, self.node.longest()).await
    }

    /// Sends the commands like [`send`](Self::send), with a deadline of the caller's.
    pub(super) async fn send_within(
        &mut self,
        batch: &Batch,
        deadline: Duration,
    ) -> Result<Replies, StoreError> {
        // The connection may be the one that everything shares.
        let write = Stealable::new(write_to(&mut self.link, batch));
        let sent = match timeout(deadline, write).await {
            Ok(sent) => sent,
            Err(_) => Err(StoreError::timeout()),
        };
        if sent.is_ok() {
            self.node.breaker.close();
        }
        sent
    }
}

/// Names to be deleted durably by way of one server, each by a command of its own.
pub(super) struct DurableTarget {
    pub(super) node: Arc<Node>,
    pub(super) names: Vec<String>,
    pub(super) fence: String,
}
