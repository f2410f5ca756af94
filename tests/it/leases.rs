//! Tests that a lease that will not be filled is given back, whatever happens to the command that takes it, to
//! the one that fills it, and to the call in between.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::common::{Cache, Db, Points, Row, Version, cached, entry, eventually, found, until};
use serde::{Deserialize, Serialize};
use test_support::{Direction, FaultProxy, RedisServer};
use tokio::task::JoinHandle;
use tower_api_token::store::KeyLayout;
use tower_api_token::test_util::SyncPoint;
use tower_api_token::{
    Answer, ApiTokenCache, Lookup, Origin, RedisStore, TokenDigest, TokenRecord, Unavailable,
};

const TOKEN: &str = "app-0123456789abcdef";
const OTHER: &str = "app-fedcba9876543210";

struct World {
    server: RedisServer,
    db: Arc<Db>,
    points: Points,
    cache: Cache,
}

impl World {
    async fn new() -> Self {
        Self::of(
            RedisServer::start(),
            |server| server.url(),
            KeyLayout::digest(),
        )
        .await
    }

    /// Creates a cache that is connected, and whose leases do not expire during the test. One timeout opens its
    /// breaker until the end.
    async fn of(
        server: RedisServer,
        url: impl FnOnce(&RedisServer) -> String,
        layout: KeyLayout,
    ) -> Self {
        let db = Db::with(TOKEN, Row::new("app"));
        db.insert(OTHER, Row::new("app"));
        let points = Points::default();
        let store = RedisStore::new(&url(&server)).unwrap();
        let store = store.response_timeout(Duration::from_millis(200));
        let store = store.connect_timeout(Duration::from_secs(10));
        let store = store.circuit_breaker(1, Duration::from_secs(3_600));
        let builder = db
            .cache()
            .store(store.key_layout(layout))
            .token_types(["app"]);
        let builder = builder.load_timeout(Duration::from_secs(3_600));
        let builder = builder.local_capacity(0).sync_points(points.sync_points());
        let world = Self {
            cache: builder.build().unwrap(),
            server,
            db,
            points,
        };
        cached(&world.cache, OTHER).await;
        world
    }

    fn keys(&self) -> Vec<String> {
        let mut keys = self.server.keys("api_token:*");
        keys.extend(self.server.keys("api_token_query_lock:*"));
        keys.retain(|key| key.contains(TOKEN) || *key == entry(TOKEN));
        keys
    }

    async fn nothing_is_left(&self) {
        let what = "a lease or a lock is left behind";
        eventually(what, async || self.keys().is_empty()).await;
    }

    /// Runs a lookup, and runs `happens` while the lookup is held at a point of the protocol.
    async fn loads_through(&self, point: SyncPoint, happens: impl FnOnce(&RedisServer)) {
        let gate = self.points.at(point);
        gate.close();
        let arrivals = gate.arrivals();
        let asked = crate::common::start(&self.cache, TOKEN);
        gate.reached(arrivals + 1).await;
        happens(&self.server);
        gate.open();
        let Ok(Answer::Valid(token)) = asked.await.unwrap() else {
            panic!("the request is not answered");
        };
        assert_eq!(token.origin(), Origin::Loaded);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_is_taken_after_a_timeout_is_given_back() {
    for layout in [KeyLayout::digest(), KeyLayout::dify()] {
        let world = World::of(RedisServer::start(), |server| server.url(), layout).await;
        let pause = |server: &RedisServer| {
            server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).ok();
        };
        world.loads_through(SyncPoint::Read, pause).await;
        assert_eq!(world.keys(), [""; 0], "the lease is not taken yet");
        world.server.command(&["CLIENT", "UNPAUSE"]).ok();
        world.nothing_is_left().await;
        assert_eq!(world.db.loads(), 2);
    }
}

/// The connection is replaced meanwhile, but the commands that were written to it still run.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_a_frozen_redis_grants_late_is_given_back() {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.addr());
    let url = format!("redis://{}", proxy.addr());
    let world = World::of(server, |_| url, KeyLayout::digest()).await;
    let evals = || world.server.command_count("eval");
    let (before, connections) = (evals(), proxy.accepted());
    world
        .loads_through(SyncPoint::Read, RedisServer::pause)
        .await;
    until(|| proxy.accepted() > connections).await;
    world.server.resume();
    until(|| evals() > before).await;
    world.nothing_is_left().await;
}

/// Runs a lookup behind a proxy, which takes a lease but does not get the reply.
async fn a_lease_without_a_reply(
    breaks: impl AsyncFnOnce(&FaultProxy, JoinHandle<Result<Answer<Version>, Unavailable>>),
) {
    let server = RedisServer::start();
    let proxy = FaultProxy::start(server.addr());
    let url = format!("redis://{}", proxy.addr());
    let world = World::of(server, |_| url, KeyLayout::digest()).await;
    let evals = || world.server.command_count("eval");
    let before = evals();
    let gate = world.points.at(SyncPoint::Read);
    gate.close();
    let arrivals = gate.arrivals();
    let asked = crate::common::start(&world.cache, TOKEN);
    gate.reached(arrivals + 1).await;
    proxy.stall(Direction::ToClient);
    gate.open();
    until(|| evals() > before).await;
    assert_eq!(world.keys(), [entry(TOKEN)]);
    breaks(&proxy, asked).await;
    world.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_whose_reply_is_lost_is_given_back() {
    a_lease_without_a_reply(async |proxy, asked| {
        proxy.cut();
        proxy.heal();
        assert!(matches!(asked.await.unwrap(), Ok(Answer::Valid(_))));
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_given_back_after_failed_attempts_to_connect() {
    a_lease_without_a_reply(async |proxy, asked| {
        let before = proxy.accepted();
        proxy.cut();
        assert!(matches!(asked.await.unwrap(), Ok(Answer::Valid(_))));
        // Each attempt opens two connections, the second without HELLO.
        until(|| proxy.accepted() >= before + 8).await;
        proxy.heal();
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_is_given_back_when_a_connection_ends_meanwhile() {
    // The command may see the end of the connection before or after the supervisor does.
    for _ in 0..4 {
        a_lease_without_a_reply(async |proxy, asked| {
            proxy.stall(Direction::Both);
            // The acquire timed out, and the command that gives the lease back has been sent.
            assert!(matches!(asked.await.unwrap(), Ok(Answer::Valid(_))));
            proxy.cut();
            proxy.heal();
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lease_that_we_may_not_fill_is_given_back() {
    let world = World::new().await;
    let full = |server: &RedisServer| {
        server.command(&["CONFIG", "SET", "maxmemory", "1"]).ok();
    };
    world.loads_through(SyncPoint::BeforeFill, full).await;
    world.nothing_is_left().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_without_scripts_grants_no_lease_and_is_unhealthy() {
    for layout in [KeyLayout::digest(), KeyLayout::dify()] {
        let world = World::of(RedisServer::start(), |server| server.url(), layout).await;
        world.cache.check_store().await.unwrap();
        let set = |rule: &str| {
            world
                .server
                .command(&["ACL", "SETUSER", "default", rule])
                .ok()
        };
        set("-eval");
        for _ in 0..2 {
            assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Loaded);
            assert_eq!(world.keys(), [""; 0]);
        }
        // Reads and invalidations need no script.
        assert_eq!(found(&world.cache, OTHER).await.origin(), Origin::Shared);
        world.cache.check_store().await.unwrap_err();
        world.cache.invalidate(OTHER).of_type("app").await.unwrap();
        set("+eval");
        cached(&world.cache, TOKEN).await;
        world.cache.check_store().await.unwrap();
    }
}

#[tokio::test]
async fn a_store_that_lacks_a_needed_right_is_unhealthy() {
    let dify = ["expire", "srem", "scan"];
    let all = [
        "set", "get", "del", "eval", "pttl", "pexpire", "sadd", "smembers",
    ];
    for command in all.iter().chain(&dify) {
        let server = RedisServer::start();
        let db = Db::new();
        let build = |layout| {
            let builder = db
                .cache()
                .store(crate::common::redis(&server).key_layout(layout))
                .local_capacity(0);
            builder.token_types(["app"]).build().unwrap()
        };
        let (digest, of_dify) = (build(KeyLayout::digest()), build(KeyLayout::dify()));
        digest.check_store().await.unwrap();
        of_dify.check_store().await.unwrap();
        let rule = format!("-{command}");
        server.command(&["ACL", "SETUSER", "default", &rule]).ok();
        assert_eq!(
            digest.check_store().await.is_ok(),
            dify.contains(command),
            "{command}"
        );
        of_dify.check_store().await.expect_err(command);
    }
}

/// Metadata whose `Drop` panics once.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct Bomb {
    #[serde(skip)]
    lit: Arc<AtomicBool>,
}

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.lit.swap(false, Ordering::SeqCst) {
            panic!("the test panics on purpose");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_panics_gives_its_lease_back() {
    let server = RedisServer::start();
    let lit = Arc::<AtomicBool>::default();
    let bomb = Bomb {
        lit: Arc::clone(&lit),
    };
    let loader = move |lookup: Lookup| {
        // The record has another digest, so it is dropped.
        let record = TokenRecord::new("tok-1")
            .token_type("dataset")
            .digest(TokenDigest::of("another"))
            .metadata(bomb.clone());
        bomb.lit
            .store(lookup.token().expose() == TOKEN, Ordering::SeqCst);
        async { Ok::<_, std::io::Error>(Some(record)) }
    };
    let builder = ApiTokenCache::builder(loader).store(crate::common::redis(&server));
    let builder = builder.load_timeout(Duration::from_secs(3_600));
    let cache = builder.local_capacity(0).build().unwrap();
    cache.authenticate_typed(TOKEN, "app").await.unwrap_err();
    let vacant = async || server.get(&entry(TOKEN)).is_none();
    eventually("the lease is left behind", vacant).await;
    assert!(!lit.load(Ordering::SeqCst));
}

static LIT: AtomicBool = AtomicBool::new(false);

/// Metadata from Redis whose `Drop` panics once.
#[derive(Debug, Clone, Serialize, Deserialize)]
struct StoredBomb;

impl Drop for StoredBomb {
    fn drop(&mut self) {
        if LIT.swap(false, Ordering::SeqCst) {
            panic!("the test panics on purpose");
        }
    }
}

#[tokio::test]
async fn metadata_whose_drop_panics_makes_its_lookup_unavailable() {
    let server = RedisServer::start();
    let loader = |_: Lookup| async {
        let record = TokenRecord::new("tok-1").tenant_id("t");
        Ok::<_, std::io::Error>(Some(record.metadata(StoredBomb)))
    };
    let builder = ApiTokenCache::builder(loader).store(crate::common::redis(&server));
    let cache = builder.local_capacity(0).build().unwrap();
    cache.warm(TOKEN).await.unwrap();
    cache.invalidate_tenant("t").await.unwrap();
    // What Redis holds is of a former generation, and is dropped.
    LIT.store(true, Ordering::SeqCst);
    let answer = tokio::spawn(async move { cache.authenticate(TOKEN).await.map(drop) });
    answer.await.unwrap().unwrap_err();
    assert!(!LIT.load(Ordering::SeqCst));
}
