//! What ends an entry, and what does not prove it.

use super::world::{BOUND, GENERATION, TENANT, TICK, TOKEN, UNWATCHED, World};
use crate::common::{entry, eventually, found, is_invalid, start};
use test_support::FrameProxy;
use tower_api_token::Origin;

#[tokio::test]
async fn an_invalidation_elsewhere_is_seen_at_once() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let (one, two) = (world.instance().await, world.instance().await);
        found(&two, TOKEN).await;
        two.advance(BOUND).await;
        world.db.revoke(TOKEN);
        match tenant {
            None => one.invalidate(TOKEN).await.unwrap(),
            Some(tenant) => one.invalidate_tenant(tenant).await.unwrap(),
        };
        // The clock stands still.
        two.catch_up().await;
        assert!(is_invalid(&two, TOKEN).await);
    }
}

#[tokio::test]
async fn a_push_ends_an_entry_before_a_later_reply() {
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    let cache = world.instance().await;
    for version in 0..20 {
        assert_eq!(*found(&cache, TOKEN).await.metadata(), version);
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        world.db.change(TOKEN, |_| {});
        let key = entry(TOKEN);
        world.delete(if version % 2 == 0 { &key } else { GENERATION });
        cache.catch_up().await;
    }
}

#[tokio::test]
async fn a_watched_entry_ends_with_the_bound_when_heartbeats_are_not_answered() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    cache.advance(BOUND).await;
    cache.proxy.hold("");
    world.change();
    world.clock.advance(BOUND - TICK);
    // The push is held back too.
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 0);
    world.clock.advance(TICK);
    let asked = start(&cache, TOKEN);
    cache.sends_beats(1).await;
    cache.proxy.forward();
    let answer = asked.await.unwrap().unwrap().valid().unwrap();
    assert_eq!(*answer.metadata(), 1);
}

#[tokio::test]
async fn a_late_answer_proves_only_its_sending() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    cache.proxy.hold("");
    cache.sends_beats(2).await;
    let last = tokio::spawn({
        let cache = cache.clone();
        async move { cache.check_store().await }
    });
    let probes = cache.proxy.received("PTTL");
    eventually("the last command arrives", async || {
        cache.proxy.received("PTTL") > probes
    })
    .await;
    cache.proxy.park("CLIENT CACHING");
    world.clock.advance(BOUND);
    cache.proxy.deliver();
    last.await.unwrap().unwrap();
    let asked = start(&cache, TOKEN);
    tokio::task::yield_now().await;
    cache.proxy.forward();
    let answer = asked.await.unwrap().unwrap().valid().unwrap();
    assert_eq!(answer.origin(), Origin::Shared);
}

/// As after a proxy connected to another server.
#[tokio::test]
async fn heartbeats_of_a_connection_that_is_not_tracked_prove_nothing() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    cache.proxy.run(&["CLIENT", "TRACKING", "OFF"]);
    world.change();
    cache.advance(BOUND).await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_later_session_does_not_prove_earlier_entries() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    let tests = cache.proxy.delivered("CLIENT TRACKING");
    cache.proxy.run(&["CLIENT", "TRACKING", "OFF"]);
    world.change();
    eventually("the connection is tested again", async || {
        cache.proxy.delivered("CLIENT TRACKING") > tests
    })
    .await;
    cache.is_tracked().await;
    cache.advance(BOUND).await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_reply_of_the_old_connection_is_not_proved_by_the_new_one() {
    let Some(world) = World::new(None) else {
        return;
    };
    found(&world.untracked(), TOKEN).await;
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    world.clock.advance(UNWATCHED);
    // Two refused heartbeats end the connection, whose reply to the read is held back.
    cache.proxy.hold("");
    cache
        .proxy
        .answer("DEL api_token:fence:heartbeat", "-ERR no");
    cache.sends_beats(3).await;
    let reads = cache.reads();
    let asked = start(&cache, TOKEN);
    eventually("it is read", async || cache.reads() > reads).await;
    cache.proxy.answer_none();
    cache.proxy.hold(&format!("GET {}", entry(TOKEN)));
    eventually("the next connection is tested", async || {
        cache.proxy.delivered("CLIENT TRACKING") == 2
    })
    .await;
    cache.beats().await;
    // So that the new connection proves the generation of all entries.
    assert!(is_invalid(&cache, "app-nobodys-0123456789").await);
    cache.proxy.drop_pushes();
    world.change();
    cache.proxy.deliver();
    asked.await.unwrap().unwrap();
    // A hit within the bound reads again what the new connection does not prove.
    found(&cache, TOKEN).await;
    cache.settles().await;
    cache.advance(BOUND).await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_push_that_follows_the_reply_at_once_ends_the_entry() {
    let Some(world) = World::new(None) else {
        return;
    };
    found(&world.untracked(), TOKEN).await;
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    world.clock.advance(UNWATCHED);
    let read = format!("GET {}", entry(TOKEN));
    cache.proxy.hold(&read);
    let asked = start(&cache, TOKEN);
    let waits = async |what: &str| {
        eventually("the proxy has it", async || cache.proxy.held(what) > 0).await;
    };
    waits(&read).await;
    world.change();
    waits("push").await;
    cache.proxy.forward();
    asked.await.unwrap().unwrap();
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_fill_that_another_one_followed_is_not_watched() {
    let Some(world) = World::new(None) else {
        return;
    };
    let (cache, other) = (world.instance().await, world.untracked());
    world.db.gate.close();
    let asked = start(&cache, TOKEN);
    world.db.gate.reached(1).await;
    // The fill and the read behind it are one write, which is cut here.
    cache.proxy.park(&format!("GET {}", entry(TOKEN)));
    let fills = || cache.proxy.delivered("EVAL");
    let before = fills();
    world.db.gate.open();
    eventually("the fill is executed", async || fills() > before).await;
    world.change();
    assert_eq!(*found(&other, TOKEN).await.metadata(), 1);
    cache.proxy.forward();
    let answer = asked.await.unwrap().unwrap().valid().unwrap();
    assert_eq!(*answer.metadata(), 0);
    world.clock.advance(UNWATCHED);
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_read_that_was_not_tracked_is_not_watched() {
    let Some(world) = World::new(None) else {
        return;
    };
    found(&world.untracked(), TOKEN).await;
    // So that seldom a heartbeat finds it out first.
    let rare = BOUND / 2;
    let cache = world.connected(|it| it.heartbeat_interval(rare)).await;
    cache.is_tracked().await;
    found(&cache, TOKEN).await;
    world.clock.advance(UNWATCHED);
    cache.proxy.run(&["CLIENT", "TRACKING", "OFF"]);
    found(&cache, TOKEN).await;
    world.change();
    world.clock.advance(BOUND);
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
    assert!(!cache.stats().client_tracking);
}

#[tokio::test]
async fn an_invalidation_that_was_not_confirmed_ends_watches() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let cache = world.instance().await;
        found(&cache, TOKEN).await;
        world.clock.advance(TICK);
        world.db.revoke(TOKEN);
        cache.proxy.answer("DEL api_token:t", "-ERR no");
        cache.proxy.answer("DEL api_token:e", "-ERR no");
        match tenant {
            None => cache.invalidate(TOKEN).await.unwrap_err(),
            Some(tenant) => cache.invalidate_tenant(tenant).await.unwrap_err(),
        };
        cache.proxy.forward();
        for _ in 0..3 {
            assert!(is_invalid(&cache, TOKEN).await);
            cache.advance(BOUND).await;
        }
    }
}

#[tokio::test]
async fn a_server_that_sends_no_push_is_not_tracked() {
    let Some(world) = World::new(None) else {
        return;
    };
    let proxy = FrameProxy::start(world.server.addr());
    proxy.drop_pushes();
    let cache = world.behind(proxy, |store| store);
    found(&cache, TOKEN).await;
    cache.beats().await;
    assert_eq!(cache.proxy.delivered("CLIENT TRACKING"), 1);
    assert!(!cache.stats().client_tracking);
    world.change();
    cache.advance(BOUND).await;
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}
