//! Where a cluster's slots are, and a connection to each node that owns some.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Settings;
use super::batch::Batch;
use super::endpoint::Server;
use super::endpoint::cluster::Seeds;
use super::fault::lost_or_refused;
use super::handshake::Opening;
use super::node::Node;
use super::slots::{Address, Owners};
use super::supervisor::{Heartbeat, Kind};
#[cfg(feature = "metrics")]
use crate::store::Breakers;
use crate::store::StoreError;
use crate::task::spawn_stealable;
use crate::util::lock;

/// Requests in trouble have the slots asked for no more often.
const PAUSE: Duration = Duration::from_millis(300);

/// So many nodes are asked for them at once, because any of them may hang.
const ASKED: usize = 3;

pub(super) struct Topology {
    seeds: Seeds,
    pub(super) settings: Settings,
    session: Arc<AtomicU64>,
    state: watch::Sender<State>,
    /// Those that are masters, and those that a redirection named.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    asked: Mutex<Asked>,
}

/// How often the slots were asked for, and when last.
#[derive(Default)]
struct Asked {
    rounds: usize,
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
pub(super) struct Map {
    /// Which round of asking this is the answer to.
    round: usize,
    pub(super) owners: Owners,
    /// By the owners' index.
    pub(super) masters: Vec<Master>,
}

pub(super) struct Master {
    pub(super) node: Arc<Node>,
    /// What makes a key one of this node's.
    pub(super) tag: String,
}

impl Topology {
    pub(super) fn new(seeds: Seeds, settings: Settings, session: Arc<AtomicU64>) -> Self {
        Self {
            seeds,
            settings,
            session,
            state: watch::channel(State::Unknown).0,
            nodes: Mutex::default(),
            asked: Mutex::default(),
        }
    }

    /// Where the slots are, waiting for the first answer, under the deadline of a command.
    pub(super) async fn map(self: &Arc<Self>) -> Result<Arc<Map>, StoreError> {
        let known = async {
            let mut state = self.state.subscribe();
            loop {
                match &*state.borrow_and_update() {
                    State::Known(map) => return Ok(Arc::clone(map)),
                    State::Failed(error) => {
                        let error = error.clone();
                        self.learn_beside();
                        return Err(error);
                    }
                    State::Unknown => self.learn_beside(),
                }
                if state.changed().await.is_err() {
                    return Err(StoreError::not_connected(None));
                }
            }
        };
        match timeout(self.settings.deadlines.response, known).await {
            Ok(map) => map,
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// Asks for the slots beside the requests, and not too often.
    pub(super) fn learn_beside(self: &Arc<Self>) {
        let mut asked = lock(&self.asked);
        if asked.last.is_some_and(|last| last.elapsed() < PAUSE) {
            return;
        }
        asked.last = Some(Instant::now());
        drop(asked);
        let shared = Arc::clone(self);
        spawn_stealable(async move { drop(shared.learn().await) });
    }

    /// Asks for them now.
    pub(super) async fn learn(&self) -> Result<Arc<Map>, StoreError> {
        let round = {
            let mut asked = lock(&self.asked);
            asked.rounds += 1;
            asked.last = Some(Instant::now());
            asked.rounds
        };
        let answer = self.ask(round).await;
        self.settle(round, answer)
    }

    fn settle(
        &self,
        round: usize,
        answer: Result<Owners, StoreError>,
    ) -> Result<Arc<Map>, StoreError> {
        let learnt = answer.map(|owners| Arc::new(self.map_of(round, owners)));
        self.state
            .send_if_modified(|state| match (&learnt, &*state) {
                // The answer to a later question.
                (_, State::Known(known)) if known.round > round => false,
                // What is known is worth more than nothing.
                (Err(_), State::Known(_)) => false,
                (Ok(map), _) => {
                    self.keep(map);
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

    /// The first answer that has all the slots counts: a node that is new to the cluster, or was left
    /// out of it, knows of some.
    async fn ask(&self, round: usize) -> Result<Owners, StoreError> {
        let mut asking = JoinSet::new();
        let opening = Opening {
            deadline: self.settings.deadlines.connect,
            access: Arc::clone(&self.settings.access),
            heartbeat: None,
            of_a_master: false,
        };
        for (host, port) in self.to_be_asked(round) {
            let (server, opening) = (self.seeds.server(&host, port), opening.clone());
            asking.spawn(async move {
                match timeout(opening.deadline, owners(&server, &host, &opening)).await {
                    Ok(owners) => owners,
                    Err(_) => Err(StoreError::timeout()),
                }
            });
        }
        let mut best: Option<Owners> = None;
        // The first: one that hangs does not hide what the others say.
        let mut failed = None;
        while let Some(answer) = asking.join_next().await {
            match answer {
                Ok(Ok(owners)) if owners.is_whole() => return Ok(owners),
                Ok(Ok(owners)) => best = best.into_iter().chain([owners]).max_by_key(Owners::len),
                Ok(Err(error)) => drop(failed.get_or_insert(error)),
                Err(_) => {}
            }
        }
        best.ok_or_else(|| failed.unwrap_or_else(|| StoreError::not_connected(None)))
    }

    /// The seeds and the nodes that are known, others in each round.
    fn to_be_asked(&self, round: usize) -> Vec<Address> {
        let mut addresses = self.seeds.addresses().to_vec();
        addresses.extend(lock(&self.nodes).keys().cloned());
        addresses.sort_unstable();
        addresses.dedup();
        let first = round.wrapping_mul(ASKED) % addresses.len();
        addresses.rotate_left(first);
        addresses.truncate(ASKED);
        addresses
    }

    /// Nodes that are known are the same in it, with their connections and breakers.
    fn map_of(&self, round: usize, owners: Owners) -> Map {
        let mut masters = Vec::with_capacity(owners.masters().len());
        for (address, tag) in owners.masters().iter().zip(owners.tags()) {
            let node = self.node(address.clone());
            masters.push(Master { node, tag });
        }
        Map {
            round,
            owners,
            masters,
        }
    }

    #[cfg(feature = "metrics")]
    pub(super) fn count_breakers(&self, sums: &mut Breakers) {
        for node in lock(&self.nodes).values() {
            node.count_breaker(sums);
        }
    }

    /// The nodes that there are, from now on: those of the map.
    fn keep(&self, map: &Map) {
        let mut nodes = lock(&self.nodes);
        nodes.clear();
        for (address, master) in map.owners.masters().iter().zip(&map.masters) {
            let heartbeat = self.settings.keys.heartbeat(Some(&master.tag));
            master.node.set_heartbeat(heartbeat);
            nodes.insert(address.clone(), Arc::clone(&master.node));
        }
    }

    /// The node at an address, whether it owns slots or a redirection named it.
    pub(super) fn node(&self, address: Address) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(&address) {
            return Arc::clone(node);
        }
        let server = self.seeds.server(&address.0, address.1);
        let heartbeat = Heartbeat {
            name: self.settings.keys.heartbeat(None),
            of: Kind::Node,
        };
        let session = Arc::clone(&self.session);
        let node = Arc::new(Node::new(server, &self.settings, heartbeat, session));
        nodes.insert(address, Arc::clone(&node));
        node
    }
}

/// Where the slots are, as one node says.
async fn owners(server: &Server, host: &str, opening: &Opening) -> Result<Owners, StoreError> {
    let mut connection = server.open(opening).await?.connection;
    let mut batch = Batch::new();
    batch.cmd("CLUSTER").arg("SLOTS");
    let replies = batch.send(&mut connection).await;
    let reply = replies.map_err(lost_or_refused)?.pop();
    let reply = reply.ok_or_else(nobodys)??;
    Owners::parse(&reply, host).ok_or_else(nobodys)
}

pub(super) fn nobodys() -> StoreError {
    StoreError::refused("no node of the cluster owns the slot")
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::store::keys::Keys;
    use crate::store::layout::KeyLayout;
    use crate::store::redis::breaker::BreakerSettings;
    use crate::store::redis::endpoint::{Deadlines, Endpoint};

    fn topology() -> Topology {
        let endpoint = Endpoint::parse("redis+cluster://seed");
        let Ok(Endpoint::Cluster(seeds)) = endpoint else {
            panic!("a cluster's URL");
        };
        let second = Duration::from_secs(1);
        let settings = Settings {
            deadlines: Deadlines {
                response: second,
                connect: second,
            },
            breaker: BreakerSettings {
                failures: 1,
                pause: second,
            },
            access: Arc::default(),
            keys: Arc::new(Keys::new("api_token".to_owned(), KeyLayout::digest()).unwrap()),
        };
        Topology::new(seeds, settings, Arc::default())
    }

    /// All the slots are one node's.
    fn owned_by(host: &str) -> Owners {
        let node = Value::Array(vec![
            Value::BulkString(host.as_bytes().to_vec()),
            Value::Int(6379),
        ]);
        let range = Value::Array(vec![Value::Int(0), Value::Int(16_383), node]);
        Owners::parse(&Value::Array(vec![range]), "asked").unwrap()
    }

    #[test]
    fn a_late_answer_to_an_early_question_changes_nothing() {
        let topology = topology();
        let known = topology.settle(2, Ok(owned_by("heir"))).unwrap();
        topology.settle(1, Ok(owned_by("old"))).unwrap();
        assert!(matches!(&*topology.state.borrow(), State::Known(map) if map.round == 2));
        let heir = topology.node(("heir".to_owned(), 6379));
        assert!(Arc::ptr_eq(&heir, &known.masters[0].node));
    }

    #[test]
    fn nodes_that_no_map_has_any_more_are_forgotten() {
        let topology = topology();
        topology.settle(1, Ok(owned_by("old"))).unwrap();
        topology.node(("invented".to_owned(), 6379));
        topology.settle(2, Ok(owned_by("heir"))).unwrap();
        let nodes = lock(&topology.nodes);
        let hosts: Vec<_> = nodes.keys().map(|(host, _)| host.as_str()).collect();
        assert_eq!(hosts, ["heir"]);
    }
}
