//! Tests of what a client sees while Redis fails: answers from the loader, never a wrong one, and
//! caching again soon after.

use std::sync::{Arc, mpsc};
use std::time::{Duration, Instant};

use crate::common::{
    Cache, Db, Mode, Row, ask, cached, confirmed, eventually, found, is_invalid, start, until,
};
use test_support::{Direction, FaultProxy, RedisServer};
use tower_api_token::{Answer, Origin, RedisStore, UnavailableKind};

const TOKEN: &str = "app-0123456789abcdef";

struct World {
    server: RedisServer,
    proxy: FaultProxy,
    db: Arc<Db>,
    cache: Cache,
}

impl World {
    /// Creates a cache without a local level, so that every request uses Redis.
    fn new() -> Self {
        Self::on(RedisServer::start())
    }

    fn on(server: RedisServer) -> Self {
        let proxy = FaultProxy::start(server.addr());
        let db = Db::with(TOKEN, Row::new("app").of_tenant("t-1"));
        let cache = Self::cache(&db, &format!("redis://{}", proxy.addr()));
        Self {
            server,
            proxy,
            db,
            cache,
        }
    }

    fn cache(db: &Arc<Db>, url: &str) -> Cache {
        // Longer than the default, so that a busy machine does not look like an outage.
        let store = RedisStore::new(url)
            .unwrap()
            .response_timeout(Duration::from_secs(1));
        let store = store.circuit_breaker(3, Duration::from_millis(100));
        let builder = db
            .cache()
            .store(store)
            .local_capacity(0)
            .token_types(["app"]);
        builder.build().unwrap()
    }

    /// Waits until an answer comes from Redis again.
    async fn works(&self) {
        cached(&self.cache, TOKEN).await;
    }

    /// Repeats the invalidation until it is `Ok`, as the protocol requires.
    async fn invalidate(&self) {
        confirmed(async || self.cache.invalidate(TOKEN).await.is_ok()).await;
    }

    /// Checks that the loader answers all requests while Redis is down, most of them at once, because the
    /// breaker is open or the supervisor has given up the connection.
    async fn serves_from_the_loader(&self) {
        let loads = self.db.loads();
        for _ in 0..200 {
            assert_eq!(found(&self.cache, TOKEN).await.origin(), Origin::Loaded);
        }
        assert!(is_invalid(&self.cache, "unknown-token").await);
        assert_eq!(self.db.loads(), loads + 201);
        // Another token, because this instance does not answer from Redis what it could not invalidate.
        let invalidation = self.cache.invalidate("app-another-token").await;
        assert!(invalidation.unwrap_err().is_retryable());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_frozen_redis_costs_a_few_timeouts_and_no_more() {
    let world = World::new();
    world.works().await;
    world.server.pause();
    let start = Instant::now();
    world.serves_from_the_loader().await;
    // Two hundred timeouts would take two hundred seconds.
    assert!(
        start.elapsed() < Duration::from_secs(30),
        "{:?}",
        start.elapsed()
    );
    world.server.resume();
    world.works().await;
    world.cache.invalidate(TOKEN).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connection_that_hangs_in_either_direction_is_replaced() {
    for direction in [Direction::ToServer, Direction::ToClient, Direction::Both] {
        let world = World::new();
        world.works().await;
        let connections = world.proxy.accepted();
        world.proxy.stall(direction);
        world.serves_from_the_loader().await;
        until(|| world.proxy.accepted() > connections).await;
        world.proxy.heal();
        world.works().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_accepts_and_never_answers_is_not_waited_for() {
    let world = World::new();
    world.proxy.black_hole_new();
    world.serves_from_the_loader().await;
    world.proxy.heal();
    world.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_connect_does_not_keep_the_breaker_open() {
    let server = RedisServer::start();
    // It accepts connections, but does not answer heartbeats.
    server.command(&["CLIENT", "PAUSE", "60000", "WRITE"]).ok();
    let db = Db::with(TOKEN, Row::new("app"));
    let store = RedisStore::new(&server.url()).unwrap();
    let store = store.response_timeout(Duration::from_secs(5));
    let store = store.connect_timeout(Duration::from_millis(200));
    let store = store.circuit_breaker(1, Duration::from_secs(3_600));
    let builder = db
        .cache()
        .store(store)
        .local_capacity(0)
        .token_types(["app"]);
    let cache = builder.build().unwrap();
    assert_eq!(found(&cache, TOKEN).await.origin(), Origin::Loaded);
    server.command(&["CLIENT", "UNPAUSE"]).ok();
    let start = Instant::now();
    while found(&cache, TOKEN).await.origin() != Origin::Shared {
        assert!(
            start.elapsed() < Duration::from_secs(20),
            "the breaker stays open"
        );
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_restarts_empty_is_used_again() {
    let world = World::new();
    world.works().await;
    world.server.kill();
    world.serves_from_the_loader().await;
    world.server.restart();
    world.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_redis_still_works() {
    let world = World::new();
    world.works().await;
    world
        .proxy
        .delay(Direction::ToClient, Duration::from_millis(200));
    assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Shared);
    world.cache.invalidate(TOKEN).await.unwrap();
    assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Loaded);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_corrected_password_needs_no_restart() {
    let world = World::new();
    world.works().await;
    world
        .server
        .command(&["CONFIG", "SET", "requirepass", "secret"])
        .ok();
    world.proxy.cut();
    world.proxy.heal();
    world.serves_from_the_loader().await;
    // The test's own connection has no password either, so an instance with one resets it.
    let url = format!("redis://:secret@{}", world.server.addr());
    let client = redis::Client::open(url).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    let unset = redis::cmd("CONFIG")
        .arg("SET")
        .arg("requirepass")
        .arg("")
        .to_owned();
    unset.query_async::<()>(&mut connection).await.unwrap();
    world.works().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_read_only_redis_is_not_used_as_it_may_be_an_old_master() {
    let world = World::new();
    world.works().await;
    let nobody = test_support::free_port().to_string();
    world
        .server
        .command(&["REPLICAOF", "127.0.0.1", &nobody])
        .ok();
    world.cache.check_store().await.unwrap_err();
    // Until a heartbeat has detected it, reads are still answered.
    eventually("no heartbeat detected it", async || {
        found(&world.cache, TOKEN).await.origin() != Origin::Shared
    })
    .await;
    world.serves_from_the_loader().await;
    world.server.command(&["REPLICAOF", "NO", "ONE"]).ok();
    world.works().await;
    world.cache.check_store().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_full_redis_answers_reads_and_accepts_invalidations() {
    let world = World::new();
    world.works().await;
    world
        .server
        .command(&["CONFIG", "SET", "maxmemory", "1"])
        .ok();
    assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Shared);
    world.cache.check_store().await.unwrap_err();
    world.db.revoke(TOKEN);
    world.cache.invalidate(TOKEN).await.unwrap();
    for _ in 0..3 {
        assert!(is_invalid(&world.cache, TOKEN).await);
    }
    world.cache.invalidate_tenant("t-1").await.unwrap();
    world
        .server
        .command(&["CONFIG", "SET", "maxmemory", "0"])
        .ok();
    assert!(is_invalid(&world.cache, TOKEN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn flushing_redis_costs_loads_and_nothing_else() {
    let world = World::new();
    world.works().await;
    world.server.flushall();
    assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Loaded);
    assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Shared);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_invalidation_is_tried_while_the_breaker_is_open() {
    let world = World::new();
    world.works().await;
    world.proxy.stall(Direction::Both);
    for _ in 0..5 {
        found(&world.cache, TOKEN).await;
    }
    world.db.revoke(TOKEN);
    world.proxy.heal();
    // No request has probed the breaker meanwhile.
    world.invalidate().await;
    assert!(is_invalid(&world.cache, TOKEN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_redis_and_database_requests_fail_within_the_cap() {
    let world = World::new();
    world.works().await;
    world.server.kill();
    let ask_all = async |count: usize| {
        let start = |n: usize| {
            let cache = world.cache.clone();
            tokio::spawn(async move { ask(&cache, &format!("token-number-{n}")).await })
        };
        let mut answers = Vec::new();
        for one in (0..count).map(start).collect::<Vec<_>>() {
            answers.push(one.await.unwrap());
        }
        answers
    };
    assert!(ask_all(2_000).await.iter().all(Result::is_ok));
    assert!(world.db.most_at_once() <= 50, "{}", world.db.most_at_once());
    world.db.mode(Mode::Fails);
    assert!(ask_all(50).await.iter().all(Result::is_err));
    world.server.restart();
    world.db.mode(Mode::Answers);
    world.works().await;
    assert_eq!(
        world.server.keys("api_token:token:*").len(),
        1,
        "the outage was not cached"
    );
}

#[test]
fn a_store_outlives_the_runtime_that_it_was_first_used_in() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let cache = World::cache(&db, &server.url());
    for round in 0..3 {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let origin = runtime.block_on(async { found(&cache, TOKEN).await.origin() });
        assert_eq!(
            origin,
            if round == 0 {
                Origin::Loaded
            } else {
                Origin::Shared
            }
        );
    }
}

#[test]
fn a_request_in_a_runtime_that_has_ended_ends_too() {
    let world = World::new();
    let cache = world.cache.clone();
    let ended = tokio::runtime::Runtime::new().unwrap().handle().clone();
    let (done, waiting) = mpsc::channel::<()>();
    std::thread::spawn(move || {
        // It may panic, as everything that needs a timer does in an ended runtime.
        let _done = done;
        let _ = ended.block_on(cache.check_store());
    });
    let end = waiting.recv_timeout(Duration::from_secs(10));
    assert_eq!(end, Err(mpsc::RecvTimeoutError::Disconnected));
}

#[test]
fn a_store_outlives_a_stalled_runtime() {
    let server = RedisServer::start();
    let db = Db::with(TOKEN, Row::new("app"));
    let store = RedisStore::new(&server.url()).unwrap();
    let store = store.response_timeout(Duration::from_millis(100));
    let builder = db
        .cache()
        .store(store)
        .local_capacity(0)
        .token_types(["app"]);
    let cache = builder.build().unwrap();
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_all().build().unwrap()
    };
    // The runtime is kept but not driven, so that its tasks neither answer nor end.
    let still = runtime();
    still.block_on(found(&cache, TOKEN));
    runtime().block_on(cached(&cache, TOKEN));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_restarts_from_its_file_is_used_again() {
    let world = World::new();
    world.works().await;
    let entries = world.server.keys("api_token:token:*");
    world.server.save_and_restart();
    assert_eq!(
        world.server.keys("api_token:token:*"),
        entries,
        "the entry was in the file"
    );
    world.works().await;
    world.db.revoke(TOKEN);
    world.invalidate().await;
    assert!(is_invalid(&world.cache, TOKEN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_is_still_loading_is_not_used_yet() {
    // A thousand keys at two milliseconds each: the server answers LOADING for two seconds.
    let server = RedisServer::start_with(&["--key-load-delay", "2000"]);
    let world = World::on(server);
    world.works().await;
    for n in 0..1_000 {
        world
            .server
            .command(&["SET", &format!("other:{n}"), "x"])
            .ok();
    }
    std::thread::scope(|scope| {
        let restarted = scope.spawn(|| world.server.save_and_restart());
        tokio::task::block_in_place(|| {
            tokio::runtime::Handle::current().block_on(async {
                let mut loaded = 0;
                while !restarted.is_finished() {
                    let origin = found(&world.cache, TOKEN).await.origin();
                    loaded += usize::from(origin == Origin::Loaded);
                    tokio::time::sleep(Duration::from_millis(2)).await;
                }
                assert!(loaded > 20, "answered {loaded} times without Redis");
            });
        });
    });
    world.works().await;
}

/// No instance can know of a deletion that Redis has lost (protocol.md section 7, item 1). This is why
/// docs/failures.md advises against persistence.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_undoes_a_deletion_that_the_file_lacks() {
    let world = World::new();
    world.works().await;
    world.server.command(&["SAVE"]).ok();
    world.db.revoke(TOKEN);
    world.invalidate().await;
    assert!(is_invalid(&world.cache, TOKEN).await);
    world.server.kill();
    world.server.restart_from_file();
    // The loader answers until Redis is used again, with the entry from before.
    eventually("the entry was not in the file", async || {
        !is_invalid(&world.cache, TOKEN).await
    })
    .await;
    assert_eq!(found(&world.cache, TOKEN).await.origin(), Origin::Shared);
    world.invalidate().await;
    assert!(is_invalid(&world.cache, TOKEN).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flapping_database_fails_only_requests_in_its_outages() {
    const ROUNDS: usize = 40;
    let world = World::new();
    let token = |round: usize| format!("app-of-round-{round:04}");
    let entries = || world.server.keys("api_token:token:*").len();
    for round in 0..ROUNDS {
        let fails = round % 2 == 1;
        world.db.insert(&token(round), Row::new("app"));
        world
            .db
            .mode(if fails { Mode::Fails } else { Mode::Answers });
        let asked: Vec<_> = (0..5).map(|_| start(&world.cache, &token(round))).collect();
        for one in asked {
            let answer = one.await.unwrap();
            match answer {
                Ok(Answer::Valid(_)) => assert!(!fails, "valid by a load that failed"),
                // Never invalid, which would be a 401 for an outage.
                Ok(other) => panic!("round {round}: {other:?}"),
                Err(error) => {
                    assert_eq!((fails, error.kind()), (true, UnavailableKind::LoaderFailed))
                }
            }
        }
    }
    world.db.mode(Mode::Answers);
    assert_eq!(entries(), ROUNDS / 2, "no failing load was cached");
    for round in 0..ROUNDS {
        let origin = found(&world.cache, &token(round)).await.origin();
        let expected = [Origin::Shared, Origin::Loaded][round % 2];
        assert_eq!(origin, expected, "round {round}");
    }
    assert_eq!(entries(), ROUNDS);
}
