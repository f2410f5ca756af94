use std::net::TcpStream;

use super::*;
use crate::redis::Reply;

/// Sets a key in each third of the slots.
const KEYS: [&str; 3] = ["b", "c", "a"];

fn set_all(cluster: &RedisCluster) {
    for key in KEYS {
        let node = cluster.node(cluster.master_for(key));
        node.command(&["SET", key, key]).ok();
    }
}

#[test]
fn cluster_starts_healthy_and_every_key_has_a_master() {
    let cluster = RedisCluster::start();
    assert_eq!(cluster.masters(), [0, 1, 2]);
    for master in 0..3 {
        assert_eq!(cluster.replicas_of(master), [master + 3]);
    }
    assert_eq!(cluster.addrs().len(), 6);
    assert_eq!(cluster.addrs()[5], cluster.node(5).addr());
    assert_eq!(cluster.slot_for("a"), 15_495);
    let masters: Vec<_> = KEYS.iter().map(|key| cluster.master_for(key)).collect();
    assert_eq!(masters, [0, 1, 2]);

    set_all(&cluster);
    assert_eq!(cluster.keys("*"), ["a", "b", "c"]);
    let moved = cluster.node(0).command(&["GET", "a"]);
    let to = format!("MOVED 15495 127.0.0.1:{}", cluster.node(2).port());
    assert_eq!(moved, Reply::Error(to));
}

#[test]
fn slot_moves_with_its_keys_and_redirects_meanwhile() {
    let cluster = RedisCluster::start();
    set_all(&cluster);
    let slot = cluster.slot_for("a");
    cluster.begin_migration(slot, 2, 0);
    assert_eq!(cluster.node(2).get("a").unwrap(), b"a");
    cluster.migrate_keys(slot, 2, 0);
    let ask = format!("ASK {slot} 127.0.0.1:{}", cluster.node(0).port());
    assert_eq!(cluster.node(2).command(&["GET", "a"]), Reply::Error(ask));
    cluster.end_migration(slot, 2, 0);
    assert_eq!(cluster.master_for("a"), 0);
    assert_eq!(cluster.node(0).get("a").unwrap(), b"a");

    cluster.migrate_slot(slot, 0, 1);
    assert_eq!(cluster.master_for("a"), 1);
    assert_eq!(cluster.keys("*"), ["a", "b", "c"]);
}

#[test]
fn killed_master_is_replaced_and_comes_back_as_a_replica() {
    let cluster = RedisCluster::start_with(Duration::from_secs(1), &[]);
    set_all(&cluster);
    cluster.wait_until_replicated();
    cluster.node(1).kill();
    cluster.wait_until_ok();
    assert_eq!(cluster.masters(), [0, 2, 4]);
    assert_eq!(cluster.master_for("c"), 4);
    cluster.node(1).restart();
    cluster.wait_until_ok();
    assert_eq!(cluster.replicas_of(4), [1]);
    assert_eq!(cluster.keys("*"), ["a", "b", "c"]);
}

#[test]
fn paused_master_is_replaced_and_follows_when_resumed() {
    let cluster = RedisCluster::start();
    cluster.node(0).pause();
    cluster.wait_until_ok();
    assert_eq!(cluster.masters(), [1, 2, 3]);
    cluster.node(0).resume();
    cluster.wait_until_ok();
    assert_eq!(cluster.replicas_of(3), [0]);
}

#[test]
fn failover_on_command_needs_no_node_timeout() {
    // Longer than this test.
    let cluster = RedisCluster::start_with(Duration::from_secs(600), &[]);
    assert_eq!(cluster.failover(0), 3);
    assert_eq!(cluster.replicas_of(3), [0]);
    assert_eq!(cluster.failover(3), 0);
    cluster.node(1).kill();
    assert_eq!(cluster.failover(1), 4);
    assert_eq!(cluster.masters(), [0, 2, 4]);
}

#[test]
fn dropping_the_cluster_ends_every_node() {
    let cluster = RedisCluster::start();
    let addrs = cluster.addrs();
    cluster.node(5).pause();
    drop(cluster);
    assert!(addrs.iter().all(|addr| TcpStream::connect(addr).is_err()));
}
