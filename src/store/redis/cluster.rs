//! A cluster: which node a command goes to, and what to do when that has changed.
//!
//! Not redis-rs' cluster client: while it connects to one node, or asks where the slots are, it sends
//! nothing to any, and a node that hangs keeps it doing both. Here each master has a connection, a
//! supervisor and a breaker of its own, so that a node in trouble costs its own keys' requests, and
//! the slots are asked for beside the requests.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use redis::{AsyncConnectionConfig, Value};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::batch::{Batch, Replies};
use super::connection::{Place, probe};
use super::endpoint::cluster::Seeds;
use super::fault::{Fault, Replied, lost_or_refused};
use super::node::Node;
use super::slots::{Address, Owners, slot};
use super::supervisor::{Heartbeat, Patience};
use super::{Settings, lock};
use crate::store::StoreError;

/// Requests in trouble have the slots asked for no more often.
const PAUSE: Duration = Duration::from_millis(300);

/// So many nodes are asked for them at once, because any of them may hang.
const ASKED: usize = 3;

pub(super) struct Cluster {
    shared: Arc<Shared>,
}

struct Shared {
    seeds: Seeds,
    settings: Settings,
    session: Arc<AtomicU64>,
    state: watch::Sender<State>,
    /// Those that are masters, and those that a redirection named.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    asked: Mutex<Asked>,
}

/// How often the slots were asked for, and when last.
#[derive(Default)]
struct Asked {
    times: usize,
    last: Option<Instant>,
}

enum State {
    /// Nobody has said yet where the slots are.
    Unknown,
    Known(Arc<Map>),
    /// Nobody was there who could.
    Failed(StoreError),
}

/// Where the slots are.
struct Map {
    /// Which time of asking this is the answer to.
    time: usize,
    owners: Owners,
    /// By the owners' index.
    masters: Vec<Master>,
}

struct Master {
    node: Arc<Node>,
    /// What makes a key one of this node's.
    tag: String,
}

impl Map {
    fn owner(&self, name: &[u8]) -> Option<&Master> {
        self.owners.of(slot(name)).map(|owner| &self.masters[owner])
    }
}

impl Cluster {
    pub(super) fn new(seeds: Seeds, settings: Settings, session: Arc<AtomicU64>) -> Self {
        Self {
            shared: Arc::new(Shared {
                seeds,
                settings,
                session,
                state: watch::channel(State::Unknown).0,
                nodes: Mutex::default(),
                asked: Mutex::default(),
            }),
        }
    }

    pub(super) async fn send(&self, batch: &Batch) -> Result<Replies, StoreError> {
        let map = self.map().await?;
        self.shared.send(&map, batch, Patience::FailFast).await
    }

    /// If it fails, the slots are asked for, and it is sent again if some of them have moved.
    pub(super) async fn insist(&self, batch: &Batch) -> Result<Replies, StoreError> {
        let map = match self.map().await {
            Ok(map) => map,
            Err(_) => self.shared.learn().await?,
        };
        let sent = self.shared.send(&map, batch, Patience::Insist).await;
        let lost = |reply: &Replied| is_misdirected(reply) || matches!(reply, Err(Fault::Lost(_)));
        if sent.as_ref().is_ok_and(|replies| !replies.iter().any(lost)) {
            return sent;
        }
        match self.shared.learn().await {
            Ok(fresh) if fresh.owners != map.owners => {
                self.shared.send(&fresh, batch, Patience::Insist).await
            }
            _ => sent,
        }
    }

    /// Where names are, as the cluster says now.
    pub(super) async fn places(&self, names: &[String]) -> Result<Vec<Place>, StoreError> {
        let map = self.shared.learn().await?;
        let mut places: Vec<Place> = Vec::new();
        for name in names {
            let owner = map.owner(name.as_bytes()).ok_or_else(nobodys)?;
            let same = |place: &&mut Place| Arc::ptr_eq(&place.node, &owner.node);
            // One command each: names of several slots cannot share one.
            let deletion = vec![name.clone()];
            match places.iter_mut().find(same) {
                Some(place) => place.deletions.push(deletion),
                None => places.push(Place {
                    node: Arc::clone(&owner.node),
                    deletions: vec![deletion],
                    fence: self.shared.settings.keys.node_fence(&owner.tag),
                }),
            }
        }
        Ok(places)
    }

    /// Every slot has an owner, and every owner takes a write.
    pub(super) async fn check(&self) -> Result<(), StoreError> {
        let map = self.map().await?;
        if !map.owners.is_whole() {
            self.shared.learn_beside();
            return Err(nobodys());
        }
        let mut probes = JoinSet::new();
        for master in &map.masters {
            let node = Arc::clone(&master.node);
            let name = self.shared.settings.keys.probe(Some(&master.tag));
            probes.spawn(async move { probe(&node, &name).await });
        }
        let failed = probes.join_all().await.into_iter().find_map(Result::err);
        if failed.is_some() {
            self.shared.learn_beside();
        }
        failed.map_or(Ok(()), Err)
    }

    /// Where the slots are, waiting for the first answer, under the deadline of a command.
    async fn map(&self) -> Result<Arc<Map>, StoreError> {
        let known = async {
            let mut state = self.shared.state.subscribe();
            loop {
                match &*state.borrow_and_update() {
                    State::Known(map) => return Ok(Arc::clone(map)),
                    State::Failed(error) => {
                        let error = error.clone();
                        self.shared.learn_beside();
                        return Err(error);
                    }
                    State::Unknown => self.shared.learn_beside(),
                }
                if state.changed().await.is_err() {
                    return Err(StoreError::not_connected(None));
                }
            }
        };
        match timeout(self.shared.settings.deadlines.response, known).await {
            Ok(map) => map,
            Err(_) => Err(StoreError::timeout()),
        }
    }
}

impl Shared {
    async fn send(
        self: &Arc<Self>,
        map: &Map,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        if !batch.is_ordered() {
            return self.send_at_once(map, batch, patience).await;
        }
        let mut replies = Vec::with_capacity(batch.len());
        for command in batch.singly() {
            replies.append(&mut self.send_at_once(map, &command, patience).await?);
        }
        Ok(replies)
    }

    /// One write to each node. Where there are several, one that does not answer costs its own commands
    /// their replies, and not the others'.
    async fn send_at_once(
        self: &Arc<Self>,
        map: &Map,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        let owner = |name: &[u8]| map.owners.of(slot(name));
        let node = |owner: Option<usize>| owner.map(|owner| Arc::clone(&map.masters[owner].node));
        if let Some(owner) = batch.place(owner) {
            return self.deliver(node(owner), batch, patience).await;
        }
        let mut sending = JoinSet::new();
        for part in batch.parts(owner) {
            let (shared, node) = (Arc::clone(self), node(part.place));
            sending.spawn(async move {
                let replies = shared.deliver(node, &part.batch, patience).await;
                (part.positions, replies)
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
        self: &Arc<Self>,
        node: Option<Arc<Node>>,
        batch: &Batch,
        patience: Patience,
    ) -> Result<Replies, StoreError> {
        let Some(node) = node else {
            self.learn_beside();
            return Err(nobodys());
        };
        let sent = by(&node, batch, patience).await;
        let mut replies = sent.inspect_err(|_| self.learn_beside())?;
        for (at, reply) in replies.iter_mut().enumerate() {
            if is_misdirected(reply) {
                self.learn_beside();
                self.follow(reply, batch, at, patience).await;
            }
        }
        Ok(replies)
    }

    async fn follow(&self, reply: &mut Replied, batch: &Batch, at: usize, patience: Patience) {
        let Err(Fault::Refused(error)) = &*reply else {
            return;
        };
        let Some((host, port)) = error
            .redirect_node()
            .and_then(|(address, _)| address.rsplit_once(':'))
        else {
            return;
        };
        // Without a host it is the one that answered, of which the next map will tell.
        let Some(port) = port.parse().ok().filter(|_| !host.is_empty()) else {
            return;
        };
        let Ok(node) = self.node((host.to_owned(), port)) else {
            return;
        };
        let command = if error.code() == Some("ASK") {
            batch.asking(at)
        } else {
            batch.only(at)
        };
        *reply = match by(&node, &command, patience).await {
            Ok(mut replies) => replies.pop().unwrap_or(Ok(Value::Nil)),
            Err(error) => Err(Fault::Lost(error)),
        };
    }

    /// Asks for the slots beside the requests, and not too often.
    fn learn_beside(self: &Arc<Self>) {
        let mut asked = lock(&self.asked);
        if asked.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        asked.last = Some(Instant::now());
        drop(asked);
        let shared = Arc::clone(self);
        tokio::spawn(async move { shared.learn().await });
    }

    async fn learn(&self) -> Result<Arc<Map>, StoreError> {
        let time = {
            let mut asked = lock(&self.asked);
            asked.times += 1;
            asked.last = Some(Instant::now());
            asked.times
        };
        let learnt = match self.ask(time).await {
            Ok(owners) => self.map_of(time, owners).map(Arc::new),
            Err(error) => Err(error),
        };
        self.state
            .send_if_modified(|state| match (&learnt, &*state) {
                // The answer to a later question.
                (_, State::Known(known)) if known.time > time => false,
                // What is known is worth more than nothing.
                (Err(_), State::Known(_)) => false,
                (Ok(map), _) => {
                    *state = State::Known(Arc::clone(map));
                    true
                }
                (Err(error), _) => {
                    *state = State::Failed(error.clone());
                    true
                }
            });
        learnt
    }

    /// The first answer counts.
    async fn ask(&self, time: usize) -> Result<Owners, StoreError> {
        let mut asking = JoinSet::new();
        for (host, port) in self.to_be_asked(time) {
            let (seeds, deadline) = (self.seeds.clone(), self.settings.deadlines.connect);
            asking.spawn(async move {
                match timeout(deadline, owners(&seeds, &host, port)).await {
                    Ok(owners) => owners,
                    Err(_) => Err(StoreError::timeout()),
                }
            });
        }
        let mut failed = StoreError::not_connected(None);
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(owners)) => return Ok(owners),
                Ok(Err(error)) => failed = error,
                Err(_) => {}
            }
        }
        Err(failed)
    }

    /// The seeds and the nodes that are known, others each time.
    fn to_be_asked(&self, time: usize) -> Vec<Address> {
        let mut addresses = self.seeds.addresses().to_vec();
        addresses.extend(lock(&self.nodes).keys().cloned());
        addresses.sort_unstable();
        addresses.dedup();
        let first = time.wrapping_mul(ASKED) % addresses.len();
        addresses.rotate_left(first);
        addresses.truncate(ASKED);
        addresses
    }

    /// Nodes that are known keep their connections and breakers.
    fn map_of(&self, time: usize, owners: Owners) -> Result<Map, StoreError> {
        let mut masters = Vec::with_capacity(owners.masters().len());
        for (address, tag) in owners.masters().iter().zip(owners.tags()) {
            let node = self.node(address.clone())?;
            node.set_heartbeat(self.settings.keys.heartbeat(Some(&tag)));
            masters.push(Master { node, tag });
        }
        let mut nodes = lock(&self.nodes);
        nodes.retain(|address, _| owners.masters().contains(address));
        drop(nodes);
        Ok(Map {
            time,
            owners,
            masters,
        })
    }

    fn node(&self, address: Address) -> Result<Arc<Node>, StoreError> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(&address) {
            return Ok(Arc::clone(node));
        }
        let server = self.seeds.server(&address.0, address.1);
        let heartbeat = Heartbeat {
            name: self.settings.keys.heartbeat(None),
            may_move: true,
        };
        let session = Arc::clone(&self.session);
        let server = server.map_err(lost_or_refused)?;
        let node = Arc::new(Node::new(server, &self.settings, heartbeat, session));
        nodes.insert(address, Arc::clone(&node));
        Ok(node)
    }
}

async fn by(node: &Node, batch: &Batch, patience: Patience) -> Result<Replies, StoreError> {
    match patience {
        Patience::FailFast => node.send(batch).await,
        Patience::Insist => node.insist(batch).await,
    }
}

/// Where the slots are, as one node says.
async fn owners(seeds: &Seeds, host: &str, port: u16) -> Result<Owners, StoreError> {
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(None)
        .set_response_timeout(None);
    let server = seeds.server(host, port).map_err(lost_or_refused)?;
    let mut connection = server.open(&config).await.map_err(lost_or_refused)?;
    let mut batch = Batch::new();
    batch.cmd("CLUSTER").arg("SLOTS");
    let replies = batch.send(&mut connection).await;
    let reply = replies.map_err(lost_or_refused)?.pop();
    let reply = reply.ok_or_else(nobodys)??;
    Owners::parse(&reply, host).ok_or_else(nobodys)
}

fn nobodys() -> StoreError {
    StoreError::refused("no node of the cluster owns the slot")
}

/// Whether the slot has moved, or nobody may speak for it now.
fn is_misdirected(reply: &Replied) -> bool {
    let code = reply.as_ref().err().and_then(Fault::code);
    matches!(code, Some("MOVED" | "ASK" | "CLUSTERDOWN" | "TRYAGAIN"))
}
