//! Tests of the canary, which measures how long a revocation takes.

use std::error::Error;
use std::time::Duration;

use test_support::{Feature, RedisServer};
use tower_api_token::store::KeyLayout;
use tower_api_token::{CanaryError, MemoryStore, RedisStore, RevocationCanary};

use crate::common::{Cache, Db, eventually, redis};

const BOUND: Duration = Duration::from_millis(400);

fn cache(store: RedisStore) -> Cache {
    let cache = Db::new().cache().store(store).token_types(["app", "job"]);
    cache.max_staleness(BOUND).build().unwrap()
}

fn canary(store: RedisStore) -> RevocationCanary<crate::common::Version> {
    RevocationCanary::new(&cache(store.clone()), store).unwrap()
}

#[tokio::test]
async fn with_client_tracking_a_revocation_is_measured_long_before_its_bound() {
    if Feature::Tracking.is_missing() {
        return;
    }
    let server = RedisServer::start();
    let canary = canary(redis(&server).client_tracking(true));
    // The first connection may not be tracked yet, and a busy machine may delay some.
    eventually("a push is measured", async || {
        let measured = canary.measure().await.unwrap();
        assert_eq!(measured.receipt().bound(), BOUND);
        measured.took() < BOUND / 4
    })
    .await;
}

#[tokio::test]
async fn without_client_tracking_a_revocation_takes_its_bound_at_most() {
    let server = RedisServer::start();
    let canary = canary(redis(&server));
    let took = canary.measure().await.unwrap().took();
    assert!(
        took >= BOUND / 2,
        "another instance's memory is measured: {took:?}"
    );
}

#[tokio::test]
async fn the_canary_measures_in_the_dify_layout_and_without_a_local_level() {
    let server = RedisServer::start();
    let dify = canary(redis(&server).key_layout(KeyLayout::dify()));
    dify.measure().await.unwrap();
    assert_eq!(
        server.command_count("scan"),
        0,
        "it does not look at all keys"
    );
    let cache = Db::new().cache().local_capacity(0).store(redis(&server));
    let canary = RevocationCanary::new(&cache.build().unwrap(), redis(&server)).unwrap();
    canary.measure().await.unwrap();
}

#[tokio::test]
async fn the_canary_asks_no_loader_and_leaves_no_token() {
    let server = RedisServer::start();
    let db = Db::new();
    let cache = db.cache().store(redis(&server)).build().unwrap();
    let canary = RevocationCanary::new(&cache, redis(&server)).unwrap();
    canary.measure().await.unwrap();
    assert_eq!(db.loads(), 0);
    let names = server.keys("api_token:token:*");
    let left: Vec<_> = names.iter().filter_map(|name| server.get(name)).collect();
    assert!(
        left.iter().all(|value| value.starts_with(b"N1")),
        "{left:?}"
    );
}

#[tokio::test]
async fn the_canary_does_not_bring_back_the_bound_of_an_instance_that_is_gone() {
    let server = RedisServer::start();
    let registry = |command, bound| server.command(&[command, "api_token:bounds", bound]).int();
    let cache = cache(redis(&server));
    registry("SADD", "3000");
    // It reads the registry.
    cache
        .authenticate_typed("app-unknown", "app")
        .await
        .unwrap();
    registry("SREM", "3000");
    let canary = RevocationCanary::new(&cache, redis(&server)).unwrap();
    canary.measure().await.unwrap();
    assert_eq!(registry("SISMEMBER", "400"), 1);
    assert_eq!(registry("SISMEMBER", "3000"), 0);
}

#[tokio::test]
async fn a_store_with_other_keys_is_found_out() {
    let server = RedisServer::start();
    let other = redis(&server).key_layout(KeyLayout::peppered(
        "another pepper, of 32 characters or more",
    ));
    // The observer never learns of the invalidation.
    let canary = RevocationCanary::new(&cache(redis(&server)), other).unwrap();
    let error = canary.measure().await.unwrap_err();
    assert!(matches!(error, CanaryError::NotRejected(_)), "{error}");
    assert!(
        error.to_string().contains("in force everywhere from"),
        "{error}"
    );
}

#[tokio::test]
async fn an_outage_is_an_error_and_the_next_measurement_succeeds() {
    let server = RedisServer::start();
    let canary = canary(redis(&server));
    canary.measure().await.unwrap();
    server.kill();
    let error = canary.measure().await.unwrap_err();
    assert!(matches!(error, CanaryError::NotConfirmed(_)), "{error}");
    assert!(error.source().is_some());
    server.restart();
    eventually("Redis is back", async || canary.measure().await.is_ok()).await;
}

#[tokio::test]
async fn memory_is_refused_because_no_other_instance_shares_it() {
    let cache = Db::new().cache().build().unwrap();
    let error = RevocationCanary::new(&cache, MemoryStore::new()).unwrap_err();
    assert_eq!(error.setting(), "store");
}

#[tokio::test]
async fn a_running_canary_measures_again_and_again_and_goes_on_after_an_error() {
    let server = RedisServer::start();
    let cache = cache(redis(&server));
    let canary = RevocationCanary::new(&cache, redis(&server)).unwrap();
    let running = tokio::spawn(canary.run(Duration::from_millis(1)));
    let measured = async |times| {
        let before = cache.stats().invalidations;
        eventually("it measures", async || {
            cache.stats().invalidations >= before + times
        })
        .await;
    };
    measured(2).await;
    server
        .command(&["ACL", "SETUSER", "default", "-@write"])
        .ok();
    eventually("it fails", async || cache.stats().invalidation_failures > 0).await;
    server.command(&["ACL", "SETUSER", "default", "+@all"]).ok();
    measured(2).await;
    assert!(!running.is_finished());
    running.abort();
}
