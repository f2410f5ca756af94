//! Tracking in the Dify layout, behind Sentinel, and why there is none on a cluster.

use super::world::{BOUND, TENANT, TOKEN, World};
use crate::common::found;
use tower_api_token::Origin;
use tower_api_token::store::KeyLayout;

const PYTHONS: &str = "api_token:app:app-0123456789abcdef";

#[tokio::test]
async fn pythons_commands_end_a_watched_entry_at_once() {
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    let dify = |store: tower_api_token::RedisStore| store.key_layout(KeyLayout::dify());
    let cache = world.connected(dify).await;
    cache.is_tracked().await;
    let json = format!(
        r#"{{"id": "py-1", "app_id": null, "tenant_id": "{TENANT}", "type": "app", "token": "{TOKEN}", "last_used_at": null, "created_at": "2026-01-02T03:04:05.000006", "~metadata": 41}}"#
    );
    for _ in 0..3 {
        assert_eq!(found(&cache, TOKEN).await.id(), "tok-1");
        cache.advance(BOUND).await;
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        world.server.command(&["SETEX", PYTHONS, "600", &json]).ok();
        cache.catch_up().await;
        assert_eq!(found(&cache, TOKEN).await.id(), "py-1");
        cache.advance(BOUND).await;
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        world.delete(PYTHONS);
        cache.catch_up().await;
    }
}

#[cfg(feature = "redis-sentinel")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn after_a_failover_entries_end_within_the_bound() {
    use crate::common::{cached, entry, eventually, redis_at};
    use test_support::RedisSentinel;

    let Some(world) = World::new(None) else {
        return;
    };
    let set = RedisSentinel::start();
    let store = redis_at(&set.url()).client_tracking(true);
    let cache = world.builder(store).build().unwrap();
    cache.check_store().await.unwrap();
    let is_tracked = async || {
        eventually("it is tracked", async || cache.stats().client_tracking).await;
    };
    is_tracked().await;
    found(&cache, TOKEN).await;
    set.wait_until_replicated();
    let old = set.master();
    old.kill();
    let new = set.wait_for_failover(old);
    world.db.change(TOKEN, |_| {});
    assert_eq!(new.command(&["DEL", &entry(TOKEN)]).int(), 1);
    eventually("the new master is used", async || {
        cache.check_store().await.is_ok()
    })
    .await;
    world.clock.advance(BOUND);
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    is_tracked().await;
    world.clock.advance(BOUND);
    cached(&cache, TOKEN).await;
    eventually("a push ends an entry", async || {
        world.db.change(TOKEN, |_| {});
        let before = *found(&cache, TOKEN).await.metadata();
        new.command(&["DEL", &entry(TOKEN)]).int();
        cache.check_store().await.unwrap();
        *found(&cache, TOKEN).await.metadata() > before
    })
    .await;
}

/// The trace of section 6 of docs/internals/tracking.md: a slot moves, and its old master, whose heartbeats are still
/// answered, deletes the keys that it has left. Redis reports that to nobody, and Valkey does.
#[cfg(feature = "redis-cluster")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn on_a_cluster_an_entry_whose_slot_moved_ends_with_the_bound() {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::time::Duration;

    use super::world::TICK;
    use crate::common::{Db, PATIENCE, Row, entry, eventually, redis_at};
    use test_support::RedisCluster;
    use tower_api_token::test_util::ManualClock;

    // No failover starts by itself.
    let cluster = RedisCluster::start_with(Duration::from_secs(600), &[]);
    let (clock, db) = (ManualClock::new(), Db::with(TOKEN, Row::new("app")));
    let url = cluster.url();
    let store = redis_at(&url).client_tracking(true);
    let store = store.heartbeat_interval(Duration::from_millis(25));
    let builder = db.cache().store(store).clock(clock.clone());
    let cache = builder.token_types(["app"]).build().unwrap();
    let builder = db.cache().store(redis_at(&url)).clock(clock.clone());
    let builder = builder.token_types(["app"]).local_capacity(0);
    let other = builder.build().unwrap();
    // It connects to all masters: an answer from before that would not be kept.
    cache.check_store().await.unwrap();
    found(&cache, TOKEN).await;
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);

    // What a tracked connection to the master would be told.
    let name = entry(TOKEN);
    let (slot, from) = (
        cluster.slot_for(&name).to_string(),
        cluster.master_for(&name),
    );
    let (old, pushes) = (cluster.node(from), Arc::new(AtomicUsize::new(0)));
    let counting = Arc::clone(&pushes);
    let config = redis::AsyncConnectionConfig::new().set_response_timeout(Some(PATIENCE));
    let config = config.set_push_sender(move |push: redis::PushInfo| {
        if push.kind == redis::PushKind::Invalidate {
            counting.fetch_add(1, Ordering::SeqCst);
        }
        Ok::<(), redis::aio::SendError>(())
    });
    let client = redis::Client::open(format!("{}?protocol=resp3", old.url())).unwrap();
    let connection = client.get_multiplexed_async_connection_with_config(&config);
    let mut connection = connection.await.unwrap();
    let mut read = redis::pipe();
    read.cmd("CLIENT")
        .arg(&["TRACKING", "ON", "OPTIN"])
        .ignore();
    read.cmd("CLIENT").arg(&["CACHING", "YES"]).ignore();
    read.cmd("GET").arg(&name);
    let (value,): (Option<Vec<u8>>,) = read.query_async(&mut connection).await.unwrap();
    assert!(value.is_some());

    let to = cluster.masters().into_iter().find(|node| *node != from);
    let new = cluster.node(to.unwrap());
    let [old_id, new_id] = [old, new].map(|node| node.command(&["CLUSTER", "MYID"]).text());
    for claim in [["IMPORTING", &old_id], ["NODE", &new_id]] {
        let set = [&["CLUSTER", "SETSLOT", &slot][..], &claim].concat();
        new.command(&set).ok();
    }
    eventually("the old master deletes the keys", async || {
        old.command(&["CLUSTER", "COUNTKEYSINSLOT", &slot]).int() == 0
    })
    .await;
    cluster.wait_until_ok();
    let mut tags = (0..).map(|n: u32| n.to_string());
    let tag = tags.find(|tag| cluster.master_for(tag) == from).unwrap();
    let mut beat = redis::pipe();
    beat.cmd("CLIENT").arg(&["CACHING", "YES"]).ignore();
    beat.cmd("DEL").arg(format!("heartbeat:{{{tag}}}"));
    let deleted: (u32,) = beat.query_async(&mut connection).await.unwrap();
    assert_eq!(deleted, (0,), "heartbeats go on");
    let is_valkey = old
        .command(&["INFO", "server"])
        .text()
        .contains("valkey_version");
    assert_eq!(pushes.load(Ordering::SeqCst), usize::from(is_valkey));

    db.change(TOKEN, |_| {});
    other.invalidate(TOKEN).await.unwrap();
    let beats = old.command_count("del");
    clock.advance(BOUND - TICK);
    eventually("heartbeats go on", async || {
        old.command_count("del") >= beats + 4
    })
    .await;
    let answer = found(&cache, TOKEN).await;
    assert_eq!((*answer.metadata(), answer.origin()), (0, Origin::Local));
    clock.advance(TICK);
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    assert!(!cache.stats().client_tracking && cache.stats().watched == 0);
}
