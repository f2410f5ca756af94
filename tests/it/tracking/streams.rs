//! The end of an open stream's token.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::world::{BOUND, TENANT, TOKEN, World};
use crate::common::{Builder, Cache, Db, Mode, PATIENCE, Row, eventually, found, redis, until};
use test_support::RedisServer;
use tower_api_token::test_util::ManualClock;

const SECOND: Duration = Duration::from_secs(1);

async fn open(cache: &Cache) -> JoinHandle<()> {
    tokio::spawn(found(cache, TOKEN).await.revoked())
}

async fn ends(stream: JoinHandle<()>) {
    let ended = tokio::time::timeout(PATIENCE, stream).await;
    ended.expect("the stream ends").unwrap();
}

/// Lets what is ready run.
async fn goes_on(stream: &JoinHandle<()>) {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!stream.is_finished());
}

#[tokio::test]
async fn an_open_stream_ends_with_its_token() {
    for tenant in [None, Some(TENANT)] {
        let Some(world) = World::new(tenant) else {
            return;
        };
        let (one, two) = (world.instance().await, world.instance().await);
        let stream = open(&two).await;
        let reads = (two.reads(), two.tenant_reads());
        for _ in 0..10 {
            // A jump beyond the last proof would have it ask.
            two.advance(BOUND / 2).await;
        }
        goes_on(&stream).await;
        assert_eq!((two.reads(), two.tenant_reads()), reads);
        match tenant {
            None => {
                world.db.revoke(TOKEN);
                one.invalidate(TOKEN).await.unwrap();
            }
            Some(tenant) => {
                world.db.suspend(tenant);
                one.invalidate_tenant(tenant).await.unwrap();
            }
        }
        ends(stream).await;
    }
}

fn builder(db: &Arc<Db>, clock: &ManualClock) -> Builder {
    db.cache().clock(clock.clone()).token_types(["app"])
}

#[tokio::test]
async fn an_own_invalidation_ends_a_stream_at_once() {
    let (clock, server) = (ManualClock::new(), RedisServer::start());
    for tenant in [None, Some(TENANT)] {
        for in_redis in [false, true] {
            let mut row = Row::new("app");
            row.tenant = tenant.map(str::to_owned);
            let db = Db::with(TOKEN, row);
            let mut builder = builder(&db, &clock);
            if in_redis {
                server.flushall();
                builder = builder.store(redis(&server));
            }
            let cache = builder.build().unwrap();
            let stream = open(&cache).await;
            goes_on(&stream).await;
            clock.advance(Duration::from_millis(1));
            match tenant {
                None => {
                    db.revoke(TOKEN);
                    cache.invalidate(TOKEN).await.unwrap();
                }
                Some(tenant) => {
                    db.suspend(tenant);
                    cache.invalidate_tenant(tenant).await.unwrap();
                }
            }
            ends(stream).await;
        }
    }
}

#[tokio::test]
async fn a_stream_ends_when_its_token_expires() {
    let clock = ManualClock::new();
    let mut row = Row::new("app");
    row.expires_at = Some(clock.now() + 10 * SECOND);
    let cache = builder(&Db::with(TOKEN, row), &clock).build().unwrap();
    let stream = open(&cache).await;
    for _ in 0..9 {
        clock.advance(SECOND);
        goes_on(&stream).await;
    }
    clock.advance(SECOND);
    ends(stream).await;
}

#[tokio::test]
async fn without_tracking_a_stream_ends_within_the_bound() {
    let (clock, server) = (ManualClock::new(), RedisServer::start());
    let db = Db::with(TOKEN, Row::new("app"));
    let instance = || builder(&db, &clock).store(redis(&server)).build().unwrap();
    let (one, two) = (instance(), instance());
    let stream = open(&two).await;
    for _ in 0..3 {
        until(|| clock.sleepers() == 1).await;
        clock.advance(BOUND);
        goes_on(&stream).await;
    }
    until(|| clock.sleepers() == 1 && two.in_flight() == 0).await;
    db.revoke(TOKEN);
    one.invalidate(TOKEN).await.unwrap();
    clock.advance(BOUND);
    ends(stream).await;
}

#[tokio::test]
async fn an_outage_ends_no_stream() {
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    let stream = open(&cache).await;
    world.server.kill();
    world.db.mode(Mode::Fails);
    for _ in 0..5 {
        until(|| world.clock.sleepers() == 1).await;
        world.clock.advance(2 * BOUND);
        goes_on(&stream).await;
    }
    world.server.restart();
    world.db.mode(Mode::Answers);
    eventually("Redis is used again", async || {
        cache.check_store().await.is_ok()
    })
    .await;
    world.clock.advance(2 * BOUND);
    goes_on(&stream).await;
    world.db.revoke(TOKEN);
    eventually("it is invalidated", async || {
        cache.invalidate(TOKEN).await.is_ok()
    })
    .await;
    ends(stream).await;
}

#[tokio::test]
async fn dropped_streams_leave_nothing() {
    let clock = ManualClock::new();
    let db = Db::with(TOKEN, Row::new("app").of_tenant(TENANT));
    let cache = builder(&db, &clock).build().unwrap();
    let mut streams = Vec::new();
    for _ in 0..100 {
        streams.push(open(&cache).await);
    }
    until(|| clock.sleepers() == 100).await;
    streams.iter().for_each(JoinHandle::abort);
    until(|| clock.sleepers() == 0).await;
    assert_eq!(cache.in_flight(), 0);
}
