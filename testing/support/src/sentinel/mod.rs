//! A private Redis with replicas, watched by sentinels.

mod config;
mod health;

use std::net::SocketAddr;
use std::time::Duration;

use crate::process::side_by_side;
use crate::redis::{RedisServer, ReplicationSecret, Reply, is_before_7, plain_args, program};
use crate::urls::sentinel_url;

/// A private master with two replicas and three sentinels (quorum 2) on loopback ports.
///
/// Servers are [`RedisServer`]s, which tests can break, as in `redis.master().pause()`.
/// [`wait_for_failover`](Self::wait_for_failover) waits until the sentinels name another master.
///
/// A start takes about a second. The configuration of the sentinels lists the others, whose discovery would take two
/// seconds more.
///
/// ```
/// use test_support::RedisSentinel;
///
/// let redis = RedisSentinel::start();
/// let old = redis.master();
/// old.kill();
/// let new = redis.wait_for_failover(old);
/// assert_ne!(new.addr(), old.addr());
/// ```
#[derive(Debug)]
pub struct RedisSentinel {
    /// The first one started as the master.
    servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
    master_name: String,
}

impl RedisSentinel {
    /// Starts everything. A master counts as down after a second without a reply, and is replaced after two or three.
    ///
    /// The program is that of [`RedisServer::start`], and at least version 7.0.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`RedisServer::start`], and if the servers do not agree in time.
    pub fn start() -> Self {
        Self::start_with(Duration::from_secs(1), &[])
    }

    /// Starts everything with this `down-after-milliseconds` and more arguments for the master and the replicas,
    /// such as `&["--min-replicas-to-write", "1"]`.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`start`](Self::start).
    pub fn start_with(down_after: Duration, args: &[&str]) -> Self {
        let (program, secret) = (program(), ReplicationSecret::new());
        let server = |replica_of: Option<&RedisServer>| {
            RedisServer::start_in(&program, |_, port| {
                let mut all = plain_args(port);
                all.extend(secret.args());
                all.extend(["--repl-diskless-sync-delay".into(), "0".into()]);
                if let Some(master) = replica_of {
                    let port = master.port().to_string();
                    all.extend(["--replicaof".into(), "127.0.0.1".into(), port]);
                }
                all.extend(args.iter().map(ToString::to_string));
                all
            })
        };
        let master = server(None);
        let replicas = side_by_side(2, |_| server(Some(&master)));
        let servers = Vec::from_iter(std::iter::once(master).chain(replicas));
        let master_name = format!("master-{}-{}", std::process::id(), servers[0].port());
        let sentinels = (0..10)
            .find_map(|_| config::start_sentinels(&program, &servers, &master_name, down_after))
            .expect("ports that were tried for the sentinels are free");
        let redis = Self {
            servers,
            sentinels,
            master_name,
        };
        redis.sentinels.iter().for_each(look_often);
        redis.wait_until_ok();
        redis
    }

    /// Returns the name of the master.
    ///
    /// Each value has another name: a sentinel that finds another one on a reused port trusts it if the name is the same.
    pub fn master_name(&self) -> &str {
        &self.master_name
    }

    /// Returns the sentinels, to kill, pause or query them. A [restarted](RedisServer::restart) sentinel has its state, but
    /// the default intervals of Redis, because the shorter ones of this value are not stored:
    /// [`restart_sentinel`](Self::restart_sentinel) sets them again.
    pub fn sentinels(&self) -> &[RedisServer] {
        &self.sentinels
    }

    /// Restarts this sentinel, after a [`kill`](RedisServer::kill) if it is up. It keeps its state.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`RedisServer::restart`].
    pub fn restart_sentinel(&self, index: usize) {
        self.sentinels[index].restart_from_file();
        look_often(&self.sentinels[index]);
    }

    /// Returns the URL of the master that the sentinels watch.
    pub fn url(&self) -> String {
        sentinel_url(&self.sentinel_addrs(), self.master_name())
    }

    /// Returns the addresses of the sentinels.
    pub fn sentinel_addrs(&self) -> Vec<SocketAddr> {
        self.sentinels.iter().map(RedisServer::addr).collect()
    }

    /// Returns the master and the replicas, in the order of their start (the first one started as the master).
    pub fn servers(&self) -> &[RedisServer] {
        &self.servers
    }

    /// Returns the master in the view of the first sentinel that is up (neither killed nor paused through its value).
    ///
    /// # Panics
    ///
    /// Panics if no sentinel is up.
    #[track_caller]
    pub fn master(&self) -> &RedisServer {
        let sentinel = self.sentinels_up().next().expect("a sentinel is up");
        self.named_by(sentinel)
    }

    /// Returns the other two servers.
    ///
    /// # Panics
    ///
    /// Panics in the same cases as [`master`](Self::master).
    #[track_caller]
    pub fn replicas(&self) -> Vec<&RedisServer> {
        let master = self.master().port();
        let others = self.servers.iter();
        others.filter(|server| server.port() != master).collect()
    }

    /// Starts a failover (`SENTINEL FAILOVER`) and waits until every sentinel that is up names the new master.
    ///
    /// For eight to ten seconds the old master remains a master, and acknowledges writes, which are then lost.
    /// [`wait_until_ok`](Self::wait_until_ok) waits until it is a replica.
    ///
    /// # Panics
    ///
    /// Panics if there is no replica that could take over, or it takes longer than thirty seconds.
    #[track_caller]
    pub fn failover(&self) -> &RedisServer {
        let old = self.master();
        let sentinel = self.sentinels_up().next().expect("a sentinel is up");
        // Retries while another failover is running, or no replica has reported recently.
        self.wait("the start of a failover", || {
            match sentinel.command(&["SENTINEL", "FAILOVER", &self.master_name]) {
                Reply::Error(refusal) => Err(refusal),
                reply => {
                    reply.ok();
                    Ok(())
                }
            }
        });
        self.wait_for_failover(old)
    }

    /// Waits until every sentinel that is up names the same master, which is not `old`, and returns it.
    ///
    /// # Panics
    ///
    /// Panics if it takes longer than thirty seconds; the message has the ends of the logs.
    #[track_caller]
    pub fn wait_for_failover(&self, old: &RedisServer) -> &RedisServer {
        self.wait("another master", || match self.agreed()? {
            new if new.port() == old.port() => Err(format!("still {}", old.port())),
            new => Ok(new),
        })
    }

    #[track_caller]
    fn named_by(&self, sentinel: &RedisServer) -> &RedisServer {
        let ask = ["SENTINEL", "GET-MASTER-ADDR-BY-NAME", &self.master_name];
        let addr = sentinel.command(&ask).array();
        let port = addr.into_iter().nth(1).map(Reply::text);
        let port = port.expect("an address is a host and a port");
        let mut servers = self.servers.iter();
        servers
            .find(|server| server.port().to_string() == port)
            .unwrap_or_else(|| panic!("the sentinels name an unknown server, {port}"))
    }

    fn sentinels_up(&self) -> impl Iterator<Item = &RedisServer> {
        self.sentinels.iter().filter(|sentinel| sentinel.is_up())
    }
}

/// Sets shorter intervals. By default a sentinel pings once a second, so that a healthy server may seem silent for a
/// second. It sends INFO every ten seconds, and reconfigures an old master only after two of them.
///
/// A replica can take over only if its last INFO is not older than five periods of PING. While the master is down, INFO
/// comes once a second, whatever its period is. With less than 200 ms here, failovers would be given up after one half of
/// the points in that second, and each further try comes at the same point.
fn look_often(sentinel: &RedisServer) {
    if is_before_7() {
        return;
    }
    let periods = ["PING-PERIOD", "250", "INFO-PERIOD", "1000"];
    let look: Vec<_> = ["SENTINEL", "DEBUG"].into_iter().chain(periods).collect();
    sentinel.command(&look).ok();
}

#[cfg(test)]
mod tests;
