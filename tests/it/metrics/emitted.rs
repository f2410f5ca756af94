//! Tests of the metrics that a run emits, and of single values.

use std::collections::{BTreeMap, BTreeSet};
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use chrono::DateTime;
use http::{Request, Response};
use test_support::{RedisCluster, RedisServer};
use tower::{Layer, Service, ServiceExt, service_fn};
use tower_api_token::test_util::ManualClock;
use tower_api_token::{ApiTokenLayer, RedisStore, RevocationCanary};

use crate::common::{Cache, Db, Mode, Row, ask, found, is_invalid, redis, redis_at, start, until};
use crate::metrics::recorded::{Recorder, Sample, value};
use crate::metrics::table;

const TOKEN: &str = "app-7hQ2mXv9LpT4wZ8kRb3N";
const DENIED: &str = "app-Kc5nVb1xZs6dFg0hJq8W";
const EXPIRED: &str = "app-Lm3oPi7uYt2rEw9qAz4S";
const UNKNOWN: &str = "app-Yt5rEw3qPl9oKj2hGf7D";
const TENANT: &str = "tenant-Qx9c";
const ID: &str = "id-Wm4v";

fn database() -> Arc<Db> {
    let db = Db::new();
    let row = || Row {
        id: ID.to_owned(),
        ..Row::new("app")
    };
    db.insert(TOKEN, row().of_tenant(TENANT));
    db.insert(DENIED, row().of_tenant("tenant-suspended"));
    db.suspend("tenant-suspended");
    let past = Row {
        expires_at: Some(DateTime::UNIX_EPOCH),
        ..row()
    };
    db.insert(EXPIRED, past);
    db
}

/// Returns the status of a request with this credential.
async fn request(cache: &Cache, authorization: Option<&str>) -> u16 {
    let inner =
        service_fn(async |_: Request<()>| Ok::<_, Infallible>(Response::new(String::new())));
    let mut service = ApiTokenLayer::builder(cache.clone())
        .token_type("app")
        .build()
        .unwrap()
        .layer(inner);
    let mut request = Request::builder();
    if let Some(text) = authorization {
        request = request.header("authorization", format!("Bearer {text}"));
    }
    let service = service.ready().await.unwrap();
    let response = service.call(request.body(()).unwrap()).await.unwrap();
    response.status().as_u16()
}

/// Runs everything that needs no long wait: each level, each outcome, and both results of an invalidation.
async fn run(recorder: &Recorder) -> (Vec<Sample>, RedisServer) {
    let server = RedisServer::start();
    let db = database();
    let cache = db
        .cache()
        .store(redis(&server))
        .token_types(["app"])
        .build()
        .unwrap();
    let other = db
        .cache()
        .store(redis(&server))
        .token_types(["app"])
        .build()
        .unwrap();
    for (token, status) in [(TOKEN, 200), (TOKEN, 200), (UNKNOWN, 401), (UNKNOWN, 401)] {
        assert_eq!(request(&cache, Some(token)).await, status);
    }
    assert_eq!(request(&other, Some(TOKEN)).await, 200);
    for (token, status) in [(DENIED, 403), (EXPIRED, 401)] {
        assert_eq!(request(&cache, Some(token)).await, status);
    }
    assert_eq!(request(&cache, Some("a b")).await, 401);
    assert_eq!(request(&cache, None).await, 401);
    cache.invalidate(TOKEN).await.unwrap();
    cache
        .invalidate(TOKEN)
        .of_type("undeclared")
        .await
        .unwrap_err();
    let canary = RevocationCanary::new(&cache, redis(&server)).unwrap();
    canary.measure().await.unwrap();
    db.mode(Mode::Fails);
    assert_eq!(request(&cache, Some(TOKEN)).await, 503);
    let samples = recorder.scrape(&cache);
    (samples, server)
}

#[tokio::test]
async fn a_run_emits_exactly_the_metrics_of_the_table() {
    let recorder = Recorder::install();
    let (samples, _server) = run(&recorder).await;
    let table = table::of_the_crate();
    let mut emitted = BTreeMap::new();
    for sample in &samples {
        let Some(row) = table.get(&sample.name) else {
            panic!("{} is not in the table", sample.name);
        };
        assert_eq!(sample.kind, row.kind, "{sample:?}");
        assert!(sample.help.is_some(), "{sample:?}");
        assert_eq!(sample.name.ends_with("_total"), sample.kind == "counter");
        assert_eq!(
            sample.name.ends_with("_seconds"),
            sample.kind == "histogram"
        );
        let labels: BTreeSet<_> = sample.labels.keys().map(String::as_str).collect();
        let documented = row.labels.keys().map(String::as_str).chain(["cache"]);
        assert_eq!(labels, documented.collect(), "{sample:?}");
        for (label, value) in &sample.labels {
            let bounded = match label.as_str() {
                "cache" => ["api_token", "api_token.canary"].contains(&&**value),
                label => row.labels[label].contains(value),
            };
            assert!(bounded, "{label}={value}: {sample:?}");
            let seen: &mut BTreeSet<_> = emitted.entry((&sample.name, label)).or_default();
            seen.insert(value.clone());
        }
    }
    for (name, row) in &table {
        let seen = samples.iter().any(|sample| sample.name == *name);
        assert!(seen, "{name} is in the table, but nothing emits it");
        // Histograms get a value when it occurs. Counters and gauges have all label values from the start.
        for (label, values) in row.labels.iter().filter(|_| row.kind != "histogram") {
            assert_eq!(&emitted[&(name, label)], values, "{name}, {label}");
        }
    }
    let plain = samples.iter().filter(|sample| sample.kind != "histogram");
    assert_eq!(plain.count(), 56, "as docs/metrics.md says");
}

#[tokio::test]
async fn no_token_tenant_or_id_is_in_a_name_or_label() {
    let recorder = Recorder::install();
    let (samples, _server) = run(&recorder).await;
    assert!(samples.len() > 49);
    let shown = format!("{samples:?}");
    for secret in [TOKEN, DENIED, EXPIRED, UNKNOWN, TENANT, ID] {
        assert!(!shown.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn the_values_are_those_of_the_run() {
    let recorder = Recorder::install();
    let (mut samples, _server) = run(&recorder).await;
    samples.retain(|sample| sample.labels["cache"] == "api_token");
    let of =
        |name: &str, label: &str, value_of: &str| value(&samples, name, Some((label, value_of)));
    assert_eq!(of("api_token_rejections_total", "reason", "unknown"), 2);
    for reason in [
        "expired",
        "denied",
        "malformed",
        "missing_token",
        "unavailable",
    ] {
        assert_eq!(
            of("api_token_rejections_total", "reason", reason),
            1,
            "{reason}"
        );
    }
    let plain = |name: &str| value(&samples, name, None);
    assert_eq!(plain("api_token_loads_total"), 5);
    assert_eq!(plain("api_token_load_failures_total"), 1);
    assert_eq!(of("api_token_load_seconds", "result", "ok"), 4);
    assert_eq!(of("api_token_load_seconds", "result", "failed"), 1);
    // The second one is the canary's.
    assert_eq!(plain("api_token_invalidations_total"), 2);
    assert_eq!(plain("api_token_invalidation_failures_total"), 1);
    assert_eq!(of("api_token_invalidation_seconds", "result", "ok"), 2);
    assert_eq!(of("api_token_revocation_seconds", "result", "ok"), 1);
    assert_eq!(of("api_token_invalidation_seconds", "result", "failed"), 1);
    // One of them is from the other cache, which has the same name.
    assert_eq!(of("api_token_miss_seconds", "origin", "shared"), 1);
    assert_eq!(of("api_token_miss_seconds", "origin", "loaded"), 4);
    assert_eq!(of("api_token_miss_seconds", "origin", "none"), 1);
    // Each miss read the store once, and no hit of the local level did.
    assert_eq!(of("api_token_store_read_seconds", "result", "ok"), 6);
    assert_eq!(of("api_token_breakers", "state", "closed"), 1);
}

#[tokio::test]
async fn published_counts_are_not_repeated_and_caches_add_up() {
    let recorder = Recorder::install();
    let db = database();
    let cache = db.cache().build().unwrap();
    let loads = |samples: &[Sample]| value(samples, "api_token_loads_total", None);
    found(&cache, TOKEN).await;
    assert_eq!(loads(&recorder.scrape(&cache)), 1);
    assert_eq!(loads(&recorder.scrape(&cache)), 0, "nothing since");
    assert!(is_invalid(&cache, UNKNOWN).await);
    let other = db.cache().build().unwrap();
    found(&other, TOKEN).await;
    other.publish_metrics();
    assert_eq!(loads(&recorder.scrape(&cache)), 2, "one of each");
    assert_eq!(cache.stats().loads, 2, "the statistics are not reset");
}

#[tokio::test]
async fn a_namespace_distinguishes_two_caches() {
    let recorder = Recorder::install();
    let db = database();
    let cache = db.cache().namespace("admin").build().unwrap();
    found(&cache, TOKEN).await;
    let samples = recorder.scrape(&cache);
    assert!(
        samples
            .iter()
            .all(|sample| sample.labels["cache"] == "admin")
    );
}

#[tokio::test]
async fn running_and_queued_loads_and_their_limit_are_published() {
    let recorder = Recorder::install();
    let db = database();
    let cache = db.cache().max_concurrent_loads(2).build().unwrap();
    db.gate.close();
    let asked = [TOKEN, UNKNOWN, EXPIRED].map(|token| start(&cache, token));
    let levels = || {
        let samples = recorder.scrape(&cache);
        ["in_flight", "waiting", "max"]
            .map(|what| value(&samples, &format!("api_token_loads_{what}"), None))
    };
    until(|| levels() == [2, 1, 2]).await;
    db.gate.open();
    for asked in asked {
        asked.await.unwrap().unwrap();
    }
    assert_eq!(levels(), [0, 0, 2]);
}

#[tokio::test]
async fn an_open_breaker_is_published() {
    let recorder = Recorder::install();
    let server = RedisServer::start();
    let db = database();
    let store = RedisStore::new(&server.url())
        .unwrap()
        .response_timeout(Duration::from_millis(500))
        .circuit_breaker(1, Duration::from_secs(600));
    let cache = db.cache().store(store).build().unwrap();
    found(&cache, TOKEN).await;
    server.pause();
    // One timeout opens the breaker.
    assert!(is_invalid(&cache, UNKNOWN).await);
    let samples = recorder.scrape(&cache);
    let breakers = ["closed", "open", "half_open"]
        .map(|state| value(&samples, "api_token_breakers", Some(("state", state))));
    assert_eq!(breakers, [0, 1, 0]);
    assert!(value(&samples, "api_token_store_errors_total", None) >= 1);
}

#[tokio::test]
async fn the_breakers_of_a_clusters_nodes_are_published() {
    let recorder = Recorder::install();
    let cluster = RedisCluster::start();
    let store = redis_at(&cluster.url());
    let cache = database().cache().store(store).build().unwrap();
    found(&cache, TOKEN).await;
    let samples = recorder.scrape(&cache);
    let closed = value(&samples, "api_token_breakers", Some(("state", "closed")));
    let masters = u64::try_from(cluster.masters().len()).unwrap();
    assert_eq!(closed, masters);
}

#[tokio::test]
async fn local_evictions_are_counted_and_replacements_are_not() {
    let recorder = Recorder::install();
    let db = Db::new();
    let clock = ManualClock::new();
    let cache = db
        .cache()
        .clock(clock.clone())
        .local_capacity(10)
        .local_negative_capacity(5)
        .build()
        .unwrap();
    let tokens: Vec<_> = (0..40).map(|n| format!("app-number-{n:04}")).collect();
    for token in &tokens[..10] {
        db.insert(token, Row::new("app"));
        found(&cache, token).await;
    }
    assert_eq!(cache.stats().evicted_records, 0);
    clock.advance(Duration::from_secs(3_600));
    for token in &tokens[..10] {
        found(&cache, token).await;
    }
    assert_eq!(cache.stats().evicted_records, 0, "they were replaced");
    for token in &tokens[10..20] {
        db.insert(token, Row::new("app"));
        found(&cache, token).await;
    }
    for token in &tokens[20..] {
        assert!(ask(&cache, token).await.unwrap().valid().is_none());
    }
    let (records, negatives) = crate::common::local_entries(&cache);
    let samples = recorder.scrape(&cache);
    let of = |name: &str, kind: &str| value(&samples, name, Some(("kind", kind)));
    let evicted = |kind: &str| of("api_token_local_evictions_total", kind);
    assert!(evicted("record") >= 10 && evicted("negative") >= 15);
    assert_eq!(evicted("record") as usize, 20 - records);
    assert_eq!(evicted("negative") as usize, 20 - negatives);
    assert_eq!(of("api_token_local_entries", "record") as usize, records);
    assert_eq!(
        of("api_token_local_entries", "negative") as usize,
        negatives
    );
}
