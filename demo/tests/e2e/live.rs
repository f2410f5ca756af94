//! The live page and its events, without a browser.

use std::io::BufRead;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::Value;
use test_support::RedisServer;

use super::server::{Database, Demo, eventually, unknown};

/// Returns the name and the data of the next event.
#[track_caller]
fn next(stream: &mut impl BufRead) -> (String, Value) {
    let mut name = String::new();
    for line in stream.lines() {
        let line = line.expect("the stream is open");
        if let Some(event) = line.strip_prefix("event: ") {
            event.clone_into(&mut name);
        } else if let Some(data) = line.strip_prefix("data: ") {
            return (name, serde_json::from_str(data).expect("JSON"));
        }
    }
    panic!("the stream ended");
}

/// Returns the first event with this name that satisfies the condition.
#[track_caller]
fn until(stream: &mut impl BufRead, name: &str, mut holds: impl FnMut(&Value) -> bool) -> Value {
    loop {
        let (event, data) = next(stream);
        if event == name && holds(&data) {
            return data;
        }
    }
}

#[test]
fn samples_have_counts_by_origin_and_latencies() {
    let database = Database::sqlite();
    let redis = RedisServer::start();
    let demo = Demo::with(&database, "digest", Some(&redis));
    let mut stream = demo.stream("/live");
    let token = demo.token("acme", "app").text;
    for _ in 0..5 {
        demo.whoami(&token).expect(200);
    }
    demo.whoami(&unknown("app")).expect(401);
    // Rejected without a lookup, so the cache does not count it.
    demo.whoami("not-of-our-format").expect(401);

    let mut timed = false;
    let sample = until(&mut stream, "sample", |sample| {
        timed |= sample["latency_us"]["p50"].as_u64() > Some(0);
        sample["refused"] == 2 && sample["health"]["store"] == true
    });
    assert!(timed, "{sample}");
    assert_eq!(
        (&sample["local"], &sample["redis"], &sample["database"]),
        (&4.into(), &0.into(), &1.into()),
        "{sample}"
    );
    assert_eq!(
        (&sample["lookups"], &sample["loads"], &sample["loads_saved"]),
        (&6.into(), &2.into(), &4.into()),
        "{sample}"
    );
    assert_eq!(sample["health"]["breaker_open"], false, "{sample}");
    assert!(sample["revocations"].is_null(), "no canary: {sample}");
}

#[test]
fn samples_report_a_hanging_redis_and_an_open_breaker() {
    let database = Database::sqlite();
    let redis = RedisServer::start();
    // Each request reads from Redis.
    let variables = [
        ("REDIS_URL", redis.url()),
        ("LOCAL_CAPACITY", "0".to_owned()),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let demo = Demo::on(&database, &variables);
    let token = demo.token("acme", "app").text;
    let mut stream = demo.stream("/live");
    until(&mut stream, "sample", |sample| {
        sample["health"]["store"] == true && sample["health"]["breaker_open"] == false
    });
    redis.pause();
    let seen = AtomicBool::new(false);
    thread::scope(|scope| {
        for _ in 0..8 {
            scope.spawn(|| {
                while !seen.load(Ordering::Relaxed) {
                    demo.whoami(&token).expect(200);
                }
            });
        }
        // Also stops the other threads if this one panics.
        let _stop = Stop(&seen);
        until(&mut stream, "sample", |sample| {
            let health = &sample["health"];
            health["store"] == false && health["breaker_open"] == true && health["database"] == true
        });
    });
}

/// Sets the flag when dropped.
struct Stop<'a>(&'a AtomicBool);

impl Drop for Stop<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn changes_are_sent_immediately_and_only_to_the_operator() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let refused = demo.get("/admin/live").expect(401);
    assert!(!refused.header("www-authenticate").is_empty());

    let (mut public, mut operators) = (demo.stream("/live"), demo.stream("/admin/live"));
    let token = demo.token("acme", "app");
    demo.delete(&token.id).expect(200);
    demo.admin("POST", "/admin/tenants/acme/suspend", None)
        .expect(200);
    let revoked = until(&mut operators, "change", |_| true);
    assert_eq!(
        (&revoked["change"], &revoked["id"]),
        (&"revoked".into(), &token.id.into())
    );
    let suspended = until(&mut operators, "change", |_| true);
    assert_eq!(
        (&suspended["change"], &suspended["tenant_id"]),
        (&"suspended".into(), &"acme".into())
    );

    // All public events until a sample that is newer than the changes.
    loop {
        let (name, data) = next(&mut public);
        assert_eq!(name, "sample", "{data}");
        let text = data.to_string();
        assert!(!text.contains("tok_") && !text.contains("acme"), "{text}");
        if data["at"].as_u64() > suspended["at"].as_u64() {
            break;
        }
    }
}

#[test]
fn another_instance_reports_how_soon_it_rejects_a_revoked_token() {
    let redis = RedisServer::start();
    let url = redis.url();
    for tracking in ["on", "off"] {
        let variables = [
            ("REDIS_URL", url.as_str()),
            ("CLIENT_TRACKING", tracking),
            ("HEARTBEAT_INTERVAL_MS", "50"),
            ("MAX_STALENESS_MS", "500"),
        ];
        let database = Database::sqlite();
        let demo = Demo::on(&database, &variables);
        let mut stream = demo.stream("/admin/live");
        let is_on = tracking == "on";
        until(&mut stream, "sample", |sample| {
            sample["health"]["store"] == true && sample["tracking"]["on"] == is_on
        });
        for (tenant, suspend) in [("acme", false), ("globex", true)] {
            let token = demo.token(tenant, "app");
            demo.whoami(&token.text).expect(200);
            // By the second one the other instance has looked the token up.
            for _ in 0..2 {
                until(&mut stream, "sample", |_| true);
            }
            demo.whoami(&token.text).expect(200);
            if suspend {
                demo.admin("POST", "/admin/tenants/globex/suspend", None)
                    .expect(200);
            } else {
                demo.delete(&token.id).expect(200);
            }
            let seen = until(&mut stream, "change", |change| {
                change["change"] == "rejected elsewhere"
            });
            assert_eq!(seen["id"], token.id, "{seen}");
            assert!(seen["after_us"].as_u64().is_some(), "{seen}");
        }
    }
}

#[test]
fn samples_have_the_canarys_measurements_and_its_failures() {
    let (database, redis) = (Database::sqlite(), RedisServer::start());
    let variables = [("REDIS_URL", &*redis.url()), ("CANARY_SECONDS", "1")];
    let demo = Demo::on(&database, &variables);
    let mut stream = demo.stream("/live");
    let sample = until(&mut stream, "sample", |sample| {
        sample["revocations"]["last_us"].is_u64()
    });
    let revocations = &sample["revocations"];
    assert_eq!(revocations["bound_us"], 1_000_000, "{sample}");
    assert!(
        revocations["slowest_us"].as_u64() >= revocations["last_us"].as_u64(),
        "{sample}"
    );
    redis.kill();
    until(&mut stream, "sample", |sample| {
        sample["revocations"]["last_us"].is_null() && sample["revocations"]["failed"] != 0
    });
    let failed = ["result=\"failed\""];
    assert!(demo.metric("api_token_revocation_seconds_count", &failed) > 0);
}

#[cfg(unix)]
#[test]
fn sigterm_ends_open_streams() {
    let database = Database::sqlite();
    let mut demo = Demo::on(&database, &[]);
    let mut stream = demo.stream("/live");
    until(&mut stream, "sample", |_| true);
    demo.signal("TERM");
    assert_eq!(demo.wait().code(), Some(0), "{}", demo.logs());
    assert!(!demo.logs().contains("still open"), "{}", demo.logs());
    let rest: Result<Vec<_>, _> = stream.lines().collect();
    rest.expect("the stream ends in order");
}

#[test]
fn number_of_streams_is_limited_and_closing_one_frees_it() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let streams: Vec<_> = (0..64).map(|_| demo.stream("/live")).collect();
    let full = demo.get("/live").expect(503);
    assert_eq!(full.header("content-type"), "application/problem+json");
    // Public streams do not count against the operator's.
    let _operator = demo.stream("/admin/live");
    drop(streams);
    // The server notices the closed connection when it writes the next sample.
    eventually("a closed page's place is free", || {
        demo.send("HEAD", "/live", &[], None).status == 200
    });
}

#[test]
fn page_allows_only_its_own_script() {
    let database = Database::sqlite();
    let demo = Demo::on(&database, &[]);
    let nonces = [(); 2].map(|()| {
        let page = demo.get("/").expect(200);
        assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
        assert_eq!(page.header("x-content-type-options"), "nosniff");
        assert_eq!(page.header("cache-control"), "no-store");
        let policy = page.header("content-security-policy");
        for directive in [
            "default-src 'none'",
            "connect-src 'self'",
            "frame-ancestors 'none'",
            "base-uri 'none'",
            "form-action 'none'",
            "require-trusted-types-for 'script'",
        ] {
            assert!(policy.contains(directive), "{policy}");
        }
        assert!(
            !policy.contains("unsafe") && !policy.contains('*'),
            "{policy}"
        );
        let (_, nonce) = policy.split_once("script-src 'nonce-").unwrap();
        let (nonce, _) = nonce.split_once('\'').unwrap();
        assert!(page.body.contains(&format!("<script nonce=\"{nonce}\">")));
        assert!(page.body.contains(&format!("<style nonce=\"{nonce}\">")));
        assert!(!page.body.contains("{{"));
        nonce.to_owned()
    });
    assert_ne!(nonces[0], nonces[1]);
}
