//! One transcript with every kind of Redis: over a socket, over TLS, behind sentinels, and a cluster.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};
use test_support::{RedisCluster, RedisSentinel, RedisServer, TlsRedisServer};

use super::server::{Database, Demo, eventually, unknown};

/// Starts an instance without a local level, so that answers come from Redis or are loaded.
#[track_caller]
fn on(database: &Database, redis: &[(&str, &str)]) -> Demo {
    Demo::on(database, &[&[("LOCAL_CAPACITY", "0")], redis].concat())
}

/// Waits until Redis answers. The tests do not check how soon, which depends on the machine's load.
#[track_caller]
fn wait_for_store(demo: &Demo, kind: &str) {
    let mut ready = Value::Null;
    eventually("the store answers", || {
        ready = demo.get("/readyz").expect(200).json();
        ready["store"] == "ok"
    });
    assert_eq!(
        ready,
        json!({ "status": "ready", "database": "ok", "store": "ok", "store_kind": kind })
    );
}

/// Revokes a token. Repeats the request until it is confirmed, as the response asks for.
#[track_caller]
fn revoke(demo: &Demo, id: &str) {
    let path = format!("/admin/tokens/{id}?wait=true");
    eventually("the revocation is confirmed", || {
        let answer = demo.admin("DELETE", &path, None);
        if answer.status == 200 {
            assert_eq!(answer.json(), json!({ "confirmed": true }));
            return true;
        }
        answer.expect_unconfirmed();
        false
    });
}

/// Loads a token, reads it from Redis, revokes it, and asserts that it is rejected.
#[track_caller]
fn transcript(demo: &Demo, kind: &str) {
    wait_for_store(demo, kind);
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect_origin("loaded");
    eventually("the token comes from Redis", || {
        demo.whoami(&token.text).expect(200).json()["origin"] == "shared"
    });
    revoke(demo, &token.id);
    demo.whoami(&token.text).expect(401);
    demo.whoami(&demo.token("globex", "app").text).expect(200);
}

#[test]
fn transcript_over_a_unix_socket() {
    let redis = RedisServer::start_unix();
    for scheme in ["unix", "redis+unix"] {
        let url = format!("{scheme}://{}", redis.unix_path().display());
        let database = Database::sqlite();
        let demo = on(&database, &[("REDIS_URL", &url)]);
        transcript(&demo, "single");
        redis.flushall();
    }
}

fn file(directory: &Path, name: &str, pem: &str) -> PathBuf {
    let path = directory.join(name);
    std::fs::write(&path, pem).unwrap();
    path
}

#[test]
fn transcript_over_tls_with_a_private_authority() {
    let redis = TlsRedisServer::start();
    let directory = tempfile::tempdir().unwrap();
    let ca = file(directory.path(), "ca.pem", redis.ca_pem());
    let stranger = file(directory.path(), "stranger.pem", redis.stranger_ca_pem());
    let url = redis.url();
    let with = |database: &Database, ca: &Path| {
        let ca = ("REDIS_CA_FILE", ca.to_str().unwrap());
        on(database, &[("REDIS_URL", &url), ca])
    };
    let database = Database::sqlite();
    transcript(&with(&database, &ca), "single");

    // With another authority Redis is not trusted, and requests succeed without it.
    let database = Database::sqlite();
    let demo = with(&database, &stranger);
    let token = demo.token("acme", "app").text;
    demo.whoami(&token).expect_origin("loaded");
    demo.whoami(&token).expect_origin("loaded");
    assert_eq!(
        demo.get("/readyz").expect(200).json()["store"],
        "unavailable"
    );
}

#[test]
fn transcript_over_tls_with_a_client_certificate() {
    let redis = TlsRedisServer::start_mutual();
    let directory = tempfile::tempdir().unwrap();
    let files = [
        ("REDIS_CA_FILE", redis.ca_pem()),
        ("REDIS_CLIENT_CERT_FILE", redis.client_cert_pem()),
        ("REDIS_CLIENT_KEY_FILE", redis.client_key_pem()),
    ]
    .map(|(name, pem)| (name, file(directory.path(), name, pem)));
    let url = redis.url();
    let mut variables = vec![("REDIS_URL", url.as_str())];
    variables.extend(
        files
            .iter()
            .map(|(name, path)| (*name, path.to_str().unwrap())),
    );
    let database = Database::sqlite();
    transcript(&on(&database, &variables), "single");
}

/// Kills the master during the transcript. A valid token is accepted all the time, and invalidations that
/// failed are confirmed by the new master.
#[test]
fn transcript_behind_sentinels_and_through_a_failover() {
    let set = RedisSentinel::start();
    let database = Database::sqlite();
    let demo = on(&database, &[("REDIS_URL", &set.url())]);
    transcript(&demo, "sentinel");

    let good = demo.token("globex", "app").text;
    let text = unknown("app");
    let body = json!({ "tenant_id": "acme", "token_type": "app", "token": text });
    let revoked = demo
        .admin("POST", "/admin/tokens", Some(&body.to_string()))
        .json();
    demo.whoami(&text).expect(200);
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let client = scope.spawn(|| {
            while !over.load(Ordering::Relaxed) {
                demo.whoami(&good).expect(200);
                thread::sleep(Duration::from_millis(5));
            }
        });
        let outage = scope.spawn(|| {
            let old = set.master();
            old.kill();
            let id = revoked["id"].as_str().unwrap();
            demo.delete(id).expect_unconfirmed();
            set.wait_for_failover(old);
            revoke(&demo, id);
            demo.whoami(&text).expect(401);
            wait_for_store(&demo, "sentinel");
        });
        let outage = outage.join();
        over.store(true, Ordering::Relaxed);
        client.join().expect("a valid token is always accepted");
        outage.expect("the service works after the failover");
    });
    eventually("the good token comes from the new master", || {
        demo.whoami(&good).expect(200).json()["origin"] == "shared"
    });
    assert_eq!(demo.metric("demo_pending_invalidations", &[]), 0);
}

#[test]
fn transcript_on_a_cluster() {
    let cluster = RedisCluster::start();
    let database = Database::sqlite();
    let demo = on(&database, &[("REDIS_URL", &cluster.url())]);
    transcript(&demo, "cluster");
    assert_ne!(cluster.keys("*"), [""; 0], "the entries are in the cluster");
}

#[test]
fn banner_shows_kind_and_hosts_but_no_password() {
    for (url, line) in [
        ("redis://:hunter22@127.0.0.1:1/2", "Redis, 127.0.0.1:1"),
        (
            "rediss://u:hunter22@localhost:1",
            "Redis over TLS, localhost:1",
        ),
        (
            "unix:///no/redis.sock?pass=hunter22",
            "Redis, /no/redis.sock",
        ),
        (
            "redis+sentinel://u:hunter22@127.0.0.1:1,127.0.0.2:1/main",
            "Redis Sentinel, 127.0.0.1:1,127.0.0.2:1",
        ),
        (
            "redis+cluster://u:hunter22@127.0.0.1:1,127.0.0.2:1",
            "Redis Cluster, 127.0.0.1:1,127.0.0.2:1",
        ),
    ] {
        let database = Database::sqlite();
        let demo = Demo::on(&database, &[("REDIS_URL", url)]);
        assert!(
            demo.banner.contains(&format!("store: {line}\n")) && !demo.banner.contains("hunter22"),
            "{}",
            demo.banner
        );
        // Without this Redis the server starts and serves requests.
        demo.whoami(&demo.token("acme", "app").text).expect(200);
    }
}
