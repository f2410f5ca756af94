//! A private Redis Cluster.

mod health;
mod migration;
mod topology;

use std::net::SocketAddr;
use std::time::Duration;

use crate::process::side_by_side;
use crate::redis::{RedisServer, ReplicationSecret, node_args, plain_args, program};
use crate::urls::cluster_url;
use topology::Member;

const MASTERS: usize = 3;
const NODES: usize = 2 * MASTERS;
const SLOTS: u16 = 16_384;

/// A private Redis Cluster on loopback ports: six [`RedisServer`]s, which start as three masters (0, 1 and 2, each with a
/// third of the slots) and a replica of each (3, 4 and 5).
///
/// A node's index never changes. Its role may: see [`masters`](Self::masters) and [`master_for`](Self::master_for). Tests
/// break nodes (`cluster.node(i).kill()`), and [`wait_until_ok`](Self::wait_until_ok) waits until the others have
/// recovered.
///
/// A start takes a little more than two seconds, because a Redis master does not serve requests in its first two. Tests
/// that break nothing should share a cluster.
///
/// ```
/// use test_support::RedisCluster;
///
/// let cluster = RedisCluster::start();
/// let master = cluster.master_for("greeting");
/// cluster.node(master).command(&["SET", "greeting", "hello"]).ok();
///
/// cluster.node(master).kill();
/// cluster.wait_until_ok();
/// assert_ne!(cluster.master_for("greeting"), master);
/// ```
#[derive(Debug)]
pub struct RedisCluster {
    nodes: Vec<RedisServer>,
}

impl RedisCluster {
    /// Starts a cluster with a node timeout of 1.5 seconds, so that a dead master is replaced after three or four.
    ///
    /// The program is that of [`RedisServer::start`], and at least version 7.0.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`RedisServer::start`], and if the nodes do not agree in time.
    pub fn start() -> Self {
        Self::start_with(Duration::from_millis(1_500), &[])
    }

    /// Starts a cluster with this `cluster-node-timeout` and more arguments for every node, such as
    /// `&["--cluster-require-full-coverage", "no"]`.
    ///
    /// With a timeout of minutes a dead master is not replaced, and a test that breaks nothing sees no failover on a
    /// machine that is so busy that a healthy node seems dead.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_with(node_timeout: Duration, args: &[&str]) -> Self {
        let (program, secret) = (program(), ReplicationSecret::new());
        let timeout = node_timeout.as_millis().to_string();
        let nodes = side_by_side(NODES, |_| {
            RedisServer::start_in(&program, |_, port| {
                let own = [
                    ["--cluster-announce-ip", "127.0.0.1"],
                    ["--cluster-node-timeout", &timeout],
                    ["--repl-diskless-sync-delay", "0"],
                ];
                let own = own.iter().flatten().chain(args).map(ToString::to_string);
                let all = [plain_args(port), secret.args(), node_args()].concat();
                all.into_iter().chain(own).collect()
            })
        });
        let cluster = Self { nodes };
        cluster.form();
        cluster
    }

    fn form(&self) {
        let share = |i: usize| (i * usize::from(SLOTS) / MASTERS) as u16;
        for (i, node) in self.nodes.iter().enumerate() {
            // Distinct, because nodes with equal epochs first have to resolve the conflict.
            node.command(&["CLUSTER", "SET-CONFIG-EPOCH", &(i + 1).to_string()])
                .ok();
            if i < MASTERS {
                node.add_slots(share(i), share(i + 1) - 1);
            }
        }
        // Every node meets every other: gossip alone takes a second per hop.
        for (i, node) in self.nodes.iter().enumerate() {
            for other in &self.nodes[i + 1..] {
                let (port, bus) = (other.port().to_string(), other.bus_port());
                node.command(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus])
                    .ok();
            }
        }
        self.wait("the first meeting of all nodes", || {
            self.nodes.iter().try_for_each(|node| {
                let known = view(node);
                let met = known.len() == NODES && known.iter().all(Member::is_well);
                met.then_some(()).ok_or(format!("{known:?}"))
            })
        });
        for (i, replica) in self.nodes[MASTERS..].iter().enumerate() {
            let master = self.id(i);
            replica.command(&["CLUSTER", "REPLICATE", &master]).ok();
        }
        self.wait_until_ok();
    }

    /// Returns all nodes, by index.
    pub fn nodes(&self) -> &[RedisServer] {
        &self.nodes
    }

    /// Returns a node, to kill, pause, resume, restart or query it.
    ///
    /// # Panics
    ///
    /// Panics if there is no such node.
    #[track_caller]
    pub fn node(&self, i: usize) -> &RedisServer {
        &self.nodes[i]
    }

    /// Returns the URL of all nodes.
    pub fn url(&self) -> String {
        cluster_url(&self.addrs())
    }

    /// Returns the addresses of all nodes, by index.
    pub fn addrs(&self) -> Vec<SocketAddr> {
        self.nodes.iter().map(RedisServer::addr).collect()
    }

    /// Returns the masters that own slots.
    ///
    /// This and the other queries use the first node that is up and considers the cluster healthy. While the cluster
    /// recovers from a fault, the nodes may disagree; after [`wait_until_ok`](Self::wait_until_ok) they agree.
    pub fn masters(&self) -> Vec<usize> {
        self.where_(Member::serves)
    }

    /// Returns the replicas of a master.
    pub fn replicas_of(&self, master: usize) -> Vec<usize> {
        let id = self.id(master);
        self.where_(|member| member.master.as_ref() == Some(&id))
    }

    /// Returns the slot of a key (`CLUSTER KEYSLOT`).
    #[track_caller]
    pub fn slot_for(&self, key: &str) -> u16 {
        let slot = self.witness().command(&["CLUSTER", "KEYSLOT", key]).int();
        u16::try_from(slot).expect("a slot is below 16384")
    }

    /// Returns the master that owns a key's slot.
    ///
    /// # Panics
    ///
    /// Panics if no node owns it.
    #[track_caller]
    pub fn master_for(&self, key: &str) -> usize {
        let slot = self.slot_for(key);
        match self.where_(|member| member.owns(slot)).first() {
            Some(&master) => master,
            None => panic!("no node owns the slot {slot} of {key:?}"),
        }
    }

    /// Returns the keys that match a pattern (`*` for all) on all masters, sorted.
    #[track_caller]
    pub fn keys(&self, pattern: &str) -> Vec<String> {
        let masters = self.masters();
        let mut keys: Vec<_> = masters
            .into_iter()
            .flat_map(|i| self.nodes[i].keys(pattern))
            .collect();
        keys.sort_unstable();
        keys
    }

    /// Promotes a replica of `master`, waits until the cluster is healthy, and returns the new master.
    ///
    /// If the master is up, no write is lost (`CLUSTER FAILOVER`). If it is down or paused, the replica does not ask the
    /// other nodes (`TAKEOVER`), so this does not take a node timeout.
    ///
    /// # Panics
    ///
    /// Panics if `master` has no replica that is up.
    #[track_caller]
    pub fn failover(&self, master: usize) -> usize {
        let replica = self
            .replicas_of(master)
            .into_iter()
            .find(|&i| self.nodes[i].is_up())
            .unwrap_or_else(|| panic!("node {master} has no replica that is up"));
        let how: &[&str] = match self.nodes[master].is_up() {
            true => &["CLUSTER", "FAILOVER"],
            false => &["CLUSTER", "FAILOVER", "TAKEOVER"],
        };
        self.nodes[replica].command(how).ok();
        self.wait("the promotion of the replica", || {
            let serves = own_view(&self.nodes[replica]).serves();
            serves.then_some(()).ok_or("still a replica".into())
        });
        self.wait_until_ok();
        replica
    }

    /// Returns the nodes for which `is` is true in the view of the witness.
    #[track_caller]
    fn where_(&self, is: impl Fn(&Member) -> bool) -> Vec<usize> {
        let view = view(self.witness());
        let member = |node: &RedisServer| view.iter().find(|member| member.port == node.port());
        (0..NODES)
            .filter(|&i| member(&self.nodes[i]).is_some_and(&is))
            .collect()
    }

    /// Returns the id of a node, which may be down.
    #[track_caller]
    fn id(&self, i: usize) -> String {
        let port = self.node(i).port();
        let member = view(self.witness())
            .into_iter()
            .find(|member| member.port == port);
        member.expect("every node knows every other").id
    }

    /// Returns the first node that is up and considers the cluster healthy, or else the first that is up.
    #[track_caller]
    fn witness(&self) -> &RedisServer {
        let up = || self.nodes.iter().filter(|node| node.is_up());
        up().find(|node| is_healthy(node))
            .or_else(|| up().next())
            .expect("a node is up")
    }
}

fn view(node: &RedisServer) -> Vec<Member> {
    Member::all(&node.command(&["CLUSTER", "NODES"]).text())
}

fn own_view(node: &RedisServer) -> Member {
    let own = view(node).into_iter().find(|member| member.is("myself"));
    own.expect("a node knows itself")
}

fn is_healthy(node: &RedisServer) -> bool {
    let info = node.command(&["CLUSTER", "INFO"]).text();
    info.contains("cluster_state:ok")
}

#[cfg(test)]
mod tests;
