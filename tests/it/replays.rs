//! Replays the counterexamples of protocol.md section 8 on a real Redis. Each test fails if its rule is
//! removed from the code, which `scripts/guards` checks for one rule after the other.

use std::time::Duration;

use crate::common::{
    Cache, Db, Points, Row, ask, entry, found, is_invalid, redis, redis_at, start, until,
};
use test_support::{Direction, FaultProxy, RedisServer};
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{Answer, InvalidateErrorKind, Origin};

const TOKEN: &str = "app-0123456789abcdef";
const TENANT: &str = "t-1";
const BOUND: Duration = Duration::from_secs(1);
const MARGIN: Duration = Duration::from_millis(50);

/// One Redis, one database with one token, one instance whose calls can be held, and one operator.
struct World {
    server: RedisServer,
    db: std::sync::Arc<Db>,
    points: Points,
    instance: Cache,
    operator: Cache,
}

impl World {
    fn new(row: Row) -> Self {
        Self::on(RedisServer::start(), row)
    }

    fn on(server: RedisServer, row: Row) -> Self {
        let db = Db::with(TOKEN, row);
        let points = Points::default();
        // No local level: these replays concern Redis and calls in flight.
        let build = || {
            db.cache()
                .store(redis(&server))
                .local_capacity(0)
                .token_types(["app"])
        };
        let patient = Duration::from_secs(60);
        let instance = build()
            .sync_points(points.sync_points())
            .load_timeout(patient)
            .build()
            .unwrap();
        let operator = build().build().unwrap();
        Self {
            server,
            db,
            points,
            instance,
            operator,
        }
    }

    /// Returns the version that a new instance gets.
    async fn version_for_a_new_instance(&self) -> Option<u64> {
        let newcomer = self.db.cache().store(redis(&self.server)).build().unwrap();
        match ask(&newcomer, TOKEN).await.unwrap() {
            Answer::Valid(token) => Some(*token.metadata()),
            _ => None,
        }
    }
}

fn version(answer: &Answer<u64>) -> Option<u64> {
    match answer {
        Answer::Valid(token) => Some(*token.metadata()),
        _ => None,
    }
}

#[tokio::test]
async fn n1_a_revoked_token_is_not_cached_again_by_a_slow_load() {
    let world = World::new(Row::new("app"));
    let fill = world.points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&world.instance, TOKEN);
    fill.reached(1).await;
    world.db.revoke(TOKEN);
    world.operator.invalidate(TOKEN).await.unwrap();
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(world.instance.stats().fills_refused, 1);
    assert_eq!(world.version_for_a_new_instance().await, None);
    assert!(is_invalid(&world.instance, TOKEN).await);
}

#[tokio::test]
async fn n5_a_load_does_not_begin_before_its_lease_is_acknowledged() {
    let world = World::new(Row::new("app"));
    let proxy = FaultProxy::start(world.server.addr());
    let url = format!("redis://{}", proxy.addr());
    let (db, points) = (&world.db, &world.points);
    let builder = db
        .cache()
        .store(redis_at(&url))
        .local_capacity(0)
        .token_types(["app"]);
    let instance = builder.sync_points(points.sync_points()).build().unwrap();
    // Register and connect, so that the next command after the GET is the acquire.
    is_invalid(&instance, "another-token").await;
    let loads = db.loads();
    let read = points.at(SyncPoint::Read);
    let before = read.arrivals();
    read.close();
    let slow = start(&instance, TOKEN);
    read.reached(before + 1).await;
    proxy.stall(Direction::ToServer);
    read.open();
    // The acquire has been sent but cannot arrive. A load that began now would read the old version.
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    db.change(TOKEN, |_| {});
    world.operator.invalidate(TOKEN).await.unwrap();
    assert_eq!(db.loads(), loads, "nothing is loaded before the lease");
    proxy.resume();
    slow.await.unwrap().unwrap();
    assert_eq!(world.version_for_a_new_instance().await, Some(1));
}

#[tokio::test]
async fn n6_a_lookup_after_an_invalidation_joins_no_older_call() {
    let world = World::new(Row::new("app"));
    let loaded = world.points.at(SyncPoint::Loaded);
    loaded.close();
    let early = start(&world.instance, TOKEN);
    loaded.reached(1).await;
    world.db.change(TOKEN, |_| {});
    world.operator.invalidate(TOKEN).await.unwrap();
    let late = start(&world.instance, TOKEN);
    until(|| world.instance.stats().joined == 1).await;
    loaded.open();
    assert_eq!(
        version(&early.await.unwrap().unwrap()),
        Some(0),
        "it started before the change"
    );
    assert_eq!(version(&late.await.unwrap().unwrap()), Some(1));
}

#[tokio::test]
async fn n7_a_load_after_the_invalidation_sees_the_committed_change() {
    let world = World::new(Row::new("app"));
    found(&world.instance, TOKEN).await;
    // guard: N7
    // In the other order the old version is loaded and cached between the two.
    world.db.change(TOKEN, |_| {});
    world.operator.invalidate(TOKEN).await.unwrap();
    assert_eq!(*found(&world.instance, TOKEN).await.metadata(), 1);
    assert_eq!(world.version_for_a_new_instance().await, Some(1));
}

#[tokio::test]
async fn n9_a_late_duplicate_of_an_acquire_does_not_revive_a_lease() {
    let world = World::new(Row::new("app"));
    let acquired = world.points.at(SyncPoint::Acquired);
    acquired.close();
    world.db.mode(crate::common::Mode::Fails);
    let first = start(&world.instance, TOKEN);
    acquired.reached(1).await;
    let transmitted = String::from_utf8(world.server.get(&entry(TOKEN)).unwrap()).unwrap();
    acquired.open();
    first.await.unwrap().unwrap_err();
    world.db.mode(crate::common::Mode::Answers);

    let fill = world.points.at(SyncPoint::BeforeFill);
    fill.close();
    let second = start(&world.instance, TOKEN);
    fill.reached(1).await;
    world.db.revoke(TOKEN);
    world.operator.invalidate(TOKEN).await.unwrap();
    // The first call's acquire was delayed on its way, and runs now.
    let late = ["SET", &entry(TOKEN), &transmitted, "NX", "PX", "60000"];
    world.server.command(&late).ok();
    fill.open();
    second.await.unwrap().unwrap();
    assert_eq!(
        world.server.get(&entry(TOKEN)).unwrap(),
        transmitted.as_bytes()
    );
    world.server.command(&["DEL", &entry(TOKEN)]).int();
    assert_eq!(world.version_for_a_new_instance().await, None);
}

#[tokio::test]
async fn g1_a_tenant_invalidated_during_a_load_is_loaded_again() {
    let world = World::new(Row::new("app").of_tenant(TENANT));
    let loaded = world.points.at(SyncPoint::Loaded);
    loaded.close();
    let slow = start(&world.instance, TOKEN);
    loaded.reached(1).await;
    world.db.change(TOKEN, |_| {});
    world.operator.invalidate_tenant(TENANT).await.unwrap();
    loaded.open();
    assert_eq!(version(&slow.await.unwrap().unwrap()), Some(1));
    assert_eq!(world.db.loads(), 2);
    assert_eq!(world.version_for_a_new_instance().await, Some(1));
}

#[tokio::test]
async fn a_token_that_changes_tenant_between_two_loads_is_not_filled() {
    let world = World::new(Row::new("app").of_tenant(TENANT));
    let loaded = world.points.at(SyncPoint::Loaded);
    loaded.close();
    let slow = start(&world.instance, TOKEN);
    loaded.reached(1).await;
    world
        .db
        .change(TOKEN, |row| row.tenant = Some("t-2".to_owned()));
    world.operator.invalidate_tenant(TENANT).await.unwrap();
    loaded.open();
    assert_eq!(version(&slow.await.unwrap().unwrap()), Some(1));
    assert_eq!(world.db.loads(), 2);
    assert_eq!(world.server.get(&entry(TOKEN)), None);
}

#[tokio::test]
async fn g2_a_fill_does_not_validate_the_tenant_for_later_waiters() {
    let world = World::new(Row::new("app").of_tenant(TENANT));
    let fill = world.points.at(SyncPoint::BeforeFill);
    fill.close();
    // With a local level: without one the generation of all entries proves no fill for others. The bound is long, so that
    // the promise here is that of the instance which invalidates.
    let builder = world.db.cache().store(redis(&world.server));
    let builder = builder.max_staleness(BOUND * 60).load_timeout(BOUND * 60);
    let points = world.points.sync_points();
    let instance = builder.sync_points(points).build().unwrap();
    let early = start(&instance, TOKEN);
    fill.reached(1).await;
    world.db.change(TOKEN, |_| {});
    instance.invalidate_tenant(TENANT).await.unwrap();
    let late = start(&instance, TOKEN);
    until(|| instance.stats().joined == 1).await;
    fill.open();
    early.await.unwrap().unwrap();
    assert_eq!(
        instance.stats().fills_refused,
        0,
        "the key of the token was left alone"
    );
    assert_eq!(version(&late.await.unwrap().unwrap()), Some(1));
    assert_eq!(world.version_for_a_new_instance().await, Some(1));
}

#[tokio::test]
async fn g3_the_epoch_is_deleted_before_the_tenant_and_read_after_it() {
    let world = World::new(Row::new("app").of_tenant(TENANT));
    let mut monitor = world.server.monitor();
    found(&world.instance, TOKEN).await;
    world.operator.invalidate_tenant(TENANT).await.unwrap();
    let lines = monitor.take();
    let tenant = "\"api_token:tenant:{t-1}\"";
    let epoch = "\"api_token:tenants\"";
    let place = |needle: &dyn Fn(&str) -> bool| lines.iter().rposition(|line| needle(line));
    let read_tenant = place(&|line| line.contains("\"EVAL\"") && line.contains(tenant)).unwrap();
    let read_epoch = place(&|line| line.contains("\"GET\"") && line.contains(epoch)).unwrap();
    assert!(read_tenant < read_epoch, "{lines:#?}");
    let deleted = |name| place(&|line| line.contains("\"DEL\"") && line.contains(name)).unwrap();
    assert!(deleted(epoch) < deleted(tenant), "{lines:#?}");
}

#[tokio::test]
async fn g4_an_epoch_that_was_missing_twice_is_not_unchanged() {
    let world = World::new(Row::new("app").of_tenant(TENANT));
    let (acquired, loaded) = (
        world.points.at(SyncPoint::Acquired),
        world.points.at(SyncPoint::Loaded),
    );
    // Register, so that only the epoch has to be written.
    is_invalid(&world.instance, "another-token").await;
    world.server.command(&["DEL", "api_token:tenants"]).int();
    acquired.close();
    loaded.close();
    let slow = start(&world.instance, TOKEN);
    acquired.reached(2).await;
    // There is no memory for the epoch that this miss would create.
    world
        .server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .ok();
    acquired.open();
    loaded.reached(2).await;
    world
        .server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .ok();
    assert_eq!(world.server.get("api_token:tenants"), None);
    world.db.change(TOKEN, |_| {});
    world.operator.invalidate_tenant(TENANT).await.unwrap();
    loaded.open();
    slow.await.unwrap().unwrap();
    assert_eq!(world.version_for_a_new_instance().await, Some(1));
    assert_eq!(world.db.loads(), 3);
    assert_eq!(world.instance.stats().store_errors, 1);
}

#[tokio::test]
async fn a_different_local_generation_does_not_invalidate_a_value() {
    // Otherwise two instances would replace each other's values until the bound has passed.
    let world = World::new(Row::new("app").of_tenant(TENANT));
    let build = || {
        world
            .db
            .cache()
            .store(redis(&world.server))
            .build()
            .unwrap()
    };
    let (one, two) = (build(), build());
    found(&one, TOKEN).await;
    world.operator.invalidate_tenant(TENANT).await.unwrap();
    found(&two, TOKEN).await;
    let loads = world.db.loads();
    // `one` still remembers the old generation, and reads a value of the new one.
    world
        .db
        .insert("another-app-token", Row::new("app").of_tenant(TENANT));
    found(&two, "another-app-token").await;
    assert_eq!(
        found(&one, "another-app-token").await.origin(),
        Origin::Shared
    );
    assert_eq!(world.db.loads(), loads + 1);
}

/// An instance with a local level, and an operator, each with a manual clock.
struct Clocked {
    server: RedisServer,
    db: std::sync::Arc<Db>,
    points: Points,
    clock: ManualClock,
    instance: Cache,
    operators: ManualClock,
    operator: Cache,
}

impl Clocked {
    fn new(row: Row) -> Self {
        Self::with_bound(row, BOUND)
    }

    fn with_bound(row: Row, bound: Duration) -> Self {
        let server = RedisServer::start();
        let (db, points) = (Db::with(TOKEN, row), Points::default());
        let (clock, operators) = (ManualClock::new(), ManualClock::new());
        let build = |clock: &ManualClock| {
            let builder = db.cache().store(redis(&server)).token_types(["app"]);
            builder.clock(clock.clone()).max_staleness(bound)
        };
        let instance = build(&clock)
            .sync_points(points.sync_points())
            .build()
            .unwrap();
        let operator = build(&operators).build().unwrap();
        Self {
            server,
            db,
            points,
            clock,
            instance,
            operators,
            operator,
        }
    }

    fn advance(&self, by: Duration) {
        self.clock.advance(by);
        self.operators.advance(by);
    }

    /// Starts an invalidation that waits, and returns once its deletion is acknowledged.
    async fn invalidate_everywhere(&self) -> tokio::task::JoinHandle<()> {
        let operator = self.operator.clone();
        let deleted = self.server.command_count("del");
        let waiting = tokio::spawn(async move {
            operator
                .invalidate(TOKEN)
                .wait_for_all_instances()
                .await
                .unwrap();
        });
        until(|| self.server.command_count("del") > deleted).await;
        // Once the reply has arrived, the operator sleeps by its clock.
        until(|| self.operators.sleepers() == 1).await;
        waiting
    }
}

#[tokio::test]
async fn l3_an_entrys_age_counts_from_its_command_not_the_reply() {
    let world = Clocked::new(Row::new("app"));
    found(&world.operator, TOKEN).await;
    let read = world.points.at(SyncPoint::Read);
    read.close();
    let slow = start(&world.instance, TOKEN);
    read.reached(1).await;
    // The instance holds a reply with the old version. The change is complete everywhere.
    world.db.change(TOKEN, |_| {});
    let waiting = world.invalidate_everywhere().await;
    world.advance(BOUND + MARGIN);
    waiting.await.unwrap();
    read.open();
    assert_eq!(
        version(&slow.await.unwrap().unwrap()),
        Some(0),
        "it started before the change"
    );
    let after = found(&world.instance, TOKEN).await;
    assert_eq!((*after.metadata(), after.origin()), (1, Origin::Loaded));
}

#[tokio::test]
async fn l5_freshness_is_checked_by_a_clock_read_for_the_request() {
    let world = Clocked::new(Row::new("app"));
    found(&world.instance, TOKEN).await;
    let reads = world.server.command_count("get");
    world.clock.advance(BOUND - Duration::from_nanos(1));
    assert_eq!(found(&world.instance, TOKEN).await.origin(), Origin::Local);
    world.clock.advance(Duration::from_nanos(1));
    assert_eq!(found(&world.instance, TOKEN).await.origin(), Origin::Shared);
    assert!(world.server.command_count("get") > reads);
}

#[tokio::test]
async fn l10_the_wait_is_counted_from_the_reply_to_the_deletion() {
    let world = Clocked::new(Row::new("app"));
    let proxy = FaultProxy::start(world.server.addr());
    let url = format!("redis://{}", proxy.addr());
    let builder = world
        .db
        .cache()
        .store(redis_at(&url))
        .clock(world.operators.clone());
    let operator = builder
        .token_types(["app"])
        .max_staleness(BOUND)
        .build()
        .unwrap();
    operator.check_store().await.unwrap();
    found(&world.instance, TOKEN).await;
    world.db.change(TOKEN, |_| {});
    // The deletion is sent, but takes longer than the bound to arrive.
    proxy.stall(Direction::ToServer);
    let waiting =
        tokio::spawn(async move { operator.invalidate(TOKEN).wait_for_all_instances().await });
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    world.advance(BOUND + MARGIN);
    // The instance validates its entry once more, with the value that is still in Redis.
    assert_eq!(*found(&world.instance, TOKEN).await.metadata(), 0);
    proxy.resume();
    until(|| world.operators.sleepers() == 1 || waiting.is_finished()).await;
    assert!(
        !waiting.is_finished(),
        "the bound has not passed since the reply"
    );
    world.advance(BOUND + MARGIN);
    waiting.await.unwrap().unwrap();
    assert_eq!(*found(&world.instance, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn l11_the_wait_outlasts_an_instance_whose_clock_runs_slow() {
    let world = Clocked::new(Row::new("app"));
    found(&world.instance, TOKEN).await;
    world.db.change(TOKEN, |_| {});
    let waiting = world.invalidate_everywhere().await;
    // By the operator's clock the bound has passed. The instance's clock lags by forty milliseconds.
    world.operators.advance(BOUND);
    world.clock.advance(BOUND - Duration::from_millis(40));
    for _ in 0..1_000 {
        tokio::task::yield_now().await;
    }
    assert!(!waiting.is_finished(), "the margin is part of the wait");
    assert_eq!(
        *found(&world.instance, TOKEN).await.metadata(),
        0,
        "its entry is still fresh"
    );
    world.advance(MARGIN);
    waiting.await.unwrap();
    assert_eq!(*found(&world.instance, TOKEN).await.metadata(), 1);
}

#[tokio::test]
async fn l11_the_margin_grows_with_the_bound() {
    for (seconds, slow) in [(1, 0.04), (120, 0.0005), (3600, 0.04)] {
        let bound = Duration::from_secs(seconds);
        let world = Clocked::with_bound(Row::new("app"), bound);
        found(&world.instance, TOKEN).await;
        world.db.revoke(TOKEN);
        let waiting = world.invalidate_everywhere().await;
        let mut step = bound + MARGIN;
        while !waiting.is_finished() {
            world.operators.advance(step);
            world.clock.advance(step.mul_f64(1.0 - slow));
            step = bound / 100;
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
        }
        waiting.await.unwrap();
        assert!(is_invalid(&world.instance, TOKEN).await, "{bound:?}");
    }
}

/// An instance with a longer bound, and an operator that knows of it only through the registry.
struct Longer {
    world: Clocked,
    instance: Cache,
    operator: Cache,
}

impl Longer {
    fn new(declared: bool) -> Self {
        let world = Clocked::new(Row::new("app"));
        let builder = |clock: &ManualClock| {
            let builder = world.db.cache().store(redis(&world.server));
            let builder = builder.clock(clock.clone()).max_staleness(BOUND);
            if declared {
                builder.token_types(["app"])
            } else {
                builder
            }
        };
        let instance = builder(&world.clock).sync_points(world.points.sync_points());
        Self {
            instance: instance.max_staleness(BOUND * 10).build().unwrap(),
            operator: builder(&world.operators).build().unwrap(),
            world,
        }
    }

    /// Revokes the token, and waits until the operator's invalidation returns.
    async fn revoke(&self) {
        self.world.db.revoke(TOKEN);
        let operator = self.operator.clone();
        let waiting =
            tokio::spawn(async move { operator.invalidate(TOKEN).wait_for_all_instances().await });
        until(|| self.world.operators.sleepers() == 1).await;
        while !waiting.is_finished() {
            self.world.advance(BOUND + MARGIN);
            for _ in 0..1_000 {
                tokio::task::yield_now().await;
            }
        }
        waiting.await.unwrap().unwrap();
    }
}

#[tokio::test]
async fn r5_a_bound_is_registered_before_reads_are_kept_for_it() {
    for declared in [false, true] {
        let longer = Longer::new(declared);
        found(&longer.operator, TOKEN).await;
        let read = longer.world.points.at(SyncPoint::Read);
        read.close();
        let first = start(&longer.instance, TOKEN);
        read.reached(1).await;
        longer.revoke().await;
        read.open();
        first.await.unwrap().unwrap();
        assert!(is_invalid(&longer.instance, TOKEN).await, "{declared}");
    }
}

#[tokio::test]
async fn r6_reads_while_the_registry_is_lost_are_not_kept() {
    let longer = Longer::new(true);
    let world = &longer.world;
    found(&longer.instance, TOKEN).await;
    world.clock.advance(BOUND * 10);
    let read = world.points.at(SyncPoint::Read);
    read.close();
    let first = start(&longer.instance, TOKEN);
    read.reached(2).await;
    world.server.restart();
    for cache in [&longer.instance, &longer.operator] {
        while cache.check_store().await.is_err() {
            tokio::task::yield_now().await;
        }
    }
    longer.revoke().await;
    read.open();
    first.await.unwrap().unwrap();
    assert!(is_invalid(&longer.instance, TOKEN).await);
}

#[tokio::test]
async fn f2_a_deletion_of_nothing_does_not_count_as_replicated() {
    let (master, replica) = RedisServer::start_with_replica();
    let world = World::on(master, Row::new("app"));
    let operator = &world.operator;
    operator
        .invalidate(TOKEN)
        .wait_for_replicas(1)
        .await
        .unwrap();
    operator
        .invalidate_tenant(TENANT)
        .wait_for_replicas(1)
        .await
        .unwrap();
    assert_eq!(world.server.connected_replicas(), 1);
    replica.pause();
    let done = operator.invalidate(TOKEN).wait_for_replicas(1).await;
    let error = done.expect_err(&world.server.replication());
    assert!(error.is_retryable(), "{error:?}");
    assert_eq!(error.kind(), InvalidateErrorKind::TooFewReplicas);
    operator.invalidate(TOKEN).await.unwrap();
    replica.resume();
    operator
        .invalidate(TOKEN)
        .wait_for_replicas(1)
        .await
        .unwrap();
}
