use std::net::TcpStream;

use super::*;

#[test]
fn sentinels_start_agreed_and_name_the_master() {
    let redis = RedisSentinel::start();
    assert_eq!(redis.sentinel_addrs().len(), 3);
    assert_eq!(redis.sentinel_addrs()[2], redis.sentinels()[2].addr());
    assert_eq!(redis.master().addr(), redis.servers()[0].addr());
    assert_eq!(redis.replicas().len(), 2);
    redis.master().command(&["SET", "a", "1"]).ok();
    redis.wait_until_replicated();
    for server in redis.servers() {
        assert_eq!(server.get("a").unwrap(), b"1");
    }
    for sentinel in redis.sentinels() {
        let quorum = sentinel.command(&["SENTINEL", "CKQUORUM", redis.master_name()]);
        assert!(quorum.text().starts_with("OK 3 usable"));
    }
}

#[test]
fn failover_on_command_returns_once_the_new_master_is_named() {
    let redis = RedisSentinel::start();
    let old = redis.master();
    let new = redis.failover();
    assert_ne!(new.addr(), old.addr());
    assert_eq!(redis.master().addr(), new.addr());
    new.command(&["SET", "a", "1"]).ok();
}

#[test]
fn second_failover_waits_for_the_first_and_the_old_master_follows() {
    let redis = RedisSentinel::start();
    let first = redis.failover();
    let second = redis.failover();
    assert_ne!(first.addr(), second.addr());
    redis.wait_until_ok();
    assert_eq!(redis.master().addr(), second.addr());
}

#[test]
fn killed_master_is_replaced() {
    let redis = RedisSentinel::start();
    let old = redis.master();
    old.command(&["SET", "a", "1"]).ok();
    redis.wait_until_replicated();
    old.kill();
    let new = redis.wait_for_failover(old);
    redis.wait_until_ok();
    assert_eq!(new.get("a").unwrap(), b"1");
    old.restart();
    redis.wait_until_ok();
    assert_eq!(redis.master().addr(), new.addr());
}

#[test]
fn paused_master_is_replaced_without_one_sentinel() {
    let redis = RedisSentinel::start_with(Duration::from_millis(500), &[]);
    redis.sentinels()[0].kill();
    let old = redis.master();
    old.pause();
    redis.wait_for_failover(old);
    redis.wait_until_ok();
}

#[test]
fn arguments_reach_master_and_replicas() {
    let redis = RedisSentinel::start_with(
        Duration::from_secs(60),
        &[
            "--min-replicas-to-write",
            "1",
            "--min-replicas-max-lag",
            "2",
        ],
    );
    redis.master().command(&["SET", "a", "1"]).ok();
    for server in redis.servers() {
        let reply = server.command(&["CONFIG", "GET", "min-replicas-to-write"]);
        assert_eq!(reply.array()[1].clone().text(), "1");
    }
}

#[test]
fn restarted_sentinel_remembers() {
    let redis = RedisSentinel::start();
    let new = redis.failover().addr();
    let sentinel = &redis.sentinels()[1];
    sentinel.restart();
    assert_eq!(redis.named_by(sentinel).addr(), new);
    redis.restart_sentinel(1);
    assert_eq!(redis.named_by(sentinel).addr(), new);
}

#[test]
fn dropping_the_value_ends_every_server() {
    let redis = RedisSentinel::start();
    let mut addrs = redis.sentinel_addrs();
    addrs.extend(redis.servers().iter().map(RedisServer::addr));
    redis.sentinels()[0].pause();
    drop(redis);
    assert!(addrs.iter().all(|addr| TcpStream::connect(addr).is_err()));
}
