//! Starts sentinels that know each other from the beginning.

use std::path::Path;
use std::time::Duration;

use crate::process::{free_port, side_by_side};
use crate::redis::RedisServer;

const SENTINELS: usize = 3;

/// Starts all sentinels. Returns `None` if a port is in use, because the others' configuration contains it.
pub(super) fn start_sentinels(
    program: &Path,
    servers: &[RedisServer],
    name: &str,
    down_after: Duration,
) -> Option<Vec<RedisServer>> {
    let ports: [u16; SENTINELS] = std::array::from_fn(|_| free_port());
    let sentinels = side_by_side(SENTINELS, |i| {
        RedisServer::start_on(program, ports[i], |dir, _| {
            // A file, because a sentinel stores its state in it.
            std::fs::write(
                dir.join("sentinel.conf"),
                config(i, &ports, servers, name, down_after),
            )
            .unwrap_or_else(|error| panic!("cannot write sentinel.conf: {error}"));
            vec!["sentinel.conf".into(), "--sentinel".into()]
        })
    });
    sentinels.into_iter().collect()
}

fn config(
    own: usize,
    ports: &[u16],
    servers: &[RedisServer],
    name: &str,
    down_after: Duration,
) -> String {
    // Otherwise it chooses an id. The others' configuration contains it.
    let id = |i: usize| format!("{:040x}", 0x5e47_1e15_u64 << 16 | u64::from(ports[i]));
    let mut lines = vec![
        format!("port {}", ports[own]),
        "bind 127.0.0.1".into(),
        format!("sentinel myid {}", id(own)),
        format!("sentinel monitor {name} 127.0.0.1 {} 2", servers[0].port()),
        format!(
            "sentinel down-after-milliseconds {name} {}",
            down_after.as_millis()
        ),
        // Twice this time must pass before the next failover of the same master.
        format!("sentinel failover-timeout {name} 3000"),
        format!("sentinel parallel-syncs {name} 2"),
    ];
    lines.extend(servers[1..].iter().map(|replica| {
        let port = replica.port();
        format!("sentinel known-replica {name} 127.0.0.1 {port}")
    }));
    lines.extend((0..ports.len()).filter(|&i| i != own).map(|i| {
        let (port, id) = (ports[i], id(i));
        format!("sentinel known-sentinel {name} 127.0.0.1 {port} {id}")
    }));
    lines.push(String::new());
    lines.join("\n")
}
