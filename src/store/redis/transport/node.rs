//! One server: its supervised connection behind its circuit breaker.

use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use tokio::time::timeout;

use super::batch::{Batch, Replies};
use super::breaker::Breaker;
use super::heartbeat::Heartbeat;
use super::link::Link;
use super::reply::send_failed;
use super::server::Server;
use super::stealable::Stealable;
pub(crate) use super::supervisor::OnDisconnect;
use super::supervisor::Supervisor;
#[cfg(feature = "metrics")]
use crate::store::backend::Breakers;
use crate::store::error::StoreError;
use crate::store::redis::settings::{Settings, Timeouts};
use crate::store::watch::TrackingSession;

pub(crate) struct Node {
    supervisor: Supervisor,
    breaker: Breaker,
    timeouts: Timeouts,
}

impl Node {
    pub(crate) fn new(
        server: Server,
        settings: &Settings,
        heartbeat: Heartbeat,
        session: Arc<AtomicU64>,
    ) -> Self {
        Self {
            supervisor: Supervisor::new(server, settings, heartbeat, session),
            breaker: Breaker::new(settings.breaker, settings.timeouts.response),
            timeouts: settings.timeouts,
        }
    }

    /// Returns how long a command may take.
    pub(crate) fn response_timeout(&self) -> Duration {
        self.timeouts.response
    }

    /// Returns how long a command may take that first waits for a connection.
    fn retry_timeout(&self) -> Duration {
        self.timeouts.response + self.timeouts.connect
    }

    /// Sets the key that the next heartbeats delete.
    #[cfg(feature = "redis-cluster")]
    pub(crate) fn set_heartbeat(&self, name: String) {
        self.supervisor.set_heartbeat(name);
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn count_breaker(&self, sums: &mut Breakers) {
        self.breaker.count(sums);
    }

    /// Sends the commands once, in one write, and returns each one's reply. The timeout includes the wait
    /// for a connection.
    pub(crate) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        // guard: J10
        Stealable::new(pin!(self.send_for(batch, 1))).await
    }

    /// Sends commands that `callers` share. The breaker counts a timeout once for each of them. Only for
    /// tasks of this crate, which do not block their thread afterwards.
    pub(crate) async fn send_for(
        &self,
        batch: &Batch,
        callers: usize,
    ) -> Result<Replies, StoreError> {
        // Pinned where they are: futures that are passed on by value are copied each time.
        let write = pin!(self.write(batch, OnDisconnect::Fail));
        self.admit(callers, write).await
    }

    /// Sends commands that read with tracking. Returns with the replies the session of the connection that they
    /// went over, if that is tracked.
    pub(crate) async fn send_tracked(
        &self,
        batch: &Batch,
    ) -> Result<(Replies, Option<Arc<TrackingSession>>), StoreError> {
        let write = async {
            let mut link = self.supervisor.link(OnDisconnect::Fail).await?;
            let replies = write_to(&mut link, batch).await?;
            // guard: TR6
            Ok((replies, link.session))
        };
        Stealable::new(pin!(self.admit(1, pin!(write)))).await
    }

    /// Sends for `callers`, if the breaker admits it.
    async fn admit<T>(
        &self,
        callers: usize,
        write: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // guard: C1
        let admission = self.breaker.admit()?;
        let sent = match timeout(self.timeouts.response, write).await {
            Ok(sent) => sent,
            Err(_) => Err(StoreError::timeout()),
        };
        match &sent {
            // guard: O7 C2
            Err(error) if error.is_timeout() => admission.failed(callers),
            // Without a connection, commands fail at once, and the supervisor knows when there is one again:
            // the breaker would spare nothing.
            Err(error) if error.is_not_connected() => drop(admission),
            // An error reply shows that Redis answers.
            Ok(_) | Err(_) => admission.succeeded(),
        }
        sent
    }

    /// Sends the commands whatever failed before, also while the breaker is open.
    pub(crate) async fn send_retrying(
        &self,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        let write = Stealable::new(self.write(batch, on_disconnect));
        let sent = match timeout(self.retry_timeout(), write).await {
            Ok(sent) => sent,
            Err(_) => Err(StoreError::timeout()),
        };
        if sent.is_ok() {
            self.breaker.close();
        }
        sent
    }

    /// Sends the commands over the supervised connection. The caller limits the time.
    async fn write(
        &self,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        // guard: C8
        let mut link = self.supervisor.link(on_disconnect).await?;
        write_to(&mut link, batch).await
    }

    /// Begins a session on the supervised connection.
    pub(crate) async fn session(self: &Arc<Self>) -> Result<Session, StoreError> {
        let link = self.supervisor.link(OnDisconnect::Reconnect);
        self.begin_session(self.retry_timeout(), link).await
    }

    /// Begins a session on a connection of its own, for commands that must not share one: `WAIT` blocks its
    /// connection, and only counts that connection's writes.
    pub(crate) async fn dedicated_session(self: &Arc<Self>) -> Result<Session, StoreError> {
        let link = self.supervisor.open_dedicated();
        self.begin_session(self.timeouts.connect, link).await
    }

    async fn begin_session(
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

/// Sends the commands in one write, or in one for each stage if the server is a cluster. The caller limits
/// the time.
async fn write_to(link: &mut Link, batch: &Batch) -> Result<Replies, StoreError> {
    if !(link.is_clustered && batch.has_stages()) {
        return write_stage(link, batch).await;
    }
    let mut replies = Replies::new();
    for stage in batch.stages() {
        replies.append(&mut Box::pin(write_stage(link, &stage)).await?);
        if batch.is_done(&mut replies) {
            break;
        }
    }
    Ok(replies)
}

async fn write_stage(link: &mut Link, batch: &Batch) -> Result<Replies, StoreError> {
    batch.send(&mut link.connection).await.map_err(|error| {
        if error.is_timeout() {
            return StoreError::timeout();
        }
        if error.is_unrecoverable_error() {
            link.give_up();
        }
        send_failed(error)
    })
}

/// One connection, for commands that rely on the effects of earlier ones on the same server: a scan's
/// cursor, or deletions that `WAIT` confirms. It fails when its connection ends, and never continues on
/// another connection, which may lead to another server.
pub(crate) struct Session {
    node: Arc<Node>,
    link: Link,
}

impl Session {
    /// Sends the commands once, in one write, and returns each one's reply.
    pub(crate) async fn send(&mut self, batch: &Batch) -> Result<Replies, StoreError> {
        self.send_within(batch, self.node.retry_timeout()).await
    }

    /// Sends the commands, which may take as long as `within`.
    pub(crate) async fn send_within(
        &mut self,
        batch: &Batch,
        within: Duration,
    ) -> Result<Replies, StoreError> {
        // The connection may be the shared one.
        // guard: J12 W5
        let write = Stealable::new(write_to(&mut self.link, batch));
        let sent = match timeout(within, write).await {
            Ok(sent) => sent,
            Err(_) => Err(StoreError::timeout()),
        };
        if sent.is_ok() {
            self.node.breaker.close();
        }
        sent
    }
}

/// A node, and the names that a deletion which replicas acknowledge deletes there.
pub(crate) struct DurableTarget {
    pub(crate) node: Arc<Node>,
    pub(crate) names: Vec<String>,
    pub(crate) fence: String,
}
