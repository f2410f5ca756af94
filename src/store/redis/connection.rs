//! Where commands go: to one server, or to the nodes of a cluster that hold their keys.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::check::check;
#[cfg(feature = "redis-cluster")]
use super::cluster::client::Cluster;
use super::endpoint::Endpoint;
use super::settings::Settings;
use super::transport::batch::{Batch, Replies};
use super::transport::heartbeat::{Heartbeat, ServerKind};
use super::transport::node::{DurableTarget, Node, OnDisconnect, Session};
use super::transport::read_batcher::{ReadBatcher, ReadReply};
use super::transport::reply::confirmed;
#[cfg(feature = "redis-cluster")]
use super::transport::reply::{generation_beside, unexpected};
#[cfg(feature = "metrics")]
use crate::store::backend::Breakers;
use crate::store::error::StoreError;
use crate::store::watch::{Tracker, TrackingSession};

pub(super) struct Connection {
    /// The number of connections that were made, to any server.
    session: Arc<AtomicU64>,
    settings: Settings,
    to: To,
}

enum To {
    Server(Arc<Node>, Arc<ReadBatcher>),
    #[cfg(feature = "redis-cluster")]
    Cluster(Cluster),
}

impl Connection {
    pub(super) fn new(endpoint: Endpoint, settings: Settings) -> Self {
        let session = Arc::<AtomicU64>::default();
        let to = match endpoint {
            Endpoint::Server(server) => {
                let heartbeat = Heartbeat {
                    name: settings.keys.heartbeat(None),
                    // The slots of the tags are 9842 and 5649.
                    kind: ServerKind::Single(
                        ["1", "2"].map(|tag| settings.keys.heartbeat(Some(tag))),
                    ),
                };
                let node = Node::new(server, &settings, heartbeat, Arc::clone(&session));
                let node = Arc::new(node);
                To::Server(
                    Arc::clone(&node),
                    Arc::new(ReadBatcher::new(node, settings.keys.all())),
                )
            }
            #[cfg(feature = "redis-cluster")]
            Endpoint::Cluster(seeds) => {
                To::Cluster(Cluster::new(seeds, settings.clone(), Arc::clone(&session)))
            }
        };
        Self {
            session,
            settings,
            to,
        }
    }

    pub(super) fn is_cluster(&self) -> bool {
        !matches!(self.to, To::Server(..))
    }

    /// Returns how long an operation may take, including the commands that it sends again on a cluster.
    pub(super) fn operation_timeout(&self) -> Duration {
        let timeouts = self.settings.timeouts;
        2 * (timeouts.response + timeouts.connect)
    }

    /// Returns the number of connections that were made so far.
    pub(super) fn connections(&self) -> u64 {
        self.session.load(Ordering::SeqCst)
    }

    /// Counts the circuit breakers of its servers.
    #[cfg(feature = "metrics")]
    pub(super) fn breakers(&self) -> Breakers {
        let mut sums = Breakers::default();
        match &self.to {
            To::Server(node, _) => node.count_breaker(&mut sums),
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.count_breakers(&mut sums),
        }
        sums
    }

    /// Sends the commands once, in one write to each server, and returns each one's reply.
    pub(super) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        match &self.to {
            To::Server(node, _) => node.send(batch).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.send(batch).await,
        }
    }

    /// Returns what counts the pushes, if connections are tracked.
    pub(super) fn tracker(&self) -> Option<&Arc<Tracker>> {
        Some(&self.settings.tracking.as_ref()?.tracker)
    }

    /// Sends commands that read with tracking; see [`Node::send_tracked`]. Elsewhere than on one server nothing
    /// is tracked.
    pub(super) async fn send_tracked(
        &self,
        batch: &Batch,
    ) -> Result<(Replies, Option<Arc<TrackingSession>>), StoreError> {
        match &self.to {
            To::Server(node, _) => node.send_tracked(batch).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => Ok((cluster.send(batch).await?, None)),
        }
    }

    /// Sends the commands whatever failed before, and possibly twice: an invalidation.
    pub(super) async fn send_retrying(&self, batch: &Batch) -> Result<Replies, StoreError> {
        self.retry(batch, OnDisconnect::Reconnect).await
    }

    /// Sends commands that no caller waits for. They outlast failed attempts to connect.
    pub(super) async fn send_in_background(&self, batch: &Batch) -> Result<Replies, StoreError> {
        self.retry(batch, OnDisconnect::KeepReconnecting).await
    }

    async fn retry(
        &self,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        match &self.to {
            To::Server(node, _) => node.send_retrying(batch, on_disconnect).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.send_retrying(batch, on_disconnect).await,
        }
    }

    /// Begins a session, on a `dedicated` connection or on the shared one.
    ///
    /// # Errors
    /// Returns an error on a cluster, which is not one server.
    pub(super) async fn session(&self, dedicated: bool) -> Result<Session, StoreError> {
        match &self.to {
            To::Server(node, _) if dedicated => node.dedicated_session().await,
            To::Server(node, _) => node.session().await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => Err(StoreError::needs_one_server()),
        }
    }

    /// Reads the value of a key, and with it the generation of all entries. For a key that does not hold a string the
    /// reply may be `Nil`.
    pub(super) async fn get(&self, name: String, with_all: bool) -> Result<ReadReply, StoreError> {
        match &self.to {
            To::Server(_, reads) => reads.get(name, with_all).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => {
                let mut batch = Batch::new();
                batch.cmd("GET").arg(name);
                if with_all {
                    batch.cmd("GET").arg(self.settings.keys.all());
                }
                let mut replies = Box::pin(cluster.send(&batch)).await?.into_iter();
                let reply = replies.next().ok_or_else(unexpected)?;
                Ok((reply, replies.next().and_then(generation_beside)))
            }
        }
    }

    /// Returns the nodes where names are to be deleted durably. One server gets the given `fence`. A cluster
    /// is asked for its slots, and each node gets a fence in one of its own slots, another in each attempt.
    pub(super) async fn durable_targets(
        &self,
        names: &[String],
        fence: &str,
        attempt: u16,
    ) -> Result<Vec<DurableTarget>, StoreError> {
        #[cfg(not(feature = "redis-cluster"))]
        let _ = attempt;
        match &self.to {
            To::Server(node, _) => Ok(vec![DurableTarget {
                node: Arc::clone(node),
                names: names.to_vec(),
                fence: fence.to_owned(),
            }]),
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.durable_targets(names, attempt).await,
        }
    }

    /// Checks that every server accepts the commands that requests need.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        match &self.to {
            To::Server(node, _) => {
                let check = check(&self.settings.keys, None);
                confirmed(&node.send(&check).await?)
            }
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.check().await,
        }
    }
}
