//! Tests of a cold start: all tokens are looked up at once, and none is cached.
//! `cargo bench --bench scenes --all-features -- cold_start` measures how long that takes.

use std::time::Duration;

use crate::common::{Builder, Db, Row, start, until};
use test_support::RedisServer;
use tower_api_token::{Answer, Origin, RedisStore};

const TOKENS: usize = 10_000;
/// The default of `max_concurrent_loads`.
const CAP: usize = 50;
/// Long enough for a busy machine.
const PATIENT: Duration = Duration::from_secs(300);

fn token(n: usize) -> String {
    format!("app-{n:016}")
}

async fn start_cold(build: impl FnOnce(Builder) -> Builder) {
    let db = Db::new();
    for n in 0..TOKENS {
        db.insert(&token(n), Row::new("app"));
    }
    let builder = build(db.cache().token_types(["app"]));
    let builder = builder.load_queue_timeout(PATIENT).load_timeout(PATIENT);
    let cache = builder.build().unwrap();
    // All requests arrive before the first load ends. Then fifty loads run at a time.
    db.gate.close();
    let asked: Vec<_> = (0..TOKENS).map(|n| start(&cache, &token(n))).collect();
    until(|| cache.in_flight() == TOKENS).await;
    for loads in (CAP..=TOKENS).step_by(CAP) {
        db.gate.reached(loads).await;
        db.gate.open();
        db.gate.close();
    }
    for one in asked {
        match one.await.unwrap() {
            Ok(Answer::Valid(token)) => assert_eq!(token.origin(), Origin::Loaded),
            answer => panic!("{answer:?}"),
        }
    }
    assert_eq!((db.loads(), db.most_at_once()), (TOKENS, CAP));
    let counted = cache.stats();
    assert_eq!((counted.overloaded, counted.store_errors), (0, 0));
}

#[tokio::test]
async fn a_cold_start_in_memory_loads_each_token_once_within_the_cap() {
    start_cold(|builder| builder).await;
}

#[tokio::test]
async fn a_cold_start_over_redis_loads_each_token_once_within_the_cap() {
    let server = RedisServer::start();
    let store = RedisStore::new(&server.url()).unwrap();
    let store = store.response_timeout(PATIENT).connect_timeout(PATIENT);
    start_cold(|builder| builder.store(store)).await;
    assert_eq!(server.keys("api_token:token:*").len(), TOKENS, "all cached");
}
