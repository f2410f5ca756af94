//! Tests of a flood of invented tokens, which must not evict valid ones.
//! `cargo bench --bench scenes --all-features -- floods` measures memory and times with a million tokens.

use std::time::Duration;

use crate::common::flood::{Flood, Report};
use test_support::RedisServer;
use tower_api_token::test_util::ManualClock;
use tower_api_token::{MemoryStore, RedisStore};

const GOOD: usize = 200;
const INVENTED: usize = 20_000;
const NEGATIVES: usize = 1_000;

fn redis(server: &RedisServer) -> RedisStore {
    let patient = Duration::from_secs(10);
    let store = RedisStore::new(&server.url()).unwrap();
    store.response_timeout(patient).connect_timeout(patient)
}

#[track_caller]
fn all_are_local(report: &Report) {
    let asked = (INVENTED / 10) as u64;
    assert_eq!(
        report.origins.get("local"),
        Some(&asked),
        "{:?}",
        report.origins
    );
}

/// Returns the number of entries in Redis. All leases have been given back by then.
fn entries(server: &RedisServer) -> usize {
    server.keys("api_token:token:*").len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_evicts_no_valid_token_and_its_writes_are_capped() {
    let server = RedisServer::start();
    let clock = ManualClock::new();
    let cap = 2 * NEGATIVES;
    let mut flood = Flood::new(GOOD, false, |builder| {
        let builder = builder.store(redis(&server)).clock(clock.clone());
        builder
            .local_negative_capacity(NEGATIVES)
            .negative_writes_per_second(cap as u32)
    });
    flood.warm().await;
    all_are_local(&flood.run(INVENTED).await);
    let (records, negatives) = crate::common::local_entries(&flood.cache);
    assert_eq!(records, GOOD);
    assert!(
        (NEGATIVES / 2..=NEGATIVES).contains(&negatives),
        "{negatives}"
    );
    // The clock did not advance, so that all writes were in one second.
    assert_eq!(entries(&server), GOOD + cap);
    assert_eq!(
        flood.cache.stats().negative_writes_skipped,
        (INVENTED - cap) as u64
    );
    assert_eq!(flood.loads(), (GOOD + INVENTED) as u64, "one each");

    clock.advance(Duration::from_millis(400));
    flood.run(NEGATIVES).await;
    assert_eq!(entries(&server), GOOD + cap);
    clock.advance(Duration::from_millis(600));
    flood.run(2 * cap).await;
    assert_eq!(entries(&server), GOOD + 2 * cap);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_format_keeps_a_flood_from_redis_and_the_loader() {
    let server = RedisServer::start();
    let clock = ManualClock::new();
    let mut flood = Flood::new(GOOD, true, |builder| {
        let store = redis(&server).client_tracking(false);
        builder.store(store).clock(clock)
    });
    flood.warm().await;
    let mut monitor = server.monitor();
    all_are_local(&flood.run(INVENTED).await);
    let told = monitor.take();
    // Only the supervisor's heartbeat is expected.
    let of_entries = told.iter().filter(|line| !line.contains("fence:heartbeat"));
    assert_eq!(of_entries.count(), 0, "{told:?}");
    assert_eq!(entries(&server), GOOD);
    assert_eq!(crate::common::local_entries(&flood.cache), (GOOD, 0));
    assert_eq!(flood.loads(), GOOD as u64);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_stays_within_the_memory_stores_negative_capacity() {
    let store = MemoryStore::new().capacity(10 * NEGATIVES);
    let store = store.negative_capacity(NEGATIVES);
    let mut flood = Flood::new(GOOD, false, |builder| {
        builder.store(store).local_negative_capacity(NEGATIVES)
    });
    flood.warm().await;
    all_are_local(&flood.run(INVENTED).await);
    let (records, negatives) = crate::common::local_entries(&flood.cache);
    assert!(
        records == GOOD && negatives <= NEGATIVES,
        "{records} {negatives}"
    );
    let remembered = flood.remembered().await;
    // Each of the store's 16 shards rounds its share up.
    assert!(
        (NEGATIVES / 2..=NEGATIVES + 16).contains(&remembered),
        "{remembered}"
    );
}
