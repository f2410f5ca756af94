//! What is read with tracking, how often, and what is renewed.

use std::time::{Duration, Instant};

use super::world::{BOUND, GENERATION, TENANT, TICK, TOKEN, UNWATCHED, World};
use crate::common::{Row, ask, eventually, found, is_invalid, start};
#[cfg(feature = "redis-cluster")]
use test_support::{Feature, RedisServer};
use tower_api_token::store::KeyLayout;
use tower_api_token::{Answer, Origin, RedisStore};

/// More than the pause after a refresh.
const PAUSE: Duration = Duration::from_millis(150);
const HOUR: Duration = Duration::from_secs(3_600);

#[tokio::test]
async fn a_hot_token_sends_no_command_beyond_the_bound() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let cache = world.instance().await;
        found(&cache, TOKEN).await;
        let reads = (cache.reads(), cache.tenant_reads());
        for _ in 0..5 {
            cache.advance(BOUND).await;
            assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        }
        assert_eq!((cache.reads(), cache.tenant_reads()), reads);
        assert_eq!(cache.stats().refreshes, 0);
    }
}

#[tokio::test]
async fn a_flood_of_invented_tokens_is_not_tracked() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    for n in 0..100 {
        for _ in 0..3 {
            assert!(is_invalid(&cache, &format!("invented-token-{n}")).await);
            world.clock.advance(BOUND);
        }
    }
    // The generation of all entries alone.
    assert_eq!((world.tracked_keys(), cache.stats().watched), (1, 1));
}

#[tokio::test]
async fn a_first_look_is_not_tracked() {
    let Some(world) = World::new(None) else {
        return;
    };
    let filler = world.untracked();
    let cache = world.instance().await;
    for n in 0..20 {
        let token = format!("app-token-{n}");
        world.db.insert(&token, Row::new("app"));
        found(&filler, &token).await;
        assert!(is_invalid(&filler, &format!("invented-token-{n}")).await);
        assert_eq!(found(&cache, &token).await.origin(), Origin::Shared);
        assert!(is_invalid(&cache, &format!("invented-token-{n}")).await);
    }
    // The generation of all entries alone.
    assert_eq!((world.tracked_keys(), cache.stats().watched), (1, 1));
    // The second one is.
    found(&cache, "app-token-7").await;
    eventually("it is tracked", async || world.tracked_keys() == 2).await;
}

#[tokio::test]
async fn an_entry_of_a_first_look_is_used_for_50_ms() {
    let Some(world) = World::new(None) else {
        return;
    };
    found(&world.untracked(), TOKEN).await;
    let cache = world.instance().await;
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Shared);
    world.change();
    world.clock.advance(UNWATCHED);
    assert_eq!(*found(&cache, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn a_generation_in_its_last_half_day_is_renewed_once() {
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    found(&world.untracked(), TOKEN).await;
    let cache = world.instance().await;
    expires_in(&world, 11 * HOUR);
    found(&cache, TOKEN).await;
    assert!(left(&world) > 23 * HOUR);
    cache.catch_up().await;
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
    cache.settles().await;
    let reads = (cache.reads(), cache.tenant_reads());
    for _ in 0..3 {
        cache.advance(BOUND).await;
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
    }
    assert_eq!((cache.reads(), cache.tenant_reads()), reads);
}

#[tokio::test]
async fn a_hit_renews_a_generation_that_is_watched() {
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    found(&world.untracked(), TOKEN).await;
    let cache = world.instance().await;
    let minutes = |n: u64| Duration::from_secs(60 * n);
    expires_in(&world, 12 * HOUR + minutes(2));
    found(&cache, TOKEN).await;
    world.clock.advance(TICK);
    found(&cache, TOKEN).await;
    cache.settles().await;
    // As if that time had passed: Redis's clock does not go by ours.
    cache.proxy.drop_pushes();
    expires_in(&world, 11 * HOUR);
    cache.catch_up().await;
    cache.proxy.forward();
    cache.advance(minutes(2)).await;
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
    cache.settles().await;
    assert!(left(&world) > 23 * HOUR);
}

fn expires_in(world: &World, time: Duration) {
    let time = time.as_millis().to_string();
    let expire = ["PEXPIRE", GENERATION, &time];
    assert_eq!(world.server.command(&expire).int(), 1);
}

fn left(world: &World) -> Duration {
    let left = world.server.command(&["PTTL", GENERATION]).int();
    Duration::from_millis(left.try_into().unwrap())
}

#[tokio::test]
async fn each_hot_entry_is_read_once_after_a_reconnect() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let cache = world.instance().await;
        found(&cache, TOKEN).await;
        cache.reconnects().await;
        let (reads, tenant_reads) = (cache.reads(), cache.tenant_reads());
        for _ in 0..3 {
            // The first hit's read of the generation may precede the registration, and then is not kept.
            for _ in 0..3 {
                assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
                cache.settles().await;
                cache.catch_up().await;
                // One refresh follows another after a pause.
                tokio::time::sleep(PAUSE).await;
            }
            cache.advance(BOUND).await;
        }
        assert_eq!(cache.reads(), reads + 1);
        let more = cache.tenant_reads() - tenant_reads;
        assert!(more <= 2 && (more > 0) == tenant.is_some(), "{more}");
    }
}

#[tokio::test]
async fn a_refresh_that_failed_is_tried_again() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let cache = world.instance().await;
        found(&cache, TOKEN).await;
        cache.reconnects().await;
        for command in ["GET api_token:t", "SET api_token:tenant"] {
            cache.proxy.answer(command, "-ERR no");
        }
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        cache.settles().await;
        let (began, reads) = (Instant::now(), cache.reads());
        for _ in 0..50 {
            found(&cache, TOKEN).await;
            cache.settles().await;
        }
        let more = u32::try_from(cache.reads() - reads).unwrap();
        let pause = BOUND / 8;
        assert!(pause * more <= began.elapsed() + pause, "{more} reads");
        cache.proxy.forward();
        let reads = (cache.reads(), cache.tenant_reads());
        // The first hit registers, and the second one may read the generation again.
        for _ in 0..2 {
            cache.catch_up().await;
            tokio::time::sleep(PAUSE).await;
            assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
            cache.settles().await;
        }
        let more = (cache.reads() - reads.0, cache.tenant_reads() - reads.1);
        assert!(more.0 == 1 && (more.1 > 0) == tenant.is_some(), "{more:?}");
        cache.advance(BOUND).await;
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
    }
}

#[tokio::test]
async fn a_hit_renews_the_registration_after_a_minute() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    let registrations = || cache.proxy.delivered("SADD api_token:bounds");
    let before = registrations();
    for (seconds, more) in [(59, 0), (2, 1), (58, 1), (2, 2)] {
        cache.advance(Duration::from_secs(seconds)).await;
        for _ in 0..2 {
            assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        }
        eventually("the hit registers", async || {
            registrations() == before + more
        })
        .await;
        cache.catch_up().await;
        assert_eq!(registrations(), before + more);
    }
}

#[cfg(feature = "redis-cluster")]
#[tokio::test]
async fn a_cluster_is_not_tracked() {
    if Feature::Tracking.is_missing() {
        return;
    }
    for scheme in ["redis", "redis+cluster"] {
        let server = RedisServer::start_node();
        server.add_slots(0, 16_383);
        let world = World::on(server, None);
        eventually("the cluster is up", async || {
            let info = world.server.command(&["CLUSTER", "INFO"]).text();
            info.contains("cluster_state:ok")
        })
        .await;
        let url = format!("{scheme}://{}", world.server.addr());
        let store = crate::common::redis_at(&url).client_tracking(true);
        let store = store.heartbeat_interval(Duration::from_millis(25));
        let cache = world.builder(store).build().unwrap();
        found(&cache, TOKEN).await;
        let beats = world.server.command_count("del");
        eventually("heartbeats go on", async || {
            world.server.command_count("del") >= beats + 4
        })
        .await;
        assert_eq!(world.server.command_count("client|tracking"), 0);
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        world.clock.advance(BOUND);
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Shared);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_generation_is_created_once() {
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    let other = world.untracked();
    found(&other, TOKEN).await;
    let cache = world.instance().await;
    world.delete(GENERATION);
    // It creates a generation, and does not hear of that yet.
    cache.proxy.hold("EVAL");
    let asking = start(&cache, TOKEN);
    eventually("a generation is created", async || {
        world.server.get(GENERATION).is_some()
    })
    .await;
    // The entry is of this generation now, until the tenant is suspended.
    found(&other, TOKEN).await;
    world.db.suspend(TENANT);
    other.invalidate_tenant(TENANT).await.unwrap();
    cache.proxy.forward();
    drop(asking.await.unwrap());
    assert!(world.server.get(GENERATION).is_some());
    assert!(matches!(ask(&other, TOKEN).await, Ok(Answer::Denied(_))));
}

#[tokio::test]
async fn a_record_that_is_not_stored_is_used_for_the_bound() {
    let Some(world) = World::new(None) else {
        return;
    };
    // The layout has no form for a record of another type than the one that is asked for.
    world.db.insert(TOKEN, Row::new("dataset"));
    let dify = |store: RedisStore| store.key_layout(KeyLayout::dify());
    let cache = world.connected(dify).await;
    cache.is_tracked().await;
    for _ in 0..5 {
        assert!(is_invalid(&cache, TOKEN).await);
        cache.advance(UNWATCHED).await;
    }
    assert_eq!(world.db.loads(), 1);
}
