//! The Redis servers of each mode.

use std::slice;

use test_support::{FaultProxy, RedisSentinel, RedisServer, Reply};

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
}

/// The connection of one client to Redis.
#[derive(Debug)]
pub(super) struct Wire {
    /// The URL that the client connects to.
    pub(super) url: String,
    /// The proxy in between. `None` with sentinels, which name the servers themselves.
    pub(super) proxy: Option<FaultProxy>,
}

impl Redis {
    pub(super) fn start(mode: Mode) -> Self {
        match mode {
            Mode::Faults | Mode::Calm => Self::Fleeting(RedisServer::start()),
            Mode::Bounds => {
                let kept = ["--appendonly", "yes", "--appendfsync", "always"];
                Self::Lasting(RedisServer::start_with(&kept))
            }
            Mode::Sentinel => Self::Watched(RedisSentinel::start()),
        }
    }

    /// Returns the URL of Redis itself.
    pub(super) fn url(&self) -> String {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => server.url(),
            Self::Watched(redis) => {
                let sentinels = redis.sentinel_addrs();
                let sentinels: Vec<_> = sentinels.iter().map(ToString::to_string).collect();
                let (sentinels, name) = (sentinels.join(","), redis.master_name());
                format!("redis+sentinel://{sentinels}/{name}")
            }
        }
    }

    /// Returns a new connection to Redis, through a proxy unless there are sentinels.
    pub(super) fn wire(&self) -> Wire {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => {
                let proxy = FaultProxy::start(server.addr());
                Wire {
                    url: format!("redis://{}", proxy.addr()),
                    proxy: Some(proxy),
                }
            }
            Self::Watched(_) => Wire {
                url: self.url(),
                proxy: None,
            },
        }
    }

    /// Returns the server that takes reads and writes.
    pub(super) fn master(&self) -> &RedisServer {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => server,
            Self::Watched(redis) => redis.master(),
        }
    }

    /// Returns all servers that hold keys.
    pub(super) fn servers(&self) -> &[RedisServer] {
        match self {
            Self::Fleeting(server) | Self::Lasting(server) => slice::from_ref(server),
            Self::Watched(redis) => redis.servers(),
        }
    }

    /// Returns how many servers replicate the master.
    pub(super) fn replicas(&self) -> usize {
        self.servers().len() - 1
    }

    /// Kills the master. With sentinels it first waits for the end of the previous failover.
    pub(super) fn kill_master(&self) {
        if let Self::Watched(redis) = self {
            redis.wait_until_ok();
        }
        self.master().kill();
    }

    /// Restarts it: empty, with everything that it had, or as a replica of its successor.
    pub(super) fn restart(&self) {
        match self {
            Self::Fleeting(server) => server.restart(),
            Self::Lasting(server) => server.restart_from_file(),
            Self::Watched(redis) => {
                let mut servers = redis.servers().iter();
                let old = servers.find(|server| server.pid().is_none());
                let old = old.expect("it was killed");
                let new = redis.wait_for_failover(old).port().to_string();
                old.restart();
                // The sentinels do not reconfigure it for ten seconds, in which it may be an empty master.
                let follow = ["REPLICAOF", "127.0.0.1", &new];
                assert!(old.command(&follow).text().starts_with("OK"));
            }
        }
    }

    /// Returns all keys that may be lost.
    pub(super) fn keys(&self) -> Vec<String> {
        let Ok(Reply::Array(keys)) = self.master().try_command(&["KEYS", "*"]) else {
            return Vec::new();
        };
        let keys = keys.into_iter().map(Reply::text);
        let is_kept = |key: &String| matches!(self, Self::Lasting(_)) && key == REGISTRY;
        keys.filter(|key| !is_kept(key)).collect()
    }

    /// Deletes every key that may be lost.
    pub(super) fn flush(&self) {
        if !matches!(self, Self::Lasting(_)) {
            return self.command(&["FLUSHALL"]);
        }
        let keys = self.keys();
        let mut command = vec!["DEL"];
        command.extend(keys.iter().map(String::as_str));
        self.command(&command);
    }

    /// Pauses writes, for longer than any fault lasts.
    pub(super) fn pause_writes(&self) {
        self.command(&["CLIENT", "PAUSE", "60000", "WRITE"]);
    }

    /// Resumes writes at every server, because another may be the master by now.
    pub(super) fn resume_writes(&self) {
        for server in self.servers().iter().filter(|server| server.is_up()) {
            let _ = server.try_command(&["CLIENT", "UNPAUSE"]);
        }
    }

    /// Sends a command to the master, and ignores the reply.
    pub(super) fn command(&self, words: &[&str]) {
        let _ = self.master().try_command(words);
    }
}
