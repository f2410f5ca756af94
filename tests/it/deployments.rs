//! Tests of the same promises on every kind of Redis: with a Unix socket, over TLS, with few rights,
//! behind sentinels, and as a cluster.

use std::sync::Arc;
use std::time::Duration;

use crate::common::{
    Cache, Db, Row, cached, confirmed, eventually, found, grant, is_invalid, nothing_was_denied,
};
use test_support::{Feature, RedisCluster, RedisSentinel, RedisServer, TlsRedisServer};
use tokio::task::JoinSet;
use tower_api_token::last_use::LastUseRecorder;
use tower_api_token::store::{RedisTls, StoreErrorKind};
use tower_api_token::{Origin, RedisStore};

/// Sets longer timeouts than the defaults, so that a busy machine does not look like an outage.
fn patient(store: RedisStore) -> RedisStore {
    store
        .response_timeout(Duration::from_secs(1))
        .connect_timeout(Duration::from_secs(2))
}

fn cache(db: &Arc<Db>, store: RedisStore) -> Cache {
    let builder = db.cache().store(patient(store)).local_capacity(0);
    builder.token_types(["app"]).build().unwrap()
}

fn cache_at(db: &Arc<Db>, url: &str) -> Cache {
    cache(db, RedisStore::new(url).unwrap())
}

/// Creates a database with enough tokens that every node of a cluster has some.
fn db() -> Arc<Db> {
    let db = Db::new();
    for n in 0..12 {
        db.insert(
            &token(n),
            Row::new("app").of_tenant(&format!("t-{}", n % 3)),
        );
    }
    db
}

fn token(n: usize) -> String {
    format!("app-token-number-{n}")
}

/// Checks caching, the invalidation of a token and of a tenant, and a created token.
async fn check_promises(db: &Arc<Db>, cache: &Cache) {
    for n in 0..12 {
        cached(cache, &token(n)).await;
        db.change(&token(n), |_| {});
    }
    confirmed(async || cache.invalidate(&token(0)).await.is_ok()).await;
    let now = *found(cache, &token(0)).await.metadata();
    let before = *found(cache, &token(1)).await.metadata();
    confirmed(async || cache.invalidate_tenant("t-1").await.is_ok()).await;
    for n in [1, 4, 7, 10] {
        let version = *found(cache, &token(n)).await.metadata();
        assert!(version >= now && version > before, "{n}: {version}");
    }
    let new = format!("app-created-{}", db.loads());
    assert!(is_invalid(cache, &new).await);
    db.insert(&new, Row::new("app"));
    confirmed(async || cache.invalidate(&new).await.is_ok()).await;
    found(cache, &new).await;
}

#[tokio::test]
async fn a_unix_socket_and_a_numbered_database_work() {
    let server = RedisServer::start_unix();
    let db = db();
    let url = format!("{}?db=2", server.unix_url());
    check_promises(&db, &cache_at(&db, &url)).await;
    assert_eq!(server.keys("*"), [""; 0], "nothing in database 0");
    let url = format!("redis://{}/3", server.addr());
    check_promises(&db, &cache_at(&db, &url)).await;
    assert_eq!(server.keys("*"), [""; 0]);
}

/// Looks up all tokens that are in Redis at once, so that the lookups share commands.
async fn all_at_once(cache: &Cache) -> Vec<Origin> {
    let mut lookups = JoinSet::new();
    for n in 0..12 {
        let cache = cache.clone();
        lookups.spawn(async move { found(&cache, &token(n)).await.origin() });
    }
    lookups.join_all().await
}

#[tokio::test]
async fn the_rights_that_the_guide_names_are_enough() {
    let server = RedisServer::start();
    grant(&server, &[]);
    let db = db();
    let url = format!("redis://api:secret@{}", server.addr());
    let store = patient(RedisStore::new(&url).unwrap());
    let builder = db
        .cache()
        .store(store)
        .local_capacity(0)
        .token_types(["app"]);
    let recorder = LastUseRecorder::store_only();
    let cache = builder.last_use(recorder).build().unwrap();
    check_promises(&db, &cache).await;
    assert_eq!(all_at_once(&cache).await, [Origin::Shared; 12]);
    assert!(server.command_count("mget") > 0);
    cache.check_store().await.unwrap();
    cache
        .invalidate(&token(0))
        .wait_for_replicas(0)
        .await
        .unwrap();
    assert_eq!(cache.shutdown().await, 0, "last uses are written");
    assert!(!server.keys("api_token:used:*").is_empty());
    let used = cache.last_used_at(&token(0)).await;
    assert!(used.unwrap().is_some());
    nothing_was_denied(&server);
}

#[tokio::test]
async fn tracking_needs_two_rights_and_nothing_else_does() {
    if Feature::Tracking.is_missing() || Feature::FineAcl.is_missing() {
        return;
    }
    for right in ["", "-client|tracking", "-client|caching"] {
        let server = RedisServer::start();
        let further: &[&str] = if right.is_empty() { &[] } else { &[right] };
        grant(&server, further);
        let db = db();
        let url = format!("redis://api:secret@{}", server.addr());
        let store = patient(RedisStore::new(&url).unwrap());
        let builder = db.cache().store(store).token_types(["app"]);
        let cache = builder.build().unwrap();
        found(&cache, &token(0)).await;
        if further.is_empty() {
            eventually("tracking is on", async || cache.stats().client_tracking).await;
        } else {
            let was_refused = async || !server.command(&["ACL", "LOG"]).array().is_empty();
            eventually("a right was missed", was_refused).await;
        }
        let before = *found(&cache, &token(0)).await.metadata();
        db.change(&token(0), |_| {});
        confirmed(async || cache.invalidate(&token(0)).await.is_ok()).await;
        assert!(*found(&cache, &token(0)).await.metadata() > before);
        assert_eq!(cache.stats().client_tracking, further.is_empty());
        if further.is_empty() {
            assert!(cache.stats().tracked_reads > 0);
            nothing_was_denied(&server);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn behind_sentinels_one_more_right_is_enough() {
    let set = RedisSentinel::start();
    for server in set.servers() {
        grant(server, &["+role"]);
    }
    let url = set.url().replace("://", "://api:secret@");
    let db = db();
    let cache = cache_at(&db, &url);
    check_promises(&db, &cache).await;
    cache.check_store().await.unwrap();
    cache
        .invalidate_tenant("t-1")
        .wait_for_replicas(1)
        .await
        .unwrap();
    for server in set.servers() {
        nothing_was_denied(server);
    }
}

#[tokio::test]
async fn tls_works_with_a_private_authority() {
    if Feature::Tls.is_missing() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = TlsRedisServer::start();
    let db = db();
    let with = |ca: &str| {
        let store = RedisStore::new(&server.url()).unwrap();
        store.tls(RedisTls::new().ca_certificate(ca))
    };
    check_promises(&db, &cache(&db, with(server.ca_pem()))).await;
    let stranger = cache(&db, with(server.stranger_ca_pem()));
    let error = stranger.check_store().await.unwrap_err();
    assert_eq!(error.kind(), StoreErrorKind::NotConnected);
    assert_eq!(found(&stranger, &token(0)).await.origin(), Origin::Loaded);
}

#[tokio::test]
async fn tls_works_with_a_client_certificate() {
    if Feature::Tls.is_missing() {
        return;
    }
    let _ = rustls::crypto::ring::default_provider().install_default();
    let server = TlsRedisServer::start_mutual();
    let db = db();
    let store = |tls| RedisStore::new(&server.url()).unwrap().tls(tls);
    let without = RedisTls::new().ca_certificate(server.ca_pem());
    let with = without
        .clone()
        .identity(server.client_cert_pem(), server.client_key_pem());
    check_promises(&db, &cache(&db, store(with))).await;
    assert!(cache(&db, store(without)).check_store().await.is_err());
    let nonsense = store(RedisTls::new().ca_certificate("nonsense"));
    assert!(db.cache().store(nonsense).build().is_err());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sentinel_failover_is_followed() {
    let set = RedisSentinel::start();
    let db = db();
    let cache = cache_at(&db, &set.url());
    check_promises(&db, &cache).await;
    // The old master runs on as a replica, whose answers are no longer used.
    set.failover();
    check_promises(&db, &cache).await;
    set.wait_until_replicated();
    confirmed(async || {
        cache
            .invalidate(&token(0))
            .wait_for_replicas(1)
            .await
            .is_ok()
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_master_behind_sentinels_is_replaced() {
    let set = RedisSentinel::start();
    let db = db();
    let cache = cache_at(&db, &set.url());
    cached(&cache, &token(0)).await;
    let old = set.master();
    old.kill();
    assert_eq!(
        found(&cache, &token(1)).await.origin(),
        Origin::Loaded,
        "neither a 401 nor a wait"
    );
    set.wait_for_failover(old);
    check_promises(&db, &cache).await;
}

/// Moves the slot of `key` to another master.
fn move_slot_of(cluster: &RedisCluster, key: &str) {
    let from = cluster.master_for(key);
    let mut masters = cluster.masters().into_iter();
    let to = masters.find(|node| *node != from).unwrap();
    cluster.migrate_slot(cluster.slot_for(key), from, to);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_works_after_its_slots_moved() {
    let cluster = RedisCluster::start();
    let db = db();
    let cache = cache_at(&db, &cluster.url());
    check_promises(&db, &cache).await;
    let entries = cluster.keys("api_token:token:*");
    let nodes: std::collections::BTreeSet<usize> =
        entries.iter().map(|key| cluster.master_for(key)).collect();
    assert!(nodes.len() > 1, "the entries lie on several nodes");
    for entry in entries.iter().take(4) {
        move_slot_of(&cluster, entry);
    }
    check_promises(&db, &cache).await;
    for n in 0..12 {
        confirmed(async || {
            cache
                .invalidate(&token(n))
                .wait_for_replicas(1)
                .await
                .is_ok()
        })
        .await;
    }
    cache.check_store().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_answer_is_right_while_slots_move_under_load() {
    let cluster = RedisCluster::start();
    let db = db();
    let cache = cache_at(&db, &cluster.url());
    for n in 0..12 {
        cached(&cache, &token(n)).await;
    }
    let entries = cluster.keys("api_token:token:*");
    let done = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let ask = |n: usize| {
        let (cache, done) = (cache.clone(), Arc::clone(&done));
        tokio::spawn(async move {
            let mut asked = 0;
            while !done.load(std::sync::atomic::Ordering::SeqCst) {
                found(&cache, &token(n)).await;
                asked += 1;
            }
            asked
        })
    };
    let asking: Vec<_> = (0..12).map(ask).collect();
    tokio::task::block_in_place(|| {
        for entry in entries.iter().cycle().take(20) {
            move_slot_of(&cluster, entry);
        }
    });
    done.store(true, std::sync::atomic::Ordering::SeqCst);
    for one in asking {
        assert!(one.await.unwrap() > 10);
    }
    check_promises(&db, &cache).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_or_frozen_cluster_master_is_replaced() {
    for kills in [true, false] {
        let cluster = RedisCluster::start();
        let db = db();
        let cache = cache_at(&db, &cluster.url());
        check_promises(&db, &cache).await;
        let victim = cluster.masters()[0];
        if kills {
            cluster.node(victim).kill();
        } else {
            cluster.node(victim).pause();
        }
        for n in 0..12 {
            found(&cache, &token(n)).await;
        }
        cluster.wait_until_ok();
        check_promises(&db, &cache).await;
    }
}
