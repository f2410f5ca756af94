//! Tests of invalidations that the store did not confirm: until it does, this instance does not use the
//! entries that the store may still hold.

use std::future::IntoFuture as _;
use std::pin::pin;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::common::{
    Builder, Cache, Db, Mode, Points, Row, ask, entry, found, is_invalid, redis_at, start,
};
use test_support::{Direction, FaultProxy, RedisServer};
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{Answer, Origin};

const TOKEN: &str = "app-0123456789abcdef";
const OTHER: &str = "app-fedcba9876543210";
const TENANT: &str = "t-1";

/// A Redis that can be cut off from its instances.
struct World {
    server: RedisServer,
    proxy: FaultProxy,
    db: Arc<Db>,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        let server = RedisServer::start();
        let proxy = FaultProxy::start(server.addr());
        let db = Db::with(TOKEN, Row::new("app").of_tenant(TENANT));
        db.insert(OTHER, Row::new("app"));
        Self {
            server,
            proxy,
            db,
            clock: ManualClock::new(),
        }
    }

    fn builder(&self) -> Builder {
        let store = redis_at(&format!("redis://{}", self.proxy.addr()));
        let builder = self.db.cache().store(store).token_types(["app"]);
        builder.clock(self.clock.clone())
    }

    /// Creates an instance that has both tokens in Redis and in its local level.
    async fn instance(&self) -> Cache {
        let cache = self.builder().build().unwrap();
        for token in [TOKEN, OTHER] {
            found(&cache, token).await;
        }
        cache
    }

    /// Creates an instance that can be held at these points.
    fn held(&self) -> (Points, Cache) {
        let points = Points::default();
        let builder = self.builder().sync_points(points.sync_points());
        (points, builder.build().unwrap())
    }

    /// Runs `then` while Redis cannot be reached.
    async fn cut_off<T>(&self, cache: &Cache, then: impl AsyncFnOnce() -> T) -> T {
        self.proxy.cut();
        let result = then().await;
        self.proxy.heal();
        while cache.check_store().await.is_err() {
            tokio::task::yield_now().await;
        }
        result
    }

    async fn revoke_unconfirmed(&self, cache: &Cache) {
        self.db.revoke(TOKEN);
        let invalidated = self
            .cut_off(cache, async || cache.invalidate(TOKEN).await)
            .await;
        invalidated.unwrap_err();
        // The entry of the revoked token is still in Redis.
        assert!(self.server.get(&entry(TOKEN)).unwrap().starts_with(b"V1"));
    }
}

#[tokio::test]
async fn a_revoked_token_does_not_come_back_with_redis() {
    let world = World::new();
    let cache = world.instance().await;
    world.revoke_unconfirmed(&cache).await;
    for _ in 0..3 {
        assert!(is_invalid(&cache, TOKEN).await);
        assert!(cache.peek(TOKEN).await.unwrap().is_none());
    }
    // One load for each lookup of this token, and none for other tokens.
    assert_eq!(world.db.loads(), 2 + 3);
    world.clock.advance(Duration::from_secs(1));
    assert_eq!(found(&cache, OTHER).await.origin(), Origin::Shared);
    // Once its invalidation is confirmed, the token is cached like any other.
    cache.invalidate(TOKEN).await.unwrap();
    for _ in 0..3 {
        assert!(is_invalid(&cache, TOKEN).await);
    }
    assert_eq!(world.db.loads(), 2 + 3 + 1);
}

#[tokio::test]
async fn a_suspended_tenants_tokens_do_not_come_back_with_redis() {
    let world = World::new();
    let cache = world.instance().await;
    world.db.suspend(TENANT);
    world
        .cut_off(&cache, async || cache.invalidate_tenant(TENANT).await)
        .await
        .unwrap_err();
    let denied = async || matches!(ask(&cache, TOKEN).await.unwrap(), Answer::Denied(_));
    for _ in 0..3 {
        assert!(denied().await);
    }
    assert_eq!(world.db.loads(), 2 + 3);
    cache.invalidate_tenant(TENANT).await.unwrap();
    assert!(denied().await && denied().await);
    assert_eq!(world.db.loads(), 2 + 3 + 1);
}

#[tokio::test]
async fn the_store_is_trusted_again_once_all_it_held_has_expired() {
    let world = World::new();
    let cache = world.instance().await;
    world.revoke_unconfirmed(&cache).await;
    assert!(is_invalid(&cache, TOKEN).await);
    // The TTL plus the duration of a lease, and a twentieth more.
    world.clock.advance(Duration::from_secs(605) * 21 / 20);
    // Redis' own clock has not moved.
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Shared);
}

#[tokio::test]
async fn without_the_database_the_stored_answer_is_still_not_used() {
    let world = World::new();
    let cache = world.instance().await;
    world.revoke_unconfirmed(&cache).await;
    world.db.mode(Mode::Fails);
    ask(&cache, TOKEN).await.unwrap_err();
}

#[tokio::test]
async fn an_invalidation_whose_caller_hangs_up_is_not_confirmed() {
    let world = World::new();
    let cache = world.instance().await;
    world.db.revoke(TOKEN);
    world.proxy.stall(Direction::ToServer);
    let mut invalidation = cache.invalidate(TOKEN).into_future();
    let polled = invalidation
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    drop(invalidation);
    // The deletion is lost with the connection.
    world.cut_off(&cache, async || ()).await;
    assert!(world.server.get(&entry(TOKEN)).unwrap().starts_with(b"V1"));
    assert!(is_invalid(&cache, TOKEN).await);
}

/// The lease of a load from before the change is still in Redis, because no deletion removed it.
#[tokio::test]
async fn a_load_from_before_the_change_is_not_filled_after_it() {
    let world = World::new();
    let (points, cache) = world.held();
    let loaded = points.at(SyncPoint::Loaded);
    loaded.close();
    let before = start(&cache, TOKEN);
    loaded.reached(1).await;
    world.db.revoke(TOKEN);
    world
        .cut_off(&cache, async || cache.invalidate(TOKEN).await)
        .await
        .unwrap_err();
    let after = start(&cache, TOKEN);
    crate::common::until(|| cache.stats().joined == 1).await;
    loaded.open();
    before.await.unwrap().unwrap();
    let after = after.await.unwrap().unwrap();
    assert!(matches!(after, Answer::Invalid(_)), "{after:?}");
    assert!(is_invalid(&cache, TOKEN).await);
    let other = world.builder().build().unwrap();
    assert!(is_invalid(&other, TOKEN).await, "Redis does not have it");
}

/// Which lookups began before the confirmation, and would be answered after it by what Redis returned before.
#[tokio::test]
async fn a_value_that_was_read_before_the_confirmation_is_not_an_answer() {
    for all in [false, true] {
        let world = World::new();
        let (points, cache) = world.held();
        found(&cache, TOKEN).await;
        let invalidate = async || match all {
            true => cache.invalidate_all().await,
            false => cache.invalidate(TOKEN).await,
        };
        world.db.revoke(TOKEN);
        world.cut_off(&cache, invalidate).await.unwrap_err();
        let read = points.at(SyncPoint::Read);
        read.close();
        let lookup = start(&cache, TOKEN);
        read.reached(2).await;
        invalidate().await.unwrap();
        read.open();
        let answer = lookup.await.unwrap().unwrap();
        assert!(matches!(answer, Answer::Invalid(_)), "{all}: {answer:?}");
        assert!(is_invalid(&cache, TOKEN).await);
    }
}

#[tokio::test]
async fn a_peek_that_began_before_the_confirmation_finds_nothing() {
    let world = World::new();
    let cache = world.instance().await;
    world.revoke_unconfirmed(&cache).await;
    let mut peek = pin!(cache.peek(TOKEN));
    // It has sent its GET, and sees the reply after the confirmation.
    let polled = peek.as_mut().poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    cache.invalidate(TOKEN).await.unwrap();
    let found = peek.await.unwrap();
    assert!(found.is_none(), "{found:?}");
}

/// The tenant's generation was read before the confirmation, and the fill follows it.
#[tokio::test]
async fn a_load_from_before_the_change_is_not_shared_after_the_confirmation() {
    let world = World::new();
    let (points, cache) = world.held();
    let (loaded, read) = (
        points.at(SyncPoint::Loaded),
        points.at(SyncPoint::TenantRead),
    );
    loaded.close();
    let before = start(&cache, TOKEN);
    loaded.reached(1).await;
    world.db.suspend(TENANT);
    world
        .cut_off(&cache, async || cache.invalidate_tenant(TENANT).await)
        .await
        .unwrap_err();
    let after = start(&cache, TOKEN);
    crate::common::until(|| cache.stats().joined == 1).await;
    read.close();
    loaded.open();
    read.reached(1).await;
    cache.invalidate_tenant(TENANT).await.unwrap();
    read.open();
    before.await.unwrap().unwrap();
    let after = after.await.unwrap().unwrap();
    assert!(matches!(after, Answer::Denied(_)), "{after:?}");
}

#[tokio::test]
async fn a_stale_record_is_not_restored_after_the_change() {
    let world = World::new();
    let points = Points::default();
    let builder = world.builder().stale_if_error(Duration::from_secs(600));
    let cache = builder
        .ttl(Duration::from_millis(50))
        .sync_points(points.sync_points())
        .build()
        .unwrap();
    found(&cache, TOKEN).await;
    tokio::time::sleep(Duration::from_millis(60)).await;
    world.clock.advance(Duration::from_secs(1));
    world.db.mode(Mode::Fails);
    let loaded = points.at(SyncPoint::Loaded);
    loaded.close();
    let before = start(&cache, TOKEN);
    loaded.reached(2).await;
    world.db.revoke(TOKEN);
    world
        .cut_off(&cache, async || cache.invalidate(TOKEN).await)
        .await
        .unwrap_err();
    loaded.open();
    before.await.unwrap().unwrap_err();
    ask(&cache, TOKEN).await.unwrap_err();
}

impl World {
    /// Ends the pauses between the attempts of `cache`'s repeated invalidation, until `done`.
    async fn end_pauses(&self, cache: &Cache, mut done: impl FnMut() -> bool) {
        let attempts = || cache.stats().invalidations + cache.stats().invalidation_failures;
        while !done() {
            crate::common::until(|| self.clock.sleepers() > 0 || done()).await;
            let before = attempts();
            // Longer than any pause, and than the wait for all instances.
            self.clock.advance(Duration::from_secs(2));
            crate::common::until(|| attempts() > before || done()).await;
        }
    }
}

#[tokio::test]
async fn a_repeated_invalidation_is_confirmed_once_redis_is_back() {
    let world = World::new();
    let cache = world.instance().await;
    world.db.revoke(TOKEN);
    world.proxy.cut();
    let repeated = cache.invalidate(TOKEN).retry_for(Duration::from_secs(600));
    let repeated = tokio::spawn(repeated.wait_for_all_instances().into_future());
    world
        .end_pauses(&cache, || cache.stats().invalidation_failures >= 3)
        .await;
    // Meanwhile the instance does not answer from before the change.
    assert!(is_invalid(&cache, TOKEN).await);
    world.proxy.heal();
    world.end_pauses(&cache, || repeated.is_finished()).await;
    repeated.await.unwrap().unwrap();
    assert_eq!(cache.stats().invalidations, 1);
    assert!(world.server.get(&entry(TOKEN)).is_none());
}

#[tokio::test]
async fn an_invalidation_is_repeated_only_as_long_as_it_is_told() {
    let world = World::new();
    let cache = world.instance().await;
    world.proxy.cut();
    let mut failures = 0;
    // At 0, 2, 4 and 6 seconds: the last is the first that is late. And at 0, 2 and 4.
    for (seconds, attempts) in [(5, 4), (4, 3)] {
        let repeated = cache.invalidate_tenant(TENANT);
        let repeated = repeated.retry_for(Duration::from_secs(seconds));
        let repeated = tokio::spawn(repeated.into_future());
        world.end_pauses(&cache, || repeated.is_finished()).await;
        let error = repeated.await.unwrap().unwrap_err();
        assert!(error.is_retryable(), "{error}");
        failures += attempts;
        assert_eq!(cache.stats().invalidation_failures, failures);
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_does_not_end_the_repetitions() {
    let world = World::new();
    let cache = world.instance().await;
    world.db.revoke(TOKEN);
    world.proxy.cut();
    let repeated = cache.invalidate(TOKEN).retry_for(Duration::from_secs(600));
    let mut repeated = repeated.into_future();
    let polled = repeated
        .as_mut()
        .poll(&mut Context::from_waker(Waker::noop()));
    assert!(polled.is_pending());
    drop(repeated);
    world
        .end_pauses(&cache, || cache.stats().invalidation_failures >= 1)
        .await;
    world.proxy.heal();
    world
        .end_pauses(&cache, || cache.stats().invalidations == 1)
        .await;
    assert!(world.server.get(&entry(TOKEN)).is_none());
}

#[tokio::test]
async fn what_cannot_succeed_is_not_repeated() {
    let cache = Db::new().cache().build().unwrap();
    let repeated = cache.invalidate(TOKEN).wait_for_replicas(1);
    let error = repeated
        .retry_for(Duration::from_secs(600))
        .await
        .unwrap_err();
    assert!(!error.is_retryable(), "{error}");
    assert_eq!(cache.stats().invalidation_failures, 1);
}
