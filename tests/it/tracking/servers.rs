//! Servers and proxies that cannot be tracked, no longer are, or send what nobody asked for.

use std::time::Duration;

use super::world::{BOUND, Instance, TENANT, TICK, TOKEN, World};
use crate::common::{eventually, found, is_invalid};
use test_support::{Feature, FrameProxy, RedisServer};
use tower_api_token::{Origin, RedisStore};

/// Checks that a change is seen within the bound, and that the token is answered locally meanwhile.
async fn works_untracked(world: &World, cache: &Instance) {
    assert!(!cache.stats().client_tracking);
    let version = *found(cache, TOKEN).await.metadata();
    world.change();
    world.clock.advance(BOUND - TICK);
    let answer = found(cache, TOKEN).await;
    assert_eq!(
        (*answer.metadata(), answer.origin()),
        (version, Origin::Local)
    );
    cache.settles().await;
    world.clock.advance(TICK);
    assert_eq!(*found(cache, TOKEN).await.metadata(), version + 1);
}

/// Checks that a hot token costs nothing, and that a change is seen at once.
async fn works_tracked(world: &World, cache: &Instance) {
    cache.is_tracked().await;
    for _ in 0..2 {
        // After the first one it is watched.
        found(cache, TOKEN).await;
        cache.settles().await;
        cache.catch_up().await;
    }
    cache.advance(BOUND).await;
    let answer = found(cache, TOKEN).await;
    assert_eq!(answer.origin(), Origin::Local);
    world.change();
    cache.catch_up().await;
    assert_eq!(*found(cache, TOKEN).await.metadata(), answer.metadata() + 1);
}

#[tokio::test]
async fn flushall_by_another_client_ends_all_entries() {
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    world.db.change(TOKEN, |_| {});
    world.server.flushall();
    cache.catch_up().await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    works_tracked(&world, &cache).await;
}

#[tokio::test]
async fn unexpected_pushes_do_no_harm() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    let invalidate = "$10\r\ninvalidate\r\n";
    let many: String = (0..100_000).map(|n| format!("$5\r\n{n:05}\r\n")).collect();
    let pushes = [
        format!(">2\r\n{invalidate}*1\r\n$11\r\nanother-key\r\n"),
        format!(">2\r\n{invalidate}*100000\r\n{many}"),
        format!(">2\r\n{invalidate}_\r\n"),
        format!(">2\r\n{invalidate}*0\r\n"),
        format!(">2\r\n{invalidate}*2\r\n:7\r\n_\r\n"),
        format!(">2\r\n{invalidate}:7\r\n"),
        format!(">1\r\n{invalidate}"),
        ">3\r\n$7\r\nmessage\r\n$1\r\na\r\n$1\r\nb\r\n".to_owned(),
        ">2\r\n$7\r\nunknown\r\n*1\r\n$1\r\na\r\n".to_owned(),
    ];
    for push in &pushes {
        cache.proxy.push(push.as_bytes());
        cache.catch_up().await;
        works_tracked(&world, &cache).await;
    }
    let counted = cache.stats().tracking_pushes;
    assert!((100_000..101_000).contains(&counted), "{counted}");
    assert!(cache.stats().watched <= 2);
}

#[tokio::test]
async fn a_user_without_the_right_to_track_works_untracked() {
    for right in ["-client|tracking", "-client|caching", "-client"] {
        let Some(world) = World::new(None) else {
            return;
        };
        let user = [
            "ACL", "SETUSER", "few", "on", "nopass", "~*", "+@all", right,
        ];
        world.server.command(&user).ok();
        let proxy = FrameProxy::start(world.server.addr());
        let cache = world.behind_as("few:x@", proxy, |store| store);
        cache.check_store().await.unwrap();
        cache.beats().await;
        works_untracked(&world, &cache).await;
    }
}

#[tokio::test]
async fn a_right_that_is_taken_away_ends_the_entries_within_the_bound() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    let right = |right| {
        let user = ["ACL", "SETUSER", "default", right];
        world.server.command(&user).ok();
    };
    right("-client|caching");
    // So that the push does not matter.
    cache.proxy.drop_pushes();
    world.change();
    cache.advance(BOUND).await;
    cache.proxy.forward();
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    works_untracked(&world, &cache).await;
    right("+client|caching");
    works_tracked(&world, &cache).await;
}

/// As by a master that was demoted.
#[tokio::test]
async fn a_heartbeat_that_is_refused_proves_nothing() {
    let Some(world) = World::new(None) else {
        return;
    };
    let slow = |store: RedisStore| store.heartbeat_interval(BOUND / 2);
    let cache = world.connected(slow).await;
    cache.is_tracked().await;
    for _ in 0..2 {
        found(&cache, TOKEN).await;
        cache.settles().await;
    }
    let next = async || {
        let before = cache.proxy.delivered("DEL");
        let is_answered = async || cache.proxy.delivered("DEL") > before;
        eventually("a heartbeat is answered", is_answered).await;
    };
    next().await;
    let readonly = "-READONLY You can't write against a read only replica.";
    cache.proxy.answer("DEL", readonly);
    cache.proxy.drop_pushes();
    world.change();
    world.clock.advance(BOUND);
    next().await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_redis_that_is_full_at_the_connect_is_tracked_later() {
    let Some(world) = World::new(None) else {
        return;
    };
    let full = |bytes| {
        let set = ["CONFIG", "SET", "maxmemory", bytes];
        world.server.command(&set).ok();
    };
    full("1");
    let cache = world.behind(FrameProxy::start(world.server.addr()), |store| store);
    found(&cache, TOKEN).await;
    cache.sends_beats(3).await;
    assert!(!cache.stats().client_tracking);
    full("0");
    works_tracked(&world, &cache).await;
}

#[tokio::test]
async fn a_connection_that_is_reset_proves_nothing() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    cache.proxy.run(&["RESET"]);
    world.change();
    cache.advance(BOUND).await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    works_untracked(&world, &cache).await;
}

#[tokio::test]
async fn a_connection_that_is_killed_is_replaced_and_tracked() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    let kill = ["CLIENT", "KILL", "TYPE", "normal"];
    assert!(world.server.command(&kill).int() >= 1);
    eventually("the next connection is tested", async || {
        cache.proxy.delivered("CLIENT TRACKING") == 2
    })
    .await;
    // Its push goes nowhere.
    world.change();
    cache.is_tracked().await;
    cache.advance(BOUND).await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    works_tracked(&world, &cache).await;
}

#[tokio::test]
async fn a_half_open_connection_ends_the_entries_within_the_bound() {
    let Some(world) = World::new(None) else {
        return;
    };
    let proxy = FrameProxy::start(world.server.addr());
    let short = Duration::from_millis(500);
    let cache = world.behind(proxy, |store| store.response_timeout(short));
    cache.check_store().await.unwrap();
    cache.is_tracked().await;
    found(&cache, TOKEN).await;
    cache.proxy.hold("");
    world.db.revoke(TOKEN);
    world.change();
    world.clock.advance(BOUND);
    assert!(is_invalid(&cache, TOKEN).await);
    eventually("the connection is replaced", async || {
        cache.proxy.delivered("CLIENT TRACKING") == 2
    })
    .await;
    assert!(is_invalid(&cache, TOKEN).await);
}

#[tokio::test]
async fn what_is_neither_redis_nor_valkey_is_not_tracked_by_default() {
    let Some(world) = World::new(None) else {
        return;
    };
    let proxy = FrameProxy::start(world.server.addr());
    let another = "%2\r\n$6\r\nserver\r\n$7\r\nanother\r\n$7\r\nversion\r\n$5\r\n9.9.9";
    proxy.answer("HELLO", another);
    let store = RedisStore::new(&format!("redis://{}", proxy.addr())).unwrap();
    let store = store.response_timeout(Duration::from_secs(5));
    let cache = world.builder(store).build().unwrap();
    found(&cache, TOKEN).await;
    // One to connect, and one that asks what the server is.
    let is_asked = async || proxy.delivered("HELLO") - proxy.delivered("HELLO 3") == 1;
    eventually("the server is asked", is_asked).await;
    let beats = proxy.delivered("DEL");
    let goes_on = async || proxy.delivered("DEL") > beats + 1;
    eventually("heartbeats go on", goes_on).await;
    assert_eq!(proxy.received("CLIENT TRACKING"), 0);
}

#[tokio::test]
async fn before_redis_7_nothing_is_tracked() {
    if !Feature::Tracking.is_missing() {
        return;
    }
    let world = World::on(RedisServer::start(), None);
    let cache = world.connected(|store| store).await;
    cache.beats().await;
    assert_eq!(cache.proxy.received("CLIENT TRACKING"), 0);
    works_untracked(&world, &cache).await;
}
