//! Where commands go: to one server, or to the nodes of a cluster that their keys lie on.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use super::Settings;
use super::batch::{Batch, Replies};
use super::check::check;
#[cfg(feature = "redis-cluster")]
use super::cluster::Cluster;
use super::endpoint::Endpoint;
#[cfg(feature = "redis-cluster")]
use super::fault::unexpected;
use super::fault::{Replied, confirmed};
use super::gather::Gather;
use super::node::{DurableTarget, Node, Session};
use super::supervisor::{Heartbeat, Kind, Patience};
#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::StoreError;

pub(super) struct Connection {
    /// Counts the connections that were made, to whichever server.
    session: Arc<AtomicU64>,
    settings: Settings,
    to: To,
}

enum To {
    Server(Arc<Node>, Arc<Gather>),
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
                    // The tags' slots are 9842 and 5649.
                    of: Kind::Server(["1", "2"].map(|tag| settings.keys.heartbeat(Some(tag)))),
                };
                let node = Node::new(server, &settings, heartbeat, Arc::clone(&session));
                let node = Arc::new(node);
                To::Server(Arc::clone(&node), Arc::new(Gather::new(node)))
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

    /// How long an operation may take, with what it sends again elsewhere on a cluster.
    pub(super) fn deadline(&self) -> Duration {
        let deadlines = self.settings.deadlines;
        2 * (deadlines.response + deadlines.connect)
    }

    /// Counts connections.
    pub(super) fn session(&self) -> u64 {
        self.session.load(Ordering::SeqCst)
    }

    /// The breakers in front of its servers.
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

    /// Sends the commands once, in one write to each server, and gives each one's reply.
    pub(super) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        match &self.to {
            To::Server(node, _) => node.send(batch).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.send(batch).await,
        }
    }

    /// The same for what has to be tried whatever failed just before, and may be sent twice: an
    /// invalidation.
    pub(super) async fn insist(&self, batch: &Batch) -> Result<Replies, StoreError> {
        self.try_anyway(batch, Patience::Insist).await
    }

    /// The same for what nobody waits for: attempts to connect may fail meanwhile.
    pub(super) async fn persist(&self, batch: &Batch) -> Result<Replies, StoreError> {
        self.try_anyway(batch, Patience::Persist).await
    }

    async fn try_anyway(&self, batch: &Batch, patience: Patience) -> Result<Replies, StoreError> {
        match &self.to {
            To::Server(node, _) => node.insist(batch, patience).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => cluster.insist(batch, patience).await,
        }
    }

    /// Holds a connection to the server, `apart` from the one that everything shares, or that one. On a
    /// cluster there is no one server.
    pub(super) async fn hold(&self, apart: bool) -> Result<Session, StoreError> {
        match &self.to {
            To::Server(node, _) if apart => node.hold_apart().await,
            To::Server(node, _) => node.hold().await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(_) => Err(StoreError::unsupported()),
        }
    }

    /// What lies under a name; what is no string may look as if nothing did.
    pub(super) async fn get(&self, name: String) -> Result<Replied, StoreError> {
        match &self.to {
            To::Server(_, gather) => gather.get(name).await,
            #[cfg(feature = "redis-cluster")]
            To::Cluster(cluster) => {
                let mut batch = Batch::new();
                batch.cmd("GET").arg(name);
                cluster.send(&batch).await?.pop().ok_or_else(unexpected)
            }
        }
    }

    /// Where names are to be deleted durably. One server has the fence that is given; on a cluster,
    /// which is asked anew, each node has one in a slot of its own, another for each attempt.
    pub(super) async fn places(
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
            To::Cluster(cluster) => cluster.places(names, attempt).await,
        }
    }

    /// Whether every server that requests need takes the commands that requests need.
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
