//! Tests of the local level that Redis keeps current by client tracking (docs/internals/tracking.md), on a real
//! Redis.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{Builder, Cache, Db, PATIENCE, Row, eventually, found, is_invalid, redis};
use test_support::RedisServer;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{Origin, RedisStore};

const TOKEN: &str = "app-0123456789abcdef";
const TENANT: &str = "t-1";
/// The default staleness bound.
const BOUND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);

struct World {
    server: RedisServer,
    db: Arc<Db>,
    clock: ManualClock,
}

impl World {
    fn new(tenant: Option<&str>) -> Self {
        let mut row = Row::new("app");
        row.tenant = tenant.map(str::to_owned);
        Self {
            server: RedisServer::start(),
            db: Db::with(TOKEN, row),
            clock: ManualClock::new(),
        }
    }

    fn builder(&self, store: RedisStore) -> Builder {
        self.db
            .cache()
            .store(store)
            .clock(self.clock.clone())
            .token_types(["app"])
    }

    /// Creates an instance whose connection is tracked.
    async fn instance(&self) -> Cache {
        self.tracked(redis(&self.server)).await
    }

    async fn tracked(&self, store: RedisStore) -> Cache {
        let store = store.client_tracking(true);
        let cache = self.builder(store).build().unwrap();
        cache.check_store().await.unwrap();
        eventually("tracking is on", async || cache.stats().client_tracking).await;
        cache
    }

    /// Moves the clock, and waits until a heartbeat that was sent after that is answered.
    async fn advance(&self, cache: &Cache, by: Duration) {
        self.clock.advance(by);
        // The second heartbeat from now on was sent after the first one's answer.
        let beats = || self.server.command_count("del");
        let _ = cache;
        let before = beats();
        eventually("heartbeats are answered", async || beats() >= before + 4).await;
    }
}

#[tokio::test]
async fn a_hot_token_sends_no_command_beyond_the_bound() {
    for tenant in [None, Some(TENANT)] {
        let world = World::new(tenant);
        let cache = world.instance().await;
        found(&cache, TOKEN).await;
        let gets = world.server.command_count("get");
        for _ in 0..5 {
            world.advance(&cache, BOUND).await;
            assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        }
        assert_eq!(world.server.command_count("get"), gets);
        assert_eq!(cache.stats().refreshes, 0);
    }
}

#[tokio::test]
async fn an_invalidation_elsewhere_is_seen_at_once() {
    for tenant in [None, Some(TENANT)] {
        let world = World::new(tenant);
        let (one, two) = (world.instance().await, world.instance().await);
        found(&two, TOKEN).await;
        world.advance(&two, BOUND).await;
        world.db.revoke(TOKEN);
        match tenant {
            None => one.invalidate(TOKEN).await.unwrap(),
            Some(tenant) => one.invalidate_tenant(tenant).await.unwrap(),
        };
        // The clock stands still.
        eventually("the push arrives", async || is_invalid(&two, TOKEN).await).await;
    }
}

#[tokio::test]
async fn a_watched_entry_ends_with_the_bound_when_heartbeats_are_not_answered() {
    let world = World::new(None);
    let cache = world.instance().await;
    found(&cache, TOKEN).await;
    world.advance(&cache, BOUND).await;
    world.server.pause();
    world.clock.advance(BOUND - TICK);
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
    world.clock.advance(TICK);
    let answer = found(&cache, TOKEN).await;
    assert_eq!(answer.origin(), Origin::Loaded);
    world.server.resume();
}

#[tokio::test]
async fn an_open_stream_ends_with_its_token() {
    for tenant in [None, Some(TENANT)] {
        let world = World::new(tenant);
        let (one, two) = (world.instance().await, world.instance().await);
        let open = found(&two, TOKEN).await;
        let stream = tokio::spawn(open.revoked());
        world.advance(&two, BOUND).await;
        world.advance(&two, BOUND).await;
        assert!(!stream.is_finished());
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
        tokio::time::timeout(PATIENCE, stream)
            .await
            .expect("the stream ends")
            .unwrap();
    }
}
