//! The owners of a cluster's slots, and a connection to each.

use std::collections::HashMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::seeds::Seeds;
use super::slots::{Address, Owners};
#[cfg(feature = "metrics")]
use crate::store::backend::Breakers;
use crate::store::error::StoreError;
use crate::store::redis::settings::Settings;
use crate::store::redis::transport::batch::Batch;
use crate::store::redis::transport::handshake::ConnectOptions;
use crate::store::redis::transport::heartbeat::{Heartbeat, ServerKind};
use crate::store::redis::transport::node::Node;
use crate::store::redis::transport::reply::send_failed;
use crate::store::redis::transport::server::Server;
use crate::util::lock;
use crate::util::task::spawn_stealable;

/// The shortest time between two refreshes that failed requests cause.
const REFRESH_INTERVAL: Duration = Duration::from_millis(300);

/// How many nodes are asked for the slots at once: each of them may hang.
const NODES_ASKED: usize = 3;

pub(crate) struct Topology {
    seeds: Seeds,
    pub(crate) settings: Settings,
    session: Arc<AtomicU64>,
    state: watch::Sender<State>,
    /// The masters, and the nodes that a redirection named.
    nodes: Mutex<HashMap<Address, Arc<Node>>>,
    refreshes: Mutex<Refreshes>,
}

#[derive(Default)]
struct Refreshes {
    count: usize,
    last: Option<Instant>,
}

enum State {
    /// No node has answered yet.
    Unknown,
    Known(Arc<Map>),
    /// No node answered, and none has before.
    Failed(StoreError),
}

/// The owners of the slots, with a connection to each.
pub(crate) struct Map {
    /// The number of the refresh that this is the answer to.
    round: usize,
    pub(crate) owners: Owners,
    /// The masters, by their index in `owners`.
    pub(crate) masters: Vec<Master>,
}

pub(crate) struct Master {
    pub(crate) node: Arc<Node>,
    /// A hash tag that this node owns the slot of.
    pub(crate) tag: String,
}

impl Topology {
    pub(crate) fn new(seeds: Seeds, settings: Settings, session: Arc<AtomicU64>) -> Self {
        Self {
            seeds,
            settings,
            session,
            state: watch::channel(State::Unknown).0,
            nodes: Mutex::default(),
            refreshes: Mutex::default(),
        }
    }

    /// Returns the map, or waits for the first one, for as long as a command may take.
    pub(crate) async fn map(self: &Arc<Self>) -> Result<Arc<Map>, StoreError> {
        let known = async {
            let mut state = self.state.subscribe();
            loop {
                match &*state.borrow_and_update() {
                    State::Known(map) => return Ok(Arc::clone(map)),
                    State::Failed(error) => {
                        let error = error.clone();
                        self.refresh_in_background();
                        return Err(error);
                    }
                    State::Unknown => self.refresh_in_background(),
                }
                if state.changed().await.is_err() {
                    return Err(StoreError::not_connected(None));
                }
            }
        };
        match timeout(self.settings.timeouts.response, known).await {
            Ok(map) => map,
            Err(_) => Err(StoreError::timeout()),
        }
    }

    /// Asks for the slots in a task, at most once per [`REFRESH_INTERVAL`].
    pub(crate) fn refresh_in_background(self: &Arc<Self>) {
        let mut refreshes = lock(&self.refreshes);
        if refreshes
            .last
            .is_some_and(|last| last.elapsed() < REFRESH_INTERVAL)
        {
            return;
        }
        refreshes.last = Some(Instant::now());
        drop(refreshes);
        let shared = Arc::clone(self);
        spawn_stealable(async move { drop(shared.refresh().await) });
    }

    /// Asks for the slots now.
    pub(crate) async fn refresh(&self) -> Result<Arc<Map>, StoreError> {
        let round = self.begin_round();
        let answer = self.ask(round).await;
        self.apply(round, answer)
    }

    /// Returns the number of a new refresh, which is later than all before.
    fn begin_round(&self) -> usize {
        let mut refreshes = lock(&self.refreshes);
        refreshes.count += 1;
        refreshes.last = Some(Instant::now());
        refreshes.count
    }

    /// Publishes the answer to a refresh, unless a later one is known.
    fn apply(
        &self,
        round: usize,
        answer: Result<Owners, StoreError>,
    ) -> Result<Arc<Map>, StoreError> {
        let map = answer.map(|owners| Arc::new(self.map_of(round, owners)));
        self.state.send_if_modified(|state| match (&map, &*state) {
            // The answer to a later refresh is known.
            (_, State::Known(known)) if known.round > round => false,
            // A map is better than none.
            (Err(_), State::Known(_)) => false,
            (Ok(map), _) => {
                self.retain(map);
                *state = State::Known(Arc::clone(map));
                true
            }
            (Err(error), _) => {
                *state = State::Failed(error.clone());
                true
            }
        });
        map
    }

    /// Returns the first answer that has all the slots, or the one with most: a node that is new to the
    /// cluster, or was removed from it, knows some of them.
    async fn ask(&self, round: usize) -> Result<Owners, StoreError> {
        let mut asking = JoinSet::new();
        let options = ConnectOptions {
            timeout: self.settings.timeouts.connect,
            access: Arc::clone(&self.settings.access),
            heartbeat: None,
            tracking: None,
            must_be_master: false,
        };
        for (host, port) in self.addresses_to_ask(round) {
            let (server, options) = (self.seeds.server(&host, port), options.clone());
            asking.spawn(async move {
                match timeout(options.timeout, owners(&server, &host, &options)).await {
                    Ok(owners) => owners,
                    Err(_) => Err(StoreError::timeout()),
                }
            });
        }
        let mut best: Option<Owners> = None;
        // The first error, so that a node that hangs does not hide the others' errors.
        let mut failed = None;
        while let Some(answer) = asking.join_next().await {
            match answer {
                // guard: C12
                Ok(Ok(owners)) if owners.is_whole() => return Ok(owners),
                Ok(Ok(owners)) => best = best.into_iter().chain([owners]).max_by_key(Owners::len),
                // guard: A10
                Ok(Err(error)) => drop(failed.get_or_insert(error)),
                Err(_) => {}
            }
        }
        best.ok_or_else(|| failed.unwrap_or_else(|| StoreError::not_connected(None)))
    }

    /// Returns some of the seeds and the known nodes, others in each round.
    fn addresses_to_ask(&self, round: usize) -> Vec<Address> {
        let mut addresses = self.seeds.addresses().to_vec();
        addresses.extend(lock(&self.nodes).keys().cloned());
        addresses.sort_unstable();
        addresses.dedup();
        let first = round.wrapping_mul(NODES_ASKED) % addresses.len();
        addresses.rotate_left(first);
        addresses.truncate(NODES_ASKED);
        addresses
    }

    /// Creates a map. Known nodes keep their connections and breakers.
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
    pub(crate) fn count_breakers(&self, sums: &mut Breakers) {
        for node in lock(&self.nodes).values() {
            node.count_breaker(sums);
        }
    }

    /// Forgets the nodes that are not in the map.
    fn retain(&self, map: &Map) {
        let mut nodes = lock(&self.nodes);
        nodes.clear();
        for (address, master) in map.owners.masters().iter().zip(&map.masters) {
            let heartbeat = self.settings.keys.heartbeat(Some(&master.tag));
            master.node.set_heartbeat(heartbeat);
            nodes.insert(address.clone(), Arc::clone(&master.node));
        }
    }

    /// Returns the node at an address, which owns slots or was named by a redirection.
    pub(crate) fn node(&self, address: Address) -> Arc<Node> {
        let mut nodes = lock(&self.nodes);
        if let Some(node) = nodes.get(&address) {
            return Arc::clone(node);
        }
        let server = self.seeds.server(&address.0, address.1);
        let heartbeat = Heartbeat {
            name: self.settings.keys.heartbeat(None),
            kind: ServerKind::Node,
        };
        let session = Arc::clone(&self.session);
        let node = Arc::new(Node::new(server, &self.settings, heartbeat, session));
        nodes.insert(address, Arc::clone(&node));
        node
    }
}

/// Asks a node for the owners of the slots.
async fn owners(
    server: &Server,
    host: &str,
    options: &ConnectOptions,
) -> Result<Owners, StoreError> {
    let mut connection = server.open(options).await?.connection;
    let mut batch = Batch::new();
    batch.cmd("CLUSTER").arg("SLOTS");
    let replies = batch.send(&mut connection).await;
    let reply = replies.map_err(send_failed)?.pop();
    let reply = reply.ok_or_else(unowned)??;
    Owners::parse(&reply, host).ok_or_else(unowned)
}

pub(crate) fn unowned() -> StoreError {
    StoreError::server("no node of the cluster owns the slot")
}

#[cfg(test)]
mod tests {
    use redis::Value;

    use super::*;
    use crate::store::keys::Keys;
    use crate::store::layout::KeyLayout;
    use crate::store::redis::settings::{BreakerSettings, Timeouts};

    fn topology() -> Topology {
        let seeds = Seeds::parse("redis+cluster", "127.0.0.1:1").unwrap();
        let second = Duration::from_secs(1);
        let settings = Settings {
            timeouts: Timeouts {
                response: second,
                connect: second,
            },
            breaker: BreakerSettings {
                failures: 1,
                pause: second,
            },
            access: Arc::default(),
            keys: Arc::new(Keys::new("api_token".to_owned(), KeyLayout::digest()).unwrap()),
            heartbeat_interval: second,
            tracking: None,
        };
        Topology::new(seeds, settings, Arc::default())
    }

    /// One node owns all slots.
    fn owned_by(host: &str) -> Owners {
        let node = Value::Array(vec![
            Value::BulkString(host.as_bytes().to_vec()),
            Value::Int(6379),
        ]);
        let range = Value::Array(vec![Value::Int(0), Value::Int(16_383), node]);
        Owners::parse(&Value::Array(vec![range]), "sender").unwrap()
    }

    #[test]
    fn the_late_answer_to_an_earlier_refresh_changes_nothing() {
        let topology = topology();
        let known = topology.apply(2, Ok(owned_by("heir"))).unwrap();
        topology.apply(1, Ok(owned_by("old"))).unwrap();
        assert!(matches!(&*topology.state.borrow(), State::Known(map) if map.round == 2));
        let heir = topology.node(("heir".to_owned(), 6379));
        assert!(Arc::ptr_eq(&heir, &known.masters[0].node));
    }

    #[tokio::test]
    async fn failed_requests_ask_for_the_slots_once_in_a_while() {
        let topology = Arc::new(topology());
        for _ in 0..3 {
            topology.refresh_in_background();
            // The task begins its refresh.
            tokio::task::yield_now().await;
        }
        assert_eq!(lock(&topology.refreshes).count, 1);
    }

    #[test]
    fn each_refresh_is_later_than_those_before() {
        let topology = topology();
        let first = topology.begin_round();
        assert!(topology.begin_round() > first);
    }

    #[test]
    fn nodes_that_are_in_no_map_are_forgotten() {
        let topology = topology();
        topology.apply(1, Ok(owned_by("old"))).unwrap();
        topology.node(("invented".to_owned(), 6379));
        topology.apply(2, Ok(owned_by("heir"))).unwrap();
        let nodes = lock(&topology.nodes);
        let hosts: Vec<_> = nodes.keys().map(|(host, _)| host.as_str()).collect();
        assert_eq!(hosts, ["heir"]);
    }
}
