//! Waits until sentinels and servers agree.

use std::collections::HashMap;

use super::RedisSentinel;
use crate::process::wait_until;
use crate::redis::{RedisServer, Reply};

impl RedisSentinel {
    /// Waits until the sentinels that are up agree on a master that is up, no process that is up is suspected to be down,
    /// and every other server that is up replicates the master.
    ///
    /// After a failover this takes about ten seconds if the old master is up, because the sentinels do not reconfigure it
    /// earlier.
    ///
    /// # Panics
    ///
    /// Panics after thirty seconds, with what was missing and the ends of the logs.
    #[track_caller]
    pub fn wait_until_ok(&self) {
        self.wait("a master with its replicas", || self.is_ok());
    }

    /// Waits until every replica that is up has received what the master has now, so that writes that were acknowledged
    /// before this call survive a failover.
    ///
    /// # Panics
    ///
    /// Panics after thirty seconds.
    #[track_caller]
    pub fn wait_until_replicated(&self) {
        let offset = self.master().offset();
        for replica in self.replicas() {
            self.wait("a replica", || replica.has_reached(offset));
        }
    }

    fn is_ok(&self) -> Result<(), String> {
        let master = self.agreed()?;
        let port = master.port().to_string();
        for server in self.servers.iter().filter(|server| server.is_up()) {
            let info = server.command(&["INFO", "replication"]).text();
            let follows = ["master_link_status:up", &format!("master_port:{port}\r")];
            let is_right = match server.port() == master.port() {
                true => info.contains("role:master"),
                false => follows.iter().all(|line| info.contains(line)),
            };
            if !is_right {
                return Err(format!("{}, while {port} is named: {info}", server.port()));
            }
        }
        for sentinel in self.sentinels_up() {
            let ask = |what| sentinel.command(&["SENTINEL", what, &self.master_name]);
            is_known(ask("MASTER"), master, "master")?;
            let replicas = ask("REPLICAS").array();
            for server in self.servers.iter().filter(|server| server.is_up()) {
                if server.port() != master.port() {
                    let fields = entry(&replicas, server)?;
                    is_known(fields.clone(), server, "slave")?;
                    // A replica that has not reported this yet cannot be promoted.
                    if fields_of(fields)["master-link-status"] != "ok" {
                        return Err(format!("{} has not been looked at", server.port()));
                    }
                }
            }
            let others = ask("SENTINELS").array();
            for other in self.sentinels_up() {
                if other.port() != sentinel.port() {
                    is_known(entry(&others, other)?, other, "sentinel")?;
                }
            }
        }
        Ok(())
    }

    /// Returns the master that every sentinel that is up names.
    pub(super) fn agreed(&self) -> Result<&RedisServer, String> {
        let named = self.sentinels_up().map(|sentinel| self.named_by(sentinel));
        let named: Vec<_> = named.collect();
        let first = *named.first().ok_or("no sentinel is up")?;
        let ports = Vec::from_iter(named.iter().map(|server| server.port()));
        match ports.iter().all(|&port| port == first.port()) {
            false => Err(format!("the sentinels name {ports:?}")),
            true if first.is_up() => Ok(first),
            true => Err(format!("{} is named, and down", first.port())),
        }
    }

    #[track_caller]
    pub(super) fn wait<T>(&self, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        let logs = || {
            let all = self.servers.iter().chain(&self.sentinels);
            all.map(|server| format!("--- {}\n{}\n", server.port(), server.log_tail()))
                .collect()
        };
        wait_until(what, logs, attempt)
    }
}

/// Returns the entry of `server` in `SENTINEL REPLICAS` or `SENTINEL SENTINELS`.
fn entry(all: &[Reply], server: &RedisServer) -> Result<Reply, String> {
    let port = server.port().to_string();
    all.iter()
        .find(|entry| fields_of((*entry).clone())["port"] == port)
        .cloned()
        .ok_or(format!("{port} is not known"))
}

/// Returns whether the flags in an entry are the role only, so that no failure is suspected.
fn is_known(entry: Reply, server: &RedisServer, role: &str) -> Result<(), String> {
    let fields = fields_of(entry);
    match fields["flags"] == role && fields["port"] == server.port().to_string() {
        true => Ok(()),
        false => Err(format!("{} is {fields:?}", server.port())),
    }
}

fn fields_of(entry: Reply) -> HashMap<String, String> {
    let mut items = entry.array().into_iter().map(Reply::text);
    std::iter::from_fn(|| Some((items.next()?, items.next()?))).collect()
}
