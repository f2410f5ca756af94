//! Tests of the local level in front of Redis: its staleness, refreshes and capacities, and the reach of an
//! invalidation.

use std::future::IntoFuture as _;
use std::sync::Arc;
use std::task::{Context, Waker};
use std::time::Duration;

use crate::common::{
    Builder, Cache, Db, Points, Row, ask, entry, found, is_invalid, redis, redis_at, start, until,
};
use test_support::{FrameProxy, RedisServer};
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{Answer, InvalidateErrorKind, Origin, RedisStore, TokenDigest};

const TOKEN: &str = "app-0123456789abcdef";
const BOUND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);

struct World {
    server: RedisServer,
    db: Arc<Db>,
    clock: ManualClock,
}

impl World {
    fn new(row: Row) -> Self {
        Self {
            server: RedisServer::start(),
            db: Db::with(TOKEN, row),
            clock: ManualClock::new(),
        }
    }

    fn builder(&self) -> Builder {
        self.db
            .cache()
            .store(redis(&self.server))
            .clock(self.clock.clone())
    }

    fn instance(&self) -> Cache {
        self.builder().token_types(["app"]).build().unwrap()
    }

    /// Creates a store whose user may do everything except register a bound.
    fn without_registering(&self) -> RedisStore {
        let rules = ["on", "nopass", "~*", "+@all", "-sadd"];
        let user = [&["ACL", "SETUSER", "few"], &rules[..]].concat();
        self.server.command(&user).ok();
        redis_at(&self.server.url().replace("redis://", "redis://few:x@"))
    }

    fn gets(&self) -> u64 {
        self.server.command_count("get")
    }
}

#[tokio::test]
async fn another_instances_entry_is_stale_for_less_than_the_bound() {
    for tenant in [None, Some("t-1")] {
        let mut row = Row::new("app");
        row.tenant = tenant.map(str::to_owned);
        let world = World::new(row);
        let (one, two) = (world.instance(), world.instance());
        found(&two, TOKEN).await;
        world.db.change(TOKEN, |_| {});
        match tenant {
            None => one.invalidate(TOKEN).await.unwrap(),
            Some(tenant) => one.invalidate_tenant(tenant).await.unwrap(),
        };
        world.clock.advance(BOUND - TICK);
        let stale = found(&two, TOKEN).await;
        assert_eq!((*stale.metadata(), stale.origin()), (0, Origin::Local));
        world.clock.advance(TICK);
        assert_eq!(*found(&two, TOKEN).await.metadata(), 1);
    }
}

#[tokio::test]
async fn the_instance_that_invalidates_obeys_at_once() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let instance = world.instance();
    for version in 1..=6 {
        found(&instance, TOKEN).await;
        assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Local);
        world.db.change(TOKEN, |_| {});
        match version % 3 {
            0 => instance.invalidate(TOKEN).await.unwrap(),
            1 => instance
                .invalidate_digest(TokenDigest::of(TOKEN))
                .await
                .unwrap(),
            _ => instance.invalidate_tenant("t-1").await.unwrap(),
        };
        // The next fill is sent after this, by the clock too.
        world.clock.advance(TICK);
        assert_eq!(*found(&instance, TOKEN).await.metadata(), version);
    }
}

#[tokio::test]
async fn a_hot_token_is_refreshed_in_the_background_and_never_waits() {
    for tenant in [None, Some("t-1")] {
        let mut row = Row::new("app");
        row.tenant = tenant.map(str::to_owned);
        let world = World::new(row);
        let instance = world.instance();
        found(&instance, TOKEN).await;
        for round in 1..=4 {
            let gets = world.gets();
            world.clock.advance(BOUND / 2);
            for _ in 0..10 {
                assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Local);
            }
            settled(&instance).await;
            assert_eq!(instance.stats().refreshes, round);
            // The entry, the generation of all, and its tenant's if there is a tenant.
            let expected = if tenant.is_some() { 3 } else { 2 };
            assert_eq!(world.gets() - gets, expected);
        }
        assert_eq!(world.db.loads(), 1);
    }
}

#[tokio::test]
async fn a_hot_token_does_not_wait_for_its_instance_to_register_again() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    for half_bounds in 0..300 {
        world.clock.advance(BOUND / 2);
        let origin = found(&instance, TOKEN).await.origin();
        assert_eq!(origin, Origin::Local, "{half_bounds}");
        settled(&instance).await;
    }
}

/// Waits until no call is in flight.
async fn settled(instance: &Cache) {
    until(|| instance.in_flight() == 0).await;
}

#[tokio::test]
async fn a_refresh_puts_a_change_into_the_local_level() {
    let world = World::new(Row::new("app"));
    let (instance, operator) = (world.instance(), world.instance());
    found(&instance, TOKEN).await;
    world.db.change(TOKEN, |_| {});
    operator.invalidate(TOKEN).await.unwrap();
    world.clock.advance(BOUND / 2);
    assert_eq!(*found(&instance, TOKEN).await.metadata(), 0);
    settled(&instance).await;
    let refreshed = found(&instance, TOKEN).await;
    assert_eq!(
        (*refreshed.metadata(), refreshed.origin()),
        (1, Origin::Local)
    );
}

#[tokio::test]
async fn a_refresh_without_redis_neither_loads_nor_prolongs() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    world.server.kill();
    world.clock.advance(BOUND / 2);
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Local);
    until(|| instance.stats().store_errors > 0).await;
    settled(&instance).await;
    assert_eq!(world.db.loads(), 1);
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Local);
    world.clock.advance(BOUND / 2);
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Loaded);
}

#[tokio::test]
async fn a_fill_uses_no_generation_older_than_the_bound() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world
        .db
        .insert("another-token", Row::new("app").of_tenant("t-1"));
    let (instance, operator) = (world.instance(), world.instance());
    found(&instance, TOKEN).await;
    operator.invalidate_tenant("t-1").await.unwrap();
    world.clock.advance(BOUND);
    found(&instance, "another-token").await;
    let loads = world.db.loads();
    assert_eq!(
        found(&operator, "another-token").await.origin(),
        Origin::Shared
    );
    assert_eq!(world.db.loads(), loads);
}

#[tokio::test]
async fn a_flood_of_invented_tokens_evicts_no_valid_one() {
    let world = World::new(Row::new("app"));
    let builder = world
        .builder()
        .local_capacity(100)
        .local_negative_capacity(50);
    for instance in [
        builder
            .negative_writes_per_second(1_000_000)
            .build()
            .unwrap(),
        world
            .db
            .cache()
            .local_capacity(160)
            .local_negative_capacity(50)
            .build()
            .unwrap(),
    ] {
        let good: Vec<String> = (0..60).map(|n| format!("good-token-{n}")).collect();
        for token in &good {
            world.db.insert(token, Row::new("app"));
            found(&instance, token).await;
        }
        let kept = crate::common::local_entries(&instance).0;
        for n in 0..2_000 {
            assert!(is_invalid(&instance, &format!("invented-token-{n}")).await);
        }
        let (records, negatives) = crate::common::local_entries(&instance);
        assert_eq!(records, kept);
        assert!(negatives <= 64, "{negatives}");
    }
}

#[tokio::test]
async fn a_large_record_weighs_its_size() {
    let world = World::new(Row::new("app"));
    let instance = world.builder().local_capacity(64).build().unwrap();
    for n in 0..200 {
        let (token, mut row) = (format!("large-token-{n}"), Row::new("app"));
        row.id = "x".repeat(8_000);
        world.db.insert(&token, row);
        found(&instance, &token).await;
    }
    let (records, _) = crate::common::local_entries(&instance);
    assert!(
        (1..=8).contains(&records),
        "{records} records of 8 KiB in 64 KiB"
    );
}

#[tokio::test]
async fn the_local_level_can_be_switched_off() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let instance = world.builder().local_capacity(0).build().unwrap();
    found(&instance, TOKEN).await;
    for _ in 0..3 {
        assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Shared);
    }
    assert_eq!(crate::common::local_entries(&instance), (0, 0));
}

#[tokio::test]
async fn an_invalidation_applies_to_every_token_type() {
    let world = World::new(Row::new("dataset"));
    let build = || world.builder().build().unwrap();
    let (instance, operator) = (build(), build());
    let typed = instance.authenticate_typed(TOKEN, "dataset").await;
    typed.unwrap().valid().unwrap();
    let any = instance.authenticate(TOKEN).await;
    any.unwrap().valid().unwrap();
    assert_eq!(world.db.loads(), 1);
    world.db.revoke(TOKEN);
    operator.invalidate(TOKEN).await.unwrap();
    world.clock.advance(BOUND);
    let typed = instance.authenticate_typed(TOKEN, "dataset").await.unwrap();
    let any = instance.authenticate(TOKEN).await.unwrap();
    for answer in [typed, any] {
        assert!(matches!(answer, Answer::Invalid(_)), "{answer:?}");
    }
}

#[tokio::test]
async fn a_lost_registry_fails_one_wait_and_is_rebuilt() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    let lose = || {
        world.server.command(&["DEL", "api_token:bounds"]).int();
    };
    lose();
    // Without a wait an invalidation does not need the registry.
    instance.invalidate(TOKEN).await.unwrap();
    instance.invalidate_tenant("t-1").await.unwrap();
    let error = instance
        .invalidate(TOKEN)
        .wait_for_all_instances()
        .await
        .unwrap_err();
    assert!(error.is_retryable());
    let cache = instance.clone();
    let waiting =
        tokio::spawn(async move { cache.invalidate(TOKEN).wait_for_all_instances().await });
    until(|| world.clock.sleepers() > 0 || waiting.is_finished()).await;
    world.clock.advance(BOUND * 2);
    waiting.await.unwrap().unwrap();
    lose();
    let waiting = instance.invalidate_tenant("t-1").wait_for_all_instances();
    waiting.await.unwrap_err();
    // A registry that cannot be read counts as lost too.
    let set = ["SET", "api_token:bounds", "a string"];
    world.server.command(&set).ok();
    instance.invalidate(TOKEN).await.unwrap();
    instance
        .invalidate(TOKEN)
        .wait_for_all_instances()
        .await
        .unwrap_err();
}

/// The reply to the invalidation has arrived, but is not polled before the bound is registered.
#[tokio::test]
async fn a_bound_registered_during_an_invalidation_fails_no_wait() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    // Connected, but its bound is not registered.
    instance.check_store().await.unwrap();
    let reads = || world.server.command_count("smembers");
    let before = reads();
    let mut invalidation = instance
        .invalidate(TOKEN)
        .wait_for_all_instances()
        .into_future();
    let mut context = Context::from_waker(Waker::noop());
    let sent = invalidation.as_mut().poll(&mut context);
    assert!(sent.is_pending());
    until(|| reads() > before).await;
    found(&instance, TOKEN).await;
    let waiting = tokio::spawn(invalidation);
    until(|| world.clock.sleepers() > 0 || waiting.is_finished()).await;
    world.clock.advance(BOUND * 2);
    waiting.await.unwrap().unwrap();
}

/// The deletion itself does not need the registry.
#[tokio::test]
async fn without_a_registered_bound_fills_are_kept_only_in_redis() {
    let world = World::new(Row::new("app"));
    let builder = world.builder().store(world.without_registering());
    let instance = builder.build().unwrap();
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Loaded);
    for _ in 0..2 {
        assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Shared);
    }
    world.db.revoke(TOKEN);
    world.instance().invalidate(TOKEN).await.unwrap();
    assert!(is_invalid(&instance, TOKEN).await);
}

#[tokio::test]
async fn an_instance_that_only_reads_registers_once_a_minute() {
    let world = World::new(Row::new("app"));
    let filler = world
        .builder()
        .local_capacity(0)
        .token_types(["app"])
        .build()
        .unwrap();
    found(&filler, TOKEN).await;
    let reader = world
        .builder()
        .token_types(["app"])
        .max_staleness(BOUND * 3)
        .build()
        .unwrap();
    assert_eq!(found(&reader, TOKEN).await.origin(), Origin::Shared);
    let members = world
        .server
        .command(&["SMEMBERS", "api_token:bounds"])
        .array();
    let mut members: Vec<String> = members.into_iter().map(|member| member.text()).collect();
    members.sort();
    assert_eq!(members, ["0", "3000"]);
    let registrations = || world.server.command_count("sadd");
    let before = registrations();
    world.clock.advance(Duration::from_secs(59));
    found(&reader, TOKEN).await;
    assert_eq!(registrations(), before);
    world.clock.advance(Duration::from_secs(3));
    found(&reader, TOKEN).await;
    assert_eq!(registrations(), before + 1);
}

#[tokio::test]
async fn one_of_many_concurrent_lookups_registers_the_bound() {
    let world = World::new(Row::new("app"));
    let tokens: Vec<String> = (0..100).map(|n| format!("app-token-{n}")).collect();
    let filler = world.instance();
    for token in &tokens {
        world.db.insert(token, Row::new("app"));
        found(&filler, token).await;
    }
    let before = world.server.command_count("sadd");
    let reader = world.instance();
    let asked: Vec<_> = tokens.iter().map(|token| start(&reader, token)).collect();
    for one in asked {
        one.await.unwrap().unwrap();
    }
    assert_eq!(world.server.command_count("sadd"), before + 1);
    for token in &tokens {
        found(&reader, token).await;
    }
    assert_eq!(crate::common::local_entries(&reader).0, tokens.len());
}

#[tokio::test]
async fn a_registration_is_not_repeated_while_its_reply_may_still_come() {
    let world = World::new(Row::new("app"));
    let filler = world.instance();
    let other = "app-another-token";
    world.db.insert(other, Row::new("app"));
    for token in [TOKEN, other] {
        found(&filler, token).await;
    }
    let proxy = FrameProxy::start(world.server.addr());
    let store = redis_at(&format!("redis://{}", proxy.addr()));
    let reader = world.builder().token_types(["app"]).store(store);
    let reader = reader.build().unwrap();
    reader.warm(other).await.unwrap();
    world.clock.advance(Duration::from_secs(62));
    let received = |command: &str| proxy.received(command);
    let before = received("SADD");
    proxy.hold("SADD");
    let first = start(&reader, TOKEN);
    until(|| received("SADD") == before + 1).await;
    let reads = || received("GET") + received("MGET");
    let read = reads();
    // An operation may take 20 s.
    world.clock.advance(Duration::from_secs(19));
    let second = start(&reader, other);
    until(|| reads() > read || received("SADD") > before + 1).await;
    assert_eq!(received("SADD"), before + 1);
    proxy.deliver();
    for asked in [first, second] {
        asked.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn an_instance_that_only_reads_registers_again_in_a_new_redis() {
    let world = World::new(Row::new("app"));
    let filler = world
        .builder()
        .local_capacity(0)
        .token_types(["app"])
        .build()
        .unwrap();
    let reader = world
        .builder()
        .token_types(["app"])
        .max_staleness(BOUND * 3)
        .build()
        .unwrap();
    let reads_and_is_known = async || {
        found(&filler, TOKEN).await;
        assert_eq!(found(&reader, TOKEN).await.origin(), Origin::Shared);
        let member = ["SISMEMBER", "api_token:bounds", "3000"];
        assert_eq!(world.server.command(&member).int(), 1);
    };
    reads_and_is_known().await;
    world.server.restart();
    for instance in [&filler, &reader] {
        while instance.check_store().await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    world.clock.advance(BOUND * 3);
    reads_and_is_known().await;
}

#[tokio::test]
async fn without_a_registered_bound_reads_are_not_kept() {
    let world = World::new(Row::new("app"));
    let filler = world.builder().local_capacity(0).build().unwrap();
    found(&filler, TOKEN).await;
    let builder = world.builder().token_types(["app"]);
    let reader = builder.store(world.without_registering()).build().unwrap();
    for _ in 0..3 {
        assert_eq!(found(&reader, TOKEN).await.origin(), Origin::Shared);
    }
    assert_eq!(reader.stats().store_errors, 3);
}

#[tokio::test]
async fn reads_are_kept_if_a_full_redis_has_the_bound() {
    let world = World::new(Row::new("app"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    world
        .server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .ok();
    world.clock.advance(Duration::from_secs(90));
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Shared);
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Local);
    assert_eq!(instance.stats().store_errors, 0);
}

#[tokio::test]
async fn the_wait_of_an_idle_operator_outlasts_its_own_bound() {
    let world = World::new(Row::new("app"));
    let operators = ManualClock::new();
    let builder = world
        .db
        .cache()
        .store(redis(&world.server))
        .clock(operators.clone());
    let operator = builder
        .local_capacity(0)
        .token_types(["app"])
        .build()
        .unwrap();
    // The registry is empty, so it may have been lost.
    let waiting =
        tokio::spawn(async move { operator.invalidate(TOKEN).wait_for_all_instances().await });
    until(|| operators.sleepers() == 1).await;
    operators.advance(BOUND);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    operators.advance(Duration::from_millis(50));
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn the_wait_outlasts_the_longest_bound_of_any_instance() {
    let world = World::new(Row::new("app"));
    let slow = world.builder().max_staleness(BOUND * 3).build().unwrap();
    found(&slow, TOKEN).await;
    let operators = ManualClock::new();
    let builder = world
        .db
        .cache()
        .store(redis(&world.server))
        .clock(operators.clone());
    let operator = builder.local_capacity(0).build().unwrap();
    let waiting =
        tokio::spawn(async move { operator.invalidate(TOKEN).wait_for_all_instances().await });
    until(|| operators.sleepers() == 1).await;
    operators.advance(BOUND * 3 + Duration::from_millis(150) - TICK);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished());
    operators.advance(TICK);
    waiting.await.unwrap().unwrap();
}

#[tokio::test]
async fn a_receipt_tells_from_when_on_every_instance_obeys() {
    let world = World::new(Row::new("app"));
    let slow = world.builder().max_staleness(BOUND * 3).build().unwrap();
    found(&slow, TOKEN).await;
    let operator = world.builder().local_capacity(0).build().unwrap();
    let now = world.clock.now();
    let margin = Duration::from_millis(50);
    // It has not looked for other instances' bounds.
    let receipt = operator.invalidate(TOKEN).await.unwrap();
    assert_eq!(receipt.confirmed_at(), now);
    assert_eq!(receipt.effective_at(), now + BOUND + margin);
    let waiting = operator.clone();
    let waiting =
        tokio::spawn(async move { waiting.invalidate(TOKEN).wait_for_all_instances().await });
    until(|| world.clock.sleepers() == 1).await;
    world.clock.advance(BOUND * 3 + 3 * margin);
    let receipt = waiting.await.unwrap().unwrap();
    assert_eq!(receipt.confirmed_at(), now);
    assert_eq!(receipt.effective_at(), world.clock.now());
    // Now it knows the longer one.
    let receipt = operator.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(
        receipt.effective_at(),
        receipt.confirmed_at() + BOUND * 3 + 3 * margin
    );
}

#[tokio::test]
async fn in_memory_an_invalidation_takes_effect_without_a_wait() {
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    let clock = ManualClock::new();
    let cache = db.cache().clock(clock.clone()).build().unwrap();
    for version in 0..5 {
        clock.advance(TICK);
        assert_eq!(*found(&cache, TOKEN).await.metadata(), version);
        assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Local);
        db.change(TOKEN, |_| {});
        let invalidation = match version % 2 {
            0 => cache.invalidate(TOKEN),
            _ => cache.invalidate_tenant("t-1"),
        };
        let receipt = invalidation.wait_for_all_instances().await.unwrap();
        assert_eq!(receipt.effective_at(), receipt.confirmed_at());
    }
    let error = cache.invalidate(TOKEN).wait_for_replicas(1).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), InvalidateErrorKind::Unsupported);
    assert!(!error.is_retryable());
    assert!(ask(&cache, TOKEN).await.is_ok());
}

#[tokio::test]
async fn a_known_generation_is_not_read_again_after_a_load() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world
        .db
        .insert("another-token", Row::new("app").of_tenant("t-1"));
    let instance = world.instance();
    found(&instance, TOKEN).await;
    let gets = world.gets();
    found(&instance, "another-token").await;
    // The entry, also in the scripts of the acquire and of the fill, and E and A with the acquire.
    assert_eq!(world.gets() - gets, 5);
}

#[tokio::test]
async fn a_known_generation_is_not_read_again_for_the_next_entry() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    world
        .db
        .insert("another-token", Row::new("app").of_tenant("t-1"));
    let (filler, reader) = (world.instance(), world.instance());
    found(&filler, TOKEN).await;
    found(&filler, "another-token").await;
    for (token, expected) in [(TOKEN, 2), ("another-token", 1)] {
        let gets = world.gets();
        assert_eq!(found(&reader, token).await.origin(), Origin::Shared);
        assert_eq!(world.gets() - gets, expected, "{token}");
    }
}

#[tokio::test]
async fn a_moved_token_is_filled_under_its_new_tenants_generation() {
    let world = World::new(Row::new("app").of_tenant("t-1"));
    let build = || world.builder().local_capacity(0).build().unwrap();
    let (instance, operator) = (build(), build());
    found(&instance, TOKEN).await;
    world
        .db
        .change(TOKEN, |row| row.tenant = Some("t-2".to_owned()));
    operator.invalidate_tenant("t-1").await.unwrap();
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Loaded);
    assert_eq!(found(&instance, TOKEN).await.origin(), Origin::Shared);
}

#[tokio::test]
async fn a_large_denial_weighs_its_size() {
    let world = World::new(Row::new("app"));
    let filler = world.builder().local_capacity(0).build().unwrap();
    let reader = world.builder().local_negative_capacity(64).build().unwrap();
    let tenant = "t".repeat(8_000);
    world.db.suspend(&tenant);
    for n in 0..100 {
        let token = format!("denied-token-{n}");
        world.db.insert(&token, Row::new("app").of_tenant(&tenant));
        for instance in [&filler, &reader] {
            assert!(matches!(
                ask(instance, &token).await.unwrap(),
                Answer::Denied(_)
            ));
        }
    }
    let (_, denials) = crate::common::local_entries(&reader);
    assert!(
        (1..=8).contains(&denials),
        "{denials} denials of 8 KiB in 64 KiB"
    );
}

/// What the guide on security says to do if every token may have leaked.
#[tokio::test]
async fn after_a_flush_and_the_bound_nothing_from_before_it_is_accepted() {
    const HELD: &str = "app-fedcba9876543210";
    let (server, clock) = (RedisServer::start(), ManualClock::new());
    let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
    db.insert(HELD, Row::new("app"));
    let points = Points::default();
    let builder = || db.cache().store(redis(&server)).clock(clock.clone());
    let loading = builder().sync_points(points.sync_points());
    let (loading, holding) = (loading.build().unwrap(), builder().build().unwrap());
    // A local entry of one instance, and a load of the other that has read the row as it was.
    found(&holding, HELD).await;
    let loaded = points.at(SyncPoint::Loaded);
    loaded.close();
    let before = start(&loading, TOKEN);
    loaded.reached(1).await;

    for token in [TOKEN, HELD] {
        db.revoke(token);
    }
    server.flushall();
    loaded.open();
    // It began before the flush, and may get either answer.
    before.await.unwrap().unwrap();
    assert!(server.get(&entry(TOKEN)).is_none());
    assert!(is_invalid(&loading, TOKEN).await);
    found(&holding, HELD).await;
    clock.advance(BOUND + Duration::from_millis(50));
    assert!(is_invalid(&loading, HELD).await && is_invalid(&holding, HELD).await);
}
