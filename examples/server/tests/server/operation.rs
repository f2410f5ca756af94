//! Metrics, probes, logs, and the way a process ends.

use std::process::Command;
use std::thread;

use test_support::RedisServer;
use tower_api_token::TokenDigest;

use super::demo::{Database, Demo, eventually, unknown};

#[test]
fn counters_move() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let token = demo.token("acme", "app").text;
    let lookups = |outcome: &str, origin: &str| {
        let (outcome, origin) = (
            format!("outcome=\"{outcome}\""),
            format!("origin=\"{origin}\""),
        );
        demo.metric("api_token_lookups_total", &[&outcome, &origin])
    };
    assert_eq!(
        (
            demo.metric("api_token_loads_total", &[]),
            lookups("found", "loaded")
        ),
        (0, 0)
    );
    demo.whoami(&token).expect(200);
    for _ in 0..3 {
        demo.whoami(&token).expect(200);
    }
    demo.whoami(&unknown("app")).expect(401);
    assert_eq!(demo.metric("api_token_loads_total", &[]), 2);
    assert_eq!(
        (lookups("found", "loaded"), lookups("found", "local")),
        (1, 3)
    );
    assert_eq!(lookups("absent", "loaded"), 1);
}

#[test]
fn every_sample_belongs_to_a_described_metric() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    demo.whoami(&demo.token("acme", "app").text).expect(200);
    let answer = demo.get("/metrics").expect(200);
    assert!(
        answer
            .header("content-type")
            .starts_with("text/plain; version=0.0.4")
    );
    let mut described = None;
    for line in answer.body.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            described = rest.split_once(' ').map(|(name, _)| (name, false));
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (name, kind) = rest.split_once(' ').unwrap();
            assert_eq!(described, Some((name, false)), "{line}");
            assert_eq!(
                kind,
                if name.ends_with("_total") {
                    "counter"
                } else {
                    "gauge"
                },
                "{line}"
            );
            described = Some((name, true));
        } else {
            let name = line.split(['{', ' ']).next().unwrap();
            assert_eq!(described, Some((name, true)), "{line}");
        }
    }
    assert!(
        answer
            .body
            .contains("\napi_token_lookups_total{outcome=\"found\",origin=\"loaded\"} 1\n"),
        "{answer:?}"
    );
}

#[test]
fn probes_need_no_token() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    demo.get("/healthz").expect(200);
    let ready = demo.get("/readyz").expect(200).json();
    assert_eq!(
        ready,
        serde_json::json!({ "status": "ready", "database": "ok", "store": "in memory" })
    );
}

/// One run with everything logged: no line has a token's text, and in JSON every line is an object.
#[test]
fn neither_logs_nor_redis_have_the_text_of_a_token() {
    let redis = RedisServer::start();
    let url = redis.url();
    let logging = [
        ("REDIS_URL", url.as_str()),
        ("LOG_FORMAT", "json"),
        ("RUST_LOG", "trace"),
    ];
    let database = Database::sqlite();
    let demo = Demo::on(&database, &logging);
    let token = demo.token("acme", "app");
    demo.whoami(&token.text).expect(200);
    let [never_made, another, imported] = [(); 3].map(|()| unknown("app"));
    demo.whoami("a-token-of-no-form").expect(401);
    demo.whoami(&never_made).expect(401);
    let body = serde_json::json!({ "tenant_id": "acme", "type": "app", "token": imported });
    demo.admin("POST", "/admin/tokens", Some(&body.to_string()))
        .expect(201);
    demo.whoami(&imported).expect(200);
    redis.kill();
    demo.delete(&token.id).expect_unconfirmed();
    demo.whoami(&another).expect(401);
    redis.restart();
    demo.whoami(&imported).expect(200);
    let digest = TokenDigest::of(&imported).to_string();
    eventually("Redis, empty after its restart, is filled again", || {
        demo.whoami(&imported).expect(200);
        let is_record = |key: &String| redis.get(key).is_some_and(|value| value.starts_with(b"V"));
        redis
            .keys("*")
            .iter()
            .any(|key| key.contains(&digest) && is_record(key))
    });

    let logs = demo.logs();
    assert!(logs.lines().count() > 10, "{logs}");
    for line in logs.lines() {
        let line: serde_json::Value =
            serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        assert!(
            line["level"].is_string() && line["timestamp"].is_string(),
            "{line}"
        );
    }
    // The keys and what lies there, but for the set of scopes.
    let keys = redis
        .keys("*")
        .into_iter()
        .filter(|key| !key.ends_with(":scopes"));
    let contents: String = keys
        .map(|key| {
            let value = redis.get(&key).unwrap_or_default();
            format!("{key} {}\n", String::from_utf8_lossy(&value))
        })
        .collect();
    assert!(
        contents.contains("\"id\""),
        "records are legible: {contents}"
    );
    for text in [
        token.text.as_str(),
        "a-token-of-no-form",
        &never_made,
        &imported,
        &another,
        super::demo::ADMIN,
    ] {
        assert!(!logs.contains(text), "{text} is in the logs");
        assert!(!contents.contains(text), "{text} is in Redis");
    }
}

#[cfg(unix)]
#[test]
fn sigterm_drains_requests_under_way() {
    // Long enough that the signal surely comes while the load is held back.
    let database = Database::sqlite();
    let mut demo = Demo::on(&database, &[("LOAD_DELAY_MS", "1500")]);
    let token = demo.token("acme", "app").text;
    thread::scope(|scope| {
        let request = scope.spawn(|| demo.whoami(&token));
        eventually("the load began", || {
            demo.metric("api_token_loads_total", &[]) == 1
        });
        let sent = Command::new("sh")
            .args(["-c", &format!("kill -TERM {}", demo.pid())])
            .status()
            .unwrap();
        assert!(sent.success());
        request.join().unwrap().expect(200);
    });
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
}

#[test]
fn concurrent_requests_for_one_token_load_once() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[("LOAD_DELAY_MS", "500")]);
    let token = demo.token("acme", "app").text;
    thread::scope(|scope| {
        for request in [(); 16].map(|()| scope.spawn(|| demo.whoami(&token))) {
            request.join().unwrap().expect(200);
        }
    });
    assert_eq!(demo.metric("api_token_loads_total", &[]), 1);
}
