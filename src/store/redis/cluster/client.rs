//! The client of a cluster: finds the node that a command goes to, and follows slots that move.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::task::JoinSet;

use super::seeds::Seeds;
use super::slots::{Address, slot};
use super::topology::{Map, Topology, unowned};
#[cfg(feature = "metrics")]
use crate::store::backend::Breakers;
use crate::store::error::StoreError;
use crate::store::redis::check::check;
use crate::store::redis::settings::Settings;
use crate::store::redis::transport::batch::{Batch, Replies};
use crate::store::redis::transport::node::{DurableTarget, Node, OnDisconnect};
use crate::store::redis::transport::reply::{Reply, ReplyError, confirmed, unexpected};

/// A cluster. Clones share the connections.
#[derive(Clone)]
pub(crate) struct Cluster {
    topology: Arc<Topology>,
}

impl Cluster {
    pub(crate) fn new(seeds: Seeds, settings: Settings, session: Arc<AtomicU64>) -> Self {
        Self {
            topology: Arc::new(Topology::new(seeds, settings, session)),
        }
    }

    pub(crate) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        let map = self.topology.map().await?;
        self.send_by_map(&map, batch, OnDisconnect::Fail).await
    }

    /// Sends the commands whatever failed before. If they fail, the slots are asked for, and the commands are
    /// sent again if some slots have moved.
    pub(crate) async fn send_retrying(
        &self,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        let map = match self.topology.map().await {
            Ok(map) => map,
            Err(_) => self.topology.refresh().await?,
        };
        let sent = self.send_by_map(&map, batch, on_disconnect).await;
        let lost =
            |reply: &Reply| is_misdirected(reply) || matches!(reply, Err(ReplyError::NoReply(_)));
        if sent.as_ref().is_ok_and(|replies| !replies.iter().any(lost)) {
            return sent;
        }
        match self.topology.refresh().await {
            Ok(fresh) if fresh.owners != map.owners => {
                self.send_by_map(&fresh, batch, on_disconnect).await
            }
            _ => sent,
        }
    }

    /// Returns the nodes of the names, as the cluster says now. The fences of each attempt are in other slots:
    /// the slot of the last fence may be moving, and then takes no new key.
    pub(crate) async fn durable_targets(
        &self,
        names: &[String],
        attempt: u16,
    ) -> Result<Vec<DurableTarget>, StoreError> {
        let map = self.topology.refresh().await?;
        let mut targets: Vec<DurableTarget> = Vec::new();
        for name in names {
            let owner = map.owners.of(slot(name.as_bytes())).ok_or_else(unowned)?;
            let node = &map.masters[owner].node;
            let same = |target: &&mut DurableTarget| Arc::ptr_eq(&target.node, node);
            match targets.iter_mut().find(same) {
                Some(target) => target.names.push(name.clone()),
                None => {
                    // guard: C15
                    let tag = map.owners.tag(owner, u32::from(attempt) << 16);
                    let tag = tag.ok_or_else(unowned)?;
                    targets.push(DurableTarget {
                        node: Arc::clone(node),
                        names: vec![name.clone()],
                        fence: self.topology.settings.keys.node_fence(Some(&tag)),
                    });
                }
            }
        }
        Ok(targets)
    }

    #[cfg(feature = "metrics")]
    pub(crate) fn count_breakers(&self, sums: &mut Breakers) {
        self.topology.count_breakers(sums);
    }

    /// Checks that every slot has an owner, and that every owner accepts the commands that requests need.
    pub(crate) async fn check(&self) -> Result<(), StoreError> {
        let map = self.topology.map().await?;
        if !map.owners.is_whole() {
            self.topology.refresh_in_background();
            return Err(unowned());
        }
        let mut probes = JoinSet::new();
        // guard: C7
        for (owner, master) in map.masters.iter().enumerate() {
            let (cluster, map) = (self.clone(), Arc::clone(&map));
            let check = check(&self.topology.settings.keys, Some(&master.tag));
            probes.spawn(async move {
                let deliver = cluster.deliver(&map, Some(owner), &check, OnDisconnect::Fail);
                confirmed(&deliver.await?)
            });
        }
        let failed = probes.join_all().await.into_iter().find_map(Result::err);
        if failed.is_some() {
            self.topology.refresh_in_background();
        }
        failed.map_or(Ok(()), Err)
    }

    async fn send_by_map(
        &self,
        map: &Arc<Map>,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        if !batch.has_stages() {
            return self.send_stage(map, batch, on_disconnect).await;
        }
        let mut replies = Replies::with_capacity(batch.len());
        for stage in batch.stages() {
            replies.append(&mut self.send_stage(map, &stage, on_disconnect).await?);
            if batch.is_done(&mut replies) {
                break;
            }
        }
        Ok(replies)
    }

    /// Sends one write to each node. A node that does not answer does not affect the replies of others.
    async fn send_stage(
        &self,
        map: &Arc<Map>,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        let owner = |name: &[u8]| map.owners.of(slot(name));
        if let Some(owner) = batch.place(owner) {
            return self.deliver(map, owner, batch, on_disconnect).await;
        }
        let mut sending = JoinSet::new();
        for part in batch.parts(owner) {
            let (cluster, map) = (self.clone(), Arc::clone(map));
            sending.spawn(async move {
                let deliver = cluster.deliver(&map, part.place, &part.batch, on_disconnect);
                (part.positions, deliver.await)
            });
        }
        let mut placed = Vec::with_capacity(batch.len());
        for (positions, replies) in sending.join_all().await {
            match replies {
                Ok(replies) => placed.extend(positions.into_iter().zip(replies)),
                Err(error) => {
                    // guard: C3
                    let lost = |at| (at, Err(ReplyError::NoReply(error.clone())));
                    placed.extend(positions.into_iter().map(lost));
                }
            }
        }
        placed.sort_by_key(|(at, _)| *at);
        Ok(placed.into_iter().map(|(_, reply)| reply).collect())
    }

    /// Sends commands to the owner of their slots, and follows redirections, once. A redirected command was
    /// not executed, so that this is safe for commands that are sent at most once.
    async fn deliver(
        &self,
        map: &Map,
        owner: Option<usize>,
        batch: &Batch,
        on_disconnect: OnDisconnect,
    ) -> Result<Replies, StoreError> {
        let Some(owner) = owner else {
            self.topology.refresh_in_background();
            return Err(unowned());
        };
        let sent = send_to(&map.masters[owner].node, batch, on_disconnect).await;
        let mut replies = sent.inspect_err(|_| self.topology.refresh_in_background())?;
        for (at, reply) in replies.iter_mut().enumerate() {
            if !is_misdirected(reply) {
                continue;
            }
            // During ASK the slot still belongs to this owner.
            // guard: C14
            if reply.as_ref().err().and_then(ReplyError::code) != Some("ASK") {
                self.topology.refresh_in_background();
            }
            let (host, _) = &map.owners.masters()[owner];
            // guard: C4
            let Some((address, command)) = redirected(reply, host, batch, at) else {
                continue;
            };
            let node = self.topology.node(address);
            *reply = match send_to(&node, &command, on_disconnect).await {
                Ok(mut replies) => replies
                    .pop()
                    .unwrap_or(Err(ReplyError::NoReply(unexpected()))),
                Err(error) => Err(ReplyError::NoReply(error)),
            };
        }
        Ok(replies)
    }
}

/// Returns the address that a redirection names, and the command to send there. A redirection without a
/// host means the host that sent it.
fn redirected(reply: &Reply, sender: &str, batch: &Batch, at: usize) -> Option<(Address, Batch)> {
    let Err(ReplyError::Server(error)) = reply else {
        return None;
    };
    let (address, _) = error.redirect_node()?;
    // The last colon: an IPv6 address has no brackets here.
    let (host, port) = address.rsplit_once(':')?;
    let host = match host {
        // guard: C11
        "" => sender,
        // The node is configured to have a name, and has none: the next map has its IP address.
        "?" => return None,
        host => host,
    };
    let command = match error.code() {
        Some("ASK") => batch.asking(at),
        _ => batch.only(at),
    };
    Some(((host.to_owned(), port.parse().ok()?), command))
}

async fn send_to(
    node: &Node,
    batch: &Batch,
    on_disconnect: OnDisconnect,
) -> Result<Replies, StoreError> {
    match on_disconnect {
        OnDisconnect::Fail => node.send(batch).await,
        OnDisconnect::Reconnect | OnDisconnect::KeepReconnecting => {
            node.send_retrying(batch, on_disconnect).await
        }
    }
}

/// Returns whether the slot has moved, or has no owner that may execute the command now.
fn is_misdirected(reply: &Reply) -> bool {
    let code = reply.as_ref().err().and_then(ReplyError::code);
    matches!(code, Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN"))
}
