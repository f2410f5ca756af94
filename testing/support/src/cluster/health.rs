//! Waits until the nodes of a cluster agree.

use super::topology::Member;
use super::{RedisCluster, is_healthy, view};
use crate::process::wait_until;

impl RedisCluster {
    /// Waits until every slot is served by a master that is up, every node that is up reports `cluster_state:ok`, all of
    /// them agree, and every replica that is up follows its master.
    ///
    /// A node is up if it was neither killed nor paused through its [`RedisServer`](crate::RedisServer). So after
    /// `node(master).kill()` this waits for the promotion of a replica, and after `restart()` of the old master until it
    /// is a replica.
    ///
    /// # Panics
    ///
    /// Panics after thirty seconds, with what was missing and the ends of the logs.
    #[track_caller]
    pub fn wait_until_ok(&self) {
        self.wait("a sound cluster", || self.is_ok());
    }

    /// Waits until every replica that is up has received what its master has now, so that writes that were acknowledged
    /// before this call survive a failover. The cluster must be [healthy](Self::wait_until_ok).
    ///
    /// # Panics
    ///
    /// Panics after thirty seconds.
    #[track_caller]
    pub fn wait_until_replicated(&self) {
        for master in self.masters() {
            let offset = self.node(master).offset();
            for replica in self.replicas_of(master) {
                let replica = self.node(replica);
                self.wait("a replica", || replica.has_reached(offset));
            }
        }
    }

    fn is_ok(&self) -> Result<(), String> {
        let up: Vec<_> = self.nodes.iter().filter(|node| node.is_up()).collect();
        let ports: Vec<_> = up.iter().map(|node| node.port()).collect();
        let mut views = Vec::new();
        for node in &up {
            let port = node.port();
            if !is_healthy(node) {
                return Err(format!("not ok by {port}"));
            }
            let mut view = view(node);
            view.retain(|member| ports.contains(&member.port) || member.serves());
            let ill = |member: &&Member| !member.is_well() || !ports.contains(&member.port);
            if let Some(ill) = view.iter().find(ill) {
                return Err(format!("by {port}, ill or down: {ill:?}"));
            }
            views.push(view);
        }
        let view = views.first().ok_or("no node is up")?;
        if let Some(other) = views.iter().find(|other| !agree(view, other)) {
            return Err(format!("{other:?} is not {view:?}"));
        }
        for member in view {
            let node = up.iter().find(|node| node.port() == member.port);
            let info = node.ok_or("down")?.command(&["INFO", "replication"]).text();
            let followers = view
                .iter()
                .filter(|other| other.master.as_ref() == Some(&member.id));
            let online = info.matches("state=online").count();
            if !member.is("master") && !info.contains("master_link_status:up") {
                return Err(format!("{} does not follow: {info}", member.port));
            }
            if online < followers.count() {
                return Err(format!("{} waits for replicas: {info}", member.port));
            }
        }
        Ok(())
    }

    #[track_caller]
    pub(super) fn wait<T>(&self, what: &str, attempt: impl FnMut() -> Result<T, String>) -> T {
        let logs = || {
            let logs = self.nodes.iter();
            logs.map(|node| format!("--- {}\n{}\n", node.port(), node.log_tail()))
                .collect()
        };
        wait_until(what, logs, attempt)
    }
}

/// Returns whether two nodes have the same view.
fn agree(one: &[Member], other: &[Member]) -> bool {
    let one = one.iter().map(Member::essence);
    one.eq(other.iter().map(Member::essence))
}
