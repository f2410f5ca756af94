//! The end of an open stream's token.

use std::sync::Arc;
use std::time::Duration;

use tokio::task::JoinHandle;

use super::world::{BOUND, TENANT, TICK, TOKEN, UNWATCHED, World};
use crate::common::{
    Builder, Cache, Db, Mode, PATIENCE, Row, entry, eventually, found, redis, redis_at, until,
};
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

/// A stream was opened for a row and a type.
#[tokio::test]
async fn a_stream_ends_when_its_token_is_of_another_row_or_type() {
    let clock = ManualClock::new();
    let changes: [fn(&mut Row); 2] = [
        |row| row.id = "tok-2".to_owned(),
        |row| row.token_type = "job".to_owned(),
    ];
    for change in changes {
        let db = Db::with(TOKEN, Row::new("app"));
        let builder = builder(&db, &clock).token_types(["app", "job"]);
        let cache = builder.build().unwrap();
        let stream = open(&cache).await;
        clock.advance(Duration::from_millis(1));
        db.change(TOKEN, change);
        cache.invalidate(TOKEN).await.unwrap();
        ends(stream).await;
    }
}

/// Each stream asks again, and goes on if its token is still good.
#[tokio::test]
async fn an_invalidation_of_all_ends_the_streams_whose_tokens_are_revoked() {
    let Some(world) = World::new(None) else {
        return;
    };
    let (one, two) = (world.instance().await, world.instance().await);
    for cache in [&two, &one] {
        world.db.insert(TOKEN, Row::new("app"));
        one.invalidate_all().await.unwrap();
        cache.catch_up().await;
        let stream = open(cache).await;
        let loads = world.db.loads();
        one.invalidate_all().await.unwrap();
        until(|| world.db.loads() > loads).await;
        cache.settles().await;
        goes_on(&stream).await;
        cache.catch_up().await;
        world.db.revoke(TOKEN);
        one.invalidate_all().await.unwrap();
        ends(stream).await;
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
async fn in_an_outage_a_stream_asks_more_and_more_seldom() {
    let (clock, server) = (ManualClock::new(), RedisServer::start());
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = builder(&db, &clock).store(redis(&server)).build().unwrap();
    let stream = open(&cache).await;
    let loads_in = async |seconds| {
        let before = db.loads();
        for _ in 0..seconds {
            clock.advance(SECOND);
            goes_on(&stream).await;
            until(|| clock.sleepers() == 1 && cache.in_flight() == 0).await;
        }
        db.loads() - before
    };
    until(|| clock.sleepers() == 1).await;
    for _ in 0..2 {
        server.kill();
        // At 1 s, and then after at most 2, 4, 8, 16 and 30 s, and at least half of that.
        let loads = loads_in(60).await;
        assert!((5..=7).contains(&loads), "{loads}");
        let loads = loads_in(600).await;
        assert!((19..=40).contains(&loads), "{loads}");
        server.restart();
        eventually("Redis is used again", async || {
            cache.check_store().await.is_ok()
        })
        .await;
        // The entry was lost with Redis.
        let loads = loads_in(60).await;
        assert!(loads <= 2, "{loads}");
    }
}

#[tokio::test]
async fn a_stream_that_gets_no_watch_asks_once_in_a_bound() {
    let Some(world) = World::new(None) else {
        return;
    };
    // Too large for the local level. So each lookup is a first one.
    let id = "i".repeat(2_000);
    world.db.change(TOKEN, |row| row.id = id);
    found(&world.untracked(), TOKEN).await;
    let store = redis_at(&world.server.url()).client_tracking(true);
    let store = store.heartbeat_interval(Duration::from_millis(25));
    let cache = world.builder(store).local_capacity(1).build().unwrap();
    cache.check_store().await.unwrap();
    eventually("it is tracked", async || cache.stats().client_tracking).await;
    let stream = open(&cache).await;
    // The generation of all entries is watched.
    assert_eq!((cache.stats().local_records, cache.stats().watched), (0, 1));
    let count = |command| world.server.command_count(command);
    let reads = count("get");
    for _ in 0..40 {
        until(|| world.clock.sleepers() == 1 && cache.in_flight() == 0).await;
        world.clock.advance(UNWATCHED);
        let beats = count("del");
        eventually("heartbeats go on", async || count("del") >= beats + 2).await;
    }
    let reads = count("get") - reads;
    assert!((2..=4).contains(&reads), "{reads} reads in two bounds");
    world.db.revoke(TOKEN);
    world.delete(&entry(TOKEN));
    world.clock.advance(BOUND);
    ends(stream).await;
}

/// No stream waits for a random time: those that have to ask share one call for each token.
#[tokio::test]
async fn streams_of_a_tenant_share_what_a_change_of_it_costs() {
    const TOKENS: usize = 4;
    const STREAMS: usize = 25;
    let Some(world) = World::new(Some(TENANT)) else {
        return;
    };
    let (cache, other) = (world.instance().await, world.untracked());
    let mut streams = Vec::new();
    for n in 0..TOKENS {
        let token = format!("app-token-{n}");
        world.db.insert(&token, Row::new("app").of_tenant(TENANT));
        for _ in 0..STREAMS {
            let token = found(&cache, &token).await;
            streams.push(tokio::spawn(token.revoked()));
        }
    }
    let all = TOKENS * STREAMS;
    let settle = async || {
        until(|| world.clock.sleepers() == all && cache.in_flight() == 0).await;
        // What is sent next is later by the clock too.
        world.clock.advance(TICK);
    };
    settle().await;
    let counts = || {
        let count = |command| cache.proxy.received(command);
        let of_tokens = count("GET api_token:token");
        let scripts = count("EVAL");
        [of_tokens, cache.tenant_reads(), scripts, world.db.loads()]
    };
    // Streams share their wake-ups with other keys. Those that are woken for another one find their entry proved.
    let before = counts();
    for n in 0..1_000 {
        cache.invalidate(&format!("app-other-{n}")).await.unwrap();
    }
    settle().await;
    assert_eq!(counts(), before);
    for _ in 0..3 {
        let before = counts();
        other.invalidate_tenant(TENANT).await.unwrap();
        eventually("the streams ask", async || {
            world.db.loads() >= before[3] + TOKENS
        })
        .await;
        settle().await;
        let after = counts();
        let [of_tokens, of_tenant, scripts, loads] = std::array::from_fn(|n| after[n] - before[n]);
        assert_eq!(loads, TOKENS);
        // One stream of each token asks by itself, and the others share calls: two or three reads for each token, and
        // more only if a busy machine runs the streams one after the other.
        for commands in [of_tokens, of_tenant, scripts] {
            assert!(commands <= all / 2, "{commands}");
        }
    }
    world.db.suspend(TENANT);
    other.invalidate_tenant(TENANT).await.unwrap();
    for stream in streams {
        ends(stream).await;
    }
}

#[tokio::test]
async fn without_a_local_level_a_stream_costs_one_read_in_a_bound() {
    let (clock, server) = (ManualClock::new(), RedisServer::start());
    let builder = builder(&Db::with(TOKEN, Row::new("app")), &clock);
    let cache = builder.store(redis(&server)).local_capacity(0);
    let _stream = open(&cache.build().unwrap()).await;
    let asks = async || until(|| clock.sleepers() == 1).await;
    let counts = || ["mget", "get", "pttl"].map(|command| server.command_count(command));
    asks().await;
    let [of_both, of_one, of_ttl] = counts();
    for n in 1..=3 {
        clock.advance(SECOND);
        eventually("it asks", async || counts()[0] >= of_both + n).await;
        asks().await;
    }
    assert_eq!(counts(), [of_both + 3, of_one, of_ttl]);
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

/// As when an instance renews its TTL.
#[tokio::test]
async fn streams_share_one_read_when_the_generation_of_all_is_touched() {
    const STREAMS: usize = 20;
    let Some(world) = World::new(None) else {
        return;
    };
    let cache = world.instance().await;
    for n in 0..STREAMS {
        let token = format!("app-token-{n}");
        world.db.insert(&token, Row::new("app"));
        tokio::spawn(found(&cache, &token).await.revoked());
    }
    let settle = async || {
        until(|| world.clock.sleepers() == STREAMS && cache.in_flight() == 0).await;
        world.clock.advance(TICK);
    };
    settle().await;
    let of_tokens = || cache.proxy.received("GET api_token:token:");
    let of_all = || cache.proxy.received("GET api_token:tokens");
    let (tokens, all) = (of_tokens(), of_all());
    world
        .server
        .command(&["PEXPIRE", "api_token:tokens", "86400000"]);
    eventually("a stream asks", async || of_all() > all).await;
    settle().await;
    assert_eq!(of_tokens(), tokens);
    assert!(of_all() - all <= 2, "{}", of_all() - all);
}
