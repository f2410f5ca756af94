//! Tracking in the Dify layout, and behind Sentinel.

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
    let hosts = set.sentinel_addrs();
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let url = format!("redis+sentinel://{}/{}", hosts.join(","), set.master_name());
    let store = redis_at(&url).client_tracking(true);
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
