//! Tests of the invalidation of everything: no interleaving brings back an answer from before it (protocol.md section 5,
//! "All entries").

use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Builder, Cache, Db, Points, Row, Version, entry, eventually, found, is_invalid, redis,
    redis_at, start, until,
};
use test_support::{Direction, FaultProxy, RedisServer};
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::{ManualClock, SyncPoint};
use tower_api_token::{Answer, MemoryStore, Origin, RedisStore};

const PLAIN: &str = "app-0123456789abcdef";
const OF_TENANT: &str = "app-fedcba9876543210";
const TENANT: &str = "t-1";
const UNKNOWN: &str = "app-unknown";
/// The key of the generation of all entries.
const ALL: &str = "api_token:tokens";
const BOUND: Duration = Duration::from_secs(1);
const TICK: Duration = Duration::from_nanos(1);

/// A database with a token without a tenant and one with a tenant, and a clock.
struct World {
    server: RedisServer,
    db: Arc<Db>,
    points: Points,
    clock: ManualClock,
}

impl World {
    fn new() -> Self {
        let db = Db::with(PLAIN, Row::new("app"));
        db.insert(OF_TENANT, Row::new("app").of_tenant(TENANT));
        Self {
            server: RedisServer::start(),
            db,
            points: Points::default(),
            clock: ManualClock::new(),
        }
    }

    fn builder(&self) -> Builder {
        let builder = self.db.cache().token_types(["app"]);
        builder.clock(self.clock.clone())
    }

    fn instance(&self) -> Cache {
        self.builder().store(redis(&self.server)).build().unwrap()
    }

    /// Creates an instance whose calls can be held.
    fn held(&self, local: usize) -> Cache {
        let builder = self.builder().store(redis(&self.server));
        let builder = builder.sync_points(self.points.sync_points());
        let patient = builder.load_timeout(Duration::from_secs(60));
        patient.local_capacity(local).build().unwrap()
    }

    /// Commits a change of every token, known or not.
    fn change(&self) {
        for token in [PLAIN, OF_TENANT] {
            self.db.change(token, |_| {});
        }
        self.db.insert(UNKNOWN, Row::new("app"));
    }

    /// Returns the version that a new instance gets.
    async fn for_a_newcomer(&self, token: &str) -> Version {
        *found(&self.instance(), token).await.metadata()
    }

    fn generation(&self) -> Option<String> {
        let bytes = self.server.get(ALL)?;
        Some(String::from_utf8(bytes).unwrap())
    }
}

fn version(answer: Result<Answer<Version>, impl std::fmt::Debug>) -> Version {
    match answer.unwrap() {
        Answer::Valid(token) => *token.metadata(),
        answer => panic!("{answer:?}"),
    }
}

#[tokio::test]
async fn each_answer_is_loaded_again_once() {
    let layouts = [KeyLayout::digest(), KeyLayout::dify()];
    let servers = [(); 2].map(|()| RedisServer::start());
    for (local, store) in [(0, 0), (0, 1), (0, 2), (1_000, 0), (1_000, 1), (1_000, 2)] {
        let world = World::new();
        let builder = world.builder().local_capacity(local);
        let cache = match store {
            0 => builder.store(MemoryStore::new()),
            n => builder.store(redis(&servers[n - 1]).key_layout(layouts[n - 1].clone())),
        };
        let cache = cache.build().unwrap();
        for _ in 0..2 {
            for token in [PLAIN, OF_TENANT] {
                assert_eq!(*found(&cache, token).await.metadata(), 0);
            }
            assert!(is_invalid(&cache, UNKNOWN).await);
        }
        assert_eq!(world.db.loads(), 3, "{local} {store}");
        world.change();
        cache.invalidate_all().await.unwrap();
        assert!(cache.peek(PLAIN).await.unwrap().is_none());
        for _ in 0..2 {
            for token in [PLAIN, OF_TENANT] {
                assert_eq!(*found(&cache, token).await.metadata(), 1);
            }
            assert_eq!(*found(&cache, UNKNOWN).await.metadata(), 0);
        }
        assert_eq!(world.db.loads(), 6, "{local} {store}");
        cache.invalidate_all().await.unwrap();
    }
}

#[tokio::test]
async fn another_instance_answers_from_before_it_for_less_than_the_bound() {
    let world = World::new();
    let (one, two) = (world.instance(), world.instance());
    for token in [PLAIN, OF_TENANT] {
        found(&two, token).await;
    }
    world.change();
    let waiting = tokio::spawn({
        let all = one.invalidate_all().wait_for_all_instances();
        async move { all.await.unwrap() }
    });
    until(|| world.clock.sleepers() == 1).await;
    world.clock.advance(BOUND - TICK);
    for token in [PLAIN, OF_TENANT] {
        assert_eq!(*found(&two, token).await.metadata(), 0);
    }
    world.clock.advance(TICK);
    for token in [PLAIN, OF_TENANT] {
        assert_eq!(*found(&two, token).await.metadata(), 1);
    }
    world.clock.advance(BOUND);
    let receipt = waiting.await.unwrap();
    assert!(receipt.effective_at() > receipt.confirmed_at());
}

/// What is read under a generation that was proved before the invalidation ends with that proof, not with its own.
#[tokio::test]
async fn an_entry_that_is_read_later_ends_with_the_generation() {
    for token in [PLAIN, OF_TENANT] {
        let world = World::new();
        let (one, two) = (world.instance(), world.instance());
        // It knows the generation, and nothing of the token.
        assert!(is_invalid(&two, UNKNOWN).await);
        found(&one, token).await;
        world.change();
        one.invalidate_all().await.unwrap();
        world.clock.advance(BOUND - TICK);
        let read = found(&two, token).await;
        assert_eq!((*read.metadata(), read.origin()), (0, Origin::Shared));
        world.clock.advance(TICK);
        assert_eq!(*found(&two, token).await.metadata(), 1);
    }
}

/// A load is under way, everything is invalidated, and the load is filled.
#[tokio::test]
async fn a_fill_from_before_it_is_never_valid() {
    for token in [PLAIN, OF_TENANT] {
        for local in [0, 1_000] {
            let world = World::new();
            let (held, operator) = (world.held(local), world.instance());
            let fill = world.points.at(SyncPoint::BeforeFill);
            fill.close();
            let slow = start(&held, token);
            fill.reached(1).await;
            world.change();
            operator.invalidate_all().await.unwrap();
            fill.open();
            assert_eq!(
                version(slow.await.unwrap()),
                0,
                "it began before the change"
            );
            assert_eq!(held.stats().fills_refused, 0, "its lease was left alone");
            assert_eq!(world.for_a_newcomer(token).await, 1);
            world.clock.advance(BOUND);
            assert_eq!(*found(&held, token).await.metadata(), 1);
        }
    }
}

/// The same, while the generation is created meanwhile by another instance.
#[tokio::test]
async fn a_fill_is_fenced_by_the_generation_from_before_its_load() {
    let world = World::new();
    let (held, operator) = (world.held(1_000), world.instance());
    let loaded = world.points.at(SyncPoint::Loaded);
    loaded.close();
    let slow = start(&held, PLAIN);
    loaded.reached(1).await;
    world.change();
    operator.invalidate_all().await.unwrap();
    // The key is there again, with the next generation, before the fill.
    found(&operator, OF_TENANT).await;
    assert!(world.generation().is_some());
    loaded.open();
    assert_eq!(version(slow.await.unwrap()), 0);
    assert_eq!(world.for_a_newcomer(PLAIN).await, 1);
}

#[tokio::test]
async fn a_lookup_after_it_shares_no_fill_from_before_it() {
    for token in [PLAIN, OF_TENANT] {
        for local in [0, 1_000] {
            let world = World::new();
            let held = world.held(local);
            let fill = world.points.at(SyncPoint::BeforeFill);
            fill.close();
            let early = start(&held, token);
            fill.reached(1).await;
            world.change();
            held.invalidate_all().await.unwrap();
            let late = start(&held, token);
            until(|| held.stats().joined == 1).await;
            fill.open();
            assert_eq!(version(early.await.unwrap()), 0);
            assert_eq!(version(late.await.unwrap()), 1, "{token} {local}");
            assert_eq!(world.for_a_newcomer(token).await, 1);
        }
    }
}

/// Otherwise each of those who wait for a load would ask Redis again.
#[tokio::test]
async fn a_fill_is_shared_while_the_generation_is_proved() {
    let world = World::new();
    let held = world.held(1_000);
    let fill = world.points.at(SyncPoint::BeforeFill);
    fill.close();
    let early = start(&held, PLAIN);
    fill.reached(1).await;
    let reads = || world.server.command_count("get") + world.server.command_count("mget");
    let before = reads();
    let late = start(&held, PLAIN);
    until(|| held.stats().joined == 1).await;
    fill.open();
    assert_eq!(version(early.await.unwrap()), 0);
    assert_eq!(version(late.await.unwrap()), 0);
    // The GET in the script of the fill.
    assert_eq!(reads() - before, 1);
}

/// The reply with the entry was under way while everything was invalidated here.
#[tokio::test]
async fn a_reply_from_before_it_is_not_kept() {
    for token in [PLAIN, OF_TENANT] {
        let world = World::new();
        found(&world.instance(), token).await;
        let held = world.held(1_000);
        // It is registered, and knows the generation.
        assert!(is_invalid(&held, "app-another").await);
        let read = world.points.at(SyncPoint::Read);
        let before = read.arrivals();
        read.close();
        let slow = start(&held, token);
        read.reached(before + 1).await;
        world.change();
        held.invalidate_all().await.unwrap();
        read.open();
        // It began before; its value is no longer of the present generation.
        assert_eq!(version(slow.await.unwrap()), 1);
        assert_eq!(*found(&held, token).await.metadata(), 1);
    }
}

/// A failover, an eviction and a restart without data lose it. That costs loads, and revives nothing.
#[tokio::test]
async fn a_lost_generation_costs_loads_and_revives_nothing() {
    let world = World::new();
    let (one, two) = (world.instance(), world.instance());
    found(&one, PLAIN).await;
    let first = world.generation().unwrap();
    for lost in [
        &["DEL", ALL][..],
        &["SET", ALL, "garbage"],
        &["PEXPIRE", ALL, "0"],
    ] {
        world.server.command(lost);
        world.clock.advance(BOUND);
        let loads = world.db.loads();
        until_loaded(&one, PLAIN).await;
        assert!(world.db.loads() > loads);
        assert_eq!(found(&two, PLAIN).await.origin(), Origin::Shared);
        let next = world.generation().unwrap();
        assert!(next != first && next.len() == 32, "{next}");
    }
    // What the first generation had is never valid again, not even if the entry were to come back.
    let old = world.server.get(&entry(PLAIN)).unwrap();
    world.change();
    one.invalidate_all().await.unwrap();
    found(&two, OF_TENANT).await;
    let old = String::from_utf8(old).unwrap();
    world
        .server
        .command(&["SET", &entry(PLAIN), &old, "PX", "600000"])
        .ok();
    assert_eq!(world.for_a_newcomer(PLAIN).await, 1);
}

/// A key that holds something else is an error once, and is then created anew.
async fn until_loaded(cache: &Cache, token: &str) {
    eventually("it is cached again", async || {
        let before = cache.stats().fills_refused;
        found(cache, token).await;
        found(cache, token).await.origin() == Origin::Local && cache.stats().fills_refused == before
    })
    .await;
}

/// What a release without this generation wrote is not valid: that release does not heed its end.
#[tokio::test]
async fn an_entry_without_the_generation_is_replaced() {
    let world = World::new();
    let cache = world.instance();
    found(&cache, PLAIN).await;
    assert!(is_invalid(&cache, UNKNOWN).await);
    let text = |token| String::from_utf8(world.server.get(&entry(token)).unwrap()).unwrap();
    let half = world.generation().unwrap()[..16].to_owned();
    let member = format!(r#","all":"{half}""#);
    let (record, absent) = (text(PLAIN), text(UNKNOWN));
    assert_eq!(absent, format!("N1{half}"));
    let former = record.replace(&member, "");
    assert_ne!(former, record);
    let set = |token, text: &str| {
        let set = ["SET", &entry(token), text, "PX", "60000"];
        world.server.command(&set).ok();
    };
    set(PLAIN, &former);
    set(UNKNOWN, "N1");
    world.change();
    for token in [PLAIN, UNKNOWN] {
        let newcomer = world.instance();
        assert_eq!(found(&newcomer, token).await.origin(), Origin::Loaded);
        assert_eq!(newcomer.stats().corrupt, 0, "it is no fault");
        assert_eq!(
            found(&world.instance(), token).await.origin(),
            Origin::Shared
        );
    }
}

#[tokio::test]
async fn it_ends_at_the_namespace() {
    let world = World::new();
    let other = world
        .builder()
        .namespace("other")
        .store(redis(&world.server));
    let other = other.build().unwrap();
    let tenant = "tokens";
    let cache = world.instance();
    for cache in [&cache, &other] {
        found(cache, PLAIN).await;
    }
    cache.invalidate_tenant(tenant).await.unwrap();
    world.clock.advance(BOUND);
    assert_eq!(found(&cache, PLAIN).await.origin(), Origin::Shared);
    cache.invalidate_all().await.unwrap();
    world.clock.advance(BOUND);
    assert_eq!(found(&other, PLAIN).await.origin(), Origin::Shared);
    assert_eq!(found(&cache, PLAIN).await.origin(), Origin::Loaded);
}

#[tokio::test]
async fn its_generation_is_renewed_where_only_lookups_read_it() {
    let world = World::new();
    for local in [0, 1_000] {
        let cache = world.held(local);
        found(&cache, PLAIN).await;
        world.server.command(&["EXPIRE", ALL, "40000"]).int();
        world.clock.advance(Duration::from_secs(61));
        found(&cache, PLAIN).await;
        let left = world.server.command(&["TTL", ALL]).int();
        assert!(left > 80_000, "{left}");
    }
}

/// Redis cannot be reached while everything is revoked.
#[tokio::test]
async fn while_it_is_not_confirmed_nothing_is_answered_from_before_it() {
    let world = World::new();
    let proxy = FaultProxy::start(world.server.addr());
    let store = redis_at(&format!("redis://{}", proxy.addr()));
    let cache = world.builder().store(store).build().unwrap();
    for token in [PLAIN, OF_TENANT] {
        found(&cache, token).await;
    }
    world.change();
    proxy.cut();
    let error = cache.invalidate_all().await.unwrap_err();
    assert!(error.is_retryable());
    proxy.heal();
    world.clock.advance(TICK);
    eventually("Redis is back", async || cache.check_store().await.is_ok()).await;
    for _ in 0..2 {
        for token in [PLAIN, OF_TENANT] {
            let answer = found(&cache, token).await;
            assert_eq!((*answer.metadata(), answer.origin()), (1, Origin::Loaded));
            assert!(cache.peek(token).await.unwrap().is_none());
        }
        // An unknown token is answered too, and the generation is read anew: it has not changed.
        found(&cache, UNKNOWN).await;
    }
    cache.invalidate_all().await.unwrap();
    world.clock.advance(TICK);
    for token in [PLAIN, OF_TENANT] {
        assert_eq!(found(&cache, token).await.origin(), Origin::Loaded);
        assert_eq!(found(&cache, token).await.origin(), Origin::Local);
    }
}

/// The deletion has reached Redis, and its reply has not come back.
#[tokio::test]
async fn without_a_reply_it_is_an_error_and_done() {
    let world = World::new();
    let proxy = FaultProxy::start(world.server.addr());
    let store = RedisStore::new(&format!("redis://{}", proxy.addr())).unwrap();
    let store = store
        .response_timeout(Duration::from_millis(200))
        .client_tracking(false);
    let cache = world.builder().store(store).build().unwrap();
    found(&cache, PLAIN).await;
    world.change();
    proxy.stall(Direction::ToClient);
    cache.invalidate_all().await.unwrap_err();
    assert_eq!(world.generation(), None);
    proxy.heal();
    assert_eq!(world.for_a_newcomer(PLAIN).await, 1);
}

#[tokio::test]
async fn without_memory_for_more_it_still_reaches_everything() {
    let world = World::new();
    let (one, two) = (world.instance(), world.instance());
    found(&two, PLAIN).await;
    world.change();
    world
        .server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .ok();
    one.invalidate_all().await.unwrap();
    world.clock.advance(BOUND);
    for _ in 0..2 {
        let answer = found(&two, PLAIN).await;
        assert_eq!((*answer.metadata(), answer.origin()), (1, Origin::Loaded));
    }
}

/// Python writes no generation, so each entry is deleted, and each lease: a load under one of them is not cached.
#[tokio::test]
async fn in_the_dify_layout_each_entry_is_deleted() {
    let world = World::new();
    let builder = |world: &World| {
        let store = redis(&world.server).key_layout(KeyLayout::dify());
        world.builder().store(store)
    };
    let of_python = "app-of-python";
    let name = |token: &str| format!("api_token:app:{token}");
    let json = format!(
        r#"{{"id": "py-1", "app_id": null, "tenant_id": null, "type": "app", "token": "{of_python}", "last_used_at": null, "created_at": null, "~metadata": 41}}"#
    );
    let set = |token: &str, text: &str| {
        let set = ["SET", &name(token), text, "PX", "600000"];
        world.server.command(&set).ok();
    };
    set(of_python, &json);
    set("a-null", "null");
    set("broken", "{");
    world
        .server
        .command(&["SET", "another:program:key", "x"])
        .ok();
    let held = builder(&world).sync_points(world.points.sync_points());
    let held = held.build().unwrap();
    let operator = builder(&world).build().unwrap();
    assert_eq!(*found(&held, of_python).await.metadata(), 41);
    assert_eq!(found(&held, of_python).await.origin(), Origin::Local);
    let fill = world.points.at(SyncPoint::BeforeFill);
    fill.close();
    let slow = start(&held, OF_TENANT);
    fill.reached(1).await;
    world.change();
    world.db.insert(of_python, Row::new("app"));
    operator.invalidate_all().await.unwrap();
    assert_eq!(world.server.keys("api_token:*"), [""; 0]);
    assert_eq!(world.server.keys("another:*").len(), 1);
    fill.open();
    slow.await.unwrap().unwrap();
    assert_eq!(held.stats().fills_refused, 1);
    // The local level of the instance that asked ends at once.
    held.invalidate_all().await.unwrap();
    assert_eq!(*found(&held, of_python).await.metadata(), 0);
    assert_eq!(*found(&held, OF_TENANT).await.metadata(), 1);
}

#[cfg(feature = "redis-cluster")]
mod on_a_cluster {
    use super::{Db, Duration, KeyLayout, Origin, RedisStore, Row, found, redis_at};
    use crate::common::{Cache, cached, eventually};
    use test_support::RedisCluster;
    use tower_api_token::InvalidateErrorKind;

    const ALL: &str = "api_token:tokens";

    struct World {
        cluster: RedisCluster,
        db: std::sync::Arc<Db>,
        tokens: Vec<String>,
        url: String,
    }

    impl World {
        async fn new() -> Self {
            let whole = ["--cluster-require-full-coverage", "no"];
            let cluster = RedisCluster::start_with(Duration::from_secs(600), &whole);
            let db = Db::new();
            let tokens: Vec<String> = (0..30).map(|n| format!("app-token-{n}")).collect();
            for token in &tokens {
                db.insert(token, Row::new("app"));
            }
            let url = cluster.url();
            let world = Self {
                cluster,
                db,
                tokens,
                url,
            };
            let cache = world.instance(|store| store);
            for token in &world.tokens {
                cached(&cache, token).await;
            }
            world
        }

        fn instance(&self, set: impl FnOnce(RedisStore) -> RedisStore) -> Cache {
            let builder = self.db.cache().store(set(redis_at(&self.url)));
            builder
                .local_capacity(0)
                .token_types(["app"])
                .build()
                .unwrap()
        }

        fn change(&self) {
            for token in &self.tokens {
                self.db.change(token, |_| {});
            }
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn it_reaches_the_entries_of_all_nodes() {
        let world = World::new().await;
        let (one, two) = (world.instance(|store| store), world.instance(|store| store));
        world.change();
        one.invalidate_all().wait_for_replicas(1).await.unwrap();
        for token in &world.tokens {
            assert_eq!(*found(&two, token).await.metadata(), 1);
            assert_eq!(found(&one, token).await.origin(), Origin::Shared);
        }
        let master = world.cluster.master_for(ALL);
        let before = world.cluster.node(master).get(ALL).unwrap();
        world.change();
        one.invalidate_all().wait_for_replicas(1).await.unwrap();
        // It survives the loss of the master.
        let replica = world.cluster.replicas_of(master)[0];
        world.cluster.node(master).kill();
        assert_eq!(world.cluster.failover(master), replica);
        for token in &world.tokens {
            assert_eq!(*found(&two, token).await.metadata(), 2);
        }
        eventually("the generation is created", async || {
            found(&two, &world.tokens[0]).await;
            world.cluster.node(replica).get(ALL).is_some()
        })
        .await;
        assert_ne!(world.cluster.node(replica).get(ALL), Some(before));
    }

    /// Nobody can know that it was not invalidated: each lookup is a load.
    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn without_the_master_of_its_generation_nothing_is_answered_from_redis() {
        let world = World::new().await;
        let short = Duration::from_millis(300);
        let cache = world.instance(|store| store.response_timeout(short).connect_timeout(short));
        assert_eq!(
            found(&cache, &world.tokens[0]).await.origin(),
            Origin::Shared
        );
        world.cluster.node(world.cluster.master_for(ALL)).pause();
        world.change();
        cache.invalidate_all().await.unwrap_err();
        for token in &world.tokens[..6] {
            let answer = found(&cache, token).await;
            assert_eq!((*answer.metadata(), answer.origin()), (1, Origin::Loaded));
        }
    }

    #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
    async fn in_the_dify_layout_it_is_an_error_not_to_be_retried() {
        let world = World::new().await;
        let cache = world.instance(|store| store.key_layout(KeyLayout::dify()));
        let token = &world.tokens[0];
        cached(&cache, token).await;
        let error = cache.invalidate_all().await.unwrap_err();
        assert_eq!(error.kind(), InvalidateErrorKind::Unsupported);
        // Nothing could confirm it, so it is not waited for.
        assert_eq!(found(&cache, token).await.origin(), Origin::Shared);
    }
}
