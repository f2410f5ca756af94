//! The Redis servers of each mode.

use std::slice;

use std::time::Duration;

use test_support::{FaultProxy, RedisCluster, RedisSentinel, RedisServer, Reply};

use crate::chaos::settings::{Mode, REGISTRY};

/// The servers of a run.
#[derive(Debug)]
pub(super) enum Redis {
    /// One server, which is empty after a restart.
    Fleeting(RedisServer),
    /// One server, which never loses the registry: after a restart it has everything that it acknowledged.
    Lasting(RedisServer),
    /// A master with replicas.
    Watched(RedisSentinel),
    /// Masters with a replica each.
    Clustered(RedisCluster),
}

/// Longer than a node is frozen, so that none is replaced before it goes on: it would not know that for a moment.
const NODE_TIMEOUT: Duration = Duration::from_secs(5);

/// The connection of one client to Redis.
#[derive(Debug)]
pub(super) struct Wire {
    /// The URL that the client connects to.
    pub(super) url: String,
    /// The proxy in between. `None` with sentinels and clusters, which name the servers themselves.
    pub(super) proxy: Option<FaultProxy>,
}

impl Redis {
    pub(super) fn start(mode: Mode) -> Self {
        match mode {
            Mode::Bounds => {
                let kept = ["--appendonly", "yes", "--appendfsync", "always"];
                Self::Lasting(RedisServer::start_with(&kept))
            }
            Mode::Sentinel => Self::Watched(RedisSentinel::start()),
            Mode::Cluster => Self::Clustered(RedisCluster::start_with(NODE_TIMEOUT, &[])),
            _ => Self::Fleeting(RedisServer::start()),
        }
    }

    /// Returns the URL of Redis itself.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => server.url(),
            Self::Watched(redis) => redis.url(),
            Self::Clustered(cluster) => cluster.url(),
        }
    }

    /// Returns a new connection to Redis, through a proxy if there is one server.
    pub(super) fn wire(&self) -> Wire {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => {
                let proxy = FaultProxy::start(server.addr());
                Wire {
                    url: format!("redis://{}", proxy.addr()),
                    proxy: Some(proxy),
                }
            }
            Self::Watched(_) | Self::Clustered(_) => Wire {
                url: self.url(),
                proxy: None,
            },
        }
    }

    /// Returns a server that takes reads and writes. On a cluster `which` chooses the master.
    pub(super) fn master(&self, which: usize) -> &RedisServer {
        let masters = self.masters();
        masters[which % masters.len()]
    }

    /// Returns all servers that take reads and writes.
    pub(super) fn masters(&self) -> Vec<&RedisServer> {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => vec![server],
            Self::Watched(redis) => vec![redis.master()],
            Self::Clustered(cluster) => {
                let masters = cluster.masters().into_iter();
                masters.map(|index| cluster.node(index)).collect()
            }
        }
    }

    /// Returns all servers that hold keys.
    pub(super) fn servers(&self) -> &[RedisServer] {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => slice::from_ref(server),
            Self::Watched(redis) => redis.servers(),
            Self::Clustered(cluster) => cluster.nodes(),
        }
    }

    /// Returns how many servers replicate a master.
    pub(super) fn replicas(&self) -> usize {
        match self {
            Self::Clustered(_) => 1,
            _ => self.servers().len() - 1,
        }
    }

    /// Waits for the end of the previous failover, if there are replicas.
    pub(super) fn wait_until_ok(&self) {
        match self {
            Self::Fleeting(_) | Self::Lasting(_) => {}
            Self::Watched(redis) => redis.wait_until_ok(),
            Self::Clustered(cluster) => cluster.wait_until_ok(),
        }
    }

    /// Restarts the server that was killed: empty, with everything that it had, or as a replica of its successor.
    pub(super) fn restart(&self) {
        let mut servers = self.servers().iter();
        let old = servers.position(|server| server.pid().is_none());
        let old = old.expect("it was killed");
        match self {
            Self::Fleeting(server) => server.restart(),
            Self::Lasting(server) => server.restart_from_file(),
            Self::Watched(redis) => {
                let old = &redis.servers()[old];
                let new = redis.wait_for_failover(old).port().to_string();
                old.restart();
                // The sentinels do not reconfigure it for ten seconds, in which it may be an empty master.
                let follow = ["REPLICAOF", "127.0.0.1", &new];
                assert!(old.command(&follow).text().starts_with("OK"));
            }
            Self::Clustered(cluster) => {
                // Its replica has every deletion that was confirmed.
                cluster.failover(old);
                cluster.node(old).restart();
                cluster.wait_until_ok();
            }
        }
    }

    /// Moves a slot that holds a key to another master, if there is a cluster with keys.
    pub(super) fn move_slot(&self, which: usize) {
        let Self::Clustered(cluster) = self else {
            return;
        };
        cluster.wait_until_ok();
        let (keys, masters) = (cluster.keys("*"), cluster.masters());
        let Some(key) = keys.get(which % keys.len().max(1)) else {
            return;
        };
        let from = cluster.master_for(key);
        let others: Vec<_> = masters.into_iter().filter(|&to| to != from).collect();
        let to = others[which % others.len()];
        cluster.migrate_slot(cluster.slot_for(key), from, to);
    }

    /// Promotes a replica of a master that is up.
    pub(super) fn fail_over(&self, which: usize) {
        self.wait_until_ok();
        match self {
            Self::Fleeting(_) | Self::Lasting(_) => {}
            Self::Watched(redis) => {
                redis.failover();
            }
            Self::Clustered(cluster) => {
                let masters = cluster.masters();
                cluster.failover(masters[which % masters.len()]);
            }
        }
    }

    /// Returns all keys that may be lost.
    pub(super) fn keys(&self) -> Vec<String> {
        let of = |server: &RedisServer| match server.try_command(&["KEYS", "*"]) {
            Ok(Reply::Array(keys)) => keys.into_iter().map(Reply::text).collect(),
            _ => Vec::new(),
        };
        let keys = self.masters().into_iter().flat_map(of);
        let is_kept = |key: &String| matches!(self, Self::Lasting(_)) && key == REGISTRY;
        keys.filter(|key| !is_kept(key)).collect()
    }

    /// Deletes keys: at once, or one by one on a cluster, where other masters refuse them.
    pub(super) fn delete(&self, keys: &[&str]) {
        if let Self::Clustered(_) = self {
            keys.iter().for_each(|key| self.command(&["DEL", key]));
        } else {
            self.command(&[&["DEL"], keys].concat());
        }
    }

    /// Deletes every key that may be lost.
    pub(super) fn flush(&self) {
        if !matches!(self, Self::Lasting(_)) {
            return self.command(&["FLUSHALL"]);
        }
        let keys = self.keys();
        self.delete(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    }

    /// Pauses writes, for longer than any fault lasts.
    pub(super) fn pause_writes(&self, which: usize) {
        let pause = ["CLIENT", "PAUSE", "60000", "WRITE"];
        let _ = self.master(which).try_command(&pause);
    }

    /// Resumes writes at every server, because another may be the master by now.
    pub(super) fn resume_writes(&self) {
        self.command_everywhere(&["CLIENT", "UNPAUSE"]);
    }

    /// Changes the rights of all clients at every server, such as `-get`.
    pub(super) fn change_rights(&self, rights: &[String]) {
        let mut command = vec!["ACL", "SETUSER", "default"];
        command.extend(rights.iter().map(String::as_str));
        self.command_everywhere(&command);
    }

    /// Sends a command to the masters, and ignores the replies.
    pub(super) fn command(&self, words: &[&str]) {
        for master in self.masters() {
            let _ = master.try_command(words);
        }
    }

    fn command_everywhere(&self, words: &[&str]) {
        for server in self.servers().iter().filter(|server| server.is_up()) {
            let _ = server.try_command(words);
        }
    }
}
