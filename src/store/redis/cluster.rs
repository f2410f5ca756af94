//! A cluster: which node a command goes to, and what to do when that has changed.
//!
//! Not redis-rs' cluster client: while it connects to one node, or asks where the slots are, it sends
//! nothing to any, and a node that hangs keeps it doing both. Here each master has a connection, a
//! supervisor and a breaker of its own, so that a node in trouble costs its own keys' requests, and
//! the slots are asked for beside the requests.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use tokio::task::JoinSet;

use super::Settings;
use super::batch::{Batch, Replies};
use super::check::check;
use super::endpoint::cluster::Seeds;
use super::fault::{Fault, Replied, confirmed, unexpected};
use super::node::{DurableTarget, Node};
use super::slots::{Address, slot};
use super::supervisor::Patience;
use super::topology::{Map, Topology, nobodys};
#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::StoreError;

/// Clones share it.
#[derive(Clone)]
pub(super) struct Cluster {
    topology: Arc<Topology>,
}

impl Cluster {
    pub(super) fn new(seeds: Seeds, settings: Settings, session: Arc<AtomicU64>) -> Self {
        Self {
            topology: Arc::new(Topology::new(seeds, settings, session)),
        }
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        let map = self.topology.map().await?;
        self.by_map(&map, batch, Patience::FailFast).await
    }

    /// If it fails, the slots are asked for, and it is sent again if some of them have moved.
    pub(super) async fn insist(
        &self,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        let map = match self.topology.map().await {
            Ok(map) => map,
            Err(_) => self.topology.learn().await?,
        };
        let sent = self.by_map(&map, batch, patience).await;
        let lost = |reply: &Replied| is_misdirected(reply) || matches!(reply, Err(Fault::Lost(_)));
        if sent.as_ref().is_ok_and(|replies| !replies.iter().any(lost)) {
            return sent;
        }
        match self.topology.learn().await {
            Ok(fresh) if fresh.owners != map.owners => self.by_map(&fresh, batch, patience).await,
            _ => sent,
        }
    }

    /// Where names are, as the cluster says now. Each attempt has fences in other slots: the last one's
    /// may be on its way, where no new key is taken.
    pub(super) async fn places(
        &self,
        names: &[String],
        attempt: u16,
    ) -> Result<Vec<DurableTarget>, StoreError> {
        let map = self.topology.learn().await?;
        let mut places: Vec<DurableTarget> = Vec::new();
        for name in names {
            let owner = map.owners.of(slot(name.as_bytes())).ok_or_else(nobodys)?;
            let node = &map.masters[owner].node;
            let same = |place: &&mut DurableTarget| Arc::ptr_eq(&place.node, node);
            match places.iter_mut().find(same) {
                Some(place) => place.names.push(name.clone()),
                None => {
                    let tag = map.owners.tag(owner, u32::from(attempt) << 16);
                    let tag = tag.ok_or_else(nobodys)?;
                    places.push(DurableTarget {
                        node: Arc::clone(node),
                        names: vec![name.clone()],
                        fence: self.topology.settings.keys.node_fence(Some(&tag)),
                    });
                }
            }
        }
        Ok(places)
    }

    #[cfg(feature = "metrics")]
    pub(super) fn count_breakers(&self, sums: &mut Breakers) {
        self.topology.count_breakers(sums);
    }

    /// Every slot has an owner, and every owner takes the commands that requests need.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let map = self.topology.map().await?;
        if !map.owners.is_whole() {
            self.topology.learn_beside();
            return Err(nobodys());
        }
        let mut probes = JoinSet::new();
        for (owner, master) in map.masters.iter().enumerate() {
            let (cluster, map) = (self.clone(), Arc::clone(&map));
            let check = check(&self.topology.settings.keys, Some(&master.tag));
            probes.spawn(async move {
                let deliver = cluster.deliver(&map, Some(owner), &check, Patience::FailFast);
                confirmed(&deliver.await?)
            });
        }
        let failed = probes.join_all().await.into_iter().find_map(Result::err);
        if failed.is_some() {
            self.topology.learn_beside();
        }
        failed.map_or(Ok(()), Err)
    }

    async fn by_map(
        &self,
        map: &Arc<Map>,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        if !batch.has_stages() {
            return self.send_at_once(map, batch, patience).await;
        }
        let mut replies = Replies::with_capacity(batch.len());
        for stage in batch.stages() {
            replies.append(&mut self.send_at_once(map, &stage, patience).await?);
            if batch.is_over(&mut replies) {
                break;
            }
        }
        Ok(replies)
    }

    /// One write to each node. Where there are several, one that does not answer costs its own commands
    /// their replies, and not the others'.
    async fn send_at_once(
        &self,
        map: &Arc<Map>,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        let owner = |name: &[u8]| map.owners.of(slot(name));
        if let Some(owner) = batch.place(owner) {
            return self.deliver(map, owner, batch, patience).await;
        }
        let mut sending = JoinSet::new();
        for part in batch.parts(owner) {
            let (cluster, map) = (self.clone(), Arc::clone(map));
            sending.spawn(async move {
                let deliver = cluster.deliver(&map, part.place, &part.batch, patience);
                (part.positions, deliver.await)
            });
        }
        let mut placed = Vec::with_capacity(batch.len());
        for (positions, replies) in sending.join_all().await {
            match replies {
                Ok(replies) => placed.extend(positions.into_iter().zip(replies)),
                Err(error) => {
                    let lost = |at| (at, Err(Fault::Lost(error.clone())));
                    placed.extend(positions.into_iter().map(lost));
                }
            }
        }
        placed.sort_by_key(|(at, _)| *at);
        Ok(placed.into_iter().map(|(_, reply)| reply).collect())
    }

    /// A command that its slot's owner sends elsewhere was not executed, so that it may follow, once:
    /// also what is otherwise sent at most once.
    async fn deliver(
        &self,
        map: &Map,
        owner: Option<usize>,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        let Some(owner) = owner else {
            self.topology.learn_beside();
            return Err(nobodys());
        };
        let sent = by(&map.masters[owner].node, batch, patience).await;
        let mut replies = sent.inspect_err(|_| self.topology.learn_beside())?;
        for (at, reply) in replies.iter_mut().enumerate() {
            if !is_misdirected(reply) {
                continue;
            }
            // A slot that is on its way is still this owner's.
            if reply.as_ref().err().and_then(Fault::code) != Some("ASK") {
                self.topology.learn_beside();
            }
            let (asked, _) = &map.owners.masters()[owner];
            let Some((address, command)) = redirected(reply, asked, batch, at) else {
                continue;
            };
            let node = self.topology.node(address);
            *reply = match by(&node, &command, patience).await {
                Ok(mut replies) => replies.pop().unwrap_or(Err(Fault::Lost(unexpected()))),
                Err(error) => Err(Fault::Lost(error)),
            };
        }
        Ok(replies)
    }
}

/// Where a redirection sends a command, and as what. Without a host that is the host that gave it.
fn redirected(reply: &Replied, asked: &str, batch: &Batch, at: usize) -> Option<(Address, Batch)> {
    let Err(Fault::Refused(error)) = reply else {
        return None;
    };
    let (address, _) = error.redirect_node()?;
    // From behind: an IPv6 address has no brackets here.
    let (host, port) = address.rsplit_once(':')?;
    let host = match host {
        "" => asked,
        // It should have a name and has none: the next map has its IP address.
        "?" => return None,
        host => host,
    };
    let command = match error.code() {
        Some("ASK") => batch.asking(at),
        _ => batch.only(at),
    };
    Some(((host.to_owned(), port.parse().ok()?), command))
}

async fn by(node: &Node, batch: &Batch, patience: Patience) -> Result<Replies, StoreError> {
    match patience {
        Patience::FailFast => node.send(batch).await,
        Patience::Insist | Patience::Persist => node.insist(batch, patience).await,
    }
}

/// Whether the slot has moved, or nobody may speak for it now.
fn is_misdirected(reply: &Replied) -> bool {
    let code = reply.as_ref().err().and_then(Fault::code);
    matches!(code, Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN"))
}
