//! The URLs of deployments of several servers.

use std::net::SocketAddr;

/// Returns the URL of a cluster with these nodes.
pub fn cluster_url(nodes: &[SocketAddr]) -> String {
    format!("redis+cluster://{}", hosts(nodes))
}

/// Returns the URL of a master with this name, which these sentinels watch.
pub fn sentinel_url(sentinels: &[SocketAddr], name: &str) -> String {
    format!("redis+sentinel://{}/{name}", hosts(sentinels))
}

fn hosts(addrs: &[SocketAddr]) -> String {
    let hosts: Vec<String> = addrs.iter().map(ToString::to_string).collect();
    hosts.join(",")
}
